"""A campaign's row, as its workflow asks it and as an operator's word changes it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from temporalio import activity

from activities.parcel import Parcel
from clarion import limits, names
from clarion.clock import SYSTEM_CLOCK
from clarion.model.campaign import CampaignProgress
from clarion.model.command import CommandAnswer
from clarion.model.message import Message
from clarion.model.spec import CampaignSpec, PushSpec
from clarion.senders.check import check_message
from clarion.store import campaign as campaigns
from clarion.store.database import Database


class OpenCampaignInput(Parcel):
    """A campaign to open, or to compare with the one that has this id."""

    campaign_id: str
    spec: CampaignSpec
    asked_at: datetime | None = None  # when the start was asked for: a new one is not planned before that
    who: str | None = None  # has started it


class OpenCampaignResult(Parcel):
    """new, open or closed."""

    opened: str


class AdvanceInput(Parcel):
    """Which campaign."""

    campaign_id: str


class AdvanceResult(Parcel):
    """How it stands. `push`: its open push. `wait`: seconds until something falls due by itself."""

    progress: CampaignProgress
    push: PushSpec | None = None
    wait: float | None = None


class CampaignCommandInput(Parcel):
    """What is said to a campaign, and so to its open pushes. `command_id` makes it repeatable."""

    campaign_id: str
    command_id: UUID
    who: str
    what: str  # pause | resume | drain | close | set | edit | reschedule | extend | approve | reject
    way: str = "update"
    args: dict[str, Any] = {}


class CampaignCommandResult(Parcel):
    """The answer, and the pushes that it changed: their workflows have to be woken."""

    answer: CommandAnswer
    pushes: tuple[str, ...] = ()


def _check(message: Message, providers: Sequence[str]) -> None:
    check_message(message, providers, SYSTEM_CLOCK.time())


class Campaigns:
    """The way of a campaign through its stages. All of it may be repeated."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @activity.defn(name="open_campaign")
    async def open_campaign(self, input: OpenCampaignInput) -> OpenCampaignResult:
        """Insert it. Fails for good with AlreadyExists, NotFound, or BadSpec: nobody could be sent it."""
        opened = await campaigns.open_campaign(
            self._db,
            input.spec,
            input.campaign_id,
            check=_check,
            asked_at=input.asked_at,
            who=input.who or names.OPERATOR,
        )
        return OpenCampaignResult(opened=opened)

    @activity.defn(name="advance_campaign")
    async def advance(self, input: AdvanceInput) -> AdvanceResult:
        """Open the next push or close the books, if that is due; say what it waits for then.

        Fails for good with NotFound, and with AlreadyExists when somebody has taken the next push's id.
        """
        standing = await campaigns.advance(self._db, input.campaign_id)
        return AdvanceResult(progress=standing.progress, push=standing.push, wait=standing.wait)

    @activity.defn(name="command_campaign")
    async def command(self, input: CampaignCommandInput) -> CampaignCommandResult:
        """Change its row and the control rows of its open pushes, in one transaction.

        Fails for good with CommandRefused when it is in a state that forbids it, with BadSpec or NotFound
        when edited content cannot be sent or is not there: nothing was changed then.
        """
        said = await self._db.persist(
            lambda: campaigns.command(
                self._db,
                input.campaign_id,
                input.command_id,
                input.who,
                input.what,
                input.args,
                way=input.way,
                check=_check,
            ),
            patience=limits.OPS_TIMEOUT - 1,
        )
        return CampaignCommandResult(answer=said.answer, pushes=said.pushes)
