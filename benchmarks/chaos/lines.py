"""The lines between senders and providers: a proxy before APNs and one before FCM while an act wants them.

Web Push is left alone: its addresses are written in the registrations.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from benchmarks.chaos.proxy import Proxy
from tests.support.stack import Stack

PROVIDERS: Final = ("apns", "fcm")
NOTICED: Final = 5.0  # seconds until every sender has looked at its credentials again
MOVE: Final = "update credential set endpoint = $2, version = version + 1 where provider = $1"


@asynccontextmanager
async def running_lines(stack: Stack) -> AsyncIterator[dict[str, Proxy]]:
    """The senders reach these providers through proxies; at the end directly again."""
    async with stack.database() as db:
        endpoints = {provider: await _endpoint(db, provider) for provider in PROVIDERS}
    async with AsyncExitStack() as held:
        lines = {}
        for provider, endpoint in endpoints.items():
            port = urlsplit(endpoint).port
            assert port is not None
            lines[provider] = await held.enter_async_context(Proxy(port))
        await _move(stack, {name: f"https://127.0.0.1:{line.port}" for name, line in lines.items()})
        try:
            yield lines
        finally:
            await _move(stack, endpoints)


async def _endpoint(db: asyncpg.Connection[asyncpg.Record], provider: str) -> str:
    endpoint: str = await db.fetchval("select endpoint from credential where provider = $1", provider)
    return endpoint


async def _move(stack: Stack, endpoints: dict[str, str]) -> None:
    async with stack.database() as db:
        for provider, endpoint in endpoints.items():
            await db.execute(MOVE, provider, endpoint)
    await asyncio.sleep(NOTICED)
