"""A provider that refuses us or is away costs little, and nothing of the audience."""

from __future__ import annotations

import asyncio

import pytest

from clarion import limits
from tests.acceptance.field import PHONES, Field

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
WINDOW = 1_000
SENDERS = 2
AWAY = 2 * limits.request_timeout("apns") + 2  # seconds: what was swallowed is tried again meanwhile


async def test_a_rejected_credential_blocks_its_lane(field: Field) -> None:
    """At most a window of calls per sender; nothing rejected or retired; unblocked, it completes."""
    await field.stack.sandbox("POST", "/faults", {"provider": "apns", "reject_credential": True})
    push = await field.start()
    await push.until(0.54)  # the other lanes go on
    assert [lane["provider"] for lane in (await push.shown())["lanes"] if lane["blocked"]] == ["apns"]

    refused = [entry for entry in push.requests() if entry["provider"] == "apns"]
    assert 0 < len(refused) <= SENDERS * WINDOW
    counts = await push.counts()
    assert counts["rejected"] == counts["dead"] == 0

    await field.stack.sandbox("POST", "/clear")
    await field.stack.cli("push", "unblock", push.id)
    account = await push.finished(180)
    assert account.holds, account
    assert account.states == {"accepted": PHONES}
    assert account.retired == 0


async def test_two_providers_are_away(field: Field) -> None:
    """One swallows, one refuses: few requests are wasted, and after the recovery everything is delivered."""
    push = await field.start(pace=3_000)
    await push.until(0.2)
    await field.stack.sandbox("POST", "/faults", {"provider": "apns", "black_hole": "request"})
    await field.stack.sandbox("POST", "/faults", {"provider": "fcm", "refuse_connections": True})
    await asyncio.sleep(AWAY)
    await field.stack.sandbox("POST", "/clear")

    account = await push.finished(180)

    assert account.holds, account
    assert account.states == {"accepted": PHONES}
    swallowed = [entry for entry in push.requests() if entry["status"] == 0]
    assert 0 < len(swallowed) <= max(PHONES // 100, SENDERS * WINDOW)
