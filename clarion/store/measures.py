"""What metrics are made of where the ledger alone knows it: see `clarion.telemetry`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import asyncpg

from clarion.store.database import Database
from clarion.store.sql import beside

SQL = beside(__file__)

MEASURER: Final = (7141, 3)  # the advisory lock of the process that says how much is pending


async def close_push(db: Database, push_no: int) -> tuple[dict[str, Any] | None, bool]:
    """As `push.close_push`, and whether it was closed by this very call: true once in the life of a push."""
    row = await db.fetchrow(SQL.close_push, push_no)
    assert row is not None
    return row["result"], bool(row["now"])


async def unanswered(db: Database, push_no: int) -> tuple[int, list[tuple[str, str, int]]]:
    """Priority of a closed push; (provider, state, rows) of what ended without an answer."""
    rows = await db.fetch(SQL.unanswered, push_no)
    priority: int = rows[0]["priority"] if rows else 3
    return priority, [(row["provider"], row["state"], row["n"]) for row in rows]


@asynccontextmanager
async def measurer(db: Database) -> AsyncIterator[asyncpg.Connection[asyncpg.Record] | None]:
    """The connection that makes this process the one measurer, for as long as it lives; None: another is."""
    async with db.pool.acquire() as connection:
        mine = await connection.fetchval("select pg_try_advisory_lock($1, $2)", *MEASURER)
        try:
            yield connection if mine else None  # type: ignore[misc]  # a proxy that has all its methods
        finally:
            if mine and not connection.is_closed():
                await connection.execute("select pg_advisory_unlock($1, $2)", *MEASURER)


async def pending(connection: asyncpg.Connection[asyncpg.Record]) -> dict[int, int]:
    """Rows without a final state, by the priority of their push."""
    return {row["priority"]: row["n"] for row in await connection.fetch(SQL.pending)}
