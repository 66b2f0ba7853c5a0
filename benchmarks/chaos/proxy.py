"""A TCP proxy on this machine, whose way can be made bad: it drops, holds, delays, resets and drips.

It stands in front of one port of the loopback and looks at nothing but bytes. What a client hands over is
read at once, however bad the way is, so `requested_at` says when a request last entered the transport.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

READ_BYTES: Final = 65_536
TURN: Final = 0.05  # seconds between two drops of a dripping way
# More bytes in one piece than pings, acknowledgements and window updates make: a request is among them.
REQUEST_BYTES: Final = 128
_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)


class Way:
    """How it stands with the way, for both directions of every connection."""

    def __init__(self) -> None:
        self.drops = False  # what is under way is lost for good, and nobody is told
        self.holds = False  # nothing passes until it is mended, then everything does
        self.delay = 0.0  # seconds, each direction
        self.rate: float | None = None  # bytes a second of one direction of one connection
        self.refuses = False  # connections are reset as soon as they are made
        self.changed = asyncio.Event()

    @property
    def fair(self) -> bool:
        """Nothing is wrong with it."""
        return not (self.drops or self.holds or self.delay or self.rate or self.refuses)


class Proxy:
    """Use it as `async with Proxy(port) as proxy`; clients connect to `proxy.port`."""

    def __init__(self, target: int, host: str = "127.0.0.1") -> None:
        self._target, self._host = target, host
        self._server: asyncio.Server | None = None
        self._lines: set[_Line] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.way = Way()
        self.requested_at = 0.0  # when a client last handed over what may hold a request, epoch seconds
        self.lost_bytes = 0
        self.port = 0

    async def __aenter__(self) -> Proxy:
        self._server = await asyncio.start_server(self._accept, self._host, 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.reset()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._lines)

    def drop(self) -> None:
        """From now on everything disappears, and nobody is told."""
        self._change(drops=True)

    def hold(self) -> None:
        """Nothing passes until it is mended; then everything does, late."""
        self._change(holds=True)

    def refuse(self) -> None:
        """Every connection is reset, and every new one."""
        self._change(refuses=True)
        self.reset()

    def slow(self, *, delay: float = 0.0, rate: float | None = None) -> None:
        """Each direction takes so much longer, or carries so few bytes a second."""
        self._change(delay=delay, rate=rate)

    def reset(self) -> int:
        """Reset every open connection, once. How many there were."""
        lines = list(self._lines)
        for line in lines:
            line.reset()
        return len(lines)

    def mend(self) -> None:
        """The way is fair again. Connections that have lost bytes are reset: they cannot go on."""
        for line in [line for line in self._lines if line.torn]:
            line.reset()
        self._change()

    def _change(self, **words: object) -> None:
        before, self.way = self.way, Way()
        for name, value in words.items():
            setattr(self.way, name, value)
        before.changed.set()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        line = _Line(self, reader, writer)
        self._lines.add(line)
        try:
            await line.carry(self._target, self._host)
        except (OSError, asyncio.CancelledError):
            line.reset()
        finally:
            line.close()
            self._lines.discard(line)

    def note(self, size: int) -> None:
        """A client handed over so many bytes."""
        if size >= REQUEST_BYTES:
            self.requested_at = time.time()


class _Line:
    """One connection and its other half."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._far: asyncio.StreamWriter | None = None
        self.torn = False

    async def carry(self, target: int, host: str) -> None:
        """Until both sides have closed, or one is reset."""
        if self._proxy.way.refuses:
            self.reset()
            return
        while self._proxy.way.drops or self._proxy.way.holds:  # the first packet does not arrive either
            await self._proxy.way.changed.wait()
        reader, self._far = await asyncio.open_connection(host, target)
        there = self._pump(self._reader, self._far, self._proxy.note)
        back = self._pump(reader, self._writer, lambda size: None)
        await asyncio.gather(there, back)

    def close(self) -> None:
        """Both sides have said all, or have been reset."""
        for writer in (self._writer, self._far):
            if writer is not None:
                writer.close()

    def reset(self) -> None:
        """An RST to both sides."""
        for writer in (self._writer, self._far):
            if writer is not None:
                with suppress(OSError, AttributeError):
                    sock: socket.socket = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_AT_CLOSE)
                writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, note: Callable[[int], None]
    ) -> None:
        """One direction: read at once, pass on as the way allows."""
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        passing = asyncio.create_task(self._pass_on(under_way, writer))
        try:
            while data := await reader.read(READ_BYTES):
                note(len(data))
                under_way.put_nowait((time.monotonic(), data))
            under_way.put_nowait((time.monotonic(), b""))
            await passing
        except OSError:  # one side is gone: so is the other
            self.reset()
        finally:
            passing.cancel()

    async def _pass_on(
        self, under_way: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter
    ) -> None:
        while True:
            at, data = await under_way.get()
            await self._travel(at)
            if self._proxy.way.drops:
                self.torn = True
                self._proxy.lost_bytes += len(data)
                continue
            if not data:
                with suppress(OSError):
                    writer.write_eof() if writer.can_write_eof() else writer.close()
                return
            await self._write(data, writer)

    async def _travel(self, at: float) -> None:
        """The time that it takes on this way."""
        while True:
            way = self._proxy.way
            left = at + way.delay - time.monotonic()
            if way.holds:
                await way.changed.wait()
            elif left > 0:
                with suppress(TimeoutError):
                    await asyncio.wait_for(way.changed.wait(), left)
            else:
                return

    async def _write(self, data: bytes, writer: asyncio.StreamWriter) -> None:
        while data:
            rate = self._proxy.way.rate
            piece = len(data) if rate is None else max(1, int(rate * TURN))
            writer.write(data[:piece])
            await writer.drain()
            data = data[piece:]
            if rate is not None:
                await asyncio.sleep(TURN)
