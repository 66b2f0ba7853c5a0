"""What our client makes of single frames, sensible and hostile, written by hand."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import hpack
import pytest

from clarion.http2 import frames
from clarion.http2.client import ANSWER_BYTES, Connection, Fate, literal
from clarion.http2.endpoint import CHUNK, FLOOD
from clarion.http2.frames import ErrorCode, frame
from tests.support.http2 import HEADERS, Owner, Wire, client_pair, give

OK = b"\x88"
ACK = frame(frames.SETTINGS, frames.ACK, 0)
Pair = tuple[Connection, Owner, Wire]


def settings(**values: int) -> bytes:
    """A server's SETTINGS; names as in clarion.http2.frames, lower case."""
    return frames.settings_frame((getattr(frames, name.upper()), value) for name, value in values.items())


def ready(*, streams: int = 100, confirmed: bool = True, **options: Any) -> Pair:
    """A client whose peer has said hello; `confirmed`: and that it keeps nothing in our table."""
    client, owner, wire = client_pair(**options)
    give(client, settings(max_concurrent_streams=streams))
    give(client, ACK)
    if confirmed:
        post(client, "first")
        give(client, frame(frames.HEADERS, 5, 1, frames.table_size(0) + OK))
        owner.answers.clear()
    return client, owner, wire


def post(client: Connection, *keys: object, body: bytes = b"{}") -> int:
    """Post and flush; the number of the last stream."""
    for key in keys:
        client.post(key, b"/3/device/0", b"", body)
    client.flush()
    return client.requests * 2 - 1


def written(wire: Wire) -> list[tuple[int, int, int, bytes]]:
    """The frames written since the last look: type, flags, stream, payload."""
    data, found = wire.unread().removeprefix(frames.PREFACE), []
    while data:
        kind, flags, stream = frames.HEAD.unpack_from(data)
        end = 9 + (kind >> 8)
        found.append((kind & 255, flags, stream, data[9:end]))
        data = data[end:]
    return found


async def test_the_hello_forbids_table_and_push() -> None:
    """Preface, then SETTINGS: no table, no push, a stream window as large as an answer may be."""
    client, _, wire = client_pair()
    assert wire.written.startswith(frames.PREFACE)
    (kind, _, stream, payload), window = written(wire)
    hello = dict(frames.parse_settings(payload))

    assert (kind, stream) == (frames.SETTINGS, 0)
    assert (hello[frames.HEADER_TABLE_SIZE], hello[frames.ENABLE_PUSH]) == (0, 0)
    assert hello[frames.INITIAL_WINDOW_SIZE] == ANSWER_BYTES
    assert window[0] == frames.WINDOW_UPDATE
    client.abort()


async def test_nothing_may_be_posted_before_the_peers_settings() -> None:
    """Until the peer has told its limits there is no room, and a post is refused before it is framed."""
    client, _, _ = client_pair()
    assert client.room() == 0
    with pytest.raises(ConnectionError):
        client.post(1, b"/", b"", b"")
    give(client, settings())
    assert client.room() == 100  # the peer told no limit: we are modest
    client.abort()


async def test_the_first_request_fills_the_table_and_later_ones_name_it() -> None:
    """Fixed headers are sent once: a later request costs its path and what is its own."""
    client, _, wire = ready(confirmed=False)
    decoder = hpack.Decoder()
    written(wire)
    post(client, "a", "b")
    (_, _, _, first), _, (_, _, _, second), _ = written(wire)
    wanted = [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"localhost"),
        (b":path", b"/3/device/0"),
        *HEADERS,
    ]

    assert decoder.decode(first, raw=True) == wanted
    assert decoder.decode(second, raw=True) == wanted
    assert len(second) == 3 + 2 + len(b"/3/device/0") + len(HEADERS)
    client.abort()


async def test_headers_that_do_not_fit_the_peers_table_are_repeated() -> None:
    """A peer with a small table gets what fits by index, the rest in full, and hears of the size."""
    client, _, wire = client_pair()
    give(client, settings(header_table_size=60))
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 60
    written(wire)
    post(client, "a", "b")
    blocks = [payload for kind, _, _, payload in written(wire) if kind == frames.HEADERS]

    for block in blocks:
        assert list(decoder.decode(block, raw=True))[4:] == HEADERS
    client.abort()


