"""One attempt at one batch: take, claim, send, answer, release. The per-delivery loop lives here.

The order of things is what makes it safe, and ledger.md's rules are kept to the letter:

* a row starts only under a claim that was granted and written down before its first byte leaves, and only
  within `limits.start_gate` of the moment the grant was *asked* for;
* a row's slot in the process's window comes back with the commit of its outcome, never before;
* an outcome stays in hand, and its statement is repeated, until PostgreSQL has acknowledged it;
* stop, pause, cancel, a lost epoch or a blocked credential only end the starting: what is on the wire is
  waited for, committed, and then the batch is released.

`pump` and `answered` run once per delivery or per turn of the loop and do nothing that could be done once
per batch. Everything else runs once per ledger statement.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from clarion import limits
from clarion.errors import BadCredential, BadInput
from clarion.model.ledger import Code, Hold, Reason
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind, Scope
from clarion.senders.sender import MissingValue, Prepared, TooLarge, Unsendable
from clarion.store.ledger import Outcomes, Step, Take
from clarion.telemetry import TOTALS, Stopwatch

if TYPE_CHECKING:
    from clarion.process import LaneDesk, PushDesk, SenderProcess

READ_ROWS = 1_000
PERMIT_NAP = 0.01  # a paced attempt looks for permits at most so often: a hundredth of a second of sends


class Stop:
    """Asks an attempt to start nothing more. Set by cancellation, pause of the activity or SIGTERM."""

    def __init__(self) -> None:
        self.reason: str | None = None
        self._wakes: list[Callable[[], None]] = []

    def set(self, reason: str) -> None:
        """Stop, for this reason; the first one stays."""
        if self.reason is None:
            self.reason = reason
            for wake in self._wakes:
                wake()

    def when_set(self, wake: Callable[[], None]) -> None:
        """Call `wake` when the flag is set (at once if it is)."""
        self._wakes.append(wake)
        if self.reason is not None:
            wake()


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """How an attempt ended.

    `why`: done (no planned row is left) · more (time is over) · stopped · held · blocked · deadline ·
    lost (another attempt holds the batch) · or TAKE's refusal: closed, hold, early, leased.
    `wait`: seconds until another attempt makes sense, where the ledger named them.
    """

    why: str
    wait: float = 0.0


async def attempt(
    process: SenderProcess, push_no: int, batch: int, *, lease: float, beat: Callable[[], None], stop: Stop
) -> AttemptResult:
    """Take the batch and send what is planned in it. See `AttemptResult`.

    Raises nothing for a provider's answer; StoreUnavailable only while nothing is claimed or in hand.
    """
    asked = process.clock.monotonic()
    owner = uuid4()  # of this coroutine: a repeat of its own TAKE is allowed, another activity's is not
    take = await process.db.persist(lambda: process.ledger.take(push_no, batch, owner, process.number, lease))
    if take.epoch is None:
        return AttemptResult(take.why or "lost", take.wait_s)
    try:
        push = await process.push(push_no)
        lane = await process.lane(push.app_no, take.lane)
        lane.heed(blocked=False, asked=asked)
        push.heed(take.deadline)
        message = await push.message(take.content_version)
        prepared = lane.sender.prepare(push.facts, message)
    except BadInput as error:  # nothing was claimed: stop the lane or the push, the batch is as it was
        await process.give_up(push_no, take.lane, error)
        await process.ledger.release(push_no, batch, take.epoch)
        return AttemptResult("blocked" if isinstance(error, BadCredential) else "held")
    return await _Attempt(process, push, lane, batch, take, prepared, lease, beat, stop).run()


class _Attempt:
    """The state of one attempt. Rows are handled in the order of `seq`:

    rows[:started] have been posted or decided, rows[started:claimed] may start, the rest is read ahead.
    """

    def __init__(
        self,
        process: SenderProcess,
        push: PushDesk,
        lane: LaneDesk,
        batch: int,
        take: Take,
        prepared: Prepared,
        lease: float,
        beat: Callable[[], None],
        stop: Stop,
    ) -> None:
        assert take.epoch is not None
        self._process, self._push, self._lane = process, push, lane
        self._batch, self._take, self._epoch = batch, take, take.epoch
        self._lease, self._beat, self._stop = lease, beat, stop
        self._clock = process.clock
        self._gate_length = limits.start_gate(lane.provider)
        self._careful = take.careful
        self._at_most_once = take.guarantee == 2
        self._rows: list[Any] = []
        self._started = self._claimed = 0
        self._read_to = self._claimed_seq = -1
        self._exhausted = False
        self._gate = 0.0
        self._asked_at = self._clock.monotonic() - limits.CLAIM_EVERY
        self._ends_at = self._clock.monotonic() + limits.ATTEMPT_SECONDS
        self._in_flight = 0
        self._enough = 1  # outcomes that make a statement worth its cost
        self._outcomes = Outcomes(take.at)
        self._watch = Stopwatch(TOTALS.latency_of(lane.provider), self._clock.monotonic)
        self._unnamed: list[tuple[int, int, Outcome, float | None]] = []
        self._first_at = 0.0
        self._good = 0
        self._version = take.content_version
        self._next_version = take.content_version
        self._facts = push.facts  # what the content was prepared for
        self._prepared = prepared
        self._noted: list[Outcome] = []  # of those in hand: what the lane's rules are about
        self._too_large = 0  # rows in hand that were refused for their size
        self._locales = process.locales.tags
        self._why: str | None = None
        self._broken: Exception | None = None
        self._spilt = False  # outcomes were not written: not ours to release, the next take asks the ledger
        self._wake = asyncio.Event()
        self._seat = process.window.sit(lane.key, push.facts.push_no, self._wake.set)
        self._tap = process.permits.open(lane.key, push.facts.push_no, push.facts.high)

    # ── the loop ──────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> AttemptResult:
        forget = self._lane.sender.when_room(self._pump)
        self._lane.attempts.add(self)
        self._stop.when_set(self._wake.set)
        self._tap.want(limits.APPETITE, self._take.n)
        try:
            while not self._finished():
                await self._turn()
            if self._broken is not None:
                raise self._broken
            return await self._release()
        except BaseException:
            self._why = self._why or "stopped"  # whatever it was: what is on the wire is waited for
            await self._drain()
            raise
        finally:
            forget()
            self._lane.attempts.discard(self)
            self._tap.close()
            self._process.window.leave(self._seat)

    async def _drain(self) -> None:
        while self._in_flight or self._pending:
            if self._step_due():
                await self._step()
            else:
                await self._sleep()
        if not self._spilt:
            await self._release()

    async def _turn(self) -> None:
        self._look_around()
        if self._switching and not self._in_flight and not self._pending:
            await self._prepare(self._next_version)
        if self._hungry:
            await self._read()
        self._pump()
        if self._step_due():
            await self._step()
        else:
            await self._sleep()

    def _look_around(self) -> None:
        """Reasons to start nothing more that do not come from the ledger."""
        if self._why is None:
            if self._stop.reason is not None:
                self._why = "stopped"
            elif self._lane.blocked:
                self._why = "blocked"
            elif self._clock.monotonic() >= self._ends_at:
                self._why = "more"

    def _finished(self) -> bool:
        if self._in_flight or self._pending:
            return False
        return self._why is not None or (self._exhausted and self._started == len(self._rows))

    async def _sleep(self) -> None:
        self._wake.clear()
        if self._in_flight or self._lane.sender.waiting() or self._tap.cooling:
            self._beat()  # a named wait: answers, the provider, the quota
        try:
            async with asyncio.timeout(self._nap()):
                await self._wake.wait()
        except TimeoutError:
            pass

    def _nap(self) -> float:
        """Seconds until something must be done even if nobody wakes us."""
        now = self._clock.monotonic()
        if self._why is None:
            until = min(self._asked_at + limits.CLAIM_EVERY, self._ends_at)
        else:  # it claims nothing more: answers are waited for, and the last of them wakes us
            until = now + limits.CLAIM_EVERY
        if self._pending:
            until = min(until, self._first_at + limits.STEP_SECONDS)
        nap = until - now
        if self._may_start and (self._started < self._claimed or self._waits_for_permits):
            nap = min(nap, max(self._tap.next_in(), PERMIT_NAP))
        return max(nap, 0.001)

    # ── starting ──────────────────────────────────────────────────────────────────────────────────

    @property
    def _pending(self) -> int:
        return len(self._outcomes) + len(self._unnamed)

    @property
    def _switching(self) -> bool:
        return self._next_version != self._version or self._facts is not self._push.facts

    @property
    def _waits_for_permits(self) -> bool:
        """At most once a claim is for permits in hand: without one there is nothing to ask the ledger."""
        return self._at_most_once and self._started < len(self._rows) and not self._tap.ready

    @property
    def _may_start(self) -> bool:
        return self._why is None and not self._switching and not self._lane.blocked

    def _pump(self) -> None:
        """Start what may start. Called by the sender, too: what breaks in here is the attempt's to raise."""
        try:
            self._watch.turn()
            self._start()
        except Exception as error:
            self._broken = error
            self._why = self._why or "stopped"
            self._wake.set()

    def _start(self) -> None:
        """Start what is claimed, as far as the gate, the provider and the quota allow."""
        ready = self._claimed - self._started
        if ready <= 0 or not self._may_start or self._clock.monotonic() >= self._gate:
            return
        sender = self._lane.sender
        ready = min(ready, sender.room())
        if ready > 0 and not self._at_most_once:  # at most once: its claim was for permits in hand
            ready = self._tap.allowed(ready)
        if ready <= 0:
            return
        unused = self._post(ready)
        if unused and not self._at_most_once:
            self._tap.give_back(unused)
        sender.flush()

    def _post(self, n: int) -> int:
        """Post the next `n` rows. Returns how many of them needed no request."""
        post, prepared, answered = self._lane.sender.post, self._prepared, self._answered
        locales = self._locales
        start = self._started
        self._started = start + n
        self._watch.posting(self._rows[start][0])
        unused = 0
        for seq, registration_no, _, token, variant, locale, _, drop, values in self._rows[start : start + n]:
            if drop:
                self._decide(seq, Code.SUPPRESSED, drop)
                unused += 1
                continue
            self._in_flight += 1
            try:
                post(prepared, seq, registration_no, token, locales[locale], variant, values, answered)
            except (TooLarge, MissingValue, Unsendable) as refusal:
                self._in_flight -= 1
                unused += 1
                self._refuse(seq, refusal)
            except BaseException:
                self._in_flight -= 1
                raise
        return unused

    def _refuse(self, seq: int, refusal: Exception) -> None:
        """A row that cannot become a request: its own fault, not the push's."""
        if isinstance(refusal, TooLarge):
            self._too_large += 1
            self._decide(seq, Code.REJECTED, Reason.PAYLOAD_TOO_LARGE)
        elif isinstance(refusal, MissingValue):
            self._decide(seq, Code.SUPPRESSED, Reason.MISSING_VALUE)
        else:
            self._decide(seq, Code.SUPPRESSED, Reason.BAD_TOKEN)

    def _decide(self, seq: int, code: Code, reason: int, *, delay: float = 0.0) -> None:
        self._first()
        self._outcomes.add(seq, code, reason, delay)

    def _first(self) -> None:
        if not self._pending:
            self._first_at = self._clock.monotonic()
            self._wake.set()

    # ── answers ───────────────────────────────────────────────────────────────────────────────────

    def _answered(self, seq: int, outcome: Outcome) -> None:
        """Called by the sender, once for each posted row."""
        self._in_flight -= 1
        self._watch.answered(seq)
        outcomes = self._outcomes
        if not outcomes.seqs:
            self._first()
        if outcome is ACCEPTED:
            outcomes.accept(seq)
            self._good += 1
        else:
            self._exception(seq, outcome)
        if not self._in_flight or len(outcomes.seqs) >= self._enough:
            self._wake.set()

    def _exception(self, seq: int, outcome: Outcome) -> None:
        kind = outcome.kind
        if kind is OutcomeKind.ACCEPTED:
            self._good += 1
        else:
            self._tell_quota(outcome)
        if kind is OutcomeKind.BLOCKED:
            self._lane.block(outcome.reason)
            self._why = self._why or "blocked"
        if outcome.suspect or outcome.throttles_registration:
            self._noted.append(outcome)
        code, delay = self._verdict(seq, outcome)
        number = self._process.reasons.number(outcome.reason) if outcome.reason else 0
        if number is None:  # a code that nobody has met: its number is made with the next statement
            self._unnamed.append((seq, code, outcome, delay))
        else:
            self._add(seq, code, number, outcome, delay)

    def _add(self, seq: int, code: int, reason: int, outcome: Outcome, delay: float | None) -> None:
        self._outcomes.add(seq, code, reason, delay or 0.0)
        if outcome.retire:
            self._outcomes.retire(seq, outcome.dead_since)

    def _verdict(self, seq: int, outcome: Outcome) -> tuple[int, float | None]:
        """What the ledger is told of an outcome that is not simply accepted: code and delay of a retry."""
        kind = outcome.kind
        if kind is OutcomeKind.ACCEPTED:
            return Code.ACCEPTED, None
        if kind is OutcomeKind.REJECTED:
            return Code.REJECTED, None
        if kind is OutcomeKind.BLOCKED:
            return Code.NOT_SENT, 0.0
        attempts = self._attempts(seq)
        delay = max(limits.retry_after(attempts + 1) * _jitter(), outcome.retry_after)
        counted = outcome.attempt and kind is OutcomeKind.UNAVAILABLE and not self._tap.cooling
        if not counted:
            return (Code.MAYBE_UNCOUNTED if outcome.maybe else Code.NOT_SENT), delay
        if attempts + 1 >= limits.MAX_ATTEMPTS:
            return (Code.IN_DOUBT if outcome.maybe else Code.DEAD), None
        return (Code.MAYBE if outcome.maybe else Code.REFUSED), delay

    def _attempts(self, seq: int) -> int:
        """Attempts of this row so far (binary search would be finer; exceptions are few)."""
        low, high = 0, self._started
        while low < high:
            middle = (low + high) // 2
            if self._rows[middle][0] < seq:
                low = middle + 1
            else:
                high = middle
        return int(self._rows[low][6])

    def _tell_quota(self, outcome: Outcome) -> None:
        throttled = outcome.kind is OutcomeKind.THROTTLED and outcome.scope is Scope.LANE
        # No outage of the lane: what did not even leave (a renewed token, a GOAWAY), and one push service of
        # many, whose own place in the sender waits.
        unwell = outcome.kind is OutcomeKind.UNAVAILABLE and (outcome.attempt or outcome.maybe)
        bad = unwell and outcome.scope is not Scope.HOST
        refused = outcome.kind is OutcomeKind.REJECTED  # an answer all the same: the provider is well
        self._process.permits.heard(
            self._lane.key,
            self._good + refused,
            int(bad),
            int(throttled),
            outcome.retry_after if throttled else 0.0,
        )
        self._good = 0

    # ── the ledger ────────────────────────────────────────────────────────────────────────────────

    @property
    def _hungry(self) -> bool:
        """Few rows are left to claim, and more can be read."""
        return self._may_start and not self._exhausted and len(self._rows) - self._claimed < READ_ROWS // 2

    async def _read(self) -> None:
        limit = int(min(READ_ROWS, self._ahead(1.0)))
        if len(self._rows) - self._claimed >= limit:
            return
        more = await self._process.db.persist(
            lambda: self._process.ledger.read(
                self._push.facts.push_no,
                self._batch,
                self._read_to,
                limit,
                self._take.mask,
                self._prepared.needs_values,
                self._prepared.needs_badge,
            )
        )
        self._exhausted = len(more) < limit
        await self._process.locales.know(self._process.db, {row[5] for row in more})
        if more:
            self._read_to = more[-1][0]
            self._claimed += sum(1 for row in more if row[0] <= self._claimed_seq)
        if self._in_flight == 0 and not self._pending:  # nobody needs the posted rows any more
            del self._rows[: self._started]
            self._claimed -= self._started
            self._started = 0
        self._rows.extend(more)

    def _ahead(self, seconds: float) -> float:
        """Rows that the granted rate lets start in so many seconds; at least one."""
        rate: float = self._tap.pace()
        return max(1.0, rate * seconds)

    def _want(self, returning: int) -> int:
        """Rows to claim now: unclaimed, and no more than half a second of the rate, with what is on the wire.

        `returning`: outcomes that the claim's statement writes. Where more than that is on the wire or waits
        for its commit (a slow provider), it is what the rate lets start soon: the rate is kept all the same.
        """
        if not self._may_start or self._waits_for_permits:
            return 0
        whole = self._ahead(limits.CLAIM_AHEAD) - (self._seat.held - returning)
        soon = self._ahead(limits.CLAIM_TO_START) - (self._claimed - self._started)
        want = min(len(self._rows) - self._claimed, max(whole, soon))
        if self._careful:
            want = min(want, 1 - self._seat.held)
        return max(0, int(want))

    def _step_due(self) -> bool:
        now = self._clock.monotonic()
        pending = self._pending
        if self._why is not None:  # only answers are left to write
            return bool(pending) and (not self._in_flight or now - self._first_at >= limits.STEP_SECONDS)
        if now - self._asked_at >= limits.CLAIM_EVERY:
            return True
        if pending >= self._enough or (pending and now - self._first_at >= limits.STEP_SECONDS):
            return True
        if self._started < self._claimed:
            return False
        want = self._want(pending)
        if not want:
            return bool(pending) and not self._in_flight
        free = self._process.window.offer(self._seat, want)
        return free >= min(want, self._enough) or (bool(pending) and not self._in_flight)

    async def _step(self) -> None:
        """One ledger statement: every outcome in hand, and a further claim."""
        process = self._process
        await self._name_reasons()
        outcomes, self._outcomes = self._outcomes, Outcomes(self._take.at)
        too_large, self._too_large = self._too_large, 0
        noted, self._noted = self._noted, []
        slots = self._claim(len(outcomes))
        claim = self._claim_seq(slots)
        if self._good:
            process.permits.heard(self._lane.key, self._good, 0, 0, 0.0)
            self._good = 0
        self._asked_at = asked = self._clock.monotonic()
        try:
            step = await process.db.persist(
                lambda: process.ledger.step(
                    self._push.facts.push_no,
                    self._batch,
                    self._epoch,
                    outcomes=outcomes,
                    content_version=self._version,
                    claim=claim,
                    lease=self._lease,
                )
            )
        except BaseException:
            self._spilt = True
            raise
        self._beat()
        TOTALS.answered(self._lane.provider, self._push.priority, step.accepted, step.rejected)
        self._after(step, asked, slots, claim)
        process.window.give(self._seat, len(outcomes))
        self._lane.count(self._push, len(outcomes), noted)
        process.size_up(self._push, self._version, len(outcomes), too_large)
        self._enough = max(1, min(limits.STEP_OUTCOMES, self._seat.held // 2))
        self._tap.want(limits.APPETITE, self._rows_left())

    def _claim(self, returning: int) -> int:
        want = self._want(returning)
        if want and self._at_most_once:
            want = self._tap.allowed(want)
        slots = self._process.window.offer(self._seat, want, returning=returning)
        if self._at_most_once and slots < want:
            self._tap.give_back(want - slots)
        self._process.window.take(self._seat, slots, returning=returning)
        return slots

    def _claim_seq(self, slots: int) -> int | None:
        if self._why is not None:
            return None
        return int(self._rows[self._claimed + slots - 1][0]) if slots else -1

    def _after(self, step: Step, asked: float, slots: int, claim: int | None) -> None:
        """Obey what came back with the statement."""
        if step.granted:
            self._gate = asked + self._gate_length
            self._claimed += slots
            if slots:
                assert claim is not None
                self._claimed_seq = claim
        else:
            # The slots stay taken until the release: a repeat of a statement whose acknowledgement was lost
            # may be refused although the first one was granted and stands in the ledger.
            self._gate = 0.0
            if self._at_most_once:
                self._tap.give_back(slots)
        if self._why is None:
            self._why = _refused(step)
            self._lane.heed(blocked=step.blocked, asked=asked)
        if step.content_version != self._version:
            self._next_version = step.content_version
        self._push.heed(step.deadline)

    async def _name_reasons(self) -> None:
        """Number the provider codes that nobody has met before (once in the life of a code)."""
        while self._unnamed:  # in hand until it has its number, whatever becomes of the database
            seq, code, outcome, delay = self._unnamed[0]
            number = await self._process.reasons.intern(self._process.db, outcome.reason)
            del self._unnamed[0]
            self._add(seq, code, number, outcome, delay)

    def _rows_left(self) -> int:
        return self._take.n - self._rows[self._started - 1][0] if self._started else self._take.n

    async def _prepare(self, version: int) -> None:
        """Compile the content; rows read for the old version lack what the new one may need."""
        message = await self._push.message(version)
        self._facts = self._push.facts
        self._prepared = self._lane.sender.prepare(self._facts, message)
        self._version = self._next_version = version
        if self._started:
            self._read_to = self._rows[self._started - 1][0]
        elif self._rows:
            self._read_to = self._rows[0][0] - 1
        self._rows, self._started, self._claimed, self._exhausted = [], 0, 0, False

    async def _release(self) -> AttemptResult:
        released = await self._process.db.persist(
            lambda: self._process.ledger.release(self._push.facts.push_no, self._batch, self._epoch)
        )
        if released is None:
            return AttemptResult("lost")
        return AttemptResult(self._why or ("more" if released.planned else "done"))

    @property
    def push_no(self) -> int:
        """Whose batch it is."""
        return self._push.facts.push_no

    def wake(self) -> None:
        """Look around: something about the lane has changed."""
        self._wake.set()


def _refused(step: Step) -> str | None:
    """Why a STEP that asked for leave did not get it."""
    if step.granted:
        return None
    if not step.mine:
        return "lost"
    if step.blocked:
        return "blocked"
    return "held" if step.hold >= Hold.PAUSED else "deadline"


def _jitter() -> float:
    return random.uniform(1 - limits.RETRY_JITTER, 1 + limits.RETRY_JITTER)
