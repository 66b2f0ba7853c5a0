"""An HTTP/2 client shaped like the job: many small POSTs on one connection, no object per request.

For every request it says which it is: answered; surely without effect (unsent, refused, unprocessed); or in
doubt (reset, lost, timeout). Nothing is retried in here, and nothing is kept to be sent later: what the
socket does not take stays in our hands, where `recall` and the end of the connection still find it unsent.

A request costs an entry in one dictionary and one piece of bytes; ages are known by stream number, from a
mark per tick. A final status is never lost: if the rest of its answer does not come, it is reported with as
much of the body as did.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Final, Protocol

from clarion.http2 import frames
from clarion.http2.endpoint import CHUNK, CLOSING, Endpoint
from clarion.http2.frames import ErrorCode, Header, ProtocolError, StreamError, literal
from clarion.http2.requests import RequestEncoder

__all__ = ["Connection", "Fate", "GoAway", "NoHttp2", "Owner", "connect", "literal"]

ANSWER_BYTES: Final = 16_384  # of an answer's body: the stream window we give; a longer body is cut
TICK: Final = 0.25
OVERSLEPT: Final = 0.5  # a tick so late proves that we slept, not that the peer did
NAP: Final = 0.001  # reading rests so long, so that one read brings many answers,
NAP_AT: Final = 64  # when at least so many are in flight
STREAMS_UNTOLD: Final = 100  # the peer announced no limit: be modest
RECEIVE_WINDOW: Final = 2**30
TOP_UP: Final = 2**24
LAST_STREAM: Final = frames.LARGEST_STREAM - 2_000_000  # numbers run out: leave while there are some

NO_HEADERS: Final[Mapping[bytes, bytes]] = MappingProxyType({})
_PLAIN_200: Final = (200, NO_HEADERS)
_PLAIN_201: Final = (201, NO_HEADERS)
# :status 201 as a literal named by the static table, in each representation, plain or Huffman coded.
_STATUS_201: Final = tuple(
    bytes((kind,)) + text for kind in (8, 24, 72) for text in (b"\x03201", b"\x82\x10\x03")
)
_GONE: Final = object()
_pack = frames.HEAD.pack
_PING: Final = frames.frame(frames.PING, 0, 0, b"clarion?")


class Fate(StrEnum):
    """What became of a request without an answer."""

    UNSENT = "unsent"  # it did not leave, or not to its end
    REFUSED = "refused"  # RST_STREAM(REFUSED_STREAM)
    UNPROCESSED = "unprocessed"  # beyond the last stream of a GOAWAY
    RESET = "reset"  # RST_STREAM with another code, or a broken answer
    LOST = "lost"  # the connection ended
    TIMEOUT = "timeout"

    @property
    def maybe(self) -> bool:
        """Whether the peer can have processed it."""
        return self in _IN_DOUBT


class NoHttp2(ConnectionError):
    """The peer has chosen another protocol."""


_IN_DOUBT = frozenset((Fate.RESET, Fate.LOST, Fate.TIMEOUT))


class Owner(Protocol):
    """Who is told. All calls are synchronous, come from the loop, and must not raise."""

    def answered(self, key: object, status: int, headers: Mapping[bytes, bytes], body: bytes) -> None:
        """An answer. A 200 or 201 may come with an empty mapping: its headers are not even decoded."""

    def unanswered(self, key: object, fate: Fate, detail: str) -> None:
        """There will be no answer."""

    def room_made(self) -> None:
        """`room()` or `usable` may have changed. What is posted in here leaves at the end of it."""

    def closed(self, connection: Connection, reason: str) -> None:
        """The connection has ended; every request was reported before."""


class GoAway:
    """What the peer said when it asked us to leave."""

    __slots__ = ("code", "debug", "last")

    def __init__(self, last: int, code: int, debug: bytes) -> None:
        self.last = last
        self.code = code
        self.debug = debug[:1024]  # APNs puts JSON {"reason": …} here

    def __str__(self) -> str:
        said = "".join(chr(byte) if 32 <= byte < 127 else "?" for byte in self.debug[:100])
        return f"goaway {frames.code_name(self.code)}" + (f": {said}" if said else "")


class Connection(Endpoint):
    """One connection. `headers` go with every request and stand in the peer's table after the first.

    `window` bounds the requests in flight beside the peer's own limit; one older than `timeout` is given up.
    After `ping_after` seconds of silence with something in flight a ping is sent; without any sign of life
    for another `ping_wait` the connection is taken for dead.

    Raises ValueError when a header must not be framed.
    """

    def __init__(
        self,
        *,
        authority: bytes,
        headers: Sequence[Header],
        owner: Owner,
        timeout: float,
        window: int = 1000,
        scheme: bytes = b"https",
        ping_after: float = 2.0,
        ping_wait: float = 2.0,
    ) -> None:
        super().__init__()
        self.ready: asyncio.Future[None] = self._loop.create_future()  # the peer has told its settings
        self.owned = False  # from when `connect` returns it, its owner is told
        self.usable = False  # takes requests, now or when there is room
        self.goaway: GoAway | None = None

        self._owner = owner
        self._timeout = timeout
        self._window = window
        self._ping_after = ping_after
        self._ping_wait = ping_wait

        self._encoder = RequestEncoder(scheme, authority, headers)
        self._live: dict[int, object] = {}  # stream → key, oldest first
        self._heads: dict[int, tuple[int, Mapping[bytes, bytes]]] = {}  # answers whose bodies are to come,
        self._parts: dict[int, bytes] = {}  # and what has come of those in several frames
        self._next = 1
        self._first = 1  # the stream whose header block filled the peer's table
        self._marks: deque[tuple[float, int]] = deque()  # (time, the next stream number then)

        self._limit = 0
        self._received = 0  # DATA not yet given back to the peer's window

        self._acknowledged = False
        self._stateless = False  # the peer confirmed a table of size 0: every block stands alone

        self._heard = 0.0
        self._pinged: float | None = None
        self._draining = False
        self._ended = False
        self._why: str | None = None
        self._due = 0.0
        self._overslept = False
        self._timer: asyncio.TimerHandle | None = None

    # ---- asking

    def room(self) -> int:
        """Requests that may be posted now."""
        if not self.usable or self._paused or self._send_window <= 0:
            return 0
        return max(self._limit - len(self._live), 0)

    @property
    def limit(self) -> int:
        """Requests that may be in flight, by the peer's word and our window."""
        return self._limit

    @property
    def quiet_for(self) -> float:
        """Seconds since the peer was heard."""
        return self._loop.time() - self._heard

    @property
    def requests(self) -> int:
        """Requests posted so far."""
        return self._next >> 1

    @property
    def in_flight(self) -> int:
        """Requests that have no answer yet."""
        return len(self._live)

    def post(self, key: object, path: bytes, extra: bytes, body: bytes) -> None:
        """Frame one POST; it leaves with the next `flush`, or before when much has gathered.

        `extra` is a concatenation of `literal`s. Raises ValueError when the path must not be framed, and
        ConnectionError when the connection takes no requests; nothing was framed then.
        """
        if not self.usable:
            raise ConnectionError("the connection takes no requests")
        stream = self._next
        if self._encoder.restarting:
            self._first = stream
        block = self._encoder.block(path, extra)
        if len(block) > frames.FRAME_LIMIT:
            raise ValueError("the request's headers are too large")
        head = _pack(len(block) << 8 | frames.HEADERS, frames.END_HEADERS, stream)
        size = len(body)
        if size <= self._send_window and size <= self._initial_window and size <= self._frame_limit:
            self._send_window -= size
            entry = b"".join((head, block, _pack(size << 8, frames.END_STREAM, stream), body))
        else:
            entry = head + block
            self._hold(stream, body, self._initial_window)
        self._next = stream + 2
        self._live[stream] = key
        self._out.append(entry)
        self._out_bytes += len(entry)
        if self._out_bytes >= CHUNK:
            self.flush()

    def flush(self) -> None:
        """Let everything that was posted leave in one write, as far as the socket takes it."""
        if len(self._live) > self._limit:
            self.recall("the peer lowered its limit")
        super().flush()

    def recall(self, detail: str = "recalled") -> None:
        """Take back the requests of which nothing has left; they are reported as unsent, from in here."""
        heads = {_stream(entry) for entry in self._out if entry[3] == frames.HEADERS}
        if not heads:
            return
        for entry in self._out:
            if _stream(entry) in heads:
                self._send_window += _data_bytes(entry)
        self._out = [entry for entry in self._out if _stream(entry) not in heads]
        self._out_bytes = sum(map(len, self._out))
        if self._first in heads:
            self._encoder.restart()
        for stream in sorted(heads):
            self._fail(stream, Fate.UNSENT, detail)

    def drain(self) -> None:
        """Take no more requests, wait for the answers, then close."""
        self.usable = False
        self._draining = True
        self._why = self._why or "drained"
        self._loop.call_soon(self._close_if_drained)

    def abort(self) -> None:
        """Close at once; `closed` follows, and what is in flight is lost."""
        self.usable = False
        self._why = self._why or "aborted"
        if self._transport is not None:
            self._transport.abort()

    # ---- the life of the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello: no table, no push, and a stream window as large as an answer may be."""
        super().connection_made(transport)
        if not speaks_http2(transport):
            return  # `connect` leaves; our hello would be a strange request to an HTTP/1.1 server
        hello = (
            (frames.HEADER_TABLE_SIZE, 0),
            (frames.ENABLE_PUSH, 0),
            (frames.INITIAL_WINDOW_SIZE, ANSWER_BYTES),
            (frames.MAX_HEADER_LIST_SIZE, frames.HEADER_BYTES),
        )
        window = frames.window_update(0, RECEIVE_WINDOW - frames.DEFAULT_WINDOW)
        self._transport.write(frames.PREFACE + frames.settings_frame(hello) + window)
        self._heard = self._loop.time()
        self._tick_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport has ended, by whatever hand."""
        self._end(self._why or (f"connection lost: {type(exc).__name__}" if exc else "connection closed"))

    def resume_writing(self) -> None:
        """The socket takes bytes again: first what was kept, then more."""
        super().resume_writing()
        if not self._paused:
            self._tell_room()

    def _tell_room(self) -> None:
        if self._bodies:
            self._pump()  # what waits goes before what comes
        if self.owned:
            self._owner.room_made()
        self.flush()

    def _close_if_drained(self) -> None:
        if self._live or self._ended or self._transport is None or self._transport.is_closing():
            return
        self.flush()
        self._transport.write(frames.goaway(0, ErrorCode.NO_ERROR))
        self._close()

    def _die(self, reason: str, code: int) -> None:
        """End it ourselves; everything is reported now, however long the closing takes."""
        if self._ended:
            return
        self._transport.write(frames.goaway(0, code))
        self._end(reason)
        self._close()

    def _end(self, reason: str) -> None:
        if self._ended:
            return
        self._ended, self.usable = True, False
        if self._timer is not None:
            self._timer.cancel()
        unsent = {_stream(entry) for entry in self._out if entry[3] <= frames.HEADERS} | self._bodies.keys()
        self._out, self._out_bytes = [], 0
        for stream in list(self._live):
            self._give_up(stream, Fate.UNSENT if stream in unsent else Fate.LOST, reason)
        if self.owned:
            self._owner.closed(self, reason)
        elif not self.ready.done():
            self.ready.set_exception(ConnectionError(reason))
            self.ready.exception()  # `connect` may have given up before it looked

    # ---- time

    def _tick_later(self) -> None:
        interval = min(TICK, self._timeout / 4)
        self._due = self._loop.time() + interval
        self._timer = self._loop.call_later(interval, self._tick)

    def _tick(self) -> None:
        now = self._loop.time()
        late = now - self._due
        self._tick_later()
        if late > OVERSLEPT and not self._overslept:
            # The answers may lie in the socket, unread: judge nobody before the next tick.
            self._overslept = True
            self._pinged = None
            return
        self._overslept = False
        if self._live:
            self._look_for_life(now)
        if self._ended:
            return
        if self._expire(now):
            self._tell_room()
        else:
            self.flush()
        if not self._marks or self._marks[-1][1] != self._next:
            self._marks.append((now, self._next))
        if self._next > LAST_STREAM and self.usable:
            self.drain()
        self._close_if_leaving()

    def _look_for_life(self, now: float) -> None:
        if self._pinged is not None and self._heard < self._pinged:
            if now - self._pinged >= self._ping_wait:
                self._die("no answer to a ping", ErrorCode.NO_ERROR)
        elif now - self._heard >= self._ping_after:
            self._pinged = now
            self._send(_PING)

    def _expire(self, now: float) -> bool:
        """Give up the requests that are too old; whether there were any."""
        horizon = 0
        while self._marks and now - self._marks[0][0] >= self._timeout:
            horizon = self._marks.popleft()[1]
        old = []
        for stream in self._live:
            if stream >= horizon:
                break
            old.append(stream)
        if not old:
            return False
        # If one of them has not even left, neither has anything behind it; all that may go again at once.
        if any(_stream(entry) == old[-1] for entry in self._out if entry[3] == frames.HEADERS):
            self.recall("timeout before it left")
        for stream in old:
            if stream in self._live:
                self._send(frames.rst_stream(stream, ErrorCode.CANCEL))
                if stream in self._bodies:
                    self._give_up(stream, Fate.UNSENT, "timeout before its body left")
                else:
                    self._give_up(stream, Fate.TIMEOUT, f"no answer in {self._timeout:g} s")
        return True

    # ---- receiving

    def buffer_updated(self, count: int) -> None:
        """Take apart what was read. The two commonest answers are handled right here."""
        end = self._filled + count
        if self._ended:
            self._filled = 0
            return
        self._heard = self._loop.time()
        try:
            self.keep(self._take_apart(end), end)
        except ProtocolError as error:
            self._die(f"protocol error: {error}", error.code)
            return
        if self._received > TOP_UP:
            self._send(frames.window_update(0, self._received))
            self._received = 0
        if self._asks_too_much():
            self._die("it asks for answers and does not read them", ErrorCode.ENHANCE_YOUR_CALM)
        if self._ended:
            return
        self._tell_room()
        self._close_if_leaving()
        if len(self._live) >= NAP_AT and not self._transport.is_closing():
            self._transport.pause_reading()
            self._loop.call_later(NAP, self._wake)

    def _take_apart(self, end: int) -> int:
        """Handle every complete frame before `end`; where the first incomplete one starts."""
        buffer, unpack = self._buffer, frames.HEAD.unpack_from
        live, heads, parts, answered = self._live, self._heads, self._parts, self._owner.answered
        fast = self._stateless and self._fragments is None
        at = 0
        while end - at >= 9:
            kind, flags, stream = unpack(buffer, at)
            start = at + 9
            at = start + (kind >> 8)
            if kind > frames.FRAME_LIMIT << 8 | 255:
                raise ProtocolError("frame too large", ErrorCode.FRAME_SIZE_ERROR)
            if at > end:
                return start - 9
            if fast and buffer[start] == frames.STATUS_200 and kind & 255 == frames.HEADERS and kind > 256:
                if flags == frames.END_HEADERS | frames.END_STREAM and stream not in heads:
                    key = live.pop(stream, _GONE)
                    if key is not _GONE:
                        answered(key, 200, NO_HEADERS, b"")
                        continue
                elif flags == frames.END_HEADERS and stream in live and stream not in heads:
                    heads[stream] = _PLAIN_200
                    continue
            elif (
                fast
                and kind & 255 == frames.DATA
                and flags == frames.END_STREAM
                and stream in heads
                and stream not in parts
            ):
                status, headers = heads.pop(stream)
                self._received += kind >> 8
                answered(live.pop(stream), status, headers, bytes(buffer[start:at]))
                continue
            self._slow_frame(kind & 255, flags, stream, bytes(buffer[start:at]))
            fast = self._stateless and self._fragments is None
        return at

    def _wake(self) -> None:
        if not self._ended and not self._transport.is_closing():
            self._transport.resume_reading()

    def _close_if_leaving(self) -> None:
        if (self._draining or self.goaway is not None) and not self._live:
            self._close_if_drained()

    def _known(self, stream: int) -> bool:
        """Whether an answer for the stream is awaited; not so after a timeout or a reset."""
        if stream in self._live:
            return True
        if not stream & 1 or stream >= self._next:
            raise ProtocolError("a frame for a stream that was never opened")
        return False

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        self._received += len(payload)
        payload = frames.unpad(flags, payload)
        if not self._known(stream):
            return
        if stream not in self._heads:
            raise StreamError("an answer without headers")
        body = self._parts.get(stream, b"") + payload
        self._parts[stream] = body[:ANSWER_BYTES]
        if flags & frames.END_STREAM:
            self._answer(stream)
        elif len(body) >= ANSWER_BYTES:
            self._send(frames.rst_stream(stream, ErrorCode.CANCEL))
            self._answer(stream)

    def _check_headers(self, stream: int) -> None:
        self._known(stream)

    def _on_block(self, flags: int, stream: int, block: bytes) -> None:
        if self._acknowledged and not self._stateless and block[:1] == b"\x20":
            self._stateless = True
            self._decoder.limit = 0
        if self._stateless and stream not in self._live:
            return
        if self._stateless and stream not in self._heads and block.startswith(_STATUS_201):
            # What a push service says to nearly every message; nobody asks where it has put it.
            self._heads[stream] = _PLAIN_201
            if flags & frames.END_STREAM:
                self._answer(stream)
            return
        headers = self._decoder.decode(block)
        if stream not in self._live:
            return
        ends = bool(flags & frames.END_STREAM)
        if stream not in self._heads:
            status = _status(headers)
            if status < 200:
                if ends:
                    raise StreamError("an answer that is only a beginning")
                return
            self._heads[stream] = (status, dict(headers[1:]))
        elif not ends:
            raise StreamError("headers in the middle of an answer")
        if ends:
            self._answer(stream)

    def _on_reset(self, stream: int, code: int) -> None:
        if code == ErrorCode.REFUSED_STREAM:
            self._fail(stream, Fate.REFUSED, "refused by the peer")
        else:
            self._give_up(stream, Fate.RESET, f"reset {frames.code_name(code)}")

    def _on_stream_error(self, stream: int, error: StreamError) -> None:
        self._fail(stream, Fate.RESET, str(error))

    def _on_acknowledged(self) -> None:
        self._acknowledged = True

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if not self._begun:
            self._limit = min(STREAMS_UNTOLD, self._window)
        super()._on_settings(flags, payload)
        if not self.ready.done():
            self.ready.set_result(None)
            self.usable = not self._draining

    def _on_setting(self, key: int, value: int) -> None:
        if key == frames.MAX_CONCURRENT_STREAMS:
            self._limit = min(value, self._window)
        elif key == frames.HEADER_TABLE_SIZE:
            self._encoder.limit_table(value)
        elif key == frames.ENABLE_PUSH and value:
            raise ProtocolError("a server cannot allow push")

    def _on_goaway(self, last: int, code: int, debug: bytes) -> None:
        self.goaway = GoAway(last, code, debug)
        self._why = str(self.goaway)
        self.usable = False
        self.recall(self._why)
        for stream in [stream for stream in self._live if stream > last]:
            self._fail(stream, Fate.UNPROCESSED, self._why)

    # ---- telling

    def _answer(self, stream: int) -> None:
        key = self._live.pop(stream)
        status, headers = self._heads.pop(stream)
        body = self._parts.pop(stream, b"")
        self._drop(stream)
        self._owner.answered(key, status, headers, body)

    def _fail(self, stream: int, fate: Fate, detail: str) -> None:
        key = self._live.pop(stream)
        self._heads.pop(stream, None)
        self._parts.pop(stream, None)
        self._drop(stream)
        self._owner.unanswered(key, fate, detail)

    def _give_up(self, stream: int, fate: Fate, detail: str) -> None:
        """No more will come: an answer if its status is known, else a failure."""
        if stream in self._heads:
            self._answer(stream)
        else:
            self._fail(stream, fate, detail)


def _stream(entry: bytes) -> int:
    return int.from_bytes(entry[5:9], "big")


def _data_bytes(entry: bytes) -> int:
    """Bytes of flow-controlled data in an entry of the output: a whole request, its head, or a DATA frame."""
    size = int.from_bytes(entry[:3], "big")
    if entry[3] == frames.DATA:
        return size
    return max(len(entry) - 18 - size, 0)


def _status(headers: list[Header]) -> int:
    if not headers or headers[0][0] != b":status":
        raise StreamError("an answer without a status")
    text = headers[0][1]
    if len(text) != 3 or not text.isdigit():
        raise StreamError("a status that is no number")
    return int(text)


def speaks_http2(transport: asyncio.BaseTransport) -> bool:
    """Whether the peer has agreed to it; without TLS it was agreed before."""
    tls = transport.get_extra_info("ssl_object")
    return tls is None or tls.selected_alpn_protocol() == "h2"


async def connect(
    host: str,
    port: int,
    *,
    authority: bytes,
    headers: Sequence[Header],
    owner: Owner,
    tls: ssl.SSLContext | None,
    timeout: float,
    window: int = 1000,
    address: str | None = None,
    connect_timeout: float = 10.0,
) -> Connection:
    """Connect, agree on HTTP/2 and wait for the peer's settings. `tls=None` is cleartext by prior knowledge.

    `address` is dialled instead of `host`, whose certificate is still demanded. Raises OSError (of which
    ConnectionError, TimeoutError and ssl.SSLError are kinds) or ValueError for a header that must not be
    framed; the owner hears nothing of a connection that was not returned.
    """

    def protocol() -> Connection:
        return Connection(
            authority=authority,
            headers=headers,
            owner=owner,
            timeout=timeout,
            window=window,
            scheme=b"http" if tls is None else b"https",
        )

    loop = asyncio.get_running_loop()
    async with asyncio.timeout(connect_timeout):
        transport, connection = await loop.create_connection(
            protocol,
            address or host,
            port,
            ssl=tls,
            server_hostname=None if tls is None else host,
            ssl_shutdown_timeout=None if tls is None else CLOSING,
        )
        try:
            if not speaks_http2(transport):
                raise NoHttp2("the peer does not speak HTTP/2")
            await connection.ready
            if not connection.usable:
                raise ConnectionError("the peer left at once")
        except BaseException:
            transport.abort()
            raise
    connection.owned = True
    return connection
