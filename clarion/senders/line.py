"""A line to a provider that takes many registrations in one request: HTTP/1.1, awaited.

Requests are few and large here, so each has a task and a future; the connections below are those of
`PlainOrigin`, which knows of every request whether it can have left, repeats nothing and follows no redirect.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final, cast

from clarion.http2.client import Fate
from clarion.http2.frames import Header
from clarion.senders.plain_origin import PlainOrigin

CONNECTIONS: Final = 32
ANSWER_BYTES: Final = 2 * 1024 * 1024  # a partial success may name a thousand registrations


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer."""

    status: int
    body: bytes = field(repr=False)
    retry_after: bytes | None = None


class Unanswered(Exception):
    """There was no answer; `fate` says whether the request can have been processed."""

    def __init__(self, fate: Fate) -> None:
        super().__init__(fate.value)
        self.fate = fate


async def _itself(host: str, port: int) -> str:
    return host


class Line:
    """Connections to one origin. Not opened before `start`."""

    def __init__(
        self,
        url: str,
        tls: ssl.SSLContext,
        timeout: float,
        *,
        content_type: bytes,
        wait_header: bytes = b"retry-after",
    ) -> None:
        """Raises ValueError for an unusable URL. `timeout`: seconds for one whole request and answer;
        `wait_header`: where the provider says when to come again."""
        fixed = ((b"content-type", content_type), (b"accept", b"application/json"))

        async def headers() -> Sequence[Header]:
            return fixed

        self._origin = PlainOrigin(
            url,
            headers=headers,
            tls=tls,
            timeout=timeout,
            answered=self._answered,
            unanswered=self._unanswered,
            resolve=_itself,
            connections=CONNECTIONS,
            answer_bytes=ANSWER_BYTES,
        )
        self._wait_header = wait_header
        self._queue: deque[asyncio.Future[None]] = deque()  # requests that wait for a connection
        self._unwake = self._origin.when_room(self._move)
        self.when_room = self._origin.when_room
        self.start = self._origin.start

    def room(self) -> int:
        """Requests that would leave at once."""
        return max(0, self._origin.room() - len(self._queue))

    @property
    def failure(self) -> str | None:
        """Why connecting fails, in a few words."""
        return self._origin.failure

    @property
    def in_flight(self) -> int:
        """Requests without an answer."""
        return self._origin.in_flight

    async def post(self, path: bytes, headers: bytes, body: bytes, *, patience: float) -> Reply:
        """One request; `headers` are literals as for HTTP/2. Raises Unanswered.

        Waits at most `patience` seconds for a connection, so that nothing leaves long after it was posted.
        """
        await self._turn(patience)
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        try:
            self._origin.post(future, path, headers, body)
        except ConnectionError:
            raise Unanswered(Fate.UNSENT) from None
        return await future

    async def close(self) -> None:
        """Who waits for a connection is told that nothing left; what is on the wire may be lost."""
        self._unwake()
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_exception(Unanswered(Fate.UNSENT))
        await self._origin.close()

    async def _turn(self, patience: float) -> None:
        if not self._queue and self._origin.room() > 0:
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            async with asyncio.timeout(patience):
                await turn
        except TimeoutError:
            raise Unanswered(Fate.UNSENT) from None
        finally:
            with suppress(ValueError):
                self._queue.remove(turn)

    def _move(self) -> None:
        """As many as there are connections may go. They post in the next turn of the loop, in this order."""
        room = self._origin.room()
        for turn in tuple(self._queue)[:room]:
            if not turn.done():
                turn.set_result(None)

    def _answered(self, key: object, status: int, headers: Mapping[bytes, bytes], body: bytes) -> None:
        future = cast("asyncio.Future[Reply]", key)
        if not future.done():
            future.set_result(
                Reply(status, body, headers.get(b"retry-after", headers.get(self._wait_header)))
            )

    def _unanswered(self, key: object, fate: Fate, detail: str) -> None:
        future = cast("asyncio.Future[Reply]", key)
        if not future.done():
            future.set_exception(Unanswered(fate))
