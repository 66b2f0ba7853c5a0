"""Old deliveries go a day at a time, and only when nobody needs them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import Mock
from uuid import uuid4

import pytest

from activities.housekeeping import Housekeeping
from clarion.store import push as pushes
from clarion.store import report, retention, running
from clarion.store.database import Database
from clarion.store.ledger import Ledger
from tests.support.ground import Ground

DAYS = 30
LATER = datetime.now(UTC) + timedelta(days=DAYS + 2)


async def closed_push(ground: Ground, **more: Any) -> int:
    """A push to everybody whose books are closed."""
    push_no = await ground.frozen(**more)
    await close(ground, push_no)
    return push_no


async def close(ground: Ground, push_no: int) -> None:
    """Cancel a push and close its books."""
    await ground.say(push_no, "close", verdict="cancelled")
    await Ledger(ground.db).close(push_no)
    assert await pushes.close_push(ground.db, push_no)


async def parts(db: Database) -> set[str]:
    """The names of all days' tables that hold rows."""
    today = datetime.now(UTC).strftime("_%Y%m%d")
    rows = await db.fetch(
        "select relname from pg_class where relkind = 'r' and relname = any($1::text[])",
        [f"{parent}{today}" for parent in ("batch", "delivery")],
    )
    return {row["relname"] for row in rows}


async def test_a_closed_day_goes_and_its_pushes_stay(db: Database) -> None:
    """Rows and batches are gone; result, counts and audit are as they were; explain says why it is silent."""
    ground = await Ground.lay(db, 5, lane="1 + g % 2")
    push_no = await closed_push(ground, push_id="sale")
    before = await report.show(db, "sale")
    assert await retention.drop_old(db, DAYS) == []
    dropped = await retention.drop_old(db, DAYS, now=LATER)
    after = await report.show(db, "sale")

    assert {name[:-9] for name in dropped} == {"batch", "delivery"}
    assert await parts(db) == set()
    assert before.progress.audience == 5
    assert after.progress.model_copy(update={"at": before.progress.at}) == before.progress
    assert after.history == before.history
    assert await db.fetchval("select count(*) from delivery where push_no = $1", push_no) == 0
    explained = await report.explain(db, ground.app, "u1", "sale")
    assert explained.fates == ()
    assert "past retention" in (explained.why_none or "")
    assert await retention.drop_old(db, DAYS, now=LATER) == []


@pytest.mark.parametrize("why", ["open", "closed lately", "retire queue", "retried by an open push"])
async def test_a_day_that_somebody_needs_stays(db: Database, why: str) -> None:
    """One push is enough: open, closed within retention, with dead addresses to retire, or tried again."""
    ground = await Ground.lay(db, 3)
    push_no = await closed_push(ground)
    if why == "open":
        await ground.frozen()
    elif why == "closed lately":
        await db.execute("update push set closed_at = $1", LATER - timedelta(days=1))
    elif why == "retire queue":
        await db.execute("insert into retire values ($1, 0, 0, 1, 1, now(), 1)", push_no)
    else:
        other = await closed_push(ground)
        await db.execute(
            "insert into push (push_no, push_id, spec, spec_hash, app_no, retry_of, dedup_no) "
            "select push_no + (100::bigint * 86400 << 20), 'again', spec, spec_hash, app_no, push_no, push_no"
            " from push where push_no = $1",
            other,
        )

    assert await retention.drop_old(db, DAYS, now=LATER) == []
    assert len(await parts(db)) == 2


async def test_a_day_without_pushes_goes(db: Database) -> None:
    """Housekeeping made partitions that nobody used; those to come stay."""
    await running.make_days(db, 2)
    now = datetime.now(UTC) + timedelta(days=DAYS + 1)
    dropped = await retention.drop_old(db, DAYS, now=now)

    yesterday = datetime.now(UTC) - timedelta(days=1)
    assert {name[-8:] for name in dropped} == {f"{yesterday:%Y%m%d}", f"{datetime.now(UTC):%Y%m%d}"}
    assert await db.fetchval("select make_day(current_date)")


async def test_nobody_waits_for_a_day_that_goes(db: Database) -> None:
    """Somebody reads for long: the drop waits, gives up and is finished later; senders and freezes go on."""
    ground = await Ground.lay(db, 3)
    await closed_push(ground)
    async with db.transaction() as reader:
        await reader.fetchval("select count(*) from delivery")
        await reader.fetchval("select count(*) from batch")
        dropping = asyncio.create_task(retention.drop_old(db, DAYS, now=LATER, patience=2.0))
        await asyncio.sleep(0.3)
        async with asyncio.timeout(1.5):
            assert await db.fetchval("select count(*) from pg_inherits where inhdetachpending") == 1
            tomorrow = datetime.now(UTC) + timedelta(days=1)
            push_no = await ground.open(send_at=tomorrow)
            await db.execute("update push set send_at = now() where push_no = $1", push_no)
            await pushes.plan(db, push_no)
            await pushes.freeze(db, push_no, 0)
            take = await Ledger(db).take(push_no, 0, uuid4(), 1, 10.0)
            assert take.epoch == 1
        with pytest.raises(TimeoutError):
            await dropping
    assert len(await parts(db)) == 2

    assert len(await retention.drop_old(db, DAYS, now=LATER)) == 2
    assert await parts(db) == set()
    assert (await report.reconcile(db, push_no)).audience == 3


async def test_a_crash_between_detach_and_drop(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever comes next drops what was detached."""
    ground = await Ground.lay(db, 3)
    await closed_push(ground)
    execute = db.execute

    async def dies(sql: str, *args: Any, **more: Any) -> str:
        if sql.startswith("drop"):
            raise ConnectionResetError
        return await execute(sql, *args, **more)

    with monkeypatch.context() as broken:
        broken.setattr(db, "execute", dies)
        with pytest.raises(ConnectionResetError):
            await retention.drop_old(db, DAYS, now=LATER)
    assert len(await parts(db)) == 2
    assert await db.fetchval("select count(*) from delivery") == 0

    assert len(await retention.drop_old(db, DAYS, now=LATER)) == 2


async def test_housekeeping_keeps_to_the_setting(db: Database) -> None:
    """A round drops what is older than the days it was told, and nothing younger."""
    ground = await Ground.lay(db, 1)
    await db.execute("select make_day(current_date - 3), make_day(current_date - 1)")
    await closed_push(ground)
    days = "select array_agg(distinct current_date - to_date(right(relname, 8), 'YYYYMMDD')) from pg_class "
    days += "where relkind = 'r' and relname ~ '^(batch|delivery)_[0-9]+$'"

    assert await Housekeeping(db, Mock(), retention_days=5).round()
    assert {1, 0, 3} <= set(await db.fetchval(days))
    assert await Housekeeping(db, Mock(), retention_days=2).round()
    assert 3 not in await db.fetchval(days)
    assert {1, 0} <= set(await db.fetchval(days))
