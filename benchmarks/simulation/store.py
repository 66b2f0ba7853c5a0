"""PostgreSQL, kept as it is, behind a wire that delays, reorders and loses by the seed.

One statement is at the server at a time, chosen among those that wait, and only when nobody else can run:
all interleavings are between statements and transactions, as the seed will have it. (Races inside the server
are the business of tests/integration/test_ledger_races.py.) Its `now()` and `clock_timestamp()` are ours:
functions of these names in Clarion's schema, which stands before PostgreSQL's own in the search path.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from random import Random
from types import SimpleNamespace
from typing import Any, Final

import asyncpg

from benchmarks.simulation.clock import VirtualClock
from benchmarks.simulation.loop import MACHINE, WORLD, Machine, VirtualLoop
from clarion.store import database, migrate
from clarion.store.database import Database

CLOCK: Final = """
create schema clarion;
create function clarion.now() returns timestamptz stable language sql
  as $$ select to_timestamp(current_setting('simulation.now')::float8) $$;
create function clarion.clock_timestamp() returns timestamptz volatile language sql
  as $$ select to_timestamp(current_setting('simulation.now')::float8) $$;
"""
PATH: Final = "clarion, pg_catalog"
PATIENCE: Final = 1.0  # real seconds that a transaction may think between two statements
REAL: Final = 10.0


class Ask:
    """One statement, or a wish for a connection of one's own, on its way."""

    def __init__(self, machine: Machine | None, call: Callable[[], Awaitable[Any]] | None, fate: str) -> None:
        self.machine, self.call, self.fate = machine, call, fate
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()


class Server:
    """The one connection to PostgreSQL, and who waits for it."""

    def __init__(self, loop: VirtualLoop, clock: VirtualClock) -> None:
        self._loop, self._clock = loop, clock
        self.connection: asyncpg.Connection[asyncpg.Record]
        self.random = Random()
        self._waiting: list[Ask] = []
        self._holder: Ask | None = None
        self._busy = False
        self._tables: list[str] = []
        self._first: list[str] = []  # tables that are not empty at first
        loop.when_idle.append(self._next)

    @contextmanager
    def really(self) -> Iterator[None]:
        """Outside of a life: what is awaited is real, and time does not pass."""
        self._loop.patience = REAL
        try:
            yield
        finally:
            self._loop.patience = 0.0

    async def connect(self, url: str) -> None:
        """Make the schema under our clock."""
        settings = {"search_path": PATH, "plan_cache_mode": "force_generic_plan", "simulation.now": "0"}
        self.connection = await asyncpg.connect(
            url, server_settings=settings, max_cached_statement_lifetime=0
        )
        await database._prepare_connection(self.connection)
        await self._set_clock()
        await self.connection.execute(CLOCK)
        await self.connection.execute("alter system set autovacuum = off")  # its moments are nobody's choice
        await self.connection.execute("select pg_reload_conf()")
        for path in migrate.files(migrate.DIRECTORY):
            await self.connection.execute(path.read_text())
        rows = await self.connection.fetch(
            "select c.relname from pg_class c join pg_namespace n on n.oid = relnamespace"
            " where nspname = 'clarion' and relkind in ('r', 'p') and not relispartition"
        )
        self._tables = sorted(row["relname"] for row in rows)
        await self.connection.execute("create schema first")
        for table in self._tables:  # what the migrations wrote themselves
            if await self.connection.fetchval(f"select exists (select from {table})"):
                await self.connection.execute(f"create table first.{table} as table {table}")
                self._first.append(table)
        await self.connection.execute("select make_day(now()::date), make_day(now()::date + 1)")

    def forget(self) -> None:
        """Who waited in the life before, waits no more."""
        self._waiting.clear()
        self._holder, self._busy = None, False

    async def clear(self) -> None:
        """An empty database: what one life left must not change the next one's."""
        await self.connection.execute("rollback")
        await self._set_clock()
        await self.connection.execute(f"truncate {', '.join(self._tables)} restart identity cascade")
        sequences = await self.connection.fetch(
            "select sequencename from pg_sequences where schemaname = 'clarion'"
        )
        for row in sequences:
            await self.connection.execute(f"alter sequence {row['sequencename']} restart")
        for table in self._first:
            await self.connection.execute(f"insert into {table} overriding system value table first.{table}")

    def put(self, ask: Ask) -> None:
        """It has arrived."""
        self._waiting.append(ask)

    def release(self, ask: Ask) -> None:
        """The connection is given back."""
        if self._holder is ask:
            self._holder = None
            self._loop.patience = 0.0

    def _next(self) -> bool:
        """Serve one of those who wait, if nobody is served."""
        if self._holder is not None:
            if self._holder.machine is not None and self._holder.machine.dead and not self._busy:
                self._spawn(self._roll_back())
                return True
            return False
        if self._busy or not self._waiting:
            return False
        ask = self._waiting.pop(self.random.randrange(len(self._waiting)))
        if ask.machine is not None and ask.machine.dead and self.random.random() < 0.5:
            return self._next()  # it never left the dead machine
        self._spawn(self._serve(ask))
        return True

    def _spawn(self, work: Any) -> None:
        self._busy = True
        self._loop.flying += 1
        task = self._loop.create_task(work, context=WORLD.copy())
        task.add_done_callback(self._landed, context=WORLD.copy())

    def _landed(self, task: asyncio.Task[None]) -> None:
        self._busy = False
        self._loop.flying -= 1

    async def _roll_back(self) -> None:
        await self.connection.execute("rollback")
        self._holder = None
        self._loop.patience = 0.0

    async def _serve(self, ask: Ask) -> None:
        if ask.fate == "never came":
            return _tell(ask.answer, away())
        await self._set_clock()
        if ask.call is None:  # a connection of one's own
            self._holder = ask
            self._loop.patience = PATIENCE
            return _tell(ask.answer, self.connection)
        try:
            answer = await ask.call()
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            return _tell(ask.answer, error)
        return _tell(ask.answer, away() if ask.fate == "answer lost" else answer)

    async def _set_clock(self) -> None:
        await self.connection.execute(f"set simulation.now = '{self._clock.time():.6f}'")


