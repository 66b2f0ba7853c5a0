"""A PostgreSQL 18 server for the session and a fresh, migrated database for each test.

Databases are copied from a template that was migrated once: a copy takes a few hundredths of a second.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import asyncpg

from clarion.store import migrate
from workers.embedded.postgres import Postgres

TEMPLATE: Final = "clarion_template"
MEMORY: Final = Path("/dev/shm")
ROOM: Final = 4 * 1024**3


class Databases:
    """Makes databases on one server and drops them."""

    def __init__(self, server: Postgres, admin: asyncpg.Connection) -> None:
        self.server = server
        self._admin = admin
        self._numbers = itertools.count(1)

    async def create(self, *, template: str = "template1") -> str:
        """A new database; its URL."""
        name = f"test_{next(self._numbers)}"
        await self._admin.execute(f"create database {name} template {template} strategy file_copy")
        return self.server.url_of(name)

    async def migrated(self) -> str:
        """A new database with Clarion's schema; its URL."""
        return await self.create(template=TEMPLATE)

    async def drop(self, url: str) -> None:
        """Drop it, whoever is still connected."""
        await self._admin.execute(f"drop database if exists {url.rsplit('/', 1)[1]} with (force)")


def public_home(*, throw_away: bool = False) -> Path:
    """A new directory that the server's user may enter, although the system makes temporary ones private.

    What is thrown away goes to memory where there is room: copying a database is copying 300 files.
    """
    roomy = throw_away and MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ROOM
    home = Path(tempfile.mkdtemp(prefix="clarion-test-", dir=MEMORY if roomy else None))
    home.chmod(0o755)
    return home


@asynccontextmanager
async def running_server(**options: bool) -> AsyncIterator[Postgres]:
    """A server on a data directory of its own; both are gone afterwards."""
    server = Postgres(public_home(throw_away=options.get("throw_away", False)), **options)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        shutil.rmtree(server.data, ignore_errors=True)
        shutil.rmtree(server.home)


@asynccontextmanager
async def running_databases() -> AsyncIterator[Databases]:
    """A server whose data need not survive the machine, with the migrated template in place."""
    async with running_server(throw_away=True) as server:
        admin = await asyncpg.connect(server.url_of("postgres"))
        try:
            await admin.execute(f"create database {TEMPLATE}")
            await migrate.migrate(server.url_of(TEMPLATE))
            yield Databases(server, admin)
        finally:
            await admin.close()
