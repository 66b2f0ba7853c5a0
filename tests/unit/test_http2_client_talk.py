"""Our client in random conversations with `h2` as the server, cut at every byte, until the line breaks."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest

from clarion.http2.client import Fate, literal
from tests.support.http2 import HEADERS, Wire, client_pair, far_server, give

SEEDS = range(24)
STEPS = 60
Codes = h2.settings.SettingCodes


class Talk:
    """One conversation, and what must come out of it."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        room = chance.choice((None, 0))
        self.far = far_server(
            max_concurrent_streams=chance.choice((1, 3, 100)),
            initial_window_size=chance.choice((0, 10, 300, 65_535)),
            header_table_size=chance.choice((0, 60, 150, 4096, 8192)),
            max_frame_size=chance.choice((16_384, 20_000)),
        )
        self.client, self.owner, self.wire = client_pair(self.far, room=room, chance=chance)
        self.owner.on_room = self.maybe_post
        self.posted: dict[int, tuple[bytes, bytes, bytes]] = {}
        self.expected: dict[int, Any] = {}
        self.open: list[int] = []  # complete requests without an answer, by stream
        self.begun: dict[int, bytes] = {}  # answers under way: what their bodies hold so far
        self.keys: dict[int, int] = {}  # stream → key
        self.bodies: defaultdict[int, bytes] = defaultdict(bytes)
        self.complete: list[int] = []  # keys in the order in which the server saw their ends
        self.recalled: set[int] = set()
        self.left: int | None = None
        self.next_key = 0
        self.unacknowledged = 1

    # ---- our side

    def maybe_post(self) -> None:
        """Up to three requests, if there is room."""
        for _ in range(self.chance.randrange(4)):
            if self.client.room() > 0:
                self.post()

    def post(self) -> None:
        """One request of any size."""
        key, chance = self.next_key, self.chance
        self.next_key += 1
        path = b"/3/device/%d/" % key + b"a" * chance.choice((0, 1, 60, 119, 300))
        body = b"%d:" % key + b"b" * chance.choice((0, 5, 300, 300, 4_000, 40_000))
        value = b"v" * chance.choice((0, 3, 130))
        self.posted[key] = (path, value, body)
        self.client.post(key, path, literal(b"apns-id", value, never_indexed=chance.random() < 0.5), body)

    # ---- the far side

    def deliver(self) -> None:
        """Let what we wrote arrive, and what the server says come back."""
        if self.wire.room is not None:
            self.wire.take(self.chance.choice((1, 50, 5_000, 10**6)))
        data = self.wire.unread()
        while data:
            count = self.chance.choice((1, 9, 500, 10**6) if len(data) < 300 else (500, 10**6))
            piece, data = data[:count], data[count:]
            for event in self.far.receive_data(piece):
                self.hear(event)
        give(self.client, self.far.data_to_send(), self.chance)

    def hear(self, event: h2.events.Event) -> None:
        """What the server understood, compared with what was posted."""
        if isinstance(event, h2.events.RequestReceived):
            headers = dict(event.headers)
            key = int(headers[b":path"].split(b"/")[3])
            self.keys[event.stream_id] = key
            path, value, _ = self.posted[key]
            assert event.headers[:4] == [
                (b":method", b"POST"),
                (b":scheme", b"https"),
                (b":authority", b"localhost"),
                (b":path", path),
            ]
            assert event.headers[4:] == [*HEADERS, (b"apns-id", value)]
        elif isinstance(event, h2.events.DataReceived):
            self.bodies[self.keys[event.stream_id]] += event.data
            self.far.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            key = self.keys[event.stream_id]
            assert self.bodies[key] == self.posted[key][2]
            self.complete.append(key)
            self.open.append(event.stream_id)
        elif isinstance(event, h2.events.SettingsAcknowledged):
            self.unacknowledged -= 1

    def act(self) -> None:
        """The server does one thing."""
        action = self.chance.choice(
            (
                self.answer,
                self.answer,
                self.answer,
                self.go_on,
                self.go_on,
                self.reset,
                self.settings,
                self.ping,
                self.widen,
            )
        )
        action()

    def answer(self) -> None:
        """Begin an answer, perhaps end it."""
        if not self.open:
            return
        stream, chance = self.open.pop(chance_index(self.chance, self.open)), self.chance
        if chance.random() < 0.1:
            self.far.send_headers(stream, [(b":status", b"103"), (b"link", b"x")])
        status = chance.choice((200, 200, 200, 400, 410, 429, 500, 503))
        headers = [(b":status", b"%d" % status)]
        if chance.random() < 0.7:
            headers.append((b"apns-id", b"%d" % chance.randrange(3)))
        if chance.random() < 0.05:
            headers += [
                (b"long-%d" % n, b"{" * 1_000) for n in range(15)
            ]  # coded in 15 bits each: two frames
        ends = chance.random() < 0.4
        self.far.send_headers(stream, headers, end_stream=ends)
        if ends:
            self.expect(stream, status, b"")
        else:
            self.begun[stream] = b""
            self.expected[self.keys[stream]] = status

    def go_on(self) -> None:
        """Send some of a body, padded or not, perhaps its end, perhaps trailers."""
        if not self.begun:
            return
        chance = self.chance
        stream = chance.choice(list(self.begun))
        part = b"r" * chance.choice((0, 1, 20, 1_000))
        if self.far.local_flow_control_window(stream) < len(part) + 256 or len(self.begun[stream]) > 10_000:
            part = b""
        self.begun[stream] += part
        ending = chance.choice(("no", "data", "trailers"))
        padding = chance.choice((None, 0, 200)) if part else None
        self.far.send_data(stream, part, end_stream=ending == "data", pad_length=padding)
        if ending == "trailers":
            self.far.send_headers(stream, [(b"x-trailer", b"t")], end_stream=True)
        if ending != "no":
            self.expect(stream, self.expected[self.keys[stream]], self.begun.pop(stream))

    def expect(self, stream: int, status: int, body: bytes) -> None:
        """So it must be reported."""
        self.expected[self.keys[stream]] = (status, body)

    def reset(self) -> None:
        """End a stream without an answer."""
        if self.chance.random() < 0.5 or not self.open:
            return
        stream = self.open.pop(chance_index(self.chance, self.open))
        code = self.chance.choice(list(h2.errors.ErrorCodes))
        self.far.reset_stream(stream, code)
        refused = code is h2.errors.ErrorCodes.REFUSED_STREAM
        self.expected[self.keys[stream]] = Fate.REFUSED if refused else Fate.RESET

    def settings(self) -> None:
        """Announce another limit, window or table."""
        name, values = self.chance.choice(
            (
                (Codes.MAX_CONCURRENT_STREAMS, (1, 2, 50, 1000)),
                (Codes.INITIAL_WINDOW_SIZE, (0, 100, 70_000)),
                (Codes.HEADER_TABLE_SIZE, (0, 100, 4096)),
            )
        )
        # h2 takes one acknowledgement for all settings that are under way: so one frame at a time.
        if not self.unacknowledged:
            self.unacknowledged += 1
            self.far.update_settings({name: self.chance.choice(values)})

    def ping(self) -> None:
        """Ask for a sign of life."""
        self.far.ping(b"12345678")

    def widen(self) -> None:
        """h2 keeps INITIAL_WINDOW_SIZE from strangling a stream for ever only if we say so."""
        for stream in list(self.keys):
            try:
                self.far.increment_flow_control_window(5_000, stream)
            except (KeyError, h2.exceptions.ProtocolError):
                continue

    # ---- the end

    def settle(self) -> None:
        """Let everything that can still arrive arrive: the books are then complete."""
        for event in self.far.receive_data(self.wire.written[self.wire.read :]):
            self.hear(event)


