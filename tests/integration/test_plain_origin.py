"""Push services without HTTP/2: the same sender over HTTP/1.1."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from clarion import limits
from clarion.http2.client import ANSWER_BYTES, Fate
from clarion.http2.frames import literal
from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from clarion.sandbox.webpush_service import WebPush
from clarion.senders import plain_origin, webpush_place
from clarion.senders.endpoint import ForbiddenAddress
from clarion.senders.outcome import ACCEPTED, OutcomeKind
from clarion.senders.plain_origin import CONNECTIONS, STALE, PlainOrigin
from clarion.senders.tls import client_tls
from clarion.senders.webpush import WebPushSender
from tests.support.eventually import eventually
from tests.support.senders import Clock, send
from tests.support.webpush import (
    browser_sender,
    noted,
    plain_service,
    segment,
    send_until_sent,
    times_noted,
    token,
)

ORIGIN = 3
HELD: list[tuple[bytes, bytes]] = [(b"authorization", b"vapid t=x, k=y")]


@pytest.fixture
async def service(sandbox: Sandbox) -> AsyncIterator[WebPush]:
    """A push service that speaks HTTP/1.1 only."""
    async with plain_service(sandbox) as made:
        yield made


def browsers(service: WebPush, count: int, first: int) -> list[str]:
    """Subscriptions there; no two tests have the same `first`."""
    return [token(9_000_000 + 1_000 * first + n, service.url) for n in range(count)]


async def settled(sender: WebPushSender, service: WebPush) -> PlainOrigin:
    """The origin after the sender has found out what the service speaks."""
    place = sender._open(service.url)
    await eventually(lambda: place.origin.no_http2, "it was asked")
    place.tend()
    assert isinstance(place.origin, PlainOrigin)
    await eventually(lambda: place.origin.room() > 0, "it is connected")
    return place.origin


async def test_the_first_delivery_finds_out(sandbox: Sandbox, service: WebPush) -> None:
    """Asked for HTTP/2 in vain, a service is spoken to in HTTP/1.1 within the patience of the first ones."""
    stored = browsers(service, 60, 1)
    async with browser_sender(sandbox) as sender:
        await send_until_sent(sender, stored)

    assert times_noted(sandbox, stored) == {segment(one): 1 for one in stored}
    assert {(line["key"], line["content"]) for line in noted(sandbox, stored)} == {
        ("clarion-1", content_hash("Hello", "there"))
    }


@pytest.mark.parametrize("protocols", [(), ("http/1.0",)])
async def test_no_agreement_on_a_protocol_is_http_1(sandbox: Sandbox, protocols: tuple[str, ...]) -> None:
    """A service that ignores ALPN, or knows nothing of what we offer, is spoken to all the same."""
    async with plain_service(sandbox, protocols) as service, browser_sender(sandbox) as sender:
        assert await send(sender, browsers(service, 5, 2)) == [ACCEPTED] * 5


async def test_connections_are_kept_and_bounded(sandbox: Sandbox, service: WebPush) -> None:
    """A slow service gets as many connections as it needs, not more than the bound; each is used again."""
    await sandbox.add_rule({"provider": "webpush", "origin": ORIGIN, "delay": 0.02})
    async with browser_sender(sandbox) as sender:
        origin = await settled(sender, service)
        origin._most = 7
        assert CONNECTIONS == 100
        stored = browsers(service, 100, 3)
        await send_until_sent(sender, stored)

        assert len(service.connections) == 7
    assert times_noted(sandbox, stored) == {segment(one): 1 for one in stored}


async def test_answers_mean_the_same(sandbox: Sandbox, service: WebPush) -> None:
    """Gone, throttled, redirected: as over HTTP/2; a redirect is not followed."""
    gone, moved, quiet = browsers(service, 3, 4)
    sandbox.bury({"provider": "webpush", "tokens": [segment(gone)]})
    rule = {"provider": "webpush", "origin": ORIGIN}
    target = f"{sandbox.webpush[0].url}/push/x"
    await sandbox.add_rule(rule | {"token": segment(moved), "status": 307, "headers": {"location": target}})
    await sandbox.add_rule(rule | {"token": segment(quiet), "status": 429, "headers": {"retry-after": "7"}})
    async with browser_sender(sandbox) as sender:
        origin = await settled(sender, service)
        (dead,) = await send(sender, [gone])
        (redirected,) = await send(sender, [moved])
        (throttled,) = await send(sender, [quiet])
        (next_one,) = await send(sender, [gone])

        assert (dead.retire, redirected.reason, throttled.retry_after) == (True, "webpush:307", 7.0)
        assert next_one.reason == "webpush:Quiet"
        assert origin.in_flight == 0
    assert not sandbox.webpush[0].connections


@pytest.mark.parametrize(
    ("effect", "reason"),
    [
        ({"black_hole": "request"}, "clarion:timeout"),
        ({"reset": "connection"}, "clarion:connection_lost"),
        ({"garbage": "frames"}, "clarion:stream_reset"),
    ],
)
async def test_without_an_answer_it_is_in_doubt(
    sandbox: Sandbox,
    service: WebPush,
    monkeypatch: pytest.MonkeyPatch,
    effect: dict[str, object],
    reason: str,
) -> None:
    """The request has left, so it may have been processed; the connection is not used again."""
    monkeypatch.setattr(limits, "request_timeout", lambda provider: 0.4)
    await sandbox.add_rule({"provider": "webpush", "origin": ORIGIN, "first": 3, **effect})
    async with browser_sender(sandbox) as sender:
        await settled(sender, service)
        outcomes = await send(sender, browsers(service, 3, 5))
        assert {(o.kind, o.reason, o.maybe) for o in outcomes} == {(OutcomeKind.UNAVAILABLE, reason, True)}
        assert await send(sender, browsers(service, 3, 6)) == [ACCEPTED] * 3


async def test_a_body_that_breaks_off_leaves_the_status(sandbox: Sandbox, service: WebPush) -> None:
    """An answer that is garbage behind its status still has that status."""
    await sandbox.add_rule(
        {"provider": "webpush", "origin": ORIGIN, "status": 410, "body": "x" * (2 * ANSWER_BYTES)}
    )
    async with browser_sender(sandbox) as sender:
        outcomes = await send(sender, browsers(service, 2, 7))

    assert [(o.reason, o.retire) for o in outcomes] == [("webpush:410", True)] * 2


async def test_a_service_that_leaves_and_comes_back(sandbox: Sandbox, service: WebPush) -> None:
    """Nobody listens any more: surely not sent; the back-off ends when somebody does."""
    clock = Clock()
    async with browser_sender(sandbox, clock) as sender:
        origin = await settled(sender, service)
        port = int(service.url.rsplit(":", 1)[1])
        for conn in list(service.connections):
            conn.abort()
        await eventually(lambda: not origin._talks, "they are gone")
        origin.port = 1
        outcomes = await send(sender, browsers(service, 25, 8))
        assert {(o.reason, o.maybe, o.attempt) for o in outcomes} == {("webpush:Unreachable", False, False)}
        origin.port = port
        clock.skipped += 5
        await eventually(lambda: origin.room() > 0, "it is connected again")
        assert await send(sender, browsers(service, 25, 9)) == [ACCEPTED] * 25


async def test_the_token_is_renewed_here_too(sandbox: Sandbox, service: WebPush) -> None:
    """C23: connections that bear an old VAPID token are closed when they are idle."""
    clock = Clock()
    async with browser_sender(sandbox, clock) as sender:
        origin = await settled(sender, service)
        for hours in (0, 13, 26):
            clock.wrong = sandbox.shared.settings.clock = hours * 3_600.0
            await sender.tend()
            await eventually(lambda: origin.room() > 0, "it is connected")
            assert await send(sender, browsers(service, 5, 10 + hours)) == [ACCEPTED] * 5


async def test_a_service_is_asked_anew_for_http_2(
    sandbox: Sandbox, service: WebPush, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have learned it: after an hour its place is opened anew."""
    clock = Clock()
    async with browser_sender(sandbox, clock) as sender:
        await settled(sender, service)
        clock.skipped += webpush_place.PLAIN_FOR
        await sender.tend()
        assert service.url not in sender._places
        assert await send(sender, browsers(service, 1, 40)) == [ACCEPTED]


