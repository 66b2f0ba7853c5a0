"""A small world around the ledger: processes that obey its rules, die, stall and speak late; devices that
really get what is sent; operators; phones that change hands. What it knows is what happened, never what
the ledger says; `ledger_rules` compares the two.

One connection, one statement at a time: the interleavings are the seed's, and time is one of the actions.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import asyncpg

from clarion.errors import CommandRefused
from clarion.model.ledger import Code, Hold
from clarion.model.spec import PushSpec
from clarion.store import push as pushes
from clarion.store.ledger import Ledger, Outcomes, Step, Take
from tests.support.warped import Warped

LEASE: Final = 3.0
GATE: Final = 1.0  # lease − request time-out (1 s) − 1 s
WINDOW: Final = 6
SUSPECT: Final = 300  # the reason "wrong device for this credential"
DEAD_TOKEN: Final = 301
Row = tuple[int, int]  # batch, seq


class Violation(AssertionError):
    """The ledger has broken a promise."""


def demand(holds: bool, what: str, *facts: object) -> None:
    """Raise Violation unless it holds."""
    if not holds:
        raise Violation(" ".join([what, *map(repr, facts)]))


@dataclass(eq=False)
class Send:
    """One request to a provider. `arrived`: the device has it. `fate`: what its process was told."""

    row: Row
    attempt: Attempt
    arrived: bool
    fate: int | None = None  # a Code; None: no answer yet, or never

    @property
    def harmless(self) -> bool:
        """It surely had no effect, and its process knows it."""
        return self.fate in (Code.NOT_SENT, Code.REFUSED, Code.DEAD)


@dataclass
class Word:
    """One outcome in a sender's hand."""

    seq: int
    code: int
    reason: int = 0
    delay: float = 0.0
    dead_since: float | None = None
    kills: bool = False


@dataclass(eq=False)
class Call:
    """A statement on its way: it may be executed late, more than once, or after its process died."""

    run: Callable[[], Awaitable[Any]]
    acknowledge: Callable[[Any], None]
    executed: bool = False


@dataclass(eq=False)
class Process:
    """A sender process; its attempts share one window and die together."""

    number: int
    alive: bool = True
    attempts: list[Attempt] = field(default_factory=list)

    @property
    def used(self) -> int:
        """Slots of the window that are taken."""
        return sum(attempt.slots for attempt in self.attempts)


@dataclass(eq=False)
class Attempt:
    """One attempt at a batch, as the sender's rules want it."""

    process: Process
    batch: int
    owner: UUID
    take: Take | None = None
    rows: list[asyncpg.Record] = field(default_factory=list)
    read_to: int = -1
    exhausted: bool = False
    granted: int = -1
    gate: datetime | None = None
    slots: int = 0
    flying: dict[int, Send] = field(default_factory=dict)
    words: list[Word] = field(default_factory=list)
    call: Call | None = None
    stopped: bool = False
    oversleeping: list[asyncpg.Record] = field(default_factory=list)  # past the gate's check, not yet sent
    unclean: bool = False  # it died, or another attempt took its batch before it released

    @property
    def idle(self) -> bool:
        """Nothing in flight, in hand, on its way or about to start."""
        return not (self.flying or self.words or self.call or self.oversleeping)


