"""All drivers by all cases. Providers are played at once, the cases of one provider one after the other."""

from __future__ import annotations

import asyncio
import itertools
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from clarion.sandbox.sandbox import Sandbox
from clarion.store import apps
from clarion.store.database import Database
from tests.integration.sender_conformance.cases import CASES
from tests.integration.sender_conformance.drivers import DRIVERS, Driver
from tests.integration.sender_conformance.ground import Ground
from tests.support.postgres import Databases

LONGEST = 60.0  # seconds of one case


@dataclass
class Table:
    """What became of each cell: None when it was as it should be, else what went wrong."""

    cells: dict[tuple[str, str], BaseException | None] = field(default_factory=dict)

    def check(self, row: str, case: str) -> None:
        """Raises what went wrong there."""
        wrong = self.cells[row, case]
        if wrong is not None:
            raise wrong

    def text(self) -> str:
        """For a person: the table, the reasons of what is not there, what went wrong, and the sum."""
        widest = max(len(driver.row) for driver in DRIVERS)
        lines = [" " * widest + "  " + "  ".join(CASES)]
        for driver in DRIVERS:
            words = [self._word(driver, case).ljust(len(case)) for case in CASES]
            lines.append(f"{driver.row.ljust(widest)}  {'  '.join(words)}".rstrip())
        lines += ["", *_reasons(), *self._failures()]
        failed = sum(wrong is not None for wrong in self.cells.values())
        senders = len({driver.provider for driver in DRIVERS})
        return "\n".join([*lines, f"conformance: senders={senders} cases={len(self.cells)} failed={failed}"])

    def _word(self, driver: Driver, case: str) -> str:
        if case in driver.without:
            return "–"
        return "ok" if self.cells[driver.row, case] is None else "FAILED"

    def _failures(self) -> list[str]:
        said = []
        for (row, case), wrong in self.cells.items():
            if wrong is not None:
                said += [f"FAILED {row}, {case}:", "".join(traceback.format_exception(wrong))]
        return said


def _reasons() -> list[str]:
    """Why there is no such case, and where."""
    said: dict[tuple[str, str], list[str]] = {}
    for driver in DRIVERS:
        for case, reason in driver.without.items():
            said.setdefault((case, reason), []).append(driver.row)
    return [f"– {case}: {reason} ({', '.join(rows)})" for (case, reason), rows in said.items()] + [""]


def cells() -> list[tuple[str, str]]:
    """Those that are played."""
    return [(driver.row, case) for driver in DRIVERS for case in CASES if case not in driver.without]


async def play(sandbox: Sandbox, db: Database) -> Table:
    """Play everything."""
    table, numbers = Table(), itertools.count(1)
    app = await apps.create(db, "conformance")
    grounds = {}
    for driver in DRIVERS:
        place = app.app_no, await driver.add(sandbox, db, app.app_no)
        grounds[driver.row] = Ground(sandbox, db, place, driver, numbers)
    rows = [list(rows) for _, rows in groupby(DRIVERS, lambda driver: driver.provider)]
    await asyncio.gather(*(_play_all([grounds[one.row] for one in some], table) for some in rows))
    table.cells = {cell: table.cells[cell] for cell in cells()}
    return table


async def _play_all(grounds: list[Ground], table: Table) -> None:
    """The rows of one provider: they share its simulator."""
    for on in grounds:
        for name in CASES:
            if name in on.driver.without:
                continue
            table.cells[on.driver.row, name] = await _played(on, name)


async def _played(on: Ground, name: str) -> BaseException | None:
    on.mark()
    try:
        async with asyncio.timeout(LONGEST):
            await CASES[name](on)
    except Exception as error:
        return error
    return None


@asynccontextmanager
async def world(databases: Databases, home: Path) -> AsyncIterator[tuple[Sandbox, Database]]:
    """A sandbox and a database for all of them."""
    url = await databases.migrated()
    db = await Database.connect(url)
    try:
        async with Sandbox(home) as sandbox:
            yield sandbox, db
    finally:
        await db.close()
        await databases.drop(url)
