"""TopicSendWorkflow and TopicChangeWorkflow: a word to an FCM topic, as something that outlives its caller.

One activity, on a queue that FCM's sender processes serve: they have the credentials. Nothing of it is in
the ledger; the audit has it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError, ApplicationError

from activities.topics import ChangeTopicInput, SendTopicInput, Topics
from clarion import limits, names
from clarion.model.topic import TopicChange, TopicChanged, TopicSend, TopicSent
from workflows.start import read_topic

In = TypeVar("In")
Out = TypeVar("Out")
RETRIES = RetryPolicy(
    initial_interval=timedelta(seconds=2),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(seconds=60),
    non_retryable_error_types=["CredentialBlocked"],
)


@workflow.defn(name=names.TOPIC_SEND_WORKFLOW)
class TopicSendWorkflow:
    """Started with one TopicSend; its id is `topic/{id}`."""

    @workflow.run
    async def run(self, *inputs: Any) -> TopicSent:
        """Send it, or fail with the reason."""
        id, send = read_topic(TopicSend, workflow.info().workflow_id, inputs)
        return await _do(Topics.send_topic, SendTopicInput(id=id, send=send))


@workflow.defn(name=names.TOPIC_CHANGE_WORKFLOW)
class TopicChangeWorkflow:
    """Started with one TopicChange; its id is `topic/{id}`."""

    @workflow.run
    async def run(self, *inputs: Any) -> TopicChanged:
        """Subscribe or unsubscribe, or fail with the reason."""
        id, change = read_topic(TopicChange, workflow.info().workflow_id, inputs)
        return await _do(Topics.change_topic, ChangeTopicInput(id=id, change=change))


async def _do(doing: Callable[[Topics, In], Awaitable[Out]], input: In) -> Out:
    try:
        return await workflow.execute_activity_method(
            doing,
            input,
            task_queue=names.TOPIC_QUEUE,
            start_to_close_timeout=timedelta(seconds=limits.TOPIC_TIMEOUT),
            schedule_to_close_timeout=timedelta(seconds=limits.TOPIC_PATIENCE),
            heartbeat_timeout=timedelta(seconds=30),
            retry_policy=RETRIES,
        )
    except ActivityError as error:
        cause = error.cause
        if isinstance(cause, ApplicationError):
            raise ApplicationError(cause.message, type=cause.type, non_retryable=True) from None
        raise ApplicationError(
            "no answer in time: is a sender process for FCM running? It may or may not have been done",
            type="SenderError",
            non_retryable=True,
        ) from None
