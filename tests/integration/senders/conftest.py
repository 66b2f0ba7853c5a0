"""What tests of senders work on: a sandbox and a database for the module, each test's own app and process."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from clarion.sandbox.sandbox import Sandbox
from clarion.senders.lanes import Lanes
from clarion.store.database import Database
from tests.support.postgres import Databases
from tests.support.senders import empty, process, restore
from tests.support.vendors import vendor_app


@pytest.fixture(scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    """The sandbox of this module."""
    async with Sandbox(tmp_path_factory.mktemp("sandbox")) as sandbox:
        yield sandbox


@pytest.fixture(scope="module")
async def stored(databases: Databases) -> AsyncIterator[Database]:
    """The database of this module."""
    url = await databases.migrated()
    database = await Database.connect(url)
    yield database
    await database.close()
    await databases.drop(url)


@pytest.fixture
async def db(stored: Database) -> Database:
    """The database, empty."""
    return await empty(stored)


@pytest.fixture
async def sandbox(running: Sandbox, request: pytest.FixtureRequest) -> Sandbox:
    """The sandbox, as good as new, with the settings that the module names in SETTINGS."""
    await restore(running)
    running.change(getattr(request.module, "SETTINGS", {}))
    return running


@pytest.fixture
async def app(sandbox: Sandbox, db: Database) -> tuple[int, dict[str, int]]:
    """An app with a lane per vendor: its number, and the lanes by name."""
    return await vendor_app(sandbox, db)


@pytest.fixture
async def lanes(db: Database) -> AsyncIterator[Lanes]:
    """The senders of one process."""
    async with process(db) as made:
        yield made
