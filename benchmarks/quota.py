"""What the exchange of permits costs: PostgreSQL's and the dealer's CPU by processes and pushes.

    python -m benchmarks.quota [--seconds 10]

Sender processes are simulated by permits in this process; each wants everything for every push, over four
lanes of 3,000/s. The dealer's part is the time in its turns that this process computes; the processes' own
part is the rest. An exchange's time is from asking to the answer.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ParamSpec, TypeVar
from unittest import mock

from clarion.quota import exchange
from clarion.quota.deal import deal
from clarion.quota.exchange import Answer, Json, PostgresBoard
from clarion.quota.learn import Lane
from clarion.quota.permits import Permits
from clarion.store import migrate
from clarion.store.database import Database
from tests.support.postgres import running_server

P = ParamSpec("P")
T = TypeVar("T")

SHAPES = ((16, 1), (16, 10), (16, 100))
LANES = 4
CEILING = 3_000.0


class TimedBoard(PostgresBoard):
    """Notes how long exchanges take."""

    times: list[float]

    async def exchange(self, process: int, read: int, ask: Json) -> Answer:
        """The exchange, timed."""
        began = time.perf_counter()
        answer = await super().exchange(process, read, ask)
        self.times.append(time.perf_counter() - began)
        return answer


class Spent:
    """CPU seconds of the dealer's own computing."""

    def __init__(self) -> None:
        self.seconds = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """While it lasts the pure deal and the writing of JSON are timed."""
        with (
            mock.patch("clarion.quota.dealer.deal", self._timed(deal)),
            mock.patch("clarion.quota.dealer.rates_to_json", self._timed(exchange.rates_to_json)),
            mock.patch("clarion.quota.exchange.ask_from_json", self._timed(exchange.ask_from_json)),
        ):
            yield

    def _timed(self, call: Callable[P, T]) -> Callable[P, T]:
        def timed(*args: P.args, **kwargs: P.kwargs) -> T:
            began = time.thread_time()
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds += time.thread_time() - began

        return timed


def cpu_seconds(pid: int) -> float:
    """Of a process and its children."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    total = 0.0
    for one in (str(pid), *children):
        fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


async def furnish(db: Database, pushes: int) -> None:
    """Lanes that are warm, and pushes; every third has a pace."""
    await db.execute("truncate app, credential, push, dealer, sender_ask, sender_rates cascade")
    await db.execute("insert into app (app_no, name) overriding system value values (1, 'demo')")
    await db.execute(
        "insert into credential (app_no, lane, name, provider, ceiling)"
        " select 1, n, 'lane' || n, 'apns', $1 from generate_series(1, $2) n",
        CEILING,
        LANES,
    )
    await db.execute(
        "insert into push (push_no, push_id, spec, spec_hash, app_no, dedup_no, pace)"
        " select n, 'p' || n, '{}', '', 1, n, case when n % 3 = 0 then 500 else float8 'Infinity' end"
        " from generate_series(1, $1) n",
        pushes,
    )
    lanes = {f"1.{n}": Lane(CEILING) for n in range(1, LANES + 1)}
    await db.execute(
        "insert into dealer values (true, 1, 1, clock() - 100, clock() - 100, $1)",
        exchange.lanes_to_json(lanes),
    )


async def measure(db: Database, server: int, processes: int, pushes: int, seconds: float) -> str:
    """One line of the table."""
    await furnish(db, pushes)
    board = TimedBoard(db)
    made = [Permits(board, number) for number in range(1, processes + 1)]
    for permits in made:
        for push in range(1, pushes + 1):
            permits.open(f"1.{push % LANES + 1}", push, False).want(100_000, 1_000_000)
    board.times = []
    running = [asyncio.create_task(permits.run()) for permits in made]
    await asyncio.sleep(3)
    spent, before, mine = Spent(), cpu_seconds(server), time.process_time()
    board.times = []
    began = time.perf_counter()
    with spent.watching():
        await asyncio.sleep(seconds)
    took = time.perf_counter() - began
    postgres, mine = cpu_seconds(server) - before, time.process_time() - mine - spent.seconds
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    p99 = statistics.quantiles(board.times, n=100)[98]
    return (
        f"{processes:3} × {pushes:<3}  PostgreSQL {100 * postgres / took:5.1f} %  "
        f"dealer {100 * spent.seconds / took:5.1f} %  senders together {100 * mine / took:5.1f} %  "
        f"{len(board.times) / took:5.0f} exchanges/s  p50 {1e3 * statistics.median(board.times):.1f} ms  "
        f"p99 {1e3 * p99:.1f} ms"
    )


async def main(seconds: float) -> None:
    """The table."""
    async with running_server(throw_away=True) as server:
        await migrate.migrate(server.url)
        db = await Database.connect(server.url, max_size=6)
        assert server.child is not None
        assert server.child.pid is not None
        for processes, pushes in SHAPES:
            print(await measure(db, server.child.pid, processes, pushes, seconds), flush=True)
        await db.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0)
    asyncio.run(main(parser.parse_args().seconds))