# ── the origin by itself ──────────────────────────────────────────────────────────────────────────────


class Told:
    """What an origin told."""

    def __init__(self) -> None:
        self.answers: list[tuple[object, int, bytes]] = []
        self.failures: list[tuple[object, Fate]] = []

    def answered(self, key: object, status: int, headers: Mapping[bytes, bytes], body: bytes) -> None:
        """An answer."""
        self.answers.append((key, status, body))

    def unanswered(self, key: object, fate: Fate, detail: str) -> None:
        """None."""
        self.failures.append((key, fate))


class Peer(asyncio.Protocol):
    """A server that says to each request what it is told to."""

    says = b"HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n"
    heard: list[bytes]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """A request (of one piece, in these tests)."""
        self.heard.append(data)
        self.transport.write(self.says)  # type: ignore[attr-defined]


Start = Callable[[bytes], "asyncio.Future[tuple[PlainOrigin, Told, list[bytes]]]"]


@pytest.fixture
async def start(sandbox: Sandbox) -> AsyncIterator[Start]:
    """Starts a server that says this, and an origin that leads to it."""
    servers: list[asyncio.Server] = []
    origins: list[PlainOrigin] = []

    async def made(says: bytes) -> tuple[PlainOrigin, Told, list[bytes]]:
        heard: list[bytes] = []
        kind = type("Peer", (Peer,), {"says": says, "heard": heard})
        tls = sandbox.authority.server_context(["http/1.1"])
        server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0, ssl=tls)
        servers.append(server)
        told = Told()
        origin = PlainOrigin(
            f"https://localhost:{server.sockets[0].getsockname()[1]}",
            headers=_headers,
            tls=client_tls(sandbox.authority.ca_path.read_text(), alpn=("http/1.1",)),
            timeout=0.5,
            answered=told.answered,
            unanswered=told.unanswered,
            resolve=_resolve,
            connections=1,
        )
        origins.append(origin)
        origin.start()
        await eventually(lambda: origin.room() > 0, "it is connected")
        return origin, told, heard

    yield lambda says: asyncio.ensure_future(made(says))
    for origin in origins:
        await origin.close()
        assert origin.in_flight == 0
        assert not origin._talks
    for server in servers:
        server.close()


