"""What hands and accidents do to workflows on the real stack, with Temporal's own command line."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from typing import Any

import pytest

from clarion import limits
from clarion.model.ledger import Hold
from tests.acceptance.field import PHONES, Field, Push
from tests.support.judge import Account
from workers.embedded.binaries import beside_python

TERMINATE = ("workflow", "terminate", "--reason", "by hand", "--workflow-id")
RESET = ("workflow", "reset", "--type", "FirstWorkflowTask", "--reason", "by hand", "--workflow-id")
pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


async def temporal(push: Push, *words: str) -> None:
    """One command of the `temporal` program."""
    where = ("--address", push.stack.facts["temporal_address"])
    process = await asyncio.create_subprocess_exec(
        beside_python("temporal"),
        *words,
        *where,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()


def exact(account: Account) -> bool:
    """Everybody once: nothing lost, nothing sent again."""
    assert account.holds, account
    assert account.states == {"accepted": PHONES}
    assert (account.redo, account.duplicates) == (0, 0)
    return True


async def watched(push: Push) -> None:
    """The watch looks once a minute, and when a control process begins: not to wait for the minute."""
    async with push.stack.database() as db:
        age = await db.fetchval("select now() - created_at from push where push_no = $1", push.push_no)
    await asyncio.sleep(max(0.0, limits.WATCH_GRACE + 1.0 - age.total_seconds()))
    push.stack.kill(push.stack.pids("control")["control"], signal.SIGTERM)


async def paused_by_clarion(push: Push, reason: str) -> None:
    """Wait for housekeeping's word; it stands in the list."""
    async with asyncio.timeout(limits.HOUSEKEEPING_EVERY + 30), push.stack.database() as db:
        while await db.fetchval("select hold from push where push_no = $1", push.push_no) != Hold.PAUSED:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    listed: list[dict[str, Any]] = json.loads(await push.stack.cli("push", "list", "--open", "--json"))
    line = next(line for line in listed if line["push_id"] == push.id)
    assert (line["hold"], line["hold_by"], line["hold_reason"]) == ("paused", "clarion", reason)


async def test_by_hand(field: Field) -> None:
    """A batch is terminated, its push is reset: it ends exactly, without a word."""
    push = await field.start(pace=2_000)
    await push.until(0.1)
    await temporal(push, *TERMINATE, f"push/{push.id}/b0")
    await push.until(0.3)
    await temporal(push, *RESET, f"push/{push.id}")
    await push.hurry()

    assert exact(await push.finished())


async def test_terminated(field: Field) -> None:
    """Nothing more is sent; within a minute it is paused by clarion; `resume` goes on where it stood."""
    push = await field.start(pace=1_000)
    await push.until(0.1)
    await temporal(push, *TERMINATE, f"push/{push.id}")
    ended = time.time()
    await watched(push)

    await paused_by_clarion(push, "its workflow has ended (terminated): resume starts it again")
    assert max(entry["t"] for entry in push.requests()) - ended <= 2

    await push.hurry()
    await push.command("resume")
    assert exact(await push.finished())


async def test_temporal_has_lost_its_data(field: Field) -> None:
    """Its file is gone and it starts empty: one push is resumed and ends exactly, the other one cancelled."""
    going, leaving = await field.start(pace=600), await field.start(pace=600)
    await asyncio.gather(going.until(0.1), leaving.until(0.1))
    for file in field.stack.data.glob("temporal.db*"):
        file.unlink()
    field.stack.kill(field.stack.pids("temporal")["temporal"])
    await watched(going)

    reason = "its workflow is unknown to Temporal: resume starts it again"
    for push in (going, leaving):
        await paused_by_clarion(push, reason)
    stood = len(going.requests())
    await asyncio.sleep(2)
    assert len(going.requests()) == stood

    await going.hurry()
    await going.command("resume")
    await leaving.command("cancel", "--reason", "not any more")
    assert exact(await going.finished())
    account = await leaving.finished()
    assert account.holds, account
    assert set(account.states) == {"accepted", "cancelled"}
    assert account.duplicates == 0
