"""PostgreSQL through asyncpg: one pool a process, and the patience to outlive a restart of the server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar
from urllib.parse import urlsplit

import asyncpg

from clarion.clock import SYSTEM_CLOCK
from clarion.errors import StackUnavailable, StoreUnavailable

try:
    import orjson
except ImportError:  # the client library installs without it

    def _dumps(value: Any) -> bytes:
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()

    _loads: Callable[[bytes], Any] = json.loads
else:

    def _dumps(value: Any) -> bytes:
        return orjson.dumps(value)

    _loads = orjson.loads

T = TypeVar("T")

SCHEMA: Final = "clarion"
MIN_SERVER_VERSION: Final = 18
STATEMENT_TIMEOUT: Final = 30.0  # an answer that takes longer means a lost server; long calls say so

_NOT_AWAY = (
    # These are InterfaceErrors, too, but our own mistakes: repeating them would never end.
    asyncpg.exceptions.DataError,
    asyncpg.exceptions.ClientConfigurationError,
    asyncpg.exceptions.UnsupportedClientFeatureError,
    asyncpg.exceptions.UnsupportedServerFeatureError,
)
_AWAY = (
    OSError,  # refused, reset, unreachable; TimeoutError is one
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,  # "connection is closed", asyncpg's word for a server that vanished
    asyncpg.InternalClientError,
    asyncpg.exceptions.CannotConnectNowError,
    asyncpg.exceptions.AdminShutdownError,
    asyncpg.exceptions.CrashShutdownError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
    asyncpg.exceptions.ReadOnlySQLTransactionError,  # a failover left us at the old primary
    asyncpg.exceptions.InsufficientResourcesError,  # disk full, too many connections
    asyncpg.exceptions.TransactionRollbackError,  # deadlock: the loser may repeat
)


def _place(url: str) -> str:
    """Host and port of a database URL, without its password. Raises StackUnavailable when it is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("postgresql", "postgres"):
        raise StackUnavailable(
            "CLARION_DATABASE_URL is not a PostgreSQL URL: give postgresql://user:password@host:port/database"
        )
    return f"{host or 'the local socket'}:{port or 5432}"


def is_away(error: BaseException) -> bool:
    """Whether the error means that PostgreSQL could not answer, so that the same call may be repeated."""
    if isinstance(error, asyncpg.InterfaceError) and "server expects" in str(error):
        return False  # the number of arguments is wrong
    return isinstance(error, _AWAY) and not isinstance(error, _NOT_AWAY)


class Database:
    """A pool of connections whose search path is our schema. Use `await Database.connect(url)`."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self.pool = pool
        self.when_full: Callable[[], None] | None = None  # called whenever `persist` finds the disk full

    @classmethod
    async def connect(
        cls, url: str, *, min_size: int = 1, max_size: int = 4, application_name: str = "clarion"
    ) -> Database:
        """Open a pool. Raises StackUnavailable: the server is away, too old, or forgets commits."""
        place = _place(url)
        pool = asyncpg.create_pool(
            url,
            min_size=min_size,
            max_size=max_size,
            init=_prepare_connection,
            reset=_keep_session,
            command_timeout=STATEMENT_TIMEOUT,
            server_settings={"search_path": SCHEMA, "application_name": application_name, "jit": "off"},
        )
        try:
            await pool
            await _check_server(pool)
        except BaseException as error:
            pool.terminate()
            if is_away(error) or isinstance(error, asyncpg.PostgresError):
                raise StackUnavailable(
                    f"PostgreSQL cannot be used at {place} ({type(error).__name__}): "
                    "is it running, is CLARION_DATABASE_URL right?"
                ) from error
            raise
        return cls(pool)

    async def close(self) -> None:
        """Close all connections; those in use are waited for."""
        await self.pool.close()

    async def fetch(self, sql: str, *args: Any, timeout: float | None = None) -> list[asyncpg.Record]:
        """All rows."""
        return await self.pool.fetch(sql, *args, timeout=timeout)

    async def fetchrow(self, sql: str, *args: Any, timeout: float | None = None) -> asyncpg.Record | None:
        """The first row, or None."""
        row: asyncpg.Record | None = await self.pool.fetchrow(sql, *args, timeout=timeout)
        return row

    async def fetchval(self, sql: str, *args: Any, timeout: float | None = None) -> Any:
        """The first column of the first row, or None."""
        return await self.pool.fetchval(sql, *args, timeout=timeout)

    async def execute(self, sql: str, *args: Any, timeout: float | None = None) -> str:
        """Run a statement; returns its command tag."""
        return await self.pool.execute(sql, *args, timeout=timeout)

    async def executemany(
        self, sql: str, args: Iterable[Sequence[Any]], *, timeout: float | None = None
    ) -> None:
        """Run a statement for every tuple of arguments, all or nothing."""
        await self.pool.executemany(sql, args, timeout=timeout)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        """One connection inside a transaction: committed at the end, rolled back by an exception."""
        async with self.pool.acquire() as connection, connection.transaction():
            yield connection  # type: ignore[misc]  # a proxy that has every method of a connection

    async def persist(self, call: Callable[[], Awaitable[T]], *, patience: float | None = None) -> T:
        """Await `call()` until it answers, again and on a new connection while PostgreSQL is away.

        The call must be safe to repeat: it may have been committed although its answer was lost.
        Raises StoreUnavailable when `patience` seconds are over (None: never).
        """
        give_up = None if patience is None else SYSTEM_CLOCK.monotonic() + patience
        pause = 0.05
        while True:
            try:
                async with asyncio.timeout(None if give_up is None else give_up - SYSTEM_CLOCK.monotonic()):
                    return await call()
            except Exception as error:
                if not is_away(error) or self.pool.is_closing():
                    raise
                if self.when_full is not None and isinstance(error, asyncpg.DiskFullError):
                    self.when_full()
                if give_up is not None and SYSTEM_CLOCK.monotonic() + pause >= give_up:
                    raise StoreUnavailable from error
            await self.pool.expire_connections()
            await asyncio.sleep(pause)
            pause = min(pause * 2, 1.0)


async def _prepare_connection(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """jsonb and json as Python values, through their binary forms."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        encoder=lambda value: b"\x01" + _dumps(value),  # jsonb's wire format begins with its version
        decoder=lambda data: _loads(data[1:]),
        format="binary",
    )
    await connection.set_type_codec(
        "json", schema="pg_catalog", encoder=_dumps, decoder=_loads, format="binary"
    )


async def _keep_session(connection: asyncpg.Connection[asyncpg.Record]) -> None:
    """Sessions carry no state of ours, so giving a connection back costs no round trip."""


async def _check_server(pool: asyncpg.Pool[asyncpg.Record]) -> None:
    async with pool.acquire() as connection:
        major = connection.get_server_version().major
        commit = await connection.fetchval("show synchronous_commit")
    if major < MIN_SERVER_VERSION:
        raise StackUnavailable(f"PostgreSQL {MIN_SERVER_VERSION} or later is needed, this server is {major}")
    if commit == "off":
        # A window is promised by its commit; a server that acknowledges before writing would break that.
        raise StackUnavailable("synchronous_commit is off: acknowledged answers could be forgotten")
