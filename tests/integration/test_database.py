"""The pool, its patience, and the migrations."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from clarion.errors import StackUnavailable, StoreUnavailable
from clarion.store import migrate
from clarion.store.database import Database, is_away


async def test_json_travels_as_values(db: Database) -> None:
    """jsonb and json go both ways as Python values; infinity is a number, not JSON."""
    value = {"a": [1, None, "Zürich 臺"], "b": {"c": 1.5}}

    assert await db.fetchval("select $1::jsonb", value) == value
    assert await db.fetchval("select $1::json", value) == value
    assert await db.fetchval("select 'Infinity'::real") == math.inf


async def test_a_transaction_is_all_or_nothing(db: Database) -> None:
    """What an exception leaves is nothing."""

    async def half() -> None:
        async with db.transaction() as connection:
            await connection.execute("insert into app (name) values ('half')")
            raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="no"):
        await half()

    assert await db.fetchval("select count(*) from app") == 0
    await db.executemany("insert into app (name) values ($1)", [("a",), ("b",)])
    assert [row["name"] for row in await db.fetch("select name from app order by 1")] == ["a", "b"]


async def test_a_call_outlives_its_connection(db: Database) -> None:
    """Every backend is killed in the middle: the same call is repeated on a new connection and answers."""
    calls = 0

    async def call() -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            await db.execute("select pg_terminate_backend(pg_backend_pid())")
        return await db.fetchval("select 42")

    assert await db.persist(call, patience=10) == 42
    assert calls == 2


async def test_patience_ends(db: Database) -> None:
    """A server that stays away is reported as such, without a foreign word."""

    async def call() -> None:
        raise ConnectionRefusedError("host 10.1.2.3")

    with pytest.raises(StoreUnavailable) as caught:
        await db.persist(call, patience=0.2)

    assert "10.1.2.3" not in str(caught.value)


async def test_a_hanging_server_is_given_up(db: Database) -> None:
    """Patience holds for a statement that never answers, too."""
    with pytest.raises(StoreUnavailable):
        await db.persist(lambda: db.execute("select pg_sleep(60)"), patience=0.3)


async def test_our_own_mistakes_are_not_repeated(db: Database) -> None:
    """A wrong argument or statement is raised at once; so is everything once the pool is closed."""
    with pytest.raises(asyncpg.exceptions.DataError):
        await db.persist(lambda: db.fetchval("select $1::int", "seven"))
    with pytest.raises(asyncpg.UndefinedTableError):
        await db.persist(lambda: db.fetchval("select 1 from nowhere"))


async def test_a_closed_pool_ends_the_patience(database_url: str) -> None:
    """Shutting down is not an outage: nobody waits for a pool that will not come back."""
    db = await Database.connect(database_url)
    await db.close()

    with pytest.raises(asyncpg.InterfaceError):
        await db.persist(lambda: db.fetchval("select 1"))


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (ConnectionResetError(), True),
        (TimeoutError(), True),
        (asyncpg.ConnectionDoesNotExistError(), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (asyncpg.InterfaceError("the server expects 1 argument for this query, 2 were passed"), False),
        (asyncpg.InternalClientError(), True),
        (asyncpg.CannotConnectNowError(), True),
        (asyncpg.AdminShutdownError(), True),
        (asyncpg.DeadlockDetectedError(), True),
        (asyncpg.DiskFullError(), True),
        (asyncpg.exceptions.DataError(), False),
        (asyncpg.UniqueViolationError(), False),
        (asyncpg.QueryCanceledError(), False),
        (ValueError(), False),
        (asyncio.CancelledError(), False),
    ],
)
def test_which_errors_mean_away(error: BaseException, away: bool) -> None:
    """A lost server is told apart from a mistake of ours and from being stopped."""
    assert is_away(error) is away


async def test_no_server_is_one_clear_error() -> None:
    """Nothing listens: the stack is unavailable, and the address is not repeated."""
    url = "postgresql://nobody:secret@127.0.0.1:1/none"
    with pytest.raises(StackUnavailable, match="ConnectionRefusedError") as caught:
        await Database.connect(url)
    assert "secret" not in str(caught.value)
    with pytest.raises(StackUnavailable):
        await migrate.migrate(url)


async def test_a_server_that_forgets_commits_is_refused(empty_database_url: str) -> None:
    """synchronous_commit off would acknowledge answers that a crash forgets."""
    name = empty_database_url.rsplit("/", 1)[1]
    connection = await asyncpg.connect(empty_database_url)
    await connection.execute(f"alter database {name} set synchronous_commit = off")
    await connection.close()

    with pytest.raises(StackUnavailable, match="synchronous_commit"):
        await Database.connect(empty_database_url)


async def test_a_server_that_has_become_read_only_is_away(empty_database_url: str) -> None:
    """A failover: what it refuses to write is repeated on new connections, until one of them may write."""
    name = empty_database_url.rsplit("/", 1)[1]
    db = await Database.connect(empty_database_url)
    await db.execute("create table public.written (n int)")
    admin = await asyncpg.connect(empty_database_url)
    await admin.execute(f"alter database {name} set default_transaction_read_only = on")
    await db.pool.expire_connections()
    tries = 0

    async def write() -> None:
        nonlocal tries
        tries += 1
        await db.execute("insert into public.written values (1)")

    writing = asyncio.create_task(db.persist(write))
    async with asyncio.timeout(20):
        while tries < 3:  # noqa: ASYNC110 - it happens in PostgreSQL
            await asyncio.sleep(0.02)
    assert not writing.done()
    await admin.execute("set default_transaction_read_only = off")
    await admin.execute(f"alter database {name} reset default_transaction_read_only")
    await admin.close()
    await asyncio.wait_for(writing, 20)

    assert await db.fetchval("select count(*) from public.written") == 1
    await db.close()


async def test_migrations_run_once(empty_database_url: str) -> None:
    """Two start together: one runs them all in order, the other finds nothing left; so does a third."""
    both = await asyncio.gather(*(migrate.migrate(empty_database_url) for _ in range(2)))
    names = [path.stem for path in migrate.files(migrate.DIRECTORY)]

    assert sorted(both, key=len) == [[], names]
    assert await migrate.migrate(empty_database_url) == []


async def test_a_failing_migration_leaves_nothing(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it is one transaction: a mistake in the second file undoes the first."""
    (tmp_path / "0001_good.sql").write_text("create table good (n int);")
    (tmp_path / "0002_bad.sql").write_text("create table bad (n nonsense);")
    monkeypatch.setattr(migrate, "DIRECTORY", tmp_path)
    with pytest.raises(asyncpg.UndefinedObjectError):
        await migrate.migrate(empty_database_url)

    (tmp_path / "0002_bad.sql").write_text("create table better (n int);")
    assert await migrate.migrate(empty_database_url) == ["0001_good", "0002_bad"]