async def _headers() -> list[tuple[bytes, bytes]]:
    return HELD


async def _resolve(host: str, port: int) -> str:
    assert host == "localhost"
    return "127.0.0.1"


async def test_the_request_on_the_wire(start: Start) -> None:
    """Host and SNI name the service, the connection goes to the checked address; the target is as it was."""
    origin, told, heard = await start(Peer.says)
    origin.post("a", b"/push/%41?x=|%7c", literal(b"ttl", b"60") + literal(b"topic", b"t"), b"body")
    await eventually(lambda: bool(told.answers), "it is answered")

    head, body = heard[0].split(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"POST /push/%41?x=|%7c HTTP/1.1"
    assert lines[1:] == [
        b"host: localhost:%d" % origin.port,
        b"authorization: vapid t=x, k=y",
        b"ttl: 60",
        b"topic: t",
        b"content-length: 4",
    ]
    assert body == b"body"
    assert told.answers == [("a", 201, b"")]


async def test_what_must_not_be_framed_is_refused(start: Start) -> None:
    """A path that could end the request line; nothing was sent and the connection is still good."""
    origin, told, heard = await start(Peer.says)
    for path in (b"", b"/a b", b"/a\r\nx: y", b"/\xff"):
        with pytest.raises(ValueError, match="framed"):
            origin.post("a", path, b"", b"")
    origin.post("b", b"/", b"", b"")
    with pytest.raises(ConnectionError):
        origin.post("c", b"/", b"", b"")
    await eventually(lambda: bool(told.answers), "it is answered")

    assert told.answers == [("b", 201, b"")]
    assert len(heard) == 1


@pytest.mark.parametrize(
    ("says", "answers", "failures"),
    [
        (b"HTTP/1.1 103 Early Hints\r\n\r\n" + Peer.says, [201], []),
        (Peer.says + b"HTTP/1.1 410 Gone\r\ncontent-length: 0\r\n\r\n", [201, 201], []),
        (b"HTTP/1.1 410 Gone\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz", [410, 410], []),
        (b"HTTP/1.1 410 Gone\r\ncontent-length: 9\r\n\r\nabc", [410, 410], []),
        (b"HTTP/1.0 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n", [200, 200], []),
        (b"\x16\x03 what\r\n\r\n", [], [Fate.RESET] * 2),
        (b"HTTP/1.1 2", [], [Fate.TIMEOUT] * 2),
    ],
)
async def test_answers_of_all_kinds(
    start: Start, says: bytes, answers: list[int], failures: list[Fate]
) -> None:
    """Each request is told once and by its own answer, whatever else comes with it."""
    origin, told, _ = await start(says)
    for key in range(2 if len(answers) != 1 else 1):
        await eventually(lambda: origin.room() > 0, "it is connected")
        origin.post(key, b"/", b"", b"")
        await eventually(lambda n=key: len(told.answers) + len(told.failures) > n, "it is told")  # type: ignore[misc]

    assert [status for _, status, _ in told.answers] == answers
    assert [fate for _, fate in told.failures] == failures
    keys = [key for key, *_ in (*told.answers, *told.failures)]
    assert keys == list(range(len(keys)))


async def test_words_that_nobody_asked_for_end_a_connection(start: Start) -> None:
    """A late 408 on an idle connection would be taken for the next request's answer."""
    origin, told, _ = await start(Peer.says)
    (talk,) = origin._talks
    talk.data_received(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")
    await eventually(lambda: talk not in origin._talks, "it is closed")
    await eventually(lambda: origin.room() > 0, "another one is there")

    assert not told.answers


async def test_a_connection_idle_for_long_is_not_used(start: Start) -> None:
    """It may have gone without a word: a request on it would be in doubt."""
    origin, _, _ = await start(Peer.says)
    (talk,) = origin._talks
    talk.idle_since -= STALE + 1

    assert origin.room() == 0
    await eventually(lambda: origin.room() > 0, "another one is there")
    assert talk not in origin._talks


async def test_close_waits_and_then_reports_what_is_lost(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In flight at the end: answered in time, or lost; never nothing."""
    monkeypatch.setattr(plain_origin, "CLOSE_SECONDS", 0.2)
    origin, told, heard = await start(b"")
    origin.timeout = 60.0
    origin.post("a", b"/", b"", b"")
    await eventually(lambda: bool(heard), "it has left")
    await origin.close()

    assert told.failures == [("a", Fate.LOST)]
    assert origin.room() == 0
    assert not origin._connects


async def test_a_forbidden_address_is_not_dialled(sandbox: Sandbox) -> None:
    """The same check as for HTTP/2, at every connect."""
    asked = 0

    async def refuse(host: str, port: int) -> str:
        nonlocal asked
        asked += 1
        raise ForbiddenAddress

    told = Told()
    origin = PlainOrigin(
        "https://localhost:1",
        headers=_headers,
        tls=client_tls(None),
        timeout=1.0,
        answered=told.answered,
        unanswered=told.unanswered,
        resolve=refuse,
    )
    origin.start()
    await eventually(lambda: asked == 1 and not origin._connects, "it was asked")
    assert origin.failure is not None
    assert origin.failure.startswith("ForbiddenAddress")
    assert not origin._talks
    await origin.close()
