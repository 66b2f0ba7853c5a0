"""The embedded PostgreSQL, on real data directories."""

from __future__ import annotations

import asyncio
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from clarion.errors import StackUnavailable
from clarion.store.database import Database
from tests.support.eventually import eventually, is_alive
from tests.support.postgres import public_home, running_server
from workers.embedded.postgres import Postgres


@pytest.fixture(scope="module")
async def shared() -> AsyncIterator[Postgres]:
    """A server for the tests that leave its data usable."""
    async with running_server(throw_away=True) as made:
        yield made


@pytest.fixture
async def server(shared: Postgres) -> Postgres:
    """The shared server, running whatever the test before did to it."""
    if shared.child is None or not shared.child.running:
        await shared.start()
    return shared


@pytest.fixture
async def own_server() -> AsyncIterator[Postgres]:
    """A running server with data of its own, for tests that break it."""
    async with running_server(throw_away=True) as made:
        yield made


def mode(path: Path) -> int:
    """The permission bits."""
    return path.stat().st_mode & 0o777


async def ask(url: str, sql: str) -> object:
    """One value from one short connection."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_the_schema_is_there(db: Database) -> None:
    """A test's database comes migrated, with our schema in front."""
    assert await db.fetchval("select count(*) from app") == 0


async def test_databases_do_not_share(database_url: str, empty_database_url: str) -> None:
    """What one test's database holds is not in another's."""
    await ask(database_url, "create table clarion.mark (x int)")

    assert await ask(empty_database_url, "select to_regclass('clarion.mark')") is None


async def test_settings(server: Postgres) -> None:
    """It is PostgreSQL 18 with the settings that the engine was measured with."""
    shown = {
        name: await ask(server.url, f"show {name}") for name in ("max_wal_size", "jit", "random_page_cost")
    }

    assert shown == {"max_wal_size": "1GB", "jit": "off", "random_page_cost": "1.1"}
    assert str(await ask(server.url, "show server_version")).startswith("18")


async def test_only_with_the_password(server: Postgres) -> None:
    """Another user of the machine reaches the port but not the data."""
    anonymous = f"postgresql://clarion:guess@127.0.0.1:{server.port}/clarion"

    with pytest.raises(asyncpg.InvalidPasswordError):
        await ask(anonymous, "select 1")


async def test_password_file_is_private(server: Postgres) -> None:
    """Only the owner of the data directory can read the password."""
    assert (server.home / "postgres.password").stat().st_mode & 0o077 == 0


async def test_data_is_found_again(server: Postgres) -> None:
    """A second start works on what the first one left."""
    await ask(server.url, "create table if not exists kept (x int)")
    await server.stop()
    again = Postgres(server.home)
    await again.start()
    try:
        assert await ask(again.url, "select to_regclass('kept')::text") == "kept"
    finally:
        await again.stop()


async def test_starts_after_a_crash(server: Postgres) -> None:
    """kill -9 of the server costs nothing that was committed, and its number is reaped."""
    await ask(server.url, "create table if not exists kept (x int)")
    assert server.child is not None
    server.child.signal(signal.SIGKILL)

    assert await server.child.wait() == -signal.SIGKILL
    await server.start()
    assert await ask(server.url, "select to_regclass('kept')::text") == "kept"


async def test_stops_in_order(server: Postgres) -> None:
    """Stopping ends open sessions and leaves no lock file for the next start to wonder about."""
    connection = await asyncpg.connect(server.url)
    await server.stop()

    assert not (server.data / "postmaster.pid").exists()
    connection.terminate()


async def test_taken_port_is_one_clear_error() -> None:
    """A port that somebody asked for and that is taken is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        home = public_home()
        server = Postgres(home, port=port, throw_away=True)
        try:
            with pytest.raises(StackUnavailable, match=f"port {port} for PostgreSQL is taken"):
                await server.start()
        finally:
            shutil.rmtree(server.data, ignore_errors=True)
            shutil.rmtree(home)


async def test_other_major_version_is_one_clear_error(own_server: Postgres) -> None:
    """A data directory of another PostgreSQL is refused before anything touches it."""
    await own_server.stop()
    (own_server.data / "PG_VERSION").write_text("17\n")

    with pytest.raises(StackUnavailable, match="belongs to PostgreSQL 17"):
        await own_server.start()


async def test_two_servers_on_one_directory(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second server on the same data is refused after the time that an ending one is given."""
    monkeypatch.setattr("workers.embedded.child.GONE_SECONDS", 0.2)

    with pytest.raises(StackUnavailable, match="another PostgreSQL is running"):
        await Postgres(server.home).start()


async def test_in_a_private_directory() -> None:
    """A home that only we may enter works, although the server's user may not enter it."""
    home = Path(tempfile.mkdtemp())
    assert mode(home) == 0o700
    server = Postgres(home, throw_away=True)
    try:
        await server.start()
        assert await ask(server.url, "select 1") == 1
        assert mode(home) == 0o700
    finally:
        await server.stop()
        shutil.rmtree(server.data, ignore_errors=True)
        shutil.rmtree(home)


async def test_broken_creation_leaves_nothing_behind(own_server: Postgres) -> None:
    """A creation that was interrupted is started anew, not continued."""
    await own_server.stop()
    shutil.rmtree(own_server.data)
    draft = own_server.data.with_name("postgres.draft")
    draft.mkdir()
    (draft / "PG_VERSION").write_text("18\n")
    await own_server.start()

    assert await ask(own_server.url, "select 1") == 1
    assert not draft.exists()


async def test_logs_hold_no_values(server: Postgres) -> None:
    """A failed statement is logged without its text and without the row it failed on."""
    await ask(server.url, "create table twice (x text primary key)")

    with pytest.raises(asyncpg.UniqueViolationError):
        await ask(server.url, "insert into twice values ('secret-1'), ('secret-1')")

    log = (server.home / "logs" / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "secret-1" not in log


async def test_dies_with_its_parent() -> None:
    """A server whose supervisor is killed shuts down by itself."""
    home = public_home()
    script = (
        "import asyncio, pathlib, sys\n"
        "from workers.embedded.postgres import Postgres\n"
        "async def main():\n"
        "    server = Postgres(pathlib.Path(sys.argv[1]), throw_away=True)\n"
        "    await server.start()\n"
        "    print(server.child.pid, flush=True)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, str(home), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    try:
        await eventually(lambda: not is_alive(pid), "the server ends")
    finally:
        shutil.rmtree(home)
