"""The local server that all clients of a race speak to: lax and fast, it says yes as the services do.

    python -m benchmarks.bench.server DIRECTORY

DIRECTORY holds its authority (the sandbox's). One port is Apple (HTTP/2, 1,000 streams), the other one Google
and the browsers' push services (HTTP/2 with 100 streams, or HTTP/1.1); the ports are the one line on standard
output. Nothing is checked: what requests deserve is the sandbox's business, what they cost is ours.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import uvloop

from benchmarks.transport import FCM_ANSWER, pin
from clarion.http2.frames import Header
from clarion.http2.server import ServerConnection
from clarion.sandbox.certificates import Authority
from clarion.sandbox.front import Listener
from clarion.sandbox.plain import PlainConnection

Answer = tuple[int, Sequence[Header], bytes]
JSON: Final = ((b"content-type", b"application/json; charset=UTF-8"),)
APNS: Final[Answer] = (200, ((b"apns-id", b"eabeae54-14a8-11e5-b60b-1697f925ec7b"),), b"")
FCM: Final[Answer] = (200, JSON, FCM_ANSWER)
TOKEN: Final[Answer] = (
    200,
    JSON,
    json.dumps({"access_token": "y" * 220, "expires_in": 3600, "token_type": "Bearer"}).encode(),
)
PUSHED: Final[Answer] = (201, ((b"location", b"https://push.example/message/1"),), b"")


def answer_to(path: bytes) -> Answer:
    """What the service of this path says."""
    if path.startswith(b"/3/device/"):
        return APNS
    if path.startswith(b"/v1/"):
        return FCM
    return TOKEN if path.startswith(b"/token") else PUSHED


class Answers:
    """Says yes at once."""

    def request(
        self, conn: Any, stream_id: int, method: bytes, path: bytes, headers: list[Header], body: bytes
    ) -> None:
        """See `clarion.http2.server.Handler`."""
        conn.respond(stream_id, *answer_to(path))


async def serve(folder: Path) -> None:
    """Listen until ended."""
    authority, answers = Authority(folder), Answers()
    both = authority.server_context(("h2", "http/1.1"))
    apple = Listener(lambda _: ServerConnection(answers), None, authority.server_context(("h2",)))
    others = Listener(
        lambda _: ServerConnection(answers, streams=100), lambda _: PlainConnection(answers), both
    )
    await apple.open()
    await others.open()
    print(json.dumps({"apns": apple.port, "others": others.port}), flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    pin(1)
    uvloop.run(serve(Path(sys.argv[1])))
