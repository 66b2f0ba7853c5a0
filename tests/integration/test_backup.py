"""A dump of Clarion's database is a backup: restored elsewhere, pushes go on from what it says."""

from __future__ import annotations

import asyncio
import os
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from activities.housekeeping import Housekeeping
from clarion import limits
from clarion.client import Clarion
from clarion.store import migrate
from clarion.store.database import Database
from tests.support.engine import Push, running_engine
from tests.support.postgres import Databases
from tests.support.temporal import running_temporal
from workers.embedded.binaries import postgres_programs, server_account

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
PHONES = 3_000


async def tool(program: str, url: str, *words: str | Path) -> None:
    """One of PostgreSQL's own programs, on a database of ours."""
    place = urlsplit(url)
    environment = {
        "PATH": os.defpath,
        "PGHOST": place.hostname or "",
        "PGPORT": str(place.port),
        "PGDATABASE": place.path[1:],
        "PGUSER": place.username or "",
        "PGPASSWORD": place.password or "",
    }
    path = postgres_programs(server_account()) / program
    process = await asyncio.create_subprocess_exec(
        path, *words, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    printed, _ = await process.communicate()
    assert process.returncode == 0, printed.decode()


@pytest.mark.parametrize("paused", [True, False], ids=["paused", "sending"])
async def test_a_restored_dump_goes_on(
    databases: Databases, database_url: str, temporal_address: str, tmp_path: Path, paused: bool
) -> None:
    """Dumped in mid push and restored beside an empty Temporal: it stands until `resume`, then goes on.

    What was claimed in the moment of the dump counts as perhaps sent; what stood paused goes on exactly.
    """
    dump = tmp_path / "clarion.dump"
    db = await Database.connect(database_url, max_size=16)
    async with running_engine(db, temporal_address) as engine:
        app = await engine.app(PHONES, rate=1_500)
        push = await app.push()
        await push.accepted(500)
        if paused:
            await push.handle.pause("a backup")
            await asyncio.sleep(1)
        await tool("pg_dump", database_url, "--format=custom", f"--file={dump}")
        before = await push.counts()
        await push.handle.cancel()
        await push.result()
    await db.close()

    restored = await databases.create()
    await tool("pg_restore", restored, "--dbname", urlsplit(restored).path[1:], "--exit-on-error", dump)
    assert await migrate.migrate(restored) == []
    db = await Database.connect(restored, max_size=16)
    async with running_temporal() as empty, running_engine(db, empty.address) as engine:
        engine.clarion = Clarion(engine.client, db)
        push = Push(engine, engine.clarion.push(push.id))
        await db.execute("update push set created_at = now() - interval '1 min'")
        lost = await Housekeeping(db, engine.client).watch()
        hold = await push.held()
        after = await push.counts()
        await push.handle.resume()
        result = await push.result(60)
        counts = await push.counts()
    await db.close()
    await databases.drop(restored)

    assert lost == ([] if paused else [push.handle.workflow_id])
    assert hold["hold_by"] == ("operator" if paused else "clarion")
    assert (after == before) if paused else (after["accepted"] <= before["accepted"])
    assert result["verdict"] == "completed"
    assert (counts["audience"], counts["accepted"]) == (PHONES, PHONES)
    assert counts.get("redo", 0) <= (0 if paused else limits.WINDOW)


# ── the page ──────────────────────────────────────────────────────────────────────────────────────────────

ROOT = Path(__file__).resolve().parents[2]
SECTION = (ROOT / "docs" / "operations.md").read_text().split("## Backup and restore")[1].split("\n## ")[0]
COMMANDS = [line.removeprefix("$ docker compose ") for line in SECTION.splitlines() if line.startswith("$ ")]
SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]


async def as_written(command: str, url: str, place: Path) -> None:
    """`exec -T postgres …` of the page on a database of ours, with its redirection."""
    _, _, _, program, *words = shlex.split(command)
    name = urlsplit(url).path[1:]
    given: Path | None = None
    out: list[str | Path] = []
    for word in words:
        if word.startswith("<"):
            given = place / word[1:]
        elif word.startswith(">"):
            out.append(f"--file={place / word[1:]}")
        elif not word.startswith("--username="):  # ours has another name
            out.append({"clarion": name, "--dbname=clarion": f"--dbname={name}"}.get(word, word))
    await tool(program, url, *out, *([given] if given else []))


async def test_the_commands_of_the_page(databases: Databases, tmp_path: Path) -> None:
    """Dump, drop, create and restore, word for word: everything is there again, and nothing is to migrate."""
    url = await databases.migrated()
    before = await Database.connect(url)
    await before.execute("insert into app (name) values ('kept')")
    ours = [command for command in COMMANDS if command.startswith("exec -T postgres ")]
    programs = [command.split()[3] for command in ours]
    for command in ours:  # `before` is still connected: --force is there for that
        await as_written(command, url, tmp_path)
    await before.close()

    restored = await Database.connect(url)
    names = [row["name"] for row in await restored.fetch("select name from app")]
    await restored.close()
    assert await migrate.migrate(url) == []
    await databases.drop(url)
    assert programs == ["pg_dump", "dropdb", "createdb", "pg_restore"]
    assert names == ["kept"]


def test_the_services_of_the_page() -> None:
    """Every service that it names is one, and it stops all those that would write."""
    named = {word for command in COMMANDS for word in command.split()[:4] if "postgres" in word}
    stopped = next(command.split()[1:] for command in COMMANDS if command.startswith("stop "))
    workers = {name for name, one in SERVICES.items() if "build" in one and one["restart"] != "no"}

    assert named == {"postgres", "temporal-postgres"}
    assert named <= set(SERVICES)
    assert set(stopped) == workers
    assert "run --rm migrate" in COMMANDS
