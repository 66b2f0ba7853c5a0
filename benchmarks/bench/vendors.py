"""The senders whose requests carry many registrations, one after another, each on one core."""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.bench.figures import VENDORS, Results
from benchmarks.bench.race import TEXT, measure
from benchmarks.home import home
from benchmarks.transport import pin
from clarion.store.migrate import migrate
from workers.embedded.postgres import Postgres


@contextmanager
def simulators(folder: Path) -> Iterator[dict[str, Any]]:
    """The sandbox on the second core: its ports."""
    server = subprocess.Popen(
        [sys.executable, "-m", "clarion.sandbox", "--data", str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: pin(1),
    )
    try:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())
    finally:
        server.terminate()
        server.wait()


@asynccontextmanager
async def database() -> AsyncIterator[str]:
    """A migrated database on a server of its own: its URL."""
    with home() as place:
        postgres = Postgres(place)
        try:
            await postgres.start()
            await migrate(postgres.url)
            yield postgres.url
        finally:
            await postgres.stop()


async def run(results: Results, *, requests: int, rounds: int) -> None:
    """Every one of them so many times, in interleaved rounds."""
    seen: dict[str, list[dict[str, float]]] = {provider: [] for provider in VENDORS}
    with tempfile.TemporaryDirectory(prefix="clarion-bench-") as place, simulators(Path(place)) as ports:
        async with database() as url:
            task = TEXT | {
                "database": url,
                "ports": ports,
                "ca": ports["ca"],
                "credentials": str(Path(place) / "credentials"),
                "requests": requests,
                "warm": requests // 5,
            }
            for _ in range(rounds):
                for provider in VENDORS:
                    command = [sys.executable, "-m", "benchmarks.bench.vendor", provider]
                    seen[provider].append(await asyncio.to_thread(measure, command, task))
    for provider, times in seen.items():
        _tell(results, provider, times)


def _tell(results: Results, provider: str, times: list[dict[str, float]]) -> None:
    cost = statistics.median(time["cpu_us"] for time in times)
    refused = sum(time["failures"] for time in times)
    rate = statistics.median(time["rate"] for time in times)
    failed = f"  REFUSED: {refused:.0f}" if refused else ""
    results.details.append(
        f"{provider:8} clarion {cost:18.1f} CPU µs a delivery, {1e6 / cost:10,.0f}/s if one core is full, "
        f"{rate:10,.0f}/s seen{failed}"
    )
    if not refused:
        results.values[f"{provider}: clarion, one core"] = 1e6 / cost
