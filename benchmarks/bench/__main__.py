"""`make bench`: what Clarion costs, beside its peers and against its bars, in one run.

    make bench [ONLY=apns,fcm] [DEVICES=1000000]
    python -m benchmarks.bench [--only apns --peers aioapns --requests 2000 --rounds 1]

A table on the screen and benchmarks/results.json. Exit code 1 when a figure that is owed is missing or has no
bar; a bar that is missed is shown with its factor. See docs/performance.md.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from benchmarks import ledger
from benchmarks.bench import figures, pipeline, senders, stop, vendors
from benchmarks.bench.clients import ROOT
from benchmarks.bench.figures import Results
from benchmarks.bench.race import FULL, ground

RACES: Final = tuple(senders.CLIENTS)
PARTS: Final = tuple(dict.fromkeys(figure.part for figure in figures.FIGURES))
LEDGER_ROWS: Final = 600_000
RESULTS: Final = ROOT / "benchmarks" / "results.json"


def machine() -> str:
    """What the figures were seen on."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.processor(),
    )
    return f"{os.cpu_count()} cores, {model}; Linux {platform.release()}, Python {platform.python_version()}"


def load() -> str:
    """How busy the machine is: figures of a busy one are higher, ratios less so."""
    return "load " + " ".join(f"{number:.1f}" for number in os.getloadavg())


def race(given: argparse.Namespace, results: Results) -> None:
    """The races that were asked for, against one server."""
    kinds = [kind for kind in RACES if kind in given.only]
    if not kinds:
        return
    with ground() as there:
        for kind in kinds:
            print(f"{kind}: {given.rounds} rounds … ({load()})", flush=True)
            senders.run(kind, there, results, requests=given.requests, rounds=given.rounds, only=given.peers)


async def books(results: Results, rows: int) -> None:
    """What PostgreSQL costs by itself."""
    costs = await ledger.on_a_server(rows)
    results.values["ledger: freeze, two ranges at a time"] = costs.freeze.rows / costs.freeze.seconds
    results.values["ledger: PostgreSQL while sending"] = costs.sending
    results.details += str(costs).splitlines()


def the_rest(given: argparse.Namespace, results: Results) -> None:
    """The parts that are no race."""

    def tell(words: str) -> None:
        results.details.append(words)
        print(words, flush=True)

    parts: dict[str, Callable[[], Coroutine[Any, Any, None]]] = {
        "vendors": lambda: vendors.run(results, requests=given.requests, rounds=given.rounds),
        "ledger": lambda: books(results, LEDGER_ROWS),
        "pipeline": lambda: pipeline.measure(results, count=given.devices, rounds=given.rounds, tell=tell),
        "stop": lambda: stop.measure(results, tell=tell),
    }
    for name, part in parts.items():
        if name in given.only:
            print(f"{name} … ({load()})", flush=True)
            asyncio.run(part())


def parse(words: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="What Clarion costs, beside its peers and its bars.")
    parser.add_argument("--only", type=_list, default=PARTS, help=f"parts of {','.join(PARTS)}")
    parser.add_argument("--peers", type=_list, default=(), help="only these peers; the others are excused")
    parser.add_argument("--requests", type=int, default=FULL, help="of our sender in a race")
    parser.add_argument("--devices", type=int, default=1_000_000, help="of the pipeline's campaigns")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--results", type=Path, default=RESULTS)
    given = parser.parse_args(words)
    if wrong := [part for part in given.only if part not in PARTS]:
        parser.error(f"there is no part {wrong[0]}; parts are {', '.join(PARTS)}")
    return given


def _list(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def excuse(given: argparse.Namespace, results: Results) -> None:
    """A peer that was not asked for is not owed."""
    for figure in figures.FIGURES:
        peer = figure.name.partition(": ")[2].partition(" / ")[0]
        if given.peers and " / " in figure.name and peer not in given.peers:
            results.excuses.setdefault(figure.name, "not asked for")


def report(given: argparse.Namespace, results: Results) -> int:
    """Print, write, and judge: the exit code."""
    excuse(given, results)
    rows = figures.rows(results, given.only)
    print("\n".join(["", *results.details, "", f"{machine()}; {load()}", figures.table(rows)]))
    figures.write(given.results, rows)
    faults = [row.fault for row in rows if row.fault] + [
        f"{name}: nobody owes this figure" for name in figures.unknown(results)
    ]
    missed = sum(row.holds is False for row in rows)
    print(f"bench: figures={len(rows)} missed={missed} faults={len(faults)}")
    for fault in faults:
        print(f"  {fault}", file=sys.stderr)
    return 1 if faults else 0


def main() -> int:
    """Measure and judge."""
    given = parse()
    results = Results()
    print(f"{machine()}; {load()}", flush=True)
    race(given, results)
    the_rest(given, results)
    return report(given, results)


if __name__ == "__main__":
    sys.exit(main())
