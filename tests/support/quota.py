"""A world of senders in virtual time: the real permits and dealer over a board in memory.

The board does what the SQL does, one statement after the other, and can be slow, lose an answer after the
statement was done, or be away; each process has its own line to it. Providers take so many requests a
second and say "too fast" to the rest, or are out.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from math import inf
from typing import Any

import orjson

from clarion.quota.ask import DEAD_SECONDS, Ask, Terms
from clarion.quota.exchange import (
    Answer,
    Json,
    Post,
    Terrain,
    ask_from_json,
    lanes_from_json,
    lanes_to_json,
    rates_in_use,
)
from clarion.quota.learn import Lane
from clarion.quota.payout import Dealt
from clarion.quota.permits import Permits
from clarion.quota.tap import Tap

DATABASE_AHEAD = 12_345.0  # the database's clock is not ours
TICK = 0.02


class LoopClock:
    """The loop's time as a `Clock`."""

    def monotonic(self) -> float:
        """The loop's."""
        return asyncio.get_running_loop().time()

    def time(self) -> float:
        """The same."""
        return self.monotonic()

    def now(self) -> datetime:
        """The same."""
        return datetime.fromtimestamp(self.monotonic(), UTC)


class Tables:
    """What the three tables hold, and what people decided."""

    def __init__(self) -> None:
        self.dealer: dict[str, Any] | None = None
        self.asks: dict[int, tuple[float, int, bytes]] = {}
        self.rates: dict[int, tuple[int, bytes]] = {}
        self.ceilings: dict[str, float] = defaultdict(lambda: inf)
        self.reopened: dict[str, float] = {}
        self.pushes: dict[int, Terms] = defaultdict(Terms)
        self.deals: list[tuple[float, int]] = []  # when, epoch
        self.refused = 0
        self.away = False

    def clock(self) -> float:
        """The database's."""
        return asyncio.get_running_loop().time() + DATABASE_AHEAD

    def crash(self) -> None:
        """Unlogged tables are empty afterwards."""
        self.dealer, self.asks, self.rates = None, {}, {}


class Line:
    """One process's line to the board: a `Board`."""

    def __init__(self, tables: Tables, rng: random.Random) -> None:
        self.tables, self.rng = tables, rng
        self.delay = 0.002  # s, each way, at most
        self.late = 0.0  # share of statements that are late on one of the ways ...
        self.late_by = 1.2  # ... by up to so much
        self.lossy = 0.0  # share of answers that get lost
        self.pause_before_write = 0.0

    async def _way(self) -> None:
        late = self.rng.random() < self.late
        await asyncio.sleep(self.rng.random() * (self.late_by if late else self.delay))
        if self.tables.away:
            raise ConnectionError

    async def _back(self) -> None:
        await self._way()
        if self.rng.random() < self.lossy:
            await asyncio.sleep(0.1)
            raise ConnectionError

    async def exchange(self, process: int, read: int, ask: Json) -> Answer:
        """As the statement of that name."""
        await self._way()
        t = self.tables
        number, rates = t.rates.get(process, (0, b""))
        t.asks[process] = (t.clock(), read, orjson.dumps(ask))
        dealer = t.dealer or {"number": None, "dealt_at": 0.0}
        new = orjson.loads(rates) if number and number != read else None
        answer = Answer(t.clock(), dealer["number"], dealer["dealt_at"], number, new)
        await self._back()
        return answer

    async def take_over(self) -> Post | None:
        """As the statement of that name."""
        await self._way()
        t, now = self.tables, self.tables.clock()
        if t.dealer is not None and abs(now - max(t.dealer["dealt_at"], t.dealer["taken_at"])) <= 1:
            return None
        old = t.dealer or {"epoch": 0, "number": int(now * 10), "dealt_at": now, "lanes": b"{}"}
        t.dealer = old | {"epoch": max(old["epoch"] + 1, int(now * 1e6)), "taken_at": now}
        dealt = {p: [Dealt(n, rates_in_use(orjson.loads(r)))] for p, (n, r) in t.rates.items()}
        lanes = lanes_from_json(orjson.loads(old["lanes"]))
        post = Post(t.dealer["epoch"], old["number"], now, old["dealt_at"], lanes, dealt)
        await self._back()
        return post

    async def asks(self) -> tuple[float, list[Ask]]:
        """As the statement of that name."""
        await self._way()
        now = self.tables.clock()
        asks = [
            ask_from_json(process, at, read, orjson.loads(text))
            for process, (at, read, text) in self.tables.asks.items()
            if at > now - DEAD_SECONDS
        ]
        await self._back()
        return now, asks

    async def terrain(self, lanes: Iterable[str], pushes: Iterable[int]) -> Terrain:
        """As the statement of that name."""
        await self._way()
        t = self.tables
        ceilings = {lane: t.ceilings[lane] for lane in lanes}
        return Terrain(ceilings, dict(t.reopened), {push: t.pushes[push] for push in pushes})

    async def write(
        self, epoch: int, number: int, lanes: Mapping[str, Lane], rates: Mapping[int, Json]
    ) -> bool:
        """As the statement of that name; the dealer may fall asleep before it."""
        await asyncio.sleep(self.pause_before_write)
        await self._way()
        t = self.tables
        if t.dealer is None or t.dealer["epoch"] != epoch:
            t.refused += 1
            return False
        t.dealer |= {"number": number, "dealt_at": t.clock(), "lanes": orjson.dumps(lanes_to_json(lanes))}
        t.deals.append((asyncio.get_running_loop().time(), epoch))
        for process, text in rates.items():
            t.rates[process] = (number, orjson.dumps(text))
        await self._back()
        return True


