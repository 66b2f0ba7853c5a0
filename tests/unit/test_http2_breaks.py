"""What a provider can do to its clients, over TCP and TLS: what is reported, and what is never sent again."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvloop

from clarion.http2.client import Connection, Fate, connect
from clarion.http2.frames import ErrorCode
from clarion.http2.server import ServerConnection
from tests.support.eventually import eventually
from tests.support.http2 import HEADERS, Answering, Owner, listening, tls_contexts

BODY = b'{"aps":{"alert":"hello"}}'


@asynccontextmanager
async def connected(
    handler: Answering, *, timeout: float = 10.0, tls: bool = True
) -> AsyncIterator[tuple[Connection, Owner]]:
    """Our client connected to our server."""
    server_tls, client_tls = tls_contexts() if tls else (None, None)
    owner = Owner()
    async with listening(handler.factory, server_tls) as port:
        client = await connect(
            "localhost",
            port,
            authority=b"localhost",
            headers=HEADERS,
            owner=owner,
            tls=client_tls,
            timeout=timeout,
            address="127.0.0.1",
        )
        yield client, owner
        client.abort()
        for connection in handler.connections:
            connection.abort()
        await eventually(lambda: bool(owner.reasons), "the end is told")


def post(client: Connection, count: int, first: int = 0) -> None:
    """Post and flush so many, keys as text."""
    for number in range(first, first + count):
        client.post(str(number), b"/3/device/%d" % number, b"", BODY)
    client.flush()


def at(
    number: int, act: Callable[[ServerConnection, int], object]
) -> Callable[[ServerConnection, int, str], object]:
    """Answers nobody; does something when the request of this number has come."""
    return lambda conn, stream, key: act(conn, stream) if int(key) == number else None


async def settle() -> None:
    """Long enough for anything that would still be sent."""
    await asyncio.sleep(0.15)


async def test_goaway_in_the_middle() -> None:
    """GOAWAY(NO_ERROR) after the 10th of 20: ten answers, ten unprocessed, nothing sent again."""
    handler = Answering()

    def leave(conn: ServerConnection, stream: int) -> None:
        conn.goaway(19)
        for answered in range(1, 21, 2):
            conn.respond(answered, 200)

    handler.answer = at(19, leave)
    async with connected(handler) as (client, owner):
        post(client, 20)
        await eventually(lambda: bool(owner.reasons), "closed after the last answer")
        assert list(owner.answers) == [str(n) for n in range(10)]
        assert owner.fates() == {Fate.UNPROCESSED: [str(n) for n in range(10, 20)]}
        assert len(handler.seen) == 20
        assert len(handler.connections) == 1


async def test_shutdown_as_apns_does_it() -> None:
    """GOAWAY(last = 0) with a reason and then the close: all twenty are safe to repeat."""
    handler = Answering()

    def shut_down(conn: ServerConnection, stream: int) -> None:
        conn.goaway(0, ErrorCode.NO_ERROR, b'{"reason":"Shutdown"}')
        conn.close()

    handler.answer = at(19, shut_down)
    async with connected(handler) as (client, owner):
        post(client, 20)
        await eventually(lambda: bool(owner.reasons), "closed")
        assert owner.fates() == {Fate.UNPROCESSED: [str(n) for n in range(20)]}
        assert owner.reasons == ['goaway NO_ERROR: {"reason":"Shutdown"}']


async def test_goaway_with_an_error_code() -> None:
    """ENHANCE_YOUR_CALM: the unprocessed are safe, the rest is lost when the connection goes."""
    handler = Answering()

    def calm(conn: ServerConnection, stream: int) -> None:
        conn.goaway(9, ErrorCode.ENHANCE_YOUR_CALM, b"too_many_internal_resets")
        conn.close()

    handler.answer = at(19, calm)
    async with connected(handler) as (client, owner):
        post(client, 20)
        await eventually(lambda: bool(owner.reasons), "closed")
        fates = owner.fates()
        assert fates[Fate.LOST] == [str(n) for n in range(5)]
        assert sorted(fates[Fate.UNPROCESSED], key=int) == [str(n) for n in range(5, 20)]


@pytest.mark.parametrize(
    ("code", "fate"),
    [
        (ErrorCode.REFUSED_STREAM, Fate.REFUSED),
        (ErrorCode.INTERNAL_ERROR, Fate.RESET),
        (ErrorCode.CANCEL, Fate.RESET),
    ],
)
async def test_resets_are_told_apart_and_never_repeated(code: ErrorCode, fate: Fate) -> None:
    """Every request is sent once, whatever the reset says."""
    handler = Answering()
    handler.answer = lambda conn, stream, key: conn.reset(stream, code)
    async with connected(handler) as (client, owner):
        post(client, 20)
        await eventually(lambda: owner.reported == 20, "all reported")
        await settle()
        assert set(owner.fates()) == {fate}
        assert len(handler.seen) == 20


@pytest.mark.parametrize("end", ["reset", "fin", "goaway"])
async def test_a_connection_that_breaks_after_the_bytes_left(end: str) -> None:
    """TCP reset, FIN, GOAWAY(2^31-1) and close: all sent, none answered: lost, and nothing sent again."""
    handler = Answering()

    def break_off(conn: ServerConnection, stream: int) -> None:
        if end == "reset":
            conn.abort()
            return
        if end == "goaway":
            conn.goaway(2**31 - 1)
        conn.close()

    handler.answer = at(19, break_off)
    async with connected(handler) as (client, owner):
        post(client, 20)
        await eventually(lambda: bool(owner.reasons), "closed")
        await settle()
        assert owner.fates() == {Fate.LOST: [str(n) for n in range(20)]}
        assert len(handler.seen) == 20
        assert len(handler.connections) == 1


@pytest.mark.parametrize("size", [30, 3_000])
async def test_a_reset_at_the_20th_of_2000(size: int) -> None:
    """What the owner still holds, what we still hold and what left add up: unsent was seen by nobody."""
    handler = Answering()
    handler.answer = at(19, lambda conn, stream: conn.abort())
    async with connected(handler) as (client, owner):
        left = list(range(2_000))
        while left and client.room():
            for _ in range(min(client.room(), len(left))):
                number = left.pop(0)
                client.post(str(number), b"/3/device/%d" % number, b"", b"x" * size)
            client.flush()
        posted = 2_000 - len(left)
        await eventually(lambda: bool(owner.reasons), "closed")
        fates = owner.fates()
        unsent = {int(key) for key in fates.get(Fate.UNSENT, [])} | set(left)

        assert set(fates) <= {Fate.LOST, Fate.UNSENT}
        assert len(fates[Fate.LOST]) + len(unsent) == 2_000
        assert not unsent & {int(key) for key in handler.seen}
        if size == 30:
            assert (posted, len(unsent)) == (1_000, 1_000)


async def test_no_answer_at_all() -> None:
    """The server is silent but alive: TIMEOUT, RST_STREAM(CANCEL), and the slots are free again."""
    handler = Answering()
    handler.answer = lambda conn, stream, key: None
    async with connected(handler, timeout=0.3) as (client, owner):
        post(client, 20)
        await eventually(lambda: owner.reported == 20, "all timed out")
        assert set(owner.fates()) == {Fate.TIMEOUT}
        assert client.usable
        assert client.room() == 1_000
        await eventually(lambda: handler.connections[0].open_streams == 0, "cancelled at the server")


async def test_one_stream_at_a_time() -> None:
    """MAX_CONCURRENT_STREAMS = 1 is obeyed exactly, and a raised limit is used at once."""
    handler = Answering()
    handler.options = {"streams": 1}
    async with connected(handler) as (client, owner):
        assert client.room() == 1
        waiting = list(range(60))

        def more() -> None:
            while waiting and client.room():
                number = waiting.pop(0)
                client.post(str(number), b"/%d" % number, b"", BODY)

        owner.on_room = more
        more()
        client.flush()
        await eventually(lambda: owner.reported >= 20, "twenty answered, one by one")
        assert handler.connections[0].most_open == 1
        handler.connections[0].settings(max_concurrent_streams=1_000)
        await eventually(lambda: owner.reported == 60, "all answered")
        assert owner.statuses() == [200] * 60
        assert handler.connections[0].refused == 0


async def test_a_limit_lowered_with_streams_in_flight() -> None:
    """1000 → 1 with 50 in flight: what APNs refuses comes back as refused, and then one goes at a time."""
    handler = Answering()
    handler.answer = lambda conn, stream, key: None
    async with connected(handler) as (client, owner):
        post(client, 50)
        await eventually(lambda: len(handler.seen) == 50, "all arrived")
        server = handler.connections[0]
        server.settings(max_concurrent_streams=1, at_once=True)
        for stream in range(3, 101, 2):
            server.reset(stream, ErrorCode.REFUSED_STREAM)
        await eventually(lambda: owner.reported == 49, "refused")
        assert set(owner.fates()) == {Fate.REFUSED}
        assert client.room() == 0
        server.respond(1, 200)
        await eventually(lambda: client.room() == 1, "one at a time")


@pytest.mark.parametrize("stopped", ["recall", "drain"])
async def test_stop_means_stop(stopped: str) -> None:
    """One stream allowed, 200 to send, the operator says stop: not one more request leaves."""
    handler = Answering()
    handler.options = {"streams": 1}
    held: list[tuple[ServerConnection, int]] = []
    handler.answer = lambda conn, stream, key: held.append((conn, stream))
    async with connected(handler) as (client, owner):
        waiting = list(range(200))

        def more() -> None:
            while waiting and client.room():
                post(client, 1, waiting.pop(0))

        owner.on_room = more
        more()
        await eventually(lambda: len(handler.seen) == 1, "the first arrived")
        owner.on_room = lambda: None  # stop
        getattr(client, stopped)()
        held[0][0].respond(held[0][1], 200)
        await eventually(lambda: owner.reported == 1, "the one in flight is answered")
        await settle()
        assert len(handler.seen) == 1
        assert owner.statuses() == [200]


async def test_a_status_whose_body_never_comes() -> None:
    """410 headers, then a reset: the 410 is not lost."""
    handler = Answering()

    def half(conn: ServerConnection, stream: int, key: str) -> None:
        conn.send_frame(1, 4, stream, b"\x08\x03410")
        conn.reset(stream, ErrorCode.INTERNAL_ERROR)

    handler.answer = half
    async with connected(handler) as (client, owner):
        post(client, 3)
        await eventually(lambda: owner.reported == 3, "all answered")
        assert owner.statuses() == [410] * 3


async def test_a_redirect_is_an_answer() -> None:
    """307 is reported; nobody follows it to wherever it points."""
    handler = Answering()
    handler.answer = lambda conn, stream, key: conn.respond(
        stream, 307, [(b"location", b"https://10.0.0.1/")]
    )
    async with connected(handler) as (client, owner):
        post(client, 1)
        await eventually(lambda: owner.reported == 1, "answered")
        assert owner.answers["0"] == (307, {b"location": b"https://10.0.0.1/"}, b"")


async def test_a_black_hole_is_found_long_before_the_timeout() -> None:
    """The peer reads and says nothing, not even to a ping."""
    handler = Answering()
    async with connected(handler, timeout=30) as (client, owner):
        client._ping_after = client._ping_wait = 0.3
        handler.connections[0].mute = True
        post(client, 20)
        await eventually(lambda: bool(owner.reasons), "found", seconds=3)
        assert owner.fates() == {Fate.LOST: [str(n) for n in range(20)]}


async def test_a_bad_token_does_not_touch_the_others() -> None:
    """A line feed in a path is refused before framing; ten others on the same connection are answered."""
    handler = Answering()
    async with connected(handler) as (client, owner):
        for number in range(10):
            with pytest.raises(ValueError, match="path"):
                client.post("bad", b"/3/device/a\nb", b"", BODY)
            post(client, 1, number)
        await eventually(lambda: owner.reported == 10, "all answered")
        assert owner.statuses() == [200] * 10
        assert len(handler.connections) == 1


@pytest.mark.parametrize("tls", [True, False])
async def test_large_bodies_through_small_windows(tls: bool) -> None:
    """6 KB bodies through windows of 64 KB and 1 KB, with and without TLS: everything arrives whole."""
    handler = Answering()
    handler.options = {"connection_window": 65_535, "stream_window": 1_024}
    async with connected(handler, tls=tls) as (client, owner):
        waiting = list(range(200))

        def more() -> None:
            while waiting and client.room():
                number = waiting.pop(0)
                client.post(str(number), b"/%d" % number, b"", b"%d" % (number % 10) * 6_000)

        owner.on_room = more
        more()
        client.flush()
        await eventually(lambda: owner.reported == 200, "all answered")
        assert owner.statuses() == [200] * 200


def test_the_same_under_uvloop() -> None:
    """Senders run on uvloop, whose TLS and buffers are another implementation."""

    async def scene() -> None:
        await test_a_reset_at_the_20th_of_2000(3_000)
        await test_large_bodies_through_small_windows(True)
        await test_goaway_in_the_middle()

    uvloop.run(scene())


async def test_connecting_fails_in_words() -> None:
    """Nobody there, no HTTP/2, a certificate of somebody else, a peer that says nothing: all are OSErrors."""
    server_tls, client_tls = tls_contexts()
    other_tls, _ = tls_contexts("http/1.1")
    handler = Answering()
    common: dict[str, Any] = {"authority": b"x", "headers": [], "owner": Owner(), "timeout": 1.0}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(ConnectionRefusedError):
            await connect("127.0.0.1", free.getsockname()[1], tls=None, **common)
    async with listening(handler.factory, server_tls) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect("example.com", port, tls=client_tls, address="127.0.0.1", **common)
    async with listening(asyncio.Protocol, other_tls) as port:
        trusting = ssl.create_default_context()
        trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
        trusting.set_alpn_protocols(["h2"])
        with pytest.raises((ConnectionError, ssl.SSLError)):
            await connect("localhost", port, tls=trusting, address="127.0.0.1", **common)
    async with listening(asyncio.Protocol) as port:
        with pytest.raises(TimeoutError):
            await connect("127.0.0.1", port, tls=None, connect_timeout=0.2, **common)
