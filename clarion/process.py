"""A sender process: what all its attempts share.

One window, one set of permits, one sender per lane, the facts of the pushes it works on. Attempts come and
go; this stays.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Protocol
from uuid import uuid4

from opentelemetry import trace

from clarion import attempt, limits
from clarion.clock import SYSTEM_CLOCK, Clock
from clarion.errors import BadCredential, BadInput, CommandRefused, NotFound, StoreFull
from clarion.model.ledger import Hold
from clarion.model.message import Message
from clarion.senders.outcome import Outcome
from clarion.senders.sender import PushFacts, Sender
from clarion.store import push as pushes
from clarion.store.database import Database
from clarion.store.ledger import Ledger
from clarion.store.locales import Locales
from clarion.store.reasons import Reasons
from clarion.window import Window

if TYPE_CHECKING:
    from clarion.quota.permits import Permits

tracer = trace.get_tracer("clarion")

WATCHED_ANSWERS = 200  # answers that the two rules below look back at
WRONG_DEVICE_SHARE = 0.3  # so many "wrong device for this credential": the credential is wrong
FIRST_ROWS = 1_000  # rows of a content version that show whether it fits
TOO_LARGE_SHARE = 0.05  # so many of them too large after rendering: it is the content that is wrong
THROTTLED_SHARE = 0.2  # so many registrations throttled: it is the lane that is too fast


class SenderSource(Protocol):
    """Where senders come from: `clarion.senders.lanes.Lanes`, or a test's own."""

    async def get(self, app_no: int, lane: int) -> Sender:
        """The sender of a lane as its credential is now. Raises BadCredential or NotFound."""

    async def close(self) -> None:
        """Close all senders."""


class PushDesk:
    """What attempts need to know of one push, fetched once."""

    def __init__(self, db: Database, facts: pushes.Facts) -> None:
        self._db = db
        self.app_no = facts.app_no
        self.priority = facts.priority
        self.facts = PushFacts(
            push_no=facts.push_no,
            push_id=facts.push_id,
            app=facts.app,
            dedup_key=facts.dedup_key,
            high=facts.priority == 1,
            deadline=facts.deadline,
        )
        self._messages: dict[int, Message] = {}
        self._sized: dict[int, tuple[float, int]] = {}  # version: its rows here, of them too large

    def heed(self, deadline: datetime | None) -> None:
        """The control row's deadline: providers are told the lifetime that is left."""
        at = None if deadline is None else deadline.timestamp()
        if at != self.facts.deadline:
            self.facts = replace(self.facts, deadline=at)

    def too_large(self, version: int, rows: int, too_large: int) -> str | None:
        """Count the first rows of a content version; why it must not go on, said once."""
        seen, large = self._sized.get(version, (0, 0))
        if seen >= FIRST_ROWS:
            return None
        seen, large = seen + rows, large + too_large
        wrong = large > TOO_LARGE_SHARE * max(FIRST_ROWS, seen)
        self._sized[version] = (float("inf") if wrong else seen), large
        if not wrong:
            return None
        return (
            f"{large} of the first {seen:.0f} rows with content version {version} are too large after "
            "rendering: edit the message and resume, then retry those (reason payload_too_large)"
        )

    async def message(self, version: int) -> Message:
        """The content of one version; versions never change."""
        if version not in self._messages:
            self._messages[version] = await pushes.message(self._db, self.facts.push_no, version)
        return self._messages[version]


class LaneDesk:
    """One lane in this process: its sender, whether it is blocked, two rules over its last answers."""

    def __init__(self, process: SenderProcess, app_no: int, lane: int, sender: Sender) -> None:
        self._process = process
        self.app_no, self.lane, self.key = app_no, lane, f"{app_no}.{lane}"
        self.sender = sender
        self.provider = sender.provider
        self.attempts: set[attempt._Attempt] = set()
        self.blocked = False
        self._block_written_at = 0.0
        self._watched: dict[int, tuple[int, int, str]] = {}  # push: answers, of them "wrong device"
        self._throttled = (0, 0)  # answers, of them throttled registrations

    def block(self, reason: str) -> None:
        """The provider refuses the credential: nothing more starts on this lane, here at once, elsewhere
        with the next claim."""
        if self.blocked:
            return
        self.blocked = True
        self._block_written_at = float("inf")
        self._process.spawn(self._write_block(reason))
        for one in self.attempts:
            one.wake()

    async def _write_block(self, reason: str) -> None:
        number = await self._process.reasons.intern(self._process.db, reason)
        await self._process.db.persist(
            lambda: self._process.ledger.block(self.app_no, self.lane, True, number)
        )
        self._block_written_at = self._process.clock.monotonic()

    def heed(self, *, blocked: bool, asked: float) -> None:
        """The ledger's word on the lane; one asked before our own block was written is out of date."""
        if blocked != self.blocked and asked > self._block_written_at:
            self.blocked = blocked

    def count(self, push: PushDesk, answers: int, noted: Sequence[Outcome]) -> None:
        """So many answers of this push were committed, these among them: apply the two rules.

        Both are about shares: what counts for them must be committed together with what counts against.
        """
        suspects = [outcome.reason for outcome in noted if outcome.suspect]
        total, suspect, reason = self._watched.get(push.facts.push_no, (0, 0, ""))
        total, suspect, reason = total + answers, suspect + len(suspects), (suspects or [reason])[-1]
        self._watched[push.facts.push_no] = total, suspect, reason
        if total >= WATCHED_ANSWERS and suspect >= WRONG_DEVICE_SHARE * total:
            self.block(reason)
        seen = self._throttled[0] + answers
        throttled = self._throttled[1] + sum(outcome.throttles_registration for outcome in noted)
        if seen >= WATCHED_ANSWERS:
            if throttled >= THROTTLED_SHARE * seen:
                self._process.permits.heard(self.key, 0, 0, throttled, 0.0)
            seen, throttled = 0, 0
        self._throttled = seen, throttled


