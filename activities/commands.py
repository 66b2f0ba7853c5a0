"""An operator's word, written: one transaction over the control row and the audit."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from temporalio import activity

from activities.parcel import Parcel
from clarion import limits
from clarion.model.command import CommandAnswer
from clarion.store import push as pushes
from clarion.store.database import Database


class CommandInput(Parcel):
    """What is said to one push. `command_id` makes it repeatable; `way`: update, signal, clarion."""

    push_no: int
    command_id: UUID
    who: str
    what: str  # pause | resume | drain | close | set
    way: str = "update"
    args: dict[str, Any] = {}


class CampaignCommandInput(Parcel):
    """What is said to every open push of a campaign, in one statement."""

    app: str
    campaign_id: str
    command_id: UUID
    who: str
    what: str
    way: str = "update"
    args: dict[str, Any] = {}


class CampaignCommandResult(Parcel):
    """The answer of each open push, or why it refused."""

    answers: dict[str, CommandAnswer | str] = {}


class Commands:
    """Commands are in force when the activity returns: every STEP reads the control row."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @activity.defn(name="command")
    async def command(self, input: CommandInput) -> CommandAnswer:
        """Change the control row; the same id again gives the same answer.

        Fails for good with CommandRefused when the push is in a state that forbids it.
        """
        return await self._db.persist(
            lambda: pushes.command(
                self._db,
                input.push_no,
                input.command_id,
                input.who,
                input.what,
                input.args,
                way=input.way,
            ),
            patience=limits.OPS_TIMEOUT - 1,
        )

    @activity.defn(name="command_campaign")
    async def command_campaign(self, input: CampaignCommandInput) -> CampaignCommandResult:
        """The same to every open push of a campaign."""
        answers = await self._db.persist(
            lambda: pushes.command_campaign(
                self._db,
                input.app,
                input.campaign_id,
                input.command_id,
                input.who,
                input.what,
                input.args,
                way=input.way,
            ),
            patience=limits.OPS_TIMEOUT - 1,
        )
        return CampaignCommandResult(answers=answers)
