"""Apps: what users, devices and credentials belong to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from clarion.errors import AlreadyExists, BadInput, NotFound
from clarion.store.database import Database

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_COLUMNS: Final = "app_no, name, lane_order, created_at"


@dataclass(frozen=True, slots=True)
class App:
    """An app. `lane_order`: which lane a phone with several addresses is reached through first."""

    app_no: int
    name: str
    lane_order: tuple[int, ...]
    created_at: datetime


def check_name(name: str, what: str) -> str:
    """The name, if apps and credentials may be called so. Raises BadInput."""
    if not NAME.fullmatch(name):
        raise BadInput(
            f"{what} must be 1 to 64 letters, digits, dots, underscores or hyphens, "
            "the first a letter or digit"
        )
    return name


async def create(db: Database, name: str) -> App:
    """A new app. Raises BadInput (the name), AlreadyExists."""
    check_name(name, "an app's name")
    try:
        row = await db.fetchrow(f"insert into app (name) values ($1) returning {_COLUMNS}", name)
    except asyncpg.UniqueViolationError:
        raise AlreadyExists(f"there is an app named {name} already") from None
    assert row is not None
    return _app(row)


async def get(db: Database, name: str) -> App:
    """The app of that name. Raises NotFound."""
    row = await db.fetchrow(f"select {_COLUMNS} from app where name = $1", name)
    if row is None:
        raise NotFound(f"no app named {name[:64]!r}: `clarion apps list` shows those there are")
    return _app(row)


async def list_apps(db: Database) -> list[App]:
    """All apps, by name."""
    return [_app(row) for row in await db.fetch(f"select {_COLUMNS} from app order by name")]


async def set_lane_order(db: Database, app_no: int, lanes: Sequence[int]) -> None:
    """Through which lane a phone with several addresses is reached first.

    Raises BadInput when it is not all lanes of the app, each once: one left out would never be sent to.
    """
    have = await db.fetchval("select array_agg(lane) from credential where app_no = $1", app_no) or []
    if sorted(lanes) != sorted(have):
        raise BadInput(f"the order must name every lane of the app once: {sorted(have)}")
    await db.execute("update app set lane_order = $2 where app_no = $1", app_no, list(lanes))


def _app(row: asyncpg.Record) -> App:
    return App(row["app_no"], row["name"], tuple(row["lane_order"]), row["created_at"])
