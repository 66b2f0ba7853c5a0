"""One rule for whatever happens to a workflow: the books decide, and nothing is sent again by itself.

A batch or a push that was reset, terminated or cancelled by hand, a workflow that Temporal forgot: what
the ledger has open is found again, or stands paused by clarion with the reason until a person resumes it or
cancels it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest

from activities.housekeeping import Housekeeping
from clarion import names
from clarion.client import CampaignHandle, Clarion
from clarion.errors import CommandRefused
from clarion.model.audience import Audience
from clarion.model.command import CancelMode
from clarion.model.spec import CampaignSpec
from clarion.store import campaign as campaigns
from clarion.store import push as pushes
from clarion.store import report
from clarion.store.database import Database
from tests.support.engine import MESSAGE, App, Engine, Push, running_engine
from tests.support.postgres import Databases

PHONES = 2_000


@pytest.fixture(scope="module")
async def engine(databases: Databases, temporal_address: str) -> AsyncIterator[Engine]:
    """One engine for the module: every test has its own app. Its client knows the database."""
    url = await databases.migrated()
    db = await Database.connect(url, max_size=16)
    async with running_engine(db, temporal_address) as running:
        running.clarion = Clarion(running.client, db)
        yield running
    await db.close()
    await databases.drop(url)


async def sending(engine: Engine, **more: Any) -> tuple[App, Push]:
    """A push in mid run, slow enough to be caught there."""
    app = await engine.app(PHONES, rate=600)
    push = await app.push(**more)
    await push.accepted(100)
    return app, push


async def ends_exactly(app: App, push: Push) -> bool:
    """Let it go fast: every phone is accepted once, and nothing was sent twice."""
    app.sender.rate = float("inf")
    await until(app.engine, push.id, "closed_at is not null")
    counts = await push.counts()
    assert counts == {"audience": PHONES, "accepted": PHONES}
    return True


async def reset(engine: Engine, workflow_id: str, run_id: str = "") -> None:
    """As the UI's Reset does, to the first workflow task."""
    await engine.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=engine.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=workflow_id, run_id=run_id),
            reason="by hand",
            workflow_task_finish_event_id=4,
            request_id=str(uuid4()),
        )
    )


async def until(engine: Engine, id: str, condition: str) -> Push:
    """Wait until the push of this id is there and this holds for its row."""
    push = Push(engine, engine.clarion.push(id))
    async with asyncio.timeout(40):
        while not (row := await push.row(f"{condition} as so")) or not row["so"]:  # noqa: ASYNC110  # a row
            await asyncio.sleep(0.05)
    return push


async def watch(engine: Engine) -> list[str]:
    """Housekeeping's look, some time later."""
    for table in ("push", "campaign"):
        await engine.db.execute(f"update {table} set created_at = created_at - interval '1 min'")
    return await Housekeeping(engine.db, engine.client).watch()


async def listed(engine: Engine, push: Push) -> report.PushLine:
    """Its line in `clarion push list`."""
    return next(line for line in await report.list_pushes(engine.db) if line.push_id == push.id)


# ── batches ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fate", ["reset", "cancel", "terminate"])
async def test_a_batch_by_hand(engine: Engine, fate: str) -> None:
    """Reset, cancelled or terminated in the UI: its open rows are found again, and none goes out twice."""
    app, push = await sending(engine)
    batch = names.batch_workflow_id(push.id, 0)

    if fate == "reset":
        await reset(engine, batch)
    else:
        await getattr(engine.client.get_workflow_handle(batch), fate)()

    assert await ends_exactly(app, push)
    assert (await push.result())["verdict"] == "completed"


# ── pushes ────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_reset_push_goes_on_from_the_ledger(engine: Engine) -> None:
    """It remembers nothing, so a new run does what an old one would have done."""
    app, push = await sending(engine)

    await reset(engine, push.handle.workflow_id)

    assert await ends_exactly(app, push)


async def test_a_closed_push_that_is_reset_stays_closed(engine: Engine) -> None:
    """Nothing is sent again, and the result is the stored one."""
    app = await engine.app(50)
    push = await app.push()
    before = await push.result()
    rows = await push.row("closed_at, verdict, control_version")

    await reset(engine, push.handle.workflow_id)

    assert await push.handle.workflow.result() == before
    assert await push.row("closed_at, verdict, control_version") == rows
    assert await push.counts() == {"audience": 50, "accepted": 50}


async def test_a_reset_does_not_say_old_words_again(engine: Engine) -> None:
    """Temporal hands the words to the new run once more: what was resumed since does not pause again."""
    app, push = await sending(engine)
    await push.handle.workflow.signal("pause")
    await push.held()
    await push.handle.resume()
    await push.accepted(200)

    await reset(engine, push.handle.workflow_id)

    assert await ends_exactly(app, push)


