"""Our server in random conversations with `h2` as the client, cut at every byte."""

from __future__ import annotations

import random
from collections import defaultdict
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest

from clarion.http2.server import ServerConnection
from tests.support.http2 import Wire, give

SEEDS = range(25)
STEPS = 60
Codes = h2.settings.SettingCodes


class Talk:
    """One conversation: what h2 sent, what the handler saw, what it answered, what h2 heard."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        self.limit = chance.choice((1, 2, 100))
        self.server = ServerConnection(
            self,
            streams=self.limit,
            stream_window=chance.choice((200, 5_000, 65_535)),
            connection_window=chance.choice((65_535, 2**20)),
            table=chance.choice((4096, 10_000)),
        )
        self.wire = Wire(self.server)
        self.server.connection_made(self.wire)
        self.near = h2.connection.H2Connection(
            h2.config.H2Configuration(client_side=True, header_encoding=None)
        )
        self.near.initiate_connection()
        self.sent: dict[int, tuple[list[tuple[bytes, bytes]], bytes]] = {}
        self.sending: dict[int, bytes] = {}  # what is left of bodies
        self.seen: dict[int, tuple[list[tuple[bytes, bytes]], bytes]] = {}
        self.waiting: list[int] = []
        self.answers: dict[int, Any] = {}
        self.heard: defaultdict[int, Any] = defaultdict(lambda: [None, b"", False])
        self.cancelled: set[int] = set()
        # h2 takes a 1xx that crosses its own reset for an error, so a conversation has one or the other.
        self.cancels = chance.random() < 0.5
        self.done: set[int] = set()
        self.settings_sent = 0
        self.deliver()  # before h2 knows our limit it would go beyond it

    def request(
        self,
        conn: ServerConnection,
        stream_id: int,
        method: bytes,
        path: bytes,
        headers: list[tuple[bytes, bytes]],
        body: bytes,
    ) -> None:
        """The handler: notes everything, answers some at once."""
        assert (method, path) == (dict(headers)[b":method"], dict(headers)[b":path"])
        assert stream_id not in self.seen
        self.seen[stream_id] = (headers, body)
        self.waiting.append(stream_id)
        if self.chance.random() < 0.5:
            self.answer()

    # ---- the client

    def ask(self) -> None:
        """A new request, if the limit allows."""
        if self.near.open_outbound_streams >= self.near.remote_settings.max_concurrent_streams:
            return
        chance = self.chance
        headers = [
            (b":method", b"POST"),
            (b":path", b"/3/device/" + b"%x" % chance.getrandbits(chance.choice((8, 256)))),
            (b":scheme", b"https"),
            (b":authority", b"localhost"),
            (b"apns-topic", b"com.example"),
            (b"same", b"1"),
            (b"same", b"2"),
        ]
        body = b"b" * chance.choice((0, 0, 10, 3_000, 20_000))
        if chance.random() < 0.3:
            headers.append((b"content-length", b"%d" % len(body)))
        if chance.random() < 0.1:
            headers += [(b"long-%d" % n, b"{" * 1_000) for n in range(15)]
        stream = self.near.get_next_available_stream_id()
        ends = not body and chance.random() < 0.5
        self.near.send_headers(stream, headers, end_stream=ends)
        self.sent[stream] = (headers, body)
        if not ends:
            self.sending[stream] = body

    def go_on(self) -> None:
        """Send what windows allow of some body."""
        for stream in list(self.sending):
            if self.chance.random() < 0.5:
                continue
            body = self.sending[stream]
            size = min(
                len(body), self.near.local_flow_control_window(stream), self.chance.choice((5, 16_384))
            )
            if size <= 0 and body:
                continue
            last = size == len(body)
            padding = (
                self.chance.choice((None, 3))
                if size + 4 <= self.near.local_flow_control_window(stream)
                else None
            )
            if size + (padding or 0) + 1 > self.near.max_outbound_frame_size:
                padding = None
            trailers = last and self.chance.random() < 0.1
            self.near.send_data(stream, body[:size], end_stream=last and not trailers, pad_length=padding)
            if trailers:
                self.near.send_headers(stream, [(b"x-trailer", b"t")], end_stream=True)
            if last:
                del self.sending[stream]
            else:
                self.sending[stream] = body[size:]

    def cancel(self) -> None:
        """Reset one of our own."""
        open_ones = [s for s in self.sent if s not in self.cancelled and s not in self.done]
        if open_ones and self.cancels and self.chance.random() < 0.3:
            stream = self.chance.choice(open_ones)
            self.near.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
            self.cancelled.add(stream)
            self.sending.pop(stream, None)

    def set(self) -> None:
        """Other windows, another table."""
        if self.settings_sent == 0:
            self.settings_sent = 1
            self.near.update_settings(
                {
                    Codes.INITIAL_WINDOW_SIZE: self.chance.choice((0, 30, 70_000)),
                    Codes.HEADER_TABLE_SIZE: self.chance.choice((0, 4096)),
                }
            )

    def deliver(self) -> None:
        """Both directions."""
        give(self.server, self.near.data_to_send(), self.chance)
        data = self.wire.unread()
        while data:
            count = self.chance.choice((1, 9, 500, 10**6) if len(data) < 300 else (500, 10**6))
            piece, data = data[:count], data[count:]
            for event in self.near.receive_data(piece):
                self.hear(event)

    def hear(self, event: h2.events.Event) -> None:
        """What the client understood."""
        if isinstance(event, h2.events.ResponseReceived):
            self.heard[event.stream_id][0] = [tuple(header) for header in event.headers]
        elif isinstance(event, h2.events.DataReceived):
            self.heard[event.stream_id][1] += event.data
            self.near.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self.heard[event.stream_id][2] = True
            self.done.add(event.stream_id)
        elif isinstance(event, h2.events.StreamReset):
            self.heard[event.stream_id] = event.error_code
            self.done.add(event.stream_id)
        assert not isinstance(event, h2.events.ConnectionTerminated)

    # ---- the server

    def answer(self) -> None:
        """Answer, or reset, one of those that wait."""
        if not self.waiting:
            return
        chance = self.chance
        stream = self.waiting.pop(chance.randrange(len(self.waiting)))
        if chance.random() < 0.1:
            self.server.reset(stream, 2)
            self.answers[stream] = 2
            return
        if chance.random() < 0.2 and not self.cancels:
            self.server.informational(stream, 103)
        status = chance.choice((200, 400, 410, 503))
        headers = [(b"apns-id", b"%d" % chance.randrange(5)), (b"dup", b"1"), (b"dup", b"2")]
        body = b"r" * chance.choice((0, 0, 20, 1_000, 40_000))
        answered = self.server.respond(stream, status, headers, body)
        if answered:
            self.answers[stream] = [[(b":status", b"%d" % status), *headers], body, True]


@pytest.mark.parametrize("seed", SEEDS)
async def test_the_handler_and_the_client_understand_each_other(seed: int) -> None:
    """Every request arrives as h2 sent it, in order, with duplicates; every answer as it was given."""
    talk = Talk(seed)
    actions = (
        talk.ask,
        talk.ask,
        talk.go_on,
        talk.go_on,
        talk.cancel,
        talk.set,
        talk.answer,
        talk.server.ping,
    )
    for _ in range(STEPS):
        talk.chance.choice(actions)()
        talk.deliver()
    for _ in range(1_000):
        talk.server.flush()
        talk.go_on()
        talk.answer()
        talk.deliver()
        if not talk.sending and not talk.waiting:
            break
    talk.near.update_settings({Codes.INITIAL_WINDOW_SIZE: 70_000})
    for _ in range(20):
        talk.server.flush()
        talk.deliver()

    for stream, got in talk.seen.items():
        if stream not in talk.cancelled or got[1] == talk.sent[stream][1]:
            assert got == talk.sent[stream]
    assert set(talk.sent) - talk.cancelled <= set(talk.seen)
    for stream, answer in talk.answers.items():
        if stream not in talk.cancelled:
            assert talk.heard[stream] == answer
    assert talk.server.open_streams == 0
    assert talk.server.most_open <= talk.limit
    assert not talk.wire.closing
    talk.server.abort()
