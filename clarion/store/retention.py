"""Old deliveries go, a day at a time, and what campaigns were made of goes when nobody uses it any more.

What a push or a campaign has come to stays in its row and in the audit: an id is somebody's, for ever.

A day's partitions are detached without a lock that a sender would wait for, and dropped. Each step is found
again by what the database says, so that it may end anywhere and be repeated.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from clarion.store.database import Database
from clarion.store.sql import beside

SQL = beside(__file__)
PIECE: Final = 20_000  # members of a list in one statement
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
    for name, statement, first, beyond in await db.fetch(SQL.loose, days, now):
        await db.execute(SQL.ranges, first, beyond)
        await db.execute(statement, timeout=patience)
        dropped.append(name)
    return dropped


async def drop_unused(db: Database, days: int, *, now: datetime | None = None) -> tuple[int, int]:
    """Drop stored messages and user lists that nobody stored or named for so long; how many of each.

    Never one that an open campaign or push still needs. A list goes in pieces: nobody waits for a large one.
    """
    contents = int(await db.fetchval(SQL.contents, days, now))
    await db.execute(SQL.forget_lists, days, now)
    lists = [int(row["list_no"]) for row in await db.fetch(SQL.forgotten_lists)]
    for list_no in lists:
        while await db.fetchval(SQL.empty_list, list_no, PIECE):
            pass
        await db.execute(SQL.drop_list, list_no)
    return contents, len(lists)