async def test_a_lost_push_is_paused_and_resumed(engine: Engine) -> None:
    """Paused by clarion with the reason, in the list, and not one request more; `resume` is enough."""
    app, push = await sending(engine)
    await push.handle.workflow.terminate()

    lost = await watch(engine)
    await asyncio.sleep(1)
    before = await push.counts()
    await asyncio.sleep(1)

    assert push.handle.workflow_id in lost
    line = await listed(engine, push)
    assert (line.hold, line.hold_by) == ("paused", "clarion")
    assert line.hold_reason == "its workflow has ended (terminated): resume starts it again"
    assert await push.counts() == before
    assert await watch(engine) == []

    await push.handle.resume(by="ada")
    assert await ends_exactly(app, push)


async def test_a_lost_push_is_cancelled(engine: Engine) -> None:
    """`cancel` starts its workflow to close the books; what never started is cancelled."""
    _, push = await sending(engine)
    await push.handle.workflow.terminate()
    await watch(engine)

    await push.handle.cancel(reason="not any more")

    assert (await push.result())["verdict"] == "cancelled"
    counts = await push.counts()
    assert counts["accepted"] + counts["cancelled"] == counts["audience"] == PHONES


async def test_a_push_that_temporal_does_not_know(engine: Engine) -> None:
    """A Temporal without its data: the row alone is enough to see it, and to go on."""
    app = await engine.app(PHONES)
    await pushes.open_push(engine.db, app.spec(), f"{app.name}-unknown")
    push = Push(engine, engine.clarion.push(f"{app.name}-unknown"))

    assert await watch(engine) == [push.handle.workflow_id]
    reason = (await push.row("hold_reason"))["hold_reason"]
    assert reason == "its workflow is unknown to Temporal: resume starts it again"

    await push.handle.resume()
    assert await ends_exactly(app, push)


async def test_a_push_lost_while_it_drains_ends_as_it_was_told(engine: Engine) -> None:
    """A pause would forget the drain: so its workflow starts again and closes the books."""
    _, push = await sending(engine)
    await push.handle.cancel(CancelMode.DRAIN)
    await push.handle.workflow.terminate()

    assert push.handle.workflow_id in await watch(engine)

    assert (await push.result())["verdict"] == "cancelled"
    assert (await push.counts())["accepted"] == PHONES  # all its batches had begun


async def test_a_push_lost_while_it_closes_is_closed(engine: Engine) -> None:
    """Its word stands in the control row; the books are closed without anybody's help."""
    _, push = await sending(engine)
    await push.handle.workflow.terminate()
    await engine.db.execute("update push set hold = 3, verdict = 'cancelled' where push_id = $1", push.id)

    assert push.handle.workflow_id in await watch(engine)

    assert (await push.result())["verdict"] == "cancelled"


# ── campaigns ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_campaign_lost_while_it_waits_for_its_time(engine: Engine) -> None:
    """It would never be sent, and nobody would know: paused by clarion, in the list; resumed, it is sent."""
    due = datetime.now(UTC) + timedelta(seconds=3)
    app = await engine.app(PHONES)
    spec = CampaignSpec(app=app.name, message=MESSAGE, audience=Audience(everybody=True), send_at=due)
    handle = engine.clarion.campaign(f"{app.name}-waits")
    await campaigns.open_campaign(engine.db, spec, handle.id)

    assert await watch(engine) == [handle.workflow_id]
    (line,) = [one for one in await campaigns.list_campaigns(engine.db) if one.campaign_id == handle.id]
    assert (line.hold, line.hold_by) == ("paused", "clarion")
    assert line.hold_reason == "its workflow is unknown to Temporal: resume starts it again"

    await handle.resume()
    push = await until(engine, handle.id, "true")
    assert await ends_exactly(app, push)
    assert (await handle.result())["verdict"] == "completed"
    assert datetime.now(UTC) > due


async def campaign(engine: Engine) -> tuple[App, CampaignHandle, Push]:
    """A campaign whose push is in mid run."""
    app = await engine.app(PHONES, rate=600)
    spec = CampaignSpec(app=app.name, message=MESSAGE, audience=Audience(everybody=True))
    handle = await engine.clarion.start_campaign(spec, id=f"{app.name}-c")
    push = await until(engine, handle.id, "true")
    await push.accepted(100)
    return app, handle, push


async def test_a_campaign_and_its_push_are_lost_together(engine: Engine) -> None:
    """Both stand paused; one word to the campaign is enough for both, and the rest goes out."""
    app, handle, push = await campaign(engine)
    await push.handle.workflow.terminate()
    await handle.workflow.terminate()

    assert handle.workflow_id in await watch(engine)
    assert (await push.held())["hold_by"] == "clarion"

    await handle.resume()
    assert await ends_exactly(app, push)
    assert (await handle.result())["verdict"] == "completed"


async def test_a_terminated_campaign_ends_its_push(engine: Engine) -> None:
    """Its push is a child that is told to cancel, so its books close; the campaign's once it is asked."""
    _, handle, push = await campaign(engine)

    await handle.workflow.terminate()
    await until(engine, push.id, "closed_at is not null")

    assert (await push.row("verdict"))["verdict"] == "cancelled"
    assert handle.workflow_id in await watch(engine)
    with suppress(CommandRefused):  # its workflow, started again, may have closed it by itself
        await handle.resume()
    assert (await handle.result())["verdict"] == "cancelled"
