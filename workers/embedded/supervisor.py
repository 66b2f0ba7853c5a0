"""The stack of `clarion dev`: what is started in which order, and what is written down about it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from clarion.errors import StackUnavailable
from clarion.seal import Seal
from clarion.settings import STACK_FILE, Settings, Stack
from clarion.store import migrate, worker
from clarion.store.database import Database
from workers.embedded import demo, ports, processes
from workers.embedded.keeper import Keeper
from workers.embedded.postgres import Postgres, write_private
from workers.embedded.sandbox import Sandbox
from workers.embedded.temporal import NAMESPACE, USUAL_PORT, USUAL_UI_PORT, Temporal

WORKERS_READY_SECONDS: Final = 60.0
STORE, TEMPORAL, SANDBOX, WORKERS = range(4)  # stages: stopped in reverse


@dataclass(frozen=True)
class Options:
    """What `clarion dev` was asked for."""

    data: Path
    senders: int = 3
    postgres_port: int | None = None
    temporal_port: int | None = None
    ui_port: int | None = None


class Supervisor:
    """Starts everything, keeps it alive and `stack.json` true, stops everything in order."""

    def __init__(self, options: Options, settings: Settings, say: Callable[[str], None]) -> None:
        """`say` gets one line for people."""
        self.options = options
        self.settings = settings
        self.data = options.data
        self.stack = Stack(namespace=NAMESPACE)
        self.keeper = Keeper(say, self._restarted)
        self._say = say
        self._sandbox: Sandbox | None = None
        self._before = _remembered(options.data)

    async def start(self) -> None:
        """Bring the whole stack up. Raises StackUnavailable with the one reason why not."""
        database_url = await self._start_postgres()
        applied = await migrate.migrate(database_url)
        if applied:
            self._say(f"the schema is at {applied[-1]}")
        self._learn(database_url=database_url)
        await self._start_temporal()
        db = await Database.connect(database_url, max_size=2, application_name="clarion-dev")
        try:
            await self._start_sandbox(db)
            await self._start_workers()
            await self._until_workers_serve(db)
        finally:
            await db.close()

    async def stop(self) -> None:
        """Stop everything; `stack.json` stays and remembers the ports."""
        await self.keeper.stop()
        self.write()

    def write(self) -> None:
        """Write down where everything is now, and which processes there are."""
        if self.stack.database_url is None:
            return  # nothing is up yet, and what the last run wrote is worth more
        pids = self.keeper.pids
        self._learn(pids=pids | {"supervisor": os.getpid()} if pids else {})
        self.stack.write(self.data)

    async def _restarted(self, name: str) -> None:
        """A child is back: its process id is another, and the sandbox may listen elsewhere."""
        if name == "sandbox" and self._sandbox is not None and self._sandbox.ports != self.stack.sandbox:
            db = await Database.connect(self.stack.database_url or "", application_name="clarion-dev")
            try:
                await self._make_demo(db, self._sandbox)
            finally:
                await db.close()
        self.write()

    def _learn(self, **facts: object) -> None:
        self.stack = self.stack.model_copy(update=facts)

    async def _start_postgres(self) -> str:
        """The database's URL: the environment's own server, or a child's."""
        if self.settings.database_url is not None:
            return self.settings.database_url.get_secret_value()
        usual = urlsplit(self._before.database_url).port if self._before.database_url else None
        postgres = Postgres(self.data, port=self.options.postgres_port, usual_port=usual)
        await self.keeper.start("postgres", postgres, stage=STORE)
        return postgres.url

    async def _start_temporal(self) -> None:
        usual = (
            _port_of(self._before.temporal_address) or USUAL_PORT,
            _port_of(self._before.temporal_ui) or USUAL_UI_PORT,
        )
        options = self.options
        temporal = Temporal(
            self.data,
            file=self.data / "temporal.db",
            port=options.temporal_port,
            ui_port=options.ui_port,
            usual_ports=usual,
        )
        await self.keeper.start("temporal", temporal, stage=TEMPORAL)
        self._learn(temporal_address=temporal.address, temporal_ui=temporal.ui_url)
        self._learn(temporal_http=temporal.http_url)
        self._learn(metrics={"temporal": temporal.metrics_port})

    async def _start_sandbox(self, db: Database) -> None:
        """The simulators, and the app `demo` that is at home there."""
        sandbox = Sandbox(self.data, env=processes.base_environment(), before=self._before.sandbox)
        await self.keeper.start("sandbox", sandbox, stage=SANDBOX)
        self._sandbox = sandbox
        await self._make_demo(db, sandbox)

    async def _make_demo(self, db: Database, sandbox: Sandbox) -> None:
        await demo.make(db, self._seal(), sandbox.directory, sandbox.ports)
        self._learn(sandbox=sandbox.ports)

    def _seal(self) -> Seal:
        """The environment's key, or one of our own in a file."""
        if self.settings.key is None and self.settings.key_file is None:
            file = self.data / "key"
            if not file.exists():
                write_private(file, Seal.new_key() + "\n")
            self._learn(key_file=file)
        else:
            self._learn(key_file=self.settings.key_file)
        return self.stack.seal(self.settings)

    async def _start_workers(self) -> None:
        wanted = processes.queues_of(self.options.senders)
        self._learn(metrics=self.stack.metrics | {name: ports.free_port() for name in wanted})
        for name, queues in wanted.items():
            log = self.data / "logs" / f"{name}.log"
            process = processes.worker(name, queues, self.stack, self._key(), log)
            await self.keeper.start(name, process, stage=WORKERS)
        self.write()

    def _key(self) -> Mapping[str, str]:
        if self.settings.key is not None:
            return {"CLARION_KEY": self.settings.key.get_secret_value()}
        return {"CLARION_KEY_FILE": str(self.stack.key_file)}

    async def _until_workers_serve(self, db: Database) -> None:
        """Wait until every worker process has told the store that it serves its queues."""
        deadline = asyncio.get_running_loop().time() + WORKERS_READY_SECONDS
        names = set(processes.queues_of(self.options.senders))
        while True:
            serving = {one.pid for one in await worker.list_workers(db)}
            missing = sorted(name for name in names if self.keeper.pids.get(name) not in serving)
            if not missing:
                return
            if asyncio.get_running_loop().time() > deadline:
                raise StackUnavailable(
                    f"{', '.join(missing)}: not serving after {WORKERS_READY_SECONDS:.0f} s"
                )
            await asyncio.sleep(0.1)


def _remembered(data: Path) -> Stack:
    """What the last run wrote down; whoever wrote it is not running now."""
    try:
        return Stack.model_validate_json((data / STACK_FILE).read_bytes())
    except (OSError, ValueError):
        return Stack()


def _port_of(address: str | None) -> int | None:
    if address is None:
        return None
    return urlsplit(address if "//" in address else f"//{address}").port
