"""An operator's word, written: one transaction over the control row and the audit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from temporalio import activity

from activities.parcel import Parcel
from clarion import limits
from clarion.clock import SYSTEM_CLOCK
from clarion.model.command import CommandAnswer, UnblockAnswer
from clarion.senders.check import check_message
from clarion.store import push as pushes
from clarion.store import retry as retries
from clarion.store import unblocking
from clarion.store.database import Database


class CommandInput(Parcel):
    """What is said to one push. `command_id` makes it repeatable; `way`: update, signal, clarion."""

    push_no: int
    command_id: UUID
    who: str
    what: str  # pause | resume | drain | close | set | edit | reschedule | extend
    way: str = "update"
    args: dict[str, Any] = {}


class UnblockCredentialsInput(Parcel):
    """For whose sake: a push's or campaign's workflow id. `lane`: only this one."""

    workflow_id: str
    who: str
    lane: int | None = None


class UnblockCredentialsResult(Parcel):
    """The answer, and the pushes that may go on."""

    answer: UnblockAnswer
    pushes: tuple[str, ...] = ()


async def checked(db: Database, app_no: int, args: Mapping[str, Any]) -> dict[str, Any]:
    """An edit's arguments, complete: its message was rendered for every provider of the app."""
    return await pushes.edited(
        db, app_no, args, lambda message, providers: check_message(message, providers, SYSTEM_CLOCK.time())
    )


class Commands:
    """Commands are in force when the activity returns: every STEP reads the control row."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @activity.defn(name="command")
    async def command(self, input: CommandInput) -> CommandAnswer:
        """Change the control row; the same id again gives the same answer.

        Fails for good with CommandRefused when the push is in a state that forbids it, with BadSpec or
        NotFound when edited content cannot be sent or is not there: nothing was changed then.
        """

        async def obey() -> CommandAnswer:
            args = input.args
            if input.what == "edit":
                app_no = (await pushes.facts(self._db, input.push_no)).app_no
                args = await checked(self._db, app_no, args)
            return await pushes.command(
                self._db, input.push_no, input.command_id, input.who, input.what, args, way=input.way
            )

        return await self._db.persist(obey, patience=limits.OPS_TIMEOUT - 1)

    @activity.defn(name="unblock_credentials")
    async def unblock_credentials(self, input: UnblockCredentialsInput) -> UnblockCredentialsResult:
        """Open the blocked lanes that a push, or the pushes of a campaign, wait for. Repeated: nothing more.

        Fails for good with NotFound.
        """
        noun, _, id = input.workflow_id.partition("/")
        numbers = (
            await retries.of_campaign(self._db, id)
            if noun == "campaign"
            else [await pushes.find(self._db, id)]
        )
        opened, ids = [], []
        for push_no in numbers:
            opened += await unblocking.unblock(self._db, push_no, input.lane, who=input.who, way="update")
            ids.append((await pushes.facts(self._db, push_no)).push_id)
        return UnblockCredentialsResult(answer=UnblockAnswer(opened=tuple(opened)), pushes=tuple(ids))
