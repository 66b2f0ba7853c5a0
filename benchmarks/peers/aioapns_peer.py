"""aioapns as its README shows it: one client, requests gathered, so many at once."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aioapns
import uvloop
from aioapns.connection import APNsDevelopmentClientProtocol

from benchmarks.peers.measured import measure, read_task


async def _told(*_: Any) -> None:
    """Failures are counted from the answers."""


async def main(task: dict[str, Any]) -> None:
    """Send."""
    place = urlsplit(task["url"])
    APNsDevelopmentClientProtocol.APNS_SERVER = place.hostname
    APNsDevelopmentClientProtocol.APNS_PORT = place.port
    tls = ssl.create_default_context(cafile=task["ca"])
    tls.set_alpn_protocols(["h2"])
    client = aioapns.APNs(
        key=Path(task["key_file"]).read_text(),
        key_id=task["key_id"],
        team_id=task["team_id"],
        topic=task["topic"],
        use_sandbox=True,
        ssl_context=tls,
        err_func=_told,
    )
    alert = {"aps": {"alert": {"title": task["title"], "body": task["body"]}}}

    async def one(n: int) -> bool:
        request = aioapns.NotificationRequest(
            device_token=f"{n:064x}", message=alert, collapse_key="0123456789abcdef"
        )
        return bool((await client.send_notification(request)).is_successful)

    async def send(count: int) -> int:
        failures = 0
        for start in range(0, count, task["at_once"]):
            numbers = range(start, min(start + task["at_once"], count))
            failures += (await asyncio.gather(*map(one, numbers))).count(False)
        return failures

    await measure(task, send)


if __name__ == "__main__":
    uvloop.run(main(read_task()))
