"""A sender process that dies between request and commit, at the vendors that recognise a repeat.

The first process sends and is never heard of again: its answers come, its statements do not. The second one
takes the batch over and sends again whatever the ledger does not know.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from clarion.attempt import AttemptResult, Stop
from clarion.model.audience import Audience
from clarion.model.message import Classification, Message, Text
from clarion.model.spec import PushSpec
from clarion.process import SenderProcess
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.lanes import Lanes
from clarion.store import push as pushes
from clarion.store.database import Database
from clarion.store.ledger import Outcomes
from clarion.store.locales import Locales
from clarion.store.reasons import Reasons
from tests.support.senders import process
from tests.support.sending import FreePermits
from tests.support.vendors import lines, registrations, vendor_app

PHONES = 1_000
SERVICE = Message(texts={"default": Text(title="Hello", body="there")}, classification=Classification.SERVICE)


@pytest.fixture
async def sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    """A sandbox."""
    async with Sandbox(tmp_path_factory.mktemp("sandbox")) as running:
        yield running


async def frozen(db: Database, app_no: int, lane: int, tokens: list[str]) -> tuple[int, int]:
    """A push to so many phones of this lane: its number and its one batch."""
    await db.execute(
        "insert into usr (app_no, user_id) select $1, 'u' || n from generate_series(1, $2) n",
        app_no,
        len(tokens),
    )
    await db.execute(
        "insert into device (app_no, installation, user_no, platform)"
        " select app_no, gen_random_uuid(), user_no, 1 from usr"
    )
    await db.execute(
        "insert into registration (device_no, user_no, app_no, lane, token)"
        " select d.device_no, d.user_no, d.app_no, $1::smallint, t.token"
        " from (select *, row_number() over (order by device_no) as n from device) d"
        " join unnest($2::text[]) with ordinality as t (token, n) using (n)",
        lane,
        tokens,
    )
    spec = PushSpec(app="shop", message=SERVICE, audience=Audience(everybody=True))
    opened = await pushes.open_push(db, spec, "crash")
    plan = await pushes.plan(db, opened.push_no)
    for range_no in range(plan.ranges):
        await pushes.freeze(db, opened.push_no, range_no)
    (batch,) = await db.fetch("select batch from batch where push_no = $1", opened.push_no)
    return opened.push_no, batch["batch"]


async def sender_process(db: Database, lanes: Lanes, number: int) -> SenderProcess:
    """A process with these lanes."""
    permits: Any = FreePermits()
    return SenderProcess(db, lanes, permits, number, await Reasons.load(db), await Locales.load(db))


def silence(dying: SenderProcess, committed: int) -> asyncio.Event:
    """After so many commits of answers, statements with more of them reach nobody. The event: so it is."""
    silent, real, seen = asyncio.Event(), dying.ledger.step, 0

    async def step(*place: Any, outcomes: Outcomes, **more: Any) -> Any:
        nonlocal seen
        seen += bool(len(outcomes))
        if seen > committed:
            silent.set()
            await asyncio.Event().wait()
        return await real(*place, outcomes=outcomes, **more)

    dying.ledger.step = step  # type: ignore[method-assign]
    return silent


async def attempt(one: SenderProcess, push_no: int, batch: int) -> AttemptResult:
    """One attempt, as the activity makes it."""
    return await one.send(push_no, batch, lease=10.0, beat=lambda: None, stop=Stop())


@pytest.mark.parametrize("committed", [0, 1])
@pytest.mark.parametrize("provider", ["oppo", "vivo"])
async def test_each_phone_shows_one(db: Database, sandbox: Sandbox, provider: str, committed: int) -> None:
    """Sent twice, shown once, accounted for once; the repeats are counted as redo."""
    app_no, at = await vendor_app(sandbox, db)
    tokens = registrations(provider, PHONES)
    push_no, batch = await frozen(db, app_no, at[provider], tokens)
    async with process(db) as lanes:
        dying = await sender_process(db, lanes, 1)
        silent = silence(dying, committed)
        task = asyncio.create_task(attempt(dying, push_no, batch))
        await asyncio.wait_for(silent.wait(), 10)
        await asyncio.sleep(0.5)  # what is on the wire is answered
        while not task.done():
            task.cancel()
            await asyncio.sleep(0)
        with suppress(asyncio.CancelledError):
            await task
    sent = Counter(line["token"] for line in lines(sandbox, provider))
    known = await db.fetchval(
        "select coalesce(sum(accepted), 0) from push_counts where push_no = $1", push_no
    )
    await db.execute("update batch set lease_until = now() - interval '1 second'")

    async with process(db) as lanes:
        heir = await sender_process(db, lanes, 2)
        result = await attempt(heir, push_no, batch)
    told = [(line["token"], line["status"]) for line in lines(sandbox, provider)]
    (counts,) = await db.fetch("select * from push_counts where push_no = $1", push_no)

    assert result.why == "done"
    assert (known > 0) == (committed > 0)
    assert known < sent.total()
    assert Counter(token for token, status in told if status == 200) == Counter(tokens)
    assert {status for _, status in told} == {200, 409}
    assert (counts["accepted"], counts["redo"]) == (PHONES, len(told) - PHONES)
