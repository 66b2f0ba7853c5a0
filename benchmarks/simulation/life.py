"""One life of one push: its processes, its weather, its operator, and what is to be true at the end."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, Final
from uuid import UUID

from temporalio.exceptions import ApplicationError

from activities.audience import Audiences
from activities.close import Closing
from activities.commands import Commands
from activities.quota import Quota
from activities.registrations import Registrations
from activities.send import Sending
from activities.work import Work
from benchmarks.simulation.clock import VirtualClock
from benchmarks.simulation.loop import WORLD, VirtualLoop
from benchmarks.simulation.provider import WEATHERS, MemoryLanes, Provider
from benchmarks.simulation.store import Server, Wire
from benchmarks.simulation.temporal import Host, Run, Temporal
from benchmarks.simulation.verdict import Verdict, judge
from clarion import attempt, limits, names, process
from clarion.model.ledger import Hold
from clarion.process import SenderProcess
from clarion.quota import tap
from clarion.quota.exchange import PostgresBoard
from clarion.quota.permits import Permits
from clarion.store import unblocking, worker
from clarion.store.locales import Locales
from clarion.store.reasons import Reasons
from workflows.push import PREFIX, PushWorkflow

PROVIDERS: Final = {1: "apns", 2: "fcm"}
CONTROL: Final = 2
SENDERS: Final = 2
TROUBLED: Final = 40.0  # seconds in which things go wrong
PATIENCE: Final = 900.0  # and after which every push is over, by any means of its operator
OBEYED: Final = 2.0
APP: Final = "simulated"
# Sizes at which an audience of a few hundred has as many batches and ranges as one of millions.
SMALL: Final = {
    "BATCH_MIN": 20,
    "BATCH_HIGH": 20,
    "RANGE_FIRST": 60,
    "RANGE_MAX": 100,
    "WINDOW": 40,
    "STEP_OUTCOMES": 10,
}


@dataclass(slots=True)
class Word:
    """An operator's word in force: from when nothing more may leave, until when."""

    what: str
    since: float
    until: float = float("inf")