class SenderProcess:
    """Everything that the attempts of one sender process share."""

    def __init__(
        self,
        db: Database,
        senders: SenderSource,
        permits: Permits,
        number: int,
        reasons: Reasons,
        locales: Locales,
        *,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self.db, self.number, self.clock = db, number, clock
        self.ledger = Ledger(db)
        self.permits, self.reasons, self.locales = permits, reasons, locales
        self.window = Window()
        self._senders = senders
        self._pushes: dict[int, PushDesk] = {}
        self._lanes: dict[tuple[int, int], LaneDesk] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._standing_by = 0  # attempts that wait for the end of a pause
        self._full: set[int] = set()  # pushes that are being paused because the store is full
        db.when_full = self._store_full

    async def send(
        self, push_no: int, batch: int, *, lease: float, beat: Callable[[], None], stop: attempt.Stop
    ) -> attempt.AttemptResult:
        """One attempt at one batch; see `clarion.attempt`. It is one span of a trace."""
        with tracer.start_as_current_span(
            "Attempt",
            kind=trace.SpanKind.CLIENT,
            record_exception=False,  # a foreign text may carry a row or a token
            set_status_on_exception=False,
        ) as span:
            result = await attempt.attempt(self, push_no, batch, lease=lease, beat=beat, stop=stop)
            span.set_attributes(
                {"clarion.push_no": push_no, "clarion.batch": batch, "clarion.why": result.why}
            )
        return result

    async def resumed(self, push_no: int, *, beat: Callable[[], None], stop: attempt.Stop) -> bool:
        """Stand by while a push is paused, with nothing claimed and no batch taken: whether it goes on.

        False: it drains or closes, is paused for longer than `limits.STAND_BY_SECONDS`, `stop` was set, or
        too many stand by already. Nothing hangs on the answer: the ledger says the rest at the next TAKE.
        """
        if self._standing_by >= limits.STAND_BY_MOST:
            return False
        self._standing_by += 1
        try:
            return await self._stand_by(push_no, beat, stop)
        finally:
            self._standing_by -= 1

    async def _stand_by(self, push_no: int, beat: Callable[[], None], stop: attempt.Stop) -> bool:
        stopped = asyncio.Event()
        stop.when_set(stopped.set)
        ends = self.clock.monotonic() + limits.STAND_BY_SECONDS
        while (hold := await self.db.persist(lambda: pushes.hold_of(self.db, push_no))) == Hold.PAUSED:
            beat()
            if stopped.is_set() or self.clock.monotonic() >= ends:
                return False
            with suppress(TimeoutError):
                async with asyncio.timeout(limits.STAND_BY_EVERY):
                    await stopped.wait()
        return hold == Hold.NONE and not stopped.is_set()

    async def push(self, push_no: int) -> PushDesk:
        """The push's desk; facts that never change are read once."""
        desk = self._pushes.get(push_no)
        if desk is None:
            desk = PushDesk(self.db, await pushes.facts(self.db, push_no))
            while len(self._pushes) >= 1_000:  # memory does not grow with the pushes of a year
                self._pushes.pop(next(iter(self._pushes)))
            self._pushes[push_no] = desk
        return desk

    async def lane(self, app_no: int, lane: int) -> LaneDesk:
        """The lane's desk, with the sender of its credential as it is now. Raises BadCredential."""
        try:
            sender = await self._senders.get(app_no, lane)
        except NotFound as error:
            raise BadCredential(str(error)) from error
        desk = self._lanes.get((app_no, lane))
        if desk is None or desk.sender is not sender:
            desk = self._lanes[app_no, lane] = LaneDesk(self, app_no, lane, sender)
        trace.get_current_span().set_attributes({"clarion.provider": sender.provider, "clarion.lane": lane})
        return desk

    async def give_up(self, push_no: int, lane: int, error: BadInput) -> None:
        """A credential that cannot be used blocks its lane; content that cannot be sent pauses its push."""
        push = await self.push(push_no)
        if isinstance(error, BadCredential):
            number = await self.reasons.intern(self.db, "credential:unusable")
            await self.ledger.block(push.app_no, lane, True, number)
        else:
            await self._pause(push_no, str(error))

    def size_up(self, push: PushDesk, version: int, rows: int, too_large: int) -> None:
        """So many rows with this content were committed: pause the push if too many were too large."""
        reason = push.too_large(version, rows, too_large)
        if reason is not None:
            self.spawn(self._pause(push.facts.push_no, reason))

    def _store_full(self) -> None:
        """A statement found no room: answers are kept and repeated, and whoever pays for the disk is told."""
        sending = {one.push_no for lane in self._lanes.values() for one in lane.attempts}
        for push_no in sending - self._full:
            self._full.add(push_no)
            self.spawn(self._pause_full(push_no))

    async def _pause_full(self, push_no: int) -> None:
        try:
            # Every repetition of every statement comes by here: one word in the audit is enough.
            if not await self.db.persist(lambda: pushes.is_held(self.db, push_no)):
                await self._pause(push_no, str(StoreFull()))
        finally:
            self._full.discard(push_no)

    async def _pause(self, push_no: int, reason: str) -> None:
        command_id, args = uuid4(), {"reason": reason}
        with suppress(CommandRefused):  # it closes, or drains: a person has decided already
            await self.db.persist(
                lambda: pushes.command(self.db, push_no, command_id, "clarion", "pause", args, way="clarion")
            )

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a small piece of work beside the attempts, kept until it is done."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Wait for what is being written, then close the senders."""
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._senders.close()
