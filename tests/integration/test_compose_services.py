"""docker-compose.yml's own services, without containers: the command lines as they are written there.

Every service of Clarion's image is started with its command and its environment, in the image's environment.
Only what a container network and its mounts would give is put in: the hosts' addresses, the directory of the
secrets, and for each service a port of its own in place of the one that all have inside their containers.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

import pytest
import yaml

from benchmarks import devices
from clarion.seal import Seal
from clarion.store.database import Database
from tests.support.temporal import running_temporal
from workers.embedded import demo, ports
from workers.embedded.binaries import postgres_programs, server_account
from workers.embedded.processes import base_environment
from workers.embedded.sandbox import Sandbox

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

ROOT = Path(__file__).resolve().parents[2]
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
OURS = {name: one for name, one in SERVICES.items() if "build" in one}
IMAGE = dict(re.findall(r"(?:^ENV|^   ) (\w+)=(\S+)", (ROOT / "Dockerfile").read_text(), re.MULTILINE))
PHONES = 400


class Compose:
    """The services on this machine's embedded servers."""

    def __init__(self, place: Path, database_url: str, temporal: str) -> None:
        self.place, self.temporal = place, temporal
        self.database = urlsplit(database_url)
        self.ports = {name: str(ports.free_port()) for name in OURS}
        self.secrets = {
            "database_password": self.database.password or "",
            "clarion_key": Seal.new_key(),
        }
        for name, value in self.secrets.items():
            (place / name).write_text(value + "\n")

    def here(self, service: str, text: str) -> str:
        """What a value of the file means on this machine."""
        for inside, outside in {
            "postgres:5432/clarion": f"127.0.0.1:{self.database.port}{self.database.path}",
            "temporal:7233": self.temporal,
            "/run/secrets": str(self.place),
            "0.0.0.0": "127.0.0.1",
            "9464": self.ports[service],
            "/app": str(ROOT),
        }.items():
            text = text.replace(inside, outside)
        return text

    async def run(
        self, service: str, command: Sequence[str], output: int | IO[bytes] = asyncio.subprocess.PIPE
    ) -> asyncio.subprocess.Process:
        """A command in a service's container."""
        given = {**IMAGE, **SERVICES[service]["environment"]}
        environment = {name: self.here(service, str(value)) for name, value in given.items()}
        environment["PATH"] = f"{Path(sys.executable).parent}:{os.defpath}"
        return await asyncio.create_subprocess_exec(
            *(self.here(service, word) for word in command),
            cwd=ROOT,
            env=environment,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
        )

    async def done(self, service: str, *command: str) -> str:
        """Run a command to its good end; what it printed."""
        process = await self.run(service, command)
        printed, _ = await asyncio.wait_for(process.communicate(), 60)
        assert process.returncode == 0, f"{service} {' '.join(command)}: {printed.decode()}"
        return printed.decode()

    async def healthy(self, service: str) -> None:
        """Wait until its health check says so, as compose does."""
        check = SERVICES[service]["healthcheck"]
        seconds = float(check["start_period"].removesuffix("s"))
        kind, *words = check["test"]
        assert kind == "CMD"
        end = time.monotonic() + seconds + check["retries"] * float(check["interval"].removesuffix("s"))
        log, printed = self.place / f"{service}.log", b"it does not say that it serves"
        while True:
            if '"serving"' in log.read_text():  # before that a check is only a program more that begins
                process = await self.run(service, words)
                printed, _ = await process.communicate()
                if process.returncode == 0:
                    return
            assert time.monotonic() < end, f"{service} is not healthy: {printed.decode()}\n{log.read_text()}"
            await asyncio.sleep(0.2)

    @asynccontextmanager
    async def up(self) -> AsyncIterator[dict[str, asyncio.subprocess.Process]]:
        """Every service that stays; told to end at the end, as `docker compose down` does."""
        running = {}
        try:
            for name, service in OURS.items():
                if service["restart"] != "no":
                    with (self.place / f"{name}.log").open("wb") as log:
                        running[name] = await self.run(name, service["command"], log)
            yield running
        finally:
            for process in running.values():
                if process.returncode is None:
                    process.kill()
                await process.wait()


async def completed(compose: Compose, db: Database, spec: Path, id: str) -> dict[str, int]:
    """Start a push in the control container, wait for its end; its counts over all lanes."""
    await compose.done("control", "clarion", "push", "start", str(spec), "--id", id)
    async with asyncio.timeout(60):
        while await db.fetchval("select closed_at from push where push_id = $1", id) is None:  # noqa: ASYNC110
            await asyncio.sleep(0.2)
    shown = json.loads(await compose.done("control", "clarion", "push", "show", id, "--json"))[0]
    assert shown["verdict"] == "completed", shown
    return {name: sum(lane[name] for lane in shown["lanes"]) for name in ("audience", "accepted")}


async def test_the_services_as_they_are_written(empty_database_url: str, tmp_path: Path) -> None:
    """Migrate, control and every sender: healthy, a push of each priority completes, SIGTERM ends them."""
    async with running_temporal() as temporal:
        compose = Compose(tmp_path, empty_database_url, temporal.address)
        await compose.done("migrate", *OURS["migrate"]["command"])
        await compose.done("migrate", *OURS["migrate"]["command"])  # `docker compose up` runs it every time
        sandbox = Sandbox(tmp_path, env=base_environment(), before=None)
        await sandbox.start()
        try:
            db = await Database.connect(empty_database_url)
            await demo.make(db, Seal.load(compose.secrets["clarion_key"]), sandbox.directory, sandbox.ports)
            file = tmp_path / "devices.jsonl"
            origins = [f"https://127.0.0.1:{port}" for port in sandbox.ports["webpush"]]
            devices.write(file, PHONES, origins, dead=0.0)
            async with compose.up() as running:
                for name in running:  # a check is a process, too: all at once would slow down what starts
                    await compose.healthy(name)
                await compose.done("control", "clarion", "devices", "import", "demo", str(file))
                for priority in ("normal", "high"):
                    spec = tmp_path / f"{priority}.yaml"
                    text = {"default": {"title": "Hello", "body": "there"}}
                    given = {"app": "demo", "audience": {"everybody": True}, "message": {"texts": text}}
                    spec.write_text(yaml.safe_dump(given | {"priority": priority}))
                    counts = await completed(compose, db, spec, f"a-{priority}-one")
                    assert counts == {"audience": PHONES, "accepted": PHONES}

                for process in running.values():
                    process.send_signal(signal.SIGTERM)
                for name, process in running.items():
                    grace = float(OURS[name]["stop_grace_period"].removesuffix("s"))
                    assert await asyncio.wait_for(process.wait(), grace) == 0
            await db.close()
        finally:
            await sandbox.stop()


async def test_postgres_says_that_it_is_ready(database_url: str) -> None:
    """Its health check, with the program of the same name; the port is the one thing that differs here."""
    kind, program, *words = SERVICES["postgres"]["healthcheck"]["test"]
    programs = postgres_programs(server_account())

    assert (kind, program) == ("CMD", "pg_isready")
    for port, code in ((str(urlsplit(database_url).port), 0), (str(ports.free_port()), 2)):
        process = await asyncio.create_subprocess_exec(
            programs / program, *words, env={"PGPORT": port}, stdout=asyncio.subprocess.DEVNULL
        )
        assert await process.wait() == code
