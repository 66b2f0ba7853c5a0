"""PushWorkflow: one scheduled push. What operators watch and steer; it drives, the ledger remembers.

`run` only waits for the work, which is a task of its own: so Temporal's cancellation, which hits whatever
`run` awaits, interrupts nothing of it. Request Cancellation means cancel(now): first the control row, in
force at once for every running batch, then the children, then the books.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate
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
from activities.parcel import Parcel
from activities.work import LaneWork, NextWorkInput, NextWorkResult, Work
from clarion import limits, names
from clarion.model.command import (
    CancelInput,
    CancelMode,
    CommandAnswer,
    LaneProgress,
    PauseInput,
    PushProgress,
    ResumeInput,
    SetPaceInput,
)
from clarion.model.ledger import Hold
from clarion.model.spec import PushSpec
from workflows import calls, handout
from workflows.batch import BatchInput, BatchWorkflow, title
from workflows.details import details, status
from workflows.start import read_start, read_words

PREFIX = names.push_workflow_id("")
PUSH_ID = SearchAttributeKey.for_keyword("PushId")
CAMPAIGN_ID = SearchAttributeKey.for_keyword("CampaignId")
APP_ID = SearchAttributeKey.for_keyword("AppId")
PUSH_STATUS = SearchAttributeKey.for_keyword("PushStatus")
CAMPAIGN_KIND = SearchAttributeKey.for_keyword("CampaignKind")
TAGS = SearchAttributeKey.for_keyword_list("Tags")
SEND_AT = SearchAttributeKey.for_datetime("SendAt")
EXPIRES_AT = SearchAttributeKey.for_datetime("ExpiresAt")
AUDIENCE_SIZE = SearchAttributeKey.for_int("AudienceSize")

OPERATOR = "operator"  # who spoke, if the command does not say


class PushResult(Parcel):
    """How a push ended, read back from the ledger's rows."""

    id: str
    push_no: int
    verdict: str  # completed | cancelled | expired | failed
    not_frozen: int = 0  # ranges of the audience that were never written
    counts: dict[str, int] = {}  # over all lanes: audience, accepted, rejected, …
    lanes: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, id: str, push_no: int, stored: dict[str, Any]) -> PushResult:
        """The result as the ledger keeps it, with sums over the lanes."""
        lanes = tuple(stored.get("lanes", ()))
        counts: dict[str, int] = {}
        for lane in lanes:
            for name in lane.keys() - {"lane"}:
                counts[name] = counts.get(name, 0) + int(lane[name])
        return cls(
            id=id,
            push_no=push_no,
            verdict=stored["verdict"],
            not_frozen=stored.get("not_frozen", 0),
            counts=dict(sorted(counts.items())),
            lanes=lanes,
        )


