"""What a process counts: plain integers, added to once per ledger statement, read when somebody scrapes.

An OpenTelemetry counter and histogram cost 12 µs a call pair, more than a whole delivery, so nothing in here
is an instrument: `workers.metrics` shows these totals as OpenTelemetry's and Prometheus's.

The rule of `push_notifications_total`, by which its sum over all processes equals the ledger's counts when a
push is closed:

* an answer (success, failed) is counted by the sender whose statement moved the row, by what the statement
  says it moved: a row that had its answer already moves nothing;
* everything that is no answer is final only when the books are closed, so suppressed, expired and cancelled
  rows, and as failed those that are dead or in doubt, are counted by the process that closes the push, which
  one transaction does once. So is a row that is given up because its lane is blocked, by the process that
  moves its phone to another lane.

A counter lives as long as its process. So it misses what was committed and never acknowledged (the same
statement again moves nothing) and what a killed process had counted since the last scrape, and a late answer
to a closed push counts on top of the "failed" of its closing. The ledger is exact in each case.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Final

BOUNDS: Final = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)  # seconds: upper ends of the latency buckets
TOGETHER: Final = 0.001  # seconds: what leaves so soon after each other is timed together
PRIORITIES: Final = {1: "high", 3: "normal", 5: "low"}
STATUSES: Final = ("success", "failed", "suppressed", "expired", "cancelled")
STATUS_OF: Final = {
    "suppressed": "suppressed",
    "expired": "expired",
    "cancelled": "cancelled",
    "rejected": "failed",
    "dead": "failed",
    "in_doubt": "failed",
}
_PLATFORMS: Final = {"apns": "ios", "webpush": "web"}


def platform_of(provider: str) -> str:
    """ios, web or android: FCM and every vendor's service are counted as android."""
    return _PLATFORMS.get(provider, "android")


class Latency:
    """Seconds from posting a request to its answer, as a histogram: a count per bucket, and their sum."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """So many requests took so long."""
        self.buckets[bisect_left(BOUNDS, seconds)] += times
        self.seconds += seconds * times


class Stopwatch:
    """Times the requests of one attempt by the turns of the loop that they leave and are answered in.

    Rows of an attempt are posted in the order of `seq`, so what left together is known by its first seq, and
    all answers of a turn arrived at one moment. Per delivery only `answered` is called, which is a list's
    append. What comes back unanswered (a time-out, a lost connection) took as long as it was waited for.
    """

    __slots__ = ("_answers", "_firsts", "_latency", "_left_at", "_now", "answered")

    def __init__(self, latency: Latency, now: Callable[[], float] = monotonic) -> None:
        self._latency, self._now = latency, now
        self._firsts: list[int] = []  # the first seq of what left together …
        self._left_at: list[float] = []  # … and when
        self._answers: list[int] = []
        self.answered = self._answers.append

    def posting(self, first: int) -> None:
        """The rows from this seq on leave now."""
        now = self._now()
        if not self._left_at or now - self._left_at[-1] > TOGETHER:
            self._firsts.append(first)
            self._left_at.append(now)

    def turn(self) -> None:
        """The turn is over: what was answered in it took until now."""
        answers = self._answers
        if not answers:
            return
        now, firsts = self._now(), self._firsts
        answers.sort()
        at, n = 0, len(answers)
        while at < n:  # once for each turn that some of them left in
            after = bisect_right(firsts, answers[at])
            end = n if after == len(firsts) else bisect_left(answers, firsts[after], at)
            self._latency.add(now - self._left_at[after - 1], end - at)
            at = end
        answers.clear()


class Totals:
    """Everything that one process has counted. One a process: `TOTALS`."""

    def __init__(self) -> None:
        self.notifications: Counter[tuple[str, str, str]] = Counter()  # platform, priority, status
        self.invalid: Counter[tuple[str, str]] = Counter()  # platform, reason
        self.latency: dict[str, Latency] = {}  # by platform
        self.pending: dict[str, int] | None = None  # by priority; None: another process says it

    def latency_of(self, provider: str) -> Latency:
        """The histogram of a provider's platform."""
        return self.latency.setdefault(platform_of(provider), Latency())

    def answered(self, provider: str, priority: int, accepted: int, rejected: int) -> None:
        """One ledger statement gave so many rows their answer."""
        place = platform_of(provider), PRIORITIES[priority]
        if accepted:
            self.notifications[*place, "success"] += accepted
        if rejected:
            self.notifications[*place, "failed"] += rejected

    def ended(self, priority: int, rows: Iterable[tuple[str, str, int]]) -> None:
        """Rows ended here, once, and without an answer: (provider, state, rows)."""
        for provider, state, n in rows:
            if n:
                self.notifications[platform_of(provider), PRIORITIES[priority], STATUS_OF[state]] += n

    def retired(self, rows: Iterable[tuple[str, str, int]]) -> None:
        """Registrations were retired here: (provider, reason, how many)."""
        for provider, reason, n in rows:
            self.invalid[platform_of(provider), reason] += n


TOTALS: Final = Totals()
