"""The metrics page of a process: what it has counted, how its event loop does, and what Temporal's core says.

One address to scrape. Totals (`clarion.telemetry`) become OpenTelemetry instruments that are looked at, not
fed, and are shown by its Prometheus reader; the latency histogram comes ready-made, which OpenTelemetry takes
from nobody, and is handed to the same registry. Temporal's core serves its own metrics on a port of the
loopback that it alone has; the page ends with them, word for word.
"""

from __future__ import annotations

import asyncio
import http.client
import socket
import threading
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Final

import structlog
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import HistogramMetricFamily
from prometheus_client.registry import Collector

from clarion.errors import ClarionError, StackUnavailable
from clarion.store import measures
from clarion.store.database import Database, is_away
from clarion.telemetry import BOUNDS, PRIORITIES, TOTALS, Totals

log = structlog.get_logger("clarion.metrics")

LOOK: Final = 0.05  # seconds between two looks at the event loop
PENDING_EVERY: Final = 5.0  # seconds between two counts of what is pending
CORE_SECONDS: Final = 2.0  # how long the page waits for Temporal's part
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"


class LoopDelay:
    """The longest that the event loop kept a timer waiting, since somebody last asked.

    Asked while the loop stands still, it says how long it has stood: the page is served by another thread.
    """

    def __init__(self) -> None:
        self._worst = 0.0
        self._due: float | None = None
        self._lock = threading.Lock()

    async def watch(self) -> None:
        """Look until cancelled."""
        while True:
            self._due = monotonic() + LOOK
            await asyncio.sleep(LOOK)
            with self._lock:
                self._worst = max(self._worst, monotonic() - self._due)

    def worst(self) -> float:
        """The worst so far; from here on anew."""
        standing = 0.0 if self._due is None else monotonic() - self._due
        with self._lock:
            worst, self._worst = max(self._worst, standing), 0.0
        return max(worst, 0.0)


class Backlog:
    """Says how much is pending, in one process of all: the one that holds the lock, as long as it lives."""

    def __init__(self, db: Database, totals: Totals = TOTALS) -> None:
        self._db, self._totals = db, totals

    async def run(self) -> None:
        """Count, or wait for the other to go, until cancelled."""
        while True:
            try:
                await self._measure()
            except ClarionError:
                pass
            except Exception as error:
                if not is_away(error):
                    log.exception("the backlog cannot be counted")
            finally:
                self._totals.pending = None
            await asyncio.sleep(PENDING_EVERY)

    async def _measure(self) -> None:
        async with measures.measurer(self._db) as connection:
            while connection is not None:
                found = await measures.pending(connection)
                self._totals.pending = {word: found.get(no, 0) for no, word in PRIORITIES.items()}
                await asyncio.sleep(PENDING_EVERY)


class Page:
    """Everything that is shown, made when it is asked for."""

    def __init__(self, *, core_port: int | None = None, totals: Totals = TOTALS) -> None:
        self.delay = LoopDelay()
        self._totals, self._core_port = totals, core_port
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        reader = PrometheusMetricReader(
            disable_target_info=True, scope_info_enabled=False, registry=self._registry
        )
        self._provider = MeterProvider([reader], shutdown_on_exit=False)
        self._make_instruments()
        self._registry.register(_Latencies(totals))

    def _make_instruments(self) -> None:
        meter = self._provider.get_meter("clarion")
        meter.create_observable_counter(
            "push_notifications",
            [_looking(self._notifications)],
            description="Deliveries that have reached their end, by the ledger's word.",
        )
        meter.create_observable_counter(
            "push_invalid_tokens",
            [_looking(self._invalid)],
            description="Registrations retired because a provider called their token dead.",
        )
        meter.create_observable_gauge(
            "push_pending_messages",
            [_looking(self._pending)],
            description="Deliveries of open pushes that wait or are tried again, from the ledger.",
        )
        meter.create_observable_gauge(
            "clarion_event_loop_delay_seconds",
            [_looking(lambda: [Observation(self.delay.worst())])],
            description="The longest that this process's event loop stood still since the last scrape.",
        )

    def _notifications(self) -> list[Observation]:
        return [
            Observation(n, {"platform": platform, "priority": priority, "status": status})
            for (platform, priority, status), n in list(self._totals.notifications.items())
        ]

    def _invalid(self) -> list[Observation]:
        return [
            Observation(n, {"platform": platform, "reason": reason})
            for (platform, reason), n in list(self._totals.invalid.items())
        ]

    def _pending(self) -> list[Observation]:
        pending = self._totals.pending or {}
        return [Observation(n, {"priority": priority}) for priority, n in pending.items()]

    def text(self) -> bytes:
        """The page."""
        return generate_latest(self._registry) + self._core()

    def _core(self) -> bytes:
        """Temporal's part. Without an answer from it the rest is shown all the same."""
        if self._core_port is None:
            return b""
        connection = http.client.HTTPConnection("127.0.0.1", self._core_port, timeout=CORE_SECONDS)
        try:
            connection.request("GET", "/metrics")
            return connection.getresponse().read()
        except (OSError, http.client.HTTPException):
            return b""
        finally:
            connection.close()

    def serve(self, host: str, port: int) -> Callable[[], None]:
        """Serve it, from a thread; how to stop that. Raises StackUnavailable when the port is taken."""
        page = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if self.path.split("?")[0] not in ("/", "/metrics"):
                    self.send_error(404)
                    return
                text = page.text()
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, format: str, *args: object) -> None:
                """Nothing: a scrape is no event."""

        try:
            server = ThreadingHTTPServer((host, port), Handler)
        except (OSError, OverflowError) as error:
            raise StackUnavailable(
                f"metrics cannot be served at {host}:{port} ({type(error).__name__}): is the port free? "
                "CLARION_METRICS_PORT chooses it, CLARION_METRICS_HOST the address"
            ) from None
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()

        def stop() -> None:
            server.shutdown()
            server.server_close()

        return stop


class _Latencies(Collector):
    """The histogram, as it was counted."""

    def __init__(self, totals: Totals) -> None:
        self._totals = totals

    def collect(self) -> Iterable[HistogramMetricFamily]:
        """One family, a row of buckets for each platform."""
        family = HistogramMetricFamily(
            "push_notification_latency_seconds",
            "Seconds from posting a request to the provider's answer, or to giving up.",
            labels=["platform"],
        )
        for platform, latency in list(self._totals.latency.items()):
            so_far, buckets = 0, []
            for bound, n in zip((*map(str, BOUNDS), "+Inf"), list(latency.buckets), strict=True):
                so_far += n
                buckets.append((bound, so_far))
            family.add_metric([platform], buckets, sum_value=latency.seconds)
        yield family


def _looking(look: Callable[[], list[Observation]]) -> Callable[[CallbackOptions], Iterable[Observation]]:
    return lambda _: look()


def free_port() -> int:
    """A port of the loopback that nobody listens on now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
    return port
