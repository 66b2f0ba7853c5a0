"""Time zones as phones report them, by the name that every machine knows."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from weakref import WeakKeyDictionary
from zoneinfo import available_timezones

from babel.core import get_global

from clarion.store.database import Database

# "UTC+3" is a POSIX zone to PostgreSQL, with the sign the other way round; names like these are no places.
_PLACE = re.compile(r"[A-Za-z]+(?:/[A-Za-z0-9_+-]+){1,2}|UTC|GMT|[A-Z][A-Za-z-]+")


class Zones:
    """Which zone a name means. Only names that PostgreSQL knows as well pass: a freeze computes with them."""

    def __init__(self, known: Iterable[str]) -> None:
        self._by_name = {name.lower(): name for name in known}

    @classmethod
    async def load(cls, db: Database) -> Zones:
        """The zones of this server."""
        return cls(await db.fetchval("select array_agg(name) from pg_timezone_names"))

    @classmethod
    async def shared(cls, db: Database) -> Zones:
        """The same, read once a process: PostgreSQL opens a file for every zone."""
        if db not in _SHARED:
            _SHARED[db] = await cls.load(db)
        return _SHARED[db]

    def resolve(self, name: str) -> str | None:
        """The zone's present name (Asia/Calcutta is Asia/Kolkata), None when there is no such zone."""
        found = canonical_zone(name)
        return self._by_name.get(found.lower()) if found else None


_SHARED: WeakKeyDictionary[Database, Zones] = WeakKeyDictionary()


def canonical_zone(name: str) -> str | None:
    """The zone's present name by CLDR, in any spelling of its letters; None when it is none.

    CLDR's aliases join old names and new ones, but not places that share their clocks: Oslo stays Oslo.
    """
    name = name.strip()
    if not _PLACE.fullmatch(name):
        return None
    found = _zones().get(name.lower(), "")
    found = _aliases().get(found, found)
    return found if found and found != "Etc/Unknown" else None


@cache
def _zones() -> dict[str, str]:
    return {name.lower(): name for name in available_timezones()} | {
        name.lower(): name for pair in _aliases().items() for name in pair
    }


@cache
def _aliases() -> dict[str, str]:
    return dict(get_global("zone_aliases"))
