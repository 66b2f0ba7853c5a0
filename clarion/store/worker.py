"""The processes that serve queues. Their numbers are never reused: a process that died keeps its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from clarion import limits, names
from clarion.store.database import Database
from clarion.store.sql import beside

SQL = beside(__file__)


@dataclass(frozen=True, slots=True)
class Worker:
    """One process. `alive`: it serves its queues and was seen lately."""

    worker_no: int
    host: str
    pid: int
    queues: tuple[str, ...]
    started_at: datetime
    seen_at: datetime
    alive: bool


async def register(db: Database, host: str, pid: int, queues: Sequence[str]) -> int:
    """A new process with these queues; its number."""
    return int(await db.fetchval(SQL.register, host, pid, list(queues)))


async def seen(db: Database, worker_no: int) -> None:
    """It is still here. To be said every `limits.WORKER_SEEN_EVERY` seconds."""
    await db.execute(SQL.seen, worker_no)


async def leave(db: Database, worker_no: int) -> None:
    """It ends in good order: from now on it serves nothing."""
    await db.execute(SQL.leave, worker_no)


async def list_workers(db: Database, *, gone_too: bool = False) -> list[Worker]:
    """The processes that are alive, newest first; with `gone_too` every one that ever was."""
    rows = await db.fetch(SQL.list, limits.SENDER_GONE, gone_too)
    return [Worker(**{**row, "queues": tuple(row["queues"])}) for row in rows]


async def no_sender_since(db: Database, provider: str, *, high: bool = False) -> datetime | None:
    """When the last sender of this queue was seen, None while one is alive.

    A queue that nobody ever served has had no sender since the epoch (1970).
    """
    since: datetime | None = await db.fetchval(
        SQL.no_sender_since, names.send_queue(provider, high=high), limits.SENDER_GONE
    )
    return since
