"""Starts and words that make no sense: refused with a reason, and nothing hangs. Campaigns; continuations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from clarion import names
from clarion.client import Clarion
from clarion.errors import AlreadyExists, StackUnavailable
from clarion.model.audience import Audience
from clarion.model.spec import CampaignSpec, PushSpec
from clarion.store.database import Database
from tests.support.engine import MESSAGE, App, Engine, Push, running_engine
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


def body(app: App, **more: Any) -> dict[str, Any]:
    """A spec as another language would write it."""
    return {
        "app": app.name,
        "message": {"texts": {"default": {"title": "Hello"}}},
        "audience": {"everybody": True},
        **more,
    }


async def failure_of(engine: Engine, workflow: str, workflow_id: str, *inputs: Any) -> ApplicationError:
    """Start it and wait for the failure that it must end with."""
    handle = await engine.start_raw(workflow, workflow_id, *inputs)
    async with asyncio.timeout(10):
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()
    assert isinstance(failure.value.cause, ApplicationError)
    return failure.value.cause


async def test_a_plain_object_starts_a_push(engine: Engine) -> None:
    """What the command line of Temporal or another language sends is all it takes."""
    app = await engine.app(30)

    handle = await engine.start_raw(names.PUSH_WORKFLOW, f"push/{app.name}", body(app, id=app.name))

    result = await handle.result()
    assert result["id"] == app.name
    assert result["counts"]["accepted"] == 30


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ([], "one JSON object"),
        (["text"], "one JSON object"),
        ([{"app": "x"}, {"app": "y"}], "one JSON object"),
        ([None], "one JSON object"),
        ([{"app": "x", "audience": {"everybody": True}}], "exactly one of message and content"),
        ([{"app": "x", "nonsense": 1}], "nonsense: Extra inputs"),
        ([{"id": "other", "app": "x"}], "let it be 'bad'"),
        ([{"id": ["bad"], "app": "x"}], "let it be 'bad'"),
    ],
)
async def test_a_body_that_does_not_validate_fails_the_push(
    engine: Engine, inputs: list[Any], words: str
) -> None:
    """Not a workflow task that is repeated for ever."""
    failure = await failure_of(engine, names.PUSH_WORKFLOW, "push/bad", *inputs)

    assert failure.type == "BadSpec"
    assert words in failure.message


async def test_the_words_of_a_message_are_not_repeated_in_the_failure(engine: Engine) -> None:
    """What does not validate may be somebody's secret."""
    spec = {
        "app": "x",
        "message": {"texts": {"default": {"title": 7, "body": "hunter2"}}, "badge": "hunter2"},
    }

    failure = await failure_of(engine, names.PUSH_WORKFLOW, "push/secret", spec)

    assert "message.badge" in failure.message
    assert "hunter2" not in failure.message


@pytest.mark.parametrize(
    "workflow_id", ["pushing", "campaign/x", "push/", "push/a/b", "push/-x", "push/" + "x" * 129]
)
async def test_another_shape_of_workflow_id_is_refused(engine: Engine, workflow_id: str) -> None:
    """The id is the push's identity, so it must be one."""
    failure = await failure_of(engine, names.PUSH_WORKFLOW, workflow_id, {"app": "x"})

    assert failure.type == "BadWorkflowId"


async def test_an_unknown_app_and_an_unknown_push_fail(engine: Engine) -> None:
    """What the ledger does not know is said at once."""
    no_app = await failure_of(engine, names.PUSH_WORKFLOW, "push/noapp", body(App(engine, "ghost", 0, None)))  # type: ignore[arg-type]
    no_push = await failure_of(engine, names.PUSH_WORKFLOW, "push/nopush", {"id": "nopush"})

    assert (no_app.type, no_push.type) == ("NotFound", "NotFound")
    assert "clarion apps list" in no_app.message


