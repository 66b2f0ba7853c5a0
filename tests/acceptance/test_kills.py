"""kill -9 in mid push: nothing is lost, and what is repeated stays within what the ledger counted."""

from __future__ import annotations

import time

import pytest

from tests.acceptance.field import PHONES, Field
from tests.support.judge import Account
from tests.support.victim import LEASE

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
WINDOW = 1_000


def complete(account: Account) -> bool:
    """Everybody has an answer, and file, ledger and log agree."""
    assert account.holds, account
    assert account.states == {"accepted": PHONES}, account
    return account.audience == account.devices == PHONES


async def test_a_sender_is_killed(field: Field) -> None:
    """At least once: duplicates ≤ redo + maybe, redo ≤ one window; the killed rows go again in time."""
    push = await field.start(pace=4_000)
    await push.until(0.2)
    killed = await push.kill_a_sender()

    account = await push.finished()

    assert complete(account)
    assert account.redo <= WINDOW
    assert account.duplicates <= account.redo + account.maybe
    assert push.next_request_after(killed.at) <= 5
    for provider, seconds in killed.back_after(push.requests()).items():
        assert seconds <= LEASE[provider] + 3, (provider, seconds)


async def test_a_sender_is_killed_at_most_once(field: Field) -> None:
    """At most once: never two requests to a device; the unanswered are in doubt, at most one window."""
    # Fast, because it claims only rows that it has permits for.
    push = await field.start(pace=8_000, delivery_guarantee="at_most_once")
    await push.until(0.2)
    await push.kill_a_sender()

    account = await push.finished()

    assert account.holds, account
    assert account.most_requests_of_a_device == 1
    assert account.states.get("in_doubt", 0) <= WINDOW
    assert account.states["accepted"] + account.states.get("in_doubt", 0) == PHONES


async def test_what_sends_nothing_is_killed(field: Field) -> None:
    """Control, PostgreSQL and Temporal killed: no row is counted as redo, so nothing is repeated."""
    push = await field.start(pace=1_500)
    killed_at = {}
    for who, share in (("control", 0.1), ("postgres", 0.3), ("temporal", 0.5)):
        await push.until(share)
        field.stack.kill(field.stack.pids(who)[who])
        killed_at[who] = time.time()
    await push.until(0.6)
    await push.hurry()

    account = await push.finished()

    assert complete(account)
    assert account.redo == 0
    assert account.duplicates <= account.maybe
    assert push.next_request_after(killed_at["control"] + 0.5) <= 5
