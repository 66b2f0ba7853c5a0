"""A whole stack for acceptance tests, the demo and measurements: `clarion dev`, seen only from outside.

Starts it as a user would, speaks to it through its command line, its database and the sandbox's control
endpoint, and kills its processes by the numbers in stack.json.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import httpx

ROOT = Path(__file__).resolve().parent.parent.parent
CLARION = Path(sys.executable).parent / "clarion"
START_SECONDS = 60.0


class Stack:
    """One running `clarion dev`."""

    def __init__(self, data: Path, process: subprocess.Popen[bytes]) -> None:
        self.data = data
        self.process = process

    @property
    def facts(self) -> dict[str, Any]:
        """stack.json as it is now: pids change when a child is started again."""
        facts: dict[str, Any] = json.loads((self.data / "stack.json").read_text())
        return facts

    @property
    def log(self) -> Path:
        """The sandbox's request log."""
        return self.data / "sandbox" / "requests.jsonl"

    def pids(self, kind: str) -> dict[str, int]:
        """The processes whose name begins with `kind`, by name."""
        return {name: pid for name, pid in self.facts["pids"].items() if name.startswith(kind)}

    def kill(self, pid: int, how: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process of this stack."""
        assert pid in self.facts["pids"].values(), f"{pid} is not a process of this stack"
        os.kill(pid, how)

    @property
    def environment(self) -> dict[str, str]:
        """For commands that talk to this stack."""
        return {**os.environ, "CLARION_DATA": str(self.data), "COLUMNS": "160"}

    async def cli(self, *words: str | Path, check: bool = True, timeout: float = 120.0) -> str:
        """Run one command line; what it printed. Fails the test when it fails, unless `check` is off."""
        process = await asyncio.create_subprocess_exec(
            CLARION,
            *map(str, words),
            env=self.environment,
            cwd=ROOT,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(timeout):
            printed, _ = await process.communicate()
        text = printed.decode()
        assert not check or process.returncode == 0, f"clarion {' '.join(map(str, words))}: {text}"
        return text

    async def show(self, noun: str, id: str) -> dict[str, Any]:
        """`clarion NOUN show ID --json`, of its one push."""
        shown: dict[str, Any] = json.loads(await self.cli(noun, "show", id, "--json"))[0]
        return shown

    async def sandbox(self, method: str, path: str, body: Any = None) -> Any:
        """One call of the sandbox's control endpoint."""
        async with httpx.AsyncClient() as client:
            url = f"http://127.0.0.1:{self.facts['sandbox']['control']}{path}"
            answer = await client.request(method, url, json=body, timeout=30)
        answer.raise_for_status()
        return answer.json() if answer.content else None

    @asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """A connection of our own."""
        connection = await asyncpg.connect(self.facts["database_url"])
        try:
            await connection.execute("set search_path = clarion")
            yield connection
        finally:
            await connection.close()


@asynccontextmanager
async def running_stack(
    *, senders: int = 3, data: Path | None = None, environment: Mapping[str, str] | None = None
) -> AsyncIterator[Stack]:
    """Start `clarion dev` on a data directory (a new one, if none is given), stop it at the end."""
    made = tempfile.TemporaryDirectory(prefix="clarion-") if data is None else None
    place = data or Path(made.name) / "data" if made else data
    assert place is not None
    try:
        process = await asyncio.to_thread(_start, place, senders, dict(environment or {}))
        stack = Stack(place, process)
        try:
            await _ready(stack)
            yield stack
        finally:
            await asyncio.to_thread(_stop, process)
    finally:
        if made:
            made.cleanup()


def _start(data: Path, senders: int, more: dict[str, str]) -> subprocess.Popen[bytes]:
    data.parent.mkdir(parents=True, exist_ok=True)
    if data.parent.name.startswith("clarion-"):
        data.parent.chmod(0o755)  # ours: PostgreSQL does not run as root, and its user must get through
    environment = {**os.environ, **more}
    environment.pop("CLARION_DATABASE_URL", None)
    with (data.parent / f"{data.name}.log").open("ab") as output:
        return subprocess.Popen(
            [CLARION, "dev", "--data", data, "--senders", str(senders)],
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )


async def _ready(stack: Stack) -> None:
    """Until stack.json stands and every worker process has registered."""
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        if stack.process.poll() is not None:
            break
        if (stack.data / "stack.json").exists() and "sandbox" in stack.facts and await _workers(stack):
            return
        await asyncio.sleep(0.1)
    printed = (stack.data.parent / f"{stack.data.name}.log").read_text()[-4_000:]
    raise AssertionError(f"the stack did not start:\n{printed}")


async def _workers(stack: Stack) -> bool:
    try:
        async with stack.database() as db:
            queues = await db.fetchval(
                "select array_agg(distinct q) from worker, unnest(queues) q"
                " where seen_at > now() - interval '15 s'"
            )
    except (OSError, asyncpg.PostgresError):
        return False
    wanted = {"control", "ops", "bulk", "send-apns", "send-fcm", "send-webpush"}
    return wanted <= set(queues or ())


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
