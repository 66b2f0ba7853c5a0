"""How the push services say no: the same troubles in the words of Mozilla, Google, Apple and Microsoft.

Troubles have names of ours; a dialect turns each into an answer. "rfc" is what RFC 8030 and 8292 say and
nothing more. Apple's pages do not give the status of every reason: there it is the usual one of its kind.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import orjson

from clarion.http2.frames import Header
from clarion.sandbox.answer import Answer


class Trouble(StrEnum):
    """What can be wrong."""

    PATH = "path"  # no such subscription
    GONE = "gone"
    METHOD = "method"
    NO_TTL = "no ttl"
    TTL = "ttl"
    URGENCY = "urgency"
    TOPIC = "topic"
    NO_AUTHORIZATION = "no authorization"
    AUTHORIZATION = "authorization"  # not vapid t=…, k=…
    KEY = "key"  # k is no key, or the message's sender key is the VAPID key
    TOKEN = "token"  # signature, aud, exp, sub
    MISMATCH = "mismatch"  # the subscription was made under another key
    ENCODING = "encoding"
    TOO_LARGE = "too large"
    CACHE_POLICY = "cache policy"  # WNS only
    THROTTLED = "throttled"
    INTERNAL = "internal"
    UNAVAILABLE = "unavailable"


STATUS: Final[dict[int, Trouble]] = {
    400: Trouble.ENCODING,
    401: Trouble.NO_AUTHORIZATION,
    403: Trouble.MISMATCH,
    404: Trouble.PATH,
    405: Trouble.METHOD,
    406: Trouble.THROTTLED,
    410: Trouble.GONE,
    413: Trouble.TOO_LARGE,
    429: Trouble.THROTTLED,
    500: Trouble.INTERNAL,
    503: Trouble.UNAVAILABLE,
}
_RFC: Final[dict[Trouble, int]] = {
    Trouble.PATH: 404,
    Trouble.GONE: 410,
    Trouble.METHOD: 405,
    Trouble.NO_AUTHORIZATION: 401,
    Trouble.AUTHORIZATION: 401,
    Trouble.TOKEN: 403,
    Trouble.MISMATCH: 403,
    Trouble.TOO_LARGE: 413,
    Trouble.THROTTLED: 429,
    Trouble.INTERNAL: 500,
    Trouble.UNAVAILABLE: 503,
}
_WORDS: Final[dict[Trouble, str]] = {
    Trouble.PATH: "push subscription was not found",
    Trouble.GONE: "push subscription has unsubscribed or expired",
    Trouble.METHOD: "method not allowed",
    Trouble.NO_TTL: "missing TTL header",
    Trouble.TTL: "invalid TTL header",
    Trouble.URGENCY: "invalid Urgency header",
    Trouble.TOPIC: "invalid Topic header",
    Trouble.NO_AUTHORIZATION: "authorization header must be specified",
    Trouble.AUTHORIZATION: "malformed authorization header",
    Trouble.KEY: "invalid public key in the authorization header",
    Trouble.TOKEN: "invalid JWT provided",
    Trouble.MISMATCH: "the VAPID credentials in the authorization header do not correspond to the "
    "credentials used to create the subscriptions",
    Trouble.ENCODING: "invalid content encoding",
    Trouble.TOO_LARGE: "payload is larger than 4096 bytes",
    Trouble.CACHE_POLICY: "Ttl value conflicts with X-WNS-Cache-Policy",
    Trouble.THROTTLED: "too many requests",
    Trouble.INTERNAL: "internal server error",
    Trouble.UNAVAILABLE: "service unavailable",
}
_PLAIN: Final[Header] = (b"content-type", b"text/plain; charset=utf-8")
_JSON: Final[Header] = (b"content-type", b"application/json")
_RETRY_AFTER: Final = 5


@dataclass(frozen=True)
class Dialect:
    """One service's ways. `gentle` ones take a subject that is no contact; `anything_urgent` any Urgency."""

    name: str
    say: Callable[[Trouble], Answer]
    named: Mapping[str, Trouble]
    gone: Trouble = Trouble.GONE
    longest_ttl: int = 2_592_000
    zero_ttl: bool = True
    any_urgency: bool = False
    contact: Callable[[str | None], bool] = lambda subject: subject is None or _is_url(subject)


def _is_url(subject: str) -> bool:
    return subject.startswith(("mailto:", "https:"))


_APPLE_MAIL: Final = re.compile(r"mailto:[\w.!#$%&'*+/=?^`{|}~-]+@([A-Za-z0-9-]+\.)+[A-Za-z]{2,}")
_APPLE_URL: Final = re.compile(r"https://([A-Za-z0-9-]+\.)+[A-Za-z]{2,}(:\d+)?(/\S*)?")


def _apple_contact(subject: str | None) -> bool:
    """Apple wants somebody who can be reached; private names and brackets are BadJwtToken."""
    if subject is None or re.search(r"\.(local|localhost|internal|lan)\b", subject):
        return False
    return bool(_APPLE_MAIL.fullmatch(subject) or _APPLE_URL.fullmatch(subject))


def _retry(trouble: Trouble) -> list[Header]:
    return [(b"retry-after", b"%d" % _RETRY_AFTER)] if trouble is Trouble.THROTTLED else []


# ---- RFC 8030, and Google: a line of text


def _rfc(trouble: Trouble) -> Answer:
    return Answer(_RFC.get(trouble, 400), trouble.value, [_PLAIN, *_retry(trouble)])


def _google(trouble: Trouble) -> Answer:
    body = _WORDS[trouble].encode() + b"\n"
    reasons = {Trouble.KEY: "UnauthorizedRegistration", Trouble.MISMATCH: "MismatchSenderId"}
    return Answer(
        _RFC.get(trouble, 400), reasons.get(trouble, trouble.value), [_PLAIN, *_retry(trouble)], body
    )


