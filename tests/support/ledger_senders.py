"""Sender processes as the ledger's rules want them, which die, stall and speak late (see `ledger_world`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg

from clarion.model.ledger import Code, Hold
from clarion.store.ledger import Outcomes, Step, Take
from tests.support.ledger_known import (
    DEAD_TOKEN,
    GATE,
    LEASE,
    SUSPECT,
    WINDOW,
    Attempt,
    Call,
    Known,
    Process,
    Row,
    Send,
    Word,
    aware,
    demand,
)


class Senders(Known):
    """What attempts do and what happens to them."""

    # ── attempts ──────────────────────────────────────────────────────────────────────────────────

    def living(self) -> list[Attempt]:
        """Attempts of living processes that hold, or believe to hold, a batch."""
        return [a for p in self.processes if p.alive for a in p.attempts if a.take is not None]

    def _process(self) -> Process:
        alive = [p for p in self.processes if p.alive]
        if len(alive) < 4 and (not alive or self.rng.random() < 0.3):
            process = Process(number=1 + len(self.processes))
            self.processes.append(process)
            return process
        return self.rng.choice(alive)

    async def take(self, batches: list[int] | None = None) -> None:
        """A new attempt takes a batch; its acknowledgement may be lost, and then it takes again."""
        process = self._process()
        batches = batches or list(self.holders)
        if len(process.attempts) >= 4 or not batches:
            return
        attempt = Attempt(process, self.rng.choice(batches), self.new_id())
        taken = await self.execute_take(attempt)
        if not self.calm and self.rng.random() < 0.15:  # the answer was lost
            self.count("takes repeated")
            await self.db.pass_time(self.rng.choice((0.1, 1.0, LEASE + 1)))
            taken = await self.execute_take(attempt)
        if taken.epoch is None:
            return
        attempt.take = taken
        process.attempts.append(attempt)

    async def execute_take(self, attempt: Attempt) -> Take:
        """Run TAKE, and compare it with what must happen."""
        before = await self.batch(attempt.batch)
        rows = await self.rows(attempt.batch)
        why = self.refusal(before, attempt.owner)
        taken = await self.ledger.take(
            self.push_no, attempt.batch, attempt.owner, attempt.process.number, LEASE
        )
        demand(taken.why == why, "TAKE answers as it must", taken, why)
        if why is None:
            self._taken(attempt, taken, before, rows)
            await self.after_take(attempt.batch)
        else:
            demand(taken.epoch is None, "a refused TAKE gives no epoch", taken)
            demand(why != "leased" or taken.wait_s >= 0, "a lease names how long it lasts", taken)
        return taken

    def refusal(self, b: asyncpg.Record, owner: UUID) -> str | None:
        """Why this batch cannot be taken now."""
        now = self.db.now
        if b["closed"]:
            return "closed"
        if self.hold > Hold.DRAINING or (self.hold is Hold.DRAINING and not b["begun"]):
            return "hold"
        if self.deadline is not None and now >= self.deadline:
            return "deadline"
        if self.blocked[b["lane"]]:
            return "blocked"
        if aware(b["opens_at"]) > now:
            return "early"
        if b["lease_until"] is not None and b["lease_until"] >= now and b["owner"] != owner:
            return "leased"
        return None

    def _taken(
        self, attempt: Attempt, taken: Take, before: asyncpg.Record, rows: list[asyncpg.Record]
    ) -> None:
        claimed = [r for r in rows if r["state"] == 0 and r["seq"] <= before["claimed_to"]]
        due = [r for r in rows if r["state"] == 1 and r["at"] <= self.db.now]
        poisoned = 1 if claimed and before["takes"] >= 6 else 0
        demand(taken.epoch == before["epoch"] + 1, "every TAKE has an epoch of its own", taken, before)
        demand(taken.redone == len(claimed) - poisoned, "what may have been sent is marked", taken, claimed)
        demand(taken.reopened == len(due), "what is due is planned again", taken, due)
        demand(taken.careful == (self.alive_since[attempt.batch] >= 3), "careful after three", taken)
        last = self.holders[attempt.batch]
        demand(not taken.redone or last is not None, "nothing to repeat after a clean end", taken)
        if last is not None and last is not attempt:
            self._fence(last)
        self.redone += taken.redone
        self.count("redo", taken.redone)
        self.count("poisoned", poisoned)
        self.holders[attempt.batch] = attempt
        self.alive_since[attempt.batch] = min(self.alive_since[attempt.batch] + 1, 99)

    def _fence(self, attempt: Attempt) -> None:
        """Another attempt has its batch: from now on it holds nothing."""
        if not attempt.unclean:
            attempt.unclean = True
            number = attempt.process.number
            self.unclean_ends[number] = self.unclean_ends.get(number, 0) + 1
            self.count("fenced")

    async def after_take(self, batch: int) -> None:
        """`due_at` is the first of the retries that are left: later starves them, earlier spins."""
        rows = await self.rows(batch)
        first = min((r["at"] for r in rows if r["state"] == 1), default=None)
        due = (await self.batch(batch))["due_at"]
        # The first of them may have got a late answer since; its moment stays until it comes.
        early = first is not None and due is not None and self.db.now < due < first
        demand(due == first or early, "due_at is the first retry", due, first)

    async def act_of_an_attempt(self) -> None:
        """One of the living attempts does something, or a new one comes."""
        living = self.living()
        if not living:
            await self.take()
            return
        attempt = self.rng.choice(living)
        for _ in range(self.rng.randint(1, 3)):
            await self._one_act(attempt)

    async def _one_act(self, attempt: Attempt) -> None:
        if attempt not in attempt.process.attempts:
            return
        if attempt.call is not None:
            await self._deliver(attempt)
        elif attempt.oversleeping:
            self._wake_up(attempt)
        else:
            await self._useful(attempt)(attempt)

    def _useful(self, a: Attempt) -> Callable[[Attempt], Awaitable[None]]:
        """Something that this attempt can do now."""
        good = a.gate is not None and self.db.now < a.gate
        unclaimed = any(r["seq"] > a.granted for r in a.rows)
        choices = [
            (1, self._release),
            (0 if a.stopped else 1, self._ask),
            (0 if a.stopped or a.exhausted or len(a.rows) > 4 else 3, self._read),
            (4 if (unclaimed or not good) and not a.stopped else 0, self._ask),
            (3 * len(a.words), self._ask),
            (6 if a.rows and a.rows[0]["seq"] <= a.granted and good and not a.stopped else 0, self._start),
            (3 * len(a.flying), self.answer),
        ]
        return self.rng.choices([act for _, act in choices], [weight for weight, _ in choices])[0]

    async def _read(self, a: Attempt) -> None:
        assert a.take is not None
        rows = await self.ledger.read(
            self.push_no, a.batch, a.read_to, self.rng.randint(1, 4), a.take.mask, False
        )
        demand(all(r["seq"] > a.read_to for r in rows), "READ goes on where it stopped", rows)
        await self._registry_obeyed(rows)
        a.exhausted = not rows
        if rows:
            a.read_to = rows[-1]["seq"]
            a.rows.extend(rows)

    async def _registry_obeyed(self, rows: list[asyncpg.Record]) -> None:
        """READ drops whom the registry no longer wants to be sent to."""
        known = {
            r["registration_no"]: r
            for r in await self.db.fetch(
                "select registration_no, status, user_no, optout from registration join usr using (user_no)"
                " where registration_no = any($1)",
                [row["registration_no"] for row in rows],
            )
        }
        for row in rows:
            now = known[row["registration_no"]]
            unwanted = now["status"] != 1 or now["user_no"] != row["user_no"] or now["optout"] & 1
            demand(bool(row["drop"]) == bool(unwanted), "READ obeys the registry", row, now)

    async def _ask(self, a: Attempt) -> None:
        """STEP, with all outcomes in hand; it may be executed at once, or much later."""
        words, a.words = a.words, []
        claim: int | None = -1
        slots = 0
        unclaimed = [r for r in a.rows if r["seq"] > a.granted]
        if a.stopped:
            claim = None
        elif unclaimed and self.rng.random() < 0.9:
            free = WINDOW - a.process.used + len(words)
            careful = a.take is not None and a.take.careful
            want = max(0, 1 - a.slots + len(words)) if careful else len(unclaimed)
            slots = max(0, min(free, want, len(unclaimed), self.rng.randint(1, 5)))
            claim = unclaimed[slots - 1]["seq"] if slots else -1
        if claim is None and not words:
            return
        a.slots += slots
        asked = self.db.now
        a.call = Call(
            run=lambda: self.execute_step(a, words, claim),
            acknowledge=lambda step: self._stepped(a, step, asked, claim, slots, len(words)),
        )
        if self.calm or self.rng.random() < 0.5:
            await self._deliver(a)

    async def _deliver(self, a: Attempt) -> None:
        """Its statement arrives; the answer may get lost, and then the same statement is sent again."""
        call = a.call
        assert call is not None
        if not self.calm and self.rng.random() < 0.12:
            # The connection is lost before the server has read it all the way: it is sent again, and the
            # first one may be executed, too, at any time.
            self.zombies.append(call)
            return
        answer = await call.run()
        call.executed = True
        if not self.calm and self.rng.random() < 0.12:
            self.count("acknowledgements lost")
            return
        a.call = None
        call.acknowledge(answer)

    async def execute_step(self, a: Attempt, words: list[Word], claim: int | None) -> Step:
        """Run STEP, and note what the world must remember of it."""
        assert a.take is not None
        before = await self.batch(a.batch)
        rows = {r["seq"]: r for r in await self.rows(a.batch)}
        outcomes = Outcomes(a.take.at)
        for word in words:
            _tell(outcomes, word)
        step = await self.ledger.step(
            self.push_no,
            a.batch,
            a.take.epoch or 0,
            outcomes=outcomes,
            content_version=1,
            claim=claim,
            lease=LEASE,
        )
        mine = before["epoch"] == a.take.epoch and not before["closed"]
        allowed = self.hold < Hold.PAUSED and not self.blocked[before["lane"]]
        in_time = self.deadline is None or self.db.now < self.deadline
        demand(step.mine == mine, "STEP knows its holder", step, before)
        demand(
            step.granted == (mine and allowed and in_time and claim is not None), "grants as it must", step
        )
        written = sum(self._noted(a, word, rows[word.seq], mine) for word in words)
        demand(step.written == written, "STEP writes what counts, and nothing else", step, words, rows)
        if mine and written and self.alive_since[a.batch] < 4:
            self.alive_since[a.batch] = 0
        return step

    def _noted(self, a: Attempt, word: Word, row: asyncpg.Record, mine: bool) -> bool:
        """Whether this outcome counts; remembers it if so."""
        assert a.take is not None
        key = a.batch, word.seq
        if word.code in (Code.ACCEPTED, Code.REJECTED):
            if key in self.answers:
                return False
            self.answers[key] = word.code
            if word.kills:
                self.queue[key] = word.reason == SUSPECT
                since = (
                    a.take.at
                    if word.dead_since is None
                    else datetime.fromtimestamp(word.dead_since, a.take.at.tzinfo)
                )
                self.dead.setdefault(row["registration_no"], []).append(since)
            return True
        if not mine or row["state"] != 0:
            return False
        if word.code in (Code.NOT_SENT, Code.REFUSED, Code.MAYBE, Code.MAYBE_UNCOUNTED):
            self.decided_due[key] = self.db.now + timedelta(seconds=word.delay)
        return True

    def _stepped(
        self, a: Attempt, step: Step, asked: datetime, claim: int | None, slots: int, committed: int
    ) -> None:
        """The acknowledgement: slots come back, a claim is in force, or the operator is obeyed."""
        a.slots -= committed
        if step.granted:
            a.gate = asked + timedelta(seconds=GATE)
            if slots and claim is not None:
                a.granted = max(a.granted, claim)
        # Not granted: the slots stay taken until RELEASE. If this was the repeat of a STEP whose answer was
        # lost, the first one may have been granted, and then the rows are claimed.
        if (
            not step.mine
            or step.hold >= Hold.PAUSED
            or step.blocked
            or (claim is not None and not step.granted)
        ):
            a.stopped = True

    async def _start(self, a: Attempt) -> None:
        """Start claimed rows while the word is good; some check the gate and then sleep through it."""
        if a.stopped or a.gate is None or self.db.now >= a.gate:
            return
        ready = [r for r in a.rows if r["seq"] <= a.granted]
        chosen = ready[: self.rng.randint(1, 4)]
        a.rows = [r for r in a.rows if r not in chosen]
        if chosen and not self.calm and self.rng.random() < 0.1:
            self.count("overslept")
            a.oversleeping = chosen
            return
        for row in chosen:
            self._post(a, row)

    def _wake_up(self, a: Attempt) -> None:
        if self.rng.random() < 0.3:
            rows, a.oversleeping = a.oversleeping, []
            for row in rows:
                self._post(a, row)

    def _post(self, a: Attempt, row: asyncpg.Record) -> None:
        seq = row["seq"]
        if row["drop"]:
            a.words.append(Word(seq, Code.SUPPRESSED, row["drop"]))
        elif self.rng.random() < 0.04:
            a.words.append(Word(seq, Code.EXPIRED, 10))
        else:
            self._send(a, (a.batch, seq))

    def _send(self, a: Attempt, row: Row) -> None:
        self.count("sends")
        earlier = self.sends.setdefault(row, [])
        for one in earlier:
            if one.harmless:
                continue
            demand(not self.once, "at most once means once", row, one)
            maybe = one.fate in (Code.MAYBE, Code.MAYBE_UNCOUNTED)
            unclean = one.attempt.unclean or a.unclean
            demand(maybe or unclean, "a repeat has an unclean end beside it", row, one)
            self.count("repeats")
        due = self.decided_due.get(row)
        demand(due is None or due <= self.db.now or a.unclean, "a retry waits until it is due", row, due)
        send = Send(row, a, arrived=self.rng.random() < 0.7)
        earlier.append(send)
        a.flying[row[1]] = send

    async def answer(self, a: Attempt) -> None:
        """The provider answers one request, or it is given up."""
        if not a.flying:
            return
        seq, send = self.rng.choice(sorted(a.flying.items(), key=lambda item: item[0]))
        del a.flying[seq]
        word = self._arrived(seq) if send.arrived else self._not_arrived(seq)
        send.fate = word.code
        a.words.append(word)

    def _arrived(self, seq: int) -> Word:
        rng = self.rng
        if rng.random() < 0.75:
            return Word(seq, Code.ACCEPTED)
        if rng.random() < 0.15:
            return Word(seq, Code.IN_DOUBT, 7)
        return Word(seq, rng.choice((Code.MAYBE, Code.MAYBE, Code.MAYBE_UNCOUNTED)), 7, self._delay())

    def _not_arrived(self, seq: int) -> Word:
        rng = self.rng
        kind = rng.choice(("rejected", "rejected", "refused", "not sent", "maybe", "dead"))
        if kind == "rejected":
            kills = rng.random() < 0.6
            suspect = kills and rng.random() < 0.3
            since = (self.db.now - timedelta(seconds=rng.choice((0, 5, 7200)))).timestamp()
            return Word(
                seq, Code.REJECTED, SUSPECT if suspect else DEAD_TOKEN, kills=kills,
                dead_since=since if rng.random() < 0.5 else None,
            )  # fmt: skip
        code = {"refused": Code.REFUSED, "not sent": Code.NOT_SENT, "maybe": Code.MAYBE, "dead": Code.DEAD}[
            kind
        ]
        return Word(seq, code, 11, 0.0 if code is Code.DEAD else self._delay())

    def _delay(self) -> float:
        return self.rng.choice((0.0, 0.5, 2.0, 6.0))

    async def _release(self, a: Attempt) -> None:
        """A clean end, only when nothing is in flight or in hand."""
        finished = a.stopped or (a.exhausted and not a.rows)
        if not a.idle or not (finished or self.rng.random() < 0.1):
            return
        a.call = Call(run=lambda: self.execute_release(a), acknowledge=lambda _: self._leave(a))
        if self.calm or self.rng.random() < 0.5:
            await self._deliver(a)

    async def execute_release(self, a: Attempt) -> None:
        """Run RELEASE, which must end its own hold and nobody else's."""
        assert a.take is not None
        assert a.take.epoch is not None
        before = await self.batch(a.batch)
        released = await self.ledger.release(self.push_no, a.batch, a.take.epoch)
        mine = before["epoch"] == a.take.epoch and not before["closed"]
        demand((released is not None) == mine, "RELEASE ends its own hold only", before, a.take)
        if mine:
            self.holders[a.batch] = None
            self.alive_since[a.batch] = 0

    def _leave(self, a: Attempt) -> None:
        if a in a.process.attempts:
            a.process.attempts.remove(a)

    # ── what happens to them ──────────────────────────────────────────────────────────────────────

    async def kill(self) -> None:
        """kill -9: its attempts end, what they sent has been sent, what they said may still arrive."""
        alive = [p for p in self.processes if p.alive]
        if not alive:
            return
        self.slay(self.rng.choice(alive))

    def slay(self, process: Process) -> None:
        """This process is gone."""
        self.count("kills")
        process.alive = False
        number = process.number
        if any(not a.unclean for a in process.attempts):
            self.unclean_ends[number] = self.unclean_ends.get(number, 0) + 1
        for attempt in process.attempts:
            attempt.unclean = True
            if attempt.call is not None and self.rng.random() < 0.6:
                self.zombies.append(attempt.call)

    async def zombie(self) -> None:
        """A statement of a dead process arrives after all."""
        if self.zombies:
            self.count("zombies")
            call = self.zombies.pop(self.rng.randrange(len(self.zombies)))
            await call.run()


def _tell(outcomes: Outcomes, word: Word) -> None:
    if word.code == Code.ACCEPTED:
        outcomes.accept(word.seq)
    else:
        outcomes.add(word.seq, word.code, word.reason, word.delay)
    if word.kills:
        outcomes.retire(word.seq, word.dead_since)
