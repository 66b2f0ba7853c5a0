"""Both ends of HTTP/2 for tests: an owner that keeps book, wires in memory, and `h2` as the far side."""

from __future__ import annotations

import asyncio
import random
import ssl
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import h2.config
import h2.connection
import h2.events
import h2.settings
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from clarion.http2.client import Connection, Fate
from clarion.http2.server import Handler, ServerConnection

HEADERS = [(b"authorization", b"bearer abc.def.ghi"), (b"apns-topic", b"com.example.app")]


@cache
def tls_contexts(alpn: str = "h2") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context for localhost, and a client's that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    text = certificate.public_bytes(serialization.Encoding.PEM)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "both.pem")
        path.write_bytes(
            text
            + key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        server.load_cert_chain(path)
    server.set_alpn_protocols([alpn])
    client = ssl.create_default_context(cadata=text.decode())
    client.set_alpn_protocols(["h2"])
    return server, client


class Owner:
    """Writes down what it is told, and that it is told once."""

    def __init__(self) -> None:
        self.answers: dict[Any, tuple[int, Mapping[bytes, bytes], bytes]] = {}
        self.failures: dict[Any, tuple[Fate, str]] = {}
        self.reasons: list[str] = []
        self.on_room: Callable[[], None] = lambda: None

    def answered(self, key: object, status: int, headers: Mapping[bytes, bytes], body: bytes) -> None:
        """Note an answer."""
        self._once(key)
        self.answers[key] = (status, headers, body)

    def unanswered(self, key: object, fate: Fate, detail: str) -> None:
        """Note a failure."""
        self._once(key)
        self.failures[key] = (fate, detail)

    def _once(self, key: object) -> None:
        assert not self.reasons, "told after the end"
        assert key not in self.answers, f"{key} reported twice"
        assert key not in self.failures, f"{key} reported twice"

    def room_made(self) -> None:
        """Pass on."""
        assert not self.reasons, "told after the end"
        self.on_room()

    def closed(self, connection: Connection, reason: str) -> None:
        """Note the end."""
        assert not self.reasons, "closed twice"
        assert connection.in_flight == 0, "closed before everything was reported"
        self.reasons.append(reason)

    @property
    def reported(self) -> int:
        """Requests of which we know what became."""
        return len(self.answers) + len(self.failures)

    def fates(self) -> dict[Fate, list[Any]]:
        """Keys by fate, in order of telling."""
        fates: dict[Fate, list[Any]] = {}
        for key, (fate, _) in self.failures.items():
            fates.setdefault(fate, []).append(key)
        return fates

    def statuses(self) -> list[int]:
        """Statuses in the order of the answers."""
        return [status for status, _, _ in self.answers.values()]


class Wire(asyncio.Transport):
    """A transport in memory. Without `room` it takes everything; else `room` bytes until `take` is called."""

    def __init__(self, protocol: Any, *, room: int | None = None) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""  # everything ever handed over
        self.read = 0  # how much of it the far side has got
        self.room = room
        self.high = 65_536
        self.paused = False
        self.reading = True
        self.closing = False
        self.lost = False

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As asyncio's."""
        self.high = 65_536 if high is None else high

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """No TLS, no socket."""
        return default

    def write(self, data: Any) -> None:
        """Take bytes; ask for a pause when more wait than may."""
        assert not self.lost, "written after the end"
        assert data, "an empty write"
        if self.closing:
            return
        self.written += bytes(data)
        if self.room is not None and len(self.written) - self.room > self.high and not self.paused:
            self.paused = True
            self.protocol.pause_writing()

    def take(self, count: int) -> None:
        """The socket takes so many bytes more."""
        assert self.room is not None
        self.room = min(self.room + count, len(self.written))
        if self.paused and len(self.written) - self.room <= self.high // 4:
            self.paused = False
            self.protocol.resume_writing()

    def unread(self) -> bytes:
        """What has reached the far side since the last call."""
        end = len(self.written) if self.room is None else min(self.room, len(self.written))
        data, self.read = self.written[self.read : end], end
        return data

    def pause_reading(self) -> None:
        """As asyncio's."""
        self.reading = False

    def resume_reading(self) -> None:
        """As asyncio's."""
        self.reading = True

    def is_closing(self) -> bool:
        """As asyncio's."""
        return self.closing

    def close(self) -> None:
        """As asyncio's, at once."""
        self.lose(None)

    def abort(self) -> None:
        """As asyncio's, at once."""
        self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """The connection ends."""
        self.closing = True
        if not self.lost:
            self.lost = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, error)


def give(protocol: Any, data: bytes, chance: random.Random | None = None) -> None:
    """Let a protocol read: in one piece, or cut at random."""
    sizes = (99_999,) if chance is None else (1, 2, 7, 9, 64) if len(data) < 300 else (64, 1024, 99_999)
    while data and not protocol._transport.closing:
        count = min(len(data), sizes[0] if chance is None else chance.choice(sizes))
        view = protocol.get_buffer(-1)
        count = min(count, len(view))
        view[:count] = data[:count]
        data = data[count:]
        protocol.buffer_updated(count)


def far_server(**settings: int) -> h2.connection.H2Connection:
    """An `h2` server that has said hello; settings by their names in `SettingCodes`, lower case."""
    far = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
    far.local_settings = h2.settings.Settings(
        client=False,
        initial_values={h2.settings.SettingCodes[name.upper()]: value for name, value in settings.items()},
    )
    # What h2 otherwise does when settings are acknowledged.
    far.max_inbound_frame_size = far.local_settings.max_frame_size
    far.decoder.max_allowed_table_size = far.local_settings.header_table_size
    far.initiate_connection()
    return far


def client_pair(
    far: h2.connection.H2Connection | None = None,
    *,
    timeout: float = 10.0,
    window: int = 1000,
    room: int | None = None,
    chance: random.Random | None = None,
) -> tuple[Connection, Owner, Wire]:
    """Our client on a wire, connected to `far` if there is one."""
    owner = Owner()
    client = Connection(authority=b"localhost", headers=HEADERS, owner=owner, timeout=timeout, window=window)
    wire = Wire(client, room=room)
    client.connection_made(wire)
    client.owned = True
    if far is not None:
        far.receive_data(wire.unread())
        give(client, far.data_to_send(), chance)
    return client, owner, wire


@asynccontextmanager
async def listening(
    factory: Callable[[], Any], tls: ssl.SSLContext | None = None, port: int = 0
) -> AsyncIterator[int]:
    """A TCP server on a free port of this machine."""
    server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", port, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Answering(Handler):
    """Answers 200 to everything, and remembers it; keys are what follows the path's last slash."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.connections: list[ServerConnection] = []
        self.closed: list[str] = []
        self.answer: Callable[[ServerConnection, int, str], object] = lambda conn, stream, key: conn.respond(
            stream, 200, [(b"apns-id", b"0")]
        )
        self.on_headers: Callable[[list[tuple[bytes, bytes]]], object] = lambda headers: None
        self.options: dict[str, Any] = {}

    def factory(self) -> ServerConnection:
        """A connection of this server."""
        connection = ServerConnection(
            self, closed=lambda _, reason: self.closed.append(reason), **self.options
        )
        self.connections.append(connection)
        return connection

    def request(
        self,
        conn: ServerConnection,
        stream_id: int,
        method: bytes,
        path: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
    ) -> None:
        """Remember and answer."""
        key = path.rsplit(b"/", 1)[-1].decode("latin-1")
        self.seen.append(key)
        self.on_headers(headers)
        self.answer(conn, stream_id, key)
