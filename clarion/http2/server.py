"""The server side of HTTP/2, strict and scriptable: what the sandbox stands on.

A complete request is handed to a synchronous handler, which answers now or later. Everything that a provider
has been seen to do to its clients can be done from outside: limits raised and lowered, streams refused and
reset, GOAWAY with and without mercy, silence, and sudden death.
"""

from __future__ import annotations

import asyncio
import struct
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from socket import SO_LINGER, SOL_SOCKET
from typing import Final, NamedTuple, Protocol, TypeAlias

from clarion.http2 import frames
from clarion.http2.endpoint import Endpoint
from clarion.http2.frames import ErrorCode, Header, ProtocolError, StreamError

STREAMS: Final = 1000
CONNECTION_WINDOW: Final = 2**24
BODY_BYTES: Final = 2**20
ENCODED_AT_MOST: Final = 4_096
FORMS: Final = 256

_GONE: Final = object()
_FORBIDDEN: Final = frozenset(
    (b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade")
)
_NEEDED: Final = frozenset((b":method", b":scheme", b":path"))
_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
_STATUSES: Final = {
    200: b"\x88",
    204: b"\x89",
    206: b"\x8a",
    304: b"\x8b",
    400: b"\x8c",
    404: b"\x8d",
    500: b"\x8e",
}

_Request: TypeAlias = tuple[bytes, bytes, list[Header]]


class Handler(Protocol):
    """Who answers."""

    def request(
        self,
        conn: ServerConnection,
        stream_id: int,
        method: bytes,
        path: bytes,
        headers: list[Header],
        body: bytes,
    ) -> None:
        """A complete request. `headers` are all of them in their order, duplicates and :pseudo ones too."""


class OverLimit(StrEnum):
    """What a stream beyond the limit earns."""

    REFUSE = "refuse"  # RST_STREAM(REFUSED_STREAM)
    RESET = "reset"  # RST_STREAM(PROTOCOL_ERROR)
    DIE = "die"  # GOAWAY(PROTOCOL_ERROR) and the end


class ServerConnection(Endpoint):
    """One client. Use it as an asyncio protocol, or hand over bytes already read with `data_received`.

    `streams` is the limit announced, `over_limit` what a violation earns. `stream_window` and
    `connection_window` are what a client may send ahead; `give_windows=False` leaves giving more to the
    script (`give_window`). A body larger than `body_bytes` is reset. `closed` is called once, at the end,
    with a reason.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        streams: int = STREAMS,
        over_limit: OverLimit = OverLimit.REFUSE,
        stream_window: int = frames.DEFAULT_WINDOW,
        connection_window: int = CONNECTION_WINDOW,
        give_windows: bool = True,
        body_bytes: int = BODY_BYTES,
        table: int = frames.DEFAULT_TABLE,
        closed: Callable[[ServerConnection, str], None] | None = None,
    ) -> None:
        super().__init__()
        self.over_limit = over_limit
        self.answer_pings = True
        self.requests = 0
        self.refused = 0
        self.most_open = 0
        self.client_goaway: tuple[int, int, bytes] | None = None

        self._handler = handler
        self._closed = closed
        self._streams = streams  # announced
        self._enforced = (
            streams  # what a violation is measured by: the client may not have read a lower one yet
        )
        self._stream_window = stream_window  # likewise enforced
        self._announced: deque[tuple[int, int]] = deque()  # (limit, stream window) not acknowledged yet
        self._connection_window = max(connection_window, frames.DEFAULT_WINDOW)
        self._give_windows = give_windows
        self._body_bytes = body_bytes
        self._decoder = frames.HeaderDecoder(max(table, frames.DEFAULT_TABLE), strict=True)
        self._table = table

        self._prefaced = False
        self._last = 0  # the highest stream the client opened
        self._leaving: int | None = None  # our GOAWAY's last stream
        self._open: dict[
            int, _Request | None
        ] = {}  # its request while the body comes, then None: ours to answer
        self._parts: dict[int, bytearray] = {}  # bodies in several frames
        self._used: dict[int, int] = {}  # what such a stream has taken of its window
        self._may_receive = self._connection_window
        self._window_announced = stream_window
        self._widened: dict[int, int] = {}  # windows that the client widened before there was an answer
        self._resize = b""
        self._flushing = False
        self._encoded: dict[Header, bytes] = {}
        self._forms: dict[tuple[bytes, ...], _Form] = {}

    # ---- answering

    @property
    def open_streams(self) -> int:
        """Streams that are counted against the limit."""
        return len(self._open)

    def respond(
        self, stream_id: int, status: int, headers: Sequence[Header] | bytes = (), body: bytes = b""
    ) -> bool:
        """Answer a request, once; False when the stream is gone.

        `headers` may also be a concatenation of `literal`s, made once for many answers.
        """
        request = self._open.pop(stream_id, _GONE)
        if request is _GONE or self._ended:
            return False
        head = _STATUSES.get(status) or b"\x08\x03%d" % status
        block = self._resize + head + (headers if isinstance(headers, bytes) else self._encode(headers))
        self._resize = b""
        size = len(body)
        if not size:
            self._send(frames.frame(frames.HEADERS, 5, stream_id, block))
        else:
            self._send(frames.frame(frames.HEADERS, 4, stream_id, block))
            window = self._initial_window + self._widened.pop(stream_id, 0)
            if size <= self._send_window and size <= window and size <= self._frame_limit:
                self._send_window -= size
                self._send(frames.frame(frames.DATA, frames.END_STREAM, stream_id, body))
            else:
                self._hold(stream_id, body, window)
        if request is not None:  # answered before it was complete: the rest is not wanted
            self._parts.pop(stream_id, None)
            self._send(frames.rst_stream(stream_id, ErrorCode.NO_ERROR))
        self._flush_soon()
        return True

    def informational(self, stream_id: int, status: int, headers: Sequence[Header] = ()) -> None:
        """Send a 1xx ahead of the answer."""
        if stream_id not in self._open:
            return
        block = self._resize + b"\x08\x03%d" % status + self._encode(headers)
        self._resize = b""
        self._send(frames.frame(frames.HEADERS, frames.END_HEADERS, stream_id, block))
        self._flush_soon()

    def reset(self, stream_id: int, code: int = ErrorCode.INTERNAL_ERROR) -> None:
        """End one stream without an answer."""
        if self._open.pop(stream_id, _GONE) is not _GONE:
            self._forget(stream_id)
            self._send(frames.rst_stream(stream_id, code))
            self._flush_soon()

    # ---- the script

    def settings(
        self, *, max_concurrent_streams: int | None = None, at_once: bool = False, **others: int
    ) -> None:
        """Announce settings by their RFC names in lower case.

        A lower stream limit is enforced when the client has acknowledged it, or `at_once` as APNs does.
        """
        values = [(_SETTINGS[name], value) for name, value in others.items()]
        if max_concurrent_streams is not None:
            values.append((frames.MAX_CONCURRENT_STREAMS, max_concurrent_streams))
            self._streams = max_concurrent_streams
        window = others.get("initial_window_size", self._window_announced)
        self._announce(values, window)
        self._enforced = self._streams if at_once else max(self._enforced, self._streams)
        self._stream_window = max(self._stream_window, window)
        self._flush_soon()

    def goaway(self, last_stream_id: int | None = None, code: int = 0, debug: bytes = b"") -> None:
        """Ask the client to leave. Streams beyond `last_stream_id` (default: the newest) are dropped."""
        last = self._last if last_stream_id is None else last_stream_id
        self._leaving = last
        for stream in [stream for stream in self._open if stream > last]:
            del self._open[stream]
            self._forget(stream)
        self._send(frames.goaway(last, code, debug))
        self._flush_soon()

    def ping(self, payload: bytes = b"sandbox!") -> None:
        """Ask the client for a sign of life."""
        self._send(frames.frame(frames.PING, 0, 0, payload))
        self._flush_soon()

    def give_window(self, stream_id: int, increment: int) -> None:
        """Let the client send so many bytes more on a stream, or on the connection (0)."""
        if stream_id:
            self._used[stream_id] = self._used.get(stream_id, 0) - increment
        else:
            self._may_receive += increment
        self._send(frames.window_update(stream_id, increment))
        self._flush_soon()

    def send_frame(self, kind: int, flags: int, stream_id: int, payload: bytes = b"") -> None:
        """Send any frame, sensible or not."""
        self._send(frames.frame(kind, flags, stream_id, payload))
        self._flush_soon()

    def pause_reading(self) -> None:
        """Let the client's bytes lie in the socket."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Read on."""
        self._transport.resume_reading()

    def close(self) -> None:
        """Send what is framed, then close."""
        self.flush()
        if not self._transport.is_closing():
            self._close()

    def abort(self) -> None:
        """Die suddenly, with a TCP reset."""
        if self._ended or self._transport is None:  # or still in the handshake
            return
        socket = self._transport.get_extra_info("socket")
        if socket is not None:
            socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def flush(self) -> None:
        """Let everything that was framed leave, unless we are mute."""
        self._flushing = False
        if not self._ended:
            super().flush()

    # ---- the life of the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        super().connection_made(transport)
        hello = [
            (frames.MAX_CONCURRENT_STREAMS, self._streams),
            (frames.INITIAL_WINDOW_SIZE, self._stream_window),
            (frames.MAX_HEADER_LIST_SIZE, frames.HEADER_BYTES),
        ]
        if self._table != frames.DEFAULT_TABLE:
            hello.append((frames.HEADER_TABLE_SIZE, self._table))
        self._announce(hello, self._stream_window)
        if self._connection_window > frames.DEFAULT_WINDOW:
            self._send(frames.window_update(0, self._connection_window - frames.DEFAULT_WINDOW))
        self.flush()

    def connection_lost(self, exc: Exception | None) -> None:
        """The transport has ended."""
        self._end(f"connection lost: {type(exc).__name__}" if exc else "connection closed")

    def pause_writing(self) -> None:
        """The client does not read: neither do we, or it could fill our memory with answers."""
        super().pause_writing()
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if not self._paused and not self._transport.is_closing():
            self._transport.resume_reading()

    def _announce(self, values: list[tuple[int, int]], window: int) -> None:
        self._window_announced = window
        self._announced.append((self._streams, window))
        self._send(frames.settings_frame(values))

    def _flush_soon(self) -> None:
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def _end(self, reason: str) -> None:
        if self._ended:
            return
        self._ended = True
        self._open.clear()
        self._parts.clear()
        if self._closed is not None:
            self._closed(self, reason)

    def _die(self, reason: str, code: int) -> None:
        if self._ended:
            return
        self._send(frames.goaway(self._last, code, reason.encode()))
        self.flush()
        self._end(reason)
        self._close()

    def _encode(self, headers: Sequence[Header]) -> bytes:
        encoded = self._encoded
        block = b""
        for header in headers:
            part = encoded.get(header)
            if part is None:
                part = frames.literal(*header)
                if len(encoded) < ENCODED_AT_MOST:
                    encoded[header] = part
            block += part
        return block

    # ---- receiving

    def buffer_updated(self, count: int) -> None:
        """Take apart what was read, and answer in one write."""
        end = self._filled + count
        self._flushing = True  # below
        if self._ended:
            self._filled = 0
            return
        try:
            self.keep(self._take_apart(end) if self._prefaced else self._preface(end), end)
        except ProtocolError as error:
            self._die(f"protocol error: {error}", error.code)
            return
        if self._give_windows and self._may_receive < self._connection_window // 2:
            self._send(frames.window_update(0, self._connection_window - self._may_receive))
            self._may_receive = self._connection_window
        if self._asks_too_much():
            self._die("the client asks for answers and does not read them", ErrorCode.ENHANCE_YOUR_CALM)
        self.flush()

    def _preface(self, end: int) -> int:
        start = min(end, len(frames.PREFACE))
        if self._buffer[:start] != frames.PREFACE[:start]:
            raise ProtocolError("this is not HTTP/2")
        if start < len(frames.PREFACE):
            return 0
        self._prefaced = True
        return self._take_apart(end, start)

    def _take_apart(self, end: int, at: int = 0) -> int:
        """Handle every complete frame before `end`; where the first incomplete one starts."""
        buffer, unpack, view = self._buffer, frames.HEAD.unpack_from, self._view
        opened, parts = self._open, self._parts
        while end - at >= 9:
            kind, flags, stream = unpack(buffer, at)
            start = at + 9
            size = kind >> 8
            at = start + size
            if size > frames.FRAME_LIMIT:
                raise ProtocolError("frame too large", ErrorCode.FRAME_SIZE_ERROR)
            if at > end:
                return start - 9
            kind &= 255
            payload = bytes(view[start:at])
            if kind == frames.DATA and flags == frames.END_STREAM and stream not in parts:
                request = opened.get(stream)
                if request is not None and size <= self._stream_window and self._fragments is None:
                    self._may_receive -= size
                    if self._may_receive < 0:
                        raise ProtocolError("window exceeded", ErrorCode.FLOW_CONTROL_ERROR)
                    self._complete(stream, request, payload)
                    continue
            self._slow_frame(kind, flags, stream, payload)
        return at

    def _complete(self, stream: int, request: _Request, body: bytes) -> None:
        self._open[stream] = None
        self.requests += 1
        self._handler.request(self, stream, *request, body)

    def _known(self, stream: int) -> bool:
        if stream in self._open or stream in self._bodies:
            return True
        if not stream & 1 or stream > self._last:
            raise ProtocolError("a frame for a stream that was never opened")
        return False

    def _check_headers(self, stream: int) -> None:
        if stream in self._open:
            return  # trailers
        if not stream & 1:
            raise ProtocolError("a client's stream must be odd")
        if stream <= self._last:
            raise ProtocolError("HEADERS on a closed stream", ErrorCode.STREAM_CLOSED)

    def _on_block(self, flags: int, stream: int, block: bytes) -> None:
        headers = self._decoder.decode(block)  # in any case: the table must stay in step
        if stream in self._open:
            self._on_trailers(flags, stream)
            return
        self._last = stream
        if self._leaving is not None and stream > self._leaving:
            return  # announced: it will not be processed
        if len(self._open) >= self._enforced:
            self._over_limit()
        request, declares = self._request(headers)
        self._open[stream] = request
        if len(self._open) > self.most_open:
            self.most_open = len(self._open)
        if declares:
            self._parts[stream] = bytearray()  # a declared length, to be compared in `_finish`
        if flags & frames.END_STREAM:
            self._finish(stream, request)

    def _request(self, headers: list[Header]) -> tuple[_Request, bool]:
        """The request, and whether it declares its length. Requests are alike: names are judged once."""
        names = tuple([name for name, _ in headers])
        form = self._forms.get(names)
        if form is None:
            form = _form(names)
            if len(self._forms) < FORMS:
                self._forms[names] = form
        path = headers[form.path][1]
        if not path:
            raise StreamError("an empty path")
        return (headers[form.method][1], path, headers), form.declares

    def _on_trailers(self, flags: int, stream: int) -> None:
        request = self._open[stream]
        if request is None:
            raise StreamError("HEADERS behind the end of a request", ErrorCode.STREAM_CLOSED)
        if not flags & frames.END_STREAM:
            raise StreamError("headers in the middle of a request")
        self._finish(stream, request)

    def _over_limit(self) -> None:
        self.refused += 1
        if self.over_limit is OverLimit.DIE:
            raise ProtocolError("more streams than allowed")
        code = ErrorCode.REFUSED_STREAM if self.over_limit is OverLimit.REFUSE else ErrorCode.PROTOCOL_ERROR
        raise StreamError("more streams than allowed", code)

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        self._may_receive -= len(payload)
        if self._may_receive < 0:
            raise ProtocolError("window exceeded", ErrorCode.FLOW_CONTROL_ERROR)
        size = len(payload)
        payload = frames.unpad(flags, payload)
        if not self._known(stream):
            return
        request = self._open.get(stream)
        if request is None:
            raise StreamError("DATA behind the end of a request", ErrorCode.STREAM_CLOSED)
        used = self._used.get(stream, 0) + size
        if used > self._stream_window:
            raise StreamError("window exceeded", ErrorCode.FLOW_CONTROL_ERROR)
        body = self._parts.setdefault(stream, bytearray())
        body += payload
        if len(body) > self._body_bytes:
            raise StreamError("a body too large", ErrorCode.CANCEL)
        if flags & frames.END_STREAM:
            self._finish(stream, request)
            return
        self._used[stream] = used
        if self._give_windows and used > self._stream_window // 2:
            self.give_window(stream, used)

    def _finish(self, stream: int, request: _Request) -> None:
        part = self._parts.pop(stream, None)
        self._used.pop(stream, None)
        if part is None:
            self._complete(stream, request, b"")
            return
        _check_length(request, len(part))
        self._complete(stream, request, bytes(part))

    def _on_reset(self, stream: int, code: int) -> None:
        self._open.pop(stream, None)
        self._forget(stream)

    def _on_stream_error(self, stream: int, error: StreamError) -> None:
        self._open.pop(stream, None)
        self._forget(stream)

    def _forget(self, stream: int) -> None:
        self._parts.pop(stream, None)
        self._used.pop(stream, None)
        self._widened.pop(stream, None)
        self._drop(stream)

    def _widen(self, stream: int, increment: int) -> int:
        if stream in self._windows:
            return super()._widen(stream, increment)
        self._widened[stream] = self._widened.get(stream, 0) + increment
        return self._initial_window + self._widened[stream]

    def _on_setting(self, key: int, value: int) -> None:
        if key == frames.HEADER_TABLE_SIZE and value < frames.DEFAULT_TABLE:
            # We keep nothing in the client's table; saying so lets it decode every answer by itself.
            self._resize = frames.table_size(0)

    def _on_acknowledged(self) -> None:
        if not self._announced:
            raise ProtocolError("an acknowledgement of nothing")
        limit, window = self._announced.popleft()
        self._enforced = max([limit, *(later for later, _ in self._announced)])
        self._stream_window = max([window, *(later for _, later in self._announced)])

    def _on_ping(self, flags: int, payload: bytes) -> None:
        if self.answer_pings:
            super()._on_ping(flags, payload)

    def _on_goaway(self, last: int, code: int, debug: bytes) -> None:
        self.client_goaway = (last, code, debug)


_SETTINGS: Final = {
    "header_table_size": frames.HEADER_TABLE_SIZE,
    "initial_window_size": frames.INITIAL_WINDOW_SIZE,
    "max_frame_size": frames.MAX_FRAME_SIZE,
    "max_header_list_size": frames.MAX_HEADER_LIST_SIZE,
}


class _Form(NamedTuple):
    """Where a request of these header names has what, and whether it declares its length."""

    method: int
    path: int
    declares: bool


def _form(names: tuple[bytes, ...]) -> _Form:
    """Judge the names of a request's headers, in their order (RFC 9113 §8.3)."""
    count = 0
    while count < len(names) and names[count][0] == 58:
        count += 1
    pseudo = set(names[:count])
    if len(pseudo) != count or not _NEEDED <= pseudo <= _PSEUDO:
        raise StreamError("pseudo-headers missing, unknown or twice")
    if not _FORBIDDEN.isdisjoint(names) or b":" in b"".join(names[count:]):
        raise StreamError("a header that must not stand there")
    return _Form(names.index(b":method"), names.index(b":path"), b"content-length" in names)


def _check_length(request: _Request, size: int) -> None:
    for name, value in request[2]:
        if name == b"content-length" and value != b"%d" % size:
            raise StreamError("content-length tells another length")
