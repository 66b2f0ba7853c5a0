"""Xiaomi Mi Push: every result code that Xiaomi documents, and what it means.

Source: the code table of dev.mi.com. HTTP is 200 for business errors as well. A request with some dead
registrations is a success (code 0) that lists them, comma-joined, in `data.bad_regids`; one with none alive
fails with 20301. The documented list goes on behind 65041 (UNCONFIRMED): an unknown code is never a yes.
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
    WRONG,
    by_status,
    named,
    unknown,
)

TABLE: Final = named(
    "xiaomi",
    {
        -1: SERVER,
        1: SERVER,
        10001: SERVER,
        10002: replace(BUSY, retry_after=5.0),  # system busy
        10003: SERVER,
        10008: MESSAGE,
        10012: MESSAGE,
        10016: MESSAGE,
        10017: MESSAGE,
        10027: BUSY,
        10029: GONE,  # illegal device
        10030: BUSY,  # feedback is fetched too often; not sending
        10031: BLOCKED,
        10032: BUSY,
        10033: BLOCKED,
        10034: TOMORROW,
        10035: REFUSED,
        10036: BLOCKED,
        10037: replace(SERVER, maybe=False),  # request expired: was not done
        10038: BLOCKED,
        10039: BUSY,
        20209: MESSAGE,
        20215: MESSAGE,
        20216: MESSAGE,
        20301: WRONG,  # every target is invalid: all dead, or those of another app
        20315: MESSAGE,
        20607: SERVER,
        21301: BLOCKED,
        21302: BLOCKED,
        21303: BLOCKED,
        21305: MESSAGE,
        22000: BLOCKED,
        22006: BLOCKED,
        22007: BLOCKED,
        22022: BLOCKED,
        22102: SERVER,
        26003: SERVER,
        26004: BUSY,
        26005: BLOCKED,
        26006: BLOCKED,
        27001: BLOCKED,  # channel_id does not fit
        65003: REFUSED,  # device not found, usually offline
        65006: MESSAGE,
        65007: MESSAGE,
        65008: MESSAGE,
        65009: MESSAGE,
        65010: MESSAGE,
        65011: MESSAGE,
        65012: MESSAGE,
        65013: MESSAGE,
        65014: MESSAGE,
        65015: MESSAGE,
        65016: MESSAGE,
        65017: MESSAGE,
        65028: MESSAGE,
        65029: SERVER,
        65030: SERVER,
        65035: MESSAGE,
        65036: MESSAGE,
        65037: MESSAGE,
        65038: MESSAGE,
        65040: MESSAGE,
        65041: MESSAGE,
        66108: BLOCKED,  # package name
        200001: TOMORROW,
    },
)
QUOTA_REASONS: Final = frozenset(("xiaomi:10034", "xiaomi:200001"))
# The key never changes, so a 401 cannot be cured by another one.
STATUSES: Final[dict[int, Outcome]] = {401: BLOCKED}
BAD_REGID: Final = replace(GONE, reason="xiaomi:bad_regid")
_strangers = Strangers("xiaomi")


def read(status: int, body: bytes) -> tuple[Outcome, dict[str, Outcome]]:
    """What an answer says of the request, and of registrations that it names."""
    answer = parse_object(body)
    code = answer.get("code") if answer is not None else None
    if answer is None or not isinstance(code, int) or isinstance(code, bool):
        return by_status("xiaomi", status, STATUSES), {}
    if code == 0:
        if status == 200 and answer.get("result") == "ok":
            return ACCEPTED, dict.fromkeys(_bad(answer.get("data")), BAD_REGID)
        return by_status("xiaomi", status, STATUSES), {}
    return TABLE.get(code) or unknown(_strangers, status, code), {}


def _bad(data: Any) -> list[str]:
    listed = data.get("bad_regids") if isinstance(data, dict) else None
    return [token for token in listed.split(",") if token] if isinstance(listed, str) else []
