"""HTTP/1.1 through `h11`, with the face of the HTTP/2 connection: one handler serves both."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Sequence
from socket import SO_LINGER, SOL_SOCKET
from typing import Any, Final, cast

import h11

from clarion.http2.frames import Header
from clarion.http2.server import Handler, ServerConnection
from clarion.sandbox.drip import Dripping

BODY_BYTES: Final = 2**25  # the control API takes long lists


class PlainConnection(asyncio.Protocol):
    """One client; its requests are numbered 1, 2, 3 … in place of stream ids.

    Headers reach the handler as from HTTP/2: lower case, with :method, :path, :scheme and :authority first.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        body_bytes: int = BODY_BYTES,
        closed: Callable[[PlainConnection, str], None] | None = None,
    ) -> None:
        self.memo: Any = None
        self.mute = False
        self._handler = handler
        self._closed = closed
        self._body_bytes = body_bytes
        self._transport = cast(asyncio.Transport, None)
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=65_536)
        self._request: h11.Request | None = None
        self._body = bytearray()
        self._number = 0
        self._answered = True
        self._last = False

    # ---- answering

    def respond(self, number: int, status: int, headers: Sequence[Header] = (), body: bytes = b"") -> bool:
        """Answer the request; False when it is too late."""
        if number != self._number or self._answered or self._transport.is_closing():
            return False
        self._answered = True
        more = [] if status in (204, 304) else [(b"content-length", b"%d" % len(body))]
        if self._last:
            more.append((b"connection", b"close"))
        self._send(h11.Response(status_code=status, headers=[*headers, *more], reason=b""))
        if body and more:
            self._send(h11.Data(data=body))
        self._send(h11.EndOfMessage())
        self._next()
        return True

    def hand_over(self, handler: Handler) -> None:
        """From now on somebody else answers."""
        self._handler = handler

    def settings(self, **values: Any) -> None:
        """HTTP/1.1 has none."""

    def forget(self) -> None:
        """Nothing is remembered of a request here."""

    def goaway(self, last_stream_id: int | None = None, code: int = 0, debug: bytes = b"") -> None:
        """The answer under way is the last one."""
        self._last = True

    def reset(self, number: int, code: int = 0) -> None:
        """There are no streams to reset: the connection ends."""
        self.abort()

    def garbage(self) -> None:
        """Send bytes that are no HTTP."""
        self._write(b"\x00\xff this is not HTTP\r\n\r\n")
        self.close()

    def drip(self, seconds: float) -> None:
        """From now on a byte at a time."""
        self._transport = Dripping(self._transport, seconds)

    def close(self) -> None:
        """Send what is written, then close."""
        self._transport.close()

    def abort(self) -> None:
        """Die suddenly, with a TCP reset."""
        socket = self._transport.get_extra_info("socket")
        if socket is not None:
            socket.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    # ---- the life of the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Wait for a request."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        if self._closed is not None:
            self._closed(self, "connection lost" if exc else "connection closed")

    def data_received(self, data: bytes) -> None:
        """Take requests apart, one after another."""
        self._http.receive_data(data)
        self._read()

    def eof_received(self) -> bool:
        """The client sends no more."""
        return False

    def _read(self) -> None:
        try:
            while (event := self._http.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                if not self._handle(event):
                    return
            if self._http.they_are_waiting_for_100_continue:
                self._send(h11.InformationalResponse(status_code=100, headers=[]))
        except h11.RemoteProtocolError as error:
            self._refuse(error.error_status_hint or 400)

    def _handle(self, event: Any) -> bool:
        """One event; False when nothing more is to be read for now."""
        if isinstance(event, h11.Request):
            self._request, self._body = event, bytearray()
        elif isinstance(event, h11.Data):
            self._body += event.data
            if len(self._body) > self._body_bytes:
                self._refuse(413)
                return False
        elif isinstance(event, h11.EndOfMessage):
            self._complete()
        elif isinstance(event, h11.ConnectionClosed):
            self.close()
            return False
        return True

    def _complete(self) -> None:
        request = self._request
        assert request is not None
        self._number += 1
        self._answered = False
        tls = self._transport.get_extra_info("ssl_object") is not None
        headers = [(name, value) for name, value in request.headers if name != b"host"]
        hosts = [value for name, value in request.headers if name == b"host"]
        pseudo = [
            (b":method", request.method),
            (b":path", request.target),
            (b":scheme", b"https" if tls else b"http"),
            (b":authority", hosts[0] if hosts else b""),
        ]
        # The same object for the handler's type: it uses nothing that we do not have.
        conn = cast(ServerConnection, self)
        body = bytes(self._body)
        self._handler.request(conn, self._number, request.method, request.target, [*pseudo, *headers], body)

    def _next(self) -> None:
        if self._last or self._http.our_state is h11.MUST_CLOSE:
            self.close()
        elif self._http.our_state is h11.DONE and self._http.their_state is h11.DONE:
            self._http.start_next_cycle()
            asyncio.get_running_loop().call_soon(self._read)

    def _refuse(self, status: int) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            close = [(b"connection", b"close"), (b"content-length", b"0")]
            self._send(h11.Response(status_code=status, headers=close, reason=b""))
            self._send(h11.EndOfMessage())
        self.close()

    def _send(self, event: Any) -> None:
        data = self._http.send(event)
        if data:
            self._write(data)

    def _write(self, data: bytes) -> None:
        if not self.mute:
            self._transport.write(data)