@pytest.mark.parametrize("path", [b"/3/device/a\nb", b"/a b", b"/\x7f", b"/\xff", b"", b"/a\x00"])
async def test_a_bad_path_is_refused_before_framing(path: bytes) -> None:
    """One bad token must not take the connection down: nothing is framed, and the next request goes out."""
    client, owner, wire = ready()
    written(wire)
    with pytest.raises(ValueError, match="path"):
        client.post("bad", path, b"", b"")
    client.flush()
    assert written(wire) == []
    assert client.in_flight == 0
    stream = post(client, "good")
    give(client, frame(frames.HEADERS, 5, stream, OK))
    assert owner.statuses() == [200]
    client.abort()


@pytest.mark.parametrize(
    ("name", "value"),
    [(b"Apns-Topic", b"x"), (b"a b", b"x"), (b"", b"x"), (b"x", b"a\r\nb"), (b"x", b"\x00"), (b"x", b"\x7f")],
)
async def test_a_bad_header_is_refused_without_its_value(name: bytes, value: bytes) -> None:
    """A header that must not be framed raises ValueError whose text does not hold the value."""
    with pytest.raises(ValueError, match=r"header|control") as caught:
        literal(name, value)
    assert value.decode("latin-1") not in str(caught.value).replace("x", "") or value == b"x"
    with pytest.raises(ValueError, match=r"header|control"):
        Connection(authority=b"a", headers=[(name, value)], owner=Owner(), timeout=1)


async def test_a_header_block_too_large_for_a_frame_is_refused() -> None:
    """We never send CONTINUATION; what would need it is a ValueError, and nothing is framed."""
    client, _, _ = ready()
    with pytest.raises(ValueError, match="too large"):
        client.post(1, b"/" + b"a" * 20_000, b"", b"")
    assert client.in_flight == 0
    client.abort()


async def test_padding_and_priority_are_taken_off() -> None:
    """HEADERS with priority and padding, DATA with padding, an empty last frame."""
    client, owner, _ = ready()
    stream = post(client, "a")
    block = bytes([3]) + b"\x00\x00\x00\x00\x10" + OK + b"\0\0\0"
    give(
        client, frame(frames.HEADERS, frames.END_HEADERS | frames.PADDED | frames.PRIORITISED, stream, block)
    )
    give(client, frame(frames.DATA, frames.PADDED, stream, b"\x02abc\0\0"))
    give(client, frame(frames.DATA, frames.END_STREAM, stream))

    assert owner.answers == {"a": (200, {}, b"abc")}
    client.abort()


async def test_a_header_block_in_many_frames() -> None:
    """CONTINUATION frames make one block; its END_STREAM stands on the HEADERS frame."""
    client, owner, _ = ready()
    stream = post(client, "a")
    block = b"\x48\x03410" + literal(b"apns-id", b"1" * 40)
    give(client, frame(frames.HEADERS, frames.END_STREAM, stream, block[:3]))
    for at in range(3, len(block), 5):
        last = at + 5 >= len(block)
        give(
            client, frame(frames.CONTINUATION, frames.END_HEADERS if last else 0, stream, block[at : at + 5])
        )

    assert owner.answers == {"a": (410, {b"apns-id": b"1" * 40}, b"")}
    client.abort()


async def test_a_peer_that_keeps_its_table_is_understood() -> None:
    """Before the peer confirms a table of size 0, its blocks are decoded one by one, in order."""
    client, owner, _ = ready(confirmed=False)
    post(client, "a", "b", "c")
    encoder = hpack.Encoder()
    headers = [(b":status", b"200"), (b"apns-id", b"one"), (b"x", b"y")]
    for stream in (1, 3, 5):
        give(client, frame(frames.HEADERS, 5, stream, encoder.encode(headers)))

    assert [dict(h) for _, h, _ in owner.answers.values()] == [{b"apns-id": b"one", b"x": b"y"}] * 3
    client.abort()


