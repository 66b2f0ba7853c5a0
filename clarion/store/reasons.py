"""Reasons by number: below 100 our own (`clarion.model.ledger.Reason`), above in the append-only table."""

from __future__ import annotations

from typing import Any, Final, Protocol

from clarion.model.ledger import Reason
from clarion.store.database import Database

_OURS: Final = {f"clarion:{reason.name.lower()}": int(reason) for reason in Reason if reason}


class _Fetches(Protocol):
    """A pool, or a connection in a transaction."""

    async def fetch(self, sql: str, /, *args: Any) -> list[Any]:
        """Rows."""


class Reasons:
    """Names and numbers, cached: a number never changes its meaning."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = dict(_OURS)
        self._names: dict[int, str] = {number: name for name, number in _OURS.items()} | {0: ""}

    @classmethod
    async def load(cls, db: _Fetches) -> Reasons:
        """All that are known now."""
        reasons = cls()
        await reasons.refresh(db)
        return reasons

    async def refresh(self, db: _Fetches) -> None:
        """Learn what other processes added."""
        # All of them, not those above the last: numbers become visible in the order of commits.
        for row in await db.fetch("select reason_no, name from reason"):
            self._learn(row["reason_no"], row["name"])

    def number(self, name: str) -> int | None:
        """Its number, if this process has met it."""
        return self._numbers.get(name)

    def name(self, number: int) -> str:
        """Its name; a number that this process has not met yet is shown as it is."""
        return self._names.get(number) or (f"reason {number}" if number else "")

    def named(self, word: str) -> list[int]:
        """The numbers that a person may mean: by the whole name, or by what stands behind its colon."""
        word = word.strip().lower()
        return [n for name, n in self._numbers.items() if word in (name.lower(), _short(name))]

    async def intern(self, db: Database, name: str) -> int:
        """Its number, given now if it is new. Outlives any loss of the database."""
        number = self._numbers.get(name)
        if number is None:
            number = await db.persist(lambda: intern(db, "reason", "reason_no", "name", name))
            self._learn(number, name)
        return number

    def _learn(self, number: int, name: str) -> None:
        self._numbers[name] = number
        self._names[number] = name


def _short(name: str) -> str:
    return name.rpartition(":")[2].lower()


async def intern(db: Database, table: str, number: str, column: str, value: str) -> int:
    """The number of a value in an append-only table, given to it if it has none."""
    found = await db.fetchval(f"select {number} from {table} where {column} = $1", value)
    if found is None:
        # Whoever loses the race waits for the winner's commit and then reads it.
        await db.execute(f"insert into {table} ({column}) values ($1) on conflict do nothing", value)
        found = await db.fetchval(f"select {number} from {table} where {column} = $1", value)
    return int(found)
