"""The metrics page: its names, labels and values, Temporal's part, and the event loop's delay."""

from __future__ import annotations

import asyncio
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest
from prometheus_client.parser import text_string_to_metric_families

from clarion.errors import StackUnavailable
from clarion.telemetry import Totals
from workers.metrics import LOOK, LoopDelay, Page, free_port


def samples(page: Page) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """What a scraper reads: values by name and labels."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(page.text().decode()):
        for one in family.samples:
            found.setdefault(one.name, {})[tuple(sorted(one.labels.items()))] = one.value
    return found


def test_names_and_labels_are_exactly_these() -> None:
    """No label more, none less."""
    totals = Totals()
    totals.answered("fcm", 3, 9, 1)
    totals.retired([("fcm", "fcm:UNREGISTERED", 2)])
    totals.latency_of("fcm").add(0.07, 10)
    totals.pending = {"high": 0, "normal": 5, "low": 0}

    found = samples(Page(totals=totals))

    place = ("platform", "android"), ("priority", "normal")
    assert found["push_notifications_total"] == {
        (*place, ("status", "success")): 9,
        (*place, ("status", "failed")): 1,
    }
    assert found["push_invalid_tokens_total"] == {
        (("platform", "android"), ("reason", "fcm:UNREGISTERED")): 2
    }
    assert found["push_pending_messages"] == {
        (("priority", "high"),): 0,
        (("priority", "normal"),): 5,
        (("priority", "low"),): 0,
    }
    buckets = found["push_notification_latency_seconds_bucket"]
    assert {dict(labels)["le"]: n for labels, n in buckets.items()} == {
        "0.01": 0, "0.05": 0, "0.1": 10, "0.5": 10, "1.0": 10, "5.0": 10, "10.0": 10, "+Inf": 10,
    }  # fmt: skip
    assert found["push_notification_latency_seconds_sum"][(("platform", "android"),)] == pytest.approx(0.7)
    assert found["push_notification_latency_seconds_count"][(("platform", "android"),)] == 10


def test_only_the_measurer_says_what_is_pending() -> None:
    """Another process's page has no row of it, so that a sum over all pages is right."""
    assert "push_pending_messages" not in samples(Page(totals=Totals()))


@contextmanager
def core(text: bytes) -> Iterator[int]:
    """Temporal's page, somewhere else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def get(port: int) -> bytes:
    """One scrape."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        found: bytes = answer.read()
        return found


def test_one_page_has_temporals_metrics_too() -> None:
    """Word for word, and the rest is there without them."""
    port = free_port()
    with core(b"temporal_request 7\n") as core_port:
        stop = Page(core_port=core_port, totals=Totals()).serve("127.0.0.1", port)
        page = get(port)
    without = get(port)
    stop()

    assert page.endswith(b"temporal_request 7\n")
    assert b"temporal_request" not in without
    assert b"clarion_event_loop_delay_seconds" in without


def test_a_taken_port_is_said() -> None:
    """With the variable that chooses it."""
    with core(b"") as taken, pytest.raises(StackUnavailable, match="CLARION_METRICS_PORT"):
        Page(totals=Totals()).serve("127.0.0.1", taken)


async def test_the_worst_delay_is_said_once() -> None:
    """A blocked loop shows as long as it was, and not again after it was read."""
    delay = LoopDelay()
    task = asyncio.ensure_future(delay.watch())
    await asyncio.sleep(0)
    time.sleep(0.3)  # noqa: ASYNC251  # the very thing
    standing = delay.worst()
    await asyncio.sleep(LOOK)
    afterwards = delay.worst()
    await asyncio.sleep(2 * LOOK)
    quiet = delay.worst()
    task.cancel()

    assert standing >= 0.2
    assert afterwards >= 0.2
    assert quiet < 0.2
