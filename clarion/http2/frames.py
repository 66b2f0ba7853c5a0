"""HTTP/2 on the wire (RFC 9113) and its header compression (RFC 7541), shared by client and server.

Plain numbers and bytes: this is the alphabet of the hot path, so there are no objects per frame. Encoding
never uses Huffman (it costs more than the bytes it saves); decoding understands everything.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from enum import IntEnum
from struct import Struct
from typing import Final, TypeAlias

from hpack.exceptions import HPACKError
from hpack.huffman_table import decode_huffman
from hpack.table import HeaderTable

Header: TypeAlias = tuple[bytes, bytes]

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

# Frame types.
DATA: Final = 0
HEADERS: Final = 1
PRIORITY: Final = 2
RST_STREAM: Final = 3
SETTINGS: Final = 4
PUSH_PROMISE: Final = 5
PING: Final = 6
GOAWAY: Final = 7
WINDOW_UPDATE: Final = 8
CONTINUATION: Final = 9

# Flags. ACK and END_STREAM share a bit, on different frames.
ACK: Final = 0x1
END_STREAM: Final = 0x1
END_HEADERS: Final = 0x4
PADDED: Final = 0x8
PRIORITISED: Final = 0x20

# Settings.
HEADER_TABLE_SIZE: Final = 1
ENABLE_PUSH: Final = 2
MAX_CONCURRENT_STREAMS: Final = 3
INITIAL_WINDOW_SIZE: Final = 4
MAX_FRAME_SIZE: Final = 5
MAX_HEADER_LIST_SIZE: Final = 6

DEFAULT_WINDOW: Final = 65_535
DEFAULT_TABLE: Final = 4_096
FRAME_LIMIT: Final = 16_384  # the largest frame that either of our sides accepts
LARGEST_FRAME: Final = 2**24 - 1
LARGEST_WINDOW: Final = 2**31 - 1
LARGEST_STREAM: Final = 2**31 - 1
HEADER_BYTES: Final = 65_536  # the largest header list, and the largest header block, that we decode
FRAGMENTS: Final = 32  # frames that one header block may come in

STATUS_200: Final = 0x88  # the whole of ":status: 200" in HPACK

HEAD: Final = Struct(">IBI")  # length in the upper 24 bits and type in the lower 8, flags, stream
WORD: Final = Struct(">I")
TWO_WORDS: Final = Struct(">II")
SETTING: Final = Struct(">HI")

# A name is a lower-case token (RFC 9113 §8.2.1); a value has no control characters but the tab.
_NAME: Final = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_CONTROL: Final = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


class ErrorCode(IntEnum):
    """Why a stream or a connection ended (RFC 9113 §7)."""

    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    INTERNAL_ERROR = 2
    FLOW_CONTROL_ERROR = 3
    SETTINGS_TIMEOUT = 4
    STREAM_CLOSED = 5
    FRAME_SIZE_ERROR = 6
    REFUSED_STREAM = 7
    CANCEL = 8
    COMPRESSION_ERROR = 9
    CONNECT_ERROR = 10
    ENHANCE_YOUR_CALM = 11
    INADEQUATE_SECURITY = 12
    HTTP_1_1_REQUIRED = 13


class ProtocolError(Exception):
    """The peer broke the protocol; the connection cannot go on."""

    def __init__(self, text: str, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


class StreamError(Exception):
    """The peer broke the protocol on one stream; the others go on."""

    def __init__(self, text: str, code: ErrorCode = ErrorCode.PROTOCOL_ERROR) -> None:
        super().__init__(text)
        self.code = code


def code_name(code: int) -> str:
    """The name of an error code, also of one that nobody has named."""
    return ErrorCode(code).name if code in ErrorCode.__members__.values() else f"0x{code:x}"


# ---- frames


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """One frame."""
    return HEAD.pack(len(payload) << 8 | kind, flags, stream) + payload


def settings_frame(values: Iterable[tuple[int, int]]) -> bytes:
    """A SETTINGS frame."""
    return frame(SETTINGS, 0, 0, b"".join(SETTING.pack(key, value) for key, value in values))


def window_update(stream: int, increment: int) -> bytes:
    """A WINDOW_UPDATE frame."""
    return frame(WINDOW_UPDATE, 0, stream, WORD.pack(increment))


def rst_stream(stream: int, code: int) -> bytes:
    """An RST_STREAM frame."""
    return frame(RST_STREAM, 0, stream, WORD.pack(code))


def goaway(last: int, code: int, debug: bytes = b"") -> bytes:
    """A GOAWAY frame."""
    return frame(GOAWAY, 0, 0, TWO_WORDS.pack(last, code) + debug)


def parse_settings(payload: bytes) -> list[tuple[int, int]]:
    """The settings of a frame, in order, each value within its bounds."""
    if len(payload) % 6:
        raise ProtocolError("SETTINGS of a broken length", ErrorCode.FRAME_SIZE_ERROR)
    values = [(int(key), int(value)) for key, value in SETTING.iter_unpack(payload)]
    for key, value in values:
        if key == INITIAL_WINDOW_SIZE and value > LARGEST_WINDOW:
            raise ProtocolError("INITIAL_WINDOW_SIZE too large", ErrorCode.FLOW_CONTROL_ERROR)
        if key == MAX_FRAME_SIZE and not FRAME_LIMIT <= value <= LARGEST_FRAME:
            raise ProtocolError("MAX_FRAME_SIZE out of bounds")
        if key == ENABLE_PUSH and value > 1:
            raise ProtocolError("ENABLE_PUSH is neither 0 nor 1")
    return values


def unpad(flags: int, payload: bytes) -> bytes:
    """The payload of a DATA or HEADERS frame without its padding (RFC 9113 §6.1)."""
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise ProtocolError("padding longer than its frame")
    return payload[1 : len(payload) - payload[0]]


def header_block(flags: int, payload: bytes) -> bytes:
    """The header block fragment of a HEADERS frame, without padding and priority."""
    payload = unpad(flags, payload)
    if not flags & PRIORITISED:
        return payload
    if len(payload) < 5:
        raise ProtocolError("HEADERS too short for its priority", ErrorCode.FRAME_SIZE_ERROR)
    return payload[5:]


# ---- header compression: encoding


def integer(value: int, bits: int, first: int = 0) -> bytes:
    """An integer with a prefix of `bits` bits; `first` holds the bits above the prefix (RFC 7541 §5.1)."""
    most = (1 << bits) - 1
    if value < most:
        return bytes((first | value,))
    out = bytearray((first | most,))
    value -= most
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


LENGTHS: Final = tuple(integer(n, 7) for n in range(1024))  # most strings are short: their lengths, encoded


def string(value: bytes) -> bytes:
    """A string literal, not Huffman coded."""
    size = len(value)
    return (LENGTHS[size] if size < 1024 else integer(size, 7)) + value


def check_header(name: bytes, value: bytes) -> None:
    """Refuse what must not be framed: one bad header can take a whole connection down.

    Raises ValueError; the text names the header and never its value.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("a header name must be a lower-case token")
    if _CONTROL.search(value):
        raise ValueError(f"control character in the value of {name.decode('ascii')}")


