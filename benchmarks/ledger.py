"""What the ledger costs: CPU µs a row of PostgreSQL (all its processes) and of its client.

    python -m benchmarks.ledger [--rows 900000]

A server of its own with the product's settings (fsync on); nothing is analysed, as right after an import.
FREEZE writes the audience, two ranges at a time; READ and STEP then work the batches off, 500 rows a
statement, with 2 % outcomes that are not accepted, half of which end an address. CPU time is what counts: the
wall clock of a shared machine says little.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from uuid import uuid4

from benchmarks import registry
from benchmarks.devices import THREE
from benchmarks.home import home
from clarion import limits
from clarion.model.ledger import Code
from clarion.model.spec import PushSpec
from clarion.store import push as pushes
from clarion.store import report
from clarion.store.database import Database
from clarion.store.ledger import Ledger, Outcomes, Take
from clarion.store.migrate import migrate
from workers.embedded.postgres import Postgres

ROWS_A_STATEMENT: Final = 500
LEASE: Final = 10.0
TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass
class Cost:
    """CPU seconds of the server and of this process, and the rows that they were for."""

    server: float = 0.0
    client: float = 0.0
    rows: int = 0
    seconds: float = 0.0  # on the wall, where it was one piece of work
    latencies: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        per_row = 1e6 / max(self.rows, 1)
        ordered = sorted(self.latencies)
        server, client = self.server * per_row, self.client * per_row
        words = f"{self.rows:>9,} rows  server {server:6.2f} µs  client {client:5.2f} µs"
        if ordered:
            p50, p99 = (ordered[int(len(ordered) * q)] * 1e3 for q in (0.5, 0.99))
            words += f"  a statement {p50:.1f} ms (p50), {p99:.1f} ms (p99)"
        return words


class Server:
    """The CPU time of a postmaster and all its children, those that ended included."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def cpu(self) -> float:
        """Seconds so far."""
        own = _stat(self.pid)
        total = sum(own[11:15])  # user, system, and both of the children it has waited for
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != self.pid:
                stat = _stat(int(entry.name))
                if stat and stat[1] == self.pid:
                    total += sum(stat[11:13])
        return total / TICKS

    @contextmanager
    def measure(self, cost: Cost) -> Iterator[None]:
        """Add what the block costs."""
        server, client = self.cpu(), time.process_time()
        yield
        cost.client += time.process_time() - client  # reading /proc is not the client's work
        cost.server += self.cpu() - server


