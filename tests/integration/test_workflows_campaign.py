"""Campaigns on the engine: approval, and what becomes of those that are started again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from clarion import names
from clarion.client import Clarion
from clarion.errors import AlreadyExists, CommandRefused
from clarion.model.audience import Audience
from clarion.model.spec import CampaignSpec
from clarion.store.database import Database
from tests.support.campaign import OTHER, PILOT, Campaign, accepted
from tests.support.engine import MESSAGE, Engine, running_engine
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


# ── approval ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_approved_it_is_sent(engine: Engine) -> None:
    """Nothing before; the query says what it waits for and what can be said; then all of it."""
    campaign = await Campaign.start(await engine.app(300), "approved", approval={"within": "1h"})
    waiting = await campaign.waits("approval")

    asked = await campaign.asked()
    answer = await campaign.handle.approve(waiting.content, by="ann")
    result = await campaign.result()

    assert (asked.status, asked.waits_for, asked.words()[:2]) == (
        "pending",
        "approval",
        ("approve", "reject"),
    )
    assert answer.hold == "none"
    assert (result["verdict"], accepted(result)) == ("completed", [300])


async def test_rejected_nothing_is_sent(engine: Engine) -> None:
    """It ends with the reason, and without a push."""
    campaign = await Campaign.start(await engine.app(30), "rejected", approval={})
    await campaign.waits("approval")

    await campaign.handle.reject("too loud", by="ann")
    result = await campaign.result()

    assert (result["verdict"], result["reason"], result["pushes"]) == ("rejected", "too loud", [])
    assert result["not_opened"] == [campaign.id]
    assert (await campaign.handle.workflow.describe()).status is WorkflowExecutionStatus.COMPLETED
    with pytest.raises(CommandRefused, match="closed"):
        await Clarion(engine.client, engine.db).campaign(campaign.id).approve()


async def test_not_approved_in_time_it_expires(engine: Engine) -> None:
    """By itself, at its moment."""
    campaign = await Campaign.start(await engine.app(30), "expired", approval={"within": "1s"})

    result = await campaign.result()

    assert (result["verdict"], result["reason"]) == ("expired", "it was not approved in time")


async def test_an_edited_content_is_not_approved_unseen(engine: Engine) -> None:
    """The one that was looked at is refused; the new one goes out."""
    campaign = await Campaign.start(await engine.app(30), "edited", approval={})
    seen = (await campaign.waits("approval")).content
    workflow = campaign.handle.workflow

    await workflow.execute_update("edit_message", {"message": OTHER})
    with pytest.raises(CommandRefused, match="it has other content now"):
        await campaign.handle.approve(seen)
    with pytest.raises(CommandRefused, match="say which you approve"):
        await campaign.handle.approve()
    await workflow.signal("approve")  # has no content either, and no answer
    await campaign.handle.approve((await campaign.stands()).content)
    result = await campaign.result()

    assert accepted(result) == [30]
    said = await engine.db.fetchval(
        "select message from push_content join push using (push_no) where push_id = $1",
        campaign.id,
    )
    assert said == OTHER


async def test_an_edit_voids_the_approval(engine: Engine) -> None:
    """Approved while paused and edited then: the answer says that it waits again."""
    campaign = await Campaign.start(await engine.app(30), "voided", approval={})
    seen = (await campaign.waits("approval")).content
    await campaign.handle.pause("look again")
    await campaign.handle.approve(seen)
    await campaign.waits("resume")

    answer = await campaign.handle.workflow.execute_update("edit_message", {"message": OTHER})
    await campaign.handle.resume()

    assert "void" in answer["note"]
    await campaign.waits("approval")
    await campaign.handle.cancel()
    assert (await campaign.result())["verdict"] == "cancelled"


async def test_signals_approve_and_reject(engine: Engine) -> None:
    """From the raw UI, without an argument: what was never edited."""
    app = await engine.app(30)
    yes, no = await Campaign.start(app, "yes", approval={}), await Campaign.start(app, "no", approval={})
    await yes.waits("approval")
    await no.waits("approval")

    await yes.handle.workflow.signal("approve")
    await no.handle.workflow.signal("reject")

    assert (await yes.result())["verdict"] == "completed"
    assert (await no.result())["verdict"] == "rejected"


async def test_words_of_approval_that_make_no_sense(engine: Engine) -> None:
    """Refused, and the campaign goes on."""
    app = await engine.app(600, rate=300)
    plain = await Campaign.start(app, "needs-none")
    await plain.push().accepted(5)
    workflow = plain.handle.workflow
    for update, given in [
        ("approve", None),
        ("approve", "content:xyz"),
        ("approve", {"content": 7}),
        ("reject", {"nonsense": 1}),
        ("reject", "too late"),
    ]:
        with pytest.raises(WorkflowUpdateFailedError):
            await workflow.execute_update(update, given)
    app.sender.rate = float("inf")

    assert accepted(await plain.result()) == [600]


# ── restarts ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("where", ["approval", "time", "push"])
async def test_the_id_alone_goes_on_from_the_row(engine: Engine, where: str) -> None:
    """Terminated while it waits or sends, a new workflow with nothing but the id finds its place."""
    app = await engine.app(1_500)
    kinds: dict[str, dict[str, Any]] = {
        "approval": {"approval": {}},
        "time": {"stages": [{"name": "pilot", "share": 20, "then": {"wait": "2s"}}, {"name": "rest"}]},
        "push": {"stages": PILOT},
    }
    if where == "push":
        app.sender.rate, app.sender.streams = 600, 40
    campaign = await Campaign.start(app, f"lost-{where}", **kinds[where])
    await campaign.waits(where)
    if where == "push":
        await campaign.push("pilot").accepted(20)

    if where == "push":  # both are gone, as when Temporal has lost its data: else the push would be cancelled
        await campaign.push("pilot").handle.workflow.terminate("a test")
    await campaign.handle.workflow.terminate("a test")
    app.sender.rate = float("inf")
    await campaign.handle.restart()
    if where == "approval":
        await campaign.handle.approve((await campaign.stands()).content)
    result = await campaign.result()

    assert (result["verdict"], sum(accepted(result))) == ("completed", 1_500)


async def test_a_word_to_a_lost_campaign_starts_it_again(engine: Engine) -> None:
    """Temporal has forgotten it, the row has not: the client starts it and says the word."""
    campaign = await Campaign.start(await engine.app(30), "forgotten", approval={})
    seen = (await campaign.waits("approval")).content
    await campaign.handle.workflow.terminate("a test")

    await Clarion(engine.client, engine.db).campaign(campaign.id).approve(seen)

    assert (await campaign.result())["verdict"] == "completed"


async def test_a_repeated_start_joins_or_is_refused(engine: Engine) -> None:
    """Open: the same one; closed: its stored result, nothing is sent again; other content: refused."""
    app = await engine.app(40)
    clarion = Clarion(engine.client, engine.db)
    spec = CampaignSpec(app=app.name, message=MESSAGE, audience=Audience(everybody=True))
    first = await clarion.start_campaign(spec, id=app.name)
    result = await first.result()

    again = await clarion.start_campaign(spec, id=app.name)
    raw = await engine.start_raw(
        names.CAMPAIGN_WORKFLOW, f"campaign/{app.name}", spec.model_dump(mode="json", exclude_unset=True)
    )

    assert again.closed == "completed"
    assert await raw.result() == result
    with pytest.raises(AlreadyExists):
        await clarion.start_campaign(spec.model_copy(update={"pace": 9.0}), id=app.name)
    other = await engine.start_raw(
        names.CAMPAIGN_WORKFLOW,
        f"campaign/{app.name}",
        spec.model_copy(update={"pace": 9.0}).model_dump(mode="json", exclude_unset=True),
    )
    with pytest.raises(WorkflowFailureError) as failure:
        await other.result()
    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.type == "AlreadyExists"
    assert (
        await engine.db.fetchval(
            "select count(*) from delivery where push_no = $1", result["pushes"][0]["push_no"]
        )
        == 40
    )


async def test_twenty_equal_starts_are_one_campaign(engine: Engine) -> None:
    """C59: a service repeats a lost answer, from many places at once: one id, one run, one push."""
    app = await engine.app(40)
    spec = CampaignSpec(app=app.name, message=MESSAGE, audience=Audience(everybody=True), pace=4_000.0)
    clarion = Clarion(engine.client, engine.db)

    handles = await asyncio.gather(*(clarion.start_campaign(spec, id=app.name) for _ in range(20)))
    result = await handles[0].result()

    assert {handle.id for handle in handles} == {app.name}
    assert accepted(result) == [40]
    assert await engine.db.fetchval("select count(*) from push where campaign_id = $1", app.name) == 1
    runs = [one async for one in engine.client.list_workflows(f"WorkflowId = 'campaign/{app.name}'")]
    assert len(runs) == 1


async def test_a_taken_name_of_a_stage_fails_it(engine: Engine) -> None:
    """Somebody started a push of that name meanwhile: the campaign ends failed, with the reason."""
    app = await engine.app(300)
    stages = [{"name": "pilot", "share": 20, "then": {"approval": {}}}, {"name": "rest"}]
    campaign = await Campaign.start(app, "taken", stages=stages)
    waiting = await campaign.waits("approval", stage="rest")
    await (await app.push(id=f"{campaign.id}.rest")).opened()

    await campaign.handle.approve(waiting.content)
    result = await campaign.result()

    assert result["verdict"] == "failed"
    assert f"{campaign.id}.rest" in result["reason"]


async def test_a_workflow_under_the_id_of_a_stage_only_delays_it(engine: Engine) -> None:
    """Its row is the campaign's, its id another workflow's: once that one has ended the stage goes out."""
    app = await engine.app(300)
    stages = [{"name": "pilot", "share": 20, "then": {"approval": {}}}, {"name": "rest"}]
    campaign = await Campaign.start(app, "squatted", stages=stages)
    waiting = await campaign.waits("approval", stage="rest")
    squatter = await engine.client.start_workflow(
        names.PUSH_WORKFLOW, id=f"push/{campaign.id}.rest", task_queue="nobody-works-here"
    )

    await campaign.handle.approve(waiting.content)
    await campaign.push("rest").opened()
    await squatter.terminate()
    result = await campaign.result()

    assert sum(accepted(result)) == 300
    assert result["verdict"] == "completed"


async def test_a_waiting_campaign_continues_as_new(
    databases: Databases, continuing_temporal_address: str
) -> None:
    """Many words while it waits: its history stays short, none is lost, and it goes on."""
    url = await databases.migrated()
    db = await Database.connect(url, max_size=16)
    async with running_engine(db, continuing_temporal_address) as engine:
        campaign = await Campaign.start(await engine.app(200), "patient", approval={})
        seen = (await campaign.waits("approval")).content
        for pace in range(1, 25):
            await campaign.handle.set_pace(10_000 + pace)
        workflow = campaign.handle.workflow
        for word in ["pause", "resume"] * 20 + [
            "pause"
        ]:  # fast, across the rollover, and the last one stands
            await workflow.signal(word)
        await campaign.handle.approve(seen)
        held = await campaign.stands()
        await campaign.handle.resume()
        result = await campaign.result()
        runs = [one async for one in engine.client.list_workflows(f"WorkflowId = 'campaign/{campaign.id}'")]

        assert accepted(result) == [200]
        assert len(runs) > 1
        assert (await campaign.push().row("pace"))["pace"] == 10_024
        words = await db.fetch(
            "select what, count(*) from audit where campaign_id = $1 group by 1", campaign.id
        )
        assert held.hold == "paused"
        assert {row["what"]: row["count"] for row in words} == {
            "start": 1,
            "set": 24,
            "pause": 21,
            "resume": 21,
            "approve": 1,
        }
    await db.close()
    await databases.drop(url)