def _named(kind: int, bits: int, name: bytes) -> bytes:
    known = HeaderTable.STATIC_TABLE_MAPPING.get(name)
    return integer(known[0], bits, kind) if known else bytes((kind,)) + string(name)


def literal(name: bytes, value: bytes, *, never_indexed: bool = False) -> bytes:
    """One header, encoded so that it touches no table: it may stand in any request, any number of times.

    `never_indexed` asks every hop never to keep it in a table. Raises ValueError for what must not be framed.
    """
    check_header(name, value)
    return _named(0x10 if never_indexed else 0x00, 4, name) + string(value)


def indexing(name: bytes, value: bytes) -> bytes:
    """One header, encoded so that the peer puts it into its table."""
    check_header(name, value)
    return _named(0x40, 6, name) + string(value)


def indexed(index: int) -> bytes:
    """A header that is in the table."""
    return integer(index, 7, 0x80)


def table_size(size: int) -> bytes:
    """A dynamic table size update; stands at the head of a header block."""
    return integer(size, 5, 0x20)


def entry_size(name: bytes, value: bytes) -> int:
    """What an entry takes in the table (RFC 7541 §4.1)."""
    return len(name) + len(value) + 32


# ---- header compression: decoding


def _read_integer(block: bytes, at: int, bits: int) -> tuple[int, int]:
    most = (1 << bits) - 1
    value = block[at] & most
    at += 1
    if value < most:
        return value, at
    for shift in range(0, 28, 7):
        byte = block[at]
        at += 1
        value += (byte & 127) << shift
        if byte < 128:
            return value, at
    raise ProtocolError("an integer of a header block is too long", ErrorCode.COMPRESSION_ERROR)


