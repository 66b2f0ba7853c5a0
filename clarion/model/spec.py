"""What a start carries: the input of CampaignWorkflow and PushWorkflow, the same from every language."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Literal, Self

from pydantic import AwareDatetime, Field, field_validator, model_validator

from clarion.limits import INLINE_MESSAGE_BYTES
from clarion.model.audience import Audience
from clarion.model.base import Id, Model
from clarion.model.message import Message

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


class CampaignSpec(_Sending):
    """One occurrence of a campaign. `id` is absent or equals the workflow id without `campaign/`."""

    id: Id | None = None

    def push(self, push_id: str, campaign_id: str) -> PushSpec:
        """The spec of the campaign's one push."""
        values: dict[str, Any] = self.model_dump(exclude={"id"}, exclude_unset=True)
        return PushSpec.model_validate(values | {"id": push_id, "campaign": campaign_id})
