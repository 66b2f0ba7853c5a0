"""APNs, strict: every rule of Apple's provider API that a request can break, with Apple's own reasons.

Checked in this order (Apple names none): repeated headers, method, path, apns-id, authorization, topic, push
type, priority, expiration, collapse id, device token, body. Choices of ours where Apple's pages are silent:

* a topic without the push type's suffix, or with another one's: BadTopic; a bundle id that is not the
  team's: TopicDisallowed
* a body that is no JSON object: PayloadEmpty
* a background push with an alert, badge or sound, or without content-available: InvalidPushType
* without apns-push-type, a payload with nothing but content-available counts as background
* an apns-expiration of more than ten digits (milliseconds, most likely): BadExpirationDate
* a device token has an even number of hexadecimal digits, 64 to 512 of them
"""

from __future__ import annotations

import asyncio
import itertools
import re
import time
from dataclasses import dataclass
from typing import Any, Final

import orjson

from clarion.http2.frames import Header, literal
from clarion.sandbox.answer import Answer
from clarion.sandbox.apns_auth import Binding, Keys, PushCertificate
from clarion.sandbox.faults import Dead
from clarion.sandbox.log import quoted, safe
from clarion.sandbox.service import Service, Shared, Talk, Verdict
from clarion.sandbox.swift import SwiftConnection

REASONS: Final[dict[str, int]] = {
    "BadCollapseId": 400,
    "BadDeviceToken": 400,
    "BadExpirationDate": 400,
    "BadMessageId": 400,
    "BadPriority": 400,
    "BadTopic": 400,
    "DeviceTokenNotForTopic": 400,
    "DuplicateHeaders": 400,
    "IdleTimeout": 400,
    "InvalidPushType": 400,
    "MissingDeviceToken": 400,
    "MissingTopic": 400,
    "PayloadEmpty": 400,
    "TopicDisallowed": 400,
    "BadCertificate": 403,
    "BadCertificateEnvironment": 403,
    "BadEnvironmentKeyIdInToken": 403,
    "ExpiredProviderToken": 403,
    "Forbidden": 403,
    "InvalidProviderToken": 403,
    "MissingProviderToken": 403,
    "UnrelatedKeyIdInToken": 403,
    "BadPath": 404,
    "MethodNotAllowed": 405,
    "ExpiredToken": 410,
    "Unregistered": 410,
    "PayloadTooLarge": 413,
    "TooManyProviderTokenUpdates": 429,
    "TooManyRequests": 429,
    "InternalServerError": 500,
    "ServiceUnavailable": 503,
    "Shutdown": 503,
}
_BY_STATUS: Final[dict[int, str]] = {
    400: "BadDeviceToken",
    403: "InvalidProviderToken",
    404: "BadPath",
    405: "MethodNotAllowed",
    410: "Unregistered",
    413: "PayloadTooLarge",
    429: "TooManyRequests",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}

SUFFIXES: Final[dict[str, str]] = {
    "alert": "",
    "background": "",
    "location": ".location-query",
    "voip": ".voip",
    "complication": ".complication",
    "fileprovider": ".pushkit.fileprovider",
    "mdm": "",
    "liveactivity": ".push-type.liveactivity",
    "pushtotalk": ".voip-ptt",
    "widgets": ".push-type.widgets",
    "controls": ".push-type.controls",
}
_PRIORITIES: Final[dict[str, frozenset[bytes]]] = {
    "background": frozenset((b"5",)),
    "location": frozenset((b"10", b"5")),
    "liveactivity": frozenset((b"10", b"5")),
}
_ANY_PRIORITY: Final = frozenset((b"10", b"5", b"1"))

SIZE: Final = 4_096
VOIP_SIZE: Final = 5_120
COLLAPSE_BYTES: Final = 64
PAYLOADS: Final = 4_096

_DEVICE: Final = b"/3/device/"
_HEX: Final = re.compile(rb"[0-9a-fA-F]{64,512}")
_UUID: Final = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TOPIC: Final = re.compile(rb"[A-Za-z0-9.-]{1,255}")
_EXPIRATION: Final = re.compile(rb"[0-9]{1,10}")
_JSON: Final[Header] = (b"content-type", b"application/json")

