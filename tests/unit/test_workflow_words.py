"""What people read of a push, and what they may write: starts, inputs, details, failures, log lines."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog
from temporalio.exceptions import ApplicationError

from activities.faults import ours
from clarion.errors import BadSpec, StoreUnavailable
from clarion.model.command import CancelInput, LaneProgress, PauseInput, PushProgress, SetPaceInput
from clarion.model.spec import PushSpec
from workers import logs
from workflows.details import details, label, status
from workflows.start import read_start, read_words

AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
SPEC = {"app": "shop", "message": {"texts": {"default": {"title": "x"}}}, "audience": {"everybody": True}}


def progress(**more: Any) -> PushProgress:
    """A push in the middle of its work."""
    lanes = (
        LaneProgress(lane=1, provider="apns", audience=900_000, accepted=450_000, planned=450_000, senders=1),
        LaneProgress(lane=2, provider="fcm", audience=100, rejected=7, retry=93),
    )
    values = {"push_id": "spring", "phase": "running", "lanes": lanes, "at": AT}
    return PushProgress.model_validate(values | more)


def test_a_start_with_a_spec_and_one_with_only_an_id() -> None:
    """The id of the workflow is the push's; a spec is new, an id alone goes on."""
    new = read_start(PushSpec, "push/", "push/spring", [SPEC | {"id": "spring"}])
    again = read_start(PushSpec, "push/", "push/spring", [{"id": "spring"}])

    assert (new.id, new.spec is not None) == ("spring", True)
    assert (again.id, again.spec) == ("spring", None)


@pytest.mark.parametrize(
    ("kind", "given", "short", "field", "value"),
    [
        (PauseInput, None, "reason", "reason", ""),
        (PauseInput, "a typo", "reason", "reason", "a typo"),
        (PauseInput, {"by": "ada"}, "reason", "by", "ada"),
        (CancelInput, "drain", "mode", "mode", "drain"),
        (SetPaceInput, 12.5, "pace", "pace", 12.5),
        (SetPaceInput, {"pace": None}, "pace", "pace", None),
    ],
)
def test_words_are_read_as_people_type_them(
    kind: Any, given: Any, short: str, field: str, value: Any
) -> None:
    """An object, nothing, or the one value that matters."""
    assert getattr(read_words(kind, given, short=short), field) == value


@pytest.mark.parametrize("given", [["x"], {"nonsense": 1}, 7, {"reason": "x" * 401}])
def test_other_words_are_refused(given: Any) -> None:
    """With a failure that Temporal hands to who asked, not with a crash."""
    with pytest.raises(ApplicationError):
        read_words(PauseInput, given, short="reason")


def test_details_keep_their_columns_in_a_fenced_block() -> None:
    """Counts by lane and in sum, aligned; what is nought everywhere is left out."""
    text = details(progress(), rate=9_000)

    table = text.split("```")[1].strip("\n").splitlines()
    assert len({len(line) for line in table}) == 1
    assert table[1].split() == ["audience", "900,000", "100", "900,100"]
    assert "dead" not in text
    assert "now 9,000/s" in text
    assert "done at about 2026-11-25 12:00:50 UTC" in text


def test_details_say_what_stands_in_the_way_and_what_can_be_done() -> None:
    """Hold and its reason, blocked lanes, lanes without a sender, the last error, the next step."""
    blocked = LaneProgress(lane=1, provider="apns", blocked="apns:BadCertificate", planned=5)
    lonely = LaneProgress(lane=2, provider="fcm", planned=5)
    text = details(
        progress(hold="paused", hold_by="ada", hold_reason="a typo", lanes=(blocked, lonely)),
        error="b7: it broke",
    )

    assert "**paused** by ada: a typo" in text
    assert "**blocked** (apns:BadCertificate)" in text
    assert "Lane 2 (fcm): **no sender**" in text
    assert "Last error: b7: it broke" in text
    assert "`resume` or `cancel`" in text


@pytest.mark.parametrize(
    ("more", "word", "attribute"),
    [
        ({"phase": "scheduled", "lanes": ()}, "scheduled", "scheduled"),
        ({"ranges_to_freeze": 2, "lanes": ()}, "preparing", "running"),
        ({}, "sending", "running"),
        ({"lanes": (LaneProgress(lane=1, provider="fcm", retry=3),)}, "waiting for retries", "running"),
        ({"hold": "draining"}, "draining", "draining"),
        ({"phase": "closing", "hold": "closing"}, "closing", "closing"),
        ({"phase": "closed", "verdict": "expired"}, "expired", "expired"),
    ],
)
def test_labels_are_computed_from_phase_hold_and_counts(
    more: dict[str, Any], word: str, attribute: str
) -> None:
    """One word for people, one of a fixed few for the search attribute."""
    assert (label(progress(**more)), status(progress(**more))) == (word, attribute)


def test_a_foreign_exception_leaves_type_and_place_only() -> None:
    """Its text may carry a URL with a token, or a row of a table."""
    try:
        int("token hunter2")
    except ValueError as error:
        failure = ours(error)

    assert failure.type == "ValueError"
    assert "test_workflow_words.py" in failure.message
    assert "hunter2" not in failure.message
    assert not failure.non_retryable


def test_our_own_exceptions_keep_their_words() -> None:
    """What cannot change by asking again is not asked again."""
    wrong, away = ours(BadSpec("no title")), ours(StoreUnavailable())

    assert (wrong.message, wrong.type, wrong.non_retryable) == ("no title", "BadSpec", True)
    assert (away.type, away.non_retryable) == ("StoreUnavailable", False)


def test_log_lines_carry_no_foreign_text() -> None:
    """An exception is logged as its type and place, ours with its words."""
    handler = logging.StreamHandler()
    lines: list[str] = []
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    before = logging.getLogger().handlers[:], logging.getLogger().level
    try:
        logs.configure("test")
        handler.setFormatter(logging.getLogger().handlers[0].formatter)
        logging.getLogger().handlers[:] = [handler]
        for error in (ValueError("token hunter2"), BadSpec("no title")):
            try:
                raise error
            except Exception:
                logging.getLogger("somebody.elses").exception("it broke")
                structlog.get_logger("ours").exception("it broke")
    finally:
        logging.getLogger().handlers[:], level = before
        logging.getLogger().setLevel(level)
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()

    assert len(lines) == 4
    assert not any("hunter2" in line for line in lines)
    assert sum("ValueError at test_workflow_words.py" in line for line in lines) == 2
    assert sum("no title" in line for line in lines) == 2
