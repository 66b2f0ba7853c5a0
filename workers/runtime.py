"""A worker process: connections, Temporal workers for its queues, and a good end on SIGTERM."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar

import asyncpg
import structlog
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client, Interceptor
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.runtime import (
    LogForwardingConfig,
    LoggingConfig,
    PrometheusConfig,
    Runtime,
    TelemetryConfig,
    TelemetryFilter,
)
from temporalio.service import RPCError
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner, SandboxRestrictions

from activities.audience import Audiences
from activities.campaign import Campaigns
from activities.close import Closing
from activities.commands import Commands
from activities.faults import Faults
from activities.feedback import Feedback, FeedbackPlan
from activities.housekeeping import Housekeeping
from activities.quota import Quota
from activities.registrations import Registrations
from activities.send import Sending
from activities.topics import Topics
from activities.work import Work
from clarion import limits, names, tracing
from clarion.errors import StackUnavailable
from clarion.process import SenderProcess, SenderSource
from clarion.quota.exchange import PostgresBoard
from clarion.quota.permits import Permits
from clarion.senders.null import NullLanes
from clarion.settings import Settings, Stack
from clarion.store import worker
from clarion.store.database import Database
from clarion.store.locales import Locales
from clarion.store.reasons import Reasons
from workers.metrics import Backlog, Page, free_port
from workers.slots import PoliteSlots, fair_share
from workflows.batch import BatchWorkflow
from workflows.campaign import CampaignWorkflow
from workflows.feedback import FeedbackWorkflow
from workflows.payloads import Forgiving
from workflows.push import PushWorkflow
from workflows.topic import TopicChangeWorkflow, TopicSendWorkflow

log = structlog.get_logger("clarion.workers")
T = TypeVar("T")

WORKFLOWS = [
    CampaignWorkflow,
    PushWorkflow,
    BatchWorkflow,
    TopicSendWorkflow,
    TopicChangeWorkflow,
    FeedbackWorkflow,
]
OPS_SLOTS = 40
BULK_SLOTS = 16
TOPIC_SLOTS = FEEDBACK_SLOTS = 4
RETRY = 1.0  # seconds between two tries to reach a server at the start

# Imported once, not again for every workflow run; the modules of the workflows themselves stay inside.
PASSTHROUGH = (
    *(
        "clarion",
        "activities",
        "workflows.calls",
        "workflows.details",
        "workflows.handout",
        "workflows.payloads",
        "workflows.start",
    ),
    *(
        "opentelemetry",
        "asyncpg",
        "hpack",
        "httpx",
        "orjson",
        "structlog",
        "pydantic",
        "pydantic_core",
        "annotated_types",
    ),
)


def runner() -> SandboxedWorkflowRunner:
    """The sandbox of workflow code."""
    return SandboxedWorkflowRunner(
        restrictions=SandboxRestrictions.default.with_passthrough_modules(*PASSTHROUGH)
    )


async def connect_temporal(
    stack: Stack, runtime: Runtime | None = None, interceptors: Sequence[Interceptor] = ()
) -> Client:
    """Temporal by its own configuration (TEMPORAL_*, profiles), with our converter."""
    config: dict[str, Any] = dict(ClientConfig.load_client_connect_config())
    given = {"target_host": stack.temporal_address, "namespace": stack.namespace}
    config |= {name: value for name, value in given.items() if value}
    config.setdefault("target_host", "127.0.0.1:7233")
    client = await Client.connect(
        **config, data_converter=pydantic_data_converter, runtime=runtime, interceptors=interceptors
    )
    await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=client.namespace))
    return client


def forgiving(client: Client) -> Client:
    """The same connection, for which an argument that is no JSON is a bad input and not a failed task."""
    config = client.config()
    config["data_converter"] = replace(config["data_converter"], payload_converter_class=Forgiving)
    return Client(**config)


def control_worker(client: Client, *, task_queue: str = names.CONTROL_QUEUE) -> Worker:
    """Workflow tasks, and nothing else: they never wait behind an activity's slot."""
    return Worker(
        forgiving(client),
        task_queue=task_queue,
        workflows=WORKFLOWS,
        workflow_runner=runner(),
        sticky_queue_schedule_to_start_timeout=timedelta(seconds=limits.STICKY_TIMEOUT),
        disable_eager_activity_execution=True,
    )


