"""The figures of `make bench`: none without a bar, none missing unseen, a missed bar with its factor."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks.bench import figures
from benchmarks.bench.figures import FIGURES, Figure, Results, Row, least, most

RATE = Figure("part", "rate", "requests/s", least(100))
COST = Figure("part", "cost", "µs", most(20))


def row(figure: Figure, **seen: float) -> Row:
    """What became of one figure in a run that saw these."""
    return figures.rows(Results(values=seen), ["part"], [figure])[0]


def test_every_figure_has_a_bar_and_a_name_of_its_own() -> None:
    """A bar that is null would hold whatever was measured."""
    assert all(figure.bar is not None for figure in FIGURES)
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)


@pytest.mark.parametrize(
    ("figure", "value", "verdict"),
    [
        (RATE, 100.0, "holds"),
        (RATE, 50.0, "missed, by a factor of 2.00"),
        (COST, 20.0, "holds"),
        (COST, 30.0, "missed, by a factor of 1.50"),
        (RATE, math.nan, "MISSING"),
    ],
    ids=["just fast enough", "half as fast", "just cheap enough", "half as dear again", "no number"],
)
def test_a_bar_is_kept_or_missed(figure: Figure, value: float, verdict: str) -> None:
    """At least or at most, its bound included."""
    assert row(figure, **{figure.name: value}).verdict == verdict


def test_a_missing_figure_and_a_missing_bar_fail_the_run() -> None:
    """An excused one does not: its toolchain is not there."""
    barless = Figure("part", "barless", "s", None)
    excused = Row(RATE, None, "no go on this machine")

    assert row(RATE).fault == "rate: the figure is missing"
    assert row(barless, barless=1.0).fault == "barless: there is no bar"
    assert excused.fault is None
    assert excused.verdict == "not there: no go on this machine"


def test_a_value_that_nobody_asked_for_is_found() -> None:
    """A figure whose name was changed in one place only."""
    assert figures.unknown(Results(values={"rate": 1.0, "raet": 2.0}), [RATE]) == ["raet"]


def test_only_the_parts_asked_for_are_owed() -> None:
    """`ONLY=apns` owes nothing of the others."""
    assert {row.figure.part for row in figures.rows(Results(), ["apns", "stop"])} == {"apns", "stop"}


def test_results_are_written_as_json(tmp_path: Path) -> None:
    """A list of {name, value, unit, bar, holds}; the bar says its direction."""
    figures.write(tmp_path / "results.json", [row(RATE, rate=120.0), row(COST)])

    assert json.loads((tmp_path / "results.json").read_text()) == [
        {"name": "rate", "value": 120.0, "unit": "requests/s", "bar": "≥ 100", "holds": True},
        {"name": "cost", "value": None, "unit": "µs", "bar": "≤ 20", "holds": None},
    ]