class World:
    """One push, its senders, operators and devices, driven by one seed."""

    def __init__(self, db: Warped, seed: int) -> None:
        self.db = db
        self.ledger = Ledger(db)
        self.seed = seed
        self.actions = 0
        self.calm = False  # towards the end nothing new goes wrong
        self.rng = random.Random(seed)
        self.close_at = self.rng.randint(70, 140) if self.rng.random() < 0.5 else None
        self.once = self.rng.random() < 0.4  # at most once
        self.processes: list[Process] = []
        self.zombies: list[Call] = []  # statements of dead processes that may still arrive
        self.sends: dict[Row, list[Send]] = {}
        self.answers: dict[Row, int] = {}  # the first answer that was executed for a row
        self.decided_due: dict[Row, datetime] = {}  # when a row that shall go again may
        self.queue: dict[Row, bool] = {}  # entries of the retire queue: suspect?
        self.dead: dict[int, list[datetime]] = {}  # registration: known dead since, by handled entries
        self.retired_by_world: set[int] = set()
        self.registration: dict[Row, int] = {}
        self.holders: dict[int, Attempt | None] = {}  # who took the batch last, None after a release
        self.alive_since: dict[int, int] = {}  # takes in a row without a sign of life, as the rule counts
        self.hold = Hold.NONE
        self.verdict: str | None = None
        self.version = 0
        self.commands: dict[UUID, dict[str, Any]] = {}
        self.deadline: datetime | None = None
        self.blocked: dict[int, bool] = {1: False, 2: False}
        self.unfrozen: set[int] = set()
        self.rows_at_close: int | None = None
        self.unclean_ends: dict[int, int] = {}  # process number: how often its window may have been repeated
        self.redone = 0
        self.tally: dict[str, int] = {}

    # ── beginnings ────────────────────────────────────────────────────────────────────────────────

    async def begin(self) -> None:
        """An app of its own with a few users, and a push in two or three ranges of tiny batches."""
        db, rng = self.db, self.rng
        await db.set_time(db.now + timedelta(seconds=1))
        name = f"app-{self.seed}-{rng.getrandbits(40):x}"
        self.app_no = await db.fetchval("insert into app (name) values ($1) returning app_no", name)
        await db.execute(
            "insert into credential (app_no, lane, name, provider)"
            " values ($1, 1, 'a', 'apns'), ($1, 2, 'f', 'fcm')",
            self.app_no,
        )
        users = rng.randint(30, 60)
        await db.execute(
            """
            with u as (
              insert into usr (app_no, user_id) select $1, 'u' || g from generate_series(1, $2) g
              returning user_no
            ), d as (
              insert into device (app_no, installation, user_no, platform)
              select $1, gen_random_uuid(), user_no, 1 from u returning device_no, user_no
            )
            insert into registration (device_no, user_no, app_no, lane, token, registered_at)
            select device_no, user_no, $1, 1 + row_number() over (order by device_no) % 2, 't' || device_no,
              now() - interval '1 h'
            from d""",
            self.app_no,
            users,
        )
        spec = PushSpec.model_validate(
            {
                "app": name,
                "audience": {"everybody": True},
                "message": {"texts": {"default": {"title": "x"}}},
                "delivery_guarantee": "at_most_once" if self.once else "at_least_once",
            }
        )
        await self._open(spec, name)
        await self._plan(users)
        await self.freeze()

    async def _open(self, spec: PushSpec, name: str) -> None:
        opened = await pushes.open_push(self.db, spec, name)
        demand(opened.opened == "new", "a new id is new", opened)
        self.push_no = opened.push_no

    async def _plan(self, users: int) -> None:
        """Like `push.plan`, with ranges and batches small enough for many of both."""
        self.first_user, last = await self.db.fetchrow(  # type: ignore[misc]
            "select min(user_no), max(user_no) from usr where app_no = $1", self.app_no
        )
        first = self.first_user
        edges = [first, *sorted(self.rng.sample(range(first + 1, last), self.rng.randint(1, 2))), last + 1]
        ranges = await self.db.fetchval(
            pushes.SQL.add_ranges, self.push_no, 0, 0, edges[:-1], edges[1:], self.push_no, users,
            self.rng.randint(3, 9),
        )  # fmt: skip
        self.unfrozen = set(range(ranges))

    # ── actions ───────────────────────────────────────────────────────────────────────────────────

    async def act(self) -> None:
        """One action of the seed's choice."""
        self.actions += 1
        if self.actions == self.close_at and self.hold is not Hold.CLOSING:
            await self.say("close", {"verdict": self.rng.choice(("cancelled", "expired"))})
        actions: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (44, self.act_of_an_attempt),
            (8, self.take),
            (9, self.wait),
            (3, self.command),
            (2, self.block),
            (2, self.kill),
            (3, self.registry),
            (2, self.freeze),
            (3, self.retire),
            (5, self.zombie),
            (2, self.look),
            (6 if self.hold is Hold.CLOSING else 0, self.close),
        ]
        weights = [weight for weight, _ in actions]
        await self.rng.choices([action for _, action in actions], weights)[0]()

    async def wait(self) -> None:
        """Time goes by: mostly a little, sometimes longer than a lease."""
        seconds = self.rng.choice((0.05, 0.2, 0.5, 1.0, LEASE + 0.1))
        await self.db.pass_time(seconds)
        if seconds > LEASE and not self.calm:  # leases have run out: others come, while their holders sleep
            await self.take()
            await self.take()

    def count(self, what: str, n: int = 1) -> None:
        """Note something for the account at the end."""
        self.tally[what] = self.tally.get(what, 0) + n

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
        attempt = Attempt(process, self.rng.choice(batches), UUID(int=self.rng.getrandbits(128)))
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
        now = await self.batch(batch)
        demand(now["due_at"] == first, "due_at is the first retry", now["due_at"], first)

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
        else:
            a.slots -= slots
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

    # ── operators ─────────────────────────────────────────────────────────────────────────────────

    async def command(self) -> None:
        """An operator's word; sometimes the same one again."""
        if self.commands and self.rng.random() < 0.3:
            command_id = self.rng.choice(list(self.commands))
            await self._repeat(command_id)
            return
        words: list[tuple[str, dict[str, Any]]] = [
            ("pause", {"reason": "lunch"}),
            ("pause", {}),
            ("resume", {}),
            ("resume", {}),
            ("resume", {}),
            ("drain", {}),
            *(("set", {"deadline": self.db.now + timedelta(seconds=s)}) for s in (1.5, 4, 3600)),
            ("set", {"pace": 12.5}),
        ]
        what, args = self.rng.choice(words)
        await self.say(what, args)

    async def say(self, what: str, args: dict[str, Any]) -> None:
        """Give a command and compare the answer with what must come."""
        command_id = UUID(int=self.rng.getrandbits(128))
        refused, already = self._expected(what)
        if not refused and not already:
            self._obey(what, args)
        try:
            answer = await pushes.command(self.db, self.push_no, command_id, "ann", what, args)
        except CommandRefused:
            demand(refused, "the command is accepted", what, self.hold)
            self.commands[command_id] = {"what": what, "args": args, "refused": True}
            return
        demand(not refused, "the command is refused", what, self.hold, answer)
        demand(
            (answer.version, answer.hold, answer.already) == (self.version, self.hold.name.lower(), already),
            "a command answers as it must", answer, self.version, self.hold,
        )  # fmt: skip
        self.commands[command_id] = {"what": what, "args": args, "refused": False, "answer": answer}
        if self.hold is Hold.CLOSING and self.rows_at_close is None:
            self.rows_at_close = await self.row_count()

    def _expected(self, what: str) -> tuple[bool, bool]:
        """Whether the command is refused; whether it was so before."""
        same = {"pause": Hold.PAUSED, "resume": Hold.NONE, "drain": Hold.DRAINING}.get(what)
        if same is not None and self.hold is same:
            return False, True
        if self.hold is Hold.CLOSING:
            return True, False
        return what == "pause" and self.hold is Hold.DRAINING, False

    def _obey(self, what: str, args: dict[str, Any]) -> None:
        self.version += 1
        self.hold = {
            "pause": Hold.PAUSED, "resume": Hold.NONE, "drain": Hold.DRAINING, "close": Hold.CLOSING,
        }.get(what, self.hold)  # fmt: skip
        self.verdict = args.get("verdict")
        self.deadline = args.get("deadline", self.deadline)

    async def _repeat(self, command_id: UUID) -> None:
        """The same command again: the same answer, and nothing happens."""
        known = self.commands[command_id]
        try:
            answer = await pushes.command(
                self.db, self.push_no, command_id, "ann", known["what"], known["args"]
            )
        except CommandRefused:
            demand(known["refused"], "a repeated command answers as before", known)
        else:
            demand(
                not known["refused"] and answer == known["answer"],
                "a repeated command answers as before",
                known,
            )

    async def block(self) -> None:
        """A lane's credential is refused, or works again."""
        lane = self.rng.choice((1, 2))
        blocked = not self.blocked[lane] and self.rng.random() < 0.4
        await self.ledger.block(self.app_no, lane, blocked, DEAD_TOKEN)
        self.blocked[lane] = blocked

    # ── phones and their owners ───────────────────────────────────────────────────────────────────

    async def registry(self) -> None:
        """A user opts out or in, an address is registered again, retired elsewhere, or changes hands."""
        chosen = self.rng.choice(sorted(set(self.registration.values())) or [0])
        what = self.rng.choice(("optout", "again", "again", "retired", "moved"))
        if what == "optout":
            await self.db.execute(
                "update usr set optout = optout # 1 where user_no ="
                " (select user_no from registration where registration_no = $1)",
                chosen,
            )
        elif what == "again":
            await self.db.execute(
                "update registration set status = 1, registered_at = now() where registration_no = $1", chosen
            )
            self.retired_by_world.discard(chosen)
        elif what == "retired":
            await self.db.execute("update registration set status = 2 where registration_no = $1", chosen)
        else:
            await self.db.execute(
                "update registration set registered_at = now(), user_no ="
                " (select min(user_no) from usr where app_no = $2) where registration_no = $1",
                chosen,
                self.app_no,
            )

    # ── the push's own work ───────────────────────────────────────────────────────────────────────

    async def freeze(self) -> None:
        """A range is frozen, or found frozen; behind a close nothing is born."""
        if not self.unfrozen and self.rng.random() < 0.5:
            return
        every = await self.db.fetchval("select ranges from push where push_no = $1", self.push_no)
        range_no = self.rng.randrange(every)
        opens = "null::timestamptz"
        if self.rng.random() < 0.3:
            opens = f"case (u.user_no - {self.first_user}) % 2 when 0 then now() + interval '2 s' end"
        frozen = await pushes.freeze(self.db, self.push_no, range_no, opens=opens)
        if range_no not in self.unfrozen:
            demand(frozen.already and not frozen.rows, "a range is frozen once", frozen)
        elif self.hold is Hold.CLOSING:
            demand(frozen.closing, "nothing is born behind a close", frozen)
        else:
            demand(frozen.rows > 0 or not frozen.already, "a range is frozen", frozen)
            self.unfrozen.discard(range_no)
        await self.learn()

    async def learn(self) -> None:
        """Which batches and rows there are now."""
        for b in await self.db.fetch("select batch from batch where push_no = $1", self.push_no):
            self.holders.setdefault(b["batch"], None)
            self.alive_since.setdefault(b["batch"], 0)
        self.registration = {
            (d["batch"], d["seq"]): d["registration_no"]
            for d in await self.db.fetch(
                "select batch, seq, registration_no from delivery where push_no = $1 order by 1, 2",
                self.push_no,
            )
        }

    async def retire(self) -> None:
        """Part of the retire queue is worked off: exactly what may be."""
        limit = self.rng.choice((1, 3, 50))
        lanes = {
            r["lane"]: r["open"]
            for r in await self.db.fetch(
                "select lane, sum(case closed when 0 then open else 0 end) as open from batch"
                " where push_no = $1 group by lane",
                self.push_no,
            )
        }
        lane_of = {
            r["batch"]: r["lane"]
            for r in await self.db.fetch("select batch, lane from batch where push_no = $1", self.push_no)
        }
        entries = sorted(self.queue)[:limit]
        waiting = [row for row in entries if self.queue[row] and lanes[lane_of[row[0]]] > 0]
        done = await self.ledger.retire(self.push_no, [SUSPECT], limit)
        demand(
            (done.handled, done.waiting) == (len(entries) - len(waiting), len(waiting)),
            "RETIRE handles what it may", done, entries, waiting,
        )  # fmt: skip
        self.count("retired", done.retired)
        for row in entries:
            if row not in waiting:
                del self.queue[row]

    async def close(self) -> None:
        """Close some books: those whose lease has run out, in order."""
        if self.hold is not Hold.CLOSING:
            return
        limit = self.rng.choice((1, 2, 100))
        before = await self.db.fetch(
            "select batch, open, closed, lease_until from batch where push_no = $1 order by batch",
            self.push_no,
        )
        now = self.db.now
        free = [b for b in before if b["lease_until"] is None or b["lease_until"] < now]
        able = [b["batch"] for b in free if not b["closed"] and b["open"] > 0][:limit]
        done = await self.ledger.close(self.push_no, limit=limit)
        closed = await self.db.fetch(
            "select batch from batch where push_no = $1 and closed > 0 order by batch", self.push_no
        )
        was = {b["batch"] for b in before if b["closed"]}
        demand(
            [b["batch"] for b in closed if b["batch"] not in was] == able and done.done == len(able),
            "CLOSE waits for leases", done, able, closed,
        )  # fmt: skip

    async def look(self) -> None:
        """next_work says what there is to do."""
        live = [b for b in self.holders if self.rng.random() < 0.2]
        stock = self.rng.choice((1, 50))
        told = await self.ledger.next_work(self.push_no, live, stock)
        demand((told.control_version, told.hold) == (self.version, self.hold), "the word is current", told)
        demand(set(told.to_freeze) == self.unfrozen, "ranges not yet frozen are named", told)
        batches = await self.db.fetch("select * from batch where push_no = $1 order by batch", self.push_no)
        for lane in told.lanes:
            mine = [b for b in batches if b["lane"] == lane.lane]
            self._compare_work(lane, mine, live, stock)

    def _compare_work(self, lane: Any, batches: list[asyncpg.Record], live: list[int], stock: int) -> None:
        now = self.db.now
        todo = [b for b in batches if b["open"] > 0 and (self.hold is not Hold.DRAINING or b["begun"])]
        at = {
            b["batch"]: max(
                aware(moment) for moment in (
                    b["lease_until"], b["opens_at"], b["due_at"] if b["open"] == b["retry"] else None)
                if moment is not None
            )
            for b in todo
        }  # fmt: skip
        free = [b for b in todo if at[b["batch"]] <= now and b["batch"] not in live]
        fresh = [b for b in free if b["open"] > b["retry"]]
        work = sorted((b["claimed_to"] < 0, b["batch"]) for b in fresh)
        again = sorted(b["batch"] for b in free if b["open"] == b["retry"])
        demand(lane.work == tuple(b for _, b in work[:stock]), "work is what can go now", lane, work)
        demand(lane.again == tuple(again[:stock]), "again is what is due", lane, again)
        later = [moment for moment in at.values() if moment > now]
        demand(lane.next_at == min(later, default=None), "next_at is the next moment", lane, later)
        demand(lane.doing == len(todo), "doing is what is left", lane, todo)

    # ── reading ───────────────────────────────────────────────────────────────────────────────────

    async def batch(self, batch: int) -> asyncpg.Record:
        """A batch row as it is."""
        row = await self.db.fetchrow(
            "select * from batch where push_no = $1 and batch = $2", self.push_no, batch
        )
        assert row is not None
        return row

    async def rows(self, batch: int) -> list[asyncpg.Record]:
        """The deliveries of a batch as they are."""
        return await self.db.fetch(
            "select * from delivery where push_no = $1 and batch = $2 order by seq", self.push_no, batch
        )

    async def row_count(self) -> int:
        """How many deliveries there are."""
        return int(await self.db.fetchval("select count(*) from delivery where push_no = $1", self.push_no))


def aware(moment: datetime) -> datetime:
    """Infinity comes without a time zone."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _tell(outcomes: Outcomes, word: Word) -> None:
    if word.code == Code.ACCEPTED:
        outcomes.accept(word.seq)
    else:
        outcomes.add(word.seq, word.code, word.reason, word.delay)
    if word.kills:
        outcomes.retire(word.seq, word.dead_since)
