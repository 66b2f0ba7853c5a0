"""`make drill`: the operator's fourteen stories by three ways, on one stack, one after another.

Each word has to be acknowledged and obeyed within two seconds, and to leave one row in the audit with its way
and its actor. Whether it was obeyed say the sandbox's log and the ledger, never the way that spoke. Then the
buttons of the UI that end or turn back a workflow, in mid run. Exit code 1 if anything was late, refused or
wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence

from benchmarks.drill import fate, story, table
from benchmarks.drill.ground import Ground
from benchmarks.drill.way import ClarionCli, Forms, Way, all_ways
from tests.acceptance.field import Field
from tests.support.browser import Ui
from tests.support.stack import running_stack


async def stories(ground: Ground, ways: Sequence[Way], names: Sequence[str]) -> list[table.Row]:
    """All stories by all ways; the rows of the table."""
    cells: dict[tuple[str, str], table.Cell] = {}
    for way in ways:
        scene = story.Scene(ground, way)
        for name in (name for name in story.PLAYED if name in names):
            cell = cells[name, way.name] = await story.play(scene, name)
            print(f"{way.name}: {name}: {' '.join(cell.lines())}", flush=True)
            if cell.fault:
                print(f"  {cell.fault}", flush=True)
    return [(name, [cells[name, way.name] for way in ways]) for name in story.STORIES if name in names]


def report(ways: Sequence[Way], rows: Sequence[table.Row], fates: Sequence[fate.Fate]) -> bool:
    """The table, what failed, the last line."""
    names = [way.name for way in ways]
    print("\n" + table.table(names, rows) + "\n")
    for way in ways:
        if isinstance(way, ClarionCli) and way.loading:
            print(f"(clarion itself loads for {min(way.loading):.1f} s before it says a word)")
    for one in fates:
        print(f"{one.what}: {one.ended}")
    for words in table.faults(names, rows):
        print(f"FAILED {words}")
    line, holds = table.verdict(rows, sum(not one.holds for one in fates))
    print(line)
    return holds


async def drill(names: Sequence[str], *, fates: bool) -> bool:
    """The whole of it. Whether all held."""
    print("starting PostgreSQL, Temporal, the providers' simulators and the workers …", flush=True)
    async with running_stack() as stack, all_ways(stack) as ways:
        ground = Ground(await Field.make(stack))
        await ground.prepare([way.name for way in ways])
        rows = await stories(ground, ways, names)
        ended = await fate.all_fates(ground, forms(ways)) if fates else []
        return report(ways, rows, ended)


def forms(ways: Sequence[Way]) -> Ui:
    """The browser among them."""
    return next(way.browser.ui for way in ways if isinstance(way, Forms))


def main() -> None:
    """Run as a command."""
    words = argparse.ArgumentParser(description="The operator's stories by three ways.")
    words.add_argument("--story", action="append", choices=list(story.STORIES), help="Only this one.")
    words.add_argument("--no-fates", action="store_true", help="Without the UI's buttons.")
    given = words.parse_args()
    names = given.story or list(story.STORIES)
    sys.exit(0 if asyncio.run(drill(names, fates=not given.no_fates)) else 1)


if __name__ == "__main__":
    main()
