"""Keeps connections to one origin alive for one credential: what a sender posts to.

Connects one at a time, with a back-off; replaces a connection that the peer asks us to leave, that has grown
useless, or whose headers are stale, while the old one still waits for its answers. Requests are never
repeated in here: who posted them is told, and decides.
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import Final
from urllib.parse import urlsplit

from clarion.errors import ClarionError
from clarion.http2.client import Connection, Fate, NoHttp2, connect
from clarion.http2.frames import Header

__all__ = ["Fate", "Origin"]

BACK_OFF_FIRST: Final = 0.1
BACK_OFF_MOST: Final = 5.0
BACK_OFF_JITTER: Final = 0.2
BETWEEN_CONNECTS: Final = 0.1  # even where all is well: Apple takes anything faster for an attack
USELESS_AFTER: Final = 20  # requests in a row reset or timed out, without one answer between them
REFUSING_AFTER: Final = 2_000  # in a row refused: a lowered limit explains one window of these, not two
IDLE: Final = 30.0  # after so much silence a connection that ends is not replaced before somebody asks
TURN: Final = 64  # requests to one connection before the next has its turn
CLOSE_SECONDS: Final = 2.0

Answered = Callable[[object, int, Mapping[bytes, bytes], bytes], None]
Unanswered = Callable[[object, Fate, str], None]
Headers = Callable[[], Awaitable[Sequence[Header]]]
Resolve = Callable[[str, int], Awaitable[str]]


class Origin:
    """One origin (`https://host[:port]`, or `http://` by prior knowledge) and one credential.

    `headers` is asked at every connect for what each request carries. `tls` is the context (with ALPN `h2`),
    None for http. `address` is dialled instead of the host, or what `resolve` says of it at every connect;
    the certificate is demanded for the host all the same. `failure` is why there is no connection, in a few
    words without secrets.

    `answered` and `unanswered` are called once per posted request, synchronously from the loop; they must not
    raise. Raises ValueError for an unusable URL.
    """

    def __init__(
        self,
        url: str,
        *,
        headers: Headers,
        tls: ssl.SSLContext | None,
        timeout: float,
        answered: Answered,
        unanswered: Unanswered,
        connections: int = 1,
        window: int = 1000,
        address: str | None = None,
        resolve: Resolve | None = None,
        connect_timeout: float = 10.0,
    ) -> None:
        self.host, self.port, self.authority = parse_origin(url, secure=tls is not None)
        self.failure: str | None = None
        self.no_http2 = False  # the peer chose another protocol at the last connect
        self.connects = 0

        self._headers = headers
        self._tls = tls
        self._timeout = timeout
        self._answered = answered
        self._unanswered = unanswered
        self._wanted = connections
        self._window = window
        self._address = address
        self._resolve = resolve
        self._connect_timeout = connect_timeout

        self._links: list[_Link] = []  # that take requests
        self._leaving: set[_Link] = set()  # that wait for their last answers
        self._current: Connection | None = None
        self._credit = 0  # requests that may be posted on it before its room is asked again
        self._generation = 0  # counts `renew`
        self._failures = 0  # connects in a row that led to nothing
        self._started = float("-inf")  # the last connect
        self._stage: str | None = None
        self._asked = True  # somebody wants a connection
        self._changed = asyncio.Event()
        self._wakes: list[Callable[[], None]] = []
        self._keeper: asyncio.Task[None] | None = None

    # ---- asking

    def start(self) -> None:
        """Begin to connect."""
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), name=f"origin {self.host}")

    def room(self) -> int:
        """Requests that may be posted now, over all connections."""
        if not self._links:
            self._asked = True
            self._changed.set()
            return 0
        return sum(link.connection.room() for link in self._links)

    def post(self, key: object, path: bytes, extra: bytes, body: bytes) -> None:
        """Frame one POST; only when `room()` > 0. Raises ValueError (path) or ConnectionError (no room)."""
        connection = self._current
        if self._credit <= 0 or connection is None:
            connection = self._take_turn()
        self._credit -= 1
        connection.post(key, path, extra, body)

    def flush(self) -> None:
        """Let everything posted in this turn leave."""
        for link in self._links:
            link.connection.flush()

    def recall(self) -> None:
        """Take back what the sockets have not taken: reported as unsent, from in here."""
        for link in self._links:
            link.connection.recall()

    def when_room(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` whenever `room()` may have grown or shrunk. Returns how to stop it."""
        self._wakes.append(wake)
        self._changed.set()

        def stop() -> None:
            with suppress(ValueError):
                self._wakes.remove(wake)

        return stop

    def renew(self, *, at_once: bool = False) -> None:
        """Ask for the headers anew: a new connection takes over and the old one drains.

        `at_once` takes nothing more on the old one, which leaves a gap: for headers that are refused already.
        """
        self._generation += 1
        self._changed.set()
        if at_once:
            for link in list(self._links):
                link.connection.drain()
                self._leave(link)
            self._asked = True

    def widen(self, most: int) -> None:
        """One connection more, up to so many: those there are have no room."""
        if len(self._links) >= self._wanted < most:
            self._wanted += 1
            self._changed.set()

    def waiting(self) -> str | None:
        """What it waits for: `authorization`, `connecting`, `warm-up` (one stream allowed), or None."""
        if not self._links:
            return self._stage or "connecting"
        if all(link.connection.limit <= 1 for link in self._links):
            return "warm-up"
        return None

    def now(self) -> float:
        """The loop's time."""
        return asyncio.get_running_loop().time()

    def overdue(self, since: float) -> bool:
        """Whether a request that was posted at this time is answered no more."""
        return self.now() >= since + self._timeout

    @property
    def failures(self) -> int:
        """Connects in a row that led to nothing."""
        return self._failures

    @property
    def in_flight(self) -> int:
        """Requests without an answer yet, on old connections too."""
        return sum(link.connection.in_flight for link in (*self._links, *self._leaving))

    async def close(self) -> None:
        """Stop connecting, close what is idle, and what is not when it is answered or time is up."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
        for link in list(self._links):
            link.connection.drain()
            self._leave(link)
        ends = [link.ended for link in self._leaving]
        if ends:
            await asyncio.wait(ends, timeout=CLOSE_SECONDS)
        for link in list(self._leaving):
            link.connection.abort()
        if self._leaving:
            await asyncio.wait([link.ended for link in self._leaving], timeout=CLOSE_SECONDS)

    # ---- choosing

    def _take_turn(self) -> Connection:
        rooms = [(link.connection.room(), link) for link in self._links]
        room, chosen = max(rooms, key=lambda pair: pair[0], default=(0, None))
        if chosen is None:
            raise ConnectionError("no connection takes requests")
        # Without room it is still framed, and waits in our hands: room shrinks while a turn's requests are
        # being posted when the socket takes no more.
        self._current, self._credit = chosen.connection, max(1, min(room, TURN))
        return self._current

    def _changed_room(self) -> None:
        self._credit = 0
        for wake in tuple(self._wakes):
            wake()
        self.flush()

    # ---- connecting

    async def _keep(self) -> None:
        while True:
            while not self._lacks():
                self._changed.clear()
                await self._changed.wait()
            await asyncio.sleep(self._pause())
            await self._connect()

    def _lacks(self) -> bool:
        fresh = sum(link.generation == self._generation for link in self._links)
        # After an idle connection was closed nobody may want one for hours: wait until somebody does.
        wanted = self._asked or self._wakes or fresh < len(self._links)
        return bool(wanted) and fresh < self._wanted

    def _pause(self) -> float:
        now = self.now()
        pause = max(self._started + BETWEEN_CONNECTS - now, 0.0)
        if self._failures:
            back_off = min(BACK_OFF_FIRST * 2.0 ** min(self._failures - 1, 16), BACK_OFF_MOST)
            pause = max(pause, back_off * random.uniform(1 - BACK_OFF_JITTER, 1 + BACK_OFF_JITTER))
        return pause

    async def _connect(self) -> None:
        self._started = self.now()
        self.connects += 1
        link = _Link(self, self._generation, self._answered)
        try:
            link.connection = await self._open(link)
        except Exception as error:
            self._failures += 1
            self.failure = describe(error)
            self.no_http2 = isinstance(error, NoHttp2)
        else:
            self.failure = None
            self._links.append(link)
            self._replace(link.generation)
        finally:
            self._stage = None
        asyncio.get_running_loop().call_soon(self._changed_room)  # whoever is woken must not end the keeper

    async def _open(self, link: _Link) -> Connection:
        self._stage = "authorization"
        headers = await self._headers()
        self._stage = "connecting"
        address = self._address
        if self._resolve is not None:
            address = await self._resolve(self.host, self.port)
        return await connect(
            self.host,
            self.port,
            authority=self.authority,
            headers=headers,
            owner=link,
            tls=self._tls,
            timeout=self._timeout,
            window=self._window,
            address=address,
            connect_timeout=self._connect_timeout,
        )

    def _replace(self, generation: int) -> None:
        """One connection of an older generation makes way."""
        for link in self._links:
            if link.generation < generation:
                link.connection.drain()
                self._leave(link)
                return

    # ---- told by the links

    def _leave(self, link: _Link) -> None:
        """It takes no more requests."""
        if link not in self._links:
            return
        self._links.remove(link)
        self._leaving.add(link)
        self._current, self._credit = None, 0
        if link.answers():
            self._failures = 0
        self._asked = link.connection.quiet_for < IDLE
        self._changed.set()

    def _gone(self, link: _Link, reason: str) -> None:
        self._leave(link)
        self._leaving.discard(link)
        if not link.answers():
            self._failures += 1
        if not self._links:
            self.failure = reason
        self._changed_room()


class _Link:
    """The owner of one connection."""

    connection: Connection

    def __init__(self, origin: Origin, generation: int, answered: Answered) -> None:
        self.generation = generation
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.answered = answered  # straight through: an answer should not pay for our bookkeeping
        self._origin = origin
        self._unanswered = 0
        self._answers = 0
        self._useless = 0
        self._refusing = 0
        self._fruitless_since = origin.now()  # no answer came between then and the last look

    def answers(self) -> int:
        """Requests that were answered on it: all that were posted but those without."""
        connection = self.connection
        return connection.requests - connection.in_flight - self._unanswered

    def unanswered(self, key: object, fate: Fate, detail: str) -> None:
        """Pass it on, and count whether the connection is still good for anything."""
        self._unanswered += 1
        answers = self.answers()
        if answers != self._answers:
            self._answers, self._useless, self._refusing = answers, 0, 0
            self._fruitless_since = self._origin.now()
        self._useless += fate in (Fate.RESET, Fate.TIMEOUT)
        self._refusing += fate is Fate.REFUSED
        if self._is_useless(fate):
            self.connection.drain()
            self._origin._leave(self)
        self._origin._unanswered(key, fate, detail)

    def _is_useless(self, fate: Fate) -> bool:
        """Whether another connection is worth a try: too many in vain, or nothing for a whole time-out.

        The latter is for few requests at a time: they must not use up their attempts on a connection that
        lives and answers nothing.
        """
        if self._useless >= USELESS_AFTER or self._refusing >= REFUSING_AFTER:
            return True
        return fate is Fate.TIMEOUT and self._origin.overdue(self._fruitless_since)

    def room_made(self) -> None:
        """Room may have changed, or the peer has asked us to leave."""
        if not self.connection.usable:
            self._origin._leave(self)
        self._origin._changed_room()

    def closed(self, connection: Connection, reason: str) -> None:
        """It is over."""
        if not self.ended.done():
            self.ended.set_result(None)
        self._origin._gone(self, reason)


def parse_origin(url: str, *, secure: bool) -> tuple[str, int, bytes]:
    """Host, port and authority of an origin's URL."""
    parts = urlsplit(url)
    scheme = "https" if secure else "http"
    if parts.scheme != scheme or not parts.hostname or parts.username is not None:
        raise ValueError(f"an origin is {scheme}://host[:port]")
    host = parts.hostname
    standard = 443 if secure else 80
    port = parts.port or standard
    name = f"[{host}]" if ":" in host else host.encode("idna").decode("ascii")
    return host, port, (name if port == standard else f"{name}:{port}").encode("ascii")


def describe(error: Exception) -> str:
    """An error in a few words: its class, and its text only where that is known to hold no secret."""
    kind = type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"{kind}: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"{kind}: {error.reason or 'TLS failed'}"
    if isinstance(error, TimeoutError):
        return f"{kind}: no connection in time"
    if isinstance(error, socket.gaierror):
        return f"{kind}: the name cannot be looked up"
    if isinstance(error, OSError) and not isinstance(error, ConnectionError):
        return f"{kind}: {os.strerror(error.errno) if error.errno else 'no address could be reached'}"
    if isinstance(error, ConnectionError) and error.errno:
        return f"{kind}: {os.strerror(error.errno)}"
    if isinstance(error, ClarionError | ConnectionError):
        return f"{kind}: {error}"
    return kind
