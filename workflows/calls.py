"""How workflows call activities and children: queues, time-outs and retries, once.

No business time is in any of these: deadlines live in the control row, and a pause would run into them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import Priority, RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

from clarion import limits, names

In = TypeVar("In")
Out = TypeVar("Out")

PATIENT = RetryPolicy(
    initial_interval=timedelta(seconds=1), backoff_coefficient=1.5, maximum_interval=timedelta(seconds=5)
)
EAGER = RetryPolicy(
    initial_interval=timedelta(seconds=0.5), backoff_coefficient=1.5, maximum_interval=timedelta(seconds=3)
)
TASK_TIMEOUT = timedelta(seconds=limits.WORKFLOW_TASK_TIMEOUT)
BULK_HEARTBEAT = timedelta(seconds=30)


async def ops(
    activity: Callable[[Any, In], Awaitable[Out]], input: In, *, patience: float | None = None
) -> Out:
    """A short activity. With `patience` it is given up after so many seconds, its outcome unknown."""
    return await workflow.execute_activity_method(
        activity,
        input,
        task_queue=names.OPS_QUEUE,
        start_to_close_timeout=timedelta(seconds=limits.OPS_TIMEOUT),
        schedule_to_close_timeout=None if patience is None else timedelta(seconds=patience),
        retry_policy=PATIENT,
    )


async def bulk(
    activity: Callable[[Any, In], Awaitable[Out]], input: In, *, summary: str | None = None
) -> Out:
    """A long activity; its process is noticed to be dead by its heartbeats."""
    return await workflow.execute_activity_method(
        activity,
        input,
        task_queue=names.BULK_QUEUE,
        start_to_close_timeout=timedelta(seconds=limits.BULK_TIMEOUT),
        heartbeat_timeout=BULK_HEARTBEAT,
        retry_policy=PATIENT,
        summary=summary,
    )


async def send(activity: Callable[[Any, In], Awaitable[Out]], input: In, *, queue: str, summary: str) -> Out:
    """A send. Cancelled, it drains first, and says what became of it."""
    return await workflow.execute_activity_method(
        activity,
        input,
        task_queue=queue,
        activity_id="send",
        start_to_close_timeout=timedelta(seconds=limits.SEND_TIMEOUT),
        heartbeat_timeout=timedelta(seconds=limits.HEARTBEAT_TIMEOUT),
        retry_policy=EAGER,
        cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
        summary=summary,
    )


def priority(number: int, app: str) -> Priority:
    """Normal before low; high has queues of its own. Apps share what is left."""
    return Priority(priority_key=max(number, 1), fairness_key=app[:64])


def words_of(error: BaseException) -> str:
    """The innermost words of a failure: what an activity or child said."""
    while error.__cause__ is not None and not isinstance(error, ApplicationError):
        error = error.__cause__
    return error.message if isinstance(error, ApplicationError) else str(error)


def is_refusal(error: ActivityError) -> bool:
    """Whether the ledger refused a word, and did not merely fail."""
    return isinstance(error.cause, ApplicationError) and error.cause.type == "CommandRefused"


def refusal(error: ActivityError, what: str) -> ApplicationError:
    """What the sender of a command is told when it did not come through."""
    cause = error.cause
    if isinstance(cause, ApplicationError) and cause.non_retryable:
        return ApplicationError(cause.message, type=cause.type, non_retryable=True)
    return ApplicationError(
        f"the outcome of {what} is unknown: the database did not answer in time. It is safe to repeat",
        type="StoreUnavailable",
        non_retryable=True,
    )