def away() -> asyncpg.PostgresError:
    """What a broken connection raises."""
    return asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")


def _tell(future: asyncio.Future[Any], answer: Any) -> None:
    if future.done():
        return
    if isinstance(answer, BaseException):
        future.set_exception(answer)
    else:
        future.set_result(answer)


class Wire(Database):
    """A machine's `Database`: the same calls, each at the mercy of the wire.

    `loss`: which share of calls never arrives, and which share's answers never come back.
    """

    def __init__(self, server: Server, random: Random, *, loss: float = 0.0) -> None:
        self._server, self._random, self.loss = server, random, loss
        self.pool = SimpleNamespace(  # type: ignore[assignment]
            is_closing=lambda: False, expire_connections=_nothing, acquire=self._acquire
        )
        self.when_full = None

    async def fetch(self, sql: str, *args: Any, timeout: float | None = None) -> list[asyncpg.Record]:
        """All rows."""
        rows: list[asyncpg.Record] = await self._ask(lambda: self._server.connection.fetch(sql, *args))
        return rows

    async def fetchrow(self, sql: str, *args: Any, timeout: float | None = None) -> asyncpg.Record | None:
        """The first row, or None."""
        row: asyncpg.Record | None = await self._ask(lambda: self._server.connection.fetchrow(sql, *args))
        return row

    async def fetchval(self, sql: str, *args: Any, timeout: float | None = None) -> Any:
        """The first column of the first row, or None."""
        return await self._ask(lambda: self._server.connection.fetchval(sql, *args))

    async def execute(self, sql: str, *args: Any, timeout: float | None = None) -> str:
        """Run a statement; returns its command tag."""
        tag: str = await self._ask(lambda: self._server.connection.execute(sql, *args))
        return tag

    async def executemany(
        self, sql: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None
    ) -> None:
        """Run a statement for every tuple of arguments, all or nothing."""
        given = list(args)
        await self._ask(lambda: self._server.connection.executemany(sql, given))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """One connection inside a transaction; its commit, too, may be lost or its answer."""
        async with self._acquire() as connection:
            await connection.execute("begin")
            try:
                yield connection
            except BaseException:
                await connection.execute("rollback")
                raise
            fate = self._fate()
            await connection.execute("rollback" if fate == "never came" else "commit")
            if fate:
                raise away()

    @asynccontextmanager
    async def _acquire(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        ask = await self._put(None)
        try:
            yield await ask.answer
        finally:
            self._server.release(ask)

    async def _ask(self, call: Callable[[], Awaitable[Any]]) -> Any:
        return await (await self._put(call)).answer

    async def _put(self, call: Callable[[], Awaitable[Any]] | None) -> Ask:
        await asyncio.sleep(self._delay())
        ask = Ask(MACHINE.get(), call, self._fate())
        self._server.put(ask)
        return ask

    def _delay(self) -> float:
        return self._random.uniform(0.0002, 0.004) if self._random.random() < 0.98 else self._random.random()

    def _fate(self) -> str:
        draw = self._random.random()
        return "never came" if draw < self.loss else "answer lost" if draw < 2 * self.loss else ""


async def _nothing() -> None:
    """Connections are not ours to renew."""