def _read_string(block: bytes, at: int) -> tuple[bytes, int]:
    coded = block[at] & 0x80
    size = block[at] & 0x7F
    if size < 127:
        at += 1
    else:
        size, at = _read_integer(block, at, 7)
    end = at + size
    if end > len(block):
        raise ProtocolError("a header block is cut short", ErrorCode.COMPRESSION_ERROR)
    value = block[at:end]
    return (decode_huffman(value) if coded else value), end


def _check_size(headers: list[Header]) -> None:
    if sum(len(name) + len(value) + 32 for name, value in headers) > HEADER_BYTES:
        raise ProtocolError("header list too large", ErrorCode.ENHANCE_YOUR_CALM)


class HeaderDecoder:
    """Decodes header blocks. Table and Huffman code are `hpack`'s; the loop is ours and three times as fast.

    `limit` is the largest table that we have allowed the peer (what we announced, once it is acknowledged).
    `strict` refuses names and values that must not be framed, with StreamError; the table stays in step.
    """

    def __init__(self, limit: int = DEFAULT_TABLE, *, strict: bool = False) -> None:
        self.limit = limit
        self._strict = strict
        self._good_names: set[bytes] = set()
        self._bad_headers: set[Header] = set()  # in the table, where a later block could name them
        self._bad = False
        self._table = HeaderTable()
        self._known: list[Header] = []
        self._strings: dict[bytes, bytes] = {}  # Huffman-coded names and short values seen before

    def decode(self, block: bytes) -> list[Header]:
        """The headers of one whole block, in order. Raises ProtocolError, or StreamError when strict."""
        self._bad = False
        try:
            headers = self._decode(block)
        except (HPACKError, IndexError) as error:
            raise ProtocolError("a header block is broken", ErrorCode.COMPRESSION_ERROR) from error
        if self._bad:
            raise StreamError("a header that must not be framed")
        return headers

    def _decode(self, block: bytes) -> list[Header]:
        headers: list[Header] = []
        known = self._known or self._know()
        at, end = 0, len(block)
        while at < end:
            byte = block[at]
            if 0x80 < byte < 0xFF:
                header = known[byte & 0x7F]
                at += 1
                if self._bad_headers and header in self._bad_headers:
                    self._bad = True
            elif byte & 0xE0 == 0x20:
                if headers:
                    raise ProtocolError("table size update behind a header", ErrorCode.COMPRESSION_ERROR)
                at = self._resize(block, at)
                known = self._know()
                continue
            elif byte & 0x80:
                index, at = _read_integer(block, at, 7)
                header = self._table.get_by_index(index)
            else:
                header, at = self._literal(block, at, 6 if byte & 0x40 else 4)
                if byte & 0x40:
                    self._table.add(*header)
                    known = self._know()
            headers.append(header)
        # So many entries of a table of 4 KB, and so short a block, cannot exceed the bound.
        if len(headers) > 15 or end > FRAME_LIMIT or self.limit > DEFAULT_TABLE:
            _check_size(headers)
        return headers

    def _know(self) -> list[Header]:
        """All entries by their index."""
        self._known = [(b"", b""), *HeaderTable.STATIC_TABLE, *self._table.dynamic_entries]
        return self._known

    def _literal(self, block: bytes, at: int, bits: int) -> tuple[Header, int]:
        index = block[at] & (1 << bits) - 1
        if not index:
            name, at = self._read(block, at + 1)
        elif index < (1 << bits) - 1:
            name, at = self._known[index][0], at + 1
        else:
            index, at = _read_integer(block, at, bits)
            name = self._table.get_by_index(index)[0]
        size = block[at]
        if size < 127:  # `_read` for the commonest case
            end = at + 1 + size
            value, at = block[at + 1 : end], end
            if end > len(block):
                raise ProtocolError("a header block is cut short", ErrorCode.COMPRESSION_ERROR)
        else:
            value, at = self._read(block, at)
        if self._strict and (_CONTROL.search(value) or name not in self._good_names):
            self._check(name, value)
        return (name, value), at

    def _check(self, name: bytes, value: bytes) -> None:
        try:
            check_header(name, value)
        except ValueError:
            self._bad = True
            if len(self._bad_headers) < 512:
                self._bad_headers.add((name, value))
        else:
            if len(self._good_names) < 512:
                self._good_names.add(name)

    def _read(self, block: bytes, at: int) -> tuple[bytes, int]:
        size = block[at]
        if size < 127:  # short and plain, as from a client that thinks like ours
            at += 1
            end = at + size
            if end > len(block):
                raise ProtocolError("a header block is cut short", ErrorCode.COMPRESSION_ERROR)
            return block[at:end], end
        end = at + 1 + (size & 127)
        if size > 127 and size < 128 + 33 and end <= len(block):  # short and Huffman coded: often seen before
            coded = block[at:end]
            value = self._strings.get(coded)
            if value is None:
                value, end = _read_string(block, at)
                if len(self._strings) < 512:
                    self._strings[coded] = value
            return value, end
        return _read_string(block, at)

    def _resize(self, block: bytes, at: int) -> int:
        size, at = _read_integer(block, at, 5)
        if size > self.limit:
            raise ProtocolError("table larger than allowed", ErrorCode.COMPRESSION_ERROR)
        self._table.maxsize = size
        return at