def activity_worker(
    client: Client, task_queue: str, activities: Sequence[Callable[..., Any]], *, slots: int
) -> Worker:
    """Activities of one queue, with slots of their own."""
    return Worker(
        client,
        task_queue=task_queue,
        activities=activities,
        max_concurrent_activities=slots,
        interceptors=[Faults()],
        graceful_shutdown_timeout=timedelta(seconds=5),
        disable_eager_activity_execution=True,
    )


def ops_worker(client: Client, db: Database) -> Worker:
    """Short activities: commands, work, quota. A pause never waits behind a freeze."""
    work, commands, quota, audiences = Work(db), Commands(db), Quota(db), Audiences(db)
    campaigns = Campaigns(db)
    activities: list[Callable[..., Any]] = [
        work.next_work,
        commands.command,
        commands.unblock_credentials,
        campaigns.open_campaign,
        campaigns.advance,
        campaigns.command,
        quota.acquire_quota,
        audiences.open_push,
        FeedbackPlan(db).to_ask,
    ]
    return activity_worker(client, names.OPS_QUEUE, activities, slots=OPS_SLOTS)


def bulk_worker(client: Client, db: Database) -> Worker:
    """Long activities: plan, freeze, retire, close."""
    audiences = Audiences(db)
    activities: list[Callable[..., Any]] = [
        audiences.plan,
        audiences.freeze,
        Registrations(db).retire_registrations,
        Closing(db).close,
    ]
    return activity_worker(client, names.BULK_QUEUE, activities, slots=BULK_SLOTS)


def topic_worker(client: Client, topics: Topics) -> Worker:
    """Words to FCM topics, in slots of their own: they do not wait behind batches."""
    activities: list[Callable[..., Any]] = [topics.send_topic, topics.change_topic]
    return activity_worker(client, names.TOPIC_QUEUE, activities, slots=TOPIC_SLOTS)


def feedback_worker(client: Client, feedback: Feedback) -> Worker:
    """Questions to providers, in slots of their own."""
    return activity_worker(client, names.FEEDBACK_QUEUE, [feedback.ask], slots=FEEDBACK_SLOTS)


def send_worker(client: Client, task_queue: str, sending: Sending, slots: PoliteSlots) -> Worker:
    """Sends of one provider and priority. It asks for one batch at a time: polling is a race."""
    return Worker(
        client,
        task_queue=task_queue,
        activities=[sending.send_batch],
        tuner=slots.tuner(),
        max_concurrent_activity_task_polls=1,
        interceptors=[Faults()],
        graceful_shutdown_timeout=timedelta(seconds=limits.GRACEFUL_SHUTDOWN),
        max_heartbeat_throttle_interval=timedelta(seconds=limits.HEARTBEAT_EVERY),
        default_heartbeat_throttle_interval=timedelta(seconds=limits.HEARTBEAT_EVERY),
        disable_eager_activity_execution=True,
    )


