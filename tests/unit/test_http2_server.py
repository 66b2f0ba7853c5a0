"""How strict our server is, and what a script can make it do."""

from __future__ import annotations

import asyncio
from typing import Any

import hpack
import pytest

from clarion.http2 import frames
from clarion.http2.frames import ErrorCode, frame, literal
from clarion.http2.server import OverLimit, ServerConnection
from tests.support.http2 import Answering, Wire, give

HELLO = frames.PREFACE + frame(frames.SETTINGS, 0, 0)
ACK = frame(frames.SETTINGS, frames.ACK, 0)
GET = b"\x82\x87\x04\x02/a"  # GET, https, path /a


def served(**options: Any) -> tuple[ServerConnection, Answering, Wire]:
    """A server that has seen a client's hello and answers nothing by itself."""
    handler = Answering()
    handler.answer = lambda conn, stream, key: None
    handler.options = options
    server = handler.factory()
    wire = Wire(server)
    server.connection_made(wire)
    give(server, HELLO)
    wire.unread()
    return server, handler, wire


def written(server: ServerConnection, wire: Wire) -> list[tuple[int, int, int, bytes]]:
    """The frames written since the last look."""
    server.flush()
    data, found = wire.unread(), []
    while data:
        kind, flags, stream = frames.HEAD.unpack_from(data)
        end = 9 + (kind >> 8)
        found.append((kind & 255, flags, stream, data[9:end]))
        data = data[end:]
    return found


def request(stream: int, *, ends: bool = True, block: bytes = GET) -> bytes:
    """A request's HEADERS frame."""
    return frame(frames.HEADERS, 5 if ends else 4, stream, block)


async def test_it_speaks_to_a_client_without_alpn() -> None:
    """Bytes that a front has read already are fed; the preface may come in pieces."""
    handler = Answering()
    server = handler.factory()
    wire = Wire(server)
    server.connection_made(wire)
    data = HELLO + request(1)
    server.data_received(data[:10])
    server.data_received(data[10:30])
    server.data_received(data[30:])
    assert handler.seen == ["a"]
    server.abort()


async def test_what_is_not_http2_is_sent_away() -> None:
    """HTTP/1.1 on an HTTP/2 connection: GOAWAY, close, and the owner is told once."""
    handler = Answering()
    server = handler.factory()
    wire = Wire(server)
    server.connection_made(wire)
    give(server, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert wire.closing
    assert handler.closed == ["protocol error: this is not HTTP/2"]


@pytest.mark.parametrize(
    ("over", "code"),
    [(OverLimit.REFUSE, ErrorCode.REFUSED_STREAM), (OverLimit.RESET, ErrorCode.PROTOCOL_ERROR)],
)
async def test_streams_beyond_the_limit_are_reset(over: OverLimit, code: ErrorCode) -> None:
    """One stream allowed, two opened: the second is reset with the wanted code, the first lives."""
    server, handler, wire = served(streams=1, over_limit=over)
    give(server, request(1) + request(3, ends=False) + frame(frames.DATA, 1, 3, b"body"))

    assert handler.seen == ["a"]
    assert written(server, wire) == [(frames.RST_STREAM, 0, 3, frames.WORD.pack(code))]
    assert server.refused == 1
    server.respond(1, 200)
    give(server, request(5))
    assert handler.seen == ["a", "a"]
    server.abort()


async def test_streams_beyond_the_limit_can_be_the_end() -> None:
    """With `die` the whole connection goes."""
    server, _, wire = served(streams=1, over_limit=OverLimit.DIE)
    give(server, request(1) + request(3))
    assert wire.closing


async def test_a_lower_limit_holds_when_the_client_knows_it() -> None:
    """Streams that crossed the settings on their way are served; after the acknowledgement none is."""
    server, handler, wire = served(streams=10)
    give(server, ACK)
    server.settings(max_concurrent_streams=1)
    give(server, request(1) + request(3))
    assert len(handler.seen) == 2
    give(server, ACK + request(5))
    assert len(handler.seen) == 2
    assert (frames.RST_STREAM, 0, 5, frames.WORD.pack(7)) in written(server, wire)
    server.abort()


async def test_a_lower_limit_can_hold_at_once() -> None:
    """As APNs does: what is in flight above the new limit is refused before the client can know it."""
    server, handler, _ = served(streams=10)
    server.settings(max_concurrent_streams=1, at_once=True)
    give(server, request(1) + request(3))
    assert len(handler.seen) == 1
    server.settings(max_concurrent_streams=3)
    give(server, request(5))
    assert len(handler.seen) == 2
    server.abort()


async def test_headers_come_in_order_with_duplicates() -> None:
    """Pseudo-headers too; Huffman coding, tables and never-indexed literals are all understood."""
    server, handler, _ = served()
    heard: list[list[tuple[bytes, bytes]]] = []
    handler.on_headers = heard.append
    wanted = [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":path", b"/3/device/abc"),
        (b":authority", b"x"),
        (b"dup", b"1"),
        (b"authorization", b"bearer secret"),
        (b"dup", b"2"),
    ]
    encoder = hpack.Encoder()
    for stream in (1, 3):
        give(
            server,
            request(stream, block=encoder.encode([(*pair, pair[0] == b"authorization") for pair in wanted])),
        )
    assert heard == [wanted, wanted]
    server.abort()


