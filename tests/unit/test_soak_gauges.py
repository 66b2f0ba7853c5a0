"""`make soak`: what counts as growth, and of which minutes."""

from __future__ import annotations

import pytest

from benchmarks.soak.gauges import Gauges, grown


def gauges(length: float, value_at: dict[str, tuple[float, float]]) -> Gauges:
    """A run of so many seconds whose gauges stood at the first value in its first half, then at the other."""
    made = Gauges()
    for name, (first, second) in value_at.items():
        made.samples[name] = [(at, first if at < length / 2 else second) for at in range(0, int(length), 10)]
    return made


@pytest.mark.parametrize("length", [1_800.0, 360.0], ids=["half an hour", "six minutes"])
def test_early_and_late_minutes_are_compared(length: float) -> None:
    """Minutes 5 to 10 with the last five, or the same shares of a shorter run."""
    seen = gauges(length, {"memory, MB": (100.0, 130.0), "backlog": (5.0, 5.0)}).growth(length)

    assert seen == {"memory, MB": (100.0, 130.0), "backlog": (5.0, 5.0)}


@pytest.mark.parametrize(
    ("name", "early", "late", "grows"),
    [
        ("memory, MB", 100.0, 109.0, False),
        ("memory, MB", 100.0, 115.0, True),
        ("connections", 20.0, 23.0, False),
        ("connections", 20.0, 24.0, True),
        ("backlog", 1.0, 15.0, False),
        ("dead tuples", 40_000.0, 46_000.0, True),
    ],
)
def test_a_tenth_more_is_growth_unless_it_is_nothing(
    name: str, early: float, late: float, grows: bool
) -> None:
    """A sample that catches one task more is no growth."""
    assert bool(grown({name: (early, late)})) is grows
    assert not grown({name: (late, early)})


def test_what_was_never_sampled_is_not_compared() -> None:
    """A gauge without samples in one of the two spans says nothing."""
    made = Gauges(samples={"backlog": [(1.0, 3.0)]})

    assert made.growth(1_800.0) == {}
