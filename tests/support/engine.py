"""The engine in one process: real PostgreSQL and Temporal, every worker, a provider that is not there."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any
from uuid import uuid4

from temporalio.client import Client, WorkflowHandle
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Worker

from activities.send import Sending
from clarion import names
from clarion.client import Clarion, PushHandle
from clarion.model.audience import Audience
from clarion.model.message import Message, Text
from clarion.model.spec import PushSpec
from clarion.process import SenderProcess
from clarion.quota.exchange import PostgresBoard
from clarion.quota.permits import Permits
from clarion.senders.null import NullLanes, NullSender
from clarion.store import worker
from clarion.store.database import Database
from clarion.store.locales import Locales
from clarion.store.reasons import Reasons
from tests.support.sending import FreePermits
from workers import runtime
from workers.slots import PoliteSlots

MESSAGE = Message(texts={"default": Text(title="Hello", body="there")})
COUNTS = (
    *("audience", "planned", "retry", "accepted", "rejected", "suppressed", "expired", "cancelled"),
    *("dead", "in_doubt", "redo", "maybe"),
)


class Permitted:
    """Real permits for the lanes in `dealt`, which then start slowly; the others go as fast as they can."""

    def __init__(self, real: Permits) -> None:
        self.real, self.free = real, FreePermits()
        self.dealt: set[str] = set()

    def open(self, lane_key: str, push_no: int, urgent: bool) -> Any:
        """A tap of one or the other."""
        return (self.real if lane_key in self.dealt else self.free).open(lane_key, push_no, urgent)

    def heard(self, lane_key: str, good: int, bad: int, throttled: int, retry_after: float) -> None:
        """Pass it on."""
        one = self.real if lane_key in self.dealt else self.free
        one.heard(lane_key, good, bad, throttled, retry_after)


class Engine:
    """Workers on the usual queues of one Temporal server, over one database."""

    def __init__(self, db: Database, client: Client, lanes: NullLanes, permits: Permitted) -> None:
        self.db, self.client, self.lanes, self.permits = db, client, lanes, permits
        self.clarion = Clarion(client)
        self._apps = count(1)
        self.senders: list[tuple[Worker, Sending]] = []

    async def app(self, phones: int, *, rate: float = float("inf"), dealt: bool = False) -> App:
        """A new app with so many users of one phone each, on one lane that answers so fast.

        `dealt`: its sends need permits, as in life.
        """
        name = f"app{next(self._apps)}"
        app_no = await self.db.fetchval("insert into app (name) values ($1) returning app_no", name)
        await self.db.execute(
            "insert into credential (app_no, lane, name, provider) values ($1, 1, 'one', 'null')", app_no
        )
        await self.db.execute(
            "insert into usr (app_no, user_id) select $1, 'u' || n from generate_series(1, $2) n",
            app_no,
            phones,
        )
        await self.db.execute(
            "insert into device (app_no, installation, user_no, platform)"
            " select app_no, gen_random_uuid(), user_no, 1 from usr where app_no = $1",
            app_no,
        )
        await self.db.execute(
            "insert into registration (device_no, user_no, app_no, lane, token)"
            " select device_no, user_no, app_no, 1, 't' || device_no from device where app_no = $1",
            app_no,
        )
        sender = await self.lanes.get(app_no, 1)
        sender.rate = rate
        sender.streams = 1_000 if rate == float("inf") else 40
        if dealt:
            self.permits.dealt.add(f"{app_no}.1")
        return App(self, name, app_no, sender)

    async def start_raw(self, workflow: str, workflow_id: str, *inputs: Any) -> WorkflowHandle[Any, Any]:
        """As another language would start it."""
        return await self.client.start_workflow(
            workflow, args=inputs, id=workflow_id, task_queue=names.CONTROL_QUEUE
        )


class App:
    """One app of the engine, its phones and its sender."""

    def __init__(self, engine: Engine, name: str, app_no: int, sender: NullSender) -> None:
        self.engine, self.name, self.app_no, self.sender = engine, name, app_no, sender

    async def second_lane(self, every: int) -> NullSender:
        """Another lane, by which every so many-th phone has an address, too."""
        db = self.engine.db
        await db.execute(
            "insert into credential (app_no, lane, name, provider) values ($1, 2, 'two', 'null')", self.app_no
        )
        await db.execute(
            "insert into registration (device_no, user_no, app_no, lane, token)"
            " select device_no, user_no, app_no, 2, 's' || device_no from device"
            " where app_no = $1 and device_no % $2 = 0",
            self.app_no,
            every,
        )
        return await self.engine.lanes.get(self.app_no, 2)

    def spec(self, **more: Any) -> PushSpec:
        """A push to everybody."""
        return PushSpec(app=self.name, message=MESSAGE, audience=Audience(everybody=True), **more)

    async def push(self, *, id: str | None = None, **more: Any) -> Push:
        """Start one."""
        handle = await self.engine.clarion.schedule_push(
            self.spec(**more), id=id or f"{self.name}-{uuid4().hex[:6]}"
        )
        return Push(self.engine, handle)


class Push:
    """A running push: its handle and its rows."""

    def __init__(self, engine: Engine, handle: PushHandle) -> None:
        self.engine, self.handle = engine, handle
        self.id = handle.id

    async def counts(self) -> dict[str, int]:
        """The counts of the ledger that are not 0."""
        row = await self.engine.db.fetchrow(
            f"select {', '.join(f'sum({name}) as {name}' for name in COUNTS)}"
            " from push_counts join push using (push_no) where push_id = $1",
            self.id,
        )
        assert row is not None
        return {name: int(number) for name, number in row.items() if number}

    async def accepted(self, at_least: int, *, seconds: float = 15.0) -> int:
        """Wait until so many are accepted."""
        async with asyncio.timeout(seconds):
            while (now := (await self.counts()).get("accepted", 0)) < at_least:  # noqa: ASYNC110  # rows
                await asyncio.sleep(0.02)
        return now

    async def held(self, *, seconds: float = 10.0) -> Any:
        """Wait until somebody holds it: hold, hold_by, hold_reason."""
        async with asyncio.timeout(seconds):
            while not (row := await self.row("hold, hold_by, hold_reason")) or not row["hold"]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        return row

    async def opened(self, *, seconds: float = 15.0) -> None:
        """Wait until it has a row."""
        async with asyncio.timeout(seconds):
            while await self.row("push_no") is None:  # noqa: ASYNC110  # rows
                await asyncio.sleep(0.02)

    async def row(self, columns: str) -> Any:
        """Columns of its row."""
        return await self.engine.db.fetchrow(f"select {columns} from push where push_id = $1", self.id)

    async def result(self, seconds: float = 30.0) -> dict[str, Any]:
        """Its workflow's result."""
        async with asyncio.timeout(seconds):
            return await self.handle.result()


