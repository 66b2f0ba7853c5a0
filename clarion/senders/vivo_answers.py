"""vivo Push: the result codes that integrators and the documents' copies name, and what they mean.

The official page of return codes could not be read; what is UNCONFIRMED is treated so that no registration is
lost for it: 10302 for a whole request is also what every registration gets while the app is restricted, so it
is watched by the 30 % rule before anything retires. 10043 and 10045 stop the lane. The day's quotas are
counted for each class of message, and vivo lowers them for who goes on calling.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from clarion.senders.answers import Strangers, parse_object
from clarion.senders.outcome import ACCEPTED, Outcome
from clarion.senders.vendor_answers import (
    BLOCKED,
    BUSY,
    GONE,
    MESSAGE,
    REFUSED,
    SERVER,
    TOKEN,
    TOMORROW,
    WRONG,
    by_status,
    named,
    unknown,
)

TABLE: Final = named(
    "vivo",
    {
        10000: TOKEN,
        10040: SERVER,
        10043: BLOCKED,
        10045: BLOCKED,
        10054: WRONG,
        10070: TOMORROW,
        10071: replace(BUSY, retry_after=600.0),  # outside its hours, or limited: UNCONFIRMED which
        10072: BUSY,
        10073: TOMORROW,
        10085: MESSAGE,
        10094: BLOCKED,
        10096: MESSAGE,
        10097: MESSAGE,
        10104: MESSAGE,
        **dict.fromkeys(range(10200, 10208), BLOCKED),
        10250: BUSY,
        10252: TOMORROW,
        10254: TOMORROW,
        10302: WRONG,
    },
)
# What invalidUser(s) say of a registration.
USERS: Final = named(
    "vivo",
    {
        "user_1": GONE,  # unknown to this app
        "user_2": GONE,  # uninstalled, unsubscribed, data cleared
        "user_3": REFUSED,  # inactive for 90 days
        "user_4": MESSAGE,  # no test device: the message's pushMode is at fault
    },
)
TOKEN_REASONS: Final = frozenset(("vivo:10000", "vivo:401"))
QUOTA_REASONS: Final = frozenset(("vivo:10070", "vivo:10073", "vivo:10252", "vivo:10254"))
_strangers = Strangers("vivo")


def read(status: int, body: bytes) -> tuple[Outcome, dict[str, Outcome]]:
    """What an answer says of the request, and of registrations that it names."""
    answer = parse_object(body)
    result = answer.get("result") if answer is not None else None
    if answer is None or not isinstance(result, int) or isinstance(result, bool):
        return by_status("vivo", status), {}
    if status != 200 and result not in TABLE:
        return by_status("vivo", status), {}
    users = answer.get("invalidUsers")
    one = answer.get("invalidUser")
    named = dict(_invalid([*(users if isinstance(users, list) else ()), one]))
    if result == 0:
        return ACCEPTED, named
    return TABLE.get(result) or unknown(_strangers, status, result), named


def read_task(status: int, body: bytes) -> Outcome | str:
    """The number of a saved content, or what came instead."""
    outcome, _ = read(status, body)
    if outcome is not ACCEPTED:
        return outcome
    task = (parse_object(body) or {}).get("taskId")
    if isinstance(task, str | int) and task:
        return str(task)
    return replace(SERVER, maybe=False, reason="vivo:BAD_ANSWER")


def _invalid(users: list[Any]) -> list[tuple[str, Outcome]]:
    return [
        (str(user["userid"]), USERS.get(f"user_{user.get('status')}") or replace(REFUSED, reason="vivo:user"))
        for user in users
        if isinstance(user, dict) and "userid" in user
    ]
