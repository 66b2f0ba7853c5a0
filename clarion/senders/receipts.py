"""Receipts: what vendors' servers tell of deliveries; one function per vendor, from their request's body.

    HMS     JSON, `statuses`, in the form of V1 or V2      Honor   JSON, `statuses`
    OPPO    JSON, a list of events                         vivo    JSON, a map by task
    Xiaomi  a form, `data` is a map by message             Meizu   a form, `cb` is a map by message and type

They are pure: who receives them answers 200 first and works on them later. A body that is none raises
BadReceipts; what stands in a readable one and makes no sense is left out, because vendors repeat a whole call
for one of its items. A number that no sheet has is a receipt of kind UNKNOWN and ends nothing.

How often a vendor repeats a call, and in which order receipts come, is UNCONFIRMED: they are to be
de-duplicated by message, registration and kind, and none may undo a later one. Except HMS, nobody signs.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from clarion.senders.answers import parse_object

FIELDS: Final = 1_000  # of a form
LAST: Final = 32_503_680_000_000  # the year 3000, in milliseconds: nobody means a later one
_SIGNATURE: Final = re.compile(
    r"\s*timestamp=([0-9]{1,20})\s*;\s*nonce=([^;\s]+)\s*;\s*value=([A-Za-z0-9+/=]+)\s*"
)


class BadReceipts(ValueError):
    """A body that is not what this vendor sends; says what is wrong without repeating any of it."""


class Kind(StrEnum):
    """What became of a message on its way to a screen."""

    DELIVERED = "delivered"
    CLICKED = "clicked"
    WAITING = "waiting"  # not final: it is kept and shown later
    DROPPED = "dropped"  # not shown; the registration goes on
    SILENCED = "silenced"  # not shown: notifications are off on this device
    GONE = "gone"  # not shown: the registration has ended
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Receipt:
    """One message to one registration. `at` is the vendor's time, epoch seconds, if it gave one.

    `code` is the vendor's own word, e.g. "hms:receipt_102". `message` names the request or task, `mark` is
    what the request said of itself (bi_tag, callback parameter). `successor` takes the registration's place.
    """

    token: str
    kind: Kind
    code: str
    at: float | None = None
    message: str | None = None
    mark: str | None = None
    successor: str | None = None


HMS: Final = {
    0: Kind.DELIVERED,
    2: Kind.GONE,  # app not installed
    5: Kind.GONE,  # not known to the device's user
    6: Kind.SILENCED,
    10: Kind.DROPPED,  # device inactive for 30 days
    14: Kind.DROPPED,
    15: Kind.DROPPED,  # overwritten by newer ones
    22: Kind.DROPPED,
    27: Kind.WAITING,
    31: Kind.DROPPED,
    51: Kind.WAITING,  # not unlocked since it was started
    102: Kind.DROPPED,
    144: Kind.DROPPED,
    201: Kind.DROPPED,
    256: Kind.DROPPED,
}
HONOR: Final = {
    40_000_001: Kind.DELIVERED,
    40_000_002: Kind.DELIVERED,
    40_000_003: Kind.GONE,
    40_000_004: Kind.GONE,
    40_000_005: Kind.SILENCED,
    40_000_006: Kind.SILENCED,
    40_000_007: Kind.CLICKED,
    40_000_009: Kind.DROPPED,
    40_000_011: Kind.CLICKED,  # though what it led to could not be opened
    40_000_013: Kind.WAITING,
    40_000_014: Kind.DROPPED,
    40_000_015: Kind.DROPPED,
    50_000_003: Kind.WAITING,
}
OPPO: Final = {
    "push_arrive": Kind.DELIVERED,
    "regid_invalid": Kind.GONE,
    "user_daily_limit": Kind.DROPPED,
    "message_night_control": Kind.DROPPED,
}
VIVO: Final = {"0": Kind.DELIVERED}
XIAOMI: Final = {
    1: Kind.DELIVERED,
    2: Kind.CLICKED,
    16: Kind.GONE,
    32: Kind.SILENCED,
    64: Kind.DROPPED,
    128: Kind.DROPPED,
    1_024: Kind.DROPPED,
}
MEIZU: Final = {1: Kind.DELIVERED, 2: Kind.CLICKED}


def hms(body: bytes) -> list[Receipt]:
    """Huawei's, V1 and V2. Raises BadReceipts."""
    return [
        Receipt(
            item["token"],
            HMS.get(code, Kind.UNKNOWN),
            f"hms:receipt_{code}",
            _seconds(result.get("timestamp")),
            _text(item.get("requestId")),
            _text(item.get("biTag")),
        )
        for item in _statuses(body)
        for result in (_result(item),)
        if (code := _number(result.get("result", result.get("status")))) is not None
    ]


def honor(body: bytes) -> list[Receipt]:
    """Honor's. Raises BadReceipts."""
    return [
        Receipt(
            item["token"],
            HONOR.get(code, Kind.UNKNOWN),
            f"honor:receipt_{code}",
            _seconds(item.get("timestamp")),
            _text(item.get("requestId")),
            _text(item.get("biTag")),
        )
        for item in _statuses(body)
        if (code := _number(item.get("status"))) is not None
    ]


