"""JPush: every result code that Jiguang documents, and what it means.

Source: the code tables of the push, device and report APIs. Only HTTP 200 is a success, and it says no more
than that the request was taken: of a list with bad registrations in it nothing is said, so the dead are not
learnt from sending. 1011 means that nobody of the list is known (or that the APNs environment is wrong), 1003
may be about one registration; only who is refused alone retires, and the 30 % rule watches that.

2005 (quota of messages) is no daily quota as far as is documented (UNCONFIRMED): it blocks like the other
rights that an app lacks, so that an operator sees it.
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
    WRONG,
    by_status,
    named,
    unknown,
)

NOBODY: Final = 1011
VALUE: Final = 1003

TABLE: Final = named(
    "jpush",
    {
        10: SERVER,  # report: system
        1000: SERVER,
        1001: BLOCKED,  # only POST: nothing of ours is taken there
        1002: MESSAGE,
        1003: MESSAGE,
        1004: BLOCKED,
        1005: MESSAGE,  # body too large
        1008: BLOCKED,
        1009: MESSAGE,  # a key that is not known
        1011: MESSAGE,  # nobody of this list: they stay, and are watched
        1012: replace(BUSY, retry_after=60.0),
        1020: BLOCKED,  # only HTTPS, or nothing is there
        1030: SERVER,
        1035: MESSAGE,
        2002: BUSY,
        2003: BLOCKED,
        2004: BLOCKED,  # this machine's address is not on the app's list
        2005: BLOCKED,
        2006: BLOCKED,
        2007: BLOCKED,
        3001: BLOCKED,  # report: verification
        3004: MESSAGE,
        3005: MESSAGE,
        7000: SERVER,  # device: internal
        7001: BLOCKED,
        7002: MESSAGE,
        7004: BLOCKED,
        7008: BLOCKED,
        7013: MESSAGE,
        7030: replace(BUSY, retry_after=5.0),
    },
)
# The secret never changes, so a 401 cannot be cured by another authorization.
STATUSES: Final[dict[int, Outcome]] = {401: BLOCKED}
UNKNOWN_ALONE: Final = replace(WRONG, reason="jpush:1011")
MALFORMED_ALONE: Final = replace(GONE, reason="jpush:1003")
MALFORMED_AMONG: Final = replace(REFUSED, reason="jpush:1003")
BLAMED: Final = (TABLE[NOBODY], MALFORMED_AMONG)
_strangers = Strangers("jpush")


def read(status: int, body: bytes, *, alone: bool) -> Outcome:
    """What an answer says of a request to one registration (`alone`) or to a list."""
    answer = parse_object(body)
    if answer is None:
        return by_status("jpush", status, STATUSES)
    error = answer.get("error")
    if error is None:
        number = answer.get("msg_id")
        named = isinstance(number, str | int) and not isinstance(number, bool) and number != ""
        return ACCEPTED if named and status == 200 else by_status("jpush", status, STATUSES)
    code = error.get("code") if isinstance(error, dict) else None
    if not isinstance(code, int) or isinstance(code, bool):
        return by_status("jpush", status, STATUSES)
    if code == NOBODY and alone:
        return UNKNOWN_ALONE
    if code == VALUE and _is_about_a_registration(error):
        return MALFORMED_ALONE if alone else MALFORMED_AMONG
    return TABLE.get(code) or unknown(_strangers, status, code)


def blames(outcome: Outcome) -> bool:
    """Whether a list was refused for what may be wrong with some of it only."""
    return outcome in BLAMED


def _is_about_a_registration(error: dict[str, Any]) -> bool:
    words = error.get("message")
    return isinstance(words, str) and "registration" in words.lower()
