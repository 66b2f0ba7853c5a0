"""Getui (个推) RestAPI v2: every result code that is documented, and what it means.

Source: docs.getui.com and the code table that uni-push copies. A batch is answered registration by
registration with words ("ed" is their spelling). `successed_ignore` is a registration that was inactive for
90 days: nothing is sent to it; it is kept, because its app may wake up. Too many calls a minute come as 401.

20001 is about any parameter; only "target user is invalid" is about a registration, and then only about one
that stands alone. Codes 30020 to 30028 are limits of a plan whose meaning is UNCONFIRMED: they block, like
other rights that are missing. Who is not listed in a success may be unknown or a repeat that was dropped:
nobody knows, so it counts as perhaps done.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from clarion.senders.answers import Strangers, parse_object
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind
from clarion.senders.vendor_answers import (
    BLOCKED,
    BUSY,
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

PARAMETER: Final = 20001
USER: Final = 21001
MINUTE: Final = replace(BUSY, retry_after=20.0)

TABLE: Final = named(
    "getui",
    {
        1: MESSAGE,
        2: replace(BUSY, retry_after=5.0),  # their service is starting
        301: BLOCKED,  # this app's data are elsewhere
        404: BLOCKED,
        405: BLOCKED,
        5000: SERVER,
        10001: TOKEN,
        10002: BLOCKED,  # app or address on their blacklist
        10003: MINUTE,
        10004: BLOCKED,
        10005: MINUTE,
        PARAMETER: MESSAGE,
        USER: MESSAGE,
        22001: MESSAGE,
        22002: MESSAGE,
        23001: MESSAGE,
        **dict.fromkeys(range(30_000, 30_004), BLOCKED),
        30004: TOMORROW,
        30005: MESSAGE,
        **dict.fromkeys(range(30_006, 30_012), TOMORROW),
        **dict.fromkeys(range(30_012, 30_016), MINUTE),
        30016: MESSAGE,
        30017: BLOCKED,
        30018: MINUTE,
        30019: replace(BUSY, retry_after=5.0),
        **dict.fromkeys(range(30_020, 30_029), BLOCKED),
    },
)
TOKEN_REASONS: Final = frozenset(("getui:10001", "getui:401"))
QUOTA_REASONS: Final = frozenset(f"getui:{code}" for code in (30_004, *range(30_006, 30_012)))
UNKNOWN_ALONE: Final = replace(WRONG, reason="getui:20001")
UNKNOWN_AMONG: Final = replace(REFUSED, reason="getui:20001")
INACTIVE: Final = replace(REFUSED, reason="getui:successed_ignore")
UNLISTED: Final = Outcome(OutcomeKind.UNAVAILABLE, "getui:unlisted", maybe=True)
STATES: Final = {
    "successed_online": ACCEPTED,
    "successed_offline": ACCEPTED,
    "successed_ignore": INACTIVE,
}
# What says that a credential itself is refused when a token is asked for (20001: also a clock that is wrong).
AUTH_REFUSALS: Final = frozenset((1, 301, 404, 405, 10001, 10002, PARAMETER))
_strangers = Strangers("getui")


def read(status: int, body: bytes, *, alone: bool) -> tuple[Outcome, dict[str, Outcome]]:
    """What an answer says of a request to one registration (`alone`) or to several, and of each."""
    answer = parse_object(body)
    code = answer.get("code") if answer is not None else None
    if answer is None or not isinstance(code, int) or isinstance(code, bool):
        return by_status("getui", status), {}
    if code == 0:
        states = _states(answer.get("data")) if status == 200 else None
        return (by_status("getui", status), {}) if states is None else (ACCEPTED, states)
    if code in (PARAMETER, USER) and _is_about_a_user(answer):
        return (UNKNOWN_ALONE if alone else UNKNOWN_AMONG), {}
    return TABLE.get(code) or unknown(_strangers, status, code), {}


def blames(outcome: Outcome) -> bool:
    """Whether several were refused for what may be wrong with some of them only."""
    return outcome == UNKNOWN_AMONG


def token_answer(status: int, body: bytes, now: float) -> tuple[str, float] | str | None:
    """What /auth says: a token and its seconds, the code of a refusal, or nothing of use.

    `expire_time` is in milliseconds by their clock; one that makes no sense by ours counts as a day.
    """
    answer = parse_object(body) or {}
    code, data = answer.get("code"), answer.get("data")
    if status == 200 and code == 0 and isinstance(data, dict) and isinstance(data.get("token"), str):
        ends = str(data.get("expire_time", ""))
        known = ends.isascii() and ends.isdigit() and len(ends) < 16
        seconds = int(ends) / 1_000 - now if known else 86_400.0
        return data["token"], seconds if 0 < seconds <= 90_000 else 86_400.0
    return f"getui:{code}" if type(code) is int and code in AUTH_REFUSALS else None


def _states(data: Any) -> dict[str, Outcome] | None:
    """Registration → outcome, of {task: {registration: word}}; None when it is none."""
    if not isinstance(data, dict) or not all(isinstance(one, dict) for one in data.values()):
        return None
    pairs = [pair for one in data.values() for pair in one.items()]
    return {token: STATES.get(str(word), UNLISTED) for token, word in pairs}


def _is_about_a_user(answer: dict[str, Any]) -> bool:
    words = str(answer.get("msg", "")).lower()
    return "user" in words and "invalid" in words
