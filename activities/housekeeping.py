"""What runs every minute beside the work, in one control process at a time.

Partitions for the days to come, those of days past retention, quota rows of processes that are gone, retire
queues that nobody works off, the schedule that asks providers for feedback, and the watch: an open push or
campaign without a running workflow is paused, by clarion, with the reason.
Nothing is sent again by itself: a person resumes it, which starts its workflow again.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

import structlog
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import WorkflowExecutionStatus
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.common import WorkflowIDConflictPolicy
from temporalio.service import RPCError, RPCStatusCode

from activities.feedback import keep_schedule
from activities.registrations import retire
from clarion import limits, names
from clarion.errors import ClarionError, CommandRefused
from clarion.model.ledger import Hold
from clarion.quota import exchange
from clarion.store import campaign as campaigns
from clarion.store import push as pushes
from clarion.store import retention, running
from clarion.store.database import Database, is_away

log = structlog.get_logger("clarion.housekeeping")

DAYS_AHEAD = 7
RETIRE_PUSHES = 100  # retire queues worked off in one round
ALIVE = ("RUNNING", "PAUSED")  # Temporal's own pause keeps a workflow, too


@dataclass(frozen=True, slots=True)
class _Open:
    """What should have a running workflow. `push_no` of a push; a campaign has none."""

    workflow_type: str
    id: str
    workflow_id: str
    hold: int
    push_no: int | None = None


class Housekeeping:
    """One round a minute, by whoever holds the lock."""

    def __init__(
        self, db: Database, client: Client, *, retention_days: int = 30, unused_days: int = 400
    ) -> None:
        self._db, self._client = db, client
        self._retention_days, self._unused_days = retention_days, unused_days

    async def run(self) -> None:
        """Keep house until cancelled, whatever fails."""
        while True:
            try:
                await self.round()
            except (ClarionError, RPCError, OSError) as error:
                log.warning("housekeeping failed", fault=type(error).__name__)
            except Exception as error:
                if not is_away(error):
                    log.exception("housekeeping failed")
            await asyncio.sleep(limits.HOUSEKEEPING_EVERY)

    async def round(self) -> bool:
        """Everything once, if no other process is at it. Whether it was done."""
        async with running.housekeeper(self._db) as mine:
            if mine:
                await running.make_days(self._db, DAYS_AHEAD)
                await exchange.sweep(self._db)
                for push_no in await running.to_retire(self._db, RETIRE_PUSHES):
                    await retire(self._db, push_no)
                await self.watch()
                await keep_schedule(self._client)
                if dropped := await retention.drop_old(self._db, self._retention_days):
                    log.info("past retention", dropped=dropped)
                contents, lists = await retention.drop_unused(self._db, self._unused_days)
                if contents or lists:
                    log.info("unused for long", contents=contents, lists=lists)
        return mine

    async def watch(self) -> list[str]:
        """Pause open campaigns and pushes that have lost their workflow; the ids of those workflows.

        One whose books are being closed sends nothing any more, so its workflow is simply started again.
        """
        lost = []
        for one in await self._open():
            why = await self._gone(one.workflow_id)
            if why is None or one.hold == Hold.PAUSED:
                continue
            lost.append(one.workflow_id)
            if one.hold == Hold.CLOSING:
                await self._start(one)
            else:
                await self._pause(one, f"its workflow {why}: resume starts it again")
        return lost

    async def _open(self) -> list[_Open]:
        """Campaigns first: to pause one pauses its pushes."""
        grace = limits.WATCH_GRACE
        found = [
            _Open(names.CAMPAIGN_WORKFLOW, id, names.campaign_workflow_id(id), hold)
            for id, hold in await campaigns.open_campaigns(self._db, grace=grace)
        ]
        return found + [
            _Open(
                names.PUSH_WORKFLOW,
                push.push_id,
                names.push_workflow_id(push.push_id),
                push.hold,
                push.push_no,
            )
            for push in await running.open_pushes(self._db, grace=grace)
        ]

    async def _gone(self, workflow_id: str) -> str | None:
        """What became of a workflow that does not run; None while it does.

        Asked through the raw service: the client's own status type does not know Temporal's pause.
        """
        request = DescribeWorkflowExecutionRequest(
            namespace=self._client.namespace, execution=WorkflowExecution(workflow_id=workflow_id)
        )
        try:
            answer = await self._client.workflow_service.describe_workflow_execution(request)
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return "is unknown to Temporal"
            raise
        status = WorkflowExecutionStatus.Name(answer.workflow_execution_info.status)
        word = status.removeprefix("WORKFLOW_EXECUTION_STATUS_")
        return None if word in ALIVE else f"has ended ({word.lower().replace('_', ' ')})"

    async def _pause(self, one: _Open, reason: str) -> None:
        said: tuple[Any, ...] = (uuid4(), "clarion", "pause", {"reason": reason})
        try:
            if one.push_no is None:
                await campaigns.command(self._db, one.id, *said, way="clarion")
            else:
                await pushes.command(self._db, one.push_no, *said, way="clarion")
        except CommandRefused:
            # It drains, and pause is refused then; or its books were closed while we looked.
            if one.hold == Hold.DRAINING:
                await self._start(one)
        log.warning("without a workflow", workflow=one.workflow_id, reason=reason)

    async def _start(self, one: _Open) -> None:
        await self._client.start_workflow(
            one.workflow_type,
            {"id": one.id},
            id=one.workflow_id,
            task_queue=names.CONTROL_QUEUE,
            task_timeout=timedelta(seconds=limits.WORKFLOW_TASK_TIMEOUT),
            id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
        )
