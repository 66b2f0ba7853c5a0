"""OPPO Push: every result code that OPPO documents, and what it means.

Source: OPPO's page of return codes, and the server SDK's enum for those of broadcasts. HTTP is 200 for
business errors. A batch answers with one item a registration, in an order that is UNCONFIRMED, so items are
matched by their registrationId. One that is not mentioned is not accepted.

Code 32 (data duplicate) for an item is a repeat of its app_message_id: the device has it already, so it
counts as accepted. For a whole request it does not say which of them were repeats, so nobody knows what was
done. Whether a repeat is answered by 32 at all is UNCONFIRMED; a plain yes is understood as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from clarion.senders.answers import Strangers, parse_object
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind
from clarion.senders.vendor_answers import (
    BLOCKED,
    BUSY,
    GONE,
    MESSAGE,
    REFUSED,
    SERVER,
    TOKEN,
    TOMORROW,
    by_status,
    named,
    unknown,
)

DUPLICATE: Final = 32
_INTEGER: Final = re.compile(r"-?[0-9]{1,18}")

TABLE: Final = named(
    "oppo",
    {
        -2: BUSY,
        -1: SERVER,
        11: TOKEN,
        12: MESSAGE,
        13: BUSY,
        14: BLOCKED,
        15: BLOCKED,
        16: BLOCKED,
        17: BLOCKED,
        18: BLOCKED,
        19: BLOCKED,  # our clock is more than ten minutes off
        20: MESSAGE,
        21: MESSAGE,
        22: MESSAGE,
        23: MESSAGE,
        24: MESSAGE,
        25: MESSAGE,
        26: BLOCKED,
        27: BLOCKED,
        28: BLOCKED,
        29: TOKEN,
        30: BLOCKED,  # also while the app is under review
        31: MESSAGE,
        32: SERVER,
        33: TOMORROW,
        34: MESSAGE,
        40: MESSAGE,
        41: MESSAGE,
        51: MESSAGE,
        55: BUSY,
        59: MESSAGE,
        67: MESSAGE,  # category, or its notify_level
        10000: GONE,
        10001: REFUSED,  # unsubscribed, which includes notifications switched off: it may come back
        10002: MESSAGE,
        10003: REFUSED,
        10004: MESSAGE,
        10005: MESSAGE,
    },
)
TOKEN_REASONS: Final = frozenset(("oppo:11", "oppo:29", "oppo:401"))
QUOTA_REASONS: Final = frozenset(("oppo:33",))
UNMENTIONED: Final = Outcome(OutcomeKind.UNAVAILABLE, "oppo:BAD_ANSWER", maybe=True)
_strangers = Strangers("oppo")


def read(status: int, body: bytes) -> tuple[Outcome, dict[str, Outcome]]:
    """What an answer says of the request, and of each registration that it mentions.

    An accepted request says nothing of a registration that it does not mention.
    """
    answer = parse_object(body)
    code = answer.get("code") if answer is not None else None
    if answer is None or not isinstance(code, int) or isinstance(code, bool):
        return by_status("oppo", status), {}
    if code != 0:
        return TABLE.get(code) or unknown(_strangers, status, code), {}
    return (ACCEPTED, _items(answer.get("data"))) if status == 200 else (by_status("oppo", status), {})


def _items(data: Any) -> dict[str, Outcome]:
    items = data if isinstance(data, list) else ()
    return {
        item["registrationId"]: _item(item)
        for item in items
        if isinstance(item, dict) and isinstance(item.get("registrationId"), str)
    }


def _item(item: Mapping[str, Any]) -> Outcome:
    code = item.get("errorCode")
    if code in (None, 0, "", "0"):
        return ACCEPTED if item.get("messageId") else UNMENTIONED
    if isinstance(code, str) and _INTEGER.fullmatch(code):
        code = int(code)
    if code == DUPLICATE:
        return ACCEPTED
    known = TABLE.get(code) if isinstance(code, int) else None
    return known or replace(unknown(_strangers, 200, code), maybe=True)