@workflow.defn(name=names.PUSH_WORKFLOW)
class PushWorkflow:
    """One push. Reset, terminated or lost, it goes on from the ledger when it is started again."""

    @workflow.init
    def __init__(self, *inputs: Any) -> None:
        self._state = handout.State()
        self._push: OpenResult | None = None
        self._push_id = workflow.info().workflow_id.removeprefix(PREFIX)
        self._phase = "scheduled"
        self._result: PushResult | None = None
        self._over = False
        self._changed = False
        self._continue = False
        self._children: dict[str, asyncio.Task[None]] = {}
        self._others: set[asyncio.Task[None]] = set()  # the plan and the freezes
        self._shown_status: str | None = None
        self._looked: tuple[datetime, int] | None = None  # for the rate: when, and how much was done
        self._rate: float | None = None

    @workflow.run
    async def run(self, *inputs: Any) -> PushResult:
        """Take one PushSpec (or only an id, for a push that the ledger knows) and see it to its end."""
        work = asyncio.create_task(self._work(inputs))
        cancelled = False
        try:
            await workflow.wait_condition(work.done)
        except asyncio.CancelledError:
            cancelled = True
            await self._obey_request_cancellation(work)
        self._over = True
        await workflow.wait_condition(workflow.all_handlers_finished)
        if work.exception() is None and self._continue:
            workflow.continue_as_new(args=[{"id": self._push_id}])
        result = work.result()
        if cancelled and result.verdict == "cancelled":
            raise asyncio.CancelledError  # so that Temporal shows the push as Canceled
        return result

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
        opening = OpenInput(push_id=start.id, spec=start.spec)
        self._push = await calls.ops(Audiences.open_push, opening)
        if self._push.result is not None:  # a repeated start: the stored result, nothing is sent again
            return self._end(self._push.result)
        self._set_attributes(start.spec)
        verdict = await self._loop()
        if verdict is None:
            self._continue = True
            return PushResult(id=self._push_id, push_no=self._push.push_no, verdict="continued")
        return await self._close(verdict)

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
        if answer.starts_in is None or answer.starts_in <= 0:
            self._phase = "running"
        self._measure(answer)
        self._show(answer)
        return answer

    def _carry_out(self, actions: handout.Actions) -> None:
        if actions.plan:
            self._beside(self._plan())
        for range_no in actions.freeze:
            self._beside(self._freeze(range_no))
        for child in actions.start:
            self._children[child.key] = asyncio.create_task(self._batch(child))

    def _beside(self, work: Any) -> None:
        task: asyncio.Task[None] = asyncio.create_task(work)
        self._others.add(task)
        task.add_done_callback(self._others.discard)

    async def _wait(self, until: float) -> None:
        """Until something happens, or the absolute moment has come."""
        seconds = max(until - workflow.time(), 0.001)
        with suppress(TimeoutError):
            await workflow.wait_condition(lambda: self._changed, timeout=timedelta(seconds=seconds))
        self._changed = False

    async def _plan(self) -> None:
        input = PlanInput(push_no=self._opened.push_no)
        try:
            plan = await calls.bulk(Audiences.plan, input, summary="plan the audience")
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

    async def _close(self, verdict: str) -> PushResult:
        """The control row first, then the children, then the books."""
        last = self._state.last
        self._phase = "closing"
        self._show(last)
        if self._state.busy and last is not None and last.hold != Hold.CLOSING:
            await self._say_by_clarion("close", {"verdict": verdict})
        await self._drain(patience=0.0)
        input = CloseInput(push_no=self._opened.push_no, verdict=verdict)
        closed = await calls.bulk(Closing.close, input, summary="close the books")
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

    def _end(self, result: dict[str, Any]) -> PushResult:
        self._phase = "closed"
        self._result = PushResult.of(self._push_id, self._opened.push_no, result)
        self._show(self._state.last)
        return self._result

    async def _obey_request_cancellation(self, work: asyncio.Task[PushResult]) -> None:
        await workflow.wait_condition(lambda: self._push is not None or work.done())
        if not work.done():
            reason = workflow.cancellation_reason() or "cancellation requested"
            await self._say_by_clarion("close", {"verdict": "cancelled", "reason": reason})
            for task in self._children.values():
                task.cancel()
        await workflow.wait_condition(work.done)

    # ── commands ──────────────────────────────────────────────────────────────────────────────────

    @workflow.update(description='Start nothing more until resume. Input: {"reason": "…", "by": "…"}')
    async def pause(self, request: Any = None) -> CommandAnswer:
        """In force when acknowledged; running batches obey within one window."""
        words = read_words(PauseInput, request, short="reason")
        return await self._obey("pause", words, {"reason": words.reason})

    @pause.validator
    def _check_pause(self, request: Any = None) -> None:
        self._refuse_if_over()
        read_words(PauseInput, request, short="reason")

    @workflow.update(description='Go on exactly where it stood. Input: nothing, or {"by": "…"}')
    async def resume(self, request: Any = None) -> CommandAnswer:
        """Also ends a drain that is still going on."""
        words = read_words(ResumeInput, request, short="by")
        return await self._obey("resume", words, {})

    @resume.validator
    def _check_resume(self, request: Any = None) -> None:
        self._refuse_if_over()
        read_words(ResumeInput, request, short="by")

    @workflow.update(
        description='End it. Input: {"mode": "now" | "drain", "reason": "…"}; drain finishes batches begun'
    )
    async def cancel(self, request: Any = None) -> CommandAnswer:
        """The push then closes its books; what was accepted until then stays accepted."""
        words = read_words(CancelInput, request, short="mode")
        args: dict[str, Any] = {"reason": words.reason}
        if words.mode is CancelMode.DRAIN:
            return await self._obey("drain", words, args)
        return await self._obey("close", words, args | {"verdict": "cancelled"})

    @cancel.validator
    def _check_cancel(self, request: Any = None) -> None:
        self._refuse_if_over()
        read_words(CancelInput, request, short="mode")

    @workflow.update(description='Sends per second from now on. Input: {"pace": 500}, null removes the limit')
    async def set_pace(self, request: Any = None) -> CommandAnswer:
        """Over all lanes and processes."""
        words = read_words(SetPaceInput, request, short="pace")
        return await self._obey("set", words, {"pace": words.pace})

    @set_pace.validator
    def _check_set_pace(self, request: Any = None) -> None:
        self._refuse_if_over()
        read_words(SetPaceInput, request, short="pace")

    @workflow.signal(name="pause", description="As the update pause, without an answer")
    async def pause_signal(self, *ignored: Any) -> None:
        """For the raw UI, the command line and batch operations."""
        await self._hear("pause", {})

    @workflow.signal(name="resume", description="As the update resume, without an answer")
    async def resume_signal(self, *ignored: Any) -> None:
        """For the raw UI, the command line and batch operations."""
        await self._hear("resume", {})

    @workflow.signal(name="cancel", description="As the update cancel (now), without an answer")
    async def cancel_signal(self, *ignored: Any) -> None:
        """For the raw UI, the command line and batch operations."""
        await self._hear("close", {"verdict": "cancelled"})

    @workflow.signal(description="Look at the ledger now: something was changed there")
    async def wake(self, *ignored: Any) -> None:
        """After a word with --direct, an unblocked lane, a command to the campaign."""
        self._wake()

    @workflow.query(description="Counts, phase and hold at the last look at the ledger")
    def progress(self) -> PushProgress:
        """What `clarion push show` knows more exactly, from the ledger itself."""
        return self._progress(self._state.last)

    def _refuse_if_over(self) -> None:
        if self._over or self._phase == "closed":
            raise ApplicationError("the push is closed", type="CommandRefused", non_retryable=True)

    async def _obey(self, what: str, words: calls.Words, args: dict[str, Any]) -> CommandAnswer:
        """One transaction; acknowledged after its commit."""
        await self._until_open()
        command_id = calls.command_id(words)
        command = self._command(what, args, words.by or OPERATOR, "update", command_id)
        try:
            answer = await calls.ops(Commands.command, command, patience=limits.COMMAND_TIMEOUT)
        except ActivityError as error:
            raise calls.refusal(error, what) from None
        finally:
            self._wake()
        return answer

    async def _hear(self, what: str, args: dict[str, Any]) -> None:
        """A signal cannot be answered, so it is carried through however long the database is away."""
        try:
            await self._until_open()
            command = self._command(what, args, OPERATOR, "signal", workflow.uuid4())
            await calls.ops(Commands.command, command)
        except (ActivityError, ApplicationError) as error:
            workflow.logger.warning("signal %s refused: %s", what, calls.words_of(error))
        self._wake()

    async def _until_open(self) -> None:
        await workflow.wait_condition(lambda: self._push is not None or self._over)
        self._refuse_if_over()

    async def _pause_by_clarion(self, reason: str) -> None:
        await self._say_by_clarion("pause", {"reason": reason})
        self._state.wake()

    async def _say_by_clarion(self, what: str, args: dict[str, Any]) -> None:
        try:
            await calls.ops(
                Commands.command, self._command(what, args, "clarion", "clarion", workflow.uuid4())
            )
        except ActivityError as error:  # it closes already, or drains
            workflow.logger.info("%s refused: %s", what, calls.words_of(error))
        self._wake()

    def _command(self, what: str, args: dict[str, Any], who: str, way: str, id: UUID) -> CommandInput:
        return CommandInput(
            push_no=self._opened.push_no, command_id=id, who=who, what=what, way=way, args=args
        )

    def _wake(self) -> None:
        self._state.wake()
        self._changed = True

    @property
    def _opened(self) -> OpenResult:
        assert self._push is not None
        return self._push

    # ── what people see ───────────────────────────────────────────────────────────────────────────

    def _set_attributes(self, spec: PushSpec | None) -> None:
        """Once; a push that goes on kept them, or has what the ledger knows."""
        push = self._opened
        values: list[SearchAttributeUpdate[Any]] = [
            PUSH_ID.value_set(self._push_id),
            APP_ID.value_set(push.app),
        ]
        if push.campaign_id:
            values.append(CAMPAIGN_ID.value_set(push.campaign_id))
        if spec is not None:
            values.append(CAMPAIGN_KIND.value_set(spec.campaign_kind))
            values += [TAGS.value_set(list(spec.tags))] if spec.tags else []
            values += [SEND_AT.value_set(spec.send_at)] if spec.send_at else []
            values += [EXPIRES_AT.value_set(spec.deadline)] if spec.deadline else []
        self._shown_status = status(self._progress(None))
        workflow.upsert_search_attributes([*values, PUSH_STATUS.value_set(self._shown_status)])

    def _measure(self, answer: NextWorkResult) -> None:
        """Answers per second between two looks."""
        now = workflow.now()
        done = sum(lane.counts.get("accepted", 0) + lane.counts.get("rejected", 0) for lane in answer.lanes)
        if self._looked is not None and (seconds := (now - self._looked[0]).total_seconds()) >= 1:
            self._rate = (done - self._looked[1]) / seconds
            self._looked = now, done
        self._looked = self._looked or (now, done)

    def _show(self, look: NextWorkResult | None) -> None:
        progress = self._progress(look)
        workflow.set_current_details(details(progress, rate=self._rate, error=self._state.last_error))
        word = status(progress)
        if word != self._shown_status:
            self._shown_status = word
            updates: list[SearchAttributeUpdate[Any]] = [PUSH_STATUS.value_set(word)]
            if progress.audience and not progress.ranges_to_freeze:
                updates.append(AUDIENCE_SIZE.value_set(progress.audience))
            workflow.upsert_search_attributes(updates)

    def _progress(self, look: NextWorkResult | None) -> PushProgress:
        now, look = workflow.now(), look or NextWorkResult()
        result = self._result

        def moment(seconds: float | None) -> datetime | None:
            return None if seconds is None else now + timedelta(seconds=seconds)

        lanes = tuple(_lane(lane) for lane in look.lanes)
        return PushProgress(
            push_id=self._push_id,
            campaign_id=self._push.campaign_id if self._push else None,
            phase=self._phase,
            hold=Hold(look.hold).name.lower(),
            hold_by=look.hold_by,
            hold_reason=look.hold_reason,
            verdict=result.verdict if result else look.verdict,
            pace=look.pace,
            audience=sum(lane.audience for lane in lanes),
            ranges_to_freeze=len(look.to_freeze),
            lanes=lanes,
            send_at=moment(look.starts_in),
            deadline=moment(look.deadline_in),
            at=now,
            result=result.model_dump(mode="json") if result else None,
        )


def _lane(lane: LaneWork) -> LaneProgress:
    return LaneProgress(
        lane=lane.lane,
        provider=lane.provider,
        blocked=(lane.blocked_reason or "unknown") if lane.blocked else None,
        senders=lane.senders,
        **{name: number for name, number in lane.counts.items() if name in LaneProgress.model_fields},
    )