def _stat(pid: int) -> list[int]:
    """The numbers of /proc/PID/stat after the state, or nothing if the process is gone."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return []
    return [0, *(int(word) for word in text.rsplit(")", 1)[1].split()[1:22])]


async def populate(db: Database, users: int) -> None:
    """Users with one phone each, on three lanes; no statistics are made while we measure."""
    for table in ("usr", "device", "registration"):
        await db.execute(f"alter table {table} set (autovacuum_enabled = off)")
    app_no = await registry.add_app(db, "bench", list(THREE))
    await registry.add_phones(db, app_no, users, list(THREE.values()))


async def freeze(db: Database, server: Server, push_no: int) -> Cost:
    """Plan and freeze everybody, so many ranges at a time as a push does."""
    cost, room = Cost(), asyncio.Semaphore(limits.FREEZES_AT_ONCE)

    async def one(range_no: int) -> int:
        async with room:
            return (await pushes.freeze(db, push_no, range_no)).rows

    began = time.perf_counter()
    with server.measure(cost):
        plan = await pushes.plan(db, push_no)
        cost.rows = sum(await asyncio.gather(*map(one, range(plan.ranges))))
    cost.seconds = time.perf_counter() - began
    return cost


class Worker:
    """One attempt after another, with READ and STEP measured apart."""

    def __init__(self, db: Database, server: Server, push_no: int) -> None:
        self.ledger, self.server, self.push_no = Ledger(db), server, push_no
        self.read, self.step = Cost(), Cost()

    async def batch(self, batch: int) -> None:
        """Work one batch off: read all of it, then claim and answer window by window."""
        take = await self.ledger.take(self.push_no, batch, uuid4(), 1, LEASE)
        assert take.epoch is not None
        with self.server.measure(self.read):
            seqs = await self._read(batch, take)
        await self._step(batch, take, Outcomes(take.at), seqs[: 2 * ROWS_A_STATEMENT][-1])
        with self.server.measure(self.step):
            for start in range(0, len(seqs), ROWS_A_STATEMENT):
                outcomes = self._outcomes(take, seqs[start : start + ROWS_A_STATEMENT])
                claim = seqs[min(start + 3 * ROWS_A_STATEMENT, len(seqs)) - 1]
                began = time.perf_counter()
                await self._step(batch, take, outcomes, claim)
                self.step.latencies.append(time.perf_counter() - began)
        self.step.rows += len(seqs)
        await self.ledger.release(self.push_no, batch, take.epoch)

    async def _read(self, batch: int, take: Take) -> list[int]:
        seqs: list[int] = []
        while True:
            began = time.perf_counter()
            rows = await self.ledger.read(
                self.push_no, batch, seqs[-1] if seqs else -1, ROWS_A_STATEMENT, take.mask, False
            )
            self.read.latencies.append(time.perf_counter() - began)
            self.read.rows += len(rows)
            seqs += [row[0] for row in rows]
            if len(rows) < ROWS_A_STATEMENT:
                return seqs

    def _outcomes(self, take: Take, seqs: list[int]) -> Outcomes:
        outcomes = Outcomes(take.at)
        for n, seq in enumerate(seqs):
            if n % 100 == 50:
                outcomes.add(seq, Code.REJECTED, 200)
                outcomes.retire(seq)
            elif n % 100 == 99:
                outcomes.add(seq, Code.REFUSED, 300, 5.0)
            else:
                outcomes.accept(seq)
        return outcomes

    async def _step(self, batch: int, take: Take, outcomes: Outcomes, claim: int) -> None:
        await self.ledger.step(
            self.push_no, batch, take.epoch or 0,
            outcomes=outcomes, content_version=1, claim=claim, lease=LEASE,
        )  # fmt: skip


@dataclass(frozen=True)
class Costs:
    """Of one audience, from its freeze to the last answer."""

    freeze: Cost
    read: Cost
    step: Cost
    hot: float  # percent of the updates that touched no index
    books: report.Account

    @property
    def sending(self) -> float:
        """CPU µs of PostgreSQL a delivery while it is being sent."""
        return sum(cost.server * 1e6 / cost.rows for cost in (self.read, self.step))

    def __str__(self) -> str:
        rate = self.freeze.rows / self.freeze.seconds
        return "\n".join(
            (
                f"FREEZE + GATE  {self.freeze}  {rate:,.0f} rows/s",
                f"READ {ROWS_A_STATEMENT}       {self.read}",
                f"STEP {ROWS_A_STATEMENT}       {self.step}",
                f"HOT updates of deliveries: {self.hot} %; books: {self.books}",
            )
        )


async def measure(url: str, server: Server, rows: int) -> Costs:
    """All of it, on a database that has just been made."""
    await migrate(url)
    db = await Database.connect(url, max_size=limits.FREEZES_AT_ONCE)
    await populate(db, rows)
    spec = PushSpec.model_validate(
        {"app": "bench", "audience": {"everybody": True}, "message": {"texts": {"default": {"title": "x"}}}}
    )
    push_no = (await pushes.open_push(db, spec, "bench")).push_no
    frozen = await freeze(db, server, push_no)
    await db.execute("checkpoint", timeout=600)
    worker = Worker(db, server, push_no)
    for row in await db.fetch("select batch from batch where push_no = $1 order by 1", push_no):
        await worker.batch(row["batch"])
    hot = await db.fetchval(
        "select round(100.0 * sum(n_tup_hot_upd) / sum(n_tup_upd), 1)"
        " from pg_stat_user_tables where relname like 'delivery\\_%' and n_tup_upd > 0"
    )
    books = await report.reconcile(db, push_no)
    await db.close()
    return Costs(frozen, worker.read, worker.step, hot, books)


async def on_a_server(rows: int) -> Costs:
    """Start a server, measure, remove it."""
    with home() as place:
        postgres = Postgres(place)
        try:
            await postgres.start()
            assert postgres.child is not None
            assert postgres.child.pid is not None
            return await measure(postgres.url, Server(postgres.child.pid), rows)
        finally:
            await postgres.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=900_000)
    print(asyncio.run(on_a_server(parser.parse_args().rows)))
