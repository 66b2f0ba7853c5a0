"""Worker processes of a running stack: more of them, and their successors."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from tests.support.stack import ROOT, Stack

START_SECONDS: Final = 60.0
END_SECONDS: Final = 40.0
SERVING: Final = """
select count(*) from worker where pid = any ($1::int[]) and seen_at > now() - interval '15 s'
"""


@asynccontextmanager
async def more_workers(stack: Stack, number: int, *queues: str) -> AsyncIterator[list[Process]]:
    """So many processes that serve these queues, each registered; none is left afterwards."""
    facts = stack.facts
    environment = {
        **stack.environment,
        "CLARION_DATABASE_URL": facts["database_url"],
        "TEMPORAL_ADDRESS": facts["temporal_address"],
        "TEMPORAL_NAMESPACE": facts["namespace"],
        "CLARION_KEY_FILE": facts["key_file"],
        "CLARION_PROCESS": f"more-{queues[0]}",
        "PYTHONPATH": str(ROOT),
    }
    environment.pop("CLARION_METRICS_PORT", None)
    command = [sys.executable, "-P", "-m", "workers", *queues]
    with (stack.data.parent / f"more-{queues[0]}.log").open("ab") as log:
        more = [
            await asyncio.create_subprocess_exec(*command, env=environment, stdout=log, stderr=log)
            for _ in range(number)
        ]
    try:
        await _serving(stack, [process.pid for process in more])
        yield more
    finally:
        for process in more:
            if process.returncode is None:
                process.terminate()
        async with asyncio.timeout(END_SECONDS):
            await asyncio.gather(*(process.wait() for process in more))


async def _serving(stack: Stack, pids: list[int]) -> None:
    async with stack.database() as db, asyncio.timeout(START_SECONDS):
        while await db.fetchval(SERVING, pids) < len(pids):  # noqa: ASYNC110 - rows of another process
            await asyncio.sleep(0.1)


async def replaced(stack: Stack, name: str, pid: int) -> None:
    """Wait until another process of this name serves its queues."""
    async with asyncio.timeout(START_SECONDS), stack.database() as db:
        while True:
            new = stack.pids(name).get(name)
            if new not in (None, pid) and await db.fetchval(
                "select exists (select from worker where pid = $1)", new
            ):
                return
            await asyncio.sleep(0.1)
