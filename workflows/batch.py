"""BatchWorkflow: quota, send, retire. The unit that operators see, and that is cancelled as a whole."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field
from temporalio import workflow

from activities.parcel import Parcel
from activities.quota import Quota, QuotaInput
from activities.registrations import Registrations, RetireInput
from activities.send import Sending, SendInput
from clarion import names
from workflows import calls
from workflows.start import read_batch


class BatchInput(Parcel):
    """One batch of a push, or a list of batches that have only retries due."""

    push_no: int = Field(ge=0, lt=2**63)
    batches: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = Field(min_length=1)
    provider: str
    high: bool = False


class BatchResult(Parcel):
    """How it ended; what became of its rows is in the ledger."""

    why: str


@workflow.defn(name=names.BATCH_WORKFLOW)
class BatchWorkflow:
    """Keeps nothing: a lost one is found again by what its batch still has open."""

    @workflow.run
    async def run(self, *inputs: Any) -> BatchResult:
        """Take one BatchInput, from a push. Admit, send, retire.

        Cancelled, it drains: what is on the wire is answered and booked. Fails at once when a stranger
        started it with something else.
        """
        input = read_batch(BatchInput, inputs)
        quota = QuotaInput(push_no=input.push_no, batches=input.batches)
        admitted = await calls.ops(Quota.acquire_quota, quota)
        if admitted.why is not None:
            return BatchResult(why=admitted.why)
        sent = await calls.send(
            Sending.send_batch,
            SendInput(push_no=input.push_no, batches=input.batches, provider=input.provider),
            queue=names.send_queue(input.provider, high=input.high),
            summary=title(input),
        )
        # A drained send returns as if nothing had happened, so the cancellation is asked for.
        if workflow.cancellation_reason() is None and sent.why in ("done", "more"):
            await calls.bulk(Registrations.retire_registrations, RetireInput(push_no=input.push_no))
        return BatchResult(why=sent.why)


def title(input: BatchInput) -> str:
    """What the timeline shows."""
    if len(input.batches) == 1:
        return f"{input.provider} batch {input.batches[0]}"
    return f"{input.provider} retries of {len(input.batches)} batches"
