"""Permits through a real PostgreSQL, by real processes."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import inf

import pytest

from clarion.quota import exchange
from clarion.quota.ask import Terms, Totals, Want
from clarion.quota.exchange import PostgresBoard
from clarion.quota.learn import Lane
from clarion.quota.permits import Permits
from clarion.store import migrate
from clarion.store.database import Database
from tests.support.eventually import eventually
from tests.support.postgres import running_server

LANE = "1.1"
ASK = exchange.ask_to_json(False, {LANE: (Totals(), 0.0)}, {(LANE, 7): Want(50.0, False, 0)})


async def furnish(db: Database, *, pace: float = inf) -> None:
    """App 1 with lane 1 and push 7."""
    await db.execute("insert into app (name) values ('demo')")
    await db.execute(
        "insert into credential (app_no, lane, name, provider, ceiling) values (1, 1, 'one', 'apns', 4000)"
    )
    await db.execute(
        "insert into push (push_no, push_id, spec, spec_hash, app_no, dedup_no, pace, weight)"
        " values (7, 'seven', '{}', '', 1, 7, $1, 2)",
        pace,
    )


@pytest.fixture
async def board(db: Database) -> PostgresBoard:
    """A board on a database with one lane and one push."""
    await furnish(db, pace=300.0)
    return PostgresBoard(db)


async def test_an_ask_is_read_by_the_dealer_and_rates_by_the_process(board: PostgresBoard) -> None:
    """One exchange leaves the ask and brings what was dealt, once."""
    first = await board.exchange(4, 0, ASK)
    assert (first.deal, first.number, first.rates) == (None, 0, None)
    post = await board.take_over()
    assert post is not None
    assert post.dealt == {}
    clock, (ask,) = await board.asks()
    assert (ask.process, ask.read, ask.wants) == (4, 0, {(LANE, 7): Want(50.0, False, 0)})
    assert 0 <= clock - ask.at < 5

    assert await board.write(post.epoch, post.number + 1, {LANE: Lane(5.0)}, {4: {LANE: [5.0, True, {}]}})

    second = await board.exchange(4, 0, ASK)
    assert (second.deal, second.number) == (post.number + 1, post.number + 1)
    assert second.rates == {LANE: [5.0, True, {}]}
    assert (await board.exchange(4, second.number, ASK)).rates is None


async def test_people_s_words_are_read_with_every_deal(board: PostgresBoard, db: Database) -> None:
    """Ceilings, weights, paces, and when a lane was unblocked; what is gone is not there."""
    terrain = await board.terrain([LANE, "1.2"], [7, 8])

    assert terrain == ({LANE: 4000.0}, {}, {7: Terms(2.0, 300.0)})
    await db.execute("insert into credential_state (app_no, lane, blocked) values (1, 1, true)")
    assert (await board.terrain([LANE], [])).reopened == {}
    await db.execute("update credential_state set blocked = false")
    assert LANE in (await board.terrain([LANE], [])).reopened


async def test_one_deals_and_a_sleeper_is_refused(board: PostgresBoard, db: Database) -> None:
    """The post is taken over after a second without a deal; then the epoch before may write no more."""
    post = await board.take_over()
    assert post is not None
    assert await board.take_over() is None
    await board.write(post.epoch, post.number + 1, {LANE: Lane(9.0)}, {4: {LANE: [9.0, True, {}]}})
    await db.execute("update dealer set dealt_at = dealt_at - 1.1, taken_at = taken_at - 1.1")

    heir = await board.take_over()

    assert heir is not None
    assert heir.epoch > post.epoch
    assert heir.number == post.number + 1
    assert heir.lanes == {LANE: Lane(9.0)}
    assert list(heir.dealt) == [4]
    assert not await board.write(post.epoch, post.number + 2, {}, {4: {}})
    assert (await board.exchange(4, 0, ASK)).rates == {LANE: [9.0, True, {}]}


async def test_numbers_grow_even_when_the_tables_were_lost(board: PostgresBoard, db: Database) -> None:
    """After a crash of PostgreSQL nobody mistakes new rates for old ones, no sleeper has the new epoch."""
    post = await board.take_over()
    assert post is not None
    await board.write(post.epoch, post.number + 1, {}, {})
    await asyncio.sleep(0.25)
    await db.execute("truncate dealer, sender_ask, sender_rates")

    heir = await board.take_over()

    assert heir is not None
    assert heir.epoch > post.epoch
    assert heir.number > post.number


async def test_a_clock_set_back_does_not_stop_dealing(board: PostgresBoard, db: Database) -> None:
    """A last deal that lies in the future is no deal."""
    await board.take_over()
    await db.execute("update dealer set dealt_at = dealt_at + 3600")

    assert await board.take_over() is not None


async def test_only_these_statements_do_without_the_disk(board: PostgresBoard, db: Database) -> None:
    """The setting ends with its statement: a window's commit on the same connection waits for the disk."""
    async with db.pool.acquire() as connection:
        await connection.fetch(exchange.SQL.exchange, 4, 0, ASK)
        assert await connection.fetchval("show synchronous_commit") == "on"
        async with connection.transaction():
            await connection.fetch(exchange.SQL.exchange, 4, 0, ASK)
            assert await connection.fetchval("show synchronous_commit") == "off"


