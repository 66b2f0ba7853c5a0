"""CampaignWorkflow: one occurrence of a campaign: its approval, then its pushes, one stage after the other.

It remembers nothing: `advance_campaign` looks at the campaign's row, does what is due (opens the next push,
closes the books) and says what is waited for. So a workflow that was lost, reset or started with the id alone
goes on where the row is. An operator's word is one transaction over that row and the control rows of the open
pushes; their workflows are then only woken, to tidy up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from temporalio import workflow
from temporalio.common import SearchAttributeUpdate
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    WorkflowAlreadyStartedError,
)

from activities.campaign import (
    AdvanceInput,
    AdvanceResult,
    CampaignCommandInput,
    Campaigns,
    OpenCampaignInput,
)
from activities.parcel import Parcel
from clarion import limits, names
from clarion.model.campaign import CampaignProgress
from clarion.model.command import ApproveInput, CommandAnswer, RejectInput
from clarion.model.spec import CampaignSpec, PushSpec
from workflows import calls
from workflows.details import campaign_details, campaign_status
from workflows.push import PushWorkflow
from workflows.shown import APP_ID, CAMPAIGN_ID, CAMPAIGN_KIND, PUSH_STATUS, PushResult
from workflows.start import Start, read_start, read_words, starter
from workflows.steering import CANCEL, CANCELLATION, Steered

PREFIX = names.campaign_workflow_id("")
DAY = 86_400.0  # without a moment to wait for it looks at its row at least so often


class CampaignResult(Parcel):
    """How a campaign ended, and its pushes. `not_opened`: those that its end came before."""

    id: str
    verdict: str  # completed | cancelled | expired | rejected | failed
    reason: str | None = None
    pushes: tuple[PushResult, ...] = ()
    not_opened: tuple[str, ...] = ()


@workflow.defn(name=names.CAMPAIGN_WORKFLOW)
class CampaignWorkflow(Steered):
    """One occurrence. It continues as new only while it waits: a push in work is its child."""

    @workflow.init
    def __init__(self, *inputs: Any) -> None:
        self._id = workflow.info().workflow_id.removeprefix(PREFIX)
        self._stand: AdvanceResult | None = None
        self._kind: str | None = None
        self._status: str | None = None
        self._known = False  # its row is there
        self._over = False
        self._changed = False
        self._continue = False
        self._child: asyncio.Task[bool] | None = None
        self._lost: set[str] = set()  # open pushes whose workflow is not ours to await
        self._idle = 1.0

    @workflow.run
    async def run(self, *inputs: Any) -> CampaignResult:
        """Take one CampaignSpec (or only an id, for a campaign with a row) and see it to its end."""
        start = read_start(CampaignSpec, PREFIX, workflow.info().workflow_id, inputs)
        work = asyncio.create_task(self._work(start))
        cancelled = False
        try:
            await self._until_quiet(work)
        except asyncio.CancelledError:
            cancelled = True
            await self._obey_request_cancellation(work)
            await self._until_quiet(work)
        if work.exception() is None and self._continue:
            workflow.continue_as_new(args=[{"id": self._id}])
        result = work.result()
        if cancelled and result.verdict == "cancelled":
            raise asyncio.CancelledError  # so that Temporal shows the campaign as Canceled
        return result

    async def _until_quiet(self, work: asyncio.Task[CampaignResult]) -> None:
        """Until the work is done and every word is answered; between two runs words go on being taken."""
        await workflow.wait_condition(work.done)
        self._over = not self._continue
        await workflow.wait_condition(workflow.all_handlers_finished)

    async def _work(self, start: Start[CampaignSpec]) -> CampaignResult:
        try:
            if start.spec is not None:
                self._kind = start.spec.campaign_kind
                opening = OpenCampaignInput(
                    campaign_id=self._id, spec=start.spec, asked_at=workflow.info().start_time, who=starter()
                )
                await calls.ops(Campaigns.open_campaign, opening)
            self._known = True
            return await self._follow()
        except ActivityError as error:
            cause = error.cause if isinstance(error.cause, ApplicationError) else None
            raise ApplicationError(
                calls.words_of(error), type=cause.type if cause else None, non_retryable=True
            ) from None

    async def _follow(self) -> CampaignResult:
        """Ask the row what is next, until the books are closed (or a new run has to take over)."""
        while True:
            stand = await self._look()
            if stand.progress.closed_at is not None:
                return self._end(stand.progress)
            if stand.push is not None and await self._send(stand.push):
                self._idle = 1.0
            elif workflow.info().is_continue_as_new_suggested():
                self._continue = True
                return CampaignResult(id=self._id, verdict="continued")
            else:
                await self._wait(stand)

    async def _look(self) -> AdvanceResult:
        self._changed = False
        try:
            stand = await calls.ops(Campaigns.advance, AdvanceInput(campaign_id=self._id))
        except ActivityError as error:
            if not (isinstance(error.cause, ApplicationError) and error.cause.type == "AlreadyExists"):
                raise
            # Somebody has taken the id of its next push: it cannot go on, and what it did is accounted for.
            await self._say_by_clarion("close", {"verdict": "failed", "reason": calls.words_of(error)})
            stand = await calls.ops(Campaigns.advance, AdvanceInput(campaign_id=self._id))
        self._stand = stand
        self._show(stand.progress)
        return stand

    async def _send(self, push: PushSpec) -> bool:
        """One stage, whatever becomes of its workflow: how the push stands is in the ledger.

        False: it has no workflow of ours, so what is left is to look at its books from time to time.
        """
        if push.id in self._lost:
            return False
        self._child = asyncio.create_task(self._push(push))
        await workflow.wait_condition(self._child.done)
        sent, self._child = not self._child.cancelled() and self._child.result(), None
        return sent

    async def _push(self, push: PushSpec) -> bool:
        """False while another workflow has its id: one started beside us, which may end without sending."""
        assert push.id is not None
        try:
            await workflow.execute_child_workflow(
                PushWorkflow.run,
                push,
                id=names.push_workflow_id(push.id),
                task_timeout=calls.TASK_TIMEOUT,
                cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
                parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
                static_summary=push.title or f"push of campaign {self._id}",
                priority=calls.priority(push.priority.number, push.app),
            )
        except WorkflowAlreadyStartedError:
            return False
        except (ChildWorkflowError, asyncio.CancelledError):
            # Ended, it is found closed. Else somebody resumes it or cancels it, and we follow its books.
            self._lost.add(push.id)
        return True

    async def _wait(self, stand: AdvanceResult) -> None:
        """Until something happens, a moment has come, or it is time to look whether we missed a word."""
        limit = limits.LOOK_AGAIN_MAX if stand.push is not None else DAY
        if stand.push is None:
            self._idle = max(self._idle, limits.LOOK_SCHEDULED)
        seconds = self._idle if stand.wait is None else min(stand.wait, self._idle)
        self._idle = min(self._idle * 2, limit)
        with suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._changed,
                timeout=timedelta(seconds=max(seconds, 0.001)),
                timeout_summary=stand.progress.waiting(),
            )

    def _end(self, progress: CampaignProgress) -> CampaignResult:
        stored = progress.result or {}
        return CampaignResult(
            id=self._id,
            verdict=progress.status,
            reason=stored.get("reason"),
            pushes=tuple(
                PushResult.of(push["id"], push["push_no"], push["result"])
                for push in stored.get("pushes", ())
            ),
            not_opened=tuple(stored.get("not_opened", ())),
        )

    async def _obey_request_cancellation(self, work: asyncio.Task[CampaignResult]) -> None:
        await workflow.wait_condition(lambda: self._known or work.done())
        if not self._over and (self._continue or not work.done()):
            reason = workflow.cancellation_reason() or "cancellation requested"
            await self._say_by_clarion("close", CANCEL | {"reason": reason}, *CANCELLATION)
            if self._child is not None:
                self._child.cancel()
        await workflow.wait_condition(work.done)

    # ── commands ──────────────────────────────────────────────────────────────────────────────────

    @workflow.update(
        description=(
            "Let it go: its content was looked at. "
            'Input: {"content": "content:…", "by": "…"}, refused when it has other content now'
        )
    )
    async def approve(self, request: Any = None) -> CommandAnswer:
        """Bound to the content: without one, only what was never edited is approved."""
        words = read_words(ApproveInput, request, short="content")
        given = {"content": words.content} if words.content else {}
        return await self._obey("approve", words, {"reason": words.reason} | given)

    @approve.validator
    def _check_approve(self, request: Any = None) -> None:
        self._refuse_if_over()
        read_words(ApproveInput, request, short="content")

    @workflow.update(description='End it: nothing more of it is sent. Input: {"reason": "…", "by": "…"}')
    async def reject(self, request: Any = None) -> CommandAnswer:
        """Instead of an approval."""
        words = read_words(RejectInput, request, short="reason")
        return await self._obey("reject", words, {"reason": words.reason})

    @reject.validator
    def _check_reject(self, request: Any = None) -> None:
        self._refuse_if_over()
        read_words(RejectInput, request, short="reason")

    @workflow.signal(name="approve", description="As the update approve, without an answer")
    async def approve_signal(self, *ignored: Any) -> None:
        """Of content that was never edited."""
        await self._hear("approve", {})

    @workflow.signal(name="reject", description="As the update reject, without an answer")
    async def reject_signal(self, *ignored: Any) -> None:
        """End it instead of approving it."""
        await self._hear("reject", {})

    @workflow.signal(description="Look at the campaign's row now: something was changed there")
    async def wake(self, *ignored: Any) -> None:
        """After a word with --direct."""
        self._wake()

    @workflow.query(description="Its stages, what it waits for; counts are with its pushes")
    def progress(self) -> CampaignProgress:
        """Where the campaign stood at the last look at its row."""
        if self._stand is None:
            raise ApplicationError("the campaign is just being opened", type="NotFound", non_retryable=True)
        return self._stand.progress

    def _refuse_if_over(self) -> None:
        if self._over:
            raise ApplicationError("the campaign is closed", type="CommandRefused", non_retryable=True)

    async def _say(
        self, what: str, args: dict[str, Any], who: str, way: str, id: UUID, *, patient: bool
    ) -> CommandAnswer:
        await workflow.wait_condition(lambda: self._known or self._over)
        self._refuse_if_over()
        command = CampaignCommandInput(
            campaign_id=self._id, command_id=id, who=who, what=what, way=way, args=args
        )
        patience = None if patient else limits.COMMAND_TIMEOUT
        try:
            said = await calls.ops(Campaigns.command, command, patience=patience)
        finally:
            if what == "resume":
                self._lost.clear()  # a push that has lost its workflow gets one again
            self._wake()
        await self._go_on(said.pushes)
        return said.answer

    async def _go_on(self, pushes: Sequence[str]) -> None:
        await asyncio.gather(*(self._wake_push(push_id) for push_id in pushes), return_exceptions=True)

    async def _say_by_clarion(
        self, what: str, args: dict[str, Any], who: str = "clarion", way: str = "clarion"
    ) -> None:
        try:
            await self._say(what, args, who, way, workflow.uuid4(), patient=True)
        except ActivityError as error:  # it closes already
            workflow.logger.info("%s refused: %s", what, calls.words_of(error))

    async def _wake_push(self, push_id: str) -> None:
        await workflow.get_external_workflow_handle(names.push_workflow_id(push_id)).signal("wake")

    def _wake(self) -> None:
        self._idle = 1.0
        self._changed = True

    def _show(self, progress: CampaignProgress) -> None:
        """Details cost nothing, a search attribute an action a change."""
        workflow.set_current_details(campaign_details(progress))
        word = campaign_status(progress)
        if word == self._status:
            return
        values: list[SearchAttributeUpdate[Any]] = [PUSH_STATUS.value_set(word)]
        if self._status is None:
            values += [CAMPAIGN_ID.value_set(self._id), APP_ID.value_set(progress.app)]
            values += [CAMPAIGN_KIND.value_set(self._kind)] if self._kind else []
        self._status = word
        workflow.upsert_search_attributes(values)