async def test_an_older_release_says_so(
    empty_database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A schema that is newer than the files is not touched."""
    (tmp_path / "0001_one.sql").write_text("select 1;")
    (tmp_path / "0002_two.sql").write_text("select 2;")
    monkeypatch.setattr(migrate, "DIRECTORY", tmp_path)
    await migrate.migrate(empty_database_url)
    (tmp_path / "0002_two.sql").unlink()

    with pytest.raises(StackUnavailable, match="newer"):
        await migrate.migrate(empty_database_url)


@pytest.mark.parametrize("names", [("1_a.sql",), ("0001_a.sql", "0001_b.sql")])
def test_migration_files_have_an_order(tmp_path: Path, names: tuple[str, ...]) -> None:
    """A file without a number, or a number given twice, is refused."""
    for name in names:
        (tmp_path / name).write_text("select 1;")

    with pytest.raises(ValueError, match="NNNN_name"):
        migrate.files(tmp_path)


@pytest.mark.parametrize("url", ["nonsense", "http://127.0.0.1/x", "postgresql://x:y@127.0.0.1:notaport/z"])
async def test_what_is_no_database_url_is_named(url: str) -> None:
    """One clear line with what to give instead, and no password in it."""
    with pytest.raises(StackUnavailable, match="postgresql://user:password@host:port/database"):
        await Database.connect(url)


async def test_a_closed_port_is_named_without_the_password() -> None:
    """Where it was looked for, and what to check."""
    with pytest.raises(StackUnavailable, match=r"127\.0\.0\.1:1 .*CLARION_DATABASE_URL") as raised:
        await Database.connect("postgresql://x:secret@127.0.0.1:1/z")
    assert "secret" not in str(raised.value)
