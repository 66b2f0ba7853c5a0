"""Close the books of a push: complete, cancel, expire and fail are one procedure."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid5

from temporalio import activity

from activities.faults import ticking
from activities.parcel import Parcel
from activities.registrations import retire
from clarion import names
from clarion.errors import CommandRefused
from clarion.store import measures
from clarion.store import push as pushes
from clarion.store.database import Database
from clarion.store.ledger import Ledger
from clarion.telemetry import TOTALS

LEASES = 0.25  # seconds between two looks while leases run out


class CloseInput(Parcel):
    """With which word the books are closed, and why, if not because everything is done."""

    push_no: int
    verdict: str  # completed | cancelled | expired | failed
    reason: str | None = None


class CloseResult(Parcel):
    """The stored result of a closed push."""

    result: dict[str, Any]


class Closing:
    """The end of a push. Repeated, it finds what is left to do; a closed push gives its result."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._ledger = Ledger(db)

    @activity.defn(name="close_push")
    async def close(self, input: CloseInput) -> CloseResult:
        """Hold the push for ever, let leases run out, book what is open, retire, store the result.

        Never claimed rows become cancelled or expired, claimed and unanswered ones in doubt. Fails for good
        with CommandRefused when it was to expire and its deadline was moved.
        """
        async with ticking():
            await self._hold(input)
            while True:
                await self._close_batches(input.push_no)
                await retire(self._db, input.push_no)
                result, now = await measures.close_push(self._db, input.push_no)
                if result is not None:
                    if now:  # once in its life
                        TOTALS.ended(*await measures.unanswered(self._db, input.push_no))
                    return CloseResult(result=result)
                await asyncio.sleep(LEASES)

    async def _hold(self, input: CloseInput) -> None:
        args = {"verdict": input.verdict} | ({"reason": input.reason} if input.reason else {})
        info = activity.info()
        # Of this call: a push that was kept from expiring may expire later on.
        called = f"{input.push_no}/close/{info.workflow_run_id}/{info.activity_id}"
        command_id = uuid5(names.COMMANDS, called)
        try:
            await pushes.command(self._db, input.push_no, command_id, "clarion", "close", args, way="clarion")
        except CommandRefused:
            if not await pushes.is_closing(self._db, input.push_no):
                raise
            # It closes already, with another word: the first one stands.

    async def _close_batches(self, push_no: int) -> None:
        while True:
            closed = await self._ledger.close(push_no)
            if closed.left_open <= 0:
                return
            if closed.done == 0:
                await asyncio.sleep(LEASES)
