"""FCM topics in the store: whose registrations, dead ones, and the audit that makes a word repeatable."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from clarion.errors import AlreadyExists, BadInput
from clarion.store import credentials
from clarion.store.credentials import CredentialRow
from clarion.store.database import Database
from clarion.store.reasons import Reasons
from clarion.store.sql import beside

SQL = beside(__file__)


@dataclass(frozen=True, slots=True)
class Member:
    """A registration of a user."""

    user_id: str
    registration_no: int
    token: str = field(repr=False)


async def lane(db: Database, app_no: int, name: str | None) -> CredentialRow:
    """The app's credential for FCM: the one of that name, or the only one. Raises BadInput, NotFound."""
    if name is not None:
        row = await credentials.find(db, app_no, name)
        if row.provider != "fcm":
            raise BadInput(f"credential: {name} is one for {row.provider}; topics are FCM's")
        return row
    rows = [
        r for r in await credentials.list_credentials(db, app_no) if r.provider == "fcm" and not r.withdrawn
    ]
    if len(rows) != 1:
        names = ", ".join(row.name for row in rows) or "none: add one first"
        raise BadInput(f"credential: name one of the app's credentials for FCM ({names})")
    return rows[0]


async def members(db: Database, app_no: int, lane: int, user_ids: Sequence[str]) -> list[Member]:
    """The active registrations of these users at that credential."""
    return [Member(**row) for row in await db.fetch(SQL.registrations, app_no, list(user_ids), lane)]


async def retire(db: Database, numbers: Sequence[int], seen: datetime, reason: str) -> set[int]:
    """End registrations that Google called dead at `seen`; those that have not registered again since."""
    number = await (await Reasons.load(db)).intern(db, reason)
    return {row["registration_no"] for row in await db.fetch(SQL.retire, list(numbers), seen, number)}


async def said(db: Database, command_id: UUID, digest: str) -> dict[str, Any] | None:
    """What this very word was answered, if it was said before. Raises AlreadyExists: another had its id."""
    row = await db.fetchrow(SQL.said, command_id)
    if row is None:
        return None
    if row["args"].get("digest") != digest:
        raise AlreadyExists("the id was used for something else: choose another one")
    answer: dict[str, Any] = row["answer"]
    return answer


async def note(
    db: Database, command_id: UUID, who: str, what: str, args: dict[str, Any], answer: dict[str, Any]
) -> None:
    """Write the audit."""
    await db.execute(SQL.note, command_id, who, what, args, answer)
