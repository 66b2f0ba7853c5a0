"""`clarion dev`: started, killed in parts, stopped, started again, as a process of its own."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg
import httpx
import pytest

import clarion
from clarion.settings import Stack
from tests.support.dev import CLARION, Dev, environment_of
from tests.support.eventually import eventually, is_alive
from tests.support.postgres import Databases, public_home

ROOT = Path(clarion.__file__).resolve().parent.parent
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
async def home() -> AsyncIterator[Dev]:
    """A data directory for all tests of this module, stopped and gone at the end."""
    place = public_home()
    made = Dev(place / "data")
    yield made
    if made.process is not None:
        await made.stop()
    shutil.rmtree(place)


@pytest.fixture
async def dev(home: Dev) -> Dev:
    """The stack, running whatever the test before did to it."""
    if home.process is None or home.process.poll() is not None:
        await home.start()
    return home


@contextmanager
def taken_port() -> Iterator[int]:
    """A port that somebody listens on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


async def ask(url: str, sql: str) -> object:
    """One value from one short connection."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


def mode(path: Path) -> int:
    """The permission bits."""
    return path.stat().st_mode & 0o777


def command(dev: Dev, *words: str) -> subprocess.CompletedProcess[str]:
    """Another command line that talks to this stack."""
    return subprocess.run([CLARION, *words, "--data", dev.data], capture_output=True, text=True, timeout=60)


async def test_says_where_everything_is(dev: Dev) -> None:
    """What it prints at the start are the addresses that answer."""
    stack = dev.stack()

    assert f"Temporal UI  {stack.temporal_ui}" in dev.printed()
    async with httpx.AsyncClient(follow_redirects=True) as http:
        assert (await http.get(str(stack.temporal_ui))).status_code == 200
    assert stack.database_url is not None
    assert await ask(stack.database_url, "select count(*) from clarion.credential") == 3


async def test_stack_file(dev: Dev) -> None:
    """stack.json is private and names every process, alive."""
    stack = dev.stack()

    assert mode(dev.data / "stack.json") == 0o600
    assert set(stack.pids) == {
        *("supervisor", "postgres", "temporal", "sandbox", "control", "sender-1", "sender-high")
    }
    assert all(is_alive(pid) for pid in stack.pids.values())


async def test_secrets_are_in_no_command_line(dev: Dev) -> None:
    """The password stands in no command line, no log and no output."""
    password = (dev.data / "postgres.password").read_text()
    logs = [path.read_text(errors="replace") for path in (dev.data / "logs").iterdir()]

    assert not any(password in text for text in [*dev.left(), *logs, dev.printed()])


async def test_commands_find_it(dev: Dev) -> None:
    """A command with `--data` talks to it."""
    ended = command(dev, "migrate")

    assert (ended.returncode, ended.stdout) == (0, "the schema is up to date\n")


async def test_senders_have_their_malloc(dev: Dev) -> None:
    """Senders run with the thresholds that they were measured with, control without."""
    pids = dev.stack().pids

    for name in ("sender-1", "sender-high"):
        assert environment_of(pids[name])["MALLOC_TRIM_THRESHOLD_"] == "16777216"
    assert "MALLOC_TRIM_THRESHOLD_" not in environment_of(pids["control"])


async def test_a_second_one_is_refused(dev: Dev) -> None:
    """Two stacks on one data directory are one line and exit code 1, and the first goes on."""
    before = dev.stack()
    ended = await asyncio.to_thread(command, dev, "dev")

    assert ended.returncode == 1
    assert ended.stderr == f"clarion dev: another `clarion dev` runs on {dev.data}\n"
    assert dev.stack() == before


@pytest.mark.parametrize("name", ["postgres", "temporal", "sandbox", "control", "sender-1"])
async def test_a_dead_child_comes_back(dev: Dev, name: str) -> None:
    """kill -9 of a child: one line says so, and it is back at the same addresses."""
    before = dev.stack()
    os.kill(before.pids[name], signal.SIGKILL)
    await eventually(
        lambda: dev.stack().pids.get(name, 0) not in (0, before.pids[name]), "it is back", seconds=60
    )
    after = dev.stack()

    assert f"{name} was killed by signal 9" in dev.printed()
    assert addresses(after) == addresses(before)
    assert not is_alive(before.pids[name])


def addresses(stack: Stack) -> tuple[object, ...]:
    """Where everything is."""
    return stack.database_url, stack.temporal_address, stack.temporal_ui, stack.sandbox


async def test_interrupt_stops_all_and_data_is_found_again(dev: Dev) -> None:
    """Ctrl-C ends every process; the next start has the same data at the same addresses."""
    before = dev.stack()
    assert before.database_url is not None
    await ask(before.database_url, "insert into clarion.app (name) values ('kept') returning app_no")

    assert await dev.stop() == 0
    assert dev.printed().endswith("stopping …\n")
    assert not dev.left()
    assert command(dev, "migrate").stderr.startswith(f"clarion: the stack in {dev.data} is not running")

    after = await dev.start()
    assert addresses(after) == addresses(before)
    assert await ask(before.database_url, "select count(*) from clarion.app where name = 'kept'") == 1


async def test_terminate_stops_all(dev: Dev) -> None:
    """SIGTERM is as good as Ctrl-C."""
    assert await dev.stop(signal.SIGTERM) == 0
    assert not dev.left()


async def test_interrupted_start(home: Dev) -> None:
    """Ctrl-C while it is still starting ends what is already there."""
    if home.process is not None:
        await home.stop()
    process = home.spawn()
    await eventually(lambda: "starting" in home.printed(), "it begins")
    await asyncio.sleep(0.3)
    process.send_signal(signal.SIGINT)

    assert await home.ended() == 0
    assert not home.left()


async def test_killed_supervisor(dev: Dev) -> None:
    """kill -9 of the supervisor: the children end by themselves, and the next start works at once."""
    before = dev.stack()
    await dev.stop(signal.SIGKILL)
    assert not dev.runs
    after = await dev.start()

    assert addresses(after) == addresses(before)
    assert not set(after.pids.values()) & set(before.pids.values())
    assert not any(is_alive(pid) for pid in before.pids.values())


@pytest.mark.parametrize("option", ["--temporal-port", "--postgres-port", "--ui-port"])
async def test_taken_port(home: Dev, option: str) -> None:
    """A taken port that was asked for is one clear line; nothing stays behind."""
    if home.process is not None:
        await home.stop()
    with taken_port() as port:
        home.spawn(option, str(port))

        assert await home.ended() == 1
    assert f"port {port} for " in home.printed().splitlines()[-1]
    assert home.printed().splitlines()[-1].startswith("clarion dev: ")
    assert not home.left()


async def test_from_a_private_checkout() -> None:
    """Application and data below a directory that only we may enter: it runs, and the mode stays."""
    place = Path(tempfile.mkdtemp(prefix="clarion-test-"))
    for room in ("clarion", "workflows", "activities", "workers", "starters"):
        shutil.copytree(ROOT / room, place / "app" / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", place / "app")
    dev = Dev(place / "data")
    try:
        stack = await dev.start(CLARION_HOME=str(place / "app"))
        assert environment_of(stack.pids["control"])["PYTHONPATH"].startswith(str(place / "app"))
        assert stack.database_url is not None
        assert await ask(stack.database_url, "select count(*) from clarion.credential") == 3
        assert mode(place) == 0o700
    finally:
        await dev.stop()
        shutil.rmtree((place / "data" / "postgres").resolve(), ignore_errors=True)
        shutil.rmtree(place)


async def test_unusable_database_of_the_user(tmp_path: Path) -> None:
    """A database that does not answer is one clear line."""
    dev = Dev(tmp_path / "data")
    dev.spawn(CLARION_DATABASE_URL="postgresql://clarion:secret@127.0.0.1:1/clarion")

    assert await dev.ended() == 1
    assert dev.printed().splitlines()[-1].startswith("clarion dev: PostgreSQL cannot be reached")
    assert "secret" not in dev.printed()
    assert not dev.left()


async def test_with_a_database_of_the_user(databases: Databases, tmp_path: Path) -> None:
    """CLARION_DATABASE_URL is used and migrated; no PostgreSQL is started beside it."""
    url = await databases.create()
    dev = Dev(tmp_path / "data")
    try:
        stack = await dev.start(CLARION_DATABASE_URL=url)
        assert "postgres" not in stack.pids
        assert stack.database_url == url
        assert await ask(url, "select count(*) from clarion.credential") == 3
    finally:
        await dev.stop()
        await databases.drop(url)
    assert not dev.left()
