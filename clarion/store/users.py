"""Users: whom a push is for, what they chose, what is known of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

from clarion.errors import BadInput, NotFound
from clarion.store.database import Database
from clarion.store.locales import Locales
from clarion.store.sql import beside
from clarion.store.user_id import check_user_id
from clarion.store.zones import Zones

SQL = beside(__file__)
OPTOUT_BITS: Final = {"marketing": 1, "transactional": 2, "social": 4}


@dataclass(frozen=True, slots=True)
class User:
    """A user as stored. `opted_out`: kinds of campaigns that are not sent to them."""

    user_no: int
    user_id: str
    locale: str
    zone: str | None
    opted_out: frozenset[str]
    tags: tuple[str, ...]
    attributes: dict[str, Any]


async def put(
    db: Database,
    locales: Locales,
    app_no: int,
    user_id: str,
    *,
    locale: str | None = None,
    zone: str | None = None,
    tags: Collection[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
) -> int:
    """Make or change a user; the user's number. What is None stays as it is.

    Tags are replaced as a set; attributes that are named are replaced, and removed when their value is None.
    A locale or zone that is none is stored as none. Raises BadInput (the id).
    """
    locale_no = None if locale is None else await locales.intern(db, locale)
    resolved = None if zone is None else (await Zones.shared(db)).resolve(zone) or ""
    number = await db.fetchval(
        SQL.put,
        app_no,
        check_user_id(user_id),
        locale_no,
        resolved,
        None if tags is None else sorted(set(tags)),
        None if attributes is None else dict(attributes),
    )
    return int(number)


async def get(db: Database, locales: Locales, app_no: int, user_id: str) -> User:
    """A user. Raises NotFound."""
    row = await db.fetchrow(SQL.one, app_no, user_id)
    if row is None:
        raise NotFound("the app has no user of that id")
    await locales.know(db, (row["locale"],))
    return User(
        user_no=row["user_no"],
        user_id=row["user_id"],
        locale=locales.name(row["locale"]),
        zone=row["zone"],
        opted_out=frozenset(kind for kind, bit in OPTOUT_BITS.items() if row["optout"] & bit),
        tags=tuple(row["tags"]),
        attributes=row["attributes"],
    )


async def set_opted_out(db: Database, app_no: int, user_id: str, kinds: Collection[str]) -> int:
    """Which kinds of campaigns are not sent to this user from now on, also by pushes that are running.

    A user nobody has met yet is made: a refusal must not be lost because it came first. The user's number.
    """
    unknown = set(kinds) - OPTOUT_BITS.keys()
    if unknown:
        raise BadInput(f"kinds of campaigns are {', '.join(OPTOUT_BITS)}, not {', '.join(sorted(unknown))}")
    bits = sum(OPTOUT_BITS[kind] for kind in set(kinds))
    return int(await db.fetchval(SQL.set_optout, app_no, check_user_id(user_id), bits))


async def forget(db: Database, app_no: int, user_id: str) -> bool:
    """Delete a user with all devices and addresses; False when there is none.

    What the ledger says of past deliveries stays: it names the user by number only.
    """
    return await db.fetchval(SQL.forget, app_no, user_id) is not None