MALFORMED = {
    "no path": b"\x82\x87",
    "no method": b"\x87\x04\x02/a",
    "empty path": b"\x82\x87\x04\x00",
    "path twice": GET + b"\x04\x02/b",
    "pseudo behind a header": GET + literal(b"a", b"b") + b"\x01\x01x",
    "unknown pseudo": b"\x82\x87\x04\x02/a\x00\x05:nope\x01x",
    "upper case": GET + b"\x00\x01A\x01b",
    "line feed in a value": GET + b"\x00\x01a\x03b\nc",
    "line feed in the path": b"\x82\x87\x04\x04/a\nb",
    "connection": GET + literal(b"connection", b"close"),
    "content-length of another length": GET + literal(b"content-length", b"5"),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_malformed_requests_are_reset(name: str) -> None:
    """RFC 9113 §8.1.1: the stream ends with PROTOCOL_ERROR, the handler sees nothing, others are served."""
    server, handler, wire = served()
    give(server, request(1, block=MALFORMED[name]) + request(3))
    assert handler.seen == ["a"]
    assert written(server, wire) == [(frames.RST_STREAM, 0, 1, frames.WORD.pack(1))]
    assert server.open_streams == 1
    server.abort()


async def test_a_content_length_is_compared() -> None:
    """Also when the body comes in one frame."""
    server, handler, _ = served()
    block = GET + literal(b"content-length", b"3")
    give(server, request(1, ends=False, block=block) + frame(frames.DATA, 1, 1, b"abc"))
    give(server, request(3, ends=False, block=block) + frame(frames.DATA, 1, 3, b"abcd"))
    assert handler.seen == ["a"]
    server.abort()


HOSTILE = {
    "even stream": (request(2), 1),
    "stream used again": (request(3) + request(1), 5),
    "data on an idle stream": (frame(frames.DATA, 1, 1, b"x"), 1),
    "window exceeded": (request(1, ends=False) + frame(frames.DATA, 0, 1, b"x" * 16_384) * 5, 3),
    "interrupted block": (frame(frames.HEADERS, 1, 1, GET) + ACK, 1),
    "endless block": (frame(frames.HEADERS, 1, 1, GET) + frame(frames.CONTINUATION, 0, 1, b"") * 64, 11),
    "broken block": (request(1, block=b"\xff\xff\xff"), 9),
    "acknowledgement of nothing": (ACK + ACK, 1),
    "push": (frame(frames.PUSH_PROMISE, 4, 1, b"\0\0\0\x02" + GET), 1),
    "reset of an idle stream": (frames.rst_stream(1, 8), 1),
    "frame too large": (b"\x00\x40\x01\x00\x00\x00\x00\x00\x01", 6),
    "garbage": (b"\xff" * 50, 6),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_broken_clients_are_sent_away(name: str) -> None:
    """GOAWAY with the right code, then the end."""
    data, code = HOSTILE[name]
    server, handler, wire = served(give_windows=False, connection_window=65_535)
    give(server, data)
    kind, _, _, payload = written_whole(wire)[-1]
    assert kind == frames.GOAWAY
    assert int.from_bytes(payload[4:8], "big") == code
    assert wire.closing
    assert len(handler.closed) == 1


def written_whole(wire: Wire) -> list[tuple[int, int, int, bytes]]:
    """The frames written since the last look, the connection being gone."""
    data, found = wire.unread(), []
    while data:
        kind, flags, stream = frames.HEAD.unpack_from(data)
        end = 9 + (kind >> 8)
        found.append((kind & 255, flags, stream, data[9:end]))
        data = data[end:]
    return found


async def test_a_stream_that_exceeds_its_window_is_reset() -> None:
    """The stream's own window, while the connection's is wide."""
    server, handler, wire = served(stream_window=10, give_windows=False)
    give(server, request(1, ends=False) + frame(frames.DATA, 1, 1, b"x" * 11))
    assert handler.seen == []
    assert written(server, wire) == [(frames.RST_STREAM, 0, 1, frames.WORD.pack(3))]
    server.abort()


async def test_windows_can_be_given_by_hand() -> None:
    """A script starves a client and then lets it go on."""
    server, handler, wire = served(stream_window=10, give_windows=False)
    give(server, request(1, ends=False) + frame(frames.DATA, 0, 1, b"x" * 10))
    assert written(server, wire) == []
    server.give_window(1, 5)
    assert written(server, wire) == [(frames.WINDOW_UPDATE, 0, 1, frames.WORD.pack(5))]
    give(server, frame(frames.DATA, 1, 1, b"x" * 5))
    assert handler.seen == ["a"]
    server.abort()


async def test_a_body_too_large_is_reset() -> None:
    """The sandbox bounds what it takes."""
    server, handler, wire = served(body_bytes=20_000)
    give(server, request(1, ends=False) + frame(frames.DATA, 0, 1, b"x" * 15_000) * 2)
    assert handler.seen == []
    assert (frames.RST_STREAM, 0, 1, frames.WORD.pack(ErrorCode.CANCEL)) in written(server, wire)
    server.abort()


async def test_answers_wait_for_the_clients_windows() -> None:
    """A client that gives 4 bytes gets 4, and the rest when it gives more; before the answer as well."""
    server, _, wire = served()
    give(
        server,
        frames.settings_frame([(frames.INITIAL_WINDOW_SIZE, 4)]) + request(1) + frames.window_update(1, 2),
    )
    server.respond(1, 200, [], b"0123456789")
    data = [entry[3] for entry in written(server, wire) if entry[0] == frames.DATA]
    assert data == [b"012345"]
    give(server, frames.window_update(1, 100))
    assert [entry[1:] for entry in written(server, wire)] == [(1, 1, b"6789")]
    server.abort()


async def test_an_answer_is_given_once() -> None:
    """A second answer, and one to a stream that the client has reset, is False and says nothing."""
    server, _, wire = served()
    give(server, request(1) + request(3) + frames.rst_stream(3, 8))
    assert server.respond(1, 204)
    assert not server.respond(1, 204)
    assert not server.respond(3, 204)
    assert written(server, wire) == [(frames.HEADERS, 5, 1, b"\x89")]
    server.abort()


async def test_a_client_without_a_table_is_told_so_once() -> None:
    """When it asks for a table of size 0 the first answer confirms that; blocks then stand alone."""
    server, _, wire = served()
    give(server, frames.settings_frame([(frames.HEADER_TABLE_SIZE, 0)]) + request(1) + request(3))
    server.respond(1, 200)
    server.respond(3, 410, [(b"a", b"b")])
    blocks = [entry[3] for entry in written(server, wire) if entry[0] == frames.HEADERS]
    assert blocks == [b"\x20\x88", b"\x08\x03410" + literal(b"a", b"b")]
    server.abort()


async def test_goaway_drops_what_lies_beyond() -> None:
    """Streams beyond the named one are not answered, and new ones not served."""
    server, handler, wire = served()
    give(server, request(1) + request(3))
    server.goaway(1, ErrorCode.NO_ERROR, b'{"reason":"Shutdown"}')
    give(server, request(5))
    assert not server.respond(3, 200)
    assert server.respond(1, 200)
    assert handler.seen == ["a", "a"]
    sent = written(server, wire)
    assert sent[0] == (frames.GOAWAY, 0, 0, frames.TWO_WORDS.pack(1, 0) + b'{"reason":"Shutdown"}')
    server.abort()


async def test_a_mute_server_is_a_black_hole() -> None:
    """It reads on and writes nothing: no answers, no acknowledgements, no pings."""
    server, handler, wire = served()
    server.mute = True
    give(server, request(1) + frame(frames.PING, 0, 0, b"12345678"))
    server.respond(1, 200)
    await asyncio.sleep(0)
    assert handler.seen == ["a"]
    assert written(server, wire) == []
    server.abort()


async def test_pings_can_be_left_unanswered() -> None:
    """Only pings: answers go on."""
    server, _, wire = served()
    server.answer_pings = False
    give(server, frame(frames.PING, 0, 0, b"12345678") + request(1))
    server.respond(1, 200)
    assert [entry[0] for entry in written(server, wire)] == [frames.HEADERS]
    server.abort()


async def test_a_late_answer_leaves_by_itself() -> None:
    """Outside a read, answers of one turn leave together at its end."""
    server, _, wire = served()
    give(server, request(1) + request(3))
    server.respond(1, 200)
    server.respond(3, 200)
    assert wire.unread() == b""
    await asyncio.sleep(0)
    assert wire.unread() == frame(frames.HEADERS, 5, 1, b"\x88") + frame(frames.HEADERS, 5, 3, b"\x88")
    server.abort()


async def test_trailers_end_a_request() -> None:
    """HEADERS behind DATA: the body is complete."""
    server, handler, _ = served()
    give(server, request(1, ends=False) + frame(frames.DATA, 0, 1, b"x"))
    give(server, frame(frames.HEADERS, 5, 1, literal(b"x", b"y")))
    assert handler.seen == ["a"]
    server.abort()
