"""Answers: made once, given many times."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Final

from clarion.http2.frames import Header, literal

JSON_TYPE: Final[Header] = (b"content-type", b"application/json; charset=UTF-8")
# What the log knows of an answer: (status, reason).
Kind = tuple[int, str | None]


class Answer:
    """A status with its headers and body, and the provider's reason as the log tells it.

    `block` is the same headers for HTTP/2, `head` the status for it. The body may be left to the moment.
    """

    __slots__ = ("block", "body", "head", "headers", "kind", "reason", "status", "tail")

    def __init__(
        self, status: int, reason: str | None = None, headers: Sequence[Header] = (), body: bytes = b""
    ) -> None:
        self.status = status
        self.reason = reason
        self.headers = tuple(headers)
        self.body = body
        self.kind: Kind = (status, reason)
        self.head = b"\x88" if status == 200 else b"\x08\x03%d" % status
        self.block = b"".join(literal(*header) for header in headers)
        self.tail = ("null" if reason is None else json.dumps(reason)) + "}\n"

    def with_headers(self, headers: Sequence[Header]) -> Answer:
        """The same with more headers; of one name the new ones stand."""
        names = {name for name, _ in headers}
        kept = [header for header in self.headers if header[0] not in names]
        return Answer(self.status, self.reason, (*kept, *headers), self.body)

    def with_body(self, body: bytes) -> Answer:
        """The same with another body."""
        return Answer(self.status, self.reason, self.headers, body)


def swallowed(reason: str) -> Answer:
    """What the log says of a request that is never answered."""
    return Answer(0, reason)
