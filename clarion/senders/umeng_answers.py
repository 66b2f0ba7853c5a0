"""Umeng U-Push (友盟): every result code that is documented, and what it means.

Source: the API document and the longer lists of older libraries. Errors come as HTTP 400 with `ret` FAIL and
the code as text; FAIL fails whatever the status (C36). A success says that a request was taken: dead
registrations are not learnt from sending. Only 4010, 4014, 4020, 5000 and 5005 are about a registration, and
then only about one that stands alone. 4026 (some failed, and nobody says which) counts as perhaps done.

2028 and its like are about the time in a signature: a request is signed anew once, then it is the clock of
this machine, which blocks.
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
    TOMORROW,
    by_status,
    named,
    unknown,
)

TOKENS: Final = (4010, 4014, 4020, 5000, 5005)
STAMPS: Final = frozenset(("umeng:2028", "umeng:2036", "umeng:2052"))
_MESSAGES: Final = (
    *range(1000, 1018),
    *(1019, 1022, 1024, 1026, 1027, 1028),
    *(2001, 2002, 2003, 2005, 2008, 2009, 2010, 2011, 2015, 2016, 2017, 2018, 2019, 2022, 2024, 2025),
    *(2029, 2030, 2031, 2039, 2040, 2046, 2047, 2048, 2049, 2053, 4025, 5002, 5003, 5004),
)
_BLOCKED: Final = (
    *(1018, 1020, 2000, 2004, 2006, 2007, 2021, 2027, 2028, 2032, 2033, 2034, 2035, 2036, 2052, 2054),
    *(5001, 5007, 5008, 5009, 5010, 6001),
)
_SERVER: Final = (
    *(2013, 2014, 2023, 2038, 3000, 3001, 3002, 3003, 3004, 4000, 4001, 4002, 4009, 4013, 4021, 4023),
    *(4026, 6002, 6003, 6004),
)

TABLE: Final = named(
    "umeng",
    {
        **dict.fromkeys(_MESSAGES, MESSAGE),
        **dict.fromkeys(_BLOCKED, BLOCKED),
        **dict.fromkeys(_SERVER, SERVER),
        **dict.fromkeys(TOKENS, REFUSED),
        2012: TOMORROW,
        2020: replace(BUSY, retry_after=30.0),  # their service is being upgraded
        2026: replace(BUSY, retry_after=10.0),
        2050: replace(BUSY, retry_after=10.0),
    },
)
ALONE: Final = named("umeng", dict.fromkeys(TOKENS, GONE))
QUOTA_REASONS: Final = frozenset(("umeng:2012",))
STATUSES: Final[dict[int, Outcome]] = {401: BLOCKED}  # the secret never changes
_strangers = Strangers("umeng")


def read(status: int, body: bytes, *, alone: bool) -> Outcome:
    """What an answer says of a request to one registration (`alone`) or to a list."""
    answer = parse_object(body) or {}
    data = answer.get("data")
    if answer.get("ret") == "SUCCESS" and status == 200 and _number(data) is not None:
        return ACCEPTED
    if answer.get("ret") != "FAIL":
        return by_status("umeng", status, STATUSES)
    code = data.get("error_code") if isinstance(data, dict) else None
    if not isinstance(code, str | int) or isinstance(code, bool) or not str(code).isdecimal():
        return by_status("umeng", status, STATUSES)
    number = int(str(code)[:9])
    if alone and number in ALONE:
        return ALONE[number]
    return TABLE.get(number) or unknown(_strangers, status, number)


def file_id(status: int, body: bytes) -> str | None:
    """The name of a file that was uploaded; None when it was not."""
    answer = parse_object(body) or {}
    found = answer.get("data") if answer.get("ret") == "SUCCESS" and status == 200 else None
    name = found.get("file_id") if isinstance(found, dict) else None
    return name if isinstance(name, str) and name else None


def blames(outcome: Outcome) -> bool:
    """Whether a list was refused for what is wrong with some of it only."""
    return outcome in (TABLE[code] for code in TOKENS)


def _number(data: Any) -> str | None:
    """What a message that was taken is called."""
    found = (data.get("msg_id") or data.get("task_id")) if isinstance(data, dict) else None
    return found if isinstance(found, str) and found else None
