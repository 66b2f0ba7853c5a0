"""Bytes of any kind, sent by hand: refused at once with a reason; no workflow hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from clarion import names
from clarion.client import Clarion
from clarion.errors import BadSpec
from clarion.model.spec import CampaignSpec, PushSpec
from clarion.store import push as pushes
from clarion.store.database import Database
from tests.support.engine import Engine, running_engine
from tests.support.postgres import Databases


@pytest.fixture(scope="module")
async def engine(databases: Databases, temporal_address: str) -> AsyncIterator[Engine]:
    """One engine for the module."""
    url = await databases.migrated()
    db = await Database.connect(url, max_size=16)
    async with running_engine(db, temporal_address) as running:
        yield running
    await db.close()
    await databases.drop(url)


def sent(data: bytes, encoding: bytes = b"json/plain") -> RawValue:
    """An argument as the `temporal` command line or an HTTP call may send it."""
    return RawValue(Payload(metadata={"encoding": encoding}, data=data))


async def refusal(engine: Engine, workflow_id: str, argument: RawValue) -> ApplicationError:
    """The failure with which a push that was started so must end."""
    handle = await engine.start_raw(names.PUSH_WORKFLOW, workflow_id, argument)
    async with asyncio.timeout(10):
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()
    assert isinstance(failure.value.cause, ApplicationError)
    return failure.value.cause


@pytest.mark.parametrize(
    ("data", "encoding"),
    [
        (b"{bad", b"json/plain"),
        (b"\xff\x00", b"binary/plain"),
        (b"x", b"no/such"),
        (b'{"app": "\\ud800"}', b"json/plain"),
        (b"{}", b"json/protobuf"),
        (b"[" * 5_000, b"json/plain"),
    ],
    ids=["no-json", "bytes", "unknown-encoding", "half-a-character", "no-proto", "too-deep"],
)
async def test_a_start_that_cannot_be_decoded(engine: Engine, data: bytes, encoding: bytes) -> None:
    """It fails the workflow, not a workflow task that is then repeated for ever."""
    failure = await refusal(engine, "push/garbled", sent(data, encoding))

    assert (failure.type, failure.message) == ("BadSpec", "start with one JSON object, a PushSpec")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ('"message": {"data": {"a": "\\u0000"}}', "NUL character"),
        ('"message": {"data": {"a": 123456789012345678901234567890}}', "more than 64 bits"),
        ('"message": {}, "title": "\\u0000"', "NUL character"),
        ('"message": {}, "pace": 1e300', "a pace or weight outside"),
        ('"message": {}, "send_at": "9999-12-31T23:59:59-12:00"', "edge of the calendar"),
        ('"message": {}, "pace": "500"', "pace: Input should be a valid number"),
        ('"message": {}, "pace": true', "pace: Input should be a valid number"),
        ('"message": {}, "send_at": 1800000000', "send_at: Input should be a valid datetime"),
        ('"message": {}, "send_at": "2027-01-01T09:00:00"', "send_at: Input should have timezone info"),
        ('"message": {}, "tags": ["' + "x" * 3_000 + '"]', "tags are larger than"),
        ('"message": {}, "pace": NaN', "finite number"),
    ],
    ids=["nul", "bits", "nul-title", "pace", "year", "quoted", "true", "epoch", "no-zone", "tags", "nan"],
)
async def test_values_that_the_store_cannot_hold(engine: Engine, words: str, says: str) -> None:
    """Repeating would not mend them, so they are said at once, also those that only PostgreSQL notices."""
    app = await engine.app(1)
    body = f'{{"app": "{app.name}", "audience": {{"everybody": true}}, {words}}}'

    failure = await refusal(engine, "push/unstorable", sent(body.encode()))

    assert failure.type == "BadSpec"
    assert says in failure.message


async def test_updates_and_signals_that_cannot_be_decoded(engine: Engine) -> None:
    """The update is refused with words; the signals do what their name says; the push goes on."""
    app = await engine.app(1_000, rate=300)
    push = await app.push()
    await push.accepted(20)
    workflow = push.handle.workflow
    said: list[Any] = []
    for argument in (
        sent(b"{bad"),
        sent(b"\xff", b"binary/plain"),
        sent(b"x", b"no/such"),
        sent(b'"\\u0000"'),
    ):
        with pytest.raises(WorkflowUpdateFailedError) as failure:
            await workflow.execute_update("pause", argument)
        said.append(failure.value.cause)

    assert [one.type for one in said] == ["BadInput", "BadInput", "BadInput", "BadSpec"]
    assert "not JSON" in str(said[0])
    assert (await push.row("hold"))["hold"] == 0
    await workflow.signal("pause", sent(b"{bad"))
    assert (await push.held())["hold_by"] == "operator"
    await workflow.signal("resume", sent(b"x", b"no/such"))
    app.sender.rate = float("inf")
    assert (await push.result())["counts"]["accepted"] == 1_000


async def ended_so(engine: Engine, workflow: str, workflow_id: str, *inputs: Any) -> str:
    """The words with which a workflow that was started by hand must fail."""
    handle = await engine.start_raw(workflow, workflow_id, *inputs)
    async with asyncio.timeout(10):
        with pytest.raises(WorkflowFailureError) as failure:
            await handle.result()
    return str(failure.value.cause)


@pytest.mark.parametrize(
    "inputs",
    [
        (),
        ({"x": 1},),
        ("x",),
        (sent(b"{bad"),),
        ({"push_no": 1, "batches": [], "provider": "null"},),
        ({"push_no": 2**80, "batches": [0], "provider": "null"},),
    ],
    ids=["nothing", "another-shape", "text", "no-json", "no-batch", "no-number"],
)
async def test_a_batch_by_hand(engine: Engine, inputs: tuple[Any, ...]) -> None:
    """It fails with a reason, not task after task or try after try for ever."""
    said = await ended_so(engine, names.BATCH_WORKFLOW, "by-hand", *inputs)

    assert "batches are started by their push, not by hand" in said


@pytest.mark.parametrize("workflow", [names.PUSH_WORKFLOW, names.CAMPAIGN_WORKFLOW])
async def test_a_start_for_a_time_that_is_past(engine: Engine, workflow: str) -> None:
    """Refused from the client and started raw; what was taken before is joined whenever it is repeated."""
    app = await engine.app(1)
    kind = workflow.removesuffix("Workflow").lower()
    past, id = datetime.now(UTC) - timedelta(minutes=5), f"{kind}-of-yesterday"
    body = {
        "app": app.name,
        "audience": {"everybody": True},
        "message": {"texts": {"default": {"title": "x"}}},
        "send_at": past.isoformat(),
    }
    stored = Clarion(engine.client, engine.db)

    assert "send_at is past (it was" in await ended_so(engine, workflow, f"{kind}/{id}", body)
    start: Any = (
        stored.schedule_push(PushSpec.model_validate(body), id=id)
        if kind == "push"
        else stored.start_campaign(CampaignSpec.model_validate(body), id=id)
    )
    with pytest.raises(BadSpec, match="leave it out to send at once, or give a later time"):
        await start
    assert await engine.db.fetchval("select count(*) from push where push_id = $1", id) == 0
    assert await engine.db.fetchval("select count(*) from campaign where campaign_id = $1", id) == 0
    if kind == "push":
        spec = PushSpec.model_validate(body)
        await pushes.open_push(engine.db, spec, id)  # as it was taken when its time was still to come
        handle = await engine.start_raw(workflow, f"push/{id}", body)
        assert (await handle.result())["verdict"] == "completed"
