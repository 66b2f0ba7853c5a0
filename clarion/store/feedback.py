"""Feedback in the store: whom to ask, and what it ends."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import NamedTuple

from clarion import limits
from clarion.store.database import Database
from clarion.store.reasons import Reasons
from clarion.store.sql import beside

SQL = beside(__file__)


class Place(NamedTuple):
    """A lane whose provider tells."""

    app_no: int
    lane: int
    provider: str


async def to_ask(db: Database, providers: Sequence[str]) -> list[Place]:
    """The lanes of these providers whose credential is there and not blocked."""
    return [Place(*row) for row in await db.fetch(SQL.to_ask, list(providers))]


async def retire(db: Database, place: Place, tokens: Sequence[str]) -> int:
    """End these addresses, unless they have registered since it was asked last. How many ended now."""
    number = await (await Reasons.load(db)).intern(db, reason(place.provider))
    since = timedelta(seconds=limits.FEEDBACK_EVERY)
    return int(await db.fetchval(SQL.retire, place.app_no, place.lane, list(tokens), number, since))


def reason(provider: str) -> str:
    """Why such an address ended."""
    return f"{provider}:feedback"
