"""Old deliveries go, a day at a time: what a push has come to stays in its row and in the audit.

A day's partitions are detached without a lock that a sender would wait for, and dropped. Each step is found
again by what the database says, so that it may end anywhere and be repeated.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from clarion.store.database import Database
from clarion.store.sql import beside

SQL = beside(__file__)
PATIENCE: Final = 60.0  # s for transactions that began before; what is left then is done the next time


async def drop_old(
    db: Database, days: int, *, now: datetime | None = None, patience: float = PATIENCE
) -> list[str]:
    """Drop the partitions of days that are past retention; their names. One process at a time.

    `now`: another clock than the database's. Raises TimeoutError when somebody's transaction takes longer
    than `patience` to end.
    """
    for (statement,) in [*await db.fetch(SQL.unfinished), *await db.fetch(SQL.old, days, now)]:
        await db.execute(statement, timeout=patience)
    dropped = []
    for name, statement in await db.fetch(SQL.loose, days, now):
        await db.execute(statement, timeout=patience)
        dropped.append(name)
    return dropped
