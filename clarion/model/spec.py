"""What a start carries: the input of CampaignWorkflow and PushWorkflow, the same from every language."""

from __future__ import annotations

import re
from enum import StrEnum
from itertools import pairwise
from typing import Any, Final, Literal, Self

from pydantic import AwareDatetime, Field, field_validator, model_validator

from clarion.limits import INLINE_MESSAGE_BYTES
from clarion.model.audience import MILLIONTHS, Audience
from clarion.model.base import Duration, Id, Model
from clarion.model.message import Message

PERCENT: Final = MILLIONTHS // 100
MAX_STAGES: Final = 20
TAGS_BYTES: Final = 1_500  # the search attribute has room for 2 KiB with its quotes and commas


class Priority(StrEnum):
    """high has queues and processes of its own; normal and low are ordered on theirs."""

    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"

    @property
    def number(self) -> int:
        """The ledger's and Temporal's number: 1, 3, 5."""
        return {"high": 1, "normal": 3, "low": 5}[self.value]


class Guarantee(StrEnum):
    """What happens to a send whose answer is unknown: repeated, or listed as in doubt."""

    AT_LEAST_ONCE = "at_least_once"
    AT_MOST_ONCE = "at_most_once"

    @property
    def number(self) -> int:
        """The ledger's number: 1, 2."""
        return 1 if self is Guarantee.AT_LEAST_ONCE else 2


class _Sending(Model):
    app: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")
    message: Message | None = None
    content: str | None = Field(default=None, pattern=r"^content:[0-9a-f]{64}$")
    audience: Audience
    priority: Priority = Priority.NORMAL
    campaign_kind: Literal["marketing", "transactional", "social"] = "marketing"
    delivery_guarantee: Guarantee = Guarantee.AT_LEAST_ONCE
    # Sends per second, over all lanes and processes.
    pace: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    # Its share of a lane's rate beside other pushes.
    weight: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    send_at: AwareDatetime | None = None
    deadline: AwareDatetime | None = None  # when we stop trying
    # A phone that one provider refuses, or whose credential is blocked, is tried through its next one, once.
    fallback: bool = True
    tags: tuple[str, ...] = ()
    title: str | None = Field(default=None, max_length=200)  # what operators call it; never the message's

    @field_validator("tags")
    @classmethod
    def _tags_fit(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if sum(len(tag.encode()) + 3 for tag in value) > TAGS_BYTES:
            raise ValueError(f"tags are larger than {TAGS_BYTES} bytes together: give fewer or shorter ones")
        return value

    @model_validator(mode="after")
    def _content_is_given_once(self) -> Self:
        if (self.message is None) == (self.content is None):
            raise ValueError("give exactly one of message and content")
        if self.message is not None and self.message.size() > INLINE_MESSAGE_BYTES:
            raise ValueError(
                f"message is larger than {INLINE_MESSAGE_BYTES} bytes: "
                "store it first and start with its content reference"
            )
        if self.send_at and self.deadline and self.deadline <= self.send_at:
            raise ValueError("deadline must be later than send_at")
        return self

    def canonical(self) -> dict[str, Any]:
        """The JSON form without defaults, content always as its reference.

        A start with the message inside and one with its stored reference mean the same and have one digest.
        """
        values = super().canonical()
        if self.message is not None:
            values["content"] = self.message.reference()
            del values["message"]
        return values


class PushSpec(_Sending):
    """One scheduled push. `id` is absent or equals the workflow id without `push/`."""

    id: Id | None = None
    campaign: Id | None = None


class Approval(Model):
    """Nothing is sent until somebody approves the content as it is; not in time: the campaign expires."""

    required: Literal[True] = True
    within: Duration | None = None  # counted from when it begins to wait
    until: AwareDatetime | None = None


class Then(Model):
    """What must be before the next stage: time after this one has ended, somebody's approval, or both."""

    wait: Duration | None = None
    approval: Approval | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if self.wait is None and self.approval is None:
            raise ValueError("then: give wait, approval or both, or leave it out")
        return self


class Stage(Model):
    """A part of a campaign's audience that gets a push of its own. Without a share: everybody who is left."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,31}$")
    share: float | None = Field(default=None, gt=0, le=100, allow_inf_nan=False)  # percent of the audience
    then: Then | None = None

    @model_validator(mode="after")
    def _is_a_stage(self) -> Self:
        if self.share is not None and abs(self.share * PERCENT - round(self.share * PERCENT)) > 1e-6:
            raise ValueError("share: a percentage with at most four decimals")
        if re.fullmatch(r"r[0-9]+", self.name):
            raise ValueError("name: r and a number is what retries are called")
        return self

    @property
    def millionths(self) -> int | None:
        """Its share in the unit of slices."""
        return None if self.share is None else round(self.share * PERCENT)


class CampaignSpec(_Sending):
    """One occurrence of a campaign. `id` is absent or equals the workflow id without `campaign/`."""

    id: Id | None = None
    approval: Approval | None = None
    stages: tuple[Stage, ...] = Field(default=(), max_length=MAX_STAGES)

    @model_validator(mode="after")
    def _stages_are_the_whole(self) -> Self:
        if not self.stages:
            return self
        if self.audience.retry is not None or self.audience.slice is not None:
            raise ValueError("stages: they cut the audience themselves, so it must be no retry and no slice")
        if len({stage.name for stage in self.stages}) < len(self.stages):
            raise ValueError("stages: two have one name")
        if any(stage.share is None for stage in self.stages[:-1]):
            raise ValueError("stages: only the last one may have no share, it gets all that is left")
        if self.stages[-1].then is not None:
            raise ValueError("stages: nothing comes after the last one, so it has no then")
        total = sum(stage.millionths or 0 for stage in self.stages)
        rest = self.stages[-1].share is None
        if total > MILLIONTHS or (rest and total == MILLIONTHS) or (not rest and total < MILLIONTHS):
            raise ValueError(
                f"stages: their shares are {total / PERCENT:g} % together: make them 100, "
                "or less with a last stage that has no share"
            )
        return self

    def slices(self) -> list[tuple[int, int]]:
        """Start and end of each push's slice of the audience, in millionths; they are the whole."""
        edges = [0]
        for stage in self.stages:
            edges.append(MILLIONTHS if stage.millionths is None else edges[-1] + stage.millionths)
        return list(pairwise(edges)) or [(0, MILLIONTHS)]

    def push_id(self, campaign_id: str, stage: int) -> str:
        """What the push of a stage is called; a campaign without stages has one, called as itself."""
        return f"{campaign_id}.{self.stages[stage].name}" if self.stages else campaign_id

    def push(self, campaign_id: str, stage: int = 0) -> PushSpec:
        """The spec of the push of one stage."""
        values: dict[str, Any] = self.model_dump(exclude={"id", "approval", "stages"}, exclude_unset=True)
        start, end = self.slices()[stage]
        if (start, end) != (0, MILLIONTHS):
            values["audience"] |= {"slice": {"of": campaign_id, "start": start, "end": end}}
        if self.stages and self.title:
            values["title"] = f"{self.title} ({self.stages[stage].name})"[:200]
        named = {"id": self.push_id(campaign_id, stage), "campaign": campaign_id}
        return PushSpec.model_validate(values | named)
