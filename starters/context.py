"""What a command works with: the stack it found, the database and Temporal once it asks for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from clarion import tracing
from clarion.errors import StackUnavailable
from clarion.settings import Settings, Stack, find_stack
from clarion.store.database import Database

if TYPE_CHECKING:  # importing Temporal's client takes longer than most commands
    from clarion.client import Clarion
    from clarion.seal import Seal

T = TypeVar("T")

Data = Annotated[
    Path | None,
    typer.Option("--data", metavar="DIR", help="The data directory of the `clarion dev` to talk to."),
]


class Context:
    """Opened lazily: a command that needs no Temporal works while Temporal is down."""

    def __init__(self, data: Path | None = None) -> None:
        self._data = data
        self._db: Database | None = None
        self._clarion: Clarion | None = None

    @cached_property
    def settings(self) -> Settings:
        """The environment."""
        return Settings()

    @cached_property
    def stack(self) -> Stack:
        """The stack of `--data`, of the environment or of the default data directory."""
        return find_stack(self._data, self.settings)

    @property
    def seal(self) -> Seal:
        """What closes and opens credentials."""
        return self.stack.seal(self.settings)

    @property
    def database_url(self) -> str:
        """Where PostgreSQL is."""
        if self.stack.database_url is None:
            raise StackUnavailable("no database is configured: set CLARION_DATABASE_URL")
        return self.stack.database_url

    async def db(self) -> Database:
        """A pool of connections to the store."""
        if self._db is None:
            self._db = await Database.connect(self.database_url, application_name="clarion-cli")
        return self._db

    async def clarion(self) -> Clarion:
        """The client for campaigns and pushes, on Temporal and the store."""
        from clarion.client import Clarion

        if self._clarion is None:
            self._clarion = await Clarion.connect(
                self.stack.temporal_address,
                namespace=self.stack.namespace,
                database_url=self.database_url,
                traced=tracing.configure("clarion-cli"),
            )
        return self._clarion

    async def close(self) -> None:
        """Give back whatever was opened."""
        if self._clarion is not None:
            await self._clarion.close()
        if self._db is not None:
            await self._db.close()


def run(work: Callable[[Context], Awaitable[T]], data: Path | None = None) -> T:
    """Run a command's asynchronous part with a context that is closed afterwards."""

    async def whole() -> T:
        context = Context(data)
        try:
            return await work(context)
        finally:
            await context.close()

    return asyncio.run(whole())
