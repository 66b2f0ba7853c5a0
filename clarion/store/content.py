"""Content and lists of users, stored before a start; a reference is `content:` or `list:` and a SHA-256.

The same message gives the same reference, from every process and at every time, so that storing may be
repeated and a start compared.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator, Iterable, Iterator
from itertools import islice

import asyncpg

from clarion.errors import BadSpec, NotFound
from clarion.model.message import Message
from clarion.store.database import Database
from clarion.store.sql import beside
from clarion.store.user_id import check_user_id

SQL = beside(__file__)
_PIECE = 50_000  # ids copied or read at a time


async def store_message(db: Database, app: str, message: Message) -> str:
    """Store a message of the app of that name; its reference. Raises NotFound (the app)."""
    digest = message.digest()
    await db.execute(SQL.store_message, await _app_no(db, app), digest, message.canonical())
    return f"content:{digest.hex()}"


async def load_message(db: Database, app_no: int, reference: str) -> Message:
    """The message of a reference. Raises BadSpec (no reference), NotFound."""
    match = re.fullmatch(r"content:([0-9a-f]{64})", reference)
    if match is None:
        raise BadSpec("content must be a reference of the form content:<sha256>")
    stored = await db.fetchval(SQL.load_message, app_no, bytes.fromhex(match[1]))
    if stored is None:
        raise NotFound("there is no such content in this app: store the message first")
    return Message.model_validate(stored)


async def store_users(db: Database, app: str, user_ids: Iterable[str]) -> str:
    """Store a list of users, of any length and in any order, each once; its reference.

    Users need not be known yet: who is found when a push is frozen is in its audience. Memory does not grow
    with the list. Raises BadInput (an id), NotFound (the app).
    """
    app_no = await _app_no(db, app)
    async with db.transaction() as connection:
        await connection.execute(SQL.make_incoming)
        ids = iter(user_ids)
        while piece := await asyncio.to_thread(_piece, ids):
            await connection.copy_records_to_table("incoming", records=piece, columns=["user_id"])
        digest, size = await _digest(connection)
        number = await connection.fetchval(SQL.store_list, app_no, digest, size)
        if number is not None:
            await connection.execute(SQL.fill_list, number, timeout=600.0)
    return f"list:{digest.hex()}"


async def _app_no(db: Database, app: str) -> int:
    app_no: int | None = await db.fetchval("select app_no from app where name = $1", app)
    if app_no is None:
        raise NotFound(f"no app named {app[:64]!r}: `clarion apps list` shows those there are")
    return app_no


def _piece(ids: Iterator[str]) -> list[tuple[str]]:
    return [(check_user_id(user_id),) for user_id in islice(ids, _PIECE)]


async def _digest(connection: asyncpg.Connection[asyncpg.Record]) -> tuple[bytes, int]:
    """SHA-256 over the ids, each once, in the order of their bytes, and how many there are."""
    digest, size = hashlib.sha256(), 0
    async for user_id in _sorted(connection):
        digest.update(user_id.encode() + b"\n")
        size += 1
    return digest.digest(), size


async def _sorted(connection: asyncpg.Connection[asyncpg.Record]) -> AsyncIterator[str]:
    async for row in connection.cursor(SQL.sorted, prefetch=_PIECE):
        yield row["user_id"]


async def list_size(db: Database, app_no: int, reference: str) -> int | None:
    """How many users a stored list has, None when there is no such list."""
    digest = bytes.fromhex(reference.removeprefix("list:"))
    size: int | None = await db.fetchval(SQL.list_size, app_no, digest)
    return size
