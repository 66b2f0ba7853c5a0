"""httpx over HTTP/2 with so many workers on one connection."""

from __future__ import annotations

import asyncio
import ssl
import time
from pathlib import Path
from typing import Any

import httpx
import jwt
import uvloop

from benchmarks.peers.measured import measure, read_task


def headers(task: dict[str, Any]) -> dict[str, str]:
    """What APNs wants; the provider token is made once."""
    claims = {"iss": task["team_id"], "iat": int(time.time())}
    key = Path(task["key_file"]).read_text()
    token = jwt.encode(claims, key, algorithm="ES256", headers={"kid": task["key_id"]})
    return {
        "authorization": f"bearer {token}",
        "apns-topic": task["topic"],
        "apns-push-type": "alert",
        "apns-priority": "10",
        "apns-collapse-id": "0123456789abcdef",
    }


async def main(task: dict[str, Any]) -> None:
    """Send."""
    context = ssl.create_default_context(cafile=task["ca"])
    limits = httpx.Limits(max_connections=1)
    alert = {"aps": {"alert": {"title": task["title"], "body": task["body"]}}}
    fixed = headers(task)
    async with httpx.AsyncClient(http2=True, verify=context, limits=limits, timeout=60) as client:

        async def send(count: int) -> int:
            numbers, failures = iter(range(count)), 0

            async def worker() -> None:
                nonlocal failures
                for n in numbers:
                    url = f"{task['url']}/3/device/{n:064x}"
                    answer = await client.post(url, headers=fixed, json=alert)
                    failures += answer.status_code != 200

            await client.get(f"{task['url']}/3/device/0")  # the one connection, before many want it
            await asyncio.gather(*(worker() for _ in range(task["at_once"])))
            return failures

        await measure(task, send)


if __name__ == "__main__":
    uvloop.run(main(read_task()))
