"""Fuzz targets: conversations at both ends of our HTTP/2, and header blocks with `hpack` as the oracle."""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Coroutine, Sequence
from functools import cache
from typing import Any

import hpack

from clarion.http2 import frames
from clarion.http2.frames import HeaderDecoder, ProtocolError, frame
from tests.support.fuzzing import Target, flip
from tests.support.http2 import Answering, Wire, client_pair, give

KINDS = tuple(range(12))
FLAGS = (0, 1, 4, 5, 8, 13, 32, 37, 255)
STREAMS = (0, 1, 2, 3, 5, 7, 2**31 - 1, 2**32 - 1)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all: a new one for each conversation would cost more than the conversation."""
    return asyncio.new_event_loop()


def in_a_loop(scene: Coroutine[Any, Any, None]) -> None:
    """Play it to its end."""
    _loop().run_until_complete(scene)


def close_loop() -> None:
    """No conversation will follow."""
    _loop().close()
    _loop.cache_clear()


# ── conversations ─────────────────────────────────────────────────────────────────────────────────────


def client_bears(data: bytes) -> None:
    """Every request is reported once, the end is told once, and little is written for what was read."""
    chance = random.Random(zlib.crc32(data))

    async def scene() -> None:
        client, owner, wire = client_pair()
        posted = 0
        if chance.random() < 0.8:
            give(client, frame(frames.SETTINGS, 0, 0) + frame(frames.SETTINGS, frames.ACK, 0))
            for key in range(3):
                client.post(key, b"/a", b"", b"{}")
            posted = 3
            client.flush()
        give(client, data, chance)
        for _ in range(3 * bool(client.room())):
            client.post(posted, b"/a", b"", b"{}")
            posted += 1
            client.flush()
        wire.lose(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert owner.reported == posted
        assert len(owner.reasons) == 1
        assert all(100 <= status < 1000 for status in owner.statuses())
        assert len(wire.written) <= 4_096 + 4 * len(data), "much is said for little"

    in_a_loop(scene())


def server_bears(data: bytes) -> None:
    """The end is told once, and every request that is handed on has a path."""
    chance = random.Random(zlib.crc32(data))

    async def scene() -> None:
        handler = Answering()
        handler.on_headers = lambda headers: _check_request(headers)
        server = handler.factory()
        wire = Wire(server)
        server.connection_made(wire)
        give(server, data, chance)
        wire.lose(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(handler.closed) == 1
        assert len(wire.written) <= 4_096 + 8 * len(data), "much is said for little"

    in_a_loop(scene())


def _check_request(headers: list[tuple[bytes, bytes]]) -> None:
    names = [name for name, _ in headers]
    assert names.count(b":path") == names.count(b":method") == 1
    for name, value in headers:
        frames.check_header(name.removeprefix(b":"), value)


def split(data: bytes) -> tuple[bytes, list[tuple[int, int, int, bytes]]]:
    """A conversation's preface (or nothing) and its frames; what is no whole frame is left out."""
    preface = frames.PREFACE if data.startswith(frames.PREFACE) else b""
    found, at = [], len(preface)
    while at + 9 <= len(data):
        size = int.from_bytes(data[at : at + 3], "big")
        stream = int.from_bytes(data[at + 5 : at + 9], "big")
        found.append((data[at + 3], data[at + 4], stream, data[at + 9 : at + 9 + size]))
        at += 9 + size
    return preface, found


def frame_edit(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """One frame more, less, twice, elsewhere, of another kind, stream or content."""
    preface, found = split(data)
    at = chance.randint(0, len(found))
    here = found[at : at + 1]
    other = split(chance.choice(corpus))[1]
    kind, flags, stream, payload = here[0] if here else (0, 0, 0, b"")
    new: list[tuple[int, int, int, bytes]] = chance.choice(
        (
            [],
            here * 2,
            here * 40,
            [*here, chance.choice(other)] if other else here,
            [(chance.choice(KINDS), flags, stream, payload)],
            [(kind, chance.choice(FLAGS), stream, payload)],
            [(kind, flags, chance.choice(STREAMS), payload)],
            [(kind, flags, stream, flip(chance, payload, corpus))],
            [(kind, flags, stream, payload[: chance.randint(0, len(payload))])],
            [(kind, flags, stream, chance.randbytes(chance.choice((0, 1, 4, 5, 8, 40))))],
            [(9, chance.choice((0, 4)), stream, payload)],
        )
    )
    found[at : at + 1] = new
    if chance.random() < 0.1:
        chance.shuffle(found)
    return preface + b"".join(frame(k, f, s, p) for k, f, s, p in found)


# ── header blocks ─────────────────────────────────────────────────────────────────────────────────────


def blocks(data: bytes) -> list[bytes]:
    """Header blocks, each behind its length in two bytes."""
    found, at = [], 0
    while at + 2 <= len(data):
        end = at + 2 + int.from_bytes(data[at : at + 2], "big")
        found.append(data[at + 2 : end])
        at = end
    return found


def joined(parts: Sequence[bytes]) -> bytes:
    """The reverse."""
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)


def decoder_agrees(data: bytes) -> None:
    """The same headers as `hpack`, or an error where it has one; a strict decoder is only stricter."""
    theirs, ours, strict = hpack.Decoder(), HeaderDecoder(), HeaderDecoder(strict=True)
    for block in blocks(data):
        try:
            expected = [tuple(header) for header in theirs.decode(block, raw=True)]
        except (hpack.HPACKError, IndexError):
            expected = None
        try:
            found = ours.decode(block)
        except ProtocolError:
            found = None
        assert found == expected
        try:
            assert strict.decode(block) == expected
        except frames.StreamError:
            assert expected is not None
        except ProtocolError:
            assert expected is None
        if expected is None:
            return


def block_edit(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """One header block more, less, twice, changed by a bit or cut."""
    parts = blocks(data) or [b""]
    at = chance.randrange(len(parts))
    one = parts[at]
    other = chance.choice(blocks(chance.choice(corpus)) or [b""])
    parts[at : at + 1] = chance.choice(
        (
            [],
            [one, one],
            [one, other],
            [flip(chance, one, corpus)],
            [one[: chance.randint(0, len(one))]],
            [frames.table_size(chance.choice((0, 1, 33, 100, 4096, 4097, 2**20))) + one],
            [frames.integer(chance.choice((0, 61, 62, 70, 127, 300)), 7, 0x80) + one],
        )
    )
    return joined(parts)


TARGETS = (
    Target("http2-client", client_bears, (frame_edit,)),
    Target("http2-server", server_bears, (frame_edit,)),
    Target("hpack", decoder_agrees, (block_edit,)),
)