@asynccontextmanager
async def running_engine(db: Database, temporal_address: str) -> AsyncIterator[Engine]:
    """Start every worker; at the end nothing runs on."""
    client = await Client.connect(temporal_address, data_converter=pydantic_data_converter)
    number = await worker.register(
        db, "test", 1, [names.send_queue("null"), names.send_queue("null", high=True)]
    )
    permits = Permits(PostgresBoard(db), number)
    lanes = NullLanes()
    permitted = Permitted(permits)
    reasons, locales = await Reasons.load(db), await Locales.load(db)
    process = SenderProcess(db, lanes, permitted, number, reasons, locales)  # type: ignore[arg-type]
    engine = Engine(db, client, lanes, permitted)
    beside = [asyncio.ensure_future(work) for work in (permits.run(), _say_seen(db, number))]
    async with contextlib.AsyncExitStack() as stack:
        for made in (
            runtime.control_worker(client),
            runtime.ops_worker(client, db),
            runtime.bulk_worker(client, db),
            runtime.send_worker(client, names.send_queue("null"), Sending(process), PoliteSlots(8)),
        ):
            await stack.enter_async_context(made)
        yield engine
        await _end_everything(client)
    for task in beside:
        task.cancel()
    await asyncio.gather(*beside, return_exceptions=True)


async def _say_seen(db: Database, number: int) -> None:
    while True:
        await worker.seen(db, number)
        await asyncio.sleep(2)


async def _end_everything(client: Client) -> None:
    """Whatever a failed test left running must not meet the next one's database."""
    async for execution in client.list_workflows("ExecutionStatus = 'Running'"):
        with contextlib.suppress(Exception):
            await client.get_workflow_handle(execution.id).terminate()
