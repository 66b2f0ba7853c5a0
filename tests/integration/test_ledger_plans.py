"""Hot statements on a partition that nobody has analysed: by index, and every outcome a HOT update."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from clarion.model.ledger import Code
from clarion.store import ledger, push
from clarion.store.database import Database
from tests.support.ground import Ground

ROWS = 12_000


async def unanalysed(db: Database) -> int:
    """A frozen push of 12 batches in a partition without statistics."""
    ground = await Ground.lay(db, ROWS)
    push_no = await ground.frozen(batch_size=1_000)
    for parent in ("delivery", "batch"):
        partition = await db.fetchval(
            f"select tableoid::regclass::text from {parent} where push_no = $1 limit 1", push_no
        )
        await db.execute(f"alter table {partition} set (autovacuum_enabled = off)")
        assert await db.fetchval("select reltuples from pg_class where oid = $1::regclass", partition) <= 0
    return push_no


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's nodes."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


async def explained(db: Database, sql: str, *args: Any, generic: bool) -> list[dict[str, Any]]:
    """The nodes of the statement's plan, made for its values or for any."""
    async with db.transaction() as connection:
        mode = "force_generic_plan" if generic else "force_custom_plan"
        await connection.execute(f"set local plan_cache_mode = {mode}")
        told = await connection.fetchval(f"explain (format json) {sql}", *args)
        return list(nodes((told if isinstance(told, list) else json.loads(told))[0]["Plan"]))


def step_args(push_no: int) -> tuple[Any, ...]:
    """STEP of 500 outcomes, some of each kind."""
    seqs = list(range(500))
    codes = bytearray(b"\x02" * 500)
    codes[7], codes[8] = Code.REJECTED, Code.REFUSED
    reasons = [0] * 7 + [200, 300]
    return (
        push_no, 0, 1, seqs, 0, bytes(codes), reasons, [8], [1.5], 1, 999, timedelta(seconds=9),
        [7], [datetime.now(UTC)],
    )  # fmt: skip


Arguments = Callable[[int], tuple[Any, ...]]
STATEMENTS: dict[str, tuple[str, Arguments]] = {
    "read": (ledger.SQL.read, lambda push_no: (push_no, 0, -1, 500, 1, True, False)),
    "step": (ledger.SQL.step, step_args),
    "release": (ledger.SQL.release, lambda push_no: (push_no, 0, 1)),
    "next_work": (ledger.SQL.next_work, lambda push_no: (push_no, [3], 50)),
    "gate": (push.SQL.gate, lambda push_no: (push_no,)),
}


async def test_hot_statements_use_the_index(db: Database) -> None:
    """No statement reads deliveries or batches from end to end, planned for its values or for any."""
    push_no = await unanalysed(db)
    for name, (sql, args) in STATEMENTS.items():
        for generic in (False, True):
            plan = await explained(db, sql, *args(push_no), generic=generic)
            scans = [
                node for node in plan
                if node["Node Type"] == "Seq Scan"
                and node["Relation Name"].startswith(("delivery", "batch", "registration", "usr"))
            ]  # fmt: skip
            assert not scans, (name, generic, scans)


async def test_read_and_step_touch_what_they_return(db: Database) -> None:
    """Executed without statistics, READ and STEP of 500 rows touch 500 rows, not the batch or the push."""
    push_no = await unanalysed(db)
    async with db.transaction() as connection:
        await connection.execute("set local plan_cache_mode = force_generic_plan")
        await connection.execute("update batch set epoch = 1 where push_no = $1 and batch = 0", push_no)
        for name in ("read", "step"):
            sql, args = STATEMENTS[name]
            told = await connection.fetchval(f"explain (analyze, format json) {sql}", *args(push_no))
            for node in nodes(told[0]["Plan"]):
                touched = node["Actual Rows"] * node["Actual Loops"] + node.get("Rows Removed by Filter", 0)
                assert touched <= 1_000, (name, node)


async def counted(connection: asyncpg.Connection[asyncpg.Record], what: str) -> dict[str, int]:
    """Updates and HOT updates of this transaction in the day's partition of a table."""
    row = await connection.fetchrow(
        "select sum(n_tup_upd)::int as updates, sum(n_tup_hot_upd)::int as hot"
        " from pg_stat_xact_user_tables where relname like $1 || '\\_%'",
        what,
    )
    assert row is not None
    return dict(row)


@pytest.mark.parametrize("table", ["delivery", "batch"])
async def test_every_outcome_is_a_hot_update(db: Database, table: str) -> None:
    """TAKE, four STEPs and RELEASE update rows in place: no index entry is written again."""
    ground = await Ground.lay(db, 2_000)
    push_no = await ground.frozen(batch_size=2_000)
    async with db.transaction() as connection:
        owner = uuid4()
        await connection.fetchrow(ledger.SQL.take, push_no, 0, owner, 1, timedelta(seconds=9))
        for first in range(0, 2_000, 500):
            seqs = list(range(first, first + 500))
            await connection.fetchrow(
                ledger.SQL.step, push_no, 0, 1, seqs, first, b"\x02" * 500, (), (), (), 1, 1_999,
                timedelta(seconds=9), (), (),
            )  # fmt: skip
        await connection.fetchrow(ledger.SQL.release, push_no, 0, 1)
        done = await counted(connection, table)

    assert done["updates"] == {"delivery": 2_000, "batch": 6}[table]
    assert done["hot"] == done["updates"]


async def test_the_marks_of_a_crash_are_hot_updates(db: Database) -> None:
    """What a TAKE marks after a crash, and the retries that it opens again, are HOT, too."""
    ground = await Ground.lay(db, 1_000)
    push_no = await ground.frozen(batch_size=1_000)
    async with db.transaction() as connection:
        await connection.execute("update batch set claimed_to = 399, retry = 0 where push_no = $1", push_no)
        taken = await connection.fetchrow(ledger.SQL.take, push_no, 0, uuid4(), 1, timedelta(seconds=9))
        assert taken is not None
        done = await counted(connection, "delivery")

    assert taken["redone"] == 400
    assert done == {"updates": 400, "hot": 400}


async def test_a_freeze_needs_no_statistics(db: Database) -> None:
    """Right after an import, before anything was analysed, a range is read in order, not user by user."""
    ground = await Ground.lay(db, 4_000)
    push_no = await ground.open()
    await push.plan(db, push_no)

    frozen = await push.freeze(db, push_no, 0)

    assert frozen.rows == 4_000
    seconds = await db.fetchval(
        "select extract(epoch from clock_timestamp() - frozen_at)::float8 from audience_range"
        " where push_no = $1",
        push_no,
    )
    assert seconds < 3, "nested loops over two spans take a minute"