async def test_garbage_in_signals_and_updates_does_no_harm(engine: Engine) -> None:
    """Unknown signals, arguments of any kind, updates that do not validate: the push goes on."""
    app = await engine.app(1_000, rate=300)
    push = await app.push()
    await push.accepted(20)
    workflow = push.handle.workflow

    await workflow.signal("no such signal", {"a": 1})
    await workflow.signal("wake", args=["x", 2, None])
    for update, argument in [
        ("pause", {"reason": 7}),
        ("pause", {"nonsense": "x"}),
        ("cancel", "sideways"),
        ("set_pace", -5),
        ("set_pace", "fast"),
        ("no such update", None),
    ]:
        with pytest.raises(WorkflowUpdateFailedError):
            await workflow.execute_update(update, argument)
    with pytest.raises(WorkflowUpdateFailedError):
        await workflow.execute_update("pause", args=[1, 2, 3])
    app.sender.rate = float("inf")

    assert (await push.result())["counts"]["accepted"] == 1_000


async def test_short_words_are_understood(engine: Engine) -> None:
    """In the raw UI a person types a reason, a mode or a number, or nothing at all."""
    app = await engine.app(1_000, rate=300)
    push = await app.push()
    await push.accepted(20)
    workflow = push.handle.workflow

    await workflow.execute_update("pause", "a typo")
    reason = (await push.row("hold_reason"))["hold_reason"]
    await workflow.execute_update("resume")
    await workflow.execute_update("set_pace", 250)
    pace = (await push.row("pace"))["pace"]
    answer = await workflow.execute_update("cancel", "now")

    assert (reason, pace, answer["hold"]) == ("a typo", 250.0, "closing")
    assert (await push.result())["verdict"] == "cancelled"


async def test_the_database_away_makes_a_command_fail_clearly(engine: Engine) -> None:
    """Outcome unknown, safe to repeat: and repeated with the same id it acts once."""
    app = await engine.app(5_000, rate=200)
    push = await app.push()
    await push.accepted(20)
    async with engine.db.transaction() as connection:  # holds the control row: no command can commit
        await connection.execute("select from push where push_id = $1 for update", push.id)
        with pytest.raises(Exception, match="safe to repeat") as failure:
            await push.handle.pause(command_id="p")
    answer = await push.handle.pause(command_id="p")

    assert isinstance(failure.value, StackUnavailable)
    assert answer.hold == "paused"
    await push.handle.cancel()
    await push.result()


async def test_a_closed_id_is_remembered(engine: Engine) -> None:
    """The same start finds how it ended and sends nothing again; other content is refused, not started."""
    app = await engine.app(10)
    spec = PushSpec(app=app.name, message=MESSAGE, audience=Audience(everybody=True))
    clarion = Clarion(engine.client, engine.db)
    first = await clarion.schedule_push(spec, id=app.name)
    await first.result()

    again = await clarion.schedule_push(spec, id=app.name)

    assert (first.closed, again.closed) == (None, "completed")
    with pytest.raises(AlreadyExists, match="other content"):
        await clarion.schedule_push(spec.model_copy(update={"pace": 5.0}), id=app.name)


async def test_an_audience_that_cannot_be_planned_pauses_the_push(engine: Engine) -> None:
    """A person has to mend it; the push waits, says why, and can be cancelled."""
    app = await engine.app(10)
    spec = body(app, audience={"user_list": "list:" + "0" * 64})
    handle = await engine.start_raw(names.PUSH_WORKFLOW, f"push/{app.name}", spec)
    push = Push(engine, engine.clarion.push(app.name))

    row = await push.held()

    assert (row["hold"], row["hold_by"]) == (2, "clarion")
    assert "no such user list" in row["hold_reason"]
    await push.handle.cancel()
    assert (await handle.result())["verdict"] == "cancelled"


# ── campaigns ─────────────────────────────────────────────────────────────────────────────────────────────


async def campaign(engine: Engine, app: App, id: str) -> tuple[Any, Push]:
    """A running campaign and its push."""
    spec = CampaignSpec(app=app.name, message=MESSAGE, audience=Audience(everybody=True))
    handle = await engine.clarion.start_campaign(spec, id=f"{id}.{app.name}")
    return handle, Push(engine, engine.clarion.push(handle.id))


