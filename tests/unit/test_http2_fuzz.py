"""Bytes from nowhere: neither side ever raises out of its read, and what it cannot read it closes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.http2 import frames
from clarion.http2.frames import frame
from tests.support.fuzz_http2 import client_bears, close_loop, server_bears

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


@pytest.fixture(scope="module", autouse=True)
def loop() -> Iterator[None]:
    """The one that all conversations share ends with them."""
    yield
    close_loop()


@settings(max_examples=100, deadline=None)
@given(garbage)
def test_the_client_survives_anything(data: bytes) -> None:
    """Every request is reported once, the end is told once, and no exception leaves the parser."""
    client_bears(data)


@settings(max_examples=100, deadline=None)
@given(garbage, st.booleans())
def test_the_server_survives_anything(data: bytes, begun: bool) -> None:
    """No exception leaves the parser, and the end is told once."""
    server_bears((frames.PREFACE + frame(frames.SETTINGS, 0, 0) if begun else b"") + data)