def oppo(body: bytes) -> list[Receipt]:
    """OPPO's. The task is the message of a broadcast; one to one registration has its own number. Raises
    BadReceipts."""
    try:
        events = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise BadReceipts("not JSON") from None
    if not isinstance(events, list):
        raise BadReceipts("not a list")
    return [
        Receipt(
            token,
            OPPO.get(name, Kind.UNKNOWN),
            _code("oppo", name),
            _seconds(event.get("eventTime")),
            _text(event.get("messageId")),
            _text(event.get("param")),
        )
        for event in events
        if isinstance(event, dict) and (name := _text(event.get("eventType"))) is not None
        for token in _tokens(event.get("registrationIds"))
    ]


def vivo(body: bytes) -> list[Receipt]:
    """vivo's: which types there are besides "0" (arrived) is UNCONFIRMED. Raises BadReceipts."""
    return [
        Receipt(
            token,
            VIVO.get(name, Kind.UNKNOWN),
            _code("vivo", name),
            _seconds(task.get("ackTime")),
            number,
            _text(task.get("param")),
        )
        for number, task in _map(body).items()
        if isinstance(task, dict) and (name := _text(task.get("ackType"))) is not None
        for token in _tokens(task.get("targets"))
    ]


def xiaomi(body: bytes) -> list[Receipt]:
    """Xiaomi's. A device that is told to have another registration by now is GONE under the old one. Raises
    BadReceipts."""
    found: list[Receipt] = []
    for number, told in _map(_field(body, "data")).items():
        code = _number(told.get("type")) if isinstance(told, dict) else None
        if code is None:
            continue
        at, mark = _seconds(told.get("timestamp")), _text(told.get("param"))
        kind, name = XIAOMI.get(code, Kind.UNKNOWN), f"xiaomi:receipt_{code}"
        found += [Receipt(token, kind, name, at, number, mark) for token in _tokens(told.get("targets"))]
        found += [
            Receipt(old, Kind.GONE, "xiaomi:replaceTarget", at, number, mark, new)
            for old, new in _pairs(told.get("replaceTarget"))
        ]
    return found


def meizu(body: bytes) -> list[Receipt]:
    """Meizu's. Raises BadReceipts."""
    return [
        Receipt(
            token,
            MEIZU.get(code, Kind.UNKNOWN),
            f"meizu:receipt_{code}",
            None,
            name.rpartition("-")[0] or name,
            _text(told.get("param")),
        )
        for name, told in _map(_field(body, "cb")).items()
        if isinstance(told, dict) and (code := _number(told.get("type"))) is not None
        for token in _tokens(told.get("targets"))
    ]


def signed_by_hms(header: str, *, key: str, user: str) -> bool:
    """Whether X-HUAWEI-CALLBACK-ID was made with the console's callback key and user name.

    It is over its own time and nonce, not over the body: who has seen one call can repeat its header, so the
    time is to be looked at as well (`signed_at`).
    """
    match = _SIGNATURE.fullmatch(header)
    if match is None:
        return False
    told = f"{match[1]}{match[2]}{user}".encode()
    expected = base64.b64encode(hmac.digest(key.encode(), told, hashlib.sha256))
    return hmac.compare_digest(expected, match[3].encode())


def signed_at(header: str) -> float | None:
    """Epoch seconds at which X-HUAWEI-CALLBACK-ID was made; None when it is no such header."""
    match = _SIGNATURE.fullmatch(header)
    return None if match is None else int(match[1]) / 1_000


# ── bodies and their parts ────────────────────────────────────────────────────────────────────────────


def _map(body: bytes | str) -> Mapping[str, Any]:
    found = parse_object(body if isinstance(body, bytes) else body.encode())
    if found is None:
        raise BadReceipts("not a JSON object")
    return found


def _statuses(body: bytes) -> Iterator[Mapping[str, Any]]:
    listed = _map(body).get("statuses")
    if not isinstance(listed, list):
        raise BadReceipts("no list of statuses")
    for item in listed:
        token = item.get("token") if isinstance(item, dict) else None
        if isinstance(token, str) and token.strip():
            yield item | {"token": token.strip()}


def _result(item: Mapping[str, Any]) -> Mapping[str, Any]:
    """Where the number and its time stand: in V2 one level below."""
    for name in ("deliveryStatus", "formStatus"):
        if isinstance(item.get(name), dict):
            found: Mapping[str, Any] = item[name]
            return found
    return item


def _field(body: bytes, name: str) -> str:
    try:
        values = parse_qs(body.decode("ascii"), max_num_fields=FIELDS, errors="strict").get(name)
    except ValueError:
        raise BadReceipts("not a form") from None
    if not values:
        raise BadReceipts(f"no field {name}")
    return values[-1]


def _tokens(listed: object) -> list[str]:
    """Registrations in a list, or joined by commas."""
    named = listed.split(",") if isinstance(listed, str) else listed if isinstance(listed, list) else []
    return [token.strip() for token in named if isinstance(token, str) and token.strip()]


def _pairs(replaced: object) -> list[tuple[str, str]]:
    pairs = replaced.items() if isinstance(replaced, dict) else ()
    return [(old, new) for old, new in pairs if old and isinstance(new, str) and new]


def _number(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 19:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _seconds(value: object) -> float | None:
    """From milliseconds, as a number or a text. A moment that no calendar has says nothing."""
    number = _number(value)
    return None if number is None or not 0 < number < LAST else number / 1_000


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _code(provider: str, name: str) -> str:
    """A word of theirs as ours, when it looks like one."""
    return f"{provider}:{name}" if re.fullmatch(r"[A-Za-z0-9_]{1,64}", name) else f"{provider}:receipt"
