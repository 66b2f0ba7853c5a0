"""Words that arrive while a push continues as new: none is lost, none acts twice, and the last one stands."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from clarion.store.database import Database
from tests.support.engine import Push, running_engine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
SAID = ["pause", "resume"] * 40 + ["pause"]  # each is several events, and after 50 it continues as new


async def words(push: Push) -> list[str]:
    """What was written, in order."""
    rows = await push.engine.db.fetch(
        "select what from audit join push using (push_no) where push_id = $1 and way = 'signal' order by at",
        push.id,
    )
    return [row["what"] for row in rows]


async def test_signals_across_the_rollover(db: Database, continuing_temporal_address: str) -> None:
    """C51: many, faster than they are written: all of them, in order, by several runs of the workflow."""
    async with running_engine(db, continuing_temporal_address) as engine:
        push = await (await engine.app(10)).push(send_at=datetime.now(UTC) + timedelta(hours=1))
        first = (await push.handle.workflow.describe()).run_id
        for name in SAID:
            await push.handle.workflow.signal(name)

        async with asyncio.timeout(180):
            while len(await words(push)) < len(SAID):  # noqa: ASYNC110  # rows
                await asyncio.sleep(0.5)

        assert await words(push) == SAID
        assert (await push.row("hold"))["hold"] == 2
        async with asyncio.timeout(20):
            while (await push.handle.workflow.describe()).run_id == first:  # noqa: ASYNC110
                await asyncio.sleep(0.1)
        await push.handle.cancel()
        assert (await push.result())["verdict"] == "cancelled"
