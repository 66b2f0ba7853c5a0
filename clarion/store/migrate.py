"""Bring the schema up to date: the files migrations/NNNN_name.sql, run in order by alembic.

Each file is a revision whose number comes from its name; alembic keeps the version table and decides what
is left to run. All of it is one transaction under an advisory lock: it happens or it does not, and two
processes that start together do not meet.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import asyncpg
from alembic.runtime.migration import MigrationContext, RevisionStep
from alembic.script.base import Script
from alembic.script.revision import RevisionError, RevisionMap
from alembic.util import CommandError
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from clarion.errors import StackUnavailable
from clarion.store.database import MIN_SERVER_VERSION, SCHEMA, is_away

DIRECTORY: Final = Path(__file__).with_name("migrations")
_FILE: Final = re.compile(r"^(\d{4})_\w+\.sql$")
_LOCK: Final = 7141  # first key of our advisory locks; 0 = migrations, 1 = partitions


async def migrate(url: str) -> list[str]:
    """Run what is not applied yet; returns the names of the files that were run, none when up to date.

    Raises StackUnavailable when the server cannot be reached, is older than PostgreSQL 18, or its schema is
    newer than this release.
    """
    engine = create_async_engine(
        "postgresql+asyncpg://",
        async_creator=lambda: asyncpg.connect(url, server_settings={"search_path": SCHEMA}),
        poolclass=NullPool,
    )
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(_upgrade, files(DIRECTORY))
    except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if is_away(error):
            raise StackUnavailable(f"PostgreSQL cannot be reached: {type(error).__name__}") from error
        raise
    finally:
        await engine.dispose()


def files(directory: Path) -> list[Path]:
    """The migration files in order. Raises ValueError for a file whose name says no order, or one twice."""
    found = sorted(directory.glob("*.sql"))
    numbers = [path.name[:4] for path in found if _FILE.match(path.name)]
    if len(set(numbers)) != len(found):
        raise ValueError("migrations are named NNNN_name.sql, each number once")
    return found


def _upgrade(connection: Connection, paths: Sequence[Path]) -> list[str]:
    version = connection.scalar(text("show server_version_num")) or "0"
    if int(version) // 10_000 < MIN_SERVER_VERSION:
        raise StackUnavailable(f"PostgreSQL {MIN_SERVER_VERSION} or later is needed")
    connection.execute(text(f"select pg_advisory_xact_lock({_LOCK}, 0)"))
    connection.execute(text(f"create schema if not exists {SCHEMA}"))
    applied: list[str] = []
    revisions = _revisions(connection, paths, applied)
    context = MigrationContext.configure(
        connection=connection,
        opts={"fn": lambda heads, _: _steps(revisions, heads), "version_table_schema": SCHEMA},
    )
    context.run_migrations()
    return applied


def _revisions(connection: Connection, paths: Sequence[Path], applied: list[str]) -> RevisionMap:
    """A line of revisions, one a file, that note in `applied` what they ran."""
    scripts: list[Script] = []
    before: str | None = None
    for path in paths:
        module = ModuleType(path.stem)
        module.__dict__.update(down_revision=before, upgrade=_runner(connection, path, applied))
        before = path.name[:4]
        scripts.append(Script(module, before, str(path)))
    return RevisionMap(lambda: scripts)


def _runner(connection: Connection, path: Path, applied: list[str]) -> Callable[[], None]:
    def upgrade() -> None:
        # Only the driver's own simple protocol takes a file of many statements.
        raw: Any = connection.connection.dbapi_connection
        raw.run_async(lambda driver: driver.execute(path.read_text()))
        applied.append(path.stem)

    return upgrade


def _steps(revisions: RevisionMap, heads: Sequence[str]) -> list[RevisionStep]:
    """What lies between the database's version and ours, oldest first."""
    try:
        missing = list(revisions.iterate_revisions("head", tuple(heads) or "base"))
    except (RevisionError, CommandError) as error:
        raise StackUnavailable("the database's schema is newer than this release of Clarion") from error
    return [RevisionStep(revisions, script, True) for script in reversed(missing)]  # type: ignore[arg-type]
