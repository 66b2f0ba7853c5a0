"""What an operator may say, as it travels: moments with their zones, content given once, retries."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from clarion.model import command
from clarion.model.command import EditMessageInput, ExtendDeadlineInput, RescheduleInput, RetryInput

MOMENTS = [
    ("2027-03-01T09:00:00+01:00", None, datetime(2027, 3, 1, 8, tzinfo=UTC)),
    ("2027-03-01T09:00:00Z", None, datetime(2027, 3, 1, 9, tzinfo=UTC)),
    ("2027-03-01T09:00", "Asia/Taipei", datetime(2027, 3, 1, 1, tzinfo=UTC)),
    ("2027-03-01T09:00:00", "Asia/Calcutta", datetime(2027, 3, 1, 3, 30, tzinfo=UTC)),
    # The clocks skip 02:00 to 03:00 that day: an hour later, 03:30 in summer time.
    ("2027-03-28T02:30:00", "Europe/Zurich", datetime(2027, 3, 28, 1, 30, tzinfo=UTC)),
    # And they repeat 01:00 to 02:00 on this one: the first time.
    ("2027-11-07T01:30:00", "America/New_York", datetime(2027, 11, 7, 5, 30, tzinfo=UTC)),
]


@pytest.mark.parametrize(
    ("text", "zone", "moment"), MOMENTS, ids=["offset", "Z", "taipei", "old name", "gap", "fold"]
)
def test_a_moment(text: str, zone: str | None, moment: datetime) -> None:
    """With an offset, or local in a zone, of old name or new; one moment also where the clocks change."""
    for kind, field in ((RescheduleInput, "send_at"), (ExtendDeadlineInput, "deadline")):
        assert kind.model_validate({field: text, "zone": zone}).moment() == moment


@pytest.mark.parametrize(
    ("text", "zone", "said"),
    [
        ("2027-03-01T09:00:00", None, "needs an offset"),
        ("2027-03-01T09:00:00Z", "Asia/Taipei", "not both"),
        ("2027-03-01T09:00:00", "Mars/Base", "IANA name"),
        ("2027-03-01T09:00:00", "", "IANA name"),
        ("2027-03-01T09:00:00", "/etc/localtime", "IANA name"),
        ("2027-03-01T09:00:00", "Asia", "IANA name"),
        ("2027-03-01T09:00:00", "x" * 65, "64 characters"),
        ("0001-01-01T00:00:00", "Asia/Tokyo", "outside the years"),
        ("soon", None, "valid datetime"),
    ],
    ids=["naive", "both", "mars", "empty", "a path", "a directory", "long", "year 0", "no time"],
)
def test_no_moment(text: str, zone: str | None, said: str) -> None:
    """Refused with what to give instead."""
    with pytest.raises(ValidationError, match=said):
        RescheduleInput.model_validate({"send_at": text, "zone": zone})


@given(st.text(max_size=40))
def test_any_zone_name_is_a_zone_or_a_value_error(name: str) -> None:
    """Nothing that somebody types as a zone raises anything else."""
    try:
        command.zone_named(name)
    except ValueError as error:
        assert "IANA" in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"message": {"texts": {"default": {"title": "x"}}}, "content": f"content:{'0' * 64}"},
        {"message": {"texts": {"default": {"title": "x" * 9_000}}}},
        {"content": "content:0"},
    ],
    ids=["nothing", "both", "too large", "no reference"],
)
def test_content_is_given_once_and_fits(given: dict[str, Any]) -> None:
    """A message of 8 KB at most, or a reference."""
    with pytest.raises(ValidationError):
        EditMessageInput.model_validate(given)


@pytest.mark.parametrize("states", [[], ["accepted"], ["planned"], ["suppressed"], "dead"])
def test_only_failures_are_retried(states: Any) -> None:
    """What arrived, what is open and what was kept back on purpose is not."""
    with pytest.raises(ValidationError):
        RetryInput.model_validate({"states": states})
