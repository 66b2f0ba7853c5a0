"""Devices and their addresses: registering, looking up, ending.

Registering says: this installation belongs to this user, and is reached at this address. Whatever else was
known is corrected by it in one statement: all addresses of the installation move to the user, a token known
under another installation moves and keeps its number, an address that had been retired is active again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from clarion import limits
from clarion.errors import BadRegistration
from clarion.model.ledger import Reason
from clarion.store.database import Database
from clarion.store.intake import KINDS, PLATFORMS, Intake, Row
from clarion.store.locales import Locales
from clarion.store.sql import beside

SQL = beside(__file__)
STATUS: Final = {1: "active", 2: "inactive", 3: "unregistered"}
UNSEEN_DAYS: Final = 90
_RACES: Final = 10  # a token that races to several installations: repeat so often
_KIND_NAMES: Final = {number: name for name, number in KINDS.items()}
_PLATFORM_NAMES: Final = {number: name for name, number in PLATFORMS.items()}
_OF_THE_DEVICE: Final = Row._fields[Row._fields.index("app_version") :]

# What PostgreSQL or its driver says of a value that it cannot take.
REFUSED: Final = (
    asyncpg.DataError,
    asyncpg.exceptions.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.ProgramLimitExceededError,
    UnicodeEncodeError,
)


@dataclass(frozen=True, slots=True)
class Registered:
    """What became of a set of registrations; `numbers` in the order they were given."""

    inserted: int
    updated: int
    duplicate: int
    numbers: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Registration:
    """An address and its device as people see them. `fingerprint` tells tokens apart without showing one."""

    registration_no: int
    user_id: str
    installation: str
    platform: str
    lane: str
    provider: str
    kind: str
    status: str
    fingerprint: str  # the first 8 hex digits of the token's SHA-256
    app_version: str | None
    model: str | None
    os_version: str | None
    manufacturer: str | None
    google_services: bool | None
    locale: str
    zone: str | None
    created_at: datetime
    registered_at: datetime
    updated_at: datetime
    last_active: datetime
    retired_at: datetime | None
    retired_reason: int


async def register(
    db: Database, locales: Locales, intake: Intake, fields: Sequence[Mapping[str, Any]]
) -> Registered:
    """Register a few devices, none when one is wrong; of two that mean the same address the later counts.

    Raises BadRegistration, which names the place in the sequence and the field.
    """
    rows = []
    for place, one in enumerate(fields):
        try:
            rows.append(intake.check(one))
        except BadRegistration as error:
            raise BadRegistration(f"device {place}: {error}" if len(fields) > 1 else str(error)) from None
    kept, dropped = without_duplicates(rows)
    stamp = await db.fetchval("select clock_timestamp()")
    try:
        done = await write(db, locales, intake.app_no, stamp, kept, numbered=True)
    except asyncpg.UniqueViolationError:
        # What one row knows by its token and another one by its installation is the same phone.
        done = await _one_by_one(db, locales, intake.app_no, stamp, kept)
    return Registered(done.inserted, done.updated, done.duplicate + dropped, done.numbers)


async def set_badge(db: Database, registrations: Sequence[int], number: int) -> None:
    """The app on these phones shows this number now: what counts ("+1") goes on from it."""
    await db.execute(SQL.set_badge, registrations, min(number, limits.MOST_BADGE))


async def _one_by_one(
    db: Database, locales: Locales, app_no: int, stamp: datetime, rows: Sequence[Row]
) -> Registered:
    all_done = [await write(db, locales, app_no, stamp, [row], numbered=True) for row in rows]
    return Registered(
        sum(done.inserted for done in all_done),
        sum(done.updated for done in all_done),
        sum(done.duplicate for done in all_done),
        tuple(done.numbers[0] for done in all_done),
    )


def without_duplicates(rows: Sequence[Row]) -> tuple[list[Row], int]:
    """The rows that no later one repeats (same token, or same installation, lane and kind), and how many
    were repeated. Rows of one installation that stay lend one another what they know of the device."""
    taken: set[object] = set()
    kept = []
    for row in reversed(rows):
        token = (row.lane, row.digest)
        place = (row.installation or row.fallback, row.lane, row.kind)
        if token not in taken and place not in taken:
            kept.append(row)
        taken.add(token)
        taken.add(place)
    kept.reverse()
    return list(_completed(kept)), len(rows) - len(kept)


def _completed(rows: Sequence[Row]) -> Iterator[Row]:
    known: dict[str, Row] = {}
    for row in rows:
        installation = row.installation
        if installation is not None:
            if installation in known:
                row = _lent(row, known[installation])
            known[installation] = row
        yield row


def _lent(row: Row, earlier: Row) -> Row:
    gaps = {name: getattr(earlier, name) for name in _OF_THE_DEVICE if getattr(row, name) in (None, "")}
    return row._replace(**gaps) if gaps else row


async def write(
    db: Database,
    locales: Locales,
    app_no: int,
    stamp: datetime,
    rows: Sequence[Row],
    *,
    numbered: bool = False,
) -> Registered:
    """Register checked rows without duplicates, in one statement. `stamp` is one for all of an import."""
    if not rows:
        return Registered(0, 0, 0, ())
    row = await _raced(db, SQL.register, app_no, stamp, *await _columns(db, locales, rows), numbered)
    return Registered(row["inserted"], row["updated"], row["duplicate"], tuple(row["numbers"] or ()))


async def take_in(
    db: Database, locales: Locales, app_no: int, stamp: datetime, rows: Sequence[Row]
) -> tuple[Registered, list[Row]]:
    """Register those of a file's rows that are plain: wholly new, or wholly known. The others come back:
    they are for `write`. One statement, a fraction of what `write` takes."""
    if not rows:
        return Registered(0, 0, 0, ()), []
    row = await _raced(db, SQL.take_in, app_no, stamp, *await _columns(db, locales, rows))
    # The users of the rest are known by now, with all that the file says of them.
    rest = [rows[place - 1]._replace(profile=None) for place in row["rest"] or ()]
    return Registered(row["inserted"], row["updated"], row["duplicate"], ()), rest


async def _columns(db: Database, locales: Locales, rows: Sequence[Row]) -> list[Sequence[Any]]:
    """What stands in the rows, an array for each field, as the SQL functions take it."""
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    numbers = {tag: await locales.intern(db, tag) for tag in set(columns[13])}
    columns[13] = [numbers[tag] or None for tag in columns[13]]
    columns[3] = [fallback or None for fallback in columns[3]]
    return columns


async def _raced(db: Database, sql: str, *args: Any) -> asyncpg.Record:
    """The row that the statement answers; again when another one was faster with the same address."""
    for race in range(_RACES):
        try:
            row = await db.fetchrow(sql, *args)
        except asyncpg.UniqueViolationError:
            if race == _RACES - 1:
                raise
            await asyncio.sleep(0.01 * race)
        else:
            assert row is not None
            return row
    raise AssertionError


async def seen(db: Database, app_no: int, installation: str) -> bool:
    """The app was opened there: it is active now, and so are addresses that were only unseen."""
    return await db.fetchval(SQL.seen, app_no, installation, int(Reason.UNSEEN)) is not None


async def unregister(db: Database, app_no: int, installation: str) -> int:
    """The user logged out there: nothing is sent to it until it registers again. How many addresses ended."""
    return int(await db.fetchval(SQL.unregister, app_no, installation))


async def list_registrations(
    db: Database,
    locales: Locales,
    app_no: int,
    *,
    user_id: str | None = None,
    platform: str | None = None,
    active: bool = False,
    after: int = 0,
    limit: int = 100,
) -> list[Registration]:
    """Addresses in order of their numbers: of one user, or all after the number `after`."""
    if platform is not None and platform not in PLATFORMS:
        raise BadRegistration(f"platform must be one of {', '.join(PLATFORMS)}")
    rows = await db.fetch(
        SQL.of_user if user_id is not None else SQL.of_app,
        app_no,
        user_id if user_id is not None else after,
        limit,
        PLATFORMS[platform] if platform else None,
        active,
    )
    await locales.know(db, {row["locale"] for row in rows})
    return [_shown(row, locales) for row in rows]


async def count(db: Database, app_no: int) -> dict[str, int]:
    """Addresses by status."""
    rows = await db.fetch(SQL.count, app_no, timeout=300.0)
    return {STATUS[row["status"]]: row["n"] for row in rows}


async def end_unseen(
    db: Database, app_no: int, *, days: int = UNSEEN_DAYS, after: int = 0, limit: int = 10_000
) -> tuple[int, int | None]:
    """Addresses of devices not seen for so many days become inactive, `limit` devices a call.

    Returns how many, and the number to go on after, None when it was the last piece. An address that
    becomes active again is one that registers again or whose app is `seen`.
    """
    row = await db.fetchrow(SQL.end_unseen, app_no, days, after, limit, int(Reason.UNSEEN))
    assert row is not None
    return row["ended"], row["last"] if row["looked"] == limit else None


def _shown(row: asyncpg.Record, locales: Locales) -> Registration:
    values = dict(row)
    values["locale"] = locales.name(values["locale"])
    values["platform"] = _PLATFORM_NAMES[values["platform"]]
    values["kind"] = _KIND_NAMES[values["kind"]]
    values["status"] = STATUS[values["status"]]
    return Registration(**values)
