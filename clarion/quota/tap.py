"""What an attempt holds of the quota, and what the process knows of the lanes and pushes behind it.

A `Tap` belongs to one attempt; attempts at the same push on the same lane share a `Pair`, whose purse the
exchange fills; pairs of one credential share a `ProcessLane`, which can stop them all at once.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING, Final

from clarion import limits
from clarion.quota.ask import URGENT_ROOM, Totals, Want
from clarion.quota.deal import LaneRates, PairRate
from clarion.quota.purse import UNLIMITED, Bucket, Counted, Purse

if TYPE_CHECKING:
    from clarion.quota.permits import Permits

AT_LEAST: Final = 20.0  # sends/s asked for the last rows of a batch: an empty bucket has one in 0.05 s
WATCHED: Final = 50  # answers that the process itself looks back at


class Tap:
    """One attempt's access to the permits of its push on its lane. `allowed` costs about a microsecond."""

    __slots__ = ("_pair", "_permits", "_purse", "_rate", "_rows_left", "urgent")

    def __init__(self, permits: Permits, pair: Pair, urgent: bool) -> None:
        self._permits, self._pair, self.urgent = permits, pair, urgent
        self._purse: Purse = UNLIMITED  # where the last permits came from
        self._rate = self._rows_left = 0.0

    def want(self, rate: float, rows_left: int) -> None:
        """What the attempt could start per second, and how many rows it has."""
        self._rate, self._rows_left = rate, rows_left

    @property
    def wanted(self) -> float:
        """What it asks for: to be done within half a second, if it can."""
        return min(self._rate, 2.0 * self._rows_left + AT_LEAST) if self._rows_left > 0 else 0.0

    def allowed(self, n: int) -> int:
        """How many of `n` may start now. They count as started: give back what is not."""
        now = self._permits.now()
        purse = self._open_purse(now)
        if purse is None:
            return 0
        self._purse = purse
        return purse.take(n, now)

    def give_back(self, n: int) -> None:
        """So many of those allowed last were not started."""
        self._purse.give_back(n)

    @property
    def ready(self) -> bool:
        """Whether one may start now."""
        now = self._permits.now()
        purse = self._open_purse(now)
        return purse is not None and purse.wait(now) <= 0.0

    def next_in(self) -> float:
        """Seconds until it is worth asking again: a permit, or the next exchange, which may change all."""
        now = self._permits.now()
        purse = self._open_purse(now)
        exchange = self._permits.next_exchange_in(now)
        return exchange if purse is None else min(purse.wait(now), exchange)

    def pace(self) -> float:
        """This attempt's part of the rate granted now, sends per second; finite for unlimited lanes."""
        purse = self._open_purse(self._permits.now())
        return 0.0 if purse is None else purse.rate / max(1, len(self._pair.taps))

    @property
    def cooling(self) -> bool:
        """Whether the lane is recovering: answers had now say nothing about the delivery."""
        return self._pair.lane.cooling

    def close(self) -> None:
        """The attempt is over."""
        self._pair.taps.discard(self)

    def _open_purse(self, now: float) -> Purse | None:
        lane = self._pair.lane
        if now >= self._permits.good_until or now < lane.stopped_until or lane.halted:
            return None
        if self._pair.purse is not None or not self.urgent:
            return self._pair.purse
        return lane.urgent_purse()


class Pair:
    """One push on one lane: the attempts at it, and what it may start."""

    __slots__ = ("counted", "lane", "last_used", "purse", "push_no", "taps")

    def __init__(self, lane: ProcessLane, push_no: int, now: float) -> None:
        self.lane, self.push_no, self.last_used = lane, push_no, now
        self.taps: set[Tap] = set()
        self.purse: Purse | None = None
        self.counted = Counted()

    def want(self) -> Want:
        """What all its attempts want together."""
        rate = min(sum(tap.wanted for tap in self.taps), limits.APPETITE)
        return Want(rate, any(tap.urgent for tap in self.taps), self.counted.taken)

    def read(self, grant: PairRate | None, now: float, ripe_at: float) -> None:
        """Go by what the dealer says."""
        if grant is None:
            self.purse = None
        elif grant.counted is not None:
            if self.purse is not self.counted:
                self.counted.begin()
                self.purse = self.counted
            self.counted.read(grant.counted, ripe_at, grant.rate)
        elif grant.rate == inf:
            self.purse = UNLIMITED
        else:
            self.purse = _bucket(self.purse, grant.rate, now)


def _bucket(old: Purse | None, rate: float, now: float) -> Bucket:
    if isinstance(old, Bucket):
        old.set_rate(rate, now)
        return old
    return Bucket(rate, now)


class ProcessLane:
    """One lane of this process."""

    def __init__(self, key: str, now: float) -> None:
        self.key = key
        self.pairs: dict[int, Pair] = {}
        self.room: Purse | None = None  # push 0: for urgent sends without a share
        self.rate: float | None = None
        self.cooling = False
        self.totals = Totals()
        self.stopped_until = 0.0
        self.halted = False
        self.resume_with: int | None = None  # the deal that knows of the halt
        self.last_used = now
        self._seen = self._bad = 0.0  # of the last ~50 answers

    def urgent_purse(self) -> Purse | None:
        """For urgent sends of pairs that have no share (yet)."""
        return UNLIMITED if self.rate == inf else self.room

    def hear(self, good: int, bad: int, throttled: int) -> bool:
        """Count answers. True: half of the last ones were bad, the lane has halted just now."""
        old = self.totals
        self.totals = Totals(old.good + good, old.bad + bad, old.throttled + throttled)
        n = good + bad
        fade = max(0.0, WATCHED - n) / self._seen if self._seen and self._seen + n > WATCHED else 1.0
        self._seen, self._bad = self._seen * fade + n, self._bad * fade + bad
        if not bad or self.halted or self._seen < WATCHED - 0.1 or self._bad < self._seen / 2:
            return False
        self._seen = self._bad = 0.0
        self.halted, self.resume_with = True, None
        self.empty(self.last_used)
        return True

    def read(self, rates: LaneRates | None, now: float, ripe: Callable[[float], float]) -> None:
        """Go by what the dealer says; a lane that begins to cool forgets what it had saved up."""
        if rates is None:
            self.forget()
            return
        self.rate = rates.rate
        for push_no, pair in self.pairs.items():
            grant = rates.pushes.get(push_no)
            pair.read(grant, now, ripe(grant.given_at) if grant else 0.0)
        room = rates.pushes.get(URGENT_ROOM)
        self.room = _bucket(self.room, room.rate, now) if room else None
        if rates.cooling and not self.cooling:
            self.empty(now)
        self.cooling = rates.cooling

    def forget(self) -> None:
        """Nothing may be used any more."""
        self.rate = self.room = None
        for pair in self.pairs.values():
            pair.purse = None

    def empty(self, now: float) -> None:
        """What was saved up is void."""
        for purse in (self.room, *(pair.purse for pair in self.pairs.values())):
            if purse is not None:
                purse.empty(now)
