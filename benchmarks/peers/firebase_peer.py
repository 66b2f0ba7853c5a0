"""firebase-admin for Python: send_each (its threads) or send_each_async (httpx), 500 messages a call.

Its URL is replaced and its trust pointed at the local server; all else, its token included, is as it comes.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from typing import Any

import firebase_admin
from firebase_admin import messaging

from benchmarks.peers.measured import measure, measure_blocking, read_task


def messages(task: dict[str, Any], count: int) -> Iterator[list[messaging.Message]]:
    """Messages, as many a call as it takes."""
    hello = messaging.Notification(title=task["title"], body=task["body"])
    for start in range(0, count, task["at_once"]):
        yield [
            messaging.Message(token=f"{n:022d}:APA91b{'x' * 123}", notification=hello)
            for n in range(start, min(start + task["at_once"], count))
        ]


def by_threads(task: dict[str, Any], app: firebase_admin.App) -> None:
    """send_each."""

    def send(count: int) -> int:
        return sum(messaging.send_each(some, app=app).failure_count for some in messages(task, count))

    measure_blocking(task, send)


async def by_httpx(task: dict[str, Any], app: firebase_admin.App) -> None:
    """send_each_async."""

    async def send(count: int) -> int:
        failures = 0
        for some in messages(task, count):
            failures += (await messaging.send_each_async(some, app=app)).failure_count
        return failures

    await measure(task, send)


def main(way: str, task: dict[str, Any]) -> None:
    """Send."""
    os.environ["REQUESTS_CA_BUNDLE"] = os.environ["SSL_CERT_FILE"] = task["ca"]
    messaging._MessagingService.FCM_URL = task["url"] + "/v1/projects/{0}/messages:send"
    app = firebase_admin.initialize_app(firebase_admin.credentials.Certificate(task["account"]))
    if way == "threads":
        by_threads(task, app)
    else:
        asyncio.run(by_httpx(task, app))


if __name__ == "__main__":
    main(sys.argv[1], read_task())
