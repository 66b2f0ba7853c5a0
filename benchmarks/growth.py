"""`make growth`: whether a delivery costs the same in an audience of a hundred thousand and of ten million.

    make growth [SIZES=100000,1000000,10000000]
    python -m benchmarks.growth --sizes 100000,1000000 [--picture docs/images/growth.svg]

Each size has an app of its own in one database, worker processes of its own, and the provider that is not
there: what is measured is all but the providers. The last line says whether seconds a million and memory
stayed flat, and whether every history stayed short; the exit code says the same.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, TypeVar

from rich.console import Console
from rich.table import Table

from benchmarks import registry, temporal_cost
from benchmarks.bench import campaign
from benchmarks.home import home
from benchmarks.meter import peak_of
from benchmarks.plan_model import Model, Seen
from benchmarks.plot import Line, chart
from benchmarks.temporal_cost import TemporalCost
from clarion import limits, names
from clarion.client import PushHandle
from clarion.model.spec import PushSpec
from clarion.store import report
from clarion.store.database import Database
from clarion.store.ledger import Ledger
from tests.support.stack import running_stack
from tests.support.workers import more_workers

SENDERS: Final = 2
FLAT: Final = 1.1  # times the size before
SUGGESTED: Final = 4_096  # events after which Temporal suggests to continue as new
FORECAST: Final = 100_000_000
SAMPLES: Final = 2.0  # seconds between two looks at what a look costs
T = TypeVar("T")


@dataclass
class Looks:
    """Seconds that questions took while the push ran, and at its end."""

    next_work: list[float] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)
    explain: list[float] = field(default_factory=list)
    reconcile: float = 0.0


@dataclass(frozen=True)
class Size:
    """What an audience of so many took."""

    deliveries: int
    batches: int
    seconds: float  # from the start of the workflow to the close of the books
    sender_mb: float
    control_mb: float
    ledger_bytes: float  # a delivery, with indexes
    temporal: TemporalCost
    looks: Looks

    @property
    def seconds_a_million(self) -> float:
        """Seconds, had it been a million."""
        return self.seconds * 1e6 / self.deliveries

    @property
    def seen(self) -> Seen:
        """What the model of larger sizes learns from it."""
        cost = self.temporal
        return Seen(self.deliveries, self.batches, cost.workflows, cost.events, self.ledger_bytes)


async def measure(place: Path, count: int) -> Size:
    """One size, on a life of the stack of its own."""
    async with (
        running_stack(senders=1, data=place / "data") as stack,
        more_workers(stack, SENDERS, names.send_queue("null")) as senders,
    ):
        db = await Database.connect(stack.facts["database_url"], max_size=2)
        app = f"growth-{count}"
        await registry.add_phones(db, await registry.add_app(db, app, ["null"]), count, [100])
        before = await _ledger_size(db)
        async with campaign.client_of(stack) as clarion:
            spec = {"app": app, "audience": {"everybody": True}, "message": campaign.MESSAGE}
            began, looks = time.monotonic(), Looks()
            await clarion.schedule_push(PushSpec.model_validate(spec), id=app)
            looking = asyncio.create_task(_look(db, app, looks))
            await _completed(clarion.push(app))
            seconds = time.monotonic() - began
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking
            cost = await temporal_cost.of_push(clarion.temporal, app)
        push_no = await db.fetchval("select push_no from push where push_id = $1", app)
        looks.reconcile, account = await _timed(report.reconcile(db, push_no))
        assert (account.audience, account.open, account.bad_batches) == (count, 0, 0), account
        size = Size(
            count,
            await db.fetchval("select count(*) from batch where push_no = $1", push_no),
            seconds,
            max(peak_of(process.pid) for process in senders),
            peak_of(stack.facts["pids"]["control"]),
            (await _ledger_size(db) - before) / count,
            cost,
            looks,
        )
        await db.close()
    return size


async def _completed(handle: PushHandle) -> None:
    async with asyncio.timeout(7_200):
        result = await handle.result()
    assert result["verdict"] == "completed", result


async def _look(db: Database, app: str, looks: Looks) -> None:
    """Ask what the push loop and people ask, again and again."""
    ledger = Ledger(db)
    while True:
        await asyncio.sleep(SAMPLES)
        push_no = await db.fetchval("select push_no from push where push_id = $1", app)
        if push_no is None:
            continue
        for taken, asked in (
            (looks.next_work, ledger.next_work(push_no, [], limits.STOCK)),
            (looks.progress, report.progress(db, push_no)),
            (looks.explain, report.explain(db, app, "user-1", app)),
        ):
            taken.append((await _timed(asked))[0])


async def _timed(asked: Awaitable[T]) -> tuple[float, T]:
    began = time.perf_counter()
    answer = await asked
    return time.perf_counter() - began, answer


async def _ledger_size(db: Database) -> int:
    """Bytes of all deliveries and their indexes."""
    size: int = await db.fetchval(
        "select coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint"
        " from pg_inherits where inhparent = 'delivery'::regclass"
    )
    return size


# ---------------------------------------------------------------------------------------------- the report


def middle(values: Sequence[float]) -> str:
    """The median in milliseconds."""
    return f"{statistics.median(values) * 1e3:.1f}" if values else "–"


def table(sizes: Sequence[Size]) -> Table:
    """A column a size."""
    shown = Table("", *(f"{size.deliveries:,}" for size in sizes), title="growth", title_justify="left")
    lines: dict[str, list[str]] = {
        "seconds a million": [f"{size.seconds_a_million:.1f}" for size in sizes],
        "a sender's memory, MB": [f"{size.sender_mb:.0f}" for size in sizes],
        "control's memory, MB": [f"{size.control_mb:.0f}" for size in sizes],
        "ledger, bytes a delivery": [f"{size.ledger_bytes:.0f}" for size in sizes],
        "batches": [f"{size.batches:,}" for size in sizes],
        "workflow runs": [f"{size.temporal.workflows:,}" for size in sizes],
        "history events": [f"{size.temporal.events:,}" for size in sizes],
        "longest history, events": [f"{size.temporal.longest:,}" for size in sizes],
        "continuations": [f"{size.temporal.continued:,}" for size in sizes],
        "next_work, ms": [middle(size.looks.next_work) for size in sizes],
        "progress, ms": [middle(size.looks.progress) for size in sizes],
        "explain, ms": [middle(size.looks.explain) for size in sizes],
        "reconcile, s": [f"{size.looks.reconcile:.1f}" for size in sizes],
    }
    for name, values in lines.items():
        shown.add_row(name, *values)
    return shown


def steps(values: Sequence[float]) -> float:
    """The largest growth from one size to the next."""
    return max((later / earlier for earlier, later in pairwise(values)), default=1.0)


def picture(sizes: Sequence[Size]) -> str:
    """Seconds a million and memory over the size, as SVG."""
    across = [float(size.deliveries) for size in sizes]
    return chart(
        "The same at every size",
        across,
        [
            Line("seconds a million", [size.seconds_a_million for size in sizes]),
            Line("a sender's memory, MB", [size.sender_mb for size in sizes]),
            Line("control's memory, MB", [size.control_mb for size in sizes]),
        ],
    )


def verdict(sizes: Sequence[Size]) -> tuple[str, bool]:
    """The last line, and whether everything stayed flat."""
    time_grew = steps([size.seconds_a_million for size in sizes])
    memory_grew = max(steps([size.sender_mb for size in sizes]), steps([size.control_mb for size in sizes]))
    longest = max(size.temporal.longest for size in sizes)
    flat = time_grew <= FLAT and memory_grew <= FLAT and longest <= SUGGESTED
    line = (
        f"growth: sizes={len(sizes)} largest={sizes[-1].deliveries} seconds_a_million=×{time_grew:.2f} "
        f"memory=×{memory_grew:.2f} longest_history={longest} flat={'yes' if flat else 'no'}"
    )
    return line, flat


async def growth(counts: Sequence[int], console: Console) -> list[Size]:
    """All sizes, the smallest first."""
    sizes = []
    with home() as place:
        for count in counts:
            console.print(f"{count:,} deliveries …", highlight=False)
            sizes.append(await measure(place, count))
            console.print(
                f"  {sizes[-1].seconds:.0f} s, {sizes[-1].seconds_a_million:.1f} s a million", highlight=False
            )
    return sizes


def main() -> None:
    """Run as a command."""
    words = argparse.ArgumentParser(description="The same campaign at growing sizes.")
    words.add_argument("--sizes", type=_sizes, default=[100_000, 1_000_000, 10_000_000])
    words.add_argument("--picture", type=Path, help="write the picture (SVG) there")
    given = words.parse_args()
    console = Console(soft_wrap=not sys.stdout.isatty())
    sizes = asyncio.run(growth(given.sizes, console))
    console.print(table(sizes))
    model = Model([size.seen for size in sizes])
    for line in (*model.check(), model.forecast(FORECAST)):
        console.print(line, highlight=False)
    if given.picture is not None:
        given.picture.write_text(picture(sizes), encoding="utf-8")
    line, flat = verdict(sizes)
    print(line)
    sys.exit(0 if flat and model.holds else 1)


def _sizes(text: str) -> list[int]:
    return sorted(int(part) for part in text.replace("_", "").split(","))


if __name__ == "__main__":
    main()
