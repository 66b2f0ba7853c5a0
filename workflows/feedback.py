"""FeedbackWorkflow: every provider that tells is asked once. Started by the schedule `feedback`."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import RetryPolicy
from temporalio.exceptions import ActivityError

from activities.feedback import AskInput, AskResult, Feedback, FeedbackPlan, ToAskInput
from clarion import limits, names
from workflows import calls

RETRIES = RetryPolicy(
    initial_interval=timedelta(seconds=10),
    backoff_coefficient=2.0,
    maximum_interval=timedelta(minutes=5),
    non_retryable_error_types=["CredentialBlocked"],
)


@workflow.defn(name=names.FEEDBACK_WORKFLOW)
class FeedbackWorkflow:
    """One round."""

    @workflow.run
    async def run(self, *ignored: Any) -> list[AskResult]:
        """What each of them told. One that cannot be asked keeps none of the others from it."""
        plan = await calls.ops(FeedbackPlan.to_ask, ToAskInput())
        return list(await asyncio.gather(*(_ask(lane) for lane in plan.lanes)))


async def _ask(lane: AskInput) -> AskResult:
    try:
        return await workflow.execute_activity_method(
            Feedback.ask,
            lane,
            task_queue=names.FEEDBACK_QUEUE,
            start_to_close_timeout=timedelta(seconds=limits.BULK_TIMEOUT),
            schedule_to_close_timeout=timedelta(seconds=limits.FEEDBACK_EVERY / 2),
            heartbeat_timeout=calls.BULK_HEARTBEAT,
            retry_policy=RETRIES,
            summary=f"ask {lane.provider}, app {lane.app_no}",
        )
    except ActivityError as error:
        return AskResult(**lane.model_dump(), error=calls.words_of(error))
