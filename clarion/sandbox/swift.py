"""The sandbox's HTTP/2 connection: requests that look like the one before are taken whole.

A sender's requests differ in their path, perhaps in one header, and in their body. When the peer's table is
unchanged, a header block with the same bytes around those two decodes to the same headers, so what was
decoded and judged once is found again by these bytes. Everything else (the first request, another client's
Huffman coding, anything odd) goes through the strict general way, which is also where templates are learned.
"""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from clarion.http2 import frames
from clarion.http2.frames import Header
from clarion.http2.server import Handler, ServerConnection
from clarion.sandbox.answer import Answer
from clarion.sandbox.drip import Dripping

TEMPLATES: Final = 256
HOLE_BYTES: Final = 36  # the header that may vary has a value of this length: a UUID
_GONE: Final = object()
_PATHS: Final = (0x04, 0x14)  # a literal :path that goes into no table


class SwiftHandler(Handler, Protocol):
    """Who answers, also by template.

    `path_form` says which paths may be taken so (with all that is checked about them), `hole` is the name of
    the header that may vary and `hole_form` what its value must look like.
    """

    path_form: re.Pattern[bytes]
    hole: bytes | None
    hole_form: re.Pattern[bytes]

    def profile(self, headers: list[Header]) -> Any:
        """What is to be known of these headers; the path and the hole do not count."""

    def take(
        self,
        conn: SwiftConnection,
        stream_id: int,
        profile: Any,
        path: bytes,
        hole: bytes | None,
        body: bytes,
        known: bool = True,
    ) -> None:
        """A complete request of a known profile, its path and hole in their forms."""