async def test_a_table_that_grows_after_its_confirmation_is_an_error() -> None:
    """The fast way rests on the table being empty; a peer that takes its word back is sent away."""
    client, owner, wire = ready()
    stream = post(client, "a")
    give(client, frame(frames.HEADERS, 5, stream, frames.table_size(100) + OK))

    assert owner.failures["a"][0] is Fate.LOST
    assert last_goaway(wire) == ErrorCode.COMPRESSION_ERROR


def last_goaway(wire: Wire) -> int:
    """The code of the GOAWAY that we sent last."""
    kind, _, _, payload = written(wire)[-1]
    assert kind == frames.GOAWAY
    return int.from_bytes(payload[4:8], "big")


async def test_informational_answers_are_passed_over() -> None:
    """Any number of 1xx may come before the answer."""
    client, owner, _ = ready()
    stream = post(client, "a")
    for status in (b"100", b"103"):
        give(client, frame(frames.HEADERS, 4, stream, b"\x08\x03" + status))
    give(client, frame(frames.HEADERS, 4, stream, b"\x8c"))
    give(client, frame(frames.DATA, 1, stream, b'{"reason":"BadDeviceToken"}'))

    assert owner.answers == {"a": (400, {}, b'{"reason":"BadDeviceToken"}')}
    client.abort()


@pytest.mark.parametrize("end", ["reset", "lost", "timeout"])
async def test_a_status_once_received_is_never_lost(end: str) -> None:
    """410, then no body: still a 410, with as much of its body as came."""
    client, owner, wire = ready(timeout=0.2)
    stream = post(client, "a")
    give(client, frame(frames.HEADERS, 4, stream, b"\x08\x03410"))
    give(client, frame(frames.DATA, 0, stream, b'{"rea'))
    if end == "reset":
        give(client, frames.rst_stream(stream, ErrorCode.INTERNAL_ERROR))
    elif end == "lost":
        wire.lose(ConnectionResetError())
    await until(lambda: bool(owner.reported))

    assert owner.answers == {"a": (410, {}, b'{"rea')}
    client.abort()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that a timer of the client does."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for: the client is passive
            await asyncio.sleep(0.01)


async def test_an_answer_too_long_is_cut() -> None:
    """The status counts; of a long body the beginning is kept and the stream is cancelled."""
    client, owner, wire = ready()
    stream = post(client, "a")
    written(wire)
    give(client, frame(frames.HEADERS, 4, stream, OK))
    for _ in range(3):
        give(client, frame(frames.DATA, 0, stream, b"x" * 16_000))

    assert owner.answers == {"a": (200, {}, b"x" * ANSWER_BYTES)}
    assert written(wire)[0] == (frames.RST_STREAM, 0, stream, frames.WORD.pack(ErrorCode.CANCEL))
    assert client.room() == 100
    client.abort()


@pytest.mark.parametrize(
    ("code", "fate"),
    [
        (ErrorCode.REFUSED_STREAM, Fate.REFUSED),
        (ErrorCode.INTERNAL_ERROR, Fate.RESET),
        (ErrorCode.CANCEL, Fate.RESET),
        (ErrorCode.NO_ERROR, Fate.RESET),
        (ErrorCode.ENHANCE_YOUR_CALM, Fate.RESET),
        (0xDEAD, Fate.RESET),
    ],
)
async def test_resets(code: int, fate: Fate) -> None:
    """Refused is surely not processed; every other reset leaves doubt. The others' answers still come."""
    client, owner, _ = ready()
    post(client, "a", "b")
    give(client, frames.rst_stream(3, code) + frame(frames.HEADERS, 5, 5, OK))

    assert owner.failures["a"][0] is fate
    assert fate.maybe is (fate is Fate.RESET)
    assert owner.statuses() == [200]
    client.abort()


async def test_goaway_tells_the_unprocessed_and_drains() -> None:
    """Streams beyond the last are unprocessed at once; the others keep their chance, then we close."""
    client, owner, wire = ready()
    post(client, *range(10))  # streams 3 to 21
    give(client, frames.goaway(11, 0, b'{"reason":"Shutdown"}'))

    assert owner.fates() == {Fate.UNPROCESSED: [5, 6, 7, 8, 9]}
    assert not client.usable
    assert client.room() == 0
    assert client.goaway is not None
    assert (client.goaway.last, client.goaway.code) == (11, 0)
    assert client.goaway.debug == b'{"reason":"Shutdown"}'
    for stream in range(3, 13, 2):
        give(client, frame(frames.HEADERS, 5, stream, OK))
    await until(lambda: bool(owner.reasons))
    assert owner.statuses() == [200] * 5
    assert owner.reasons == ['goaway NO_ERROR: {"reason":"Shutdown"}']
    assert wire.closing


