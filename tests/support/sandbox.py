"""A sandbox in this process, and clients that are not ours: `h2` over a plain TLS socket, and httpx.

Our client and our server could be wrong together; these speak for the rest of the world.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    PingAckReceived,
    RemoteSettingsChanged,
    ResponseReceived,
    StreamEnded,
    StreamReset,
)
from h2.settings import SettingCodes
from py_vapid import Vapid

from clarion.sandbox.certificates import private_pem
from clarion.sandbox.sandbox import Sandbox
from clarion.store.base64url import encode_base64url

TOPIC = "com.example.clarion"
DEVICE = "ab" * 32
PHONE = "d" * 22 + ":APA91b" + "p" * 134
SCOPE = "https://www.googleapis.com/auth/firebase.messaging"
GRANT_TYPE = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ALERT = b'{"aps":{"alert":{"title":"Hello","body":"there"}}}'
WAIT = 5.0


@dataclass
class Reply:
    """What one stream brought."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    reset: int | None = None
    done: asyncio.Event = field(default_factory=asyncio.Event)


class H2Client(asyncio.Protocol):
    """One HTTP/2 connection through the `h2` library; headers are sent exactly as given."""

    def __init__(self) -> None:
        config = H2Configuration(
            validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="utf-8"
        )
        self.h2 = H2Connection(config=config)
        self.replies: dict[int, Reply] = {}
        self.streams: int | None = None  # what the server allows
        self.goaway: ConnectionTerminated | None = None
        self.pongs = 0
        self.changed = asyncio.Event()
        self.closed = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self.transport: Any = transport
        self.h2.initiate_connection()
        self.send()

    def data_received(self, data: bytes) -> None:
        """Sort what came."""
        for event in self.h2.receive_data(data):
            self._sort(event)
        self.send()
        self.changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody waits any longer."""
        self.closed.set()
        self.changed.set()
        for reply in self.replies.values():
            reply.done.set()

    def _sort(self, event: Any) -> None:
        if isinstance(event, RemoteSettingsChanged):
            change = event.changed_settings.get(SettingCodes.MAX_CONCURRENT_STREAMS)
            self.streams = change.new_value if change is not None else self.streams
        elif isinstance(event, ConnectionTerminated):
            self.goaway = event
        elif isinstance(event, PingAckReceived):
            self.pongs += 1
        elif isinstance(event, ResponseReceived):
            reply = self.replies[event.stream_id]
            reply.headers = dict(event.headers)  # type: ignore[arg-type]
            reply.status = int(reply.headers[":status"])
        elif isinstance(event, DataReceived):
            self.replies[event.stream_id].body += event.data
        elif isinstance(event, StreamEnded):
            self.replies[event.stream_id].done.set()
        elif isinstance(event, StreamReset):
            reply = self.replies[event.stream_id]
            reply.reset = event.error_code
            reply.done.set()

    def send(self) -> None:
        """Let out what is framed."""
        if data := self.h2.data_to_send():
            self.transport.write(data)

    def start(self, headers: Sequence[tuple[str, str]], body: bytes) -> Reply:
        """Send a request, whatever the limit says."""
        stream = self.h2.get_next_available_stream_id()
        reply = self.replies[stream] = Reply()
        self.h2.remote_settings._settings[SettingCodes.MAX_CONCURRENT_STREAMS].append(100_000)
        self.h2.remote_settings.acknowledge()
        self.h2.send_headers(stream, headers, end_stream=not body)
        if body:
            self.h2.send_data(stream, body, end_stream=True)
        self.send()
        return reply

    async def request(self, headers: Sequence[tuple[str, str]], body: bytes = ALERT) -> Reply:
        """Send a request and wait for what becomes of it."""
        reply = self.start(headers, body)
        await asyncio.wait_for(reply.done.wait(), WAIT)
        return reply

    async def until_streams(self, count: int) -> None:
        """Wait for the limit to be so high, or so low."""
        async with asyncio.timeout(WAIT):
            while self.streams != count:
                self.changed.clear()
                await self.changed.wait()

    def close(self) -> None:
        """Leave."""
        self.transport.abort()


async def h2_connect(port: int, tls: ssl.SSLContext, *, alpn: bool = True) -> H2Client:
    """Connect; without `alpn` the server has to find out by itself what we speak."""
    if alpn:
        tls.set_alpn_protocols(["h2"])
    _, client = await asyncio.get_running_loop().create_connection(
        H2Client, "127.0.0.1", port, ssl=tls, server_hostname="localhost"
    )
    async with asyncio.timeout(WAIT):
        while client.streams is None and not client.closed.is_set():
            client.changed.clear()
            await client.changed.wait()
    if client.closed.is_set():
        raise ConnectionResetError("closed before it said hello")
    return client


@asynccontextmanager
async def h2_client(sandbox: Sandbox, name: str = "apns", *, alpn: bool = True) -> AsyncIterator[H2Client]:
    """A connection of the test's own."""
    tls = sandbox.authority.client_context()
    client = await h2_connect(sandbox.listeners[name].port, tls, alpn=alpn)
    yield client
    client.close()


