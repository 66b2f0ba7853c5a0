"""HMS Push Kit: every result code that Huawei documents, and what it means.

Source: the code tables of the v1/v2 and v3 references. The body's code is the truth at every HTTP status:
which of them travels with which is UNCONFIRMED. Too fast is 503, not 429.

80100000 is a partial success. In v1 and v2 its `msg` is a JSON document inside a string, which lists the
registrations that were refused; the others were sent, so the request is never repeated as a whole. In v3 the
refused ones are grouped by reason, some of which are about us and not about the registration.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, Final

import orjson

from clarion.senders.answers import Strangers, parse_object, token_lifetime
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind
from clarion.senders.vendor_answers import (
    BLOCKED,
    BUSY,
    GONE,
    MESSAGE,
    REFUSED,
    SERVER,
    TOKEN,
    WRONG,
    by_status,
    named,
    unknown,
)

SUCCESS: Final = "80000000"
PARTIAL: Final = "80100000"
ALL_INVALID: Final = "80300007"
OAUTH_AWAY: Final = "80600003"

TABLE: Final = named(
    "hms",
    {
        "80100001": MESSAGE,  # parameter error
        "80100002": MESSAGE,  # a synchronous message must have one registration
        "80100003": MESSAGE,  # structure
        "80100004": MESSAGE,  # lifetime is over already
        "80100013": MESSAGE,  # collapse_key
        "80100016": MESSAGE,  # sensitive content
        "80100017": BUSY,  # more than 100 topic tasks at once
        "80100018": BLOCKED,  # signature of a third party's review
        "80200001": TOKEN,  # no or another app's token
        "80200003": TOKEN,  # expired
        "80200005": TOKEN,  # JWT expired
        "80300002": BLOCKED,  # no permission to push
        "80300007": WRONG,  # all registrations invalid: or the wrong app id
        "80300008": MESSAGE,  # body too large
        "80300010": MESSAGE,  # number of registrations
        "80300011": BLOCKED,  # no right for urgency HIGH
        "80300013": BLOCKED,  # receipt URL wrong, or its certificate expired
        "80600003": replace(SERVER, maybe=False, retry_after=5.0),  # our token could not be looked up
        "81000001": SERVER,
        **{str(code): MESSAGE for code in range(82_000_001, 82_000_014)},  # topics and groups: not sent here
    },
)
STATUSES: Final[dict[int, Outcome]] = {429: BUSY, 503: BUSY}
TOKEN_REASONS: Final = frozenset(("hms:80200001", "hms:80200003", "hms:80200005", "hms:401"))

# Why v3 refuses a registration. What is about the app's rights keeps the registration and is watched by the
# 30 % rule; a punished app stops at once.
REASONS: Final = named(
    "hms",
    {
        "tokenFormatError": GONE,
        "noRight": WRONG,
        "noPushTypeRight": MESSAGE,
        "atomicUnableSendUnsubscribedMsg": MESSAGE,
        "noRightToSendThisLiveNotificationEvent": MESSAGE,
        "countryNotSupport": REFUSED,
        "tokenPlatformNotSupport": REFUSED,
        "disableSendHuaweiMsgBecauseOfPenalty": BLOCKED,
        "differentImgVerifyPolicy": MESSAGE,
        "appinfoError": MESSAGE,
    },
)
ILLEGAL: Final = replace(GONE, reason="hms:illegal_token")
# Some were sent and nobody says which: only those are repeated of which we know that they were not.
UNREADABLE_PART: Final = Outcome(OutcomeKind.UNAVAILABLE, "hms:BAD_ANSWER", maybe=True)
_strangers = Strangers("hms")


def read(status: int, body: bytes) -> tuple[Outcome, dict[str, Outcome]]:
    """What an answer says of the request, and of registrations that it names."""
    answer = parse_object(body)
    code = answer.get("code") if answer is not None else None
    if answer is None or not isinstance(code, str | int):
        return by_status("hms", status, STATUSES), {}
    code = str(code)
    if code == SUCCESS:
        return (ACCEPTED, {}) if status == 200 else (by_status("hms", status, STATUSES), {})
    if code == PARTIAL and status == 200:
        return _partly(answer.get("msg"))
    if code == ALL_INVALID:
        return TABLE[code], dict(_illegal(_inner(answer.get("msg")) or {}))
    if status in STATUSES and code not in TABLE:
        return by_status("hms", status, STATUSES), {}
    return TABLE.get(code) or unknown(_strangers, status, code), {}


def _partly(msg: object) -> tuple[Outcome, dict[str, Outcome]]:
    inner = _inner(msg)
    named = dict(_illegal(inner)) if inner is not None else {}
    return (ACCEPTED, named) if named else (UNREADABLE_PART, {})


def _inner(msg: object) -> dict[str, Any] | None:
    """The document that stands in `msg`, as text or, in case that ever changes, as an object."""
    if isinstance(msg, dict):
        return msg
    return parse_object(msg.encode("utf-8", "replace")) if isinstance(msg, str) else None


def _illegal(inner: dict[str, Any]) -> Iterator[tuple[str, Outcome]]:
    """Registrations that were refused, and why."""
    listed = inner.get("illegal_tokens")
    for token in listed if isinstance(listed, list) else ():
        yield str(token), ILLEGAL
    grouped = inner.get("illegalTokens")
    for reason, tokens in grouped.items() if isinstance(grouped, dict) else ():
        outcome = REASONS.get(reason) or replace(REFUSED, reason=_strangers.name(reason, 200))
        for token in tokens if isinstance(tokens, list) else ():
            yield str(token), outcome


def token_answer(status: int, body: bytes) -> tuple[str, float] | str | None:
    """What the token endpoint says: a token and its seconds, the code of a refusal, or nothing of use.

    The HTTP status of its errors is UNCONFIRMED: an error code with a 4xx refuses the credential.
    """
    answer = parse_object(body) or {}
    token, seconds = answer.get("access_token"), answer.get("expires_in")
    if status == 200 and isinstance(token, str) and token:
        return token, token_lifetime(seconds)
    error = answer.get("error")
    if isinstance(error, int) and not isinstance(error, bool) and 400 <= status < 500 and status != 429:
        return f"hms:oauth_{error}"
    return None


def tokens_json(tokens: list[str]) -> bytes:
    """The list as it stands in a request."""
    return orjson.dumps(tokens)
