"""Pushes at a time to come: executed once, by exactly one, to the second, whoever dies then."""

from __future__ import annotations

import asyncio
import signal
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from clarion.client import Clarion
from tests.acceptance.field import PHONES, Field, Push
from tests.acceptance.together import Together
from tests.support.workers import more_workers

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SOON = 7.0  # seconds from a start: long enough that the push is open and pending before its time
together = Together()


@pytest.fixture(scope="module", autouse=True)
async def more(whole_field: Field) -> AsyncIterator[list[Process]]:
    """Two more of them for all tests here."""
    async with more_workers(whole_field.stack, 2, "control", "ops", "bulk") as made:
        yield made


def at(moment: float) -> str:
    """A moment as a spec has it."""
    return datetime.fromtimestamp(moment, UTC).isoformat()


async def executed_once(push: Push, due: float, *, begun: float, sending: float) -> None:
    """Nothing before its second, begun and sending in time, one execution, every phone once."""
    account = await push.finished()
    async with push.stack.database() as db:
        row = await db.fetchrow("select created_at, started_at from push where push_no = $1", push.push_no)
    async with await Clarion.connect(push.stack.facts["temporal_address"]) as clarion:
        runs = [one async for one in clarion.temporal.list_workflows(f"WorkflowId = 'push/{push.id}'")]

    assert account.holds, account
    assert account.states == {"accepted": PHONES}
    assert account.duplicates == 0
    assert account.redo == 0
    assert account.most_requests_of_a_device == 1
    assert len(runs) == 1
    assert row is not None
    assert row["created_at"].timestamp() < due - 1, "it was opened too late to be waited for"
    assert due <= row["started_at"].timestamp() <= due + begun
    assert due <= account.first_request <= due + sending  # the first range is frozen meanwhile


@together
async def test_once_by_exactly_one_of_three(field: Field) -> None:
    """Three control processes: pending until its second, then executed by one of them, at once."""
    due = time.time() + SOON
    push = await field.start(send_at=at(due))
    before = (await push.shown())["state"], time.time()

    await executed_once(push, due, begun=1.0, sending=2.0)

    assert before[0] == "pending" or before[1] > due
    assert (await push.shown())["state"] == "completed"


@together
async def test_moved_edited_and_called_off_until_the_last_moment(field: Field) -> None:
    """A second before its time it is moved; moved again, it is cancelled: no request in all that time."""
    due = time.time() + SOON
    push = await field.start(send_at=at(due))
    async with push.handle() as handle:
        await asyncio.sleep(due - time.time() - 1.0)
        await handle.reschedule(datetime.now(UTC) + timedelta(minutes=1))
    await asyncio.sleep(due + 1.5 - time.time())
    assert push.requests() == []
    assert (await push.shown())["state"] == "pending"

    await push.command("cancel", "--reason", "not today")
    account = await push.finished()

    assert account.requests == account.audience == 0
    assert (await push.shown())["state"] == "cancelled"


async def test_one_of_three_is_killed_at_the_due_second(field: Field, more: list[Process]) -> None:
    """The one that knew of it best dies at that moment: another executes it, once, within five seconds."""
    due = time.time() + SOON
    push = await field.start(send_at=at(due))
    await asyncio.sleep(due - time.time() - 0.01)
    field.stack.kill(field.stack.pids("control")["control"])
    more[0].send_signal(signal.SIGKILL)

    await executed_once(push, due, begun=4.0, sending=5.0)