async def test_a_second_goaway_may_take_more_back() -> None:
    """A graceful server first names the largest stream, then the one it really processed."""
    client, owner, _ = ready()
    post(client, "a", "b")
    give(client, frames.goaway(2**31 - 1, 0))
    assert owner.failures == {}
    give(client, frames.goaway(3, 11, b"\xff\n"))
    assert owner.fates() == {Fate.UNPROCESSED: ["b"]}
    assert str(client.goaway) == "goaway ENHANCE_YOUR_CALM: ??"
    client.abort()


async def test_drain_waits_for_answers() -> None:
    """After `drain` there is no room; the connection closes with the last answer."""
    client, owner, wire = ready()
    stream = post(client, "a")
    client.drain()
    await asyncio.sleep(0)
    assert client.room() == 0
    assert not wire.closing
    give(client, frame(frames.HEADERS, 5, stream, OK))
    await until(lambda: bool(owner.reasons))
    assert owner.reasons == ["drained"]
    assert owner.statuses() == [200]


async def test_an_idle_connection_drains_at_once() -> None:
    """Nothing in flight: it says goodbye and closes in the same turn of the loop."""
    client, owner, wire = ready()
    client.drain()
    await until(lambda: bool(owner.reasons))
    assert written(wire)[-1][0] == frames.GOAWAY


async def test_what_did_not_leave_is_unsent() -> None:
    """The transport's buffer is full: what it did not get is known to be unsent, what it got is lost."""
    client, owner, wire = ready(room=0, streams=1000)
    body = b"x" * 1_000
    post(client, *range(500), body=body)
    assert wire.paused
    assert client.room() == 0
    handed = (len(wire.written) + CHUNK) // 1_100
    wire.lose(ConnectionResetError())
    await until(lambda: bool(owner.reasons))
    fates = owner.fates()

    assert fates[Fate.LOST] + fates[Fate.UNSENT] == list(range(500))
    assert len(fates[Fate.LOST]) <= handed
    whole = [entry for entry in written_whole(wire) if entry[0] == frames.DATA]
    assert len(whole) - 1 == len(fates[Fate.LOST])  # but for the first request, answered long ago
    assert len(wire.written) <= 2 * CHUNK + 4_096


def written_whole(wire: Wire) -> list[tuple[int, int, int, bytes]]:
    """All frames ever handed to the transport."""
    wire.room, wire.read = None, 0
    return written(wire)


async def test_recall_takes_back_what_has_not_left() -> None:
    """An operator says stop: what the socket has not taken comes back unsent and leaves no more."""
    client, owner, wire = ready(room=0, streams=1000)
    post(client, *range(500), body=b"x" * 1_000)
    client.recall()
    recalled = owner.fates()[Fate.UNSENT]
    wire.take(10**9)
    stream = post(client, "later")
    whole = {entry[2] for entry in written_whole(wire) if entry[0] == frames.DATA}

    assert len(recalled) > 300
    assert whole == {1, *range(3, 3 + 2 * (500 - len(recalled)), 2), stream}
    assert client.in_flight == 500 - len(recalled) + 1
    client.abort()


async def test_recalling_the_first_request_fills_the_table_again() -> None:
    """The request that was to fill the peer's table never left: the next one does it."""
    client, owner, wire = ready(confirmed=False)
    written(wire)
    client.post("a", b"/a", b"", b"")
    client.recall()
    post(client, "b", "c")
    decoder = hpack.Decoder()
    blocks = [payload for kind, _, _, payload in written(wire) if kind == frames.HEADERS]

    assert owner.fates() == {Fate.UNSENT: ["a"]}
    assert [list(decoder.decode(block, raw=True))[4:] for block in blocks] == [HEADERS, HEADERS]
    client.abort()