# ---- APNs


def provider_token(
    sandbox: Sandbox,
    *,
    age: float = 0.0,
    team: str | None = None,
    kid: str | None = None,
    key: str | None = None,
    algorithm: str = "ES256",
    **claims: Any,
) -> str:
    """A token of the demo key, or one that is wrong in one way."""
    known = sandbox.credentials.apns
    stated = {"iss": team or known["team_id"], "iat": int(time.time() - age), **claims}
    return jwt.encode(
        {name: value for name, value in stated.items() if value is not None},
        key or known["private_key"],
        algorithm=algorithm,
        headers={"kid": kid or known["key_id"]},
    )


def new_key() -> str:
    """A P-256 key nobody knows, PEM."""
    return private_pem(ec.generate_private_key(ec.SECP256R1())).decode()


def apns_headers(token: str | None, device: str = DEVICE, /, **changes: str | None) -> list[tuple[str, str]]:
    """A good request; `apns_topic=…` replaces a header, None leaves it out."""
    headers: dict[str, str | None] = {
        ":method": "POST",
        ":scheme": "https",
        ":path": f"/3/device/{device}",
        ":authority": "localhost",
        "authorization": f"bearer {token}" if token is not None else None,
        "apns-topic": TOPIC,
        "apns-push-type": "alert",
        "apns-priority": "10",
    }
    for name, value in changes.items():
        pseudo = name in ("method", "path")
        headers[f":{name}" if pseudo else name.replace("_", "-")] = value
    return [(name, value) for name, value in headers.items() if value is not None]


# ---- FCM


def assertion(sandbox: Sandbox, *, key: str | None = None, algorithm: str = "RS256", **claims: Any) -> str:
    """What the service account signs."""
    account, now = sandbox.credentials.fcm, int(time.time())
    stated = {
        "iss": account["client_email"],
        "scope": SCOPE,
        "aud": account["token_uri"],
        "iat": now,
        "exp": now + 3600,
        **claims,
    }
    return jwt.encode(stated, key or account["private_key"], algorithm=algorithm)


async def exchange(sandbox: Sandbox, client: httpx.AsyncClient, **claims: Any) -> httpx.Response:
    """Ask the token endpoint."""
    form = {"grant_type": GRANT_TYPE, "assertion": assertion(sandbox, **claims)}
    return await client.post(sandbox.credentials.fcm["token_uri"], data=form)


async def access_token(sandbox: Sandbox, client: httpx.AsyncClient) -> str:
    """A good access token."""
    answer = await exchange(sandbox, client)
    return str(answer.json()["access_token"])


def fcm_url(sandbox: Sandbox, path: str = "/v1/projects/clarion-sandbox/messages:send") -> str:
    """Where FCM is."""
    return f"https://127.0.0.1:{sandbox.listeners['fcm'].port}{path}"


# ---- Web Push


def vapid(
    sandbox: Sandbox, origin: int = 0, *, key: str | None = None, hours: float = 12.0, **claims: Any
) -> str:
    """The Authorization header of the demo key, or one that is wrong in one way."""
    stated = {
        "aud": sandbox.webpush[origin].url,
        "exp": int(time.time() + hours * 3600),
        "sub": "mailto:push@clarion.example",
        **claims,
    }
    private = Vapid.from_raw((key or sandbox.credentials.webpush["private_key"]).encode())
    token = jwt.encode(
        {name: value for name, value in stated.items() if value is not None},
        private.private_key,
        algorithm="ES256",
    )
    return f"vapid t={token}, k={public_key(private)}"


def public_key(private: Vapid) -> str:
    """The k of an Authorization header."""
    numbers = private.public_key.public_numbers()
    point = b"\x04" + numbers.x.to_bytes(32, "big") + numbers.y.to_bytes(32, "big")
    return encode_base64url(point)