# ---- header blocks that come in several frames


class Fragments:
    """A header block under way: HEADERS and the CONTINUATION frames behind it (RFC 9113 §6.10)."""

    __slots__ = ("_parts", "_size", "flags", "stream")

    def __init__(self, stream: int, flags: int, part: bytes) -> None:
        self.stream = stream
        self.flags = flags
        self._parts = [part]
        self._size = len(part)

    def add(self, part: bytes) -> None:
        """One more frame's part; bounded, for a peer could go on for ever (CVE-2024-24549 and its kin)."""
        self._parts.append(part)
        self._size += len(part)
        if self._size > HEADER_BYTES or len(self._parts) > FRAGMENTS:
            raise ProtocolError("header block too large", ErrorCode.ENHANCE_YOUR_CALM)

    def whole(self) -> bytes:
        """The complete block."""
        return b"".join(self._parts)


# ---- reading


class FrameReader:
    """The read buffer of an `asyncio.BufferedProtocol`: one piece of memory for the connection's whole life.

    A fresh 256 KB bytes object per read (what `data_received` gets) is mapped and unmapped by the allocator
    each time, which costs more than everything else we do with it.
    """

    BUFFER = 65_536

    def __init__(self) -> None:
        # One byte more than is ever read into, so that looking one byte past a frame header needs no check.
        self._buffer = bytearray(self.BUFFER + 1)
        self._view = memoryview(self._buffer)
        self._filled = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the transport puts what it reads (never empty: a frame is smaller than the buffer)."""
        return self._view[self._filled : self.BUFFER]

    def keep(self, start: int, end: int) -> None:
        """Keep the unfinished frame between `start` and `end` for the next read."""
        if start and start < end:
            self._buffer[: end - start] = self._buffer[start:end]
        self._filled = end - start

    def feed(self, data: bytes, updated: Callable[[int], None]) -> None:
        """Take bytes that somebody else has read, e.g. a front that peeked at the preface."""
        while data:
            target = self.get_buffer(-1)
            count = min(len(data), len(target))
            target[:count] = data[:count]
            data = data[count:]
            updated(count)