async def test_a_lowered_limit_takes_back_what_has_not_left() -> None:
    """The limit falls to 1 with requests framed and unflushed: none of them leaves."""
    client, owner, wire = ready()
    post(client, "sent", "sent too")
    written(wire)
    client.post("kept", b"/", b"", b"")
    give(client, settings(max_concurrent_streams=1))

    assert owner.fates() == {Fate.UNSENT: ["kept"]}
    assert client.room() == 0
    give(client, frame(frames.HEADERS, 5, 3, OK))
    assert client.room() == 0
    give(client, frame(frames.HEADERS, 5, 5, OK))
    assert client.room() == 1
    assert all(kind != frames.HEADERS for kind, *_ in written(wire))
    client.abort()


async def test_goaway_takes_back_what_has_not_left() -> None:
    """Whatever last stream a GOAWAY names, what was still in our hands is unsent and stays there."""
    client, owner, wire = ready()
    post(client, "sent")
    written(wire)
    client.post("kept", b"/", b"", b"")
    give(client, frames.goaway(2**31 - 1, 0))

    assert owner.fates() == {Fate.UNSENT: ["kept"]}
    assert all(kind != frames.HEADERS for kind, *_ in written(wire))
    client.abort()


async def test_settings_are_acknowledged_behind_what_was_framed_before() -> None:
    """The peer empties its table with our acknowledgement: no block behind it may name an old entry."""
    client, _, wire = ready(room=0, streams=1000)
    post(client, *range(200), body=b"x" * 1_000)
    give(client, settings(header_table_size=0))
    wire.take(10**9)
    post(client, "later")
    decoder, decoded = hpack.Decoder(), 0
    for kind, flags, _, payload in written_whole(wire):
        if (kind, flags) == (frames.SETTINGS, frames.ACK) and decoded:
            decoder.max_allowed_table_size = decoder.header_table_size = 0
        elif kind == frames.HEADERS:
            assert list(decoder.decode(payload, raw=True))[4:] == HEADERS
            decoded += 1
    assert decoded == 202
    client.abort()


async def test_bodies_wait_for_windows() -> None:
    """A body goes as far as stream and connection windows allow; changed settings move open streams too."""
    client, _, wire = client_pair()
    give(client, settings(initial_window_size=10))
    post(client, "a", body=b"0123456789abcdef")
    assert [entry[3] for entry in written(wire) if entry[0] == frames.DATA] == [b"0123456789"]
    give(client, settings(initial_window_size=8))  # the stream's window is now -2
    give(client, frames.window_update(1, 3))
    assert [(flags, payload) for kind, flags, _, payload in written(wire) if kind == frames.DATA] == [
        (0, b"a")
    ]
    give(client, settings(initial_window_size=100))
    data = [(flags, payload) for kind, flags, _, payload in written(wire) if kind == frames.DATA]
    assert data == [(frames.END_STREAM, b"bcdef")]
    client.abort()


async def test_the_connections_window_is_a_limit_for_room() -> None:
    """With the connection's window used up there is no room, and what waits goes first when it opens."""
    client, _, wire = ready(streams=1000)
    body = b"x" * 4_000
    posted = 0
    while client.room():
        post(client, posted, body=body)
        posted += 1
    assert posted == (65_535 - 2) // 4_000 + 1
    written(wire)
    give(client, frames.window_update(0, 10_000))
    assert sum(len(payload) for kind, _, _, payload in written(wire) if kind == frames.DATA) < 4_000
    assert client.room() > 0
    client.abort()


async def test_a_body_that_never_left_is_unsent_even_if_its_headers_did() -> None:
    """A request without its end is no request: nobody can have processed it."""
    client, owner, wire = client_pair()
    give(client, settings(initial_window_size=5))
    post(client, "whole", body=b"12345")
    post(client, "half", body=b"1234567")
    wire.lose(None)
    await until(lambda: bool(owner.reasons))
    assert owner.fates() == {Fate.LOST: ["whole"], Fate.UNSENT: ["half"]}


