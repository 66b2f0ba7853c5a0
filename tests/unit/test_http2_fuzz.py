"""Bytes from nowhere: neither side ever raises out of its read, and what it cannot read it closes."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.http2 import frames
from clarion.http2.frames import frame
from tests.support.http2 import Answering, Wire, client_pair, give

payloads = st.one_of(
    st.binary(max_size=40),
    st.sampled_from(
        [b"\x88", b"\x20\x88", b"\x8c", b"\x82\x87\x04\x02/a", b"\0\0\0\x01", b"\0\x03\0\0\0\x02"]
    ),
)
wild_frames = st.lists(
    st.builds(
        frame,
        st.integers(0, 11),
        st.sampled_from([0, 1, 4, 5, 8, 13, 32, 37, 255]),
        st.sampled_from([0, 1, 2, 3, 5, 2**31 - 1, 2**32 - 1]),
        payloads,
    ),
    max_size=12,
).map(b"".join)
garbage = st.one_of(
    wild_frames, st.binary(max_size=200), st.tuples(wild_frames, st.binary(max_size=30)).map(b"".join)
)


def in_a_loop(coroutine: Coroutine[Any, Any, None]) -> None:
    """Hypothesis calls functions; the protocols want a running loop."""
    with asyncio.Runner() as runner:
        runner.run(coroutine)


@settings(max_examples=100, deadline=None)
@given(garbage, st.booleans(), st.randoms(use_true_random=False))
def test_the_client_survives_anything(data: bytes, begun: bool, chance: random.Random) -> None:
    """Every request is reported once, the end is told once, and no exception leaves the parser."""

    async def scene() -> None:
        client, owner, wire = client_pair()
        posted = 0
        if begun:
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

    in_a_loop(scene())


@settings(max_examples=100, deadline=None)
@given(garbage, st.booleans(), st.randoms(use_true_random=False))
def test_the_server_survives_anything(data: bytes, begun: bool, chance: random.Random) -> None:
    """No exception leaves the parser, and the end is told once."""

    async def scene() -> None:
        handler = Answering()
        server = handler.factory()
        wire = Wire(server)
        server.connection_made(wire)
        if begun:
            give(server, frames.PREFACE + frame(frames.SETTINGS, 0, 0))
        give(server, data, chance)
        wire.lose(None)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert len(handler.closed) == 1

    in_a_loop(scene())
