"""A release is rolled out while a push runs: every sender is told to leave, then control."""

from __future__ import annotations

import signal

import pytest

from tests.acceptance.field import PHONES, Field
from tests.support.workers import replaced

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


async def test_every_worker_is_replaced_in_mid_push(field: Field) -> None:
    """SIGTERM to all senders, then to control: nothing is lost, nothing is sent twice, redo is 0."""
    push = await field.start(pace=500)
    await push.until(0.02)
    services = field.stack.pids("sender"), field.stack.pids("control")

    for workers in services:
        for pid in workers.values():
            field.stack.kill(pid, signal.SIGTERM)
        for name, pid in workers.items():
            await replaced(field.stack, name, pid)
    counts = await push.counts()
    await push.hurry()

    account = await push.finished()

    assert [len(workers) for workers in services] == [4, 1]
    assert counts["open"] > 0  # it still ran when the last one was replaced
    assert account.holds, account
    assert account.states == {"accepted": PHONES}
    assert (account.redo, account.duplicates) == (0, 0)