def chance_index(chance: random.Random, items: list[int]) -> int:
    """Any place in the list."""
    return chance.randrange(len(items))


async def lose(wire: Wire) -> None:
    """The line breaks."""
    wire.closing = wire.lost = True
    wire.protocol.connection_lost(ConnectionResetError())


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_request_is_told_as_the_server_saw_it(seed: int) -> None:
    """Answers, resets and losses come out as h2 made them, and unsent means the server never saw it."""
    talk = Talk(seed)
    for _ in range(STEPS):
        talk.maybe_post()
        talk.client.flush()
        talk.deliver()
        talk.act()
        if talk.chance.random() < 0.02:
            talk.client.recall()
    if talk.chance.random() < 0.5:
        for _ in range(24):
            talk.deliver()
            talk.act()
    told_before = set(talk.owner.answers) | set(talk.owner.failures)
    await lose(talk.wire)
    talk.settle()

    assert talk.owner.reported == talk.next_key
    for key, (status, _, body) in talk.owner.answers.items():
        expected = talk.expected[key]
        if key in told_before:
            assert (status, body) == expected
        else:  # the line broke in the middle of its body
            assert status == (expected[0] if isinstance(expected, tuple) else expected)
    complete = set(talk.complete)
    for key, (fate, _) in talk.owner.failures.items():
        if fate is Fate.UNSENT:
            assert key not in complete
        else:
            assert key in complete
            assert fate is (Fate.LOST if key not in told_before else talk.expected[key])
    assert len(talk.owner.reasons) == 1