OK: Final = Answer(200)
_ERRORS: Final = {
    reason: Answer(status, reason, [_JSON], orjson.dumps({"reason": reason}))
    for reason, status in REASONS.items()
}
_APNS_ID: Final = literal(b"apns-id", b"0" * 36)[:-36]
_UNIQUE_ID: Final = literal(b"apns-unique-id", b"0" * 36)[:-36]
_NO_CONTENT: Final = "null"


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a request by its headers: `early` errors come before authorization, others after.

    `plain`: nothing is wrong with them, and the payload has no more rules than to be there and to fit.
    """

    plain: bool = False
    early: Answer | None = None
    topic_error: Answer | None = None
    late: Answer | None = None
    authorization: bytes | None = None
    token: bytes | None = None
    topic: str | None = None
    bundle: str | None = None
    push_type: str | None = None
    priority: bytes | None = None
    size: int = SIZE
    key: str = "null"


@dataclass(frozen=True, slots=True)
class Payload:
    """What is known of a body: its content for the log, and what it does on the device."""

    content: str
    is_object: bool
    shows: bool  # alert, badge or sound
    wakes: bool  # content-available

    @property
    def silent(self) -> bool:
        """It wakes the app and shows nothing."""
        return self.wakes and not self.shows


class Apns(Service):
    """api.sandbox.push.apple.com."""

    provider = "apns"
    hole = b"apns-id"
    hole_form = _UUID
    path_form = re.compile(rb"/3/device/[0-9a-fA-F]{64}")  # today's tokens; others go the general way

    def __init__(self, shared: Shared, keys: Keys) -> None:
        super().__init__(shared)
        self.keys = keys
        self._payloads: dict[bytes, Payload] = {}
        self._ids = itertools.count(1)
        self._graves: dict[Dead, Answer] = {}

    # ---- connections

    def streams(self, transport: asyncio.Transport) -> int:
        """One until a token has proved good; all at once with a certificate."""
        return self.shared.settings.apns_streams if _certificate(transport) is not None else 1

    def swift(self, transport: asyncio.Transport) -> SwiftConnection:
        """A connection, bound to its certificate or, later, to its first token."""
        conn = super().swift(transport)
        der = _certificate(transport)
        certificate = PushCertificate.read(der) if der is not None else None
        conn.memo = Binding(self.keys, self.shared.clock, certificate)
        return conn

    # ---- errors

    def error(self, status: int | None, reason: str | None) -> Answer:
        """The error of this name, or the usual one of this status."""
        reason = reason or _BY_STATUS.get(status or 0, "InternalServerError")
        known = _ERRORS.get(reason)
        if reason in ("Unregistered", "ExpiredToken"):
            return self._grave(Dead(reason))
        if known is not None and status in (None, known.status):
            return known
        return Answer(status or 400, reason, [_JSON], orjson.dumps({"reason": reason}))

    def rejection(self, reason: str | None) -> Answer:
        """InvalidProviderToken unless told otherwise."""
        return self.error(None, reason or "InvalidProviderToken")

    def _grave(self, dead: Dead) -> Answer:
        """A 410 tells since when, in milliseconds; anything else has no time."""
        answer = self._graves.get(dead)
        if answer is None:
            reason = dead.reason or "Unregistered"
            if REASONS.get(reason, 410) != 410:
                return self.error(None, reason)
            at = dead.at if dead.at is not None else int(self.shared.clock() * 1000)
            answer = Answer(410, reason, [_JSON], orjson.dumps({"reason": reason, "timestamp": at}))
            if dead.at is not None:
                self._graves[dead] = answer
        return answer

    # ---- headers

    def make_profile(self, headers: tuple[Header, ...]) -> Profile:
        """Everything about the headers that does not depend on connection, path and body."""
        names = [name for name, _ in headers]
        values = dict(headers)
        authorization = values.get(b"authorization")
        if len(set(names)) != len(names):
            return Profile(early=_ERRORS["DuplicateHeaders"])
        if values[b":method"] != b"POST":
            return Profile(early=_ERRORS["MethodNotAllowed"])
        push_type = values.get(b"apns-push-type", b"alert").decode("utf-8", "replace")
        topic = values.get(b"apns-topic")
        topic_reason, reason = _topic_error(topic, push_type), _header_error(values, push_type)
        collapse = values.get(b"apns-collapse-id")
        text = topic.decode("ascii", "replace") if topic is not None else None
        return Profile(
            plain=not topic_reason and not reason and push_type not in ("background", "mdm"),
            topic_error=_ERRORS[topic_reason] if topic_reason else None,
            late=_ERRORS[reason] if reason else None,
            authorization=authorization,
            token=authorization[7:].strip() if authorization is not None else None,
            topic=text,
            bundle=text.removesuffix(SUFFIXES.get(push_type, "")) if text is not None else None,
            push_type=push_type if b"apns-push-type" in values else None,
            priority=values.get(b"apns-priority", b"10"),
            size=VOIP_SIZE if push_type == "voip" else SIZE,
            key=quoted(collapse.decode("utf-8", "replace")) if collapse is not None else "null",
        )

    # ---- judging

    def take(
        self,
        conn: Talk,
        stream_id: int,
        profile: Profile,
        path: bytes,
        hole: bytes | None,
        body: bytes,
        known: bool = True,
    ) -> None:
        """The usual request: nothing that could be wrong with it has changed since the one before."""
        binding: Binding = conn.memo
        payload = self._payloads.get(body)
        now = time.time()
        if (
            not known
            or hole is None
            or payload is None
            or not profile.plain
            or self.rules
            or binding.current is None
            or binding.current != profile.token
            or binding.until < now + self.shared.settings.clock
            or not binding.raised
            or binding.certificate is not None
            or profile.bundle not in (self.keys.topics if binding.topics is None else binding.topics)
            or not payload.is_object
            or payload.silent
            or len(body) > profile.size
        ):
            super().take(conn, stream_id, profile, path, hole, body, known)
            return
        token = path[len(_DEVICE) :].decode()
        if self.graves and self.graves.find(token) is not None:
            super().take(conn, stream_id, profile, path, hole, body, known)
            return
        echo = b"%b%b%b00000000-0000-4000-8000-%012x" % (_APNS_ID, hole, _UNIQUE_ID, next(self._ids))
        self.record(now, OK, token, profile.key, payload.content)
        conn.answer(stream_id, OK, echo, b"")  # type: ignore[union-attr]

    def judge(
        self,
        conn: Talk,
        profile: Profile,
        path: bytes,
        hole: bytes | None,
        body: bytes,
        known: bool,
    ) -> Verdict:
        """Apple's answer."""
        token = path[len(_DEVICE) :].decode("ascii", "replace") if path.startswith(_DEVICE) else ""
        payload = self._payloads.get(body) or self._read(body)
        is_uuid = known or (hole is not None and _UUID.fullmatch(hole) is not None)
        is_token = known or (len(token) % 2 == 0 and _HEX.fullmatch(path, len(_DEVICE)) is not None)
        answer = (
            self._header_refusal(conn.memo, profile, path, wrong_id=hole is not None and not is_uuid)
            or self._device_refusal(token, is_token=is_token)
            or self._payload_refusal(profile, payload, len(body))
            or OK
        )
        number = next(self._ids)
        echo = _APNS_ID + (hole if hole is not None and is_uuid else self._made_up_id(number))
        if answer is OK:
            echo += _UNIQUE_ID + self._made_up_id(number)
        return answer, token if is_token else safe(token), profile.key, payload.content, echo, b""

    def _made_up_id(self, number: int) -> bytes:
        return b"00000000-0000-4000-8000-%012x" % number

    def deliver(self, conn: Talk, stream_id: int, verdict: Verdict) -> None:
        """Answer; then mind what answers do to a connection: streams rise and fall, and too much ends it."""
        assert isinstance(conn, SwiftConnection)
        answer = verdict[0]
        conn.answer(stream_id, answer, verdict[4], verdict[5] or answer.body)
        binding: Binding = conn.memo
        if answer.status == 200:
            if not binding.raised:
                binding.raised = True
                conn.settings(max_concurrent_streams=self.shared.settings.apns_streams)
        elif 400 <= answer.status < 500 and answer.status != 410:
            self._count_error(conn, binding, answer)

    def _count_error(self, conn: SwiftConnection, binding: Binding, answer: Answer) -> None:
        settings = self.shared.settings
        if settings.apns_drop_after_error and binding.raised:
            binding.raised = False
            conn.settings(max_concurrent_streams=1, at_once=True)
        if answer.reason == "BadDeviceToken":
            binding.bad_tokens += 1
            if binding.bad_tokens == settings.apns_bad_tokens:
                conn.goaway(None, 0, orjson.dumps({"reason": "BadDeviceToken"}))
                conn.close()

    def _header_refusal(
        self, binding: Binding, profile: Profile, path: bytes, *, wrong_id: bool
    ) -> Answer | None:
        if profile.early is not None:
            return profile.early
        if not path.startswith(_DEVICE):
            return _ERRORS["MissingDeviceToken" if path == _DEVICE[:-1] else "BadPath"]
        if wrong_id:
            return _ERRORS["BadMessageId"]
        if (reason := self._unauthorized(binding, profile)) is not None:
            return _ERRORS[reason]
        if profile.topic_error is not None and not (profile.topic is None and self._is_implied(binding)):
            return profile.topic_error
        if (reason := self._topic_refusal(binding, profile)) is not None:
            return _ERRORS[reason]
        return profile.late

    def _unauthorized(self, binding: Binding, profile: Profile) -> str | None:
        if binding.certificate is not None:
            return binding.refuse_certificate()  # an authorization header is ignored beside it
        authorization = profile.authorization
        if authorization is None or profile.token is None or authorization[:7].lower() != b"bearer ":
            return "MissingProviderToken"
        return binding.refuse_token(profile.token)

    def _is_implied(self, binding: Binding) -> bool:
        """A certificate for one topic needs no header for it."""
        return binding.certificate is not None and len(binding.certificate.topics) == 1

    def _topic_refusal(self, binding: Binding, profile: Profile) -> str | None:
        if binding.certificate is not None:
            if profile.topic is not None and profile.topic not in binding.certificate.topics:
                return "TopicDisallowed"
            return "InvalidPushType" if profile.push_type == "location" else None  # token only, says Apple
        if profile.push_type == "mdm":
            return None  # the topic is the UID of the MDM certificate
        topics = self.keys.topics if binding.topics is None else binding.topics
        return None if profile.bundle in topics else "TopicDisallowed"

    def _device_refusal(self, token: str, *, is_token: bool) -> Answer | None:
        if not token:
            return _ERRORS["MissingDeviceToken"]
        if not is_token:
            return _ERRORS["BadDeviceToken"]
        if self.graves and (dead := self.graves.find(token)) is not None:
            return self._grave(dead)
        return None

    def _payload_refusal(self, profile: Profile, payload: Payload, size: int) -> Answer | None:
        if size > profile.size:
            return _ERRORS["PayloadTooLarge"]
        if not payload.is_object:
            return _ERRORS["PayloadEmpty"]
        if profile.push_type == "background":
            return None if payload.silent else _ERRORS["InvalidPushType"]
        if profile.push_type is None and payload.silent and profile.priority != b"5":
            return _ERRORS["BadPriority"]
        return None

    # ---- bodies

    def _read(self, body: bytes) -> Payload:
        payload = self._parse(body)
        if len(self._payloads) >= PAYLOADS:
            self._payloads.clear()
        self._payloads[body] = payload
        return payload

    def _parse(self, body: bytes) -> Payload:
        try:
            value = orjson.loads(body)
        except orjson.JSONDecodeError:
            value = None
        if not isinstance(value, dict):
            return Payload(_NO_CONTENT, False, False, False)
        aps = value.get("aps")
        aps = aps if isinstance(aps, dict) else {}
        title, text = _text(aps.get("alert"))
        return Payload(
            content=f'"{self.shared.log.content(title, text)}"',
            is_object=True,
            shows=any(aps.get(name) is not None for name in ("alert", "badge", "sound")),
            wakes=aps.get("content-available") == 1,
        )


