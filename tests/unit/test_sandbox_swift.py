"""The sandbox's short way sees exactly what the strict general way sees."""

from __future__ import annotations

import random
import re
from typing import Any

import pytest
from hpack.table import HeaderTable

from clarion.http2 import frames
from clarion.http2.frames import Header, literal
from clarion.http2.requests import RequestEncoder
from clarion.http2.server import ServerConnection
from clarion.sandbox.swift import SwiftConnection
from tests.support.http2 import Wire, give

UUID = b"00000000-0000-4000-8000-%012x"
Seen = tuple[bytes, frozenset[Header], bytes | None, bytes]


class Recorder:
    """Writes down every request, whichever way it came."""

    hole: bytes | None = b"apns-id"
    path_form = re.compile(rb"/[a-z0-9/]+")
    hole_form = re.compile(rb"[0-9a-f-]{36}")

    def __init__(self) -> None:
        self.seen: list[Seen] = []
        self.swift = 0

    def profile(self, headers: list[Header]) -> Any:
        """The headers themselves, path and hole apart."""
        return frozenset(header for header in headers if header[0] not in (b":path", self.hole))

    def take(
        self,
        conn: Any,
        stream_id: int,
        profile: Any,
        path: bytes,
        hole: bytes | None,
        body: bytes,
        known: bool = True,
    ) -> None:
        """The short way."""
        self.swift += 1
        self.seen.append((path, profile, hole, body))

    def request(
        self, conn: Any, stream_id: int, method: bytes, path: bytes, headers: list[Header], body: bytes
    ) -> None:
        """The general way."""
        hole = next((value for name, value in headers if name == self.hole), None)
        self.seen.append((path, self.profile(headers), hole, body))


def request(stream: int, block: bytes, body: bytes) -> bytes:
    """HEADERS and DATA."""
    return frames.frame(frames.HEADERS, frames.END_HEADERS, stream, block) + frames.frame(
        frames.DATA, frames.END_STREAM, stream, body
    )


class OddEncoder:
    """Encodes as it likes: from the table, into the table, past the table; and resizes the table."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._table = HeaderTable()

    def resize(self) -> bytes:
        """Now and then empty the table, or give it another size."""
        if self._chance.random() > 0.04:
            return b""
        self._table.maxsize = 0
        self._table.maxsize = self._chance.choice((0, 130, 300, 4096))
        return frames.table_size(0) + frames.table_size(self._table.maxsize)

    def encode(self, name: bytes, value: bytes) -> bytes:
        """One header."""
        found = self._table.search(name, value)
        if found is not None and found[2] is not None and self._chance.random() < 0.99:
            return frames.indexed(found[0])
        if self._chance.random() < 0.5:
            self._table.add(name, value)
            return frames.indexing(name, value)
        return frames.literal(name, value, never_indexed=self._chance.random() < 0.02)


def odd_client(chance: random.Random, count: int) -> bytes:
    """A client with a tiny table that it fills, empties and overflows, so that equal bytes change meaning."""
    encoder = OddEncoder(chance)
    out = [frames.PREFACE, frames.settings_frame([])]
    values = [b"a", b"x" * 70]
    for n in range(count):
        block = encoder.resize()
        for name, value in ((b":method", b"POST"), (b":scheme", b"https")):
            block += encoder.encode(name, value)
        block += frames.literal(b":path", b"/3/device/%d" % chance.randrange(4))
        for name in (b"apns-topic", b"apns-priority", b"x-other"):
            if chance.random() < 0.95:
                block += encoder.encode(name, chance.choice(values))
        for _ in range(chance.choice((0, 1, 1, 1, 1, 1, 1, 2))):
            block += frames.literal(b"apns-id", UUID % chance.randrange(3))
        if chance.random() < 0.05:  # bytes that look like the hole inside of another header's value
            block += frames.literal(b"x-trap", b"$" + UUID % 1)
        out.append(request(2 * n + 1, block, b"body %d" % chance.randrange(5)))
    return b"".join(out)


def our_client(chance: random.Random, count: int) -> bytes:
    """Our own sender, which now and then starts its table anew."""
    fixed = [(b"authorization", b"bearer " + b"t" * 150), (b"apns-topic", b"com.example.clarion")]
    encoder = RequestEncoder(b"https", b"localhost", fixed)
    out = [frames.PREFACE, frames.settings_frame([(1, 0), (2, 0)])]
    for n in range(count):
        if chance.random() < 0.05:
            encoder.restart()
        extra = literal(b"apns-priority", chance.choice((b"5", b"10")))
        extra += literal(b"apns-id", UUID % n)
        out.append(request(2 * n + 1, encoder.block(b"/3/device/%d" % n, extra), b"body %d" % n))
    return b"".join(out)


@pytest.mark.parametrize("client", [odd_client, our_client])
@pytest.mark.parametrize("seed", range(30))
async def test_both_ways_see_the_same(client: Any, seed: int) -> None:
    """Whatever a client does to its table, the same requests arrive; and the short way is used."""
    chance = random.Random(seed)
    data = client(chance, 300)
    swift, general = Recorder(), Recorder()
    for connection in (SwiftConnection(swift, streams=1000), ServerConnection(general, streams=1000)):
        connection.connection_made(Wire(connection))
        give(connection, data, chance)

    assert swift.seen == general.seen
    assert len(swift.seen) == 300
    assert swift.swift > (200 if client is our_client else 0)
