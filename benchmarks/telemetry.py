"""What telemetry costs: CPU µs a delivery of a sender's whole loop, with and without, batch by batch in turn.

    python -m benchmarks.telemetry [--batches 40] [--rows 2000]

A server of its own, the product's attempts, a provider that is not there (it accepts at once, so the loop is
as cheap as it gets). Each batch goes out under another of three kinds of telemetry, in a cycle:

    none      the stopwatch and the totals do nothing, no spans
    metrics   as a process is that has a metrics page, which is scraped after each batch; no spans
    traces    the same, and every span is made, serialised and handed over (to nobody)

The batches of one cycle are compared with each other, and the median of the differences is shown, with the
middle half of them: CPU time of this process alone, never the wall clock.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import statistics
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from unittest import mock

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from clarion import attempt, limits, process
from clarion.model.spec import PushSpec
from clarion.process import SenderProcess
from clarion.senders.null import NullLanes
from clarion.store import push as pushes
from clarion.store.database import Database
from clarion.store.locales import Locales
from clarion.store.migrate import migrate
from clarion.store.reasons import Reasons
from tests.support.sending import FreePermits
from workers.embedded.postgres import Postgres
from workers.metrics import Page

KINDS: Final = ("none", "metrics", "traces")
WARM_UP: Final = 3  # cycles before the first that counts


class NoStopwatch:
    """In its place: a call for each delivery that does nothing, for the loop makes it in any case."""

    def __init__(self, *ignored: Any) -> None:
        self.answered = deque[int](maxlen=0).append

    def posting(self, first: int) -> None:
        """Nothing."""

    def turn(self) -> None:
        """Nothing."""


class NoTotals:
    """In their place."""

    def latency_of(self, provider: str) -> None:
        """No histogram."""

    def answered(self, provider: str, priority: int, accepted: int, rejected: int) -> None:
        """Nothing."""


class Nobody(SpanExporter):
    """Takes what would be sent."""

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Serialise it, as for the wire."""
        encode_spans(spans).SerializeToString()
        return SpanExportResult.SUCCESS


class Sender:
    """A sender process, and a push whose batches it sends one after another."""

    def __init__(self, process: SenderProcess, push_no: int, batches: list[int]) -> None:
        self.process, self.push_no, self.batches = process, push_no, batches
        self.page = Page()
        self.spans = BatchSpanProcessor(Nobody())
        provider = TracerProvider()
        provider.add_span_processor(self.spans)
        self.tracer = provider.get_tracer("clarion")

    @classmethod
    async def make(cls, db: Database, batches: int, rows: int) -> Sender:
        """An app with so many phones, and a push to them that is frozen."""
        await _registry(db, batches * rows)
        spec = PushSpec.model_validate(
            {
                "app": "bench",
                "audience": {"everybody": True},
                "message": {"texts": {"default": {"title": "x"}}},
            }
        )
        push_no = (await pushes.open_push(db, spec, "bench")).push_no
        plan = await pushes.plan(db, push_no)
        await db.execute("update push set batch_size = $1", rows)
        for range_no in range(plan.ranges):
            await pushes.freeze(db, push_no, range_no)
        await db.execute("checkpoint", timeout=600)
        found = await db.fetch("select batch from batch where size = $1 order by batch", rows)
        made = SenderProcess(
            db,
            NullLanes(),
            FreePermits(),  # type: ignore[arg-type]  # as much of Permits as an attempt uses
            1,
            await Reasons.load(db),
            await Locales.load(db),
        )
        return cls(made, push_no, [row["batch"] for row in found])

    async def send(self, kind: str, batch: int) -> float:
        """One batch under one kind of telemetry; CPU seconds."""
        lease = limits.lease("null")
        with self._under(kind):
            began = time.process_time()
            ended = await self.process.send(
                self.push_no, batch, lease=lease, beat=lambda: None, stop=attempt.Stop()
            )
            if kind != "none":
                self.page.text()
            if kind == "traces":
                self.spans.force_flush()
            spent = time.process_time() - began
        assert ended.why == "done", ended
        return spent

    @contextmanager
    def _under(self, kind: str) -> Iterator[None]:
        tracer = self.tracer if kind == "traces" else trace.NoOpTracer()
        with mock.patch.object(process, "tracer", tracer):
            if kind != "none":
                yield
            else:
                with (
                    mock.patch.object(attempt, "Stopwatch", NoStopwatch),
                    mock.patch.object(attempt, "TOTALS", NoTotals()),
                ):
                    yield


async def _registry(db: Database, phones: int) -> None:
    await db.execute("insert into app (name) values ('bench')")
    await db.execute("insert into credential (app_no, lane, name, provider) values (1, 1, 'one', 'null')")
    for statement in (
        "insert into usr (app_no, user_id) select 1, 'u' || g from generate_series(1, $1::int) g",
        "insert into device (app_no, installation, user_no, platform)"
        " select 1, gen_random_uuid(), user_no, 1 from usr limit $1",
        "insert into registration (device_no, user_no, app_no, lane, token)"
        " select device_no, user_no, 1, 1, md5(device_no::text) from device limit $1",
    ):
        await db.execute(statement, phones, timeout=600)
    await db.execute("analyze")  # the estimate of the audience, and with it the ranges, follow it


async def measure(url: str, batches: int, rows: int) -> None:
    """All of it, on a database that has just been made; three lines on standard output."""
    await migrate(url)
    db = await Database.connect(url, max_size=4)
    sender = await Sender.make(db, batches * len(KINDS), rows)
    costs: dict[str, list[float]] = {kind: [] for kind in KINDS}
    cycles = zip(*[iter(sender.batches)] * len(KINDS), strict=False)
    for number, cycle in enumerate(cycles):
        # Each kind is first, second and last equally often.
        for place, batch in enumerate(cycle):
            kind = KINDS[(place + number) % len(KINDS)]
            costs[kind].append(await sender.send(kind, batch) / rows * 1e6)
    for kind in KINDS:
        print(line(kind, costs["none"][WARM_UP:], costs[kind][WARM_UP:]))
    await db.close()


def line(kind: str, without: list[float], with_it: list[float]) -> str:
    """What one kind costs, and how much more that is than none."""
    words = f"{kind:8} {statistics.median(with_it):6.2f} µs CPU a delivery"
    if kind == "none":
        return words
    more = [mine - theirs for mine, theirs in zip(with_it, without, strict=True)]
    low, middle, high = statistics.quantiles(more, n=4)
    return f"{words}   {middle:+.2f} µs ({low:+.2f} … {high:+.2f}), {len(more)} pairs"


async def main(home: Path, batches: int, rows: int) -> None:
    """Start a server, measure, remove it."""
    postgres = Postgres(home)
    try:
        await postgres.start()
        await measure(postgres.url, batches, rows)
    finally:
        await postgres.stop()
        shutil.rmtree(postgres.data, ignore_errors=True)
        shutil.rmtree(home)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, default=40, help="of each kind")
    parser.add_argument("--rows", type=int, default=2_000, help="of a batch")
    chosen = parser.parse_args()
    place = Path(tempfile.mkdtemp(prefix="clarion-bench-"))
    place.chmod(0o755)  # the server's user goes through it
    asyncio.run(main(place, chosen.batches, chosen.rows))
