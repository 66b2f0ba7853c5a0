"""Temporal, as far as the push loop needs it: the real workflows run, their server does as the seed says.

Activities are delayed, run twice, lose their completions and outlive their time-outs; tasks go to any process
of a queue, or die with it; runs are terminated in the middle. What Temporal promises is kept: one run an id,
heartbeat and start-to-close time-outs, retries with back-off, cancellation by heartbeat, a parent's
cancellation of its children. (Replay is not shown here: tests/integration/test_replay.py does.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextvars import Context, ContextVar
from dataclasses import replace
from datetime import timedelta
from random import Random
from typing import Any, Final

from temporalio import workflow
from temporalio.activity import ActivityCancellationDetails
from temporalio.api.common.v1 import Payload
from temporalio.common import RetryPolicy
from temporalio.exceptions import (
    ActivityError,
    ApplicationError,
    CancelledError,
    RetryState,
    TerminatedError,
    TimeoutError,
    TimeoutType,
    WorkflowAlreadyStartedError,
)
from temporalio.testing import ActivityEnvironment

from activities.faults import ours
from benchmarks.simulation.clock import VirtualClock
from benchmarks.simulation.loop import WORLD, Machine, VirtualLoop

RUN: Final[ContextVar[Run]] = ContextVar("run")
Headers = Mapping[str, Payload]


class GoesOnAsNew(BaseException):
    """A run ends and the next one begins."""

    def __init__(self, args: list[Any]) -> None:
        self.args_ = args


class Host(Machine):
    """A worker process: which queues it serves, and its activities by name."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.queues: set[str] = set()
        self.activities: dict[str, Callable[..., Any]] = {}


class Run(Machine):
    """One run of a workflow."""

    def __init__(self, id: str, number: int, kind: type, args: list[Any], parent: Run | None) -> None:
        super().__init__(id)
        self.id, self.number, self.kind, self.args, self.parent = id, number, kind, args, parent
        self.instance: Any = None
        self.task: asyncio.Task[Any] | None = None
        self.children: set[Run] = set()
        self.cancelled: str | None = None
        self.handlers = 0
        self.activities = 0
        self.ended = asyncio.get_running_loop().create_future()

    def scene(self) -> Context:
        """A new context of this run, in which workflow code finds its runtime."""
        context = self.context()
        context.run(RUN.set, self)
        return context

    @property
    def over(self) -> bool:
        """Whether it has ended, by itself or not."""
        return self.dead or self.ended.done()


class Call:
    """One activity that a run waits for."""

    def __init__(self, run: Run, name: str, queue: str, input: Any, options: dict[str, Any]) -> None:
        self.run, self.name, self.queue, self.input, self.options = run, name, queue, input, options
        run.activities += 1
        self.id = options["activity_id"] or str(run.activities)
        self.done: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.cancelled = False


