"""Bytes of any kind, sent by hand: refused at once with a reason; no workflow hangs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from temporalio.api.common.v1 import Payload
from temporalio.client import WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError

from clarion import names
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
