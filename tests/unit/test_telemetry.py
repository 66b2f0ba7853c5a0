"""What a process counts: platforms, statuses, buckets, and the stopwatch of an attempt."""

from __future__ import annotations

import random

import pytest

from clarion.senders.null import NullSender
from clarion.store.credentials import PROVIDERS
from clarion.telemetry import BOUNDS, TOGETHER, Latency, Stopwatch, Totals, platform_of


class Clock:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def monotonic(self) -> float:
        """Now."""
        return self.at


@pytest.mark.parametrize(
    ("provider", "platform"),
    [("apns", "ios"), ("fcm", "android"), ("webpush", "web"), ("hms", "android"), ("jpush", "android")],
)
def test_a_provider_has_one_platform(provider: str, platform: str) -> None:
    """Apple's is ios, browsers are web, everything else is Android's."""
    assert platform_of(provider) == platform


def test_every_provider_of_ours_has_a_platform_of_the_three() -> None:
    """Also the one that is not there."""
    assert {platform_of(name) for name in (*PROVIDERS, NullSender.provider)} <= {"ios", "android", "web"}


@pytest.mark.parametrize("bucket", range(len(BOUNDS)))
def test_a_bucket_holds_its_upper_end(bucket: int) -> None:
    """As Prometheus counts: `le` is less or equal."""
    latency = Latency()
    latency.add(BOUNDS[bucket])
    latency.add(BOUNDS[bucket] + 1e-6, 2)

    assert (latency.buckets[bucket], latency.buckets[bucket + 1]) == (1, 2)
    assert latency.seconds == pytest.approx(3 * BOUNDS[bucket], abs=1e-5)


def test_answers_are_timed_by_the_turn_that_they_left_in() -> None:
    """Answers of one turn whose requests left in three: each as long as it took."""
    clock, latency = Clock(), Latency()
    watch = Stopwatch(latency, clock.monotonic)
    for first, left_at in ((0, 1_000.0), (10, 1_000.4), (20, 1_000.98)):
        clock.at = left_at
        watch.posting(first)

    clock.at = 1_001.0
    for seq in (25, 3, 12, 11, 9):
        watch.answered(seq)
    watch.turn()

    assert latency.buckets == [0, 1, 0, 0, 4, 0, 0, 0]
    assert latency.seconds == pytest.approx(0.02 + 2 * 0.6 + 2 * 1.0)


def test_a_stopwatch_agrees_with_timing_each_request_alone() -> None:
    """Thousands of requests in random turns: the same number, the same sum within what leaves together."""
    chance, clock, latency = random.Random(7), Clock(), Latency()
    watch = Stopwatch(latency, clock.monotonic)
    left: dict[int, float] = {}
    took: list[float] = []
    seq = 0
    while len(took) < 5_000:
        clock.at += chance.random() * 0.02
        for answered in chance.sample(sorted(left), chance.randint(0, len(left))):
            watch.answered(answered)
            took.append(clock.at - left.pop(answered))
        watch.turn()
        n = chance.randint(1, 30)
        watch.posting(seq)
        left |= dict.fromkeys(range(seq, seq + n), clock.at)
        seq += n

    assert sum(latency.buckets) == len(took)
    assert latency.seconds == pytest.approx(sum(took), abs=TOGETHER * len(took))


def test_nothing_answered_costs_nothing() -> None:
    """A turn without answers adds nothing."""
    latency = Latency()
    Stopwatch(latency).turn()

    assert sum(latency.buckets) == 0


def test_statuses_of_a_close_are_the_five() -> None:
    """Dead and in doubt are failures; what has no rows makes no series."""
    totals = Totals()
    totals.answered("apns", 1, 7, 2)
    totals.answered("apns", 1, 0, 0)
    totals.ended(
        1,
        [
            *(("apns", "suppressed", 1), ("apns", "expired", 2), ("apns", "cancelled", 3)),
            *(("apns", "dead", 4), ("apns", "in_doubt", 5), ("fcm", "dead", 0)),
        ],
    )

    assert totals.notifications == {
        ("ios", "high", "success"): 7,
        ("ios", "high", "failed"): 2 + 4 + 5,
        ("ios", "high", "suppressed"): 1,
        ("ios", "high", "expired"): 2,
        ("ios", "high", "cancelled"): 3,
    }
