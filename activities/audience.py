"""From a spec to a frozen audience: open the push, plan its ranges, freeze them one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import asyncpg
from temporalio import activity

from activities.faults import ticking
from activities.parcel import Parcel
from clarion.clock import SYSTEM_CLOCK
from clarion.errors import AlreadyExists, StoreFull
from clarion.model.message import Message
from clarion.model.spec import PushSpec
from clarion.senders.check import check_message
from clarion.store import push as pushes
from clarion.store import running
from clarion.store.database import Database
from clarion.telemetry import TOTALS


class OpenInput(Parcel):
    """A push to open; without a spec, one that must be there: its workflow was started again."""

    push_id: str
    spec: PushSpec | None = None
    asked_at: datetime | None = None  # when the start was asked for: a new push is not planned before that
    who: str | None = None  # has started it; None: its campaign


class OpenResult(Parcel):
    """The push's number and what never changes about it. `result`: it was closed before, and how."""

    push_no: int
    app: str
    app_no: int
    priority: int = 3
    campaign_id: str | None = None
    title: str | None = None
    hold: int = 0
    result: dict[str, Any] | None = None


class PlanInput(Parcel):
    """Which push. `fallback`: its audience is frozen and done, now for the phones with another provider.

    `blocked`: what is not done waits in blocked lanes, now for its phones with another provider.
    """

    push_no: int
    fallback: bool = False
    blocked: bool = False


class PlanResult(Parcel):
    """In how many ranges its audience is frozen, and how large it will be, about."""

    ranges: int
    estimated_rows: int = 0


class FreezeInput(Parcel):
    """Which range of which push."""

    push_no: int
    range_no: int


class FreezeResult(Parcel):
    """Rows written by this call; 0 when the range was frozen before or the push is closing."""

    rows: int = 0


def _check(message: Message, providers: Sequence[str]) -> None:
    check_message(message, providers, SYSTEM_CLOCK.time())


@contextmanager
def _room() -> Iterator[None]:
    """Without room nothing is half written, and repeating it would only fill the logs: a person is needed."""
    try:
        yield
    except asyncpg.DiskFullError:
        raise StoreFull from None


class Audiences:
    """The way from a spec to rows in the ledger. All of it may be repeated."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @activity.defn(name="open_push")
    async def open_push(self, input: OpenInput) -> OpenResult:
        """Insert the push or compare it with the one that has this id.

        Fails for good with AlreadyExists (the id has other content), NotFound, or BadSpec: the message cannot
        be sent through some provider of the app to anybody.
        """
        if input.spec is None:
            opened = await running.known(self._db, input.push_id)
        else:
            opened = await pushes.open_push(
                self._db, input.spec, input.push_id, check=_check, asked_at=input.asked_at, who=input.who
            )
        if opened.opened == "different":
            raise AlreadyExists(
                f"push {input.push_id!r} exists with other content: choose another id "
                "(a start with the same spec would have joined it)"
            )
        facts = await pushes.facts(self._db, opened.push_no)
        return OpenResult(
            push_no=opened.push_no,
            app=facts.app,
            app_no=facts.app_no,
            priority=facts.priority,
            campaign_id=facts.campaign_id,
            title=input.spec.title if input.spec else None,
            hold=opened.hold,
            result=opened.result if opened.opened == "closed" else None,
        )

    @activity.defn(name="plan")
    async def plan(self, input: PlanInput) -> PlanResult:
        """Cut the audience into ranges, once. Fails for good with StoreFull: the push is paused, then."""
        with _room():
            if input.blocked:
                return PlanResult(ranges=await pushes.plan_move(self._db, input.push_no))
            if input.fallback:
                return PlanResult(ranges=await pushes.plan_fallback(self._db, input.push_no))
            plan = await pushes.plan(self._db, input.push_no)
        return PlanResult(ranges=plan.ranges, estimated_rows=plan.estimated_rows)

    @activity.defn(name="freeze")
    async def freeze(self, input: FreezeInput) -> FreezeResult:
        """Write the deliveries of one range, in one transaction. Fails for good with StoreFull, as `plan`."""
        with _room():
            async with ticking():
                frozen = await pushes.freeze(self._db, input.push_no, input.range_no)
        TOTALS.ended(frozen.priority, frozen.moved)
        return FreezeResult(rows=frozen.rows)
