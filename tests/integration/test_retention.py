"""Old deliveries go a day at a time, and only when nobody needs them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import AsyncMock
from uuid import uuid4

import pytest

from activities.housekeeping import Housekeeping
from clarion.errors import AlreadyExists
from clarion.model.audience import Audience
from clarion.model.message import Message
from clarion.model.spec import CampaignSpec
from clarion.store import campaign as campaigns
from clarion.store import content as contents
from clarion.store import push as pushes
from clarion.store import report, retention, running
from clarion.store.database import Database
from clarion.store.ledger import Ledger
from tests.support import ground as grounds
from tests.support.ground import Ground, statement

MESSAGE = Message.model_validate(grounds.MESSAGE)
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
    assert await db.fetchval("select count(*) from audience_range") == 0
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

    assert await Housekeeping(db, AsyncMock(), retention_days=5).round()
    assert {1, 0, 3} <= set(await db.fetchval(days))
    assert await Housekeeping(db, AsyncMock(), retention_days=2).round()
    assert 3 not in await db.fetchval(days)
    assert {1, 0} <= set(await db.fetchval(days))


# ── what campaigns were made of ───────────────────────────────────────────────────────────────────────────


async def stored(db: Database) -> tuple[int, int, int]:
    """How many messages, lists and members of lists there are."""
    counts = [
        await db.fetchval(f"select count(*) from {table}")
        for table in ("content", "user_list", "user_list_member")
    ]
    return counts[0], counts[1], counts[2]


async def campaign_to_a_list(ground: Ground, id: str, send_at: datetime | None = None) -> CampaignSpec:
    """A campaign that names a stored message and a stored list; opened."""
    spec = CampaignSpec(
        app=ground.app,
        content=await contents.store_message(ground.db, ground.app, MESSAGE),
        audience=Audience(user_list=await contents.store_users(ground.db, ground.app, ["u1", "u2", "u3"])),
        send_at=send_at,
    )
    assert await campaigns.open_campaign(ground.db, spec, id) == "new"
    return spec


async def test_what_an_open_campaign_needs_stays_and_goes_when_it_is_closed(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its message and list, for as long as it waits; afterwards they go, and its id is still its own."""
    monkeypatch.setattr(retention, "PIECE", 2)
    ground = await Ground.lay(db, 3)
    spec = await campaign_to_a_list(ground, "spring", send_at=datetime.now(UTC) + timedelta(days=700))
    assert await retention.drop_unused(db, DAYS, now=LATER) == (0, 0)
    await campaigns.command(db, "spring", uuid4(), "ann", "close", {"verdict": "cancelled"})
    await campaigns.advance(db, "spring")
    before = await stored(db)
    dropped = await retention.drop_unused(db, DAYS, now=LATER)

    assert (before, await stored(db)) == ((1, 1, 3), (0, 0, 0))
    assert dropped == (1, 1)
    assert await campaigns.open_campaign(db, spec, "spring") == "closed"
    with pytest.raises(AlreadyExists, match="other content"):
        await campaigns.open_campaign(db, spec.model_copy(update={"pace": 7.0}), "spring")
    words = await db.fetch("select what from audit where campaign_id = 'spring' order by at")
    assert [word["what"] for word in words] == ["start", "close"]
    shown = await campaigns.progress(db, "spring")
    assert (shown.status, shown.content) == ("cancelled", spec.content)


async def test_what_an_open_push_needs_stays(db: Database) -> None:
    """A list, until the push is closed: a range of it may be frozen any time. What it says lies beside it."""
    ground = await Ground.lay(db, 3)
    content = await contents.store_message(db, ground.app, MESSAGE)
    users = await contents.store_users(db, ground.app, ["u1", "u2"])
    push_no = await ground.open("sale", message=None, content=content, audience={"user_list": users})

    assert await retention.drop_unused(db, DAYS, now=LATER) == (1, 0)
    plan = await pushes.plan(db, push_no)
    await pushes.freeze(db, push_no, plan.ranges - 1)
    assert await pushes.message(db, push_no, 1) == MESSAGE
    assert await db.fetchval("select count(*) from delivery where push_no = $1", push_no) == 2
    await close(ground, push_no)
    assert await retention.drop_unused(db, DAYS, now=LATER) == (0, 1)


@pytest.mark.parametrize("use", ["stored again", "started", "edited"])
async def test_what_is_used_again_is_as_young_as_new(db: Database, use: str) -> None:
    """Stored again, named by a start or by an edit, a message and a list of last year are kept."""
    ground = await Ground.lay(db, 3)
    content = await contents.store_message(db, ground.app, MESSAGE)
    users = await contents.store_users(db, ground.app, ["u1"])
    for table in ("content", "user_list"):
        await db.execute(f"update {table} set created_at = now() - interval '1 year'")
    if use == "stored again":
        assert await contents.store_message(db, ground.app, MESSAGE) == content
        assert await contents.store_users(db, ground.app, ["u1"]) == users
    elif use == "started":
        push_no = await ground.frozen(message=None, content=content, audience={"user_list": users})
        await close(ground, push_no)
    else:
        await contents.load_message(db, ground.app_no, content)
        await contents.store_users(db, ground.app, ["u1"])

    assert await retention.drop_unused(db, DAYS) == (0, 0)
    assert await stored(db) == (1, 1, 1)


async def test_a_list_half_gone_is_nobodys(db: Database) -> None:
    """A process died in the middle: the same users stored now are a new list, the rest goes later."""
    ground = await Ground.lay(db, 3)
    users = await contents.store_users(db, ground.app, ["u1", "u2", "u3"])
    await db.execute(retention.SQL.forget_lists, DAYS, LATER)
    await db.fetchval(retention.SQL.empty_list, await db.fetchval("select list_no from user_list"), 2)
    size = await contents.list_size(db, ground.app_no, users)
    again = await contents.store_users(db, ground.app, ["u1", "u2", "u3"])

    assert (size, again) == (None, users)
    assert await stored(db) == (0, 2, 4)
    assert await retention.drop_unused(db, DAYS) == (0, 1)
    assert await stored(db) == (0, 1, 3)
    assert await contents.list_size(db, ground.app_no, users) == 3


async def test_a_start_meets_the_broom(db: Database) -> None:
    """The message of last year is named while it is being swept away: the start waits, and is as if new."""
    ground = await Ground.lay(db, 3)
    content = await contents.store_message(db, ground.app, MESSAGE)
    await db.execute("update content set created_at = now() - interval '1 year'")
    spec = CampaignSpec(app=ground.app, content=content, audience=Audience(everybody=True))
    async with db.transaction() as broom:
        assert await broom.fetchval(retention.SQL.contents, DAYS, None) == 1
        opening = asyncio.create_task(campaigns.open_campaign(db, spec, "spring"))
        await statement(db, "campaign.look", waits=True)

    assert await opening == "new"
    assert await contents.load_message(db, ground.app_no, content) == MESSAGE
