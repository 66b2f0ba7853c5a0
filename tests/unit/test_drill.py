"""The drill's pure parts: what a log says of a word, the row that it owes, the table and the last line."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.drill import sight, story
from benchmarks.drill.table import Cell, faults, table, verdict
from benchmarks.drill.way import again, written

ASKED = 1_000.0
WAYS = ("one", "two")


def entries(*moments: float, content: str = "old", token: str = "a") -> list[dict[str, Any]]:
    """Requests so many seconds after the word."""
    return [{"t": ASKED + moment, "content": content, "token": token} for moment in moments]


def every(seconds: float, start: float, end: float) -> list[dict[str, Any]]:
    """A request every so many seconds."""
    return entries(*(start + n * seconds for n in range(round((end - start) / seconds))))


def test_the_last_request() -> None:
    """The latest one after the word; 0 when all came before."""
    assert sight.last(entries(-1.0, 0.2, 0.7), ASKED) == pytest.approx(0.7)
    assert sight.last(entries(-1.0, -0.1), ASKED) == 0.0
    assert sight.last([], ASKED) == 0.0


def test_the_first_request() -> None:
    """The earliest one after the word; None when there is none."""
    assert sight.first(entries(0.9, 0.4, -0.2), ASKED) == pytest.approx(0.4)
    assert sight.first(entries(-0.2), ASKED) is None


def test_by_content() -> None:
    """Only those that carry it."""
    both = entries(0.1) + entries(0.2, content="new")

    assert [entry["t"] - ASKED for entry in sight.with_content(both, "new")] == [pytest.approx(0.2)]


def test_from_when_the_pace_is_kept() -> None:
    """The start of the first second from which all have it."""
    slowed = every(0.01, -1.0, 0.5) + every(0.1, 0.5, 4.0)

    assert sight.slowed(slowed, ASKED, 10.0, ASKED + 4.0) == pytest.approx(0.5, abs=0.11)
    assert sight.slowed(every(0.1, -1.0, 4.0), ASKED, 10.0, ASKED + 4.0) == 0.0


@pytest.mark.parametrize("rate", [0.01, 1.0], ids=["too fast", "too slow"])
def test_a_pace_that_is_not_kept(rate: float) -> None:
    """None: the last second still has another rate."""
    assert sight.slowed(every(rate, -1.0, 4.0), ASKED, 10.0, ASKED + 4.0) is None


def test_a_burst_later_counts() -> None:
    """Kept, then broken, then kept again: the last time is what counts."""
    steady = every(0.1, 0.0, 5.0) + every(0.01, 2.0, 2.2)

    assert sight.slowed(steady, ASKED, 10.0, ASKED + 5.0) == pytest.approx(2.2, abs=0.11)


def test_when_the_last_batch_began() -> None:
    """The first request of each batch; those that had begun before the word may go on for ever."""
    batches = {"a": 1, "b": 2, "c": 2}
    going = entries(-0.5, 3.0, token="a")

    assert sight.begun(going, batches, ASKED) == 0.0
    assert sight.begun(going + entries(0.3, token="b") + entries(9.0, token="c"), batches, ASKED) == (
        pytest.approx(0.3)
    )


@pytest.mark.parametrize(
    ("word", "given", "what"),
    [
        ("pause", {}, "pause"),
        ("set_pace", {"pace": 1}, "set"),
        ("edit_message", {}, "edit"),
        ("cancel", {"mode": "now"}, "close"),
        ("cancel", {"mode": "drain"}, "drain"),
    ],
)
def test_what_the_audit_calls_a_word(word: str, given: dict[str, Any], what: str) -> None:
    """As the control row's words are called."""
    assert written(word, given) == what


def test_a_retry_by_a_plain_start() -> None:
    """The spec, with the closed push's rows in place of its audience."""
    spec = {"app": "demo", "audience": {"everybody": True}}

    assert again("old", "dead", None, spec)["audience"] == {"retry": {"push": "old", "states": ["dead"]}}
    assert again("old", "dead", "x:Y", spec)["audience"]["retry"]["reasons"] == ["x:Y"]
    assert spec["audience"] == {"everybody": True}


def test_the_bar() -> None:
    """Both within two seconds, and no fault."""
    assert Cell(2.0, 2.0).holds
    assert not Cell(2.1, 0.1).holds
    assert not Cell(0.1, 2.1).holds
    assert not Cell(fault="no").holds


ROWS = (
    ("pause", [Cell(0.1, 0.25, "update, ada"), Cell(0.2, 2.5)]),
    ("explain", [Cell(0.3, 0.3), Cell(reason="it is not there because it is nowhere else")]),
    ("drain", [Cell(fault="AssertionError: x"), Cell(0.1, 0.1)]),
)


def test_the_table() -> None:
    """A row a story: seconds, audit, what is late or failed, and why a cell is empty."""
    drawn = table(WAYS, ROWS)

    assert "0.10 / 0.25 s" in drawn
    assert "update, ada" in drawn
    assert "0.20 / 2.50 s  SLOW" in drawn
    assert "– it is not there because" in drawn
    assert "FAILED" in drawn
    assert faults(WAYS, ROWS) == ["drain, one: AssertionError: x"]


def test_the_last_line() -> None:
    """Cells that were tried, those that were late or failed, and the slowest of those that were answered."""
    assert verdict(ROWS) == ("drill: stories=3 ways=5 failed=2 slowest=2.50s", False)
    assert verdict(ROWS, 1)[0] == "drill: stories=3 ways=5 failed=3 slowest=2.50s"
    assert verdict(ROWS[1:2]) == ("drill: stories=1 ways=1 failed=0 slowest=0.30s", True)
    assert not verdict(ROWS[1:2], 1)[1]


def test_all_stories_are_played() -> None:
    """Fourteen, each once, and an empty cell names one of them."""
    assert len(story.STORIES) == 14
    assert sorted(story.PLAYED) == sorted(story.STORIES)
    assert {name for name, _ in story.EMPTY} <= set(story.STORIES)
