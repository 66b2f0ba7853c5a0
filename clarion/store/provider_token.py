"""The one string that all processes show a provider: an APNs JWT, an OAuth access token.

Providers count how often it changes (APNs: 429 TooManyProviderTokenUpdates) and Google's token endpoint is
not for every request, so whoever needs a new one takes the right to mint it, and everybody else waits for
that one. The right ends after seconds, so a process that died with it holds nobody up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID, uuid4

import asyncpg

from clarion.seal import BadKey, Seal
from clarion.store.database import Database
from clarion.store.sql import beside

SQL = beside(__file__)
MINT_SECONDS: Final = 10.0  # how long the right to mint lasts
_LOOK_EVERY: Final = 0.05
_STILL_GOOD: Final = 30.0  # a token is shown while another one is minted, if it lives so much longer

Mint = Callable[[], Awaitable[tuple[str, float]]]
"""Makes a token: its string and how many seconds it lives."""


@dataclass(frozen=True, slots=True)
class SharedToken:
    """A token and its times, in epoch seconds of the database's clock."""

    token: str = field(repr=False)
    issued_at: float
    expires_at: float


async def fetch_shared_token(
    db: Database,
    seal: Seal,
    app_no: int,
    lane: int,
    purpose: str,
    version: int,
    mint: Mint,
    fresh_for: float,
    *,
    refused: str | None = None,
) -> SharedToken:
    """The token of this lane and purpose, the same string in every process.

    A new one is minted by one process when there is none, it is older than `fresh_for` seconds, was made
    with an earlier `version` of the credential, or is the one that the provider `refused`. While it is
    minted, one that still lives is given out. What `mint` raises is raised to its caller; the next one tries.
    """
    place = (app_no, lane, purpose)
    context = f"token {app_no}.{lane}.{purpose}"
    me = uuid4()
    while True:
        row = await db.fetchrow(SQL.look, *place, version, fresh_for)
        stored = _opened(seal, context, row)
        if stored is not None and stored.token == refused:
            stored = None
        if row is not None and stored is not None and row["fresh"]:
            return stored
        seen = row["sealed"] if row is not None else None
        if await db.fetchval(SQL.claim, *place, me, MINT_SECONDS, seen) is not None:
            minted = await _mint(db, seal, place, context, version, mint, me)
            if minted is not None:
                return minted
        elif row is not None and stored is not None and row["left"] > _STILL_GOOD:
            return stored
        else:
            await asyncio.sleep(_LOOK_EVERY)


def _opened(seal: Seal, context: str, row: asyncpg.Record | None) -> SharedToken | None:
    if row is None or row["sealed"] is None or not row["usable"]:
        return None
    try:
        token = seal.open(row["sealed"], context).decode()
    except BadKey:  # sealed under a key that was taken away since: a new one is made
        return None
    return SharedToken(token, float(row["issued"]), float(row["expires"]))


async def _mint(
    db: Database, seal: Seal, place: tuple[int, int, str], context: str, version: int, mint: Mint, me: UUID
) -> SharedToken | None:
    """A new token, stored for everybody. None: the right was lost meanwhile, and another one is stored."""
    try:
        async with asyncio.timeout(MINT_SECONDS):
            token, lifetime = await mint()
    except BaseException:
        await db.execute(SQL.give_up, *place, me)
        raise
    sealed = seal.seal(token.encode(), context)
    issued = await db.fetchval(SQL.store, *place, me, version, sealed, lifetime)
    return None if issued is None else SharedToken(token, issued, issued + lifetime)