@dataclass
class Life:
    """What a seed makes of one push."""

    seed: int
    loop: VirtualLoop
    clock: VirtualClock
    server: Server
    temporal: Temporal
    events: list[str] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    contents: list[tuple[str, float]] = field(default_factory=list)
    kills: int = 0
    broken: list[str] = field(default_factory=list)  # what must not raise, and did

    def __post_init__(self) -> None:
        self.chance = Random(f"{self.seed} life")
        self.provider = Provider(self.loop, self.clock, Random(f"{self.seed} provider"))
        self.users = self.chance.randrange(40, 240)
        self.once = self.chance.random() < 0.4
        self.faulty = self.chance.random() < 0.9
        self.spec: dict[str, Any] = {
            "app": APP,
            "audience": {"everybody": True},
            "message": {"texts": {"default": {"title": "one", "body": "of a life"}}},
            "delivery_guarantee": "at_most_once" if self.once else "at_least_once",
            "pace": self.chance.choice([None, None, 20, 50]),
        }
        self.push_no = 0
        self.wires: list[Wire] = []
        self.tasks: set[asyncio.Task[Any]] = set()

    @property
    def ended_early(self) -> bool:
        """It was cancelled: ranges that were not frozen yet have no rows."""
        return any(word.what != "pause" for word in self.words)

    @property
    def phones(self) -> list[tuple[str, ...]]:
        """Their registrations; the second one is in the other lane."""
        return [(f"t{n}", f"s{n}") if n % 3 == 0 else (f"t{n}",) for n in range(1, self.users + 1)]

    # ── the whole of it ───────────────────────────────────────────────────────────────────────────

    async def live(self) -> Verdict:
        """Live it, from an empty database to the judge's word."""
        self.clock.begin()
        self._seed()
        with self.server.really():
            await self.server.clear()
            await self._lay_ground()
        for n in range(CONTROL):
            self._host(f"control-{n}", self._boot_control)
        for n in range(SENDERS):
            self._host(f"sender-{n}", self._boot_sender)
        run = self.temporal.start(PushWorkflow, f"{PREFIX}p", [self.spec])
        self.note(f"start {self.users} users {'once' if self.once else 'at least once'}")
        if self.faulty:
            self._spawn(self._trouble())
        self._spawn(self._operate())
        stuck = not await self._until_closed(run)
        verdict = await judge(self, stuck=stuck)
        for task in self.tasks:
            task.cancel()
        self.note(f"end {verdict.states}")
        verdict.digest = hashlib.sha256("\n".join(self.events).encode()).hexdigest()[:16]
        return verdict

    def note(self, event: str) -> None:
        """What happened, for the digest and for whoever looks at a failing seed."""
        self.events.append(f"{self.clock.monotonic():10.4f} {event}")

    def _seed(self) -> None:
        """Every source of chance, ours and the product's, from this life's seed."""
        numbers = Random(f"{self.seed} ids")
        random.seed(f"{self.seed} jitter")
        self.temporal.random = Random(f"{self.seed} temporal")
        self.temporal.mischief = self.chance.choice([0.0, 0.02, 0.1])
        self.temporal.again_after = self.chance.choice([12, 40, 1_000])
        self.server.random = Random(f"{self.seed} server")
        number_objects()
        for module in (attempt, process):
            module.uuid4 = lambda: UUID(int=numbers.getrandbits(128), version=4)  # type: ignore[attr-defined]

    def _spawn(self, work: Any) -> None:
        task = self.loop.create_task(work, context=WORLD.copy())
        self.tasks.add(task)
        task.add_done_callback(self._ended, context=WORLD.copy())

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            self.broken.append(f"{task.get_name()} broke: {task.exception()!r}")

    def calm(self) -> Wire:
        """A connection that loses nothing: the operator's and the judge's."""
        return Wire(self.server, Random(f"{self.seed} calm"))

    async def _lay_ground(self) -> None:
        """An app with two lanes and users with a phone each, every third of them known to both.

        Some addresses are long dead.
        """
        db = self.server.connection
        app_no = await db.fetchval("insert into app (name) values ($1) returning app_no", APP)
        for lane, name in PROVIDERS.items():
            await db.execute(
                "insert into credential (app_no, lane, name, provider, secret) values ($1, $2, $3, $3, $4)",
                app_no, lane, name, b"none",
            )  # fmt: skip
        await db.execute(GROUND, app_no, self.users)
        self.provider.dead = {f"t{n}" for n in range(1, self.users + 1) if self.chance.random() < 0.03}

    # ── processes ─────────────────────────────────────────────────────────────────────────────────

    def _host(self, name: str, boot: Callable[[Host, Wire], Awaitable[None]]) -> None:
        """A process from now on."""
        host = Host(name)
        loss = 0.004 if self.faulty and self.clock.monotonic() < TROUBLED else 0.0
        wire = Wire(self.server, Random(f"{self.seed} {name} {self.kills}"), loss=loss)
        self.wires.append(wire)
        self.temporal.hosts.append(host)
        booting = self.temporal.spawn(boot(host, wire), host.context())
        booting.add_done_callback(self._ended, context=WORLD.copy())

    async def _boot_control(self, host: Host, db: Wire) -> None:
        audiences, commands, work = Audiences(db), Commands(db), Work(db)
        registrations, closing, quota = Registrations(db), Closing(db), Quota(db)
        host.activities = {
            "open_push": audiences.open_push,
            "plan": audiences.plan,
            "freeze": audiences.freeze,
            "command": commands.command,
            "unblock_credentials": commands.unblock_credentials,
            "next_work": work.next_work,
            "acquire_quota": quota.acquire_quota,
            "retire_registrations": registrations.retire_registrations,
            "close_push": closing.close,
        }
        host.queues = {names.OPS_QUEUE, names.BULK_QUEUE}

    async def _boot_sender(self, host: Host, db: Wire) -> None:
        queues = [names.send_queue(provider) for provider in PROVIDERS.values()]
        number = await db.persist(lambda: worker.register(db, host.name, 1, queues))
        permits = Permits(PostgresBoard(db), number, clock=self.clock)
        senders = MemoryLanes(self.provider, PROVIDERS)
        reasons = await db.persist(lambda: Reasons.load(db))
        locales = await db.persist(lambda: Locales.load(db))
        shared = SenderProcess(db, senders, permits, number, reasons, locales, clock=self.clock)
        host.activities = {"send_batch": Sending(shared).send_batch}
        host.queues = set(queues)
        self.temporal.spawn(permits.run(), host.context())
        while True:
            await db.persist(lambda: worker.seen(db, number))
            await asyncio.sleep(limits.WORKER_SEEN_EVERY)

    # ── trouble ───────────────────────────────────────────────────────────────────────────────────

    async def _trouble(self) -> None:
        """Something goes wrong every few seconds, for a while."""
        kinds = (self._kill, self._kill, self._freeze, self._weather, self._weather, self._terminate)
        while self.clock.monotonic() < TROUBLED:
            await asyncio.sleep(self.chance.expovariate(1 / 3))
            await self.chance.choice(kinds)()
        self.temporal.mischief = 0.0
        for wire in self.wires:
            wire.loss = 0.0

    async def _kill(self) -> None:
        host = self.chance.choice(self.temporal.hosts)
        if host.dead:
            return
        self.note(f"kill {host.name}")
        host.kill()
        self.kills += 1
        self.temporal.hosts.remove(host)
        boot = self._boot_sender if host.name.startswith("sender") else self._boot_control
        self._spawn(self._again(host.name, boot))

    async def _again(self, name: str, boot: Callable[[Host, Wire], Awaitable[None]]) -> None:
        await asyncio.sleep(self.chance.uniform(0.5, 3))
        self._host(name, boot)

    async def _freeze(self) -> None:
        host = self.chance.choice(self.temporal.hosts)
        if host.dead or host.frozen:
            return
        seconds = self.chance.choice([1.0, 4.0, 12.0, 18.0])
        self.note(f"freeze {host.name} for {seconds:g}")
        host.freeze()
        self._spawn(self._thaw(host, seconds))

    async def _thaw(self, host: Host, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if not host.dead:
            self.note(f"thaw {host.name}")
            host.thaw()

    async def _weather(self) -> None:
        lane, weather = self.chance.choice(list(PROVIDERS)), self.chance.choice(WEATHERS)
        if lane in self.provider.weather:
            return
        self.note(f"{weather} at {lane}")
        self.provider.weather[lane] = weather
        self._spawn(self._clear(lane, self.chance.uniform(0.5, 12)))

    async def _clear(self, lane: int, seconds: float) -> None:
        await asyncio.sleep(seconds)
        del self.provider.weather[lane]

    async def _terminate(self) -> None:
        runs = [run for run in self.temporal.runs.values() if not run.over]
        if runs and self.chance.random() < 0.5:
            run = self.chance.choice(runs)
            self.note(f"terminate {run.id}")
            self.temporal.terminate(run)

    # ── the operator ──────────────────────────────────────────────────────────────────────────────

    async def _operate(self) -> None:
        """Now and then a word; what has stopped is started again, what is blocked is opened."""
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(self.chance.uniform(0.3, 8))
            await self.chance.choice((self._pause, self._pause, self._pace, self._edit, self._cancel))()
        while True:
            await self._mend()
            await asyncio.sleep(5)

    async def _say(self, what: str, input: Any) -> bool:
        """Whether it was acknowledged. A run that ends meanwhile never answers."""
        run = self.temporal.runs[f"{PREFIX}p"]
        self.note(f"say {what}")
        try:
            async with asyncio.timeout(20):
                await self.temporal.say(run, what, input)
        except (ApplicationError, TimeoutError) as error:
            self.note(f"{what}: {type(error).__name__}")
            return False
        self.note(f"{what} acknowledged")
        return True

    async def _pause(self) -> None:
        if await self._say("pause", {"reason": "a look"}):
            word = Word("pause", self.clock.monotonic() + OBEYED)
            self.words.append(word)
            await asyncio.sleep(self.chance.choice([1.0, 3.0, 40.0]))
            word.until = self.clock.monotonic()
            await self._say("resume", {})

    async def _pace(self) -> None:
        await self._say("set_pace", {"pace": self.chance.choice([None, 10, 100])})

    async def _edit(self) -> None:
        title = f"edit {len(self.contents)}"
        message = {"texts": {"default": {"title": title, "body": "of a life"}}}
        if await self._say("edit_message", {"message": message}):
            self.contents.append((title, self.clock.monotonic() + OBEYED))

    async def _cancel(self) -> None:
        mode = self.chance.choice(["now", "drain"])
        if self.chance.random() < 0.4 and await self._say("cancel", {"mode": mode}):
            # A drain lets what was begun go on, for as long as it takes.
            since = self.clock.monotonic() + OBEYED if mode == "now" else float("inf")
            self.words.append(Word("cancel", since))

    async def _mend(self) -> None:
        db = self.calm()
        row = await db.fetchrow(STANDS, "p")
        run = self.temporal.runs[f"{PREFIX}p"]
        if row is None or row["closed"]:
            return
        self.push_no = row["push_no"]
        if run.over:
            self.note("start it again")
            self.temporal.start(PushWorkflow, run.id, [self.spec])
        elif row["hold"] == Hold.PAUSED:  # by Clarion, or by a word of ours whose end was not heard
            await self._say("resume", {})
        if self.chance.random() < 0.5 and not self.provider.weather:
            for lane in await unblocking.unblock(db, row["push_no"], None, who="ann", way="direct"):
                self.note(f"unblock {lane}")

    async def _until_closed(self, run: Run) -> bool:
        """Whether the books were closed in time."""
        db = self.calm()
        while self.clock.monotonic() < PATIENCE:
            await asyncio.sleep(1)
            row = await db.fetchrow(STANDS, "p")
            if row is not None and row["closed"]:
                self.push_no = row["push_no"]
                return True
            if self.temporal.runs[run.id].over and row is None:
                self.temporal.start(PushWorkflow, run.id, [self.spec])  # it was terminated before it was open
        return False


_KINDS: Final[tuple[Any, ...]] = (attempt._Attempt, attempt.Stop, tap.Tap)
_MAKES: Final = {kind: kind.__init__ for kind in _KINDS}


def number_objects() -> None:
    """Sets of these are walked in an order that follows from the seed, not from addresses in memory."""
    numbers, number_of = count(), dict[int, int]()

    def make(self: Any, *args: Any, **named: Any) -> None:
        number_of[id(self)] = next(numbers)
        _MAKES[type(self)](self, *args, **named)

    for kind in _KINDS:
        kind.__init__ = make
        kind.__hash__ = lambda self: number_of[id(self)]


GROUND: Final = """
with g as (select g, (1 + g % 2)::smallint as lane from generate_series(1, $2::int) g), u as (
  insert into usr (app_no, user_id) select $1, 'u' || g from g returning user_no, user_id
), d as (
  insert into device (app_no, installation, user_no, platform)
  select $1, ('00000000-0000-0000-0000-' || lpad(substr(user_id, 2), 12, '0'))::uuid, user_no, 1 from u
  returning device_no, user_no
)
insert into registration (device_no, user_no, app_no, lane, token)
select device_no, user_no, $1, case kind when 't' then lane else 3 - lane end, kind || g
from d join u using (user_no) join g on user_id = 'u' || g
join unnest(array['t', 's']) kind on kind = 't' or g % 3 = 0
order by kind desc, g
"""
STANDS: Final = "select push_no, closed_at is not null as closed, hold from push where push_id = $1"
