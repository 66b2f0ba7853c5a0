"""The batch workflow with two of its activities in the other order: what a replay test must notice."""

from __future__ import annotations

from temporalio import workflow

from activities.quota import Quota, QuotaInput
from activities.registrations import Registrations, RetireInput
from activities.send import Sending, SendInput
from clarion import names
from workflows import calls
from workflows.batch import BatchInput, BatchResult, title


@workflow.defn(name=names.BATCH_WORKFLOW)
class Reordered:
    """Sends after it has retired."""

    @workflow.run
    async def run(self, input: BatchInput) -> BatchResult:
        """As a careless change would have it."""
        await calls.ops(Quota.acquire_quota, QuotaInput(push_no=input.push_no, batches=input.batches))
        await calls.bulk(Registrations.retire_registrations, RetireInput(push_no=input.push_no))
        sent = await calls.send(
            Sending.send_batch,
            SendInput(push_no=input.push_no, batches=input.batches, provider=input.provider),
            queue=names.send_queue(input.provider, high=input.high),
            summary=title(input),
        )
        return BatchResult(why=sent.why)
