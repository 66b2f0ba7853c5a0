"""What a sender process tells the dealer four times a second, and the words that the dealer's parts share.

A **pair** is (lane, push): the deliveries of one push that go through one credential. A **share** is a
pair's part in one process. A **limit** is a lane that has a rate or a push that has a pace; lanes are text
("app.lane") and pushes are numbers, so both fit one dictionary. Push 0 stands for the room that is kept
for urgent sends nobody has asked for yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import inf
from typing import Final, NamedTuple, TypeAlias

Pair: TypeAlias = tuple[str, int]
Share: TypeAlias = tuple[str, int, int]  # lane, push, process
Limits: TypeAlias = dict[str | int, float]  # sends per second of a limited lane or a paced push

URGENT_ROOM: Final = 0  # the push number under which room for urgent sends is dealt

DEAD_SECONDS: Final = 1.4  # without an exchange; longer than the lease, so a dead process starts nothing


class Totals(NamedTuple):
    """Answers of a process on a lane since its start; they only grow. `throttled` ones count in it alone."""

    good: int = 0
    bad: int = 0
    throttled: int = 0


class Want(NamedTuple):
    """What a process could do for a pair."""

    rate: float  # sends per second; 0 gives back
    urgent: bool
    taken: int  # counted sends that it has used since it started


class Terms(NamedTuple):
    """What the dealer must know of a push."""

    weight: float = 1.0
    pace: float = inf


@dataclass(frozen=True, slots=True)
class Ask:
    """The last words of one process."""

    process: int
    at: float  # database clock
    read: int  # number of the rates that it goes by; 0 = none
    urgent: bool  # it serves an urgent queue
    heard: Mapping[str, tuple[Totals, float]]  # its lanes: totals, seconds left of a Retry-After
    wants: Mapping[Pair, Want]  # pairs of these lanes only
