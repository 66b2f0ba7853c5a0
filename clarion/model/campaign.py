"""A campaign at one moment: its stages, what it waits for, and what an operator can say to it."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import ConfigDict

from clarion.model.base import Id, Model


class StageProgress(Model):
    """One stage, that is one push; a campaign without stages has one, called as itself."""

    # Processes of two releases tell each other of it while one follows the other.
    model_config = ConfigDict(extra="ignore")

    name: str
    push_id: Id
    share: float | None = None  # percent of the audience; none: all that the others leave
    phase: str = "to come"  # to come | scheduled | running | closing | closed
    hold: str = "none"
    verdict: str | None = None


class CampaignProgress(Model):
    """A campaign, from its row."""

    model_config = ConfigDict(extra="ignore")

    campaign_id: Id
    app: str
    title: str | None = None
    status: str  # pending | sending | completed | cancelled | expired | rejected | failed
    hold: str = "none"  # none | draining | paused | closing
    hold_by: str | None = None
    hold_reason: str | None = None
    waits_for: str | None = None  # approval | time | resume | push
    until: datetime | None = None  # when that wait ends by itself
    version: int = 0
    content: str  # the reference of what it says now
    content_version: int = 1
    approved_by: str | None = None
    approved_at: datetime | None = None
    pace: float | None = None
    deadline: datetime | None = None
    stages: tuple[StageProgress, ...] = ()
    created_at: datetime
    closed_at: datetime | None = None
    at: datetime
    result: dict[str, Any] | None = None

    @property
    def next_stage(self) -> StageProgress | None:
        """The stage that is to be opened next."""
        return next((stage for stage in self.stages if stage.phase == "to come"), None)

    def headline(self) -> str:
        """Its status, and why it ended or what it is doing."""
        why = (self.result or {}).get("reason") if self.closed_at is not None else self.waiting()
        return f"{self.status}: {why}" if why else self.status

    def waiting(self) -> str:
        """What it is doing or waiting for, in a sentence's words."""
        if self.closed_at is not None:
            return self.status
        if self.waits_for == "push":
            at = next(stage for stage in reversed(self.stages) if stage.phase != "to come")
            alone = len(self.stages) == 1
            return self._held("the push" if alone else f"stage {at.name}", at.phase)
        upcoming = self.next_stage
        before = "" if upcoming is None or len(self.stages) == 1 else f" before stage {upcoming.name}"
        moment = f" until {self.until:%Y-%m-%d %H:%M:%S} UTC" if self.until else ""
        if self.waits_for == "approval":
            return f"waits for approval{before}{moment}"
        if self.waits_for == "time":
            return f"waits{before}{moment}"
        return self._held("the campaign", "going on")

    def _held(self, what: str, phase: str) -> str:
        if self.hold == "none":
            return f"{what} is {phase}"
        by = f" by {self.hold_by}" if self.hold_by else ""
        reason = f": {self.hold_reason}" if self.hold_reason else ""
        return f"{self.hold}{by}{reason}"

    def words(self) -> tuple[str, ...]:
        """What an operator can say to it now."""
        if self.closed_at is not None or self.hold == "closing":
            return ()
        held = {"paused": ("resume", "cancel"), "draining": ("resume", "cancel")}.get(
            self.hold, ("pause", "cancel")
        )
        if self.waits_for == "approval":
            return ("approve", "reject", "edit", "reschedule", *held)
        if self.waits_for == "time":
            return ("reschedule", "edit", *held)
        planned = any(stage.phase == "scheduled" for stage in self.stages)
        return (*held, "pace", "edit", *(("reschedule",) if planned else ()))
