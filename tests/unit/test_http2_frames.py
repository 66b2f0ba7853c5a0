"""Frames and header compression, with `hpack` as the oracle."""

from __future__ import annotations

import hpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.http2 import frames
from clarion.http2.frames import HeaderDecoder, ProtocolError, StreamError

TOKEN = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
names = st.one_of(
    st.sampled_from([b":path", b":status", b"authorization", b"content-type", b"apns-id", b"x" * 200]),
    st.lists(st.sampled_from(TOKEN), min_size=1, max_size=20).map(bytes),
)
values = st.one_of(
    st.binary(max_size=40).map(lambda value: bytes(b for b in value if b >= 32 and b != 127)),
    st.sampled_from([b"", b"v" * 126, b"v" * 127, b"v" * 200, b"same"]),
)
headers = st.lists(st.tuples(names, values), max_size=12)


@given(st.integers(0, 2**28 - 1), st.integers(1, 8))
def test_integers_as_hpack_writes_them(value: int, bits: int) -> None:
    """Every prefix, every length (RFC 7541 §5.1)."""
    assert frames.integer(value, bits) == bytes(hpack.hpack.encode_integer(value, bits))


@settings(max_examples=40, deadline=None)
@given(headers, st.booleans())
def test_literals_are_understood(pairs: list[tuple[bytes, bytes]], never: bool) -> None:
    """What `literal` writes is what hpack reads; `never_indexed` arrives as such; no table is touched."""
    decoder = hpack.Decoder()
    block = b"".join(frames.literal(*pair, never_indexed=never) for pair in pairs)
    decoded = list(decoder.decode(block, raw=True))

    assert [tuple(header) for header in decoded] == pairs
    assert all(header.indexable is not never for header in decoded)
    assert not decoder.header_table.dynamic_entries


@settings(max_examples=40, deadline=None)
@given(headers)
def test_indexing_fills_the_table_in_order(pairs: list[tuple[bytes, bytes]]) -> None:
    """Entries are newest first, at 62 and up."""
    decoder = hpack.Decoder()
    decoder.decode(b"".join(frames.indexing(*pair) for pair in pairs), raw=True)
    count = len(decoder.header_table.dynamic_entries)
    for back, pair in enumerate(reversed(pairs[-count:] if count else [])):
        assert [tuple(h) for h in decoder.decode(frames.indexed(62 + back), raw=True)] == [pair]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(headers, st.booleans(), st.sampled_from([None, 0, 50, 200, 4096])), min_size=1, max_size=6
    )
)
def test_our_decoder_reads_what_hpack_writes(
    blocks: list[tuple[list[tuple[bytes, bytes]], bool, int | None]],
) -> None:
    """Several blocks of one connection: Huffman or not, tables that grow, shrink and evict."""
    encoder, ours = hpack.Encoder(), HeaderDecoder(strict=True)
    for pairs, huffman, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        block = encoder.encode(pairs, huffman=huffman)
        assert ours.decode(block) == pairs


@settings(max_examples=200, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=4))
def test_our_decoder_agrees_with_hpack_on_garbage(blocks: list[bytes]) -> None:
    """Whatever the bytes: the same headers as hpack, or an error of ours where hpack has one."""
    theirs, ours = hpack.Decoder(), HeaderDecoder()
    for block in blocks:
        try:
            expected = [tuple(header) for header in theirs.decode(block, raw=True)]
        except (hpack.HPACKError, IndexError):
            with pytest.raises(ProtocolError):
                ours.decode(block)
            return
        assert ours.decode(block) == expected


@pytest.mark.parametrize("bad", [(b"Upper", b"x"), (b"x", b"a\nb"), (b"sp ace", b""), (b"x", b"\x00")])
def test_strict_decoding_refuses_the_request_and_keeps_step(bad: tuple[bytes, bytes]) -> None:
    """A header that must not be framed is a stream error, also when it is named again from the table."""
    encoder, decoder = hpack.Encoder(), HeaderDecoder(strict=True)
    for _ in range(2):
        with pytest.raises(StreamError):
            decoder.decode(encoder.encode([(b"good", b"1"), bad]))
    assert decoder.decode(encoder.encode([(b"good", b"1")])) == [(b"good", b"1")]


def test_a_header_block_that_inflates_is_refused() -> None:
    """A kilobyte that would become 4 MB (CVE-2016-6581): the bound is on what comes out."""
    encoder = hpack.Encoder()
    first = encoder.encode([(b"bomb", b"b" * 4_000)])
    decoder = HeaderDecoder()
    decoder.decode(first)
    with pytest.raises(ProtocolError, match="too large"):
        decoder.decode(frames.indexed(62) * 1_000)


def test_settings_are_read_in_order() -> None:
    """Also unknown ones and repeated ones."""
    pairs = [(3, 5), (0x77, 9), (3, 6), (4, 2**31 - 1)]
    assert frames.parse_settings(frames.settings_frame(pairs)[9:]) == pairs


def test_names_of_error_codes() -> None:
    """Known by name, unknown by number."""
    assert frames.code_name(11) == "ENHANCE_YOUR_CALM"
    assert frames.code_name(0xBEEF) == "0xbeef"
