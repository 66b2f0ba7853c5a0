"""An operator's word is obeyed in two seconds and costs nothing."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest

from clarion.model.command import CancelMode
from tests.acceptance.field import PHONES, Field
from tests.acceptance.together import Together

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
together = Together()


@together
async def test_pause_and_resume(field: Field) -> None:
    """After the acknowledgement nothing arrives later than 2 s; resumed, it completes exactly."""
    push = await field.start(pace=1_200)
    await push.until(0.25)
    async with push.handle() as handle:
        await handle.pause("a typo")
        acknowledged = time.time()
    assert (await push.counts())["open"] >= 0.2 * PHONES
    await asyncio.sleep(3)

    assert max(entry["t"] for entry in push.requests()) - acknowledged <= 2
    shown = await push.shown()
    assert (shown["hold"], shown["hold_reason"]) == ("paused", "a typo")

    await push.hurry()
    await push.command("resume")
    account = await push.finished()
    assert account.holds, account
    assert account.states == {"accepted": PHONES}
    assert account.duplicates == 0


@together
async def test_cancel_now(field: Field) -> None:
    """Cancelled: nothing later than 2 s, and every phone is accepted or cancelled, exactly."""
    push = await field.start(pace=1_200)
    await push.until(0.25)
    async with push.handle() as handle:
        await handle.cancel(reason="wrong audience")
        acknowledged = time.time()

    account = await push.finished()

    assert account.holds, account
    assert account.last_request - acknowledged <= 2
    assert set(account.states) == {"accepted", "cancelled"}
    assert account.states["accepted"] == account.accepted_requests
    assert (await push.shown())["state"] == "cancelled"


@together
async def test_cancel_by_draining(field: Field) -> None:
    """Drained: batches that had begun finish, the others are cancelled."""
    push = await field.start(pace=1_200)
    await push.until(0.1)
    async with push.handle() as handle:
        await handle.cancel(CancelMode.DRAIN)
        await handle.set_pace(None)

    account = await push.finished()

    assert account.holds, account
    assert account.states["accepted"] + account.states["cancelled"] == PHONES
    assert account.duplicates == 0


async def test_a_scheduled_push_waits_for_its_time(field: Field) -> None:
    """Planned before: pending until its time, nothing earlier, the first request within two seconds."""
    due = time.time() + 6
    push = await field.start(send_at=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(due)))
    assert (await push.shown())["state"] == "pending"

    account = await push.finished()

    assert account.states == {"accepted": PHONES}
    assert int(due) <= account.first_request <= due + 2


async def test_pace(field: Field) -> None:
    """2,000/s, then 500/s: from 2 s after the word each 5 s mean is within 5 %, no second above 1.2 times."""
    push = await field.start(pace=2_000)
    await push.until(0.1)
    async with push.handle() as handle:
        await handle.set_pace(500)
        acknowledged = time.time()
        await asyncio.sleep(12)
        await handle.cancel()

    await push.finished()
    since = acknowledged + 2
    seconds = Counter(int(entry["t"] - since) for entry in push.requests() if entry["t"] >= since)
    whole = [seconds[n] for n in range(9)]
    assert max(whole) <= 600, whole
    for start in range(5):
        mean = sum(whole[start : start + 5]) / 5
        assert 475 <= mean <= 525, whole


async def test_steering_without_temporal(field: Field) -> None:
    """With Temporal stopped, `--direct` pauses running batches; back again, the push goes on."""
    push = await field.start(pace=1_200)
    await push.until(0.1)
    temporal = field.stack.pids("temporal")["temporal"]
    field.stack.kill(temporal)
    acknowledged = await push.command("pause", "--direct")
    await asyncio.sleep(3)
    assert max(entry["t"] for entry in push.requests()) - acknowledged <= 2

    await push.command("pace", "none", "--direct")
    await push.command("resume", "--direct")
    account = await push.finished()
    assert account.holds, account
    assert account.states == {"accepted": PHONES}