async def test_a_campaign_awaits_its_push(engine: Engine) -> None:
    """The campaign's result is its push's."""
    app = await engine.app(1_200)
    handle, push = await campaign(engine, app, "spring")

    result = await handle.result()

    assert result["verdict"] == "completed"
    assert result["pushes"][0]["counts"]["accepted"] == 1_200
    assert (await push.handle.workflow.describe()).parent_id == f"campaign/{handle.id}"


async def test_a_campaign_is_steered_like_a_push(engine: Engine) -> None:
    """A word to it is one statement over its pushes' control rows."""
    app = await engine.app(2_000, rate=600)
    handle, push = await campaign(engine, app, "steered")
    await push.accepted(50)

    paused = await handle.pause("a typo")
    await asyncio.sleep(1.0)
    before = await push.counts()
    await asyncio.sleep(0.4)
    stood = await push.counts() == before
    await handle.resume()
    await push.accepted(before["accepted"] + 20)
    await handle.cancel()

    assert (paused.hold, stood) == ("paused", True)
    assert (await handle.result())["verdict"] == "cancelled"
    with pytest.raises(Exception, match=r"closed|not running|completed"):
        await handle.pause()


async def test_request_cancellation_of_a_campaign_closes_its_push(engine: Engine) -> None:
    """First the control row, then the child; both show as Canceled."""
    app = await engine.app(2_000, rate=600)
    handle, push = await campaign(engine, app, "button")
    await push.accepted(50)

    await handle.workflow.cancel()
    with pytest.raises(WorkflowFailureError):
        await handle.result()

    row = await push.row("verdict, closed_at is not null as closed")
    assert tuple(row) == ("cancelled", True)
    for one in (handle, push.handle):
        assert (await one.workflow.describe()).status is WorkflowExecutionStatus.CANCELED


async def test_a_campaign_outlives_its_pushs_workflow(engine: Engine) -> None:
    """Terminated and started again, the push is not its child any more: it follows the books."""
    app = await engine.app(1_500, rate=600)
    handle, push = await campaign(engine, app, "orphan")
    await push.accepted(50)

    await push.handle.workflow.terminate("a test")
    app.sender.rate = float("inf")
    await push.handle.restart()

    result = await handle.result()
    assert result["verdict"] == "completed"
    assert result["pushes"][0]["counts"]["accepted"] == 1_500


async def test_closed_pushes_take_no_words(engine: Engine) -> None:
    """A closed push stays closed."""
    app = await engine.app(10)
    push = await app.push()
    await push.result()

    with pytest.raises(Exception, match=r"closed|not running|completed"):
        await push.handle.pause()


# ── continuations ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_push_continues_as_new_between_batches(
    databases: Databases, continuing_temporal_address: str
) -> None:
    """Histories stay short; no batch runs twice, and words spoken at any moment are obeyed."""
    url = await databases.migrated()
    db = await Database.connect(url, max_size=16)
    async with running_engine(db, continuing_temporal_address) as engine:
        app = await engine.app(16_000, rate=6_000)
        push = await app.push()
        for _ in range(4):
            await asyncio.sleep(0.3)
            await push.handle.pause()
            await push.handle.resume()
            await push.handle.workflow.signal("wake")
        app.sender.rate = float("inf")
        result = await push.result(60)
        runs = [
            one
            async for one in engine.client.list_workflows(f"WorkflowId = '{names.push_workflow_id(push.id)}'")
        ]
        words = await db.fetchval(
            "select count(*) from audit join push using (push_no) where push_id = $1 and way = 'update'",
            push.id,
        )
        assert result["counts"]["accepted"] == 16_000
        assert await push.counts() == {"audience": 16_000, "accepted": 16_000}
        assert len(runs) > 1
        assert words == 8
    await db.close()
    await databases.drop(url)
