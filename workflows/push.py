"""PushWorkflow: one scheduled push. What operators watch and steer; it drives, the ledger remembers.

`run` only waits for the work, which is a task of its own: so Temporal's cancellation, which hits whatever
`run` awaits, interrupts nothing of it. Request Cancellation means cancel(now): first the control row, in
force at once for every running batch, then the children, then the books.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

from temporalio import workflow
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    ChildWorkflowError,
    WorkflowAlreadyStartedError,
    is_cancelled_exception,
)

from activities.audience import Audiences, FreezeInput, OpenInput, OpenResult, PlanInput
from activities.close import CloseInput, Closing
from activities.commands import CommandInput, Commands
from activities.work import NextWorkInput, NextWorkResult, Work
from clarion import limits, names
from clarion.model.command import CommandAnswer, PushProgress
from clarion.model.ledger import Hold
from clarion.model.spec import PushSpec
from workflows import calls, handout
from workflows.batch import BatchInput, BatchWorkflow, title
from workflows.shown import PushResult, Shown
from workflows.start import read_start, starter
from workflows.steering import CANCEL, CANCELLATION, Steered

PREFIX = names.push_workflow_id("")


@workflow.defn(name=names.PUSH_WORKFLOW)
class PushWorkflow(Steered):
    """One push. Reset, terminated or lost, it goes on from the ledger when it is started again."""

    @workflow.init
    def __init__(self, *inputs: Any) -> None:
        self._state = handout.State()
        self._push: OpenResult | None = None
        self._push_id = workflow.info().workflow_id.removeprefix(PREFIX)
        self._shown = Shown(self._push_id)
        self._over = False
        self._changed = False
        self._continue = False
        self._children: dict[str, asyncio.Task[None]] = {}
        # The plan and the freezes. Not a set: they are cancelled in the same order when it is replayed.
        self._others: list[asyncio.Task[None]] = []

    @workflow.run
    async def run(self, *inputs: Any) -> PushResult:
        """Take one PushSpec (or only an id, for a push that the ledger knows) and see it to its end."""
        work = asyncio.create_task(self._work(inputs))
        cancelled = False
        try:
            await self._finish(work)
        except asyncio.CancelledError:
            cancelled = True
            await self._obey_request_cancellation(work)
            await self._finish(work)
        if work.exception() is None and self._continue:
            workflow.continue_as_new(args=[{"id": self._push_id}])
        result = work.result()
        if cancelled and result.verdict == "cancelled":
            raise asyncio.CancelledError  # so that Temporal shows the push as Canceled
        return result

    async def _finish(self, work: asyncio.Task[PushResult]) -> None:
        """The work, then the words that came meanwhile: one that goes on as new still obeys them."""
        await workflow.wait_condition(work.done)
        self._over = not self._continue
        await workflow.wait_condition(workflow.all_handlers_finished)

    # ── the work ──────────────────────────────────────────────────────────────────────────────────

    async def _work(self, inputs: tuple[Any, ...]) -> PushResult:
        try:
            return await self._open_and_send(inputs)
        except ActivityError as error:
            cause = error.cause if isinstance(error.cause, ApplicationError) else None
            raise ApplicationError(
                calls.words_of(error), type=cause.type if cause else None, non_retryable=True
            ) from None

    async def _open_and_send(self, inputs: tuple[Any, ...]) -> PushResult:
        start = read_start(PushSpec, PREFIX, workflow.info().workflow_id, inputs)
        who = None if workflow.info().parent else starter()
        opening = OpenInput(push_id=start.id, spec=start.spec, asked_at=workflow.info().start_time, who=who)
        self._push = await calls.ops(Audiences.open_push, opening)
        if self._push.result is not None:  # a repeated start: the stored result, nothing is sent again
            return self._end(self._push.result)
        self._shown.opened(self._push, start.spec)
        while (verdict := await self._loop()) is not None:
            result = await self._close(verdict)
            if result is not None:
                return result
        self._continue = True
        return PushResult(id=self._push_id, push_no=self._push.push_no, verdict="continued")

    async def _loop(self) -> str | None:
        """Hand out work until the books can be closed; None: continue as new first."""
        answer: NextWorkResult | None = None
        while True:
            if workflow.info().is_continue_as_new_suggested():
                await self._drain()
                return None
            actions = handout.decide(self._state, answer, workflow.time())
            answer = await self._look() if actions.look else None
            if actions.close is not None:
                return actions.close
            if actions.pause is not None:
                await self._pause_by_clarion(actions.pause)
            elif not actions.look:
                self._carry_out(actions)
                await self._wait(actions.until)

    async def _look(self) -> NextWorkResult:
        input = NextWorkInput(push_no=self._opened.push_no, live=tuple(self._state.live_batches))
        answer = await calls.ops(Work.next_work, input)
        self._shown.looked(answer)
        self._shown.show(self._state.last_error)
        return answer

    def _carry_out(self, actions: handout.Actions) -> None:
        if actions.plan or actions.fall_back or actions.move:
            self._beside(self._plan(fallback=actions.fall_back, blocked=actions.move))
        for range_no in actions.freeze:
            self._beside(self._freeze(range_no))
        for child in actions.start:
            self._children[child.key] = asyncio.create_task(self._batch(child))

    def _beside(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._others.append(task)
        task.add_done_callback(self._others.remove)

    async def _wait(self, until: float) -> None:
        """Until something happens, or the absolute moment has come."""
        seconds = max(until - workflow.time(), 0.001)
        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._changed, timeout=timedelta(seconds=seconds))
        self._changed = False

    async def _plan(self, *, fallback: bool, blocked: bool) -> None:
        input = PlanInput(push_no=self._opened.push_no, fallback=fallback, blocked=blocked)
        summary = "plan the fallback" if fallback or blocked else "plan the audience"
        try:
            plan = await calls.bulk(Audiences.plan, input, summary=summary)
        except ActivityError as error:
            self._state.plan_failed(calls.words_of(error))
        else:
            self._state.planned(plan.ranges)
        self._changed = True

    async def _freeze(self, range_no: int) -> None:
        fault, input = None, FreezeInput(push_no=self._opened.push_no, range_no=range_no)
        try:
            await calls.bulk(Audiences.freeze, input, summary=f"freeze range {range_no}")
        except ActivityError as error:
            fault = calls.words_of(error)
        self._state.range_frozen(range_no, fault)
        self._changed = True

    async def _batch(self, child: handout.Child) -> None:
        """One child, whatever becomes of it: its rows are open, the next look finds them."""
        try:
            result = await self._start_batch(child)
        except WorkflowAlreadyStartedError:
            self._state.child_refused(child.key, workflow.time())
        except ChildWorkflowError as error:
            cancelled = is_cancelled_exception(error)
            words = None if cancelled else f"{child.key}: {calls.words_of(error)}"
            self._state.child_ended(child.key, "stopped" if cancelled else "failed", words)
        except asyncio.CancelledError:
            self._state.child_ended(child.key, "stopped")
        else:
            self._state.child_ended(child.key, result)
        self._children.pop(child.key, None)
        self._changed = True

    async def _start_batch(self, child: handout.Child) -> str:
        push = self._opened
        last = self._state.last
        assert last is not None
        provider = next(lane.provider for lane in last.lanes if lane.lane == child.lane)
        input = BatchInput(
            push_no=push.push_no, batches=child.batches, provider=provider, high=push.priority == 1
        )
        ended = await workflow.execute_child_workflow(
            BatchWorkflow.run,
            input,
            id=f"{PREFIX}{self._push_id}/{child.key}",
            task_timeout=calls.TASK_TIMEOUT,
            cancellation_type=workflow.ChildWorkflowCancellationType.WAIT_CANCELLATION_COMPLETED,
            parent_close_policy=workflow.ParentClosePolicy.REQUEST_CANCEL,
            static_summary=title(input),
            priority=calls.priority(push.priority, push.app),
        )
        return ended.why

    # ── the end ───────────────────────────────────────────────────────────────────────────────────

    async def _close(self, verdict: str) -> PushResult | None:
        """The control row first, then the children, then the books. None: its deadline was moved."""
        last = self._state.last
        phase, self._shown.phase = self._shown.phase, "closing"
        self._shown.show(self._state.last_error)
        if self._state.busy and last is not None and last.hold != Hold.CLOSING:
            await self._say_by_clarion("close", {"verdict": verdict})
        await self._drain(patience=0.0)
        input = CloseInput(push_no=self._opened.push_no, verdict=verdict)
        try:
            closed = await calls.bulk(Closing.close, input, summary="close the books")
        except ActivityError as error:
            if not calls.is_refusal(error):
                raise
            self._shown.phase = phase
            self._state.wake()
            return None
        return self._end(closed.result)

    async def _drain(self, patience: float = limits.DRAIN_SECONDS) -> None:
        """Wait for what lives, then cancel it and wait again: a cancelled batch commits and releases."""
        if not await self._quiet(patience):
            for task in [*self._children.values(), *self._others]:
                task.cancel()
            # The ledger guards the truth, so a batch that does not end is not waited for for ever.
            await self._quiet(limits.DRAIN_SECONDS)

    async def _quiet(self, seconds: float) -> bool:
        def quiet() -> bool:
            return not self._children and not self._others

        if quiet() or seconds <= 0:
            return quiet()
        try:
            await workflow.wait_condition(quiet, timeout=timedelta(seconds=seconds))
        except TimeoutError:
            return False
        return True

    def _end(self, stored: dict[str, Any]) -> PushResult:
        result = PushResult.of(self._push_id, self._opened.push_no, stored)
        self._shown.ended(result)
        self._shown.show(self._state.last_error)
        return result

    async def _obey_request_cancellation(self, work: asyncio.Task[PushResult]) -> None:
        await workflow.wait_condition(lambda: self._push is not None or work.done())
        if self._continue or not work.done():
            reason = workflow.cancellation_reason() or "cancellation requested"
            await self._say_by_clarion("close", CANCEL | {"reason": reason}, *self._hand())
            for task in self._children.values():
                task.cancel()
        await workflow.wait_condition(work.done)

    # ── commands ──────────────────────────────────────────────────────────────────────────────────

    @workflow.signal(description="Look at the ledger now: something was changed there")
    async def wake(self, *ignored: Any) -> None:
        """After a word with --direct, an unblocked lane, a command to the campaign."""
        self._wake()

    @workflow.query(description="Counts, phase and hold at the last look at the ledger")
    def progress(self) -> PushProgress:
        """What `clarion push show` knows more exactly, from the ledger itself."""
        return self._shown.progress()

    def _refuse_if_over(self) -> None:
        if self._over or self._shown.phase == "closed":
            raise ApplicationError("the push is closed", type="CommandRefused", non_retryable=True)

    async def _say(
        self, what: str, args: dict[str, Any], who: str, way: str, id: UUID, *, patient: bool
    ) -> CommandAnswer:
        await self._until_open()
        command = CommandInput(
            push_no=self._opened.push_no, command_id=id, who=who, what=what, way=way, args=args
        )
        try:
            return await calls.ops(
                Commands.command, command, patience=None if patient else limits.COMMAND_TIMEOUT
            )
        finally:
            self._wake()

    async def _until_open(self) -> None:
        await workflow.wait_condition(lambda: self._push is not None or self._over)
        self._refuse_if_over()

    async def _pause_by_clarion(self, reason: str) -> None:
        await self._say_by_clarion("pause", {"reason": reason})
        self._state.wake()

    def _hand(self) -> tuple[str, str]:
        """Who and which way, when cancellation is requested: somebody, or the campaign of this push."""
        return ("clarion", "clarion") if workflow.info().parent else CANCELLATION

    async def _say_by_clarion(
        self, what: str, args: dict[str, Any], who: str = "clarion", way: str = "clarion"
    ) -> None:
        try:
            await self._say(what, args, who, way, workflow.uuid4(), patient=True)
        except ActivityError as error:  # it closes already, or drains
            workflow.logger.info("%s refused: %s", what, calls.words_of(error))

    async def _go_on(self, pushes: Sequence[str]) -> None:
        self._wake()

    def _wake(self) -> None:
        self._state.wake()
        self._changed = True

    @property
    def _opened(self) -> OpenResult:
        assert self._push is not None
        return self._push
