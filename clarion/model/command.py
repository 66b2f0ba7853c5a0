"""An operator's words to a push or campaign, and what comes back: inputs and results of the updates.

`command_id` makes a word repeatable: the same one again acts once and gets the same answer. (An update's own
id will not do: Temporal answers a repeated update id with what it stored, also if that was a failure.)
`if_version` makes a word conditional: it is refused when somebody has said something since.
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AwareDatetime, Field, field_validator, model_validator

from clarion.limits import INLINE_MESSAGE_BYTES
from clarion.model.base import Id, Model
from clarion.model.message import Message

Reason = Annotated[str, Field(max_length=400)]
OF_THE_MACHINE = ("localtime", "posixrules", "Factory")  # names of no place, another zone on each machine
FinalState = Literal["rejected", "expired", "cancelled", "dead", "in_doubt"]


class CancelMode(StrEnum):
    """now: nothing more starts; drain: batches already begun finish."""

    NOW = "now"
    DRAIN = "drain"


class Word(Model):
    """What every word of an operator carries."""

    by: str = Field(default="", max_length=100)
    command_id: str | None = Field(default=None, max_length=200)
    if_version: int | None = Field(default=None, ge=0)  # refused if the control row has a newer one


class PauseInput(Word):
    """Start nothing more until `resume`."""

    reason: Reason = ""


class ResumeInput(Word):
    """Go on where it stood."""


class CancelInput(Word):
    """End the push and close its books."""

    mode: CancelMode = CancelMode.NOW
    reason: Reason = ""


class SetPaceInput(Word):
    """Sends per second from now on; null removes the limit."""

    pace: float | None = Field(default=None, gt=0, allow_inf_nan=False)


class EditMessageInput(Word):
    """New content for all that is not sent yet: the message (8 KB at most), or a stored one's reference."""

    message: Message | None = None
    content: str | None = Field(default=None, pattern=r"^content:[0-9a-f]{64}$")
    reason: Reason = ""

    @model_validator(mode="after")
    def _content_is_given_once(self) -> Self:
        if (self.message is None) == (self.content is None):
            raise ValueError("give exactly one of message and content")
        if self.message is not None and self.message.size() > INLINE_MESSAGE_BYTES:
            raise ValueError(
                f"message is larger than {INLINE_MESSAGE_BYTES} bytes: "
                "store it first and give its content reference (`clarion push edit` does both)"
            )
        return self


class _Moment(Word):
    """A word with a moment in it: with an offset, or local time and the zone's name beside it."""

    zone: str | None = Field(default=None, max_length=64)  # IANA name, e.g. Europe/Zurich

    @field_validator("zone")
    @classmethod
    def _zone_is_known(cls, value: str | None) -> str | None:
        if value is not None:
            zone_named(value)
        return value

    def _aware(self, moment: datetime) -> datetime:
        if moment.tzinfo is not None and self.zone is not None:
            raise ValueError("give an offset in the time or a zone beside it, not both")
        if moment.tzinfo is None and self.zone is None:
            raise ValueError("a time needs an offset (2027-03-01T09:00:00+01:00) or a zone beside it")
        # An hour that the clocks skip is taken an hour later, one that they repeat the first time.
        zoned = moment.replace(tzinfo=zone_named(self.zone)) if self.zone is not None else moment
        try:
            return zoned.astimezone(UTC)
        except OverflowError:
            raise ValueError("the time is outside the years 1 to 9999") from None


class RescheduleInput(_Moment):
    """When a push that has not started yet shall start instead."""

    send_at: datetime

    @model_validator(mode="after")
    def _has_an_offset(self) -> Self:
        self.moment()
        return self

    def moment(self) -> datetime:
        """The moment, in UTC."""
        return self._aware(self.send_at)


class ExtendDeadlineInput(_Moment):
    """Until when it is tried from now on."""

    deadline: datetime

    @model_validator(mode="after")
    def _has_an_offset(self) -> Self:
        self.moment()
        return self

    def moment(self) -> datetime:
        """The moment, in UTC."""
        return self._aware(self.deadline)


class ApproveInput(Word):
    """Let a campaign that waits for approval go. `content`: what was approved, refused if it is another."""

    content: str | None = Field(default=None, pattern=r"^content:[0-9a-f]{64}$")
    reason: Reason = ""


class RejectInput(Word):
    """End a campaign that waits for approval: nothing of it is sent."""

    reason: Reason = ""


class UnblockInput(Model):
    """Open the blocked credentials that it waits for, or the one of this lane."""

    lane: int | None = Field(default=None, ge=0)
    by: str = Field(default="", max_length=100)


class RetryInput(Model):
    """Try again those deliveries of a closed push that ended in these states, for these reasons.

    `reasons`: names as `explain` shows them, with or without the part before the colon; none: any.
    """

    states: tuple[FinalState, ...] = Field(default=("rejected", "dead"), min_length=1)
    reasons: tuple[str, ...] = Field(default=(), max_length=100)
    deadline: AwareDatetime | None = None
    by: str = Field(default="", max_length=100)
    command_id: str | None = Field(default=None, max_length=200)


class CommandAnswer(Model):
    """The word as it stands in the control row after the command's commit."""

    version: int
    hold: str  # none | draining | paused | closing
    already: bool = False  # it was so before: nothing was changed
    note: str | None = None  # what else it has changed, e.g. that an approval is void


class UnblockAnswer(Model):
    """What was opened, in words; nothing: no lane that it waits for was blocked."""

    opened: tuple[str, ...] = ()


class RetryAnswer(Model):
    """The push that tries again. `already`: the same command had made it before."""

    push_id: Id
    retry_of: Id
    audience: int  # deliveries that it takes over
    already: bool = False


def zone_named(name: str) -> ZoneInfo:
    """The zone of an IANA name. Raises ValueError."""
    try:
        if name in OF_THE_MACHINE:
            raise ValueError
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name[:64]!r} is no time zone: give an IANA name like Europe/Zurich or Asia/Taipei"
        ) from None


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
    fell_back: int = 0  # of its audience: phones that another provider had refused
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
    audience: int = 0  # each phone once, also one that was tried through two providers
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
