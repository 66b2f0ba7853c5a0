"""`make conformance`: the table, and an exit code that says whether all of it is as it should be."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.integration.sender_conformance.table import Table, play, world
from tests.support.postgres import running_databases


async def _played() -> Table:
    with tempfile.TemporaryDirectory(prefix="clarion-conformance-") as home:
        async with running_databases() as databases, world(databases, Path(home)) as (sandbox, db):
            return await play(sandbox, db)


def main() -> int:
    """Play, print, and tell."""
    table = asyncio.run(_played())
    print(table.text())
    return int(any(table.cells.values()))


if __name__ == "__main__":
    sys.exit(main())
