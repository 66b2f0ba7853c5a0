"""Worker processes as they are started in life: they wait, serve, are seen, and leave in good order."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from clarion.senders.null import NullLanes
from clarion.store import worker
from clarion.store.database import Database
from tests.support.engine import Engine, Permitted

ROOT = Path(__file__).resolve().parents[2]


class Running:
    """One worker process and the lines that it has logged."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        async for line in self.process.stderr:
            self.lines.append(line.decode())

    async def said(self, words: str, *, seconds: float = 40.0) -> str:
        """Wait for a line with these words."""
        async with asyncio.timeout(seconds):
            while not (found := [line for line in self.lines if words in line]):  # a log
                assert self.process.returncode is None, "".join(self.lines)
                await asyncio.sleep(0.05)
        return found[0]

    async def terminate(self, *, seconds: float = 15.0) -> int:
        """SIGTERM; its exit code."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(seconds):
            return await self.process.wait()


@asynccontextmanager
async def workers(*queues: str, database_url: str, temporal_address: str) -> AsyncIterator[Running]:
    """`python -m workers QUEUE…`, gone at the end."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("CLARION_", "TEMPORAL_"))
    }
    environment |= {
        "CLARION_DATABASE_URL": database_url,
        "TEMPORAL_ADDRESS": temporal_address,
        "TEMPORAL_NAMESPACE": "default",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers", *queues, cwd=ROOT, env=environment, stderr=asyncio.subprocess.PIPE
    )
    running = Running(process)
    try:
        yield running
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def test_a_sender_that_is_told_to_leave_loses_and_repeats_nothing(
    database_url: str, temporal_address: str, db: Database
) -> None:
    """SIGTERM in mid push: it drains, commits, releases and is gone; another process goes on at once."""
    where = {"database_url": database_url, "temporal_address": temporal_address}
    async with (
        workers("control", "ops", "bulk", **where) as control,
        workers("send-null", **where) as first,
        workers("send-null", **where) as second,
    ):
        for one in (control, first, second):
            await one.said("serving")
        client = await Client.connect(temporal_address, data_converter=pydantic_data_converter)
        engine = Engine(db, client, NullLanes(), Permitted(None))  # type: ignore[arg-type]
        app = await engine.app(6_000)
        push = await app.push(pace=1_500)
        await push.accepted(1_000, seconds=30)

        code = await first.terminate()
        alive = {one.pid for one in await worker.list_workers(db)}
        result = await push.result(60)

        assert code == 0
        assert first.process.pid not in alive
        assert {control.process.pid, second.process.pid} <= alive
        assert result["counts"]["accepted"] == 6_000
        assert await push.counts() == {"audience": 6_000, "accepted": 6_000}  # no redo: nothing twice
        assert await control.terminate() == 0
        assert await second.terminate() == 0
        assert not await worker.list_workers(db)


async def test_a_worker_waits_for_its_servers_with_one_clear_line(temporal_address: str) -> None:
    """No traceback, no password, and SIGTERM still ends it."""
    url = "postgresql://clarion:hunter2@127.0.0.1:1/clarion"
    async with workers("send-null", database_url=url, temporal_address=temporal_address) as one:
        line = await one.said("waiting for PostgreSQL")
        await asyncio.sleep(1.5)
        code = await one.terminate()

        assert code == 0
        assert len(one.lines) == 1
        assert "hunter2" not in line


async def test_a_worker_waits_for_the_schema(empty_database_url: str, temporal_address: str) -> None:
    """Started before the migration, it says what makes the schema and goes on when it is there."""
    async with workers(
        "send-null", database_url=empty_database_url, temporal_address=temporal_address
    ) as one:
        assert "clarion migrate" in await one.said("waiting for PostgreSQL")


@pytest.mark.parametrize("queues", [[], ["send"], ["control", "nonsense"]])
async def test_a_wrong_command_line_is_refused(queues: list[str]) -> None:
    """Before anything is connected."""
    async with workers(*queues, database_url="", temporal_address="") as one:
        assert await one.process.wait() == 2
