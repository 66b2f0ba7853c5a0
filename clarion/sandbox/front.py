"""The front: TLS listeners that hand a connection to HTTP/2 or HTTP/1.1.

By ALPN, or, for a client that offers none (pushy), by the first bytes it sends.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import Callable
from typing import Final, cast

from clarion.http2.frames import PREFACE

HOST: Final = "127.0.0.1"
BACKLOG: Final = 1024

Make = Callable[[asyncio.Transport], asyncio.Protocol | asyncio.BufferedProtocol]


class Front(asyncio.Protocol):
    """A new connection, until it is known what it speaks. Without `plain`, HTTP/2 is all there is."""

    def __init__(self, swift: Make, plain: Make | None) -> None:
        self._swift = swift
        self._plain = plain
        self._transport = cast(asyncio.Transport, None)
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Look at what TLS agreed upon."""
        self._transport = cast(asyncio.Transport, transport)
        tls = transport.get_extra_info("ssl_object")
        agreed = tls.selected_alpn_protocol() if tls is not None else None
        if self._plain is None or agreed == "h2":
            self._become(self._swift)
        elif agreed == "http/1.1":
            self._become(self._plain)

    def data_received(self, data: bytes) -> None:
        """Look at the first bytes."""
        self._seen += data
        known = min(len(self._seen), len(PREFACE))
        if self._seen[:known] != PREFACE[:known]:
            assert self._plain is not None
            self._become(self._plain)
        elif known == len(PREFACE):
            self._become(self._swift)

    def _become(self, make: Make) -> None:
        protocol = make(self._transport)
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        if self._seen:
            cast(asyncio.Protocol, protocol).data_received(self._seen)


class Listener:
    """One port. It can be closed and opened again on the same number; live connections stay."""

    def __init__(self, swift: Make, plain: Make | None, tls: ssl.SSLContext | None) -> None:
        self._swift = swift
        self._plain = plain
        self._tls = tls
        self._server: asyncio.Server | None = None
        self.port = 0

    @property
    def is_open(self) -> bool:
        """Whether somebody listens."""
        return self._server is not None

    async def open(self, port: int = 0) -> None:
        """Listen: on the port it had, or `port`, else on any."""
        if self._server is not None:
            return
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Front(self._swift, self._plain), HOST, self.port or port, ssl=self._tls, backlog=BACKLOG
        )
        self.port = self._server.sockets[0].getsockname()[1]

    async def open_near(self, port: int) -> None:
        """The same; when another program has the port, on any."""
        with contextlib.suppress(OSError):
            await self.open(port)
        await self.open()

    def close(self) -> None:
        """Listen no more: connecting is refused."""
        if self._server is not None:
            self._server.close()
            self._server = None
