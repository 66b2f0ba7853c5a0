"""Meizu (Flyme) Push: every result code of its HTTP document, and what it means.

The code is a text, and 200 may hide refusals: `value` maps codes to registrations, or registrations to codes
as some clients have it; both are read. 110010 is "too fast" for a request and "notifications are off" for a
registration. 520 (folded: more than five a minute on one device) was sent. A target code that the document
does not have refuses that registration and keeps it. The wording of 110051 and 110053 is UNCONFIRMED.
"""

from __future__ import annotations

from collections.abc import Iterator
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
    TOMORROW,
    WRONG,
    by_status,
    named,
    unknown,
)

SUCCESS: Final = "200"
TABLE: Final = named(
    "meizu",
    {
        "500": SERVER,
        "1001": SERVER,
        "1003": BUSY,
        "1005": MESSAGE,
        "1006": BLOCKED,  # our signature
        "110000": BLOCKED,
        "110001": BLOCKED,
        "110002": WRONG,  # not registered: every target, or the wrong app
        "110003": WRONG,
        "110004": MESSAGE,
        "110009": BLOCKED,
        "110010": BUSY,
        "110019": TOMORROW,
        "110031": BLOCKED,
        "110032": MESSAGE,
        "110033": BLOCKED,
        "110051": MESSAGE,
        "110053": MESSAGE,
    },
)
AGAIN: Final = Outcome(OutcomeKind.UNAVAILABLE)  # surely not sent
TARGETS: Final = named(
    "meizu",
    {
        "target_201": REFUSED,
        "target_501": AGAIN,
        "target_513": AGAIN,
        "target_519": AGAIN,
        "target_110002": GONE,
        "target_110003": GONE,
        "target_110005": GONE,
        "target_110010": REFUSED,  # notifications are switched off
        "target_110011": REFUSED,  # this device has had its public messages of the day
    },
) | {"target_520": ACCEPTED}
QUOTA_REASONS: Final = frozenset(("meizu:110019",))
# A signature is made for each request, so a 401 cannot be cured by another authorization.
STATUSES: Final[dict[int, Outcome]] = {401: BLOCKED}
_strangers = Strangers("meizu")


def read(status: int, body: bytes) -> tuple[Outcome, dict[str, Outcome]]:
    """What an answer says of the request, and of registrations that it names."""
    answer = parse_object(body)
    code = answer.get("code") if answer is not None else None
    if answer is None or isinstance(code, bool) or not isinstance(code, str | int):
        return by_status("meizu", status, STATUSES), {}
    code = str(code)
    if code != SUCCESS:
        return TABLE.get(code) or unknown(_strangers, status, code), {}
    if status != 200:
        return by_status("meizu", status, STATUSES), {}
    return ACCEPTED, dict(_targets(answer.get("value")))


def _targets(value: Any) -> Iterator[tuple[str, Outcome]]:
    """Registrations that the map names, whichever way round it is."""
    for left, right in value.items() if isinstance(value, dict) else ():
        if isinstance(right, list):
            for token in right:
                yield str(token), _target(left)
        elif isinstance(right, str | int) and str(right).isdigit():
            yield left, _target(right)


def _target(code: object) -> Outcome:
    known = TARGETS.get(f"target_{code}")
    return known or replace(REFUSED, reason=_strangers.name(f"target_{code}", 200))
