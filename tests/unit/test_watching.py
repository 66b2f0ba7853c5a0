"""The live view: rates, ETA, and what a push waits for in a few words."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

from rich.console import Console

from clarion.model.command import LaneProgress, PushProgress
from starters import watching
from starters.watching import Speed, done, eta, expected, status

NOW = datetime(2026, 11, 25, tzinfo=UTC)


def progress(**changes: Any) -> PushProgress:
    """A push in the middle: 1,000 phones, 400 done."""
    lane = LaneProgress(
        lane=1, provider="apns", audience=1_000, planned=590, retry=10, accepted=400, senders=2
    )
    lane = lane.model_copy(
        update={k: changes.pop(k) for k in list(changes) if k in LaneProgress.model_fields}
    )
    values = {"push_id": "spring", "phase": "running", "audience": 1_000, "lanes": (lane,), "at": NOW}
    return PushProgress(**(values | changes))


def test_the_rate_looks_back_a_few_seconds() -> None:
    """A push that stood still an hour ago shows the speed it has now."""
    speed = Speed()
    for second in range(20):
        rate = speed.note(100.0 + second, 0 if second < 10 else (second - 9) * 1_000)

    assert rate == 1_000


def test_eta_in_words() -> None:
    """Seconds, minutes, hours; nothing when it stands still."""
    push = progress()
    assert eta(push, 600) == "1 s"
    assert eta(push, 6) == "1 min 40 s"
    assert eta(push, 0.1) == "1 h 40 min"
    assert eta(push, 0) == ""
    assert eta(progress(hold="paused"), 600) == ""


def test_what_it_waits_for() -> None:
    """The reason stands beside the word."""
    assert status(progress()) == "running"
    assert status(progress(hold="paused", hold_by="ann", hold_reason="typo")) == "paused by ann: typo"
    assert status(progress(blocked="apns:InvalidProviderToken")) == (
        "running, apns blocked: apns:InvalidProviderToken"
    )
    assert status(progress(senders=0)) == "running, no apns sender"
    assert status(progress(cooling=True)) == "running, apns cooling"
    assert status(progress(phase="closed", verdict="cancelled")) == "cancelled"


def test_the_total_is_an_estimate_while_the_audience_is_frozen() -> None:
    """The bar does not run backwards when the next range is written."""
    assert expected(progress(ranges_to_freeze=1, estimated_audience=5_000)) == 5_000
    assert expected(progress(ranges_to_freeze=0, estimated_audience=5_000)) == 1_000
    assert done(progress()) == 400


async def test_without_a_terminal_it_prints_lines_and_ends_with_the_push() -> None:
    """A log gets a line when something changes, and the last one when it is closed."""
    looks = [
        progress(),
        progress(hold="paused", hold_reason="typo"),
        progress(phase="closed", verdict="completed"),
    ]
    watching.LOOK_EVERY = 0.001
    out = io.StringIO()

    async def look() -> list[PushProgress]:
        return [looks.pop(0)]

    last = await watching.watch(Console(file=out, width=200), look)

    lines = out.getvalue().splitlines()
    assert [line.split(" · ")[0] for line in lines] == [
        "spring: running",
        "spring: paused: typo",
        "spring: completed",
    ]
    assert "accepted 400" in lines[0]
    assert last[0].verdict == "completed"


async def test_on_a_terminal_there_is_a_bar() -> None:
    """The picture comes first: a bar with percent, count and rate, the outcomes below."""
    looks = [progress(), progress(phase="closed", verdict="completed")]
    watching.LOOK_EVERY = 0.001
    out = io.StringIO()

    async def look() -> list[PushProgress]:
        return [looks.pop(0)]

    await watching.watch(Console(file=out, width=120, force_terminal=True), look)

    assert "400 of 1,000" in out.getvalue()
    assert "40%" in out.getvalue()
