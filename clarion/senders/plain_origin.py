"""HTTP/1.1 with the face of `clarion.http2.origin.Origin`, for services that offer nothing else.

One request a connection at a time, as many connections as are needed and allowed. A request is posted only on
a connection that stands already, so that none leaves long after it was posted (an operator may have paused
meanwhile), and it is known of each whether it can have left. Requests are never repeated in here, redirects
never followed, and every connection goes to an address that was checked.
"""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import Any, Final, cast

import h11

from clarion.http2.client import ANSWER_BYTES, Fate
from clarion.http2.frames import Header, HeaderDecoder
from clarion.http2.origin import (
    BACK_OFF_FIRST,
    BACK_OFF_MOST,
    CLOSE_SECONDS,
    Answered,
    Headers,
    Resolve,
    Unanswered,
    describe,
    parse_origin,
)

CONNECTIONS: Final = 100
CONNECTS: Final = 8  # at once
STALE: Final = 30.0  # idle for longer, it may be gone without a word: not used again
HEADER_BYTES: Final = 65_536
_NOT_IN_A_PATH: Final = re.compile(rb"[^\x21-\x7e]")


class PlainOrigin:
    """One origin (`https://host[:port]`) and one credential; see `clarion.http2.origin.Origin`.

    `tls` is a context that offers `http/1.1` or nothing by ALPN. Raises ValueError for an unusable URL.
    """

    no_http2 = True

    def __init__(
        self,
        url: str,
        *,
        headers: Headers,
        tls: ssl.SSLContext,
        timeout: float,
        answered: Answered,
        unanswered: Unanswered,
        resolve: Resolve,
        connections: int = CONNECTIONS,
        connect_timeout: float = 10.0,
        answer_bytes: int = ANSWER_BYTES,
    ) -> None:
        self.answer_bytes = answer_bytes  # of an answer's body; a longer one is cut
        self.host, self.port, self.authority = parse_origin(url, secure=True)
        self.failure: str | None = None
        self.timeout = timeout
        self.answered = answered
        self.unanswered = unanswered
        self._headers = headers
        self._tls = tls
        self._resolve = resolve
        self._most = connections
        self._connect_timeout = connect_timeout
        self._talks: set[_Talk] = set()
        self._idle: list[_Talk] = []  # that take a request now; the one used last stands last
        self._connects: set[asyncio.Task[None]] = set()
        self.failures = 0  # connects in a row that led to nothing
        self._generation = 0
        self._closed = False
        self._wakes: list[Callable[[], None]] = []

    def start(self) -> None:
        """Begin to connect."""
        self._connect_more()

    def room(self) -> int:
        """Requests that may be posted now. Asking for more than there is makes connections."""
        horizon = asyncio.get_running_loop().time() - STALE
        while self._idle and self._idle[0].idle_since < horizon:
            self._idle.pop(0).close()
        if not self._idle:
            self._connect_more()
        return len(self._idle)

    def post(self, key: object, path: bytes, extra: bytes, body: bytes) -> None:
        """Send one POST; only when `room()` > 0. Raises ValueError (path) or ConnectionError (no room).

        `extra` are header literals as for HTTP/2, so that who posts need not know which it is.
        """
        if _NOT_IN_A_PATH.search(path) or not path:
            raise ValueError("the path is empty or has characters that must not be framed")
        if not self._idle:
            raise ConnectionError("no connection takes requests")
        self._idle.pop().post(key, path, (*_literals(extra), (b"content-length", b"%d" % len(body))), body)

    def flush(self) -> None:
        """Everything has left."""

    def when_room(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` whenever `room()` may have grown. Returns how to stop it."""
        self._wakes.append(wake)

        def stop() -> None:
            with suppress(ValueError):
                self._wakes.remove(wake)

        return stop

    def renew(self) -> None:
        """Ask for the headers anew: connections that bear the old ones close when they are answered."""
        self._generation += 1
        idle, self._idle = self._idle, []
        for talk in idle:
            talk.close()

    def widen(self, most: int) -> None:
        """It grows by itself."""

    @property
    def in_flight(self) -> int:
        """Requests without an answer yet."""
        return sum(talk.busy for talk in self._talks)

    async def close(self) -> None:
        """Stop connecting, close what is idle, and what is not when it is answered or time is up."""
        self._closed = True
        connects = list(self._connects)
        for task in connects:
            task.cancel()
        await asyncio.gather(*connects, return_exceptions=True)
        self.renew()
        ends = [talk.ended for talk in self._talks]
        if ends:
            await asyncio.wait(ends, timeout=CLOSE_SECONDS)
        for talk in list(self._talks):
            talk.abort()
        if self._talks:
            await asyncio.wait([talk.ended for talk in self._talks], timeout=CLOSE_SECONDS)

    # ---- connecting

    def _connect_more(self) -> None:
        at_once = 1 if self.failures else CONNECTS
        if self._closed or len(self._connects) >= at_once:
            return
        if len(self._talks) + len(self._connects) < self._most:
            task = asyncio.get_running_loop().create_task(self._connect(), name=f"connect {self.host}")
            self._connects.add(task)
            task.add_done_callback(self._connects.discard)

    async def _connect(self) -> None:
        if self.failures:
            await asyncio.sleep(min(BACK_OFF_FIRST * 2.0 ** min(self.failures - 1, 16), BACK_OFF_MOST))
        try:
            async with asyncio.timeout(self._connect_timeout):
                await self._open()
        except Exception as error:
            self.failures += 1
            self.failure = describe(error)
        else:
            self.failures, self.failure = 0, None
        asyncio.get_running_loop().call_soon(self._changed_room)

    async def _open(self) -> None:
        generation = self._generation
        fixed = ((b"host", self.authority), *await self._headers())
        address = await self._resolve(self.host, self.port)
        await asyncio.get_running_loop().create_connection(
            lambda: _Talk(self, generation, fixed),
            address,
            self.port,
            ssl=self._tls,
            server_hostname=self.host,
            ssl_shutdown_timeout=CLOSE_SECONDS,
        )

    def _changed_room(self) -> None:
        for wake in tuple(self._wakes):
            wake()

    # ---- told by the connections

    def joined(self, talk: _Talk) -> None:
        """A connection stands."""
        self._talks.add(talk)
        self.free(talk)

    def free(self, talk: _Talk) -> None:
        """A connection could take a request."""
        if self._closed or talk.generation != self._generation:
            talk.close()
        else:
            self._idle.append(talk)

    def left(self, talk: _Talk) -> None:
        """A connection takes no more requests."""
        self._talks.discard(talk)
        with suppress(ValueError):
            self._idle.remove(talk)
        self._changed_room()

    def told(self) -> None:
        """An answer came."""
        self._changed_room()


class _Talk(asyncio.Protocol):
    """One connection."""

    def __init__(self, origin: PlainOrigin, generation: int, fixed: Sequence[Header]) -> None:
        self.generation = generation
        self.busy = False
        self.idle_since = 0.0
        loop = self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        self._origin = origin
        self._fixed = fixed
        self._transport = cast(asyncio.Transport, None)
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEADER_BYTES)
        self._key: object = None
        self._head: tuple[int, Mapping[bytes, bytes]] | None = None
        self._body = b""
        self._timer: asyncio.TimerHandle | None = None

    def post(self, key: object, path: bytes, more: Sequence[Header], body: bytes) -> None:
        """Send a request. Raises ValueError when it must not be framed."""
        try:
            request = h11.Request(method=b"POST", target=path, headers=[*self._fixed, *more])
            parts = [self._http.send(event) for event in (request, h11.Data(data=body), h11.EndOfMessage())]
        except h11.LocalProtocolError as error:
            self.abort()
            raise ValueError("a request that must not be framed") from error
        self._key, self._head, self._body, self.busy = key, None, b"", True
        self._transport.write(b"".join(part for part in parts if part))
        timeout = self._origin.timeout
        self._timer = self._loop.call_later(
            timeout, self._give_up, Fate.TIMEOUT, f"no answer in {timeout:g} s"
        )

    def close(self) -> None:
        """There is nothing more to say."""
        self._transport.close()

    def abort(self) -> None:
        """End it at once."""
        self._transport.abort()

    # ---- the life of the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """It takes requests."""
        self._transport = cast(asyncio.Transport, transport)
        self.idle_since = self._loop.time()
        self._origin.joined(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over; what was asked may have been done."""
        self._give_up(Fate.LOST, "connection lost")
        if not self.ended.done():
            self.ended.set_result(None)
        self._origin.left(self)

    def data_received(self, data: bytes) -> None:
        """Take the answer apart."""
        if not self.busy:  # an answer to nothing: whatever it is, it would be taken for the next one
            self.abort()
            return
        self._receive(data)

    def eof_received(self) -> bool:
        """The peer has said all."""
        if self.busy:
            self._receive(b"")
        return False

    def _receive(self, data: bytes) -> None:
        try:
            self._http.receive_data(data)
            while self.busy and (event := self._http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                self._take(event)
        except h11.RemoteProtocolError:
            self._give_up(Fate.RESET, "an answer that is no HTTP")

    def _take(self, event: Any) -> None:
        if isinstance(event, h11.Response):
            self._head = event.status_code, dict(event.headers)
        elif isinstance(event, h11.Data):
            most = self._origin.answer_bytes
            self._body = (self._body + bytes(event.data))[:most]
            if len(self._body) == most:
                self._give_up(Fate.LOST, "")
        elif isinstance(event, h11.EndOfMessage):
            self._finish()
        elif isinstance(event, h11.ConnectionClosed):
            self._give_up(Fate.LOST, "connection closed")

    # ---- telling

    def _finish(self) -> None:
        """A whole answer."""
        http = self._http
        again = http.our_state is h11.DONE and http.their_state is h11.DONE and not http.trailing_data[0]
        if again and not self._transport.is_closing():
            http.start_next_cycle()
            self.idle_since = self._loop.time()
            self._answer()
            self._origin.free(self)
        else:
            self._answer()
            self.close()
        self._origin.told()

    def _answer(self) -> None:
        assert self._head is not None
        self._settle()
        self._origin.answered(self._key, *self._head, self._body)

    def _give_up(self, fate: Fate, detail: str) -> None:
        """No more will come: an answer if its status is known, else a failure."""
        if not self.busy:
            return
        if self._head is not None:
            self._answer()
        else:
            self._settle()
            self._origin.unanswered(self._key, fate, detail)
        self.abort()

    def _settle(self) -> None:
        self.busy = False
        if self._timer is not None:
            self._timer.cancel()


@lru_cache(64)
def _literals(extra: bytes) -> tuple[Header, ...]:
    return tuple(HeaderDecoder().decode(extra))
