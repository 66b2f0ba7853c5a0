"""Campaigns on the engine: stages, and words while they wait and while they send."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError

from clarion.model.command import CancelMode
from clarion.store.database import Database
from tests.support.campaign import OTHER, PILOT, Campaign, accepted
from tests.support.engine import Engine, running_engine
from tests.support.postgres import Databases


@pytest.fixture(scope="module")
async def engine(databases: Databases, temporal_address: str) -> AsyncIterator[Engine]:
    """One engine for the module: every test has its own app."""
    url = await databases.migrated()
    db = await Database.connect(url, max_size=16)
    async with running_engine(db, temporal_address) as running:
        yield running
    await db.close()
    await databases.drop(url)


# ── stages ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_stages_follow_one_another(engine: Engine) -> None:
    """A ramp: each push is a child, begins when the one before has ended, and together they are everybody."""
    stages = [{"name": "one", "share": 5}, {"name": "two", "share": 25}, {"name": "rest"}]
    campaign = await Campaign.start(await engine.app(2_000), "ramp", stages=stages)

    result = await campaign.result()

    assert result["verdict"] == "completed"
    assert [push["id"] for push in result["pushes"]] == [
        f"{campaign.id}.{stage}" for stage in ("one", "two", "rest")
    ]
    assert sum(accepted(result)) == 2_000
    rows = await engine.db.fetch(
        "select user_no, count(*) as n from delivery where push_no = any ($1::bigint[]) group by 1",
        [push["push_no"] for push in result["pushes"]],
    )
    assert {row["n"] for row in rows} == {1}
    assert len(rows) == 2_000
    moments = await engine.db.fetch(
        "select started_at, closed_at from push where campaign_id = $1 order by push_no",
        campaign.id,
    )
    assert all(one["closed_at"] <= two["started_at"] for one, two in pairwise(moments))
    assert (await campaign.push("two").handle.workflow.describe()).parent_id == f"campaign/{campaign.id}"


async def test_a_stage_waits_its_time(engine: Engine) -> None:
    """`then: {wait}` is counted from the end of the stage before."""
    stages = [{"name": "pilot", "share": 20, "then": {"wait": "1s"}}, {"name": "rest"}]
    campaign = await Campaign.start(await engine.app(300), "waited", stages=stages)

    await campaign.waits("time", stage="rest")
    await campaign.result()

    pilot, rest = await engine.db.fetch(
        "select closed_at, created_at from push where campaign_id = $1 order by push_no",
        campaign.id,
    )
    waited = (rest["created_at"] - pilot["closed_at"]).total_seconds()
    assert 1.0 <= waited <= 2.0


async def test_a_stage_waits_for_approval(engine: Engine) -> None:
    """`then: {approval}`: looked at the pilot, the rest goes."""
    stages = [{"name": "pilot", "share": 20, "then": {"approval": {}}}, {"name": "rest"}]
    campaign = await Campaign.start(await engine.app(300), "looked-at", stages=stages)
    waiting = await campaign.waits("approval", stage="rest")

    await campaign.handle.approve(waiting.content)
    result = await campaign.result()

    assert (result["verdict"], sum(accepted(result))) == ("completed", 300)


async def test_a_rejected_stage_ends_it_with_the_pilots_counts(engine: Engine) -> None:
    """The pilot was sent, the rest never will be."""
    stages = [{"name": "pilot", "share": 20, "then": {"approval": {}}}, {"name": "rest"}]
    campaign = await Campaign.start(await engine.app(300), "pilot-only", stages=stages)
    await campaign.waits("approval", stage="rest")

    await campaign.handle.reject("clicks are low")
    result = await campaign.result()

    (pilot,) = result["pushes"]
    assert (result["verdict"], result["not_opened"]) == ("rejected", [f"{campaign.id}.rest"])
    assert pilot["counts"]["accepted"] == pilot["counts"]["audience"] > 0


@pytest.mark.parametrize("mode", [CancelMode.NOW, CancelMode.DRAIN])
async def test_the_second_stage_cancelled(engine: Engine, mode: CancelMode) -> None:
    """Exact counts: the pilot's are all accepted, the rest's are accepted or cancelled, none is missing."""
    app = await engine.app(3_000)
    campaign = await Campaign.start(app, f"second-{mode.value}", stages=PILOT)
    async with asyncio.timeout(15):
        while not await engine.db.fetchval(
            "select 1 from push where push_id = $1 and closed_at is not null", f"{campaign.id}.pilot"
        ):
            app.sender.rate, app.sender.streams = 800, 40
            await asyncio.sleep(0.01)
    await campaign.push("rest").accepted(50)

    await campaign.handle.cancel(mode, "enough")
    app.sender.rate = float("inf")
    result = await campaign.result()

    pilot, rest = (push["counts"] for push in result["pushes"])
    assert result["verdict"] == "cancelled"
    assert pilot["accepted"] == pilot["audience"]
    assert rest["accepted"] + rest["cancelled"] == rest["audience"]
    assert pilot["audience"] + rest["audience"] == 3_000
    assert mode is CancelMode.DRAIN or rest["cancelled"] > 0  # a drain finishes what has begun


async def test_a_cancelled_pilot_has_no_successor(engine: Engine) -> None:
    """Cancelled by its own id, it ends the campaign."""
    app = await engine.app(3_000, rate=600)
    campaign = await Campaign.start(app, "pilot-cancelled", stages=PILOT)
    await campaign.push("pilot").accepted(30)

    await campaign.push("pilot").handle.cancel()
    result = await campaign.result()

    assert (result["verdict"], result["not_opened"]) == ("cancelled", [f"{campaign.id}.rest"])


# ── words while it waits ──────────────────────────────────────────────────────────────────────────────────


async def waiting(engine: Engine, id: str, **more: Any) -> Campaign:
    """A campaign whose pilot has ended and whose rest comes in an hour."""
    stages = [{"name": "pilot", "share": 20, "then": {"wait": "1h"}}, {"name": "rest"}]
    campaign = await Campaign.start(await engine.app(300), id, stages=stages, **more)
    await campaign.waits("time", stage="rest")
    return campaign


async def test_words_between_stages(engine: Engine) -> None:
    """Paused it opens no push; edited, paced and moved, the next push is opened with all of it."""
    campaign = await waiting(engine, "between")
    workflow = campaign.handle.workflow
    await campaign.handle.pause("look first")
    soon = datetime.now(UTC) + timedelta(seconds=0.3)
    await workflow.execute_update("reschedule", {"send_at": soon.isoformat()})
    await workflow.execute_update("edit_message", {"message": OTHER})
    await campaign.handle.set_pace(5_000)
    await asyncio.sleep(0.6)
    held = await campaign.stands()

    await campaign.handle.resume()
    result = await campaign.result()

    assert (held.waits_for, held.stages[1].phase) == ("resume", "to come")
    assert (result["verdict"], sum(accepted(result))) == ("completed", 300)
    rest = await engine.db.fetchrow(
        "select p.pace, c.message from push p join push_content c using (push_no) where push_id = $1",
        f"{campaign.id}.rest",
    )
    assert rest is not None
    assert (rest["pace"], rest["message"]) == (5_000, OTHER)


@pytest.mark.parametrize("how", ["now", "drain", "signal", "request"])
async def test_cancelled_between_stages(engine: Engine, how: str) -> None:
    """By every way there is: the pilot's counts stand, the rest was never opened."""
    campaign = await waiting(engine, f"ended-{how}")
    workflow = campaign.handle.workflow
    if how == "signal":
        await workflow.signal("cancel")
    elif how == "request":
        await workflow.cancel()
    else:
        await campaign.handle.cancel(CancelMode(how))
    if how == "request":
        with pytest.raises(WorkflowFailureError):
            await campaign.result()
        assert (await workflow.describe()).status is WorkflowExecutionStatus.CANCELED
    else:
        assert (await campaign.result())["verdict"] == "cancelled"

    ended = await campaign.stands()
    assert ended.result is not None
    (pilot,) = ended.result["pushes"]
    assert (ended.status, ended.result["not_opened"]) == ("cancelled", [f"{campaign.id}.rest"])
    assert sum(lane["accepted"] for lane in pilot["result"]["lanes"]) > 0
    assert await engine.db.fetchval("select count(*) from push where campaign_id = $1", campaign.id) == 1


async def test_a_planned_campaign_is_moved_edited_and_cancelled(engine: Engine) -> None:
    """Until the last moment; its push is pending and has the words."""
    later = datetime.now(UTC) + timedelta(hours=1)
    campaign = await Campaign.start(await engine.app(30), "planned", send_at=later)
    await campaign.waits("push")
    workflow = campaign.handle.workflow
    assert (await campaign.stands()).status == "pending"

    await workflow.execute_update("edit_message", {"message": OTHER})
    soon = datetime.now(UTC) + timedelta(seconds=1)
    await workflow.execute_update("reschedule", {"send_at": soon.isoformat()})
    result = await campaign.result()

    row = await campaign.push().row("started_at, content_version")
    assert (result["verdict"], row["content_version"]) == ("completed", 2)
    assert 0 <= (row["started_at"] - soon).total_seconds() < 1.0
    other = await Campaign.start(await engine.app(30), "called-off", send_at=later)
    await other.waits("push")
    await other.handle.cancel()
    assert (await other.result())["verdict"] == "cancelled"
