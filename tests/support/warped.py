"""A database of one connection whose time is the test's: `now()` and `clock_timestamp()` say what it sets.

A schema before pg_catalog in the search path holds functions of these names, so that the statements under
test run as they are.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import asyncpg

from clarion.store import database
from clarion.store.database import Database

START: Final = datetime(2031, 5, 6, 7, 8, 9, tzinfo=UTC)
_CLOCK: Final = """
create schema if not exists warp;
create or replace function warp.now() returns timestamptz language sql stable
  as $$ select current_setting('warp.now')::timestamptz $$;
create or replace function warp.clock_timestamp() returns timestamptz language sql stable
  as $$ select current_setting('warp.now')::timestamptz $$;
"""


class Warped(Database):
    """One connection. Use `await Warped.open(url)`."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self.connection = connection
        self.now = START

    @classmethod
    async def open(cls, url: str) -> Warped:
        """Connect, and put our clock before PostgreSQL's."""
        setup = await asyncpg.connect(url)
        await setup.execute(_CLOCK)
        await setup.close()
        connection = await asyncpg.connect(
            url, server_settings={"search_path": "warp, pg_catalog, clarion", "jit": "off"}
        )
        await database._prepare_connection(connection)
        warped = cls(connection)
        await warped.set_time(START)
        return warped

    async def set_time(self, now: datetime) -> None:
        """It is `now`, for every statement from here on."""
        self.now = now
        await self.connection.fetchval("select set_config('warp.now', $1, false)", now.isoformat())

    async def pass_time(self, seconds: float) -> None:
        """So many seconds go by."""
        await self.set_time(self.now + timedelta(seconds=seconds))

    async def close(self) -> None:
        """Close the connection."""
        await self.connection.close()

    async def fetch(self, sql: str, *args: Any, timeout: float | None = None) -> list[asyncpg.Record]:
        """All rows."""
        return await self.connection.fetch(sql, *args, timeout=timeout)

    async def fetchrow(self, sql: str, *args: Any, timeout: float | None = None) -> asyncpg.Record | None:
        """The first row, or None."""
        return await self.connection.fetchrow(sql, *args, timeout=timeout)

    async def fetchval(self, sql: str, *args: Any, timeout: float | None = None) -> Any:
        """The first column of the first row."""
        return await self.connection.fetchval(sql, *args, timeout=timeout)

    async def execute(self, sql: str, *args: Any, timeout: float | None = None) -> str:
        """Run a statement."""
        return await self.connection.execute(sql, *args, timeout=timeout)

    async def executemany(
        self, sql: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None
    ) -> None:
        """Run a statement for every tuple."""
        await self.connection.executemany(sql, args, timeout=timeout)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """The connection inside a transaction."""
        async with self.connection.transaction():
            yield self.connection
