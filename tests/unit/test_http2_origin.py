"""Origin: always one connection too few rather than one too many, and no request sent twice."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from clarion.errors import CredentialBlocked
from clarion.http2.client import Fate
from clarion.http2.frames import ErrorCode, Header
from clarion.http2.origin import USELESS_AFTER, Origin
from clarion.http2.server import ServerConnection
from tests.support.eventually import eventually
from tests.support.http2 import Answering, Owner, listening, tls_contexts

PATH = b"/3/device/%d"


class Credential:
    """What is asked for headers, and how often."""

    def __init__(self) -> None:
        self.asked = 0
        self.error: Exception | None = None

    async def headers(self) -> Sequence[Header]:
        """Another token each time."""
        self.asked += 1
        if self.error is not None:
            raise self.error
        return [(b"authorization", b"bearer token-%d" % self.asked)]


class Scene:
    """An origin and the server it speaks to."""

    def __init__(self, origin: Origin, owner: Owner, handler: Answering, credential: Credential) -> None:
        self.origin = origin
        self.owner = owner
        self.handler = handler
        self.credential = credential
        self.posted = 0

    def post(self, count: int = 1) -> None:
        """Post and flush."""
        for _ in range(count):
            self.origin.post(str(self.posted), PATH % self.posted, b"", b"{}")
            self.posted += 1
        self.origin.flush()

    async def ready(self) -> None:
        """Wait until there is room."""
        await eventually(lambda: self.origin.room() > 0, "room")

    async def answered(self) -> None:
        """Wait until everything is reported."""
        await eventually(lambda: self.owner.reported == self.posted, "all reported")

    @property
    def live(self) -> list[ServerConnection]:
        """Connections that the server still has."""
        return [conn for conn in self.handler.connections if not conn._ended]


@asynccontextmanager
async def scene(
    handler: Answering | None = None, *, tls: bool = False, **options: Any
) -> AsyncIterator[Scene]:
    """A started origin."""
    handler, owner, credential = handler or Answering(), Owner(), Credential()
    server_tls, client_tls = tls_contexts() if tls else (None, None)
    async with listening(handler.factory, server_tls) as port:
        origin = Origin(
            f"{'https' if tls else 'http'}://localhost:{port}",
            headers=credential.headers,
            tls=client_tls,
            answered=owner.answered,
            unanswered=owner.unanswered,
            **{"timeout": 5.0, "address": "127.0.0.1", **options},
        )
        origin.start()
        yield Scene(origin, owner, handler, credential)
        await origin.close()
        for connection in handler.connections:
            connection.abort()
        await asyncio.sleep(0)


def silent() -> Answering:
    """Answers nobody by itself."""
    handler = Answering()
    handler.answer = lambda conn, stream, key: None
    return handler


async def test_it_connects_and_posts() -> None:
    """One connection, one question for headers, and the wake when there is room."""
    woken = asyncio.Event()
    async with scene(tls=True) as it:
        stop = it.origin.when_room(woken.set)
        assert it.origin.room() == 0
        assert it.origin.waiting() in ("authorization", "connecting")
        async with asyncio.timeout(5):
            await woken.wait()
        assert (it.origin.room(), it.origin.waiting(), it.origin.failure) == (1_000, None, None)
        it.post(10)
        await it.answered()
        stop()
        stop()
        assert it.owner.statuses() == [200] * 10
        assert (it.credential.asked, it.origin.connects, len(it.handler.connections)) == (1, 1, 1)


async def test_posting_without_a_connection_is_refused() -> None:
    """Nothing is queued for a connection to come."""
    async with scene() as it:
        with pytest.raises(ConnectionError):
            it.origin.post("x", b"/", b"", b"")


async def test_several_connections_take_turns() -> None:
    """Round robin by room: each gets its part, and none more than its limit."""
    handler = silent()
    handler.options = {"streams": 100}
    async with scene(handler, connections=3) as it:
        await eventually(lambda: it.origin.room() == 300, "three connections")
        it.post(300)
        assert it.origin.room() == 0
        await eventually(lambda: len(handler.seen) == 300, "all arrived")
        assert [conn.most_open for conn in handler.connections] == [100, 100, 100]
        assert it.credential.asked == 3
        for conn in handler.connections:
            conn.abort()
        await it.answered()


async def test_warm_up_is_one_stream() -> None:
    """A provider that allows one stream first is obeyed, and named; more as soon as it allows more."""
    handler = Answering()
    handler.options = {"streams": 1}
    async with scene(handler) as it:
        await it.ready()
        assert (it.origin.room(), it.origin.waiting()) == (1, "warm-up")
        it.post()
        await it.answered()
        handler.connections[0].settings(max_concurrent_streams=500)
        await eventually(lambda: it.origin.room() == 500, "the raised limit")
        assert it.origin.waiting() is None


async def test_goaway_brings_a_new_connection_while_the_old_drains() -> None:
    """Requests in flight are answered on the old one; new ones go to the new one; none is sent twice."""
    handler = silent()
    async with scene(handler) as it:
        await it.ready()
        it.post(5)
        await eventually(lambda: len(handler.seen) == 5, "arrived")
        old = handler.connections[0]
        old.goaway(None, 0, b'{"reason":"Shutdown"}')
        await eventually(lambda: len(handler.connections) == 2, "a new connection")
        await it.ready()
        handler.answer = lambda conn, stream, key: conn.respond(stream, 200)
        it.post(5)
        await eventually(lambda: it.owner.reported == 5, "the new ones are answered")
        assert it.origin.in_flight == 5
        for stream in range(1, 11, 2):
            old.respond(stream, 200)
        await it.answered()
        await eventually(lambda: len(it.live) == 1, "the old one has closed")
        assert it.owner.statuses() == [200] * 10
        assert len(handler.seen) == 10


async def test_renew_takes_new_headers_and_drains_the_old() -> None:
    """The new connection carries the new token; what was in flight on the old one is answered there."""
    handler = silent()
    tokens: list[bytes] = []
    handler.on_headers = lambda headers: tokens.append(dict(headers)[b"authorization"])
    async with scene(handler) as it:
        await it.ready()
        it.post()
        await eventually(lambda: len(handler.seen) == 1, "arrived")
        it.origin.renew()
        await eventually(lambda: len(handler.connections) == 2, "a new connection")
        await eventually(lambda: it.credential.asked == 2 and it.origin.room() == 1_000, "taken over")
        it.post()
        await eventually(lambda: len(handler.seen) == 2, "arrived")
        for conn in list(it.live):
            conn.respond(1, 200)
        await it.answered()
        await eventually(lambda: len(it.live) == 1, "the old one has closed")
        assert tokens == [b"bearer token-1", b"bearer token-2"]
        assert it.owner.statuses() == [200] * 2


async def test_renewing_fails_and_the_old_goes_on() -> None:
    """No new token to be had: the old connection serves until there is one."""
    async with scene() as it:
        await it.ready()
        it.credential.error = CredentialBlocked("the key is revoked")
        it.origin.renew()
        await eventually(lambda: it.origin.failure is not None, "the failure")
        assert it.origin.failure == "CredentialBlocked: the key is revoked"
        it.post()
        await it.answered()
        it.credential.error = None
        await eventually(lambda: it.origin.failure is None, "renewed")
        await eventually(lambda: len(it.live) == 1, "one connection")
        assert len(it.handler.connections) == 2


async def test_renew_at_once_takes_nothing_more_on_the_old() -> None:
    """For a token that is refused: no room until the new connection is there."""
    async with scene() as it:
        await it.ready()
        it.origin.renew(at_once=True)
        assert it.origin.room() == 0
        await it.ready()
        assert it.credential.asked == 2


async def test_one_connect_at_a_time_with_a_growing_pause(unused_port: int) -> None:
    """Nobody listens: tries are one after the other and ever rarer; when somebody does, it is found."""
    credential, owner = Credential(), Owner()
    origin = Origin(
        f"http://127.0.0.1:{unused_port}",
        headers=credential.headers,
        tls=None,
        timeout=1.0,
        answered=owner.answered,
        unanswered=owner.unanswered,
    )
    origin.start()
    origin.when_room(lambda: None)
    await asyncio.sleep(0.65)
    assert 3 <= origin.connects <= 4  # at 0, 0.1, 0.3 and 0.7 s, each ± 20 %
    assert origin.failure == "ConnectionRefusedError: Connection refused"
    assert origin.waiting() == "connecting"
    handler = Answering()
    async with listening(handler.factory, port=unused_port):
        await eventually(lambda: origin.room() > 0, "connected")
        await origin.close()
    assert len(handler.connections) == 1


@pytest.fixture
def unused_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def test_many_waiters_do_not_make_many_connections() -> None:
    """A break with hundreds in flight and hundreds waiting is mended by one connection."""
    handler = silent()
    async with scene(handler) as it:
        for _ in range(200):
            it.origin.when_room(lambda: None)
        await it.ready()
        it.post(300)
        await eventually(lambda: len(handler.seen) == 300, "arrived")
        handler.connections[0].abort()
        await it.answered()
        for _ in range(100):
            it.origin.room()
        await it.ready()
        await asyncio.sleep(0.3)
        assert len(handler.connections) == 2
        assert set(it.owner.fates()) == {Fate.LOST}
        assert len(handler.seen) == 300


async def test_the_pause_is_forgotten_after_a_healthy_connection() -> None:
    """A connection that has answered and then breaks is replaced at once, whatever went wrong before it."""
    async with scene() as it:
        await it.ready()
        it.origin._failures = 6
        it.post()
        await it.answered()
        it.handler.connections[0].abort()
        started = asyncio.get_running_loop().time()
        await eventually(lambda: len(it.handler.connections) == 2, "a new connection")
        assert asyncio.get_running_loop().time() - started < 1.0


async def test_a_peer_that_throws_every_connection_out_is_not_hammered() -> None:
    """Accepted, greeted and sent away at once, again and again: the pauses grow all the same."""
    handler = Answering()
    made = handler.factory

    def rude() -> ServerConnection:
        conn = made()
        asyncio.get_running_loop().call_later(
            0.01, conn.goaway, 0, ErrorCode.ENHANCE_YOUR_CALM, b"BadCertificate"
        )
        asyncio.get_running_loop().call_later(0.02, conn.close)
        return conn

    handler.factory = rude  # type: ignore[method-assign]
    async with scene(handler) as it:
        it.origin.when_room(lambda: None)
        await asyncio.sleep(0.8)
        assert 2 <= len(handler.connections) <= 5
        said = "goaway ENHANCE_YOUR_CALM: BadCertificate"
        await eventually(lambda: it.origin.failure == said, "its words")


async def test_a_useless_connection_is_replaced() -> None:
    """It takes requests and resets each of them: after a number of these another one is tried."""
    handler = Answering()
    handler.answer = lambda conn, stream, key: conn.reset(stream, ErrorCode.INTERNAL_ERROR)
    async with scene(handler) as it:
        await it.ready()
        for _ in range(USELESS_AFTER - 1):
            it.post()
            await it.answered()
        assert it.origin.room() == 1_000
        assert len(handler.connections) == 1
        it.post()
        await it.answered()
        await eventually(lambda: len(handler.connections) == 2, "another connection")


async def test_answers_between_errors_keep_a_connection() -> None:
    """Only errors without any answer between them speak against a connection."""
    handler = Answering()
    handler.answer = lambda conn, stream, key: (
        conn.respond(stream, 200) if int(key) % 10 == 0 else conn.reset(stream, ErrorCode.CANCEL)
    )
    async with scene(handler) as it:
        await it.ready()
        for _ in range(3 * USELESS_AFTER):
            it.post()
            await it.answered()
        assert len(handler.connections) == 1


async def test_an_idle_connection_that_closes_is_not_replaced_before_somebody_asks() -> None:
    """After long silence the provider closes: no connection is made for nobody."""
    async with scene() as it:
        await it.ready()
        it.origin._links[0].connection._heard -= 100
        it.handler.connections[0].close()
        await eventually(lambda: not it.origin._links, "noticed")
        await asyncio.sleep(0.3)
        assert len(it.handler.connections) == 1
        await it.ready()
        assert len(it.handler.connections) == 2


async def test_the_address_is_looked_up_at_each_connect() -> None:
    """`resolve` says where to dial, every time anew; what it refuses is a failure without a connection."""
    asked: list[tuple[str, int]] = []

    async def resolve(host: str, port: int) -> str:
        asked.append((host, port))
        if len(asked) == 1:
            raise ConnectionError("the address is not allowed")
        return "127.0.0.1"

    async with scene(resolve=resolve, tls=True) as it:
        it.origin.when_room(lambda: None)
        await eventually(lambda: it.origin.failure is not None, "refused")
        assert it.origin.failure == "ConnectionError: the address is not allowed"
        await it.ready()
        it.origin.renew()
        await eventually(lambda: len(asked) == 3, "asked again")
        assert set(asked) == {("localhost", it.origin.port)}


async def test_closing_waits_for_answers_but_not_for_ever() -> None:
    """What is in flight is answered; `recall` first gives back what has not left."""
    handler = silent()
    async with scene(handler) as it:
        await it.ready()
        it.post(2)
        await eventually(lambda: len(handler.seen) == 2, "arrived")
        it.origin.post("kept", b"/", b"", b"")
        it.origin.recall()
        assert it.owner.fates() == {Fate.UNSENT: ["kept"]}
        asyncio.get_running_loop().call_later(0.05, handler.connections[0].respond, 1, 200)
        asyncio.get_running_loop().call_later(0.05, handler.connections[0].respond, 3, 200)
        await it.origin.close()
        assert it.owner.statuses() == [200, 200]
        await eventually(lambda: it.live == [], "closed at the server")


@pytest.mark.parametrize(
    ("url", "authority"),
    [
        ("https://api.push.apple.com", b"api.push.apple.com"),
        ("https://api.push.apple.com:443/", b"api.push.apple.com"),
        ("https://localhost:8443", b"localhost:8443"),
        ("https://[::1]:8443", b"[::1]:8443"),
        ("https://bücher.example", b"xn--bcher-kva.example"),
    ],
)
async def test_authorities(url: str, authority: bytes) -> None:
    """The default port is left out, IPv6 keeps its brackets, names are ASCII."""
    assert make(url).authority == authority


@pytest.mark.parametrize("url", ["http://x", "https://", "https://user:pw@x", "ftp://x", "x:443"])
async def test_what_is_no_origin_is_refused(url: str) -> None:
    """ValueError, without repeating the URL: it could hold a password."""
    with pytest.raises(ValueError, match="an origin is") as caught:
        make(url)
    assert "pw" not in str(caught.value)


def make(url: str) -> Origin:
    """An origin that is never started."""
    _, client_tls = tls_contexts()
    owner = Owner()
    return Origin(
        url,
        headers=Credential().headers,
        tls=client_tls,
        timeout=1.0,
        answered=owner.answered,
        unanswered=owner.unanswered,
    )
