"""Admission: may a batch begin? Waiting for quota is a retryable failure, which costs no slot.

Permits, device by device, are dealt inside the sender processes (clarion.quota); this is the gate before.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.parcel import Parcel
from clarion.store import running
from clarion.store.database import Database

LONGEST_WAIT = 10.0  # seconds; a batch that must wait longer gives its place to another one
ASK_AGAIN = 30.0  # seconds; a lane that is shut for longer is asked after in between


class QuotaInput(Parcel):
    """The batches of one child; the first one speaks for all."""

    push_no: int
    batches: tuple[int, ...]


class QuotaResult(Parcel):
    """`why` the batch must not begin (closed, held, deadline, blocked, leased, early), or None: it may."""

    why: str | None = None


class Quota:
    """The gate in front of the send queues."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @activity.defn(name="acquire_quota")
    async def acquire_quota(self, input: QuotaInput) -> QuotaResult:
        """Admit a batch, or say why not.

        Raises a retryable `Throttled` while it is only a matter of seconds.
        """
        admission = await running.admission(self._db, input.push_no, input.batches[0])
        if admission.why is None and admission.wait > LONGEST_WAIT:
            return QuotaResult(why="early")
        seconds = max(admission.wait, min(admission.shut, ASK_AGAIN))
        if admission.why is None and seconds > 0:
            raise throttled(seconds)
        return QuotaResult(why=admission.why)


def throttled(seconds: float) -> ApplicationError:
    """The failure that means: ask again in so many seconds."""
    return ApplicationError(
        "waiting for quota, not an error",
        type="Throttled",
        next_retry_delay=timedelta(seconds=max(seconds, 0.05)),
        category=ApplicationErrorCategory.BENIGN,
    )
