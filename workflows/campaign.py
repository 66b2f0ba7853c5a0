"""CampaignWorkflow: one occurrence of a campaign. It starts its push as a child and awaits it.

An operator's word to the campaign is one statement over the control rows of its open pushes; their
workflows are then only woken, to tidy up.
"""

from __future__ import annotations

import asyncio
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

from activities.audience import Audiences, OpenInput
from activities.commands import CampaignCommandInput, Commands
from activities.parcel import Parcel
from clarion import limits, names
from clarion.model.command import CommandAnswer, PushProgress
from clarion.model.spec import CampaignSpec
from workflows import calls
from workflows.push import PushWorkflow
from workflows.shown import APP_ID, CAMPAIGN_ID, CAMPAIGN_KIND, PUSH_STATUS, PushResult
from workflows.start import read_start
from workflows.steering import CANCEL, Steered

PREFIX = names.campaign_workflow_id("")
ALREADY = 0.3  # seconds between two tries to reach a push that is just being opened


class CampaignResult(Parcel):
    """How a campaign ended: the word of its push, and its push."""

    id: str
    verdict: str
    pushes: tuple[PushResult, ...] = ()


@workflow.defn(name=names.CAMPAIGN_WORKFLOW)
class CampaignWorkflow(Steered):
    """One occurrence. It never continues as new: its push may, as often as it needs."""

    @workflow.init
    def __init__(self, *inputs: Any) -> None:
        self._id = workflow.info().workflow_id.removeprefix(PREFIX)
        self._app: str | None = None
        self._result: CampaignResult | None = None
        self._over = False

    @workflow.run
    async def run(self, *inputs: Any) -> CampaignResult:
        """Take one CampaignSpec and see its push to the end."""
        start = read_start(CampaignSpec, PREFIX, workflow.info().workflow_id, inputs)
        self._app = start.spec.app if start.spec else None
        work = asyncio.create_task(self._push(start.spec) if start.spec else self._await_books())
        try:
            await workflow.wait_condition(work.done)
        except asyncio.CancelledError:
            await self._obey_request_cancellation(work)
        self._over = True
        await workflow.wait_condition(workflow.all_handlers_finished)
        return self._end(work)

    async def _push(self, spec: CampaignSpec) -> PushResult:
        """The campaign's one push, as a child; if its workflow is not ours to await, by its books."""
        self._show("running", spec.campaign_kind)
        try:
            return await workflow.execute_child_workflow(
                PushWorkflow.run,
                spec.push(self._id, self._id),
                id=names.push_workflow_id(self._id),
                task_timeout=calls.TASK_TIMEOUT,
                cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
                parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
                static_summary=spec.title or f"push of campaign {self._id}",
                priority=calls.priority(spec.priority.number, spec.app),
            )
        except WorkflowAlreadyStartedError:
            return await self._await_books()
        except ChildWorkflowError as error:
            if isinstance(error.cause, ApplicationError):
                raise ApplicationError(
                    calls.words_of(error), type=error.cause.type, non_retryable=True
                ) from None
            return await self._await_books()

    async def _await_books(self) -> PushResult:
        """Look at the push now and then until it is closed: somebody resumes it, or cancels it."""
        seconds = 1.0
        while True:
            push = await calls.ops(Audiences.open_push, OpenInput(push_id=self._id))
            self._app = push.app
            if push.result is not None:
                return PushResult.of(self._id, push.push_no, push.result)
            await workflow.sleep(seconds, summary="its push has lost its workflow: resume or cancel it")
            seconds = min(seconds * 2, limits.LOOK_AGAIN_MAX)

    def _end(self, work: asyncio.Task[PushResult]) -> CampaignResult:
        try:
            push = work.result()
        except ActivityError as error:
            raise ApplicationError(calls.words_of(error), non_retryable=True) from None
        self._result = CampaignResult(id=self._id, verdict=push.verdict, pushes=(push,))
        self._show(push.verdict)
        if push.verdict == "cancelled" and workflow.cancellation_reason() is not None:
            raise asyncio.CancelledError  # so that Temporal shows the campaign as Canceled
        return self._result

    async def _obey_request_cancellation(self, work: asyncio.Task[PushResult]) -> None:
        reason = workflow.cancellation_reason() or "cancellation requested"
        args = CANCEL | {"reason": reason}
        await self._tell("close", args, "clarion", "clarion", workflow.uuid4(), patient=True)
        work.cancel()
        await workflow.wait_condition(work.done)

    # ── commands ──────────────────────────────────────────────────────────────────────────────────

    @workflow.query(description="Its pushes and their phase; counts are with the pushes themselves")
    def progress(self) -> list[PushProgress]:
        """Where the campaign stands."""
        push = self._result.pushes[0] if self._result else None
        return [
            PushProgress(
                push_id=self._id,
                campaign_id=self._id,
                phase="closed" if push else "running",
                verdict=push.verdict if push else None,
                at=workflow.now(),
                result=push.model_dump(mode="json") if push else None,
            )
        ]

    def _refuse_if_over(self) -> None:
        if self._over:
            raise ApplicationError("the campaign is closed", type="CommandRefused", non_retryable=True)

    async def _say(
        self, what: str, args: dict[str, Any], who: str, way: str, id: UUID, *, patient: bool
    ) -> CommandAnswer:
        await self._until_started()
        answers = await self._tell(what, args, who, way, id, patient=patient)
        obeyed = [answer for answer in answers.values() if isinstance(answer, CommandAnswer)]
        if not obeyed:
            refusals = "; ".join(f"{id}: {answer}" for id, answer in answers.items()) or "no push is open"
            raise ApplicationError(f"{what} refused: {refusals}", type="CommandRefused", non_retryable=True)
        return obeyed[0]

    async def _until_started(self) -> None:
        await workflow.wait_condition(lambda: self._app is not None or self._over)
        self._refuse_if_over()

    async def _tell(
        self, what: str, args: dict[str, Any], who: str, way: str, id: UUID, *, patient: bool
    ) -> dict[str, CommandAnswer | str]:
        """One statement over the control rows of the open pushes, then wake their workflows.

        A push that is just being opened has no row yet: a few more tries.
        """
        assert self._app is not None
        command = CampaignCommandInput(
            app=self._app, campaign_id=self._id, command_id=id, who=who, what=what, way=way, args=args
        )
        patience = None if patient else limits.COMMAND_TIMEOUT
        for _ in range(5):
            told = await calls.ops(Commands.command_campaign, command, patience=patience)
            if told.answers or self._over:
                break
            await workflow.sleep(ALREADY)
        await asyncio.gather(*(self._wake(push_id) for push_id in told.answers), return_exceptions=True)
        return told.answers

    async def _wake(self, push_id: str) -> None:
        await workflow.get_external_workflow_handle(names.push_workflow_id(push_id)).signal("wake")

    def _show(self, word: str, kind: str | None = None) -> None:
        values: list[SearchAttributeUpdate[Any]] = [PUSH_STATUS.value_set(word)]
        if kind is not None:
            assert self._app is not None
            values += [CAMPAIGN_ID.value_set(self._id), APP_ID.value_set(self._app)]
            values.append(CAMPAIGN_KIND.value_set(kind))
        workflow.upsert_search_attributes(values)
        workflow.set_current_details(
            f"**{word}**\n\nIts push: `{names.push_workflow_id(self._id)}` (counts and pace are there)"
        )