async def test_what_gone_processes_left_is_swept(board: PostgresBoard, db: Database) -> None:
    """Rows of processes that do not come back go, those of the living stay."""
    post = await board.take_over()
    assert post is not None
    for process in (1, 2):
        await board.exchange(process, 0, ASK)
    await board.write(post.epoch, post.number + 1, {LANE: Lane(5.0)}, {1: {}, 2: {}, 3: {}})
    await db.execute("update sender_ask set at = at - 700 where process = 1")

    assert await exchange.sweep(db) == 1

    assert [r["process"] for r in await db.fetch("select process from sender_ask")] == [2]
    assert [r["process"] for r in await db.fetch("select process from sender_rates")] == [2]
    assert await exchange.lanes(db) == {LANE: Lane(5.0)}


async def test_an_attempt_gets_permits(board: PostgresBoard) -> None:
    """From nothing: a dealer is found, the lane starts, permits come, operators see it."""
    permits = Permits(board, 4)
    running = asyncio.create_task(permits.run())
    tap = permits.open(LANE, 7, False)
    tap.want(1e5, 1000)

    await eventually(lambda: tap.pace() > 0, "a rate is granted", seconds=10)

    (report,) = permits.report()
    assert report.lane == LANE
    assert report.rate == pytest.approx(100, rel=0.1)
    assert report.cooling
    assert report.granted == {7: pytest.approx(tap.pace())}
    await eventually(lambda: tap.allowed(1) == 1, "a permit")
    tap.close()
    await eventually(lambda: not permits.report()[0].granted, "the rate is given back")
    running.cancel()
    await asyncio.wait([running])


class Sender:
    """A sender process of its own."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.sent: list[tuple[float, int]] = []
        self.ready = self.deals = False
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            match line.split():
                case [b"s", moment, n]:
                    self.sent.append((float(moment), int(n)))
                case [b"ready"]:
                    self.ready = True
                case [b"deals"]:
                    self.deals = True

    async def kill(self) -> None:
        """kill -9."""
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        await self.reading


@asynccontextmanager
async def senders(url: str, n: int) -> AsyncIterator[list[Sender]]:
    """So many processes on push 7."""
    made = [
        Sender(
            await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.support.quota_process", url, str(number), LANE, "7"),
                stdout=asyncio.subprocess.PIPE,
            )
        )
        for number in range(1, n + 1)
    ]
    try:
        await eventually(lambda: all(s.ready and s.sent for s in made), "all send", seconds=40)
        yield made
    finally:
        for sender in made:
            await sender.kill()


def rate(made: list[Sender], since: float, until: float) -> float:
    """Starts per second of all of them."""
    return sum(n for s in made for moment, n in s.sent if since <= moment < until) / (until - since)


async def warm(db: Database, rate: float) -> None:
    """A dealer that died long ago knew the lane."""
    lanes = exchange.lanes_to_json({LANE: Lane(rate)})
    await db.execute("insert into dealer values (true, 1, 1, clock() - 100, clock() - 100, $1)", lanes)


@pytest.mark.slow
async def test_processes_keep_a_pace_whoever_deals(db: Database, database_url: str) -> None:
    """Three processes keep one pace, also when the dealer is killed, and obey a new one within 2 s."""
    await furnish(db, pace=400.0)
    await warm(db, 4000.0)
    async with senders(database_url, 3) as made:
        await asyncio.sleep(2)
        began = time.monotonic()
        await asyncio.sleep(2.5)
        assert rate(made, began, began + 2.5) == pytest.approx(400, rel=0.1)

        dealer = next(s for s in made if s.deals)
        await dealer.kill()
        killed = time.monotonic()
        await eventually(lambda: any(s.deals for s in made if s is not dealer), "another deals")
        assert time.monotonic() - killed < 5
        await asyncio.sleep(3)
        after = time.monotonic()
        assert rate(made, after - 1.5, after) == pytest.approx(400, rel=0.15)
        for tenth in range(int((after - began) * 10) - 10):
            assert rate(made, began + tenth / 10, began + tenth / 10 + 1) <= 480

        await db.execute("update push set pace = 100 where push_no = 7")
        acknowledged = time.monotonic()
        await asyncio.sleep(5)
        assert rate(made, acknowledged + 2, acknowledged + 5) == pytest.approx(100, rel=0.1)


@pytest.mark.slow
async def test_a_restart_of_postgresql_is_survived() -> None:
    """Stopped in order or killed: nothing starts without an exchange, then all goes on at the same pace."""
    async with running_server(throw_away=True) as server:
        await migrate.migrate(server.url)
        db = await Database.connect(server.url)
        await furnish(db, pace=200.0)
        await warm(db, 4000.0)
        async with senders(server.url, 2) as made:
            await asyncio.sleep(2)
            for kill in (False, True):
                assert server.child is not None
                if kill:
                    server.child.signal(signal.SIGKILL)
                    await server.child.wait()
                else:
                    await server.stop()
                away = time.monotonic()
                await asyncio.sleep(2.5)
                assert rate(made, away + 1.4, away + 2.5) == 0
                await server.start()
                back = time.monotonic()
                await eventually(
                    lambda back=back: rate(made, back, time.monotonic() + 1) > 0,  # type: ignore[misc]
                    "they go on",
                    seconds=15,
                )
                on = time.monotonic()
                await asyncio.sleep(7)
                assert rate(made, on + 4, on + 7) == pytest.approx(200, rel=0.1)
                assert all(rate([s], on + 4, on + 7) > 0 for s in made)
        await db.close()
