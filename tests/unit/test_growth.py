"""`make growth`: the plan of any size, the model of larger ones, the verdict and the picture."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from benchmarks import growth, plot
from benchmarks.growth import Looks, Size
from benchmarks.plan_model import Model, Planned, Seen
from benchmarks.temporal_cost import TemporalCost


def size(deliveries: int, *, seconds: float, memory: float = 90.0, longest: int = 300) -> Size:
    """What one size took."""
    cost = TemporalCost(workflows=10, events=1_000, actions=200, longest=longest, continued=0)
    batches = Planned.of(deliveries).batches
    return Size(deliveries, batches, seconds, memory, memory, 150.0, cost, Looks())


@pytest.mark.parametrize(
    ("deliveries", "ranges", "batches"),
    [(1, 1, 1), (20_000, 1, 16), (1_000_000, 6, 36), (100_000_000, 105, 3_402)],
)
def test_the_plan_of_any_size(deliveries: int, ranges: int, batches: int) -> None:
    """Ranges double up to a million rows; batches are a sixteenth of the audience, within bounds."""
    assert Planned.of(deliveries) == Planned(deliveries, ranges, batches)


def test_a_forecast_is_the_plan_times_what_a_batch_took() -> None:
    """Runs, events and bytes of a size that did not run; a size that ran otherwise is found."""
    batches = Planned.of(1_000_000).batches
    seen = Seen(1_000_000, batches, runs=2 * batches, events=30 * batches, ledger_bytes=200.0)
    larger = Planned.of(10_000_000).batches

    line = Model([seen]).forecast(10_000_000)

    assert f"{larger:,} batches, about {2 * larger:,} workflow runs, {30 * larger:,} events, 2.0 GB" in line
    assert Model([seen]).holds
    assert not Model([seen, Seen(100_000, 1, 1, 1, 1.0)]).holds


@pytest.mark.parametrize(
    ("larger", "flat"),
    [
        (size(1_000_000, seconds=109.0), "yes"),
        (size(1_000_000, seconds=60.0), "yes"),
        (size(1_000_000, seconds=112.0), "no"),
        (size(1_000_000, seconds=100.0, memory=100.0), "no"),
        (size(1_000_000, seconds=100.0, longest=4_097), "no"),
    ],
    ids=["as long", "sooner", "longer", "more memory", "a long history"],
)
def test_flat_is_within_a_tenth_of_the_size_before(larger: Size, flat: str) -> None:
    """Of seconds a million and memory; and no history that Temporal would have cut."""
    line, holds = growth.verdict([size(100_000, seconds=10.0), larger])

    assert line.endswith(f"flat={flat}")
    assert holds == (flat == "yes")


def test_the_picture_is_svg_with_a_line_each() -> None:
    """It has the names of its lines and the sizes below."""
    drawn = ElementTree.fromstring(
        growth.picture([size(100_000, seconds=9.0), size(1_000_000, seconds=90.0)])
    )
    words = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]

    assert {"seconds a million", "a sender's memory, MB", "100,000", "1,000,000"} <= set(words)
    assert len(list(drawn.iter("{http://www.w3.org/2000/svg}polyline"))) == 3


def test_names_in_a_picture_are_escaped() -> None:
    """A name is a text, whatever is in it."""
    drawn = ElementTree.fromstring(plot.chart("<a & b>", [1.0], [plot.Line("x < y", [3.0])]))

    assert "x < y" in [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