class Temporal:
    """The server and its workers' schedulers. `mischief`: how often it loses and repeats."""

    def __init__(self, loop: VirtualLoop, clock: VirtualClock) -> None:
        self.loop, self.clock = loop, clock
        self.random = Random()
        self.mischief = 0.0
        self.hosts: list[Host] = []
        self.runs: dict[str, Run] = {}
        self.again_after = 1_000  # activities of a run until it is told to go on as new
        self._conditions: list[tuple[Run, Callable[[], bool], asyncio.Future[None]]] = []
        self._numbers = 0
        loop.when_idle.insert(0, self._look)

    def clear(self) -> None:
        """Forget everything, for a new life."""
        for one in [*self.hosts, *self.runs.values()]:
            one.kill()
        self.hosts, self.runs, self._conditions, self._numbers = [], {}, [], 0

    # ── runs ──────────────────────────────────────────────────────────────────────────────────────

    def start(self, kind: type, id: str, args: list[Any], parent: Run | None = None) -> Run:
        """Start a workflow. Raises WorkflowAlreadyStartedError."""
        known = self.runs.get(id)
        if known is not None and not known.over:
            raise WorkflowAlreadyStartedError(id, kind.__name__)
        self._numbers += 1
        run = self.runs[id] = Run(id, self._numbers, kind, args, parent)
        if parent is not None:
            parent.children.add(run)
        run.task = self.spawn(self._live(run), run.scene())
        return run

    async def _live(self, run: Run) -> None:
        try:
            await asyncio.sleep(self.latency())
            takes = "__init__" in vars(run.kind)
            run.instance = run.kind(*run.args) if takes else run.kind()
            result = await run.instance.run(*run.args)
        except GoesOnAsNew as new:
            self.loop.call_soon(self._go_on, run, new.args_, context=WORLD.copy())
        except asyncio.CancelledError:
            self._end(run, CancelledError("cancelled"))
        except Exception as error:
            self._end(run, error)
        else:
            self._end(run, result)

    def _go_on(self, run: Run, args: list[Any]) -> None:
        run.kill()
        self._orphan(run)
        self.start(run.kind, run.id, args, run.parent)

    def _end(self, run: Run, outcome: Any) -> None:
        if isinstance(outcome, BaseException):
            run.ended.set_exception(outcome)
            run.ended.exception()  # somebody has looked
        else:
            run.ended.set_result(outcome)
        self.loop.call_soon(self._orphan, run, context=WORLD.copy())

    def _orphan(self, run: Run) -> None:
        """What becomes of the children of a run that ended: they are asked to stop, sooner or later."""
        for child in sorted(run.children, key=lambda one: one.number):
            self.loop.call_later(self.latency(), self.cancel, child, context=WORLD.copy())

    def terminate(self, run: Run) -> None:
        """As by the UI's Terminate: nobody is asked."""
        if run.over:
            return
        run.kill()
        run.ended.set_exception(TerminatedError("terminated"))
        run.ended.exception()
        self._orphan(run)

    def cancel(self, run: Run) -> None:
        """Request Cancellation."""
        if not run.over and run.cancelled is None:
            run.cancelled = "cancelled"
            if run.task is not None:
                run.task.cancel()

    def say(self, run: Run, word: str, input: Any) -> asyncio.Future[Any]:
        """An update: its validator, then its handler. The future is acknowledged, refused, or never done."""
        answer = self.loop.create_future()
        self._numbers += 1
        context = run.scene()
        context.run(workflow._current_update_info.set, workflow.UpdateInfo(id=str(self._numbers), name=word))
        self.spawn(self._handle(run, word, input, answer), context)
        return answer

    async def _handle(self, run: Run, word: str, input: Any, answer: asyncio.Future[Any]) -> None:
        await asyncio.sleep(self.latency())
        await self.until(run, lambda: run.instance is not None, None)
        run.handlers += 1
        try:
            getattr(run.instance, f"_check_{word}")(input)
            outcome = await getattr(run.instance, word)(input)
        except ApplicationError as error:
            answer.set_exception(error)
        else:
            answer.set_result(outcome)
        finally:
            run.handlers -= 1

    # ── activities ────────────────────────────────────────────────────────────────────────────────

    def call(self, call: Call) -> None:
        """Schedule an activity."""
        self.spawn(self._drive(call), WORLD.copy())

    async def _drive(self, call: Call) -> None:
        """Attempt after attempt, until one is good or none may follow."""
        policy: RetryPolicy = call.options["retry_policy"]
        ends = _seconds(call.options["schedule_to_close_timeout"])
        gives_up = None if ends is None else self.loop.time() + ends
        pause, attempt = policy.initial_interval.total_seconds(), 0
        while not call.run.over:
            attempt += 1
            await asyncio.sleep(self.latency())
            outcome = await self._attempt(call, attempt)
            if self._enough(call, outcome, gives_up, pause):
                return self.answer(call, outcome)
            wait = pause
            if isinstance(outcome, ApplicationError) and outcome.next_retry_delay is not None:
                wait = outcome.next_retry_delay.total_seconds()
            pause = min(pause * policy.backoff_coefficient, policy.maximum_interval.total_seconds())  # type: ignore[union-attr]
            await asyncio.sleep(wait)
            if call.cancelled:
                return self.answer(call, CancelledError("cancelled"))
        return None

    def _enough(self, call: Call, outcome: Any, gives_up: float | None, pause: float) -> bool:
        if not isinstance(outcome, BaseException) or isinstance(outcome, CancelledError):
            return True
        if isinstance(outcome, ApplicationError) and outcome.non_retryable:
            return True
        return call.cancelled or (gives_up is not None and self.loop.time() + pause >= gives_up)

    def answer(self, call: Call, outcome: Any) -> None:
        """Tell the run, once."""
        if call.done.done():
            return
        if isinstance(outcome, BaseException):
            error = ActivityError(
                "activity failed",
                scheduled_event_id=0,
                started_event_id=0,
                identity="",
                activity_type=call.name,
                activity_id=call.id,
                retry_state=RetryState.NON_RETRYABLE_FAILURE,
            )
            error.__cause__ = outcome
            call.done.set_exception(error)
        else:
            call.done.set_result(outcome)

    async def _attempt(self, call: Call, attempt: int) -> Any:
        """One attempt somewhere: its result, or what it failed with."""
        host = await self._host(call)
        if host is None:
            return CancelledError("cancelled")
        attempted = _Attempt(self, call, host, attempt)
        lost = self.random.random() < self.mischief
        if self.random.random() < self.mischief and (other := self._any_host(call.queue)) is not None:
            _Attempt(self, call, other, attempt)  # a task that was handed out twice
        return await attempted.outcome(lost=lost)

    async def _host(self, call: Call) -> Host | None:
        """A process that takes the task; None: cancelled before one did."""
        ends = _seconds(call.options["schedule_to_close_timeout"])
        until = None if ends is None else self.loop.time() + ends
        while (host := self._any_host(call.queue)) is None:
            if call.cancelled or call.run.over or (until is not None and self.loop.time() >= until):
                return None
            await asyncio.sleep(0.1)
        return host

    def _any_host(self, queue: str) -> Host | None:
        """One that polls; now and then one that has just died or stopped, which the server cannot know."""
        serving = [host for host in self.hosts if queue in host.queues]
        able = [host for host in serving if not host.dead and not host.frozen]
        if self.random.random() < self.mischief and serving:
            return self.random.choice(serving)
        return self.random.choice(able) if able else None

    # ── time ──────────────────────────────────────────────────────────────────────────────────────

    async def until(self, run: Run, condition: Callable[[], bool], timeout: float | None) -> None:
        """Looked at whenever nobody can run, as Temporal looks after each turn."""
        if condition():
            return
        future: asyncio.Future[None] = self.loop.create_future()
        waiting = (run, condition, future)
        self._conditions.append(waiting)
        try:
            async with asyncio.timeout(timeout):
                await future
        finally:
            if waiting in self._conditions:
                self._conditions.remove(waiting)

    def _look(self) -> bool:
        found = False
        for waiting in list(self._conditions):
            run, condition, future = waiting
            if run.dead:
                self._conditions.remove(waiting)
            elif not future.done() and run.scene().run(condition):
                future.set_result(None)
                found = True
        return found

    def spawn(self, work: Any, context: Any) -> asyncio.Task[Any]:
        """A task in a machine, or in the world."""
        return self.loop.create_task(work, context=context)

    def latency(self) -> float:
        """Seconds on the way."""
        return self.random.uniform(0.001, 0.02) if self.random.random() < 0.97 else self.random.uniform(0, 1)


