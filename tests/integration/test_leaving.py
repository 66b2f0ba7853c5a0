"""A worker that is told to leave while PostgreSQL is away: it does not wait for ever."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from clarion import limits
from clarion.senders.null import NullLanes
from clarion.store.database import Database
from tests.integration.test_workers import workers
from tests.support.engine import Engine, Permitted
from tests.support.postgres import running_databases

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]
PHONES = 8_000
TO_END = 3.0  # an interpreter on a busy machine


def family(pid: int) -> Iterator[int]:
    """A server and all its processes."""
    yield pid
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield from family(int(child))


async def test_a_worker_leaves_in_time_without_postgresql(temporal_address: str) -> None:
    """Its answers wait for a server that hangs: gone within EXIT_SECONDS all the same, and nothing is lost.

    The server back and other processes in place, the push completes; a sender that could not say what was
    answered costs one window at most.
    """
    async with running_databases() as databases:
        url = await databases.migrated()
        where = {"database_url": url, "temporal_address": temporal_address}
        db = await Database.connect(url)
        async with (
            workers("control", "ops", "bulk", **where) as control,
            workers("send-null", **where) as sender,
        ):
            for one in (control, sender):
                await one.said("serving")
            client = await Client.connect(temporal_address, data_converter=pydantic_data_converter)
            engine = Engine(db, client, NullLanes(), Permitted(None))  # type: ignore[arg-type]
            app = await engine.app(PHONES)
            push = await app.push(pace=500)
            await push.accepted(500, seconds=30)

            assert databases.server.child is not None
            stopped = list(family(databases.server.child.pid or 0))
            for pid in stopped:
                os.kill(pid, signal.SIGSTOP)
            try:
                told = time.monotonic()
                for one in (control, sender):
                    one.process.send_signal(signal.SIGTERM)
                for one in (control, sender):
                    await one.terminate(seconds=limits.EXIT_SECONDS + TO_END)
                took = time.monotonic() - told
            finally:
                for pid in stopped:
                    os.kill(pid, signal.SIGCONT)

        async with workers("control", "ops", "bulk", **where), workers("send-null", **where):
            await push.handle.set_pace(None)
            result = await push.result(90)
            counts = await push.counts()
        await db.close()

    assert took <= limits.EXIT_SECONDS + TO_END
    assert result["verdict"] == "completed"
    assert (counts["audience"], counts["accepted"]) == (PHONES, PHONES)
    assert counts.get("redo", 0) <= limits.WINDOW
