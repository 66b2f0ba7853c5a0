"""The acts of a run: what breaks in each, how fast its campaigns are, and which guarantee they have."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from benchmarks.chaos import faults, kills, orders, small_disk
from benchmarks.chaos.scene import Scene

Trouble = Callable[[Scene], Awaitable[None]]
USUAL: Final = 45.0  # about how many seconds a campaign takes when nothing is in its way
BRISK: Final = 15.0  # at most once a sender claims less ahead: to hold 100 rows it has to be faster
LOW: Final = 30.0  # a second

SERVERS: Final[tuple[Trouble, ...]] = (
    kills.kill_postmaster,
    kills.kill_backend,
    kills.kill_temporal,
    kills.kill_control,
)
WORDS: Final[tuple[Trouble, ...]] = (orders.pause, orders.edit, orders.slow_down, orders.cancel)
LINES: Final[tuple[Trouble, ...]] = (
    faults.cut_provider,
    faults.cut_provider,
    faults.cut_provider,
    faults.reset_line,
    faults.delay_line,
    faults.drip_line,
)


@dataclass
class Act:
    """One campaign after the other, until the bag is empty."""

    name: str
    bag: Sequence[Trouble]
    once: bool = False  # at_most_once
    free_of_redo: bool = False  # only what sends nothing is killed: no row may go out again for that
    together: bool = False  # troubles overlap, and times are not measured
    seconds: float | None = USUAL  # which gives the pace; None: as fast as it goes
    pace: float | None = None  # requests a second, instead
    lines: bool = False  # proxies stand before the providers
    full_disk: bool = False  # what grows stands on a small disk; the first campaign finds it full
    troubles: list[Trouble] = field(default_factory=list)

    def pace_for(self, phones: int) -> float | None:
        """Requests a second to so many devices; None: as fast as it goes."""
        if self.pace is None and self.seconds is not None:
            return max(1_000.0, phones / self.seconds)
        return self.pace


def plan(chance: random.Random) -> list[Act]:
    """The acts of a run, each bag shuffled."""
    sleepers: list[Trouble] = [kills.overslept, kills.overslept]
    crashes = [kills.kill_sender] * 3 + sleepers
    misbehaviour: list[Trouble] = [faults.trouble(what) for what in faults.FAULTS]
    acts = [
        Act("full disk", [small_disk.no_room_for_answers], full_disk=True),
        Act("crashes", [*crashes, *SERVERS, kills.cut_temporal, kills.cut_temporal]),
        Act("servers", SERVERS, free_of_redo=True),
        Act("crashes, at most once", [*crashes, *SERVERS, kills.cut_temporal], once=True, seconds=BRISK),
        Act("all at once", [*crashes, *SERVERS, kills.cut_temporal], together=True),
        Act("lines", LINES, lines=True),
        Act("faults", misbehaviour),
        Act("faults, at most once", chance.sample(misbehaviour, 5), once=True),
        Act("words", WORDS, seconds=None),
        Act("words, low pace", WORDS, pace=LOW),
    ]
    for act in acts:
        act.troubles = chance.sample(act.bag, len(act.bag))
        # A cancelled push has nothing left for another word.
        act.troubles.sort(key=lambda trouble: trouble is orders.cancel)
    return acts