class SwiftConnection(ServerConnection):
    """A client of the sandbox. `memo` is the service's to remember something about the connection."""

    def __init__(self, service: SwiftHandler, **options: Any) -> None:
        super().__init__(service, **options)
        self.memo: Any = None
        self._service: SwiftHandler | None = service
        self._before = b""  # the block up to its path
        self._mark = b"\x00" + frames.string(service.hole) + b"\x24" if service.hole else b""
        self._hole_form = service.hole_form
        self._path_form = service.path_form
        self._templates: dict[bytes, Any] = {}  # the bytes around path and hole → profile

    def hand_over(self, handler: Handler) -> None:
        """From now on somebody else answers."""
        self._handler = handler
        self._service = None

    def forget(self) -> None:
        """What is known of headers may be told differently from now on."""
        self._templates.clear()

    def drip(self, seconds: float) -> None:
        """From now on a byte at a time."""
        self._flush_soon()
        self._transport = Dripping(self._transport, seconds)

    def garbage(self) -> None:
        """Send bytes that are no HTTP/2."""
        self._send(b"\xff\xff\xff\x00\x00\x00\x00\x00\x00this is not a frame")
        self._flush_soon()

    def answer(self, stream: int, answer: Answer, echo: bytes, body: bytes) -> None:
        """Answer with these headers beside the answer's own: `respond` for the usual case."""
        block = answer.head + answer.block + echo
        if (
            self._resize
            or self._ended
            or self._open.get(stream, _GONE) is not None
            or len(body) > min(self._send_window, self._initial_window, self._frame_limit)
        ):
            self.respond(stream, answer.status, answer.block + echo, body)
            return
        del self._open[stream]
        pack = frames.HEAD.pack
        size = len(block) << 8 | frames.HEADERS
        if body:
            self._send_window -= len(body)
            if self._widened:
                self._widened.pop(stream, None)
            entry = b"".join((pack(size, 4, stream), block, pack(len(body) << 8, 1, stream), body))
        else:
            entry = pack(size, 5, stream) + block
        self._out.append(entry)
        self._out_bytes += len(entry)
        if not self._flushing:
            self._flush_soon()

    # ---- receiving

    def _take_apart(self, end: int, at: int = 0) -> int:
        buffer, unpack, view, general = self._buffer, frames.HEAD.unpack_from, self._view, super()._take_apart
        while end - at >= 9:
            kind, flags, stream = unpack(buffer, at)
            body_head = at + 9 + (kind >> 8)
            if kind & 255 == frames.HEADERS and flags == frames.END_HEADERS and body_head + 9 <= end:
                data, last, same = unpack(buffer, body_head)
                stop = body_head + 9 + (data >> 8)
                if not data & 255 and last == 1 and same == stream and stop <= end and self._may_take(stream):
                    block = bytes(view[at + 9 : body_head])
                    if self._take(stream, block, view, body_head + 9, stop):
                        at = stop
                        continue
            done = general(min(end, body_head), at)
            if done == at:
                return at
            at = done
        return at

    def _may_take(self, stream: int) -> bool:
        """What the general way checks of a new stream, without saying what is wrong."""
        return (
            stream > self._last
            and stream & 1 == 1
            and len(self._open) < self._enforced
            and self._leaving is None
            and self._fragments is None
            and self._begun
            and self._service is not None
        )

    def _take(self, stream: int, block: bytes, view: memoryview, start: int, stop: int) -> bool:
        """Take a request by its template. False: it must go the general way, nothing has happened."""
        before = self._before
        at = len(before)
        if not before or not block.startswith(before) or len(block) <= at or block[at] > 126:
            return False
        rest_at = at + 1 + block[at]
        if rest_at > len(block):
            return False
        path, rest, hole = block[at + 1 : rest_at], block[rest_at:], None
        mark = self._mark
        if mark and (found := rest.find(mark)) >= 0:
            after = found + len(mark)
            hole = rest[after : after + HOLE_BYTES]
            rest = rest[:after] + rest[after + HOLE_BYTES :]
        profile = self._templates.get(rest)
        size = stop - start
        if (
            profile is None
            or size > self._stream_window
            or size > self._may_receive
            or not self._path_form.fullmatch(path)
            or (hole is not None and not self._hole_form.fullmatch(hole))
        ):
            return False
        self._last = stream
        self._may_receive -= size
        opened = self._open
        opened[stream] = None
        if len(opened) > self.most_open:
            self.most_open = len(opened)
        self.requests += 1
        service = self._service
        assert service is not None  # _may_take has looked
        service.take(self, stream, profile, path, hole, bytes(view[start:stop]))
        return True

    # ---- learning

    def _on_block(self, flags: int, stream: int, block: bytes) -> None:
        before = self._table_state()
        super()._on_block(flags, stream, block)
        if not self._is_same(before):
            self._templates.clear()  # the same bytes mean something else now
        elif (request := self._open.get(stream)) is not None and self._service is not None:
            self._learn(block, request[2])

    def _table_state(self) -> tuple[int, int, object]:
        table = self._decoder._table
        entries = table.dynamic_entries
        return table.maxsize, len(entries), entries[0] if entries else None

    def _is_same(self, before: tuple[int, int, object]) -> bool:
        # The newest entry by identity: whatever is put into the table is an object of its own.
        after = self._table_state()
        return before[:2] == after[:2] and before[2] is after[2]

    def _learn(self, block: bytes, headers: list[Header]) -> None:
        at = 0
        while at < len(block) and 0x80 < block[at] < 0xFF:
            at += 1
        if at + 1 >= len(block) or block[at] not in _PATHS or block[at + 1] > 126:
            return
        if any(name == b"content-length" for name, _ in headers):
            return  # the general way compares it
        before, rest = block[: at + 1], block[at + 2 + block[at + 1] :]
        if self._mark and (found := rest.find(self._mark)) >= 0:
            after = found + len(self._mark)
            if (self._mark[2:-1], rest[after : after + HOLE_BYTES]) not in headers:
                return  # not a header, but bytes in another one's value that look like it
            rest = rest[:after] + rest[after + HOLE_BYTES :]
        if before != self._before or len(self._templates) >= TEMPLATES:
            self._before = before
            self._templates.clear()
        assert self._service is not None
        self._templates[rest] = self._service.profile(headers)
