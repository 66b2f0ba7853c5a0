"""What `temporalio.workflow` asks while the code of a workflow runs, answered by the simulated server."""

# ruff: noqa: D102 -- these methods are documented where Temporal's package declares them

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import timedelta
from random import Random
from typing import Any, NoReturn

from temporalio import workflow
from temporalio.activity import _Definition as Definition
from temporalio.common import Priority, TypedSearchAttributes
from temporalio.exceptions import CancelledError, ChildWorkflowError, RetryState

from benchmarks.simulation.loop import WORLD, VirtualLoop
from benchmarks.simulation.temporal import RUN, Call, GoesOnAsNew, Run, Temporal
from workflows import batch


class Runtime(workflow._Runtime):
    """What `temporalio.workflow` asks while a workflow runs."""

    def __init__(self, temporal: Temporal) -> None:
        super().__init__()
        self._temporal = temporal

    @property
    def logger_details(self) -> Mapping[str, Any]:
        """Nobody reads these logs."""
        return {}

    def workflow_info(self) -> workflow.Info:
        run = RUN.get()
        above = run.parent
        parent = above and workflow.ParentInfo("default", f"run-{above.number}", above.id)
        return workflow.Info(
            attempt=1,
            continued_run_id=None,
            cron_schedule=None,
            execution_timeout=None,
            first_execution_run_id="first",
            headers={},
            namespace="default",
            original_execution_run_id="first",
            parent=parent or None,
            root=None,
            priority=Priority.default,
            raw_memo={},
            retry_policy=None,
            run_id=f"run-{run.number}",
            run_timeout=None,
            search_attributes={},
            start_time=self._temporal.clock.now(),
            task_queue="control",
            task_timeout=timedelta(seconds=3),
            typed_search_attributes=TypedSearchAttributes.empty,
            workflow_id=run.id,
            workflow_start_time=self._temporal.clock.now(),
            workflow_type=run.kind.__name__,
        )

    def workflow_time_ns(self) -> int:
        return int(self._temporal.clock.time() * 1e9)

    def workflow_random(self) -> Random:
        return self._temporal.random

    def workflow_is_replaying(self) -> bool:
        return False

    def workflow_is_replaying_history_events(self) -> bool:
        return False

    def workflow_is_read_only(self) -> bool:
        return False

    def workflow_memo_value(self, key: str, default: Any, *, type_hint: type | None) -> Any:
        return default

    def workflow_patch(self, id: str, *, deprecated: bool, event_groups: Any = None) -> bool:
        return True

    def workflow_cancellation_reason(self) -> str | None:
        return RUN.get().cancelled

    def workflow_is_continue_as_new_suggested(self) -> bool:
        return RUN.get().activities >= self._temporal.again_after

    def workflow_all_handlers_finished(self) -> bool:
        return RUN.get().handlers == 0

    def workflow_continue_as_new(self, *args: Any, **options: Any) -> NoReturn:
        raise GoesOnAsNew(list(args))

    def workflow_upsert_search_attributes(self, attributes: Any, *, event_groups: Any = None) -> None:
        return None

    def workflow_set_current_details(self, details: str) -> None:
        return None

    async def workflow_wait_condition(
        self, fn: Callable[[], bool], *, timeout: float | None = None, **options: Any
    ) -> None:
        await self._temporal.until(RUN.get(), fn, timeout)

    def workflow_start_activity(self, activity: Any, *args: Any, **options: Any) -> Any:
        name = Definition.must_from_callable(activity).name
        assert name is not None
        call = Call(RUN.get(), name, options["task_queue"], args[0], options)
        self._temporal.call(call)
        waits = options["cancellation_type"] == workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED
        return asyncio.get_running_loop().create_task(self._activity(call, waits))

    async def _activity(self, call: Call, waits: bool) -> Any:
        while True:
            try:
                return await asyncio.shield(call.done)
            except asyncio.CancelledError:
                call.cancelled = True
                if not waits and not call.done.done():
                    self._temporal.answer(call, CancelledError("cancelled"))

    async def workflow_start_child_workflow(self, workflow: Any, *args: Any, **options: Any) -> Any:
        run = RUN.get()
        await asyncio.sleep(self._temporal.latency())
        child = self._temporal.start(_class_of(workflow), options["id"], list(args), run)
        return asyncio.get_running_loop().create_task(self._child(child))

    async def _child(self, child: Run) -> Any:
        while True:
            try:
                return await asyncio.shield(child.ended)
            except asyncio.CancelledError:
                if child.ended.done():
                    raise
                self._temporal.loop.call_soon(self._temporal.cancel, child, context=WORLD.copy())
            except Exception as cause:
                error = ChildWorkflowError(
                    "child failed",
                    namespace="default",
                    workflow_id=child.id,
                    run_id=f"run-{child.number}",
                    workflow_type=child.kind.__name__,
                    initiated_event_id=0,
                    started_event_id=0,
                    retry_state=RetryState.NON_RETRYABLE_FAILURE,
                )
                raise error from cause


Runtime.__abstractmethods__ = frozenset()  # what our workflows do not ask for is not there


def _class_of(method: Any) -> type:
    """The workflow class of a `run` method."""
    return getattr(batch, method.__qualname__.partition(".")[0])  # type: ignore[no-any-return]


def install(loop: VirtualLoop, temporal: Temporal) -> None:
    """Workflow code on this loop runs under that server."""
    workflow._Runtime.set_on_loop(loop, Runtime(temporal))  # type: ignore[abstract]