class Provider:
    """What a lane leads to."""

    def __init__(self) -> None:
        self.limit = inf  # requests a second; more are throttled
        self.out = False
        self.retry_after = 0.0  # said with every throttled answer
        self.latency = 0.05
        self._held, self._at = 0.0, 0.0

    def judge(self, n: int, now: float) -> tuple[int, int, int]:
        """Good, bad, throttled."""
        if self.out:
            return 0, n, 0
        if self.limit == inf:
            return n, 0, 0
        self._held = min(self.limit * 0.25, self._held + self.limit * (now - self._at))
        self._at = now
        good = min(n, int(self._held))
        self._held -= good
        return good, 0, n - good


class Process:
    """One sender process."""

    def __init__(self, world: World, number: int, urgent: bool) -> None:
        self.world, self.number = world, number
        self.line = Line(world.tables, random.Random(world.rng.random()))
        self.permits = Permits(self.line, number, urgent=urgent, clock=LoopClock())
        self.tasks = [asyncio.create_task(self.permits.run())]
        self.asleep = False
        self.taps: list[Tap] = []

    def work(
        self, lane: str, push: int, *, rows: float = inf, speed: float = 20_000.0, urgent: bool = False
    ) -> asyncio.Task[None]:
        """An attempt that sends `rows`, as fast as it may and can (`speed`)."""
        task = asyncio.create_task(self._work(lane, push, rows, speed, urgent))
        self.tasks.append(task)
        return task

    async def _work(self, lane: str, push: int, rows: float, speed: float, urgent: bool) -> None:
        tap = self.permits.open(lane, push, urgent)
        self.taps.append(tap)
        try:
            while rows > 0:
                tap.want(speed, int(min(rows, 1e6)))
                n = 0 if self.asleep else tap.allowed(int(min(rows, max(1, speed * TICK))))
                if n:
                    rows -= n
                    self.world.start(self, lane, push, n)
                await asyncio.sleep(max(tap.next_in(), TICK))
        finally:
            tap.close()
            self.taps.remove(tap)

    async def kill(self) -> None:
        """Nothing of it remains."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.world.processes.remove(self)

    def granted(self, lane: str, push: int) -> float:
        """What it may be sending per second right now."""
        for report in self.permits.report():
            if report.lane == lane and not report.halted and not report.stopped:
                return report.granted.get(push, 0.0)
        return 0.0


class World:
    """Processes, providers, and what was sent."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        random.seed(seed)
        self.tables = Tables()
        self.providers: dict[str, Provider] = defaultdict(Provider)
        self.processes: list[Process] = []
        self._numbers = itertools.count(1)
        self.began = asyncio.get_running_loop().time()
        self.sent: list[tuple[float, int, str, int, int]] = []  # when, process, lane, push, n
        self.answers: Counter[str] = Counter()

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return asyncio.get_running_loop().time() - self.began

    def warm(self, **rates: float) -> None:
        """A dealer that died long ago left these rates of lanes ("a1_2" is lane 1.2) behind."""
        lanes = {key[1:].replace("_", "."): Lane(rate) for key, rate in rates.items()}
        self.tables.dealer = {
            "epoch": 1,
            "number": 1,
            "dealt_at": self.tables.clock() - 100,
            "taken_at": self.tables.clock() - 100,
            "lanes": orjson.dumps(lanes_to_json(lanes)),
        }

    def process(self, *, urgent: bool = False) -> Process:
        """One more sender process."""
        made = Process(self, next(self._numbers), urgent)
        self.processes.append(made)
        return made

    def start(self, process: Process, lane: str, push: int, n: int) -> None:
        """Requests leave; the answers come later."""
        self.sent.append((self.now, process.number, lane, push, n))
        provider = self.providers[lane]
        good, bad, throttled = provider.judge(n, self.now)
        self.answers.update(good=good, bad=bad, throttled=throttled)
        asyncio.get_running_loop().call_later(
            provider.latency,
            process.permits.heard,
            lane,
            good,
            bad,
            throttled,
            provider.retry_after if throttled else 0.0,
        )

    def count(self, since: float, until: float, **where: Any) -> int:
        """Requests started in a span of time, of one lane, push or process if named."""
        names = ("process", "lane", "push")
        return sum(
            row[4]
            for row in self.sent
            if since <= row[0] < until and all(row[1 + names.index(k)] == v for k, v in where.items())
        )

    def rate(self, since: float, until: float, **where: Any) -> float:
        """Requests per second in a span of time."""
        return self.count(since, until, **where) / (until - since)

    def dealers(self) -> list[Process]:
        """Who deals, as far as they know."""
        return [p for p in self.processes if p.permits.dealer.dealing]

    async def when(self, condition: Callable[[], object], *, patience: float = 60.0) -> None:
        """Let time pass until it is so."""
        give_up = self.now + patience
        while not condition():
            if self.now > give_up:
                raise AssertionError("waited in vain")
            await asyncio.sleep(0.01)

    async def until(self, moment: float) -> None:
        """Let time pass."""
        await asyncio.sleep(max(0.0, moment - self.now))


@asynccontextmanager
async def world(seed: int) -> AsyncIterator[World]:
    """A world that ends with the block."""
    made = World(seed)
    try:
        yield made
    finally:
        for process in list(made.processes):
            await process.kill()