# ---- Mozilla: numbers

_MOZILLA: Final[dict[Trouble, tuple[int, int, str]]] = {
    Trouble.PATH: (404, 102, "Request did not validate: invalid token"),
    Trouble.GONE: (410, 106, "No such subscription"),
    Trouble.METHOD: (405, 0, "Method Not Allowed"),
    Trouble.NO_TTL: (400, 111, "Missing TTL Header - Required for messages"),
    Trouble.TTL: (400, 114, "TTL must be greater than 0"),
    Trouble.URGENCY: (400, 110, "Invalid Urgency header"),
    Trouble.TOPIC: (400, 113, "Topic must be no greater than 32 characters of the URL-safe base64 alphabet"),
    Trouble.NO_AUTHORIZATION: (401, 109, "Missing authorization header"),
    Trouble.AUTHORIZATION: (401, 109, "Invalid authorization header"),
    Trouble.KEY: (401, 109, "Invalid VAPID public key"),
    Trouble.TOKEN: (401, 109, "Invalid VAPID token"),
    Trouble.MISMATCH: (401, 109, "Key mismatch"),
    Trouble.ENCODING: (400, 110, "Invalid Content-Encoding"),
    Trouble.TOO_LARGE: (413, 104, "This message is intended for a constrained device and is limited in size"),
    Trouble.CACHE_POLICY: (400, 110, "Invalid header"),
    Trouble.THROTTLED: (429, 0, "Too Many Requests"),
    Trouble.INTERNAL: (500, 999, "Unknown error"),
    Trouble.UNAVAILABLE: (503, 201, "Use exponential back-off for retries"),
}
_PHRASES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    404: "Not Found",
    405: "Method Not Allowed",
    410: "Gone",
    413: "Payload Too Large",
    429: "Too Many Requests",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
_MORE_INFO: Final = "http://autopush.readthedocs.io/en/latest/http.html#error-codes"


def _mozilla(trouble: Trouble) -> Answer:
    code, errno, message = _MOZILLA[trouble]
    headers = [_JSON, *_retry(trouble)]
    if trouble is Trouble.GONE:
        headers.append((b"cache-control", b"max-age=86400"))
    if trouble is Trouble.UNAVAILABLE:
        headers.append((b"retry-after", b"120"))
    body = {
        "code": code,
        "errno": errno,
        "error": _PHRASES[code],
        "message": message,
        "more_info": _MORE_INFO,
    }
    return Answer(code, f"errno {errno}", headers, orjson.dumps(body))


# ---- Apple: reasons

_APPLE: Final[dict[Trouble, tuple[int, str]]] = {
    Trouble.PATH: (404, "BadPath"),
    Trouble.GONE: (410, "Unregistered"),
    Trouble.METHOD: (405, "MethodNotAllowed"),
    Trouble.NO_TTL: (400, "BadTtl"),
    Trouble.TTL: (400, "BadTtl"),
    Trouble.URGENCY: (400, "BadUrgency"),
    Trouble.TOPIC: (400, "BadWebPushTopic"),
    Trouble.NO_AUTHORIZATION: (403, "BadAuthorizationHeader"),
    Trouble.AUTHORIZATION: (403, "BadAuthorizationHeader"),
    Trouble.KEY: (403, "BadVapidPublicKey"),
    Trouble.TOKEN: (403, "BadJwtToken"),
    Trouble.MISMATCH: (400, "VapidPkHashMismatch"),
    Trouble.ENCODING: (400, "BadWebPushRequest"),
    Trouble.TOO_LARGE: (413, "PayloadTooLarge"),
    Trouble.CACHE_POLICY: (400, "BadWebPushRequest"),
    Trouble.THROTTLED: (429, "TooManyRequests"),
    Trouble.INTERNAL: (500, "InternalServerError"),
    Trouble.UNAVAILABLE: (503, "ServiceUnavailable"),
}


def _apple(trouble: Trouble) -> Answer:
    status, reason = _APPLE[trouble]
    return Answer(status, reason, [_JSON], orjson.dumps({"reason": reason}))


# ---- Microsoft: headers, and an empty body


def _wns(trouble: Trouble) -> Answer:
    status = 406 if trouble is Trouble.THROTTLED else _RFC.get(trouble, 400)
    words = _WORDS[trouble] if trouble is not Trouble.TTL else _WORDS[Trouble.CACHE_POLICY]
    received = b"channelthrottled" if trouble is Trouble.THROTTLED else b"dropped"
    headers = [
        (b"x-wns-error-description", words.encode()),
        (b"x-wns-status", received),
        (b"x-wns-notificationstatus", received),
    ]
    return Answer(status, words, headers + _retry(trouble))


def _names(say: Callable[[Trouble], Answer]) -> dict[str, Trouble]:
    """Every reason of a dialect, for rules that ask for one by its name; the first trouble of a name wins."""
    names: dict[str, Trouble] = {}
    for trouble in Trouble:
        names.setdefault(trouble.value, trouble)
        names.setdefault(say(trouble).reason or "", trouble)
    return names


DIALECTS: Final[dict[str, Dialect]] = {
    "rfc": Dialect("rfc", _rfc, _names(_rfc)),
    "google": Dialect("google", _google, _names(_google), longest_ttl=2_419_200),
    "mozilla": Dialect("mozilla", _mozilla, _names(_mozilla), any_urgency=True, contact=lambda subject: True),
    "apple": Dialect("apple", _apple, _names(_apple), zero_ttl=False, contact=_apple_contact),
    "wns": Dialect("wns", _wns, _names(_wns)),
}