def _certificate(transport: asyncio.Transport) -> bytes | None:
    tls = transport.get_extra_info("ssl_object")
    return tls.getpeercert(binary_form=True) if tls is not None else None


def _text(alert: Any) -> tuple[str, str]:
    """Title and body of an alert; for localised ones the keys."""
    if isinstance(alert, str):
        return "", alert
    if not isinstance(alert, dict):
        return "", ""
    title, body = (alert.get(name) for name in ("title", "body"))
    title = title if isinstance(title, str) else alert.get("title-loc-key", "")
    body = body if isinstance(body, str) else alert.get("loc-key", "")
    return str(title), str(body)


def _topic_error(topic: bytes | None, push_type: str) -> str | None:
    if topic is None:
        return "MissingTopic"
    text = topic.decode("ascii", "replace")
    if not _TOPIC.fullmatch(topic):
        return "BadTopic"
    suffix = SUFFIXES.get(push_type)
    if suffix is None:
        return None  # it is the push type that is wrong
    if not text.endswith(suffix) or text == suffix:
        return "BadTopic"
    others = (other for other in SUFFIXES.values() if other and other != suffix)
    if any(text.endswith(other) for other in others):
        return "BadTopic"
    return None


def _header_error(values: dict[bytes, bytes], push_type: str) -> str | None:
    if push_type not in SUFFIXES:
        return "InvalidPushType"
    if values.get(b"apns-priority", b"10") not in _PRIORITIES.get(push_type, _ANY_PRIORITY):
        return "BadPriority"
    expiration = values.get(b"apns-expiration")
    if expiration is not None and not _EXPIRATION.fullmatch(expiration):
        return "BadExpirationDate"
    collapse = values.get(b"apns-collapse-id")
    if collapse is not None and not 0 < len(collapse) <= COLLAPSE_BYTES:
        return "BadCollapseId"
    return None
