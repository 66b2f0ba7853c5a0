"""What a process may start right now, in one of three forms. Times are its own monotonic clock."""

from __future__ import annotations

from collections import deque
from math import inf
from typing import Final, Protocol

from clarion import limits

BURST_SECONDS: Final = 0.1  # a bucket holds one send and what its rate allows in this time
ROUNDING: Final = 1e-9


class Purse(Protocol):
    """Permits for one pair in this process."""

    rate: float

    def take(self, n: int, now: float) -> int:
        """Take up to `n` permits; returns how many there were."""

    def give_back(self, n: int) -> None:
        """Permits that were not used after all."""

    def wait(self, now: float) -> float:
        """Seconds until there is one, as far as is known; infinity: not before the next exchange."""

    def empty(self, now: float) -> None:
        """What was saved up is void."""


class Unlimited:
    """No bucket, no wait."""

    rate = limits.APPETITE

    def take(self, n: int, now: float) -> int:
        """All of them."""
        return n

    def give_back(self, n: int) -> None:
        """Nothing was taken from anywhere."""

    def wait(self, now: float) -> float:
        """None."""
        return 0.0

    def empty(self, now: float) -> None:
        """There is nothing in it."""


UNLIMITED: Final = Unlimited()


class Bucket:
    """Permits trickle in at a rate. It starts empty, so that a new one is no source of extra sends."""

    __slots__ = ("_at", "_held", "rate")

    def __init__(self, rate: float, now: float) -> None:
        self.rate = rate
        self._held = 0.0
        self._at = now

    def set_rate(self, rate: float, now: float) -> None:
        """From now on; what trickled in before stays."""
        self._fill(now)
        self.rate = rate

    def _fill(self, now: float) -> None:
        self._held = min(1 + BURST_SECONDS * self.rate, self._held + self.rate * max(0.0, now - self._at))
        self._at = now

    def take(self, n: int, now: float) -> int:
        """Whole permits only."""
        self._fill(now)
        n = min(n, int(self._held + ROUNDING))
        self._held = max(0.0, self._held - n)
        return n

    def give_back(self, n: int) -> None:
        """Never above what it can hold."""
        self._held = min(1 + BURST_SECONDS * self.rate, self._held + n)

    def wait(self, now: float) -> float:
        """Until one is whole."""
        self._fill(now)
        if not self.rate:
            return inf
        return max(0.0, (1 - self._held) / self.rate)

    def empty(self, now: float) -> None:
        """Nothing is left in it, what trickles in from now on is good."""
        self._held = 0.0
        self._at = now


class Counted:
    """Sends counted out one by one: the number of those it may ever have started only grows.

    Each may go a fixed time after it was given, so that the exchange's own rhythm does not show.
    """

    __slots__ = ("_last", "_usable", "_waiting", "rate", "taken")

    def __init__(self) -> None:
        self.rate = 0.0
        self.taken = 0
        self._last = 0  # the number last read
        self._usable = 0  # the part of it whose time has come
        self._waiting: deque[tuple[float, int]] = deque()

    def begin(self) -> None:
        """The share has become slow: what was counted out in an earlier time of that kind is void."""
        self._last = self._usable = self.taken
        self._waiting.clear()

    def read(self, number: int, usable_at: float, rate: float) -> None:
        """The dealer's word. A smaller number comes from a new dealer, which began with `taken`."""
        self.rate = rate
        if number > self._last:
            self._waiting.append((usable_at, number))
        elif number < self._last:
            self._waiting.clear()
            self._usable = min(self._usable, number)
        self._last = number

    def _ripen(self, now: float) -> int:
        while self._waiting and self._waiting[0][0] <= now:
            self._usable = self._waiting.popleft()[1]
        return max(0, self._usable - self.taken)

    def take(self, n: int, now: float) -> int:
        """Those whose time has come."""
        n = min(n, self._ripen(now))
        self.taken += n
        return n

    def give_back(self, n: int) -> None:
        """They may go later."""
        self.taken -= n

    def wait(self, now: float) -> float:
        """Until the next that is known."""
        if self._ripen(now):
            return 0.0
        return self._waiting[0][0] - now if self._waiting else inf

    def empty(self, now: float) -> None:
        """A counted send is a send that was allowed; there are two at most."""