class Process:
    """One process: `await Process(queues, stack, settings).run()` until SIGTERM."""

    def __init__(self, queues: Sequence[str], stack: Stack, settings: Settings) -> None:
        self.queues = list(dict.fromkeys(queues))
        self._stack, self._settings = stack, settings
        self._stop = asyncio.Event()
        self._sending: Sending | None = None
        self._topics: Topics | None = None
        self._feedback: Feedback | None = None
        self._board: Database | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._made: Runtime | None = None
        self._page: Page | None = None
        self._traced: list[Interceptor] = []
        self._slots: dict[str, PoliteSlots] = {}

    async def run(self) -> None:
        """Serve the queues until told to stop, then drain. Raises what made a worker die."""
        loop = asyncio.get_running_loop()
        for told in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(told, self._stop.set)
        self._show()
        db = await self._until(self._connect_database, "PostgreSQL")
        client = await self._until(self._connect_temporal, "Temporal")
        if db is None or client is None:
            return
        number = await worker.register(db, socket.gethostname(), os.getpid(), self.queues)
        try:
            await self._serve(client, db, number)
        finally:
            await self._leave(db, number)

    def stop(self) -> None:
        """As SIGTERM does."""
        self._stop.set()

    def _housekeeping(self, db: Database, client: Client) -> Housekeeping:
        settings = self._settings
        return Housekeeping(
            db, client, retention_days=settings.retention_days, unused_days=settings.unused_days
        )

    async def _serve(self, client: Client, db: Database, number: int) -> None:
        process = await self._sender_process(db, number)
        workers = [self._worker(client, db, queue) for queue in self.queues]
        if self._topics is not None:
            workers.append(topic_worker(client, self._topics))
        if self._feedback is not None:
            workers.append(feedback_worker(client, self._feedback))
        self._spawn(self._say_seen(db, number))
        if names.BULK_QUEUE in self.queues:
            self._spawn(self._housekeeping(db, client).run())
            self._spawn(Backlog(db).run())
        if self._page is not None:
            self._spawn(self._page.delay.watch())
        running = [asyncio.ensure_future(one.run()) for one in workers]
        log.info("serving", queues=self.queues, worker=number)
        if process is not None:
            _settle_garbage()
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([stopping, *running, *self._tasks], return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        log.info("stopping", worker=number)
        # Answers wait for PostgreSQL as long as they may; a process that was told to leave may not for ever.
        loop = asyncio.get_running_loop()
        loop.call_later(limits.EXIT_SECONDS, os._exit, 1)
        if self._sending is not None:
            self._sending.leave()
        ended = await asyncio.gather(*(one.shutdown() for one in workers), *running, return_exceptions=True)
        if process is not None:
            await process.close()
        for outcome in [*ended, *(task.exception() for task in self._tasks if task.done())]:
            if isinstance(outcome, Exception):
                raise outcome

    def _worker(self, client: Client, db: Database, queue: str) -> Worker:
        if queue == names.CONTROL_QUEUE:
            return control_worker(client)
        if queue == names.OPS_QUEUE:
            return ops_worker(client, db)
        if queue == names.BULK_QUEUE:
            return bulk_worker(client, db)
        assert self._sending is not None
        slots = self._slots[queue] = PoliteSlots(fair_share(1))
        return send_worker(client, queue, self._sending, slots)

    async def _sender_process(self, db: Database, number: int) -> SenderProcess | None:
        """What all attempts of this process share, if it sends."""
        queues = [queue for queue in self.queues if queue.startswith("send-")]
        if not queues:
            return None
        self._board = await self._connect_pool(1, 2, "quota")  # an exchange never waits behind a STEP
        permits = Permits(
            PostgresBoard(self._board), number, urgent=any(queue.endswith("-high") for queue in queues)
        )
        senders = self._senders(db, queues)
        if names.send_queue("fcm") in queues:
            self._topics = Topics(db, senders, self._stack.seal(self._settings))
        if any(names.send_queue(provider) in queues for provider in names.TELLING):
            self._feedback = Feedback(db, self._stack.seal(self._settings))
        process = SenderProcess(
            db,
            senders,
            permits,
            number,
            await Reasons.load(db),
            await Locales.load(db),
        )
        self._sending = Sending(process)
        self._spawn(permits.run())
        return process

    def _senders(self, db: Database, queues: Sequence[str]) -> SenderSource:
        if set(queues) <= {names.send_queue("null"), names.send_queue("null", high=True)}:
            return NullLanes()
        from clarion.senders.lanes import Lanes  # only senders need the transport and its libraries

        return Lanes(db, self._stack.seal(self._settings))

    async def _connect_database(self) -> Database:
        if not self._stack.database_url:
            raise StackUnavailable("CLARION_DATABASE_URL is not set")
        sends = any(queue.startswith("send-") for queue in self.queues)
        db = await self._connect_pool(2, 6 if sends else 16, self.queues[0])
        try:
            await worker.list_workers(db)
        except asyncpg.UndefinedTableError:
            await db.close()
            raise StackUnavailable("the schema is not there yet: `clarion migrate` makes it") from None
        return db

    async def _connect_pool(self, least: int, most: int, name: str) -> Database:
        assert self._stack.database_url is not None
        return await Database.connect(
            self._stack.database_url, min_size=least, max_size=most, application_name=f"clarion {name}"
        )

    async def _connect_temporal(self) -> Client:
        try:
            return await connect_temporal(self._stack, self._runtime(), self._traced)
        except RPCError as error:
            raise StackUnavailable(f"its namespace cannot be used: {error.status.name}") from error
        except RuntimeError as error:
            raise StackUnavailable(f"no answer at {self._stack.temporal_address or 'its address'}") from error

    def _show(self) -> None:
        """The metrics page, if there is a port for it, and traces, if there is a place for them."""
        if self._settings.metrics_port is not None:
            self._core_port = free_port()
            self._page = Page(core_port=self._core_port)
            self._page.serve(self._settings.metrics_host, self._settings.metrics_port)
        if tracing.configure("clarion", os.environ.get("CLARION_PROCESS", self.queues[0])):
            from temporalio.contrib.opentelemetry import TracingInterceptor

            self._traced = [TracingInterceptor()]

    def _runtime(self) -> Runtime:
        """Temporal's core: its words go to our log, its metrics to our page if there is one."""
        metrics = None
        if self._page is not None:
            metrics = PrometheusConfig(
                bind_address=f"127.0.0.1:{self._core_port}",
                durations_as_seconds=True,
                unit_suffix=True,
                counters_total_suffix=True,
            )
        logs = LoggingConfig(
            filter=TelemetryFilter(core_level="WARN", other_level="ERROR"),
            forwarding=LogForwardingConfig(logger=logging.getLogger("temporalio.core")),
        )
        if self._made is None:  # once: a second one could not bind the port
            self._made = Runtime(telemetry=TelemetryConfig(logging=logs, metrics=metrics))
        return self._made

    async def _until(self, connect: Callable[[], Awaitable[T]], what: str) -> T | None:
        """Try until it answers, saying once why not; None if told to stop meanwhile."""
        said = ""
        while not self._stop.is_set():
            try:
                return await connect()
            except StackUnavailable as error:
                if str(error) != said:
                    said = str(error)
                    log.warning(f"waiting for {what}", reason=said)
            try:
                await asyncio.wait_for(self._stop.wait(), RETRY)
            except TimeoutError:
                continue
        return None

    def _spawn(self, work: Any) -> None:
        self._tasks.append(asyncio.ensure_future(work))

    async def _say_seen(self, db: Database, number: int) -> None:
        """Every five seconds; a database that is away for a while makes us gone for a while."""
        while True:
            await db.persist(lambda: worker.seen(db, number))
            if self._slots:
                alive = await db.persist(lambda: worker.list_workers(db))
                for queue, slots in self._slots.items():
                    slots.share = fair_share(sum(queue in one.queues for one in alive))
            await asyncio.sleep(limits.WORKER_SEEN_EVERY)

    async def _leave(self, db: Database, number: int) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            await db.persist(lambda: worker.leave(db, number), patience=2)
        except StackUnavailable:
            log.warning("left without saying so: PostgreSQL is away")
        await db.close()
        if self._board is not None:
            await self._board.close()


def _settle_garbage() -> None:
    """What lives as long as the process is never looked at again; deliveries make little garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)
