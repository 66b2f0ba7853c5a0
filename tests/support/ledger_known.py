"""What the world around the ledger knows: what happened, never what the ledger says (see `ledger_world`)."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg

from clarion.model.ledger import Code, Hold
from clarion.model.spec import PushSpec
from clarion.store import push as pushes
from clarion.store.ledger import Ledger, Take
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


def aware(moment: datetime) -> datetime:
    """Infinity comes without a time zone."""
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


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


class Known:
    """One push and everything that happened to it, for one seed."""

    def __init__(self, db: Warped, seed: int) -> None:
        self.db = db
        self.ledger = Ledger(db)
        self.seed = seed
        self.actions = 0
        self.calm = False  # towards the end nothing new goes wrong
        self.rng = random.Random(seed)
        self.salt = uuid4().int  # a seed may run more than once in one database: names and ids are new ones
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

    def new_id(self) -> UUID:
        """An id that the seed chose and nobody had before."""
        return UUID(int=self.rng.getrandbits(128) ^ self.salt)

    # ── beginnings ────────────────────────────────────────────────────────────────────────────────

    async def found(self) -> None:
        """An app of its own with a few users, and a push in two or three ranges of tiny batches."""
        db, rng = self.db, self.rng
        await db.set_time(db.now + timedelta(seconds=1))
        name = f"app-{self.seed}-{rng.getrandbits(40):x}-{self.salt:x}"
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

    def count(self, what: str, n: int = 1) -> None:
        """Note something for the account at the end."""
        self.tally[what] = self.tally.get(what, 0) + n

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
