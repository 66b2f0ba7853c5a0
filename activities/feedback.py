"""Providers asked for registrations that have ended, by a schedule of Temporal's.

The schedule stands in Temporal, where an operator can pause it, look at what it has done, or trigger it.
"""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity
from temporalio.client import (
    Client,
    Schedule,
    ScheduleActionStartWorkflow,
    ScheduleAlreadyRunningError,
    ScheduleIntervalSpec,
    ScheduleOverlapPolicy,
    SchedulePolicy,
    ScheduleSpec,
)

from activities.faults import ticking
from activities.parcel import Parcel
from clarion import limits, names
from clarion.seal import Seal
from clarion.store import credentials, feedback
from clarion.store.database import Database
from clarion.store.feedback import Place
from clarion.telemetry import TOTALS


class ToAskInput(Parcel):
    """Nothing to say."""


class AskInput(Parcel):
    """A lane whose provider is asked."""

    app_no: int
    lane: int
    provider: str


class ToAskResult(Parcel):
    """The lanes to ask."""

    lanes: tuple[AskInput, ...] = ()


class AskResult(Parcel):
    """Registrations that the provider named; those that were ours and have ended by it; what went wrong."""

    app_no: int
    lane: int
    provider: str
    named: int = 0
    retired: int = 0
    error: str | None = None


class FeedbackPlan:
    """Which lanes have a provider that tells. Knows no provider's secret."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @activity.defn(name="feedback_to_ask")
    async def to_ask(self, input: ToAskInput) -> ToAskResult:
        """All of them, whether they have something to tell or not."""
        found = await feedback.to_ask(self._db, names.TELLING)
        return ToAskResult(
            lanes=tuple(AskInput(app_no=one.app_no, lane=one.lane, provider=one.provider) for one in found)
        )


class Feedback:
    """One provider's word, in a process that holds the credential."""

    def __init__(self, db: Database, seal: Seal) -> None:
        self._db, self._seal = db, seal

    @activity.defn(name="ask_feedback")
    async def ask(self, input: AskInput) -> AskResult:
        """Ask until there is nothing new, and end what is named, list by list.

        Fails for good with CredentialBlocked; otherwise it is tried again. What one try was told and could
        not write is told by the next message to that address.
        """
        from clarion.senders.feedback import ended  # only senders need the transport and its libraries
        from clarion.senders.link import Surroundings

        place = Place(input.app_no, input.lane, input.provider)
        named = retired = 0
        async with ticking():
            credential = await credentials.load(self._db, self._seal, place.app_no, place.lane)
            async for tokens in ended(credential, Surroundings(self._db, self._seal)):
                named += len(tokens)
                now = await self._db.persist(lambda: feedback.retire(self._db, place, tokens))  # noqa: B023
                TOTALS.retired([(place.provider, feedback.reason(place.provider), now)])
                retired += now
        return AskResult(**input.model_dump(), named=named, retired=retired)


async def keep_schedule(client: Client) -> None:
    """See to it that the schedule is there. One that somebody has paused stays paused."""
    every = ScheduleIntervalSpec(every=timedelta(seconds=limits.FEEDBACK_EVERY))
    schedule = Schedule(
        action=ScheduleActionStartWorkflow(
            names.FEEDBACK_WORKFLOW, id=names.FEEDBACK, task_queue=names.CONTROL_QUEUE
        ),
        spec=ScheduleSpec(intervals=[every], jitter=timedelta(seconds=limits.FEEDBACK_EVERY / 12)),
        policy=SchedulePolicy(overlap=ScheduleOverlapPolicy.SKIP),
    )
    try:
        await client.create_schedule(names.FEEDBACK, schedule)
    except ScheduleAlreadyRunningError:
        return
