"""What runs: a push as its workflow finds it again, the admission of a batch, and what housekeeping keeps."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from clarion.errors import NotFound
from clarion.store.database import Database
from clarion.store.push import OpenedPush
from clarion.store.sql import beside

SQL = beside(__file__)

HOUSEKEEPER: Final = (7141, 2)  # the advisory lock that one control process at a time holds


@dataclass(frozen=True, slots=True)
class Standing:
    """What people are shown of a push beside its work: counts by lane, pace, why lanes are blocked."""

    pace: float | None
    counts: dict[int, dict[str, int]]
    blocked: dict[int, str]


@dataclass(frozen=True, slots=True)
class Admission:
    """Whether an attempt may begin. `why` not: closed, held, deadline, blocked, leased.

    `wait`: seconds until its wave opens or its retries are due; `shut`: until the provider lets its lane go
    on (Retry-After).
    """

    why: str | None
    wait: float = 0.0
    shut: float = 0.0


@dataclass(frozen=True, slots=True)
class OpenPush:
    """A push whose books are not closed."""

    push_no: int
    push_id: str
    hold: int


async def known(db: Database, push_id: str) -> OpenedPush:
    """The push of this id, as `open_push` would find it. Raises NotFound."""
    row = await db.fetchrow(SQL.known, push_id)
    if row is None:
        raise NotFound(f"no push {push_id[:128]!r}")
    return OpenedPush(**row)


async def standing(db: Database, push_no: int) -> Standing:
    """Counts of a push by lane, from batch rows only."""
    rows = await db.fetch(SQL.standing, push_no)
    lanes = [row for row in rows if row["lane"] is not None]
    aside = ("push_no", "lane", "pace", "blocked_reason")
    return Standing(
        pace=rows[0]["pace"] if rows else None,
        counts={row["lane"]: {k: int(v) for k, v in row.items() if k not in aside} for row in lanes},
        blocked={row["lane"]: row["blocked_reason"] for row in lanes if row["blocked_reason"] is not None},
    )


async def admission(db: Database, push_no: int, batch: int) -> Admission:
    """Whether an attempt at this batch may begin now."""
    row = await db.fetchrow(SQL.admission, push_no, batch)
    return Admission("closed") if row is None else Admission(**row)


async def open_pushes(db: Database, *, grace: float) -> list[OpenPush]:
    """Every push that should have a running workflow, but those opened in the last `grace` seconds."""
    return [OpenPush(**row) for row in await db.fetch(SQL.open_pushes, grace)]


async def frequent_reason(db: Database, push_no: int, lane: int, among: Sequence[int]) -> int | None:
    """Which of these reasons rejected most rows of a lane."""
    number: int | None = await db.fetchval(SQL.frequent_reason, push_no, lane, among)
    return number


async def make_days(db: Database, ahead: int) -> None:
    """Partitions of the days from yesterday to `ahead` days ahead."""
    await db.execute(SQL.make_days, ahead)


async def to_retire(db: Database, limit: int) -> list[int]:
    """Pushes that have entries in the retire queue."""
    return [row["push_no"] for row in await db.fetch(SQL.unfinished_retirements, limit)]


@asynccontextmanager
async def housekeeper(db: Database) -> AsyncIterator[bool]:
    """Whether this process may keep house now; the lock goes with the connection, however it ends."""
    async with db.pool.acquire() as connection:
        mine: Any = await connection.fetchval("select pg_try_advisory_lock($1, $2)", *HOUSEKEEPER)
        try:
            yield bool(mine)
        finally:
            if mine:
                await connection.execute("select pg_advisory_unlock($1, $2)", *HOUSEKEEPER)
