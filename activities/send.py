"""Send one batch: an attempt by this process, with a pulse beside it and a flag that stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from temporalio import activity
from temporalio.exceptions import ApplicationError, ApplicationErrorCategory

from activities.parcel import Parcel
from clarion import limits
from clarion.attempt import AttemptResult, Stop
from clarion.clock import SYSTEM_CLOCK

SCHEMA = 1  # of SendInput; a sender accepts this and the one before
STOPPED = "stopped"
GO_ON = ("done", "lost", "leased", "early", "closed")  # the next batch of a list may fare better


class SendInput(Parcel):
    """The batches of one child: one, or a list of such that have only retries due."""

    schema_number: int = SCHEMA
    push_no: int
    batches: tuple[int, ...]
    provider: str


class SendResult(Parcel):
    """How it ended: done, more, held, blocked, deadline, closed, leased, early, lost, stopped."""

    why: str


class Sends(Protocol):
    """What an attempt is made with: `clarion.process.SenderProcess`."""

    async def send(
        self, push_no: int, batch: int, *, lease: float, beat: Callable[[], None], stop: Stop
    ) -> AttemptResult:
        """One attempt at one batch."""

    async def resumed(self, push_no: int, *, beat: Callable[[], None], stop: Stop) -> bool:
        """Stand by while the push is paused: whether it goes on, soon enough to be waited for."""


class Pulse:
    """When the work last moved. A heartbeat without a pulse would keep a stalled attempt alive."""

    def __init__(self) -> None:
        self.beat()

    def beat(self) -> None:
        """It moved: an answer, a commit, a repeat at the database, a named wait."""
        self._at = SYSTEM_CLOCK.monotonic()

    @property
    def stalled(self) -> bool:
        """Nothing moved for so long that another attempt should have the batch."""
        return SYSTEM_CLOCK.monotonic() - self._at > limits.STALL_SECONDS

    async def tick(self) -> None:
        """Heartbeats until nothing moves any more."""
        while not self.stalled:
            activity.heartbeat()
            await asyncio.sleep(limits.HEARTBEAT_EVERY)


class Sending:
    """The activity of a sender process."""

    def __init__(self, process: Sends) -> None:
        self._process = process
        self._stops: set[Stop] = set()
        self._leaving = False

    def leave(self) -> None:
        """SIGTERM: every attempt drains, commits and releases; none begins."""
        self._leaving = True
        for stop in self._stops:
            stop.set("shutdown")

    @activity.defn(name="send_batch")
    async def send_batch(self, input: SendInput) -> SendResult:
        """Send what is planned in the batches.

        Cancelled, paused or timed out, it starts nothing more, waits for what is on the wire, commits and
        releases. Only then it ends: by its result if it was cancelled, else by the cancellation.
        """
        if input.schema_number not in (SCHEMA - 1, SCHEMA):
            raise ApplicationError("this sender is of another release", type="WrongRelease")
        stop, pulse = Stop(), Pulse()
        self._stops.add(stop)
        if self._leaving:
            stop.set("shutdown")
        ticker = asyncio.get_running_loop().create_task(pulse.tick())
        try:
            return await self._drained(input, stop, pulse)
        finally:
            ticker.cancel()
            self._stops.discard(stop)

    async def _drained(self, input: SendInput, stop: Stop, pulse: Pulse) -> SendResult:
        """Run the attempts in a task of their own: a cancellation inside a statement would cancel that."""
        work = asyncio.get_running_loop().create_task(self._attempts(input, stop, pulse))
        cancelled: asyncio.CancelledError | None = None
        while not work.done():
            try:
                await asyncio.wait([work])
            except asyncio.CancelledError as error:
                cancelled = cancelled or error
                stop.set("cancelled")
        result = work.result()
        if cancelled is not None:
            details = activity.cancellation_details()
            if details is None or not details.cancel_requested:
                raise cancelled
        elif result.why == STOPPED:
            raise ApplicationError(
                "this sender is shutting down", type="Shutdown", category=ApplicationErrorCategory.BENIGN
            )
        return result

    async def _attempts(self, input: SendInput, stop: Stop, pulse: Pulse) -> SendResult:
        """One attempt at each batch; the first result that is not `done` is the result of all."""
        now = SYSTEM_CLOCK.monotonic
        ends = now() + limits.ATTEMPT_SECONDS
        result = "done"
        for batch in input.batches:
            if now() >= ends:
                return SendResult(why="more")
            why = await self._attempt(input, batch, stop, pulse)
            while (
                why == "held" and SYSTEM_CLOCK.monotonic() < ends and await self._resumed(input, stop, pulse)
            ):
                why = await self._attempt(input, batch, stop, pulse)
            if why not in GO_ON:
                return SendResult(why=why)
            result = why if result == "done" else result
        return SendResult(why=result)

    async def _resumed(self, input: SendInput, stop: Stop, pulse: Pulse) -> bool:
        """A pause soon over costs no hop of Temporal's: the batch is given back, its place kept."""
        return await self._process.resumed(input.push_no, beat=pulse.beat, stop=stop)

    async def _attempt(self, input: SendInput, batch: int, stop: Stop, pulse: Pulse) -> str:
        if stop.reason is not None:
            return STOPPED
        ended = await self._process.send(
            input.push_no, batch, lease=limits.lease(input.provider), beat=pulse.beat, stop=stop
        )
        pulse.beat()
        return "held" if ended.why == "hold" else ended.why
