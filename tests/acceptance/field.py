"""The field of the acceptance tests: a stack with devices, and pushes over them that a judge looks at."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg

from benchmarks import devices
from clarion.client import Clarion, PushHandle
from clarion.model.spec import PushSpec
from tests.support import judge
from tests.support.stack import Stack
from tests.support.victim import Victim, stop_a_sender

PHONES = 24_000
AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)  # a test may have killed the server
_numbers = count(1)

COUNTS = """
select coalesce(sum(audience), 0)::int as audience, coalesce(sum(planned + retry), 0)::int as open,
  coalesce(sum(accepted), 0)::int as accepted, coalesce(sum(rejected), 0)::int as rejected,
  coalesce(sum(cancelled), 0)::int as cancelled, coalesce(sum(in_doubt), 0)::int as in_doubt,
  coalesce(sum(dead), 0)::int as dead
from push_counts where push_no = $1
"""
CLOSED = "select closed_at is not null as closed from push where push_no = $1"


class Field:
    """A stack and the file of its devices."""

    def __init__(self, stack: Stack, file: Path, phones: int = PHONES) -> None:
        self.stack = stack
        self.file = file
        self.phones = phones
        self.log_start = 0  # where the sandbox's log stood when the field was last quiet
        self.playing: set[asyncio.Future[None]] = set()

    @classmethod
    async def make(cls, stack: Stack, phones: int = PHONES, mix: Mapping[str, int] = devices.THREE) -> Field:
        """Make the devices and import them."""
        file = stack.data.parent / "devices.jsonl"
        origins = [f"https://127.0.0.1:{port}" for port in stack.facts["sandbox"]["webpush"]]
        await asyncio.to_thread(devices.write, file, phones, origins, dead=0.0, mix=mix)
        await stack.cli("devices", "import", "demo", file)
        return cls(stack, file, phones)

    async def start(self, **spec: Any) -> Push:
        """Start a push to everybody."""
        id = f"t{os.getpid()}-{next(_numbers)}"
        given = {
            "app": "demo",
            "audience": {"everybody": True},
            "message": {"texts": {"default": {"title": f"Test {id}", "body": "A body"}}},
            **spec,
        }
        async with self.client() as clarion:
            await clarion.schedule_push(PushSpec.model_validate(given), id=id)
        return await self.find(id)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Clarion]:
        """The Python client: a program takes a second to begin, and says the same words."""
        facts = self.stack.facts
        async with await Clarion.connect(
            facts["temporal_address"], namespace=facts["namespace"], database_url=facts["database_url"]
        ) as clarion:
            yield clarion

    async def quiet(self) -> None:
        """No faults, and what a failed test has left is unblocked and cancelled. Not while a group plays."""
        if self.playing:
            return
        await self.stack.sandbox("POST", "/clear")
        async with self.stack.database() as db:
            left = await db.fetch("select push_id from push where closed_at is null")
        for row in left:
            await self.stack.cli("push", "unblock", row["push_id"], check=False)
            await self.stack.cli("push", "cancel", row["push_id"], check=False)
        self.log_start = self.stack.log.stat().st_size

    async def find(self, id: str) -> Push:
        """A push that somebody has started, however."""
        async with self.stack.database() as db:
            row = await _row(db, id)
        return Push(self, id, row["push_no"], row["key"])


async def _row(db: asyncpg.Connection[asyncpg.Record], id: str) -> asyncpg.Record:
    async with asyncio.timeout(20):
        while True:
            row = await db.fetchrow(
                "select push_no, 'clarion-' || to_hex(dedup_no) as key from push where push_id = $1", id
            )
            if row is not None:
                return row
            await asyncio.sleep(0.05)


class Push:
    """One push on the field."""

    def __init__(self, field: Field, id: str, push_no: int, key: str) -> None:
        self.field, self.stack = field, field.stack
        self.id, self.push_no, self.key = id, push_no, key
        self.alone = False  # all that the sandbox logs is this push's: not every vendor's request names one
        self.log_start = field.log_start

    async def counts(self) -> dict[str, int]:
        """The ledger's counters now, over all lanes."""
        return await self._asked(COUNTS, lambda _: True, 20.0)

    async def until(self, share: float, timeout: float = 60.0) -> dict[str, int]:
        """Wait until this share of all phones has an answer."""
        return await self._asked(
            COUNTS, lambda row: row["accepted"] + row["rejected"] >= share * self.field.phones, timeout
        )

    async def _asked(
        self, sql: str, enough: Callable[[asyncpg.Record], bool], timeout: float
    ) -> dict[str, Any]:
        """Ask about this push until it is enough. To connect costs more than to ask, so only after a kill."""
        async with asyncio.timeout(timeout):
            while True:
                with suppress(*AWAY):
                    async with self.stack.database() as db:
                        while (row := await db.fetchrow(sql, self.push_no)) is None or not enough(row):  # noqa: ASYNC110
                            await asyncio.sleep(0.05)
                        return dict(row)
                await asyncio.sleep(0.1)

    async def finished(self, timeout: float = 120.0) -> judge.Account:
        """Wait until it is closed; the judge's account."""
        await self._asked(CLOSED, lambda row: bool(row["closed"]), timeout)
        await asyncio.sleep(0.3)  # the sandbox writes its log at least every 0.2 s
        url = self.stack.facts["database_url"]
        return await judge.judge(self.field.file, self.stack.log, self.id, url, self._named(), self.log_start)

    def requests(self) -> list[dict[str, Any]]:
        """The sandbox's log of this push."""
        return list(judge.log_lines(self.stack.log, self._named(), self.log_start))

    def _named(self) -> str | None:
        """What names it in the sandbox's log."""
        return None if self.alone else self.key

    async def kill_a_sender(self) -> Victim:
        """Stop a sender that holds claimed rows, look at them, kill it. Fails if it held less than 100."""
        pids = [pid for name, pid in self.stack.pids("sender").items() if name != "sender-high"]
        async with self.stack.database() as db:
            victim = await stop_a_sender(db, self.push_no, pids)
        victim.kill(time.time())
        return victim

    def next_request_after(self, moment: float) -> float:
        """Seconds from a moment to the push's next request."""
        first: float = min(entry["t"] for entry in self.requests() if entry["t"] > moment)
        return first - moment

    async def command(self, *words: str) -> float:
        """One operator's command by the command line; when it had been acknowledged (epoch seconds)."""
        await self.stack.cli("push", words[0], self.id, *words[1:])
        return time.time()

    @asynccontextmanager
    async def handle(self) -> AsyncIterator[PushHandle]:
        """The client's handle on it."""
        async with self.field.client() as clarion:
            yield clarion.push(self.id)

    async def hurry(self) -> None:
        """No pace from now on: what a test had to see is seen."""
        async with self.handle() as handle:
            await handle.set_pace(None)

    async def shown(self) -> dict[str, Any]:
        """`clarion push show --json`."""
        shown: dict[str, Any] = json.loads(await self.stack.cli("push", "show", self.id, "--json"))[0]
        return shown
