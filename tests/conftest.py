"""What every test can ask for: a migrated database, a Temporal server. Servers start once, on demand."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import settings

from clarion.store.database import Database
from tests.support.postgres import Databases, running_databases
from tests.support.temporal import running_temporal

# How long an example takes says nothing on a machine that does something else as well.
settings.register_profile("clarion", deadline=None)
settings.load_profile("clarion")

SERVERS = {"temporal_address", "continuing_temporal_address"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whatever needs a Temporal server is slow; files with slow tests come first.

    Files are dealt to processes in this order, so none is left alone with a long one at the end.
    """
    for item in items:
        if SERVERS & set(getattr(item, "fixturenames", ())):
            item.add_marker(pytest.mark.slow)
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(scope="session")
async def databases() -> AsyncIterator[Databases]:
    """The session's PostgreSQL server."""
    async with running_databases() as made:
        yield made


@pytest.fixture
async def empty_database_url(databases: Databases) -> AsyncIterator[str]:
    """The URL of a database of this test with nothing in it."""
    url = await databases.create()
    yield url
    await databases.drop(url)


@pytest.fixture
async def database_url(databases: Databases) -> AsyncIterator[str]:
    """The URL of a database of this test with Clarion's schema and nothing else."""
    url = await databases.migrated()
    yield url
    await databases.drop(url)


@pytest.fixture
async def db(database_url: str) -> AsyncIterator[Database]:
    """A pool of connections to this test's migrated database."""
    database = await Database.connect(database_url)
    yield database
    await database.close()


@pytest.fixture(scope="session")
async def temporal_address() -> AsyncIterator[str]:
    """The session's Temporal server; tests keep apart by workflow ids and task queues of their own."""
    async with running_temporal() as server:
        yield server.address


@pytest.fixture(scope="session")
async def continuing_temporal_address() -> AsyncIterator[str]:
    """Another one, which suggests to continue as new after 50 history events."""
    async with running_temporal(suggest_continue_as_new=50) as server:
        yield server.address
