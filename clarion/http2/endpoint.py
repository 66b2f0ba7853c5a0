"""What both ends of an HTTP/2 connection share: output in few writes, flow control, and the slow frames.

Frames that come with every request are taken apart by the client and the server themselves, each in its own
loop; everything else passes through `_frame` here, strictly checked.
"""

from __future__ import annotations

import asyncio
from typing import Final, cast

from clarion.http2 import frames
from clarion.http2.frames import ErrorCode, ProtocolError, StreamError

CHUNK: Final = 65_536  # bytes of one write, and the most that waits beyond what the socket takes
FLOOD: Final = 4_096  # frames that may wait for a peer that asks for answers and reads none
CLOSING: Final = 2.0  # a close that takes longer becomes an abort


class Endpoint(frames.FrameReader, asyncio.BufferedProtocol):
    """One end of a connection."""

    def __init__(self) -> None:
        super().__init__()
        self._loop = asyncio.get_running_loop()
        self._transport = cast(asyncio.Transport, None)
        self.mute = False  # nothing is written any more
        self._ended = False
        self._begun = False  # the peer has told its settings

        self._out: list[bytes] = []  # framed and not handed to the transport
        self._out_bytes = 0
        self._paused = False
        self._frame_limit = frames.FRAME_LIMIT
        self._initial_window = frames.DEFAULT_WINDOW
        self._send_window = frames.DEFAULT_WINDOW
        self._bodies: dict[int, bytes] = {}  # what flow control holds back,
        self._windows: dict[int, int] = {}  # and the windows of those streams

        self._decoder = frames.HeaderDecoder()
        self._fragments: frames.Fragments | None = None

    # ---- sending

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport and let it hold 64 KB beyond what the socket takes."""
        self._transport = cast(asyncio.Transport, transport)
        # Under TLS two buffers lie one behind the other, and the inner one already holds 64 KB. The outer
        # must take our hello, which waits there until the handshake's last byte is dealt with.
        tls = transport.get_extra_info("ssl_object") is not None
        self._transport.set_write_buffer_limits(high=4_096 if tls else CHUNK)

    def pause_writing(self) -> None:
        """The socket takes nothing more for now."""
        self._paused = True

    def resume_writing(self) -> None:
        """The socket takes bytes again: first what was kept."""
        self._paused = False
        self.flush()

    def flush(self) -> None:
        """Let everything that was framed leave in one write, as far as the socket takes it."""
        if self._bodies:
            self._pump()
        if self._paused or not self._out:
            return
        if self.mute:
            self._out, self._out_bytes = [], 0
        elif self._out_bytes < 2 * CHUNK:
            out, self._out, self._out_bytes = self._out, [], 0
            self._transport.write(b"".join(out))
        else:
            self._flush_in_parts()

    def _flush_in_parts(self) -> None:
        while self._out and not self._paused:
            count, size = 0, 0
            while count < len(self._out) and size < CHUNK:
                size += len(self._out[count])
                count += 1
            part = b"".join(self._out[:count])
            del self._out[:count]
            self._out_bytes -= size
            self._transport.write(part)

    def _send(self, entry: bytes) -> None:
        self._out.append(entry)
        self._out_bytes += len(entry)

    def _hold(self, stream: int, body: bytes, window: int) -> None:
        """Send this body, now or when the windows allow."""
        self._bodies[stream] = body
        self._windows[stream] = window

    def _pump(self) -> None:
        """Send of the bodies held back what the windows allow."""
        for stream, body in list(self._bodies.items()):
            while body:
                size = min(len(body), self._send_window, self._windows[stream], self._frame_limit)
                if size <= 0:
                    break
                self._send_window -= size
                self._windows[stream] -= size
                flags = frames.END_STREAM if size == len(body) else 0
                self._send(frames.frame(frames.DATA, flags, stream, body[:size]))
                body = body[size:]
            if body:
                self._bodies[stream] = body
            else:
                self._drop(stream)

    def _drop(self, stream: int) -> None:
        """Nothing more is held back for this stream."""
        if self._bodies.pop(stream, None) is not None:
            del self._windows[stream]

    def _close(self) -> None:
        self.mute = True
        self._transport.close()
        self._loop.call_later(CLOSING, self._transport.abort)

    def _asks_too_much(self) -> bool:
        return self._paused and len(self._out) > FLOOD

    # ---- receiving

    def data_received(self, data: bytes) -> None:
        """The same as a read of the transport, for who has read already."""
        self.feed(data, self.buffer_updated)

    def buffer_updated(self, count: int) -> None:
        """The transport has read so many bytes."""
        raise NotImplementedError

    def _slow_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Any frame. Raises ProtocolError."""
        stream &= frames.LARGEST_STREAM
        try:
            self._frame(kind, flags, stream, payload)
        except StreamError as error:
            self._send(frames.rst_stream(stream, error.code))
            self._on_stream_error(stream, error)

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if self._fragments is not None and (kind != frames.CONTINUATION or stream != self._fragments.stream):
            raise ProtocolError("a header block was interrupted")
        if not self._begun and (kind != frames.SETTINGS or flags & frames.ACK):
            raise ProtocolError("it does not begin with its settings")
        if kind == frames.DATA:
            self._on_data(flags, stream, payload)
        elif kind == frames.HEADERS:
            self._on_headers(flags, stream, payload)
        elif kind == frames.CONTINUATION:
            self._on_continuation(flags, payload)
        elif kind == frames.WINDOW_UPDATE:
            self._on_window(stream, payload)
        elif kind == frames.RST_STREAM:
            if len(payload) != 4:
                raise ProtocolError("RST_STREAM of a wrong length", ErrorCode.FRAME_SIZE_ERROR)
            if self._known(stream):
                self._on_reset(stream, frames.WORD.unpack(payload)[0])
        else:
            self._connection_frame(kind, flags, stream, payload)

    def _connection_frame(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == frames.PUSH_PROMISE:
            raise ProtocolError("it pushes though that is forbidden")
        if kind not in (frames.SETTINGS, frames.PING, frames.GOAWAY):
            return  # PRIORITY and unknown types are ignored, as RFC 9113 §5.5 asks
        if stream:
            raise ProtocolError("a frame of the connection on a stream")
        if kind == frames.SETTINGS:
            self._on_settings(flags, payload)
        elif kind == frames.GOAWAY:
            if len(payload) < 8:
                raise ProtocolError("GOAWAY of a wrong length", ErrorCode.FRAME_SIZE_ERROR)
            last, code = frames.TWO_WORDS.unpack_from(payload)
            self._on_goaway(last & frames.LARGEST_STREAM, code, payload[8:])
        else:
            if len(payload) != 8:
                raise ProtocolError("PING of a wrong length", ErrorCode.FRAME_SIZE_ERROR)
            self._on_ping(flags, payload)

    def _on_ping(self, flags: int, payload: bytes) -> None:
        if not flags & frames.ACK:
            self._send(frames.frame(frames.PING, frames.ACK, 0, payload))

    def _on_headers(self, flags: int, stream: int, payload: bytes) -> None:
        self._check_headers(stream)
        block = frames.header_block(flags, payload)
        if flags & frames.END_HEADERS:
            self._on_block(flags, stream, block)
        else:
            self._fragments = frames.Fragments(stream, flags, block)

    def _on_continuation(self, flags: int, payload: bytes) -> None:
        if self._fragments is None:
            raise ProtocolError("CONTINUATION of nothing")
        self._fragments.add(payload)
        if flags & frames.END_HEADERS:
            fragments, self._fragments = self._fragments, None
            self._on_block(fragments.flags, fragments.stream, fragments.whole())

    def _on_settings(self, flags: int, payload: bytes) -> None:
        if flags & frames.ACK:
            if payload:
                raise ProtocolError("an acknowledgement with settings", ErrorCode.FRAME_SIZE_ERROR)
            self._on_acknowledged()
            return
        for key, value in frames.parse_settings(payload):
            if key == frames.INITIAL_WINDOW_SIZE:
                for stream in self._windows:
                    self._windows[stream] += value - self._initial_window
                self._initial_window = value
            elif key == frames.MAX_FRAME_SIZE:
                self._frame_limit = value
            else:
                self._on_setting(key, value)
        # Behind what was framed before: its header blocks still name entries of the old table.
        self._send(frames.frame(frames.SETTINGS, frames.ACK, 0))
        self._begun = True

    def _on_window(self, stream: int, payload: bytes) -> None:
        if len(payload) != 4:
            raise ProtocolError("WINDOW_UPDATE of a wrong length", ErrorCode.FRAME_SIZE_ERROR)
        increment = frames.WORD.unpack(payload)[0] & frames.LARGEST_WINDOW
        if not stream:
            self._send_window += increment
            if not increment or self._send_window > frames.LARGEST_WINDOW:
                raise ProtocolError("a broken window", ErrorCode.FLOW_CONTROL_ERROR)
        elif self._known(stream):
            if not increment:
                raise StreamError("an empty WINDOW_UPDATE")
            if self._widen(stream, increment) > frames.LARGEST_WINDOW:
                raise StreamError("a window too large", ErrorCode.FLOW_CONTROL_ERROR)

    def _widen(self, stream: int, increment: int) -> int:
        """The stream's window, now wider. A stream with nothing to send needs none."""
        if stream not in self._windows:
            return increment
        self._windows[stream] += increment
        return self._windows[stream]

    # ---- what an end makes of it

    def _known(self, stream: int) -> bool:
        """Whether the stream is open for us. Raises ProtocolError when it never was."""
        raise NotImplementedError

    def _check_headers(self, stream: int) -> None:
        """Raises ProtocolError when HEADERS may not come on this stream."""
        raise NotImplementedError

    def _on_block(self, flags: int, stream: int, block: bytes) -> None:
        raise NotImplementedError

    def _on_data(self, flags: int, stream: int, payload: bytes) -> None:
        raise NotImplementedError

    def _on_reset(self, stream: int, code: int) -> None:
        raise NotImplementedError

    def _on_stream_error(self, stream: int, error: StreamError) -> None:
        raise NotImplementedError

    def _on_setting(self, key: int, value: int) -> None:
        raise NotImplementedError

    def _on_acknowledged(self) -> None:
        raise NotImplementedError

    def _on_goaway(self, last: int, code: int, debug: bytes) -> None:
        raise NotImplementedError
