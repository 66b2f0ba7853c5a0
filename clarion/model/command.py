"""An operator's words to a push or campaign, and what comes back: inputs and results of the updates.

`command_id` makes a word repeatable: the same one again acts once and gets the same answer. (An update's own
id will not do: Temporal answers a repeated update id with what it stored, also if that was a failure.)
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any

from pydantic import Field

from clarion.model.base import Model


class CancelMode(StrEnum):
    """now: nothing more starts; drain: batches already begun finish."""

    NOW = "now"
    DRAIN = "drain"


class PauseInput(Model):
    """Start nothing more until `resume`."""

    reason: str = Field(default="", max_length=400)
    by: str = Field(default="", max_length=100)
    command_id: str | None = Field(default=None, max_length=200)


class ResumeInput(Model):
    """Go on where it stood."""

    by: str = Field(default="", max_length=100)
    command_id: str | None = Field(default=None, max_length=200)


class CancelInput(Model):
    """End the push and close its books."""

    mode: CancelMode = CancelMode.NOW
    reason: str = Field(default="", max_length=400)
    by: str = Field(default="", max_length=100)
    command_id: str | None = Field(default=None, max_length=200)


class SetPaceInput(Model):
    """Sends per second from now on; null removes the limit."""

    pace: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    by: str = Field(default="", max_length=100)
    command_id: str | None = Field(default=None, max_length=200)


class CommandAnswer(Model):
    """The word as it stands in the control row after the command's commit."""

    version: int
    hold: str  # none | draining | paused | closing
    already: bool = False  # it was so before: nothing was changed


class LaneProgress(Model):
    """Counts of one lane of a push, and what it waits for."""

    lane: int
    provider: str
    audience: int = 0
    planned: int = 0
    retry: int = 0
    accepted: int = 0
    rejected: int = 0
    suppressed: int = 0
    expired: int = 0
    cancelled: int = 0
    dead: int = 0
    in_doubt: int = 0
    redo: int = 0
    maybe: int = 0
    blocked: str | None = None  # the reason
    cooling: bool = False
    senders: int = 0


class PushProgress(Model):
    """A push at one moment, from the ledger."""

    push_id: str
    campaign_id: str | None = None
    phase: str  # scheduled | running | closing | closed
    hold: str = "none"
    hold_by: str | None = None
    hold_reason: str | None = None
    verdict: str | None = None  # completed | cancelled | expired | failed
    pace: float | None = None
    audience: int = 0
    ranges_to_freeze: int = 0  # the audience is still being written while this is not 0
    estimated_audience: int | None = None
    invalid_tokens: int = 0  # registrations that its answers retired, or will
    lanes: tuple[LaneProgress, ...] = ()
    started_at: datetime | None = None
    send_at: datetime | None = None
    deadline: datetime | None = None
    closed_at: datetime | None = None
    at: datetime
    result: dict[str, Any] | None = None

    def total(self, name: str) -> int:
        """One count over all lanes."""
        return sum(getattr(lane, name) for lane in self.lanes)