async def test_an_old_request_is_given_up() -> None:
    """Timeouts are by age: the older goes with RST_STREAM(CANCEL), the younger stays; late is no answer."""
    client, owner, wire = ready(timeout=0.4)
    post(client, "old")
    await asyncio.sleep(0.3)
    post(client, "young")
    written(wire)
    await until(lambda: bool(owner.failures))

    assert owner.fates() == {Fate.TIMEOUT: ["old"]}
    assert (frames.RST_STREAM, 0, 3, frames.WORD.pack(ErrorCode.CANCEL)) in written(wire)
    give(client, frame(frames.HEADERS, 4, 3, OK) + frame(frames.DATA, 1, 3, b"late"))
    give(client, frame(frames.HEADERS, 5, 5, OK))
    assert list(owner.answers) == ["young"]
    client.abort()


async def test_what_times_out_before_it_leaves_is_unsent() -> None:
    """The socket takes nothing: after the timeout the unwritten come back unsent, not in doubt."""
    client, owner, _ = ready(room=0, streams=1000, timeout=0.3)
    post(client, *range(400), body=b"x" * 1_000)
    await until(lambda: len(owner.failures) == 400)
    fates = owner.fates()

    assert set(fates) == {Fate.TIMEOUT, Fate.UNSENT}
    assert min(fates[Fate.UNSENT]) > max(fates[Fate.TIMEOUT])
    client.abort()


async def test_a_sleep_of_ours_is_not_the_peers_silence() -> None:
    """The process was stopped longer than the timeout; the answers that lay in the socket still count."""
    client, owner, _ = ready(timeout=0.4)
    stream = post(client, "a")
    await asyncio.sleep(0.15)
    time.sleep(1.0)  # noqa: ASYNC251 - the loop shall sleep
    await asyncio.sleep(0.01)
    give(client, frame(frames.HEADERS, 5, stream, OK))
    assert owner.statuses() == [200]
    client.abort()


async def test_a_black_hole_is_found_by_a_ping() -> None:
    """Silence, a ping, silence: the connection is dead long before the timeout, and what was sent is lost."""
    client, owner, wire = ready(timeout=60)
    client._ping_after = client._ping_wait = 0.3
    post(client, "a")
    written(wire)
    await until(lambda: bool(owner.reasons))

    assert owner.fates() == {Fate.LOST: ["a"]}
    assert owner.reasons == ["no answer to a ping"]
    assert [kind for kind, *_ in written(wire)] == [frames.PING, frames.GOAWAY]


async def test_a_slow_peer_that_answers_pings_is_alive() -> None:
    """An answer to the ping is a sign of life: nothing is given up before the timeout."""
    client, owner, wire = ready(timeout=60)
    client._ping_after = client._ping_wait = 0.3
    stream = post(client, "a")
    written(wire)
    for _ in range(12):
        await asyncio.sleep(0.1)
        for kind, _, _, payload in written(wire):
            if kind == frames.PING:
                give(client, frame(frames.PING, frames.ACK, 0, payload))
    give(client, frame(frames.HEADERS, 5, stream, OK))
    assert owner.statuses() == [200]
    client.abort()


async def test_pings_are_answered() -> None:
    """With the same eight bytes."""
    client, _, wire = ready()
    written(wire)
    give(client, frame(frames.PING, 0, 0, b"abcdefgh"))
    assert written(wire) == [(frames.PING, frames.ACK, 0, b"abcdefgh")]
    client.abort()


