"""Every sender by every case of the conformance suite: played once, looked at cell by cell."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from clarion.senders.lanes import MAKERS
from tests.integration.sender_conformance.cases import CASES
from tests.integration.sender_conformance.drivers import DRIVERS
from tests.integration.sender_conformance.table import Table, cells, play, world
from tests.support.postgres import Databases

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
async def table(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Table]:
    """What became of every cell."""
    async with world(databases, tmp_path_factory.mktemp("conformance")) as (sandbox, db):
        yield await play(sandbox, db)


def test_every_sender_has_a_driver() -> None:
    """A sender that is added is tried, and what it cannot have is a case that there is."""
    assert {driver.provider for driver in DRIVERS} == MAKERS.keys()
    assert {case for driver in DRIVERS for case in driver.without} <= CASES.keys()


@pytest.mark.parametrize(("row", "case"), cells())
async def test_conforms(table: Table, row: str, case: str) -> None:
    """The cell is as it should be."""
    table.check(row, case)
