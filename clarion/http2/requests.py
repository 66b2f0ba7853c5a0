"""Header blocks of requests that differ in their path and a few literals: everything else is encoded once."""

from __future__ import annotations

from collections.abc import Sequence

from clarion.http2 import frames
from clarion.http2.frames import Header

_VISIBLE = bytes(range(0x21, 0x7F))  # what a path may be made of
_POST = b"\x83"
_SCHEMES = {b"http": b"\x86", b"https": b"\x87"}
_PATH = b"\x04"  # a literal named by the static table's :path, kept in no table


class RequestEncoder:
    """Writes the header blocks of one connection.

    The first block puts the authority and the fixed headers into the peer's table, as far as they fit; later
    blocks name them by index. Blocks must leave in the order in which they were made; when the first of them
    is taken back, `restart`.

    Raises ValueError for a header that must not be framed.
    """

    def __init__(self, scheme: bytes, authority: bytes, headers: Sequence[Header]) -> None:
        self._fixed = [(b":authority", authority), *headers]
        for name, value in self._fixed:
            frames.check_header(name, value)
        self._request = _POST + _SCHEMES[scheme]
        self._table = frames.DEFAULT_TABLE
        self._resize = b""
        self.restarting = True  # the next block is a first one
        self._before = b""
        self._behind = b""

    def block(self, path: bytes, extra: bytes) -> bytes:
        """The header block of one POST. Raises ValueError when the path must not be framed."""
        if not path or path.translate(None, _VISIBLE):
            raise ValueError("the path is empty or has characters that must not be framed")
        if self.restarting:
            return self._first_block(path, extra)
        size = len(path)
        length = frames.LENGTHS[size] if size < 1024 else frames.integer(size, 7)
        return b"".join((self._before, length, path, self._behind, extra))

    def limit_table(self, size: int) -> None:
        """The peer's table may be this large from now on."""
        size = min(size, frames.DEFAULT_TABLE)
        if size != self._table:
            self._table = size
            self.restart()

    def restart(self) -> None:
        """Forget what the peer's table holds: the next block empties and fills it."""
        # Down to nothing first, whatever sizes lay between: RFC 7541 §4.2 wants the smallest to be signalled.
        self._resize = frames.table_size(0) + (frames.table_size(self._table) if self._table else b"")
        self.restarting = True

    def _first_block(self, path: bytes, extra: bytes) -> bytes:
        kept, room = [], self._table
        for header in self._fixed:
            room -= frames.entry_size(*header)
            kept.append(room >= 0)
        first, later, index = [], [], 61 + sum(kept)
        for header, keep in zip(self._fixed, kept, strict=True):
            first.append(frames.indexing(*header) if keep else frames.literal(*header))
            later.append(frames.indexed(index) if keep else first[-1])
            index -= keep
        resize, self._resize, self.restarting = self._resize, b"", False
        self._before = self._request + later[0] + _PATH
        self._behind = b"".join(later[1:])
        return b"".join((resize, self._request, first[0], _PATH, frames.string(path), *first[1:], extra))