async def test_a_peer_that_asks_and_never_reads_is_sent_away() -> None:
    """Answers to a flood of pings do not gather without bound."""
    client, owner, wire = ready(room=0, streams=1000)
    post(client, *range(200), body=b"x" * 1_000)
    assert wire.paused
    for _ in range(FLOOD // 100 + 1):
        give(client, frame(frames.PING, 0, 0, b"abcdefgh") * 100)
    assert owner.reasons == ["it asks for answers and does not read them"]


async def test_what_is_read_is_given_back_to_the_window() -> None:
    """The connection's window does not run dry over a long life."""
    client, owner, wire = ready(streams=1000)
    written(wire)
    total, given = 0, 0
    for number in range(1_200):
        stream = post(client, number)
        give(client, frame(frames.HEADERS, 4, stream, OK) + frame(frames.DATA, 1, stream, b"x" * 15_000))
        total += 15_000
    for kind, _, stream, payload in written(wire):
        if kind == frames.WINDOW_UPDATE:
            assert stream == 0
            given += int.from_bytes(payload, "big")
    assert len(owner.answers) == 1_200
    assert total - given <= 2**24
    assert given
    client.abort()


HOSTILE = {
    "data on the connection": (frame(frames.DATA, 0, 0, b"x"), 1),
    "data on an idle stream": (frame(frames.DATA, 0, 99, b"x"), 1),
    "headers on an idle stream": (frame(frames.HEADERS, 5, 99, OK), 1),
    "headers on an even stream": (frame(frames.HEADERS, 5, 2, OK), 1),
    "padding too long": (frame(frames.DATA, frames.PADDED, 3, b"\x05abc"), 1),
    "padding of nothing": (frame(frames.DATA, frames.PADDED, 3, b""), 1),
    "headers too short for a priority": (frame(frames.HEADERS, 4 | frames.PRIORITISED, 3, b"abc"), 6),
    "interrupted block": (frame(frames.HEADERS, 0, 3, OK) + frame(frames.PING, 0, 0, b"12345678"), 1),
    "continuation of another": (frame(frames.HEADERS, 0, 3, OK) + frame(frames.CONTINUATION, 4, 5, OK), 1),
    "continuation of nothing": (frame(frames.CONTINUATION, 4, 3, OK), 1),
    "endless block": (frame(frames.HEADERS, 0, 3, OK) + frame(frames.CONTINUATION, 0, 3, b"") * 100, 11),
    "huge block": (frame(frames.HEADERS, 0, 3) + frame(frames.CONTINUATION, 0, 3, b"x" * 16_000) * 5, 11),
    "index beyond the table": (frame(frames.HEADERS, 5, 3, b"\xbe"), 9),
    "index zero": (frame(frames.HEADERS, 5, 3, b"\x80"), 9),
    "cut string": (frame(frames.HEADERS, 5, 3, b"\x00\x05ab"), 9),
    "broken huffman": (frame(frames.HEADERS, 5, 3, b"\x08\x84\xff\xff\xff\xff"), 9),
    "endless integer": (frame(frames.HEADERS, 5, 3, b"\xff" + b"\xff" * 9), 9),
    "late table update": (frame(frames.HEADERS, 5, 3, b"\x8c\x20"), 9),
    "bomb": (frame(frames.HEADERS, 5, 3, b"\x8c" + b"\x90" * 3_000), 11),  # 60 bytes for each of ours
    "short reset": (frame(frames.RST_STREAM, 0, 3, b"abc"), 6),
    "reset of an idle stream": (frames.rst_stream(99, 8), 1),
    "settings of a broken length": (frame(frames.SETTINGS, 0, 0, b"12345"), 6),
    "settings on a stream": (frame(frames.SETTINGS, 0, 3), 1),
    "acknowledgement with a payload": (frame(frames.SETTINGS, frames.ACK, 0, b"123456"), 6),
    "a window beyond bounds": (settings(initial_window_size=2**31), 3),
    "a frame size beyond bounds": (settings(max_frame_size=100), 1),
    "push allowed": (settings(enable_push=1), 1),
    "push": (frame(frames.PUSH_PROMISE, 4, 3, b"\0\0\0\x02" + OK), 1),
    "short ping": (frame(frames.PING, 0, 0, b"123"), 6),
    "ping on a stream": (frame(frames.PING, 0, 3, b"12345678"), 1),
    "short goaway": (frame(frames.GOAWAY, 0, 0, b"123"), 6),
    "goaway on a stream": (frame(frames.GOAWAY, 0, 3, b"12345678"), 1),
    "empty window update": (frames.window_update(0, 0), 3),
    "window overflow": (frames.window_update(0, 2**31 - 1), 3),
    "short window update": (frame(frames.WINDOW_UPDATE, 0, 0, b"123"), 6),
    "frame too large": (b"\x00\x40\x01\x00\x00\x00\x00\x00\x03", 6),
    "http/1.1": (b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n", 6),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_whatever_a_peer_breaks_ends_in_a_clean_close(name: str) -> None:
    """A connection error: GOAWAY with the right code, everything reported, closed once."""
    data, code = HOSTILE[name]
    client, owner, wire = ready()
    post(client, "a", "b")
    give(client, data)

    assert owner.reported == 2
    assert len(owner.reasons) == 1
    assert last_goaway(wire) == code
    assert wire.closing


BROKEN_STREAMS = {
    "data before headers": frame(frames.DATA, 1, 3, b"x"),
    "no status": frame(frames.HEADERS, 5, 3, literal(b"apns-id", b"x")),
    "empty block": frame(frames.HEADERS, 5, 3, b""),
    "status in words": frame(frames.HEADERS, 5, 3, b"\x08\x02ok"),
    "only informational": frame(frames.HEADERS, 5, 3, b"\x08\x03103"),
    "headers in the middle": frame(frames.HEADERS, 4, 3, OK)
    + frame(frames.HEADERS, 4, 3, literal(b"a", b"b")),
    "empty window update": frames.window_update(3, 0),
}


@pytest.mark.parametrize("name", BROKEN_STREAMS)
async def test_a_broken_answer_ends_its_stream_only(name: str) -> None:
    """A stream error: RST_STREAM(PROTOCOL_ERROR), reported as reset, and the other stream lives."""
    client, owner, wire = ready()
    post(client, "a", "b")
    written(wire)
    give(client, BROKEN_STREAMS[name])
    give(client, frame(frames.HEADERS, 5, 5, OK))

    assert owner.fates() == {Fate.RESET: ["a"]}
    assert owner.statuses() == [200]
    assert (frames.RST_STREAM, 0, 3, frames.WORD.pack(ErrorCode.PROTOCOL_ERROR)) in written(wire)
    client.abort()


async def test_unknown_frames_and_settings_are_ignored() -> None:
    """RFC 9113 §5.5: what we do not know is no error."""
    client, owner, _ = ready()
    stream = post(client, "a")
    give(client, frame(0x42, 0xFF, stream, b"whatever") + frame(frames.PRIORITY, 0, 99, b"12345"))
    give(client, frames.settings_frame([(0x99, 1), (frames.MAX_HEADER_LIST_SIZE, 5)]))
    give(client, frame(frames.HEADERS, 5, stream, OK))
    assert owner.statuses() == [200]
    client.abort()


async def test_the_end_before_the_hello_is_an_exception_of_connect() -> None:
    """The owner of a connection that never came to be hears nothing; who waits for it gets the reason."""
    client, owner, wire = client_pair()
    client.owned = False
    wire.lose(None)
    with pytest.raises(ConnectionError, match="connection closed"):
        await client.ready
    assert owner.reasons == []


async def test_a_first_frame_that_is_not_settings_ends_it() -> None:
    """RFC 9113 §3.4: a server's first frame is SETTINGS."""
    for first in (ACK, frame(frames.PING, 0, 0, b"12345678"), frame(frames.HEADERS, 5, 1, OK)):
        client, owner, wire = client_pair()
        give(client, first)
        assert len(owner.reasons) == 1
        assert last_goaway(wire) == ErrorCode.PROTOCOL_ERROR


@pytest.mark.parametrize("first", [0x08, 0x18, 0x48])
@pytest.mark.parametrize("huffman", [False, True])
@pytest.mark.parametrize("ends", [False, True])
async def test_a_created_is_known_by_its_first_bytes(first: int, huffman: bool, ends: bool) -> None:
    """201 in any form of the literal, with whatever headers behind it: told as such, and the next one too."""
    client, owner, _ = ready()
    status = b"\x82\x10\x03" if huffman else b"\x03201"
    block = bytes((first,)) + status + literal(b"location", b"https://push.example/m/1")
    for key in ("a", "b"):
        stream = post(client, key)
        give(client, frame(frames.HEADERS, 4 | ends, stream, block))
        if not ends:
            give(client, frame(frames.DATA, frames.END_STREAM, stream, b"{}"))
    other = post(client, "c")
    give(client, frame(frames.HEADERS, 5, other, bytes((first,)) + b"\x03202" + literal(b"x", b"y")))

    assert dict(hpack.Decoder().decode(block, raw=True))[b":status"] == b"201"
    assert owner.answers == {
        "a": (201, {}, b"" if ends else b"{}"),
        "b": (201, {}, b"" if ends else b"{}"),
        "c": (202, {b"x": b"y"}, b""),
    }
    client.abort()
