"""What must hold at every moment, said in terms of what really happened (see `ledger_world`)."""

from __future__ import annotations

from collections import Counter

import asyncpg

from clarion.model.ledger import Hold, State
from clarion.store import report
from tests.support.ledger_known import WINDOW, Row, demand
from tests.support.ledger_world import World

OPEN = (State.PLANNED, State.RETRY)
ANSWERED = (State.ACCEPTED, State.REJECTED)
UNTRUE_OF_THE_DELIVERED = (State.SUPPRESSED, State.EXPIRED, State.CANCELLED, State.DEAD)


async def check(world: World) -> None:
    """All invariants at once. Raises Violation."""
    books = await report.reconcile(world.db, world.push_no)
    demand(books.bad_batches == 0, "counters = rows", books)
    batches = {
        b["batch"]: b for b in await world.db.fetch("select * from batch where push_no = $1", world.push_no)
    }
    rows = {
        (d["batch"], d["seq"]): d
        for d in await world.db.fetch(
            "select d.*, n.state as now from delivery d join delivery_now n using (push_no, batch, seq)"
            " where d.push_no = $1",
            world.push_no,
        )
    }
    demand(books.audience == sum(b["size"] for b in batches.values()), "audience = sizes", books)
    for key, row in rows.items():
        _row(world, key, row, batches[key[0]])
    for batch in batches.values():
        _batch(batch, [row for key, row in rows.items() if key[0] == batch["batch"]])
    _windows(world, batches, rows)
    _in_flight(world, batches, rows)
    await _control(world, len(rows))
    await _registry(world)


def _row(world: World, key: Row, row: asyncpg.Record, batch: asyncpg.Record) -> None:
    sends = [send for send in world.sends.get(key, ()) if not send.harmless]
    if any(send.arrived for send in sends):
        demand(row["now"] not in UNTRUE_OF_THE_DELIVERED, "nothing false is said of the delivered", key, row)
    if sends and row["now"] in OPEN:
        claimed = row["state"] == State.PLANNED and row["seq"] <= batch["claimed_to"]
        demand(row["doubt"] or claimed, "what may be on the wire is known", key, row, batch)
    answer = world.answers.get(key)
    if answer is None:
        demand(row["state"] not in ANSWERED, "no answer is invented", key, row)
    else:
        demand(row["state"] == answer, "the first answer stays", key, row, answer)
    demand(
        not (world.once and row["doubt"] and row["now"] in OPEN),
        "at most once leaves no doubtful row open",
        key,
        row,
    )


def _batch(batch: asyncpg.Record, rows: list[asyncpg.Record]) -> None:
    first = min((row["at"] for row in rows if row["state"] == State.RETRY), default=None)
    if first is not None and not batch["closed"]:
        demand(
            batch["due_at"] is not None and batch["due_at"] <= first, "no retry is forgotten", batch, first
        )


def _windows(world: World, batches: dict[int, asyncpg.Record], rows: dict[Row, asyncpg.Record]) -> None:
    """A process never has more than a window of rows that may be sent and are not committed."""
    claimed = Counter(
        batches[batch]["process"]
        for (batch, seq), row in rows.items()
        if row["state"] == State.PLANNED and seq <= batches[batch]["claimed_to"]
    )
    demand(all(n <= WINDOW for n in claimed.values()), "a process claims a window at most", claimed)
    redo = sum(batch["redo"] for batch in batches.values())
    demand(redo == world.redone, "redo counts what was marked", redo, world.redone)
    bound = WINDOW * sum(world.unclean_ends.values())
    demand(redo <= bound, "an unclean end costs a window at most", redo, world.unclean_ends)


def _in_flight(world: World, batches: dict[int, asyncpg.Record], rows: dict[Row, asyncpg.Record]) -> None:
    """What its holder has in flight or in hand, nobody else decides."""
    for attempt in world.living():
        assert attempt.take is not None
        batch = batches[attempt.batch]
        if batch["epoch"] != attempt.take.epoch or batch["closed"] or attempt.call is not None:
            continue
        for seq in (*attempt.flying, *(word.seq for word in attempt.words)):
            state = rows[attempt.batch, seq]["state"]
            demand(state == State.PLANNED or state in ANSWERED, "in flight is planned", attempt.batch, seq)


async def _control(world: World, rows: int) -> None:
    push = await world.db.fetchrow("select * from push where push_no = $1", world.push_no)
    assert push is not None
    demand(
        (push["hold"], push["control_version"], push["verdict"])
        == (world.hold, world.version, world.verdict),
        "the control row says what operators said",
        push,
        world.hold,
        world.version,
    )
    demand((push["hold_by"] is None) == (world.hold is Hold.NONE), "a hold says who", push["hold_by"])
    if world.rows_at_close is not None:
        demand(rows == world.rows_at_close, "nothing is born behind a close", rows)


async def _registry(world: World) -> None:
    queued = await world.db.fetch("select batch, seq from retire where push_no = $1", world.push_no)
    demand(
        {(q["batch"], q["seq"]) for q in queued} == set(world.queue),
        "the queue is the killing answers",
        queued,
    )
    retired = await world.db.fetch(
        "select registration_no, registered_at from registration where app_no = $1 and status = 3",
        world.app_no,
    )
    for r in retired:
        latest = max(world.dead[r["registration_no"]])
        demand(r["registered_at"] <= latest, "what registered again since lives", r, latest)