class _Attempt:
    """One attempt at an activity, in its process, under Temporal's own activity context."""

    def __init__(self, temporal: Temporal, call: Call, host: Host, number: int) -> None:
        self._temporal, self._call, self._host = temporal, call, host
        self._given_up = False
        self._seen = temporal.loop.time()
        self._result: asyncio.Future[Any] = temporal.loop.create_future()
        self._environment = ActivityEnvironment()
        self._environment.info = replace(
            self._environment.info,
            activity_id=call.id,
            activity_type=call.name,
            workflow_run_id=f"run-{call.run.number}",
            workflow_id=call.run.id,
            attempt=number,
        )
        self._environment.on_heartbeat = self._heartbeat
        temporal.spawn(self._work(), host.context())

    async def _work(self) -> None:
        try:
            outcome = await self._environment.run(self._host.activities[self._call.name], self._call.input)
        except asyncio.CancelledError:
            outcome = CancelledError("cancelled")
        except ApplicationError as error:
            outcome = error
        except Exception as error:
            outcome = ours(error)
        if not self._result.done():
            self._result.set_result(outcome)

    def _heartbeat(self, *details: Any) -> None:
        """Heard by the server, which answers whether the work is still wanted."""
        self._seen = self._temporal.loop.time()
        if self._given_up or self._call.run.over:
            self._tell(ActivityCancellationDetails(not_found=True))
        elif self._call.cancelled:
            self._tell(ActivityCancellationDetails(cancel_requested=True))

    def _tell(self, details: ActivityCancellationDetails) -> None:
        later = self._temporal.random.uniform(0.001, 0.1)
        context = self._host.context()
        self._temporal.loop.call_later(later, self._environment.cancel, details, context=context)

    async def outcome(self, *, lost: bool) -> Any:
        """What the server gets to know. `lost`: its completion never arrives."""
        options, began = self._call.options, self._temporal.loop.time()
        whole = _seconds(options["start_to_close_timeout"]) or 600.0
        pulse = _seconds(options["heartbeat_timeout"])
        while True:
            if self._result.done() and not lost:
                return self._result.result()
            now = self._temporal.loop.time()
            if now - began >= whole or (pulse is not None and now - self._seen >= pulse):
                self._given_up = True
                return TimeoutError("timed out", type=TimeoutType.HEARTBEAT, last_heartbeat_details=[])
            ends = began + whole if pulse is None else min(began + whole, self._seen + pulse)
            if lost:
                await asyncio.sleep(max(ends - now, 0.001))
            else:
                await asyncio.wait([self._result], timeout=max(ends - now, 0.001))


def _seconds(given: timedelta | None) -> float | None:
    return None if given is None else given.total_seconds()
