"""The request log: one JSON line per request, and what each device would have shown.

    {"t": 1700000000.123456,    when the request was complete, epoch seconds
     "provider": "apns",        apns | fcm | webpush
     "token": "…",              as in the path or body; Web Push: the last segment of the endpoint's path;
                                FCM topics: "/topics/NAME" or the condition
     "status": 200,             what was answered; 0: the request was swallowed or never processed
     "key": "…",                de-duplication key (APNs collapse id, FCM notification tag or data.clarion_id,
                                Web Push Topic or tag), or null
     "content": "…",            SHA-256 of title, NUL and body, hex; null when it was not read
     "reason": "Unregistered"}  the provider's reason, or null

A line is on disk within 0.2 seconds and at an orderly end. Who kills the sandbox loses what was not written.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

FLUSH_EVERY: Final = 0.1
FLUSH_LINES: Final = 1_000
READ_BYTES: Final = 4 * 1024 * 1024
TEXTS: Final = 4_096  # distinct notifications whose text is remembered

_SAFE: Final = re.compile(r"[A-Za-z0-9_:.\-/~%|@=+]*")


def content_hash(title: str, body: str) -> str:
    """What the log calls this content."""
    return hashlib.sha256(f"{title}\0{body}".encode("utf-8", "surrogatepass")).hexdigest()


NOTHING: Final = content_hash("", "")  # a message without text: the device shows nothing


def safe(text: str) -> str:
    """Text that may stand between quotation marks in a JSON line."""
    return text if _SAFE.fullmatch(text) else json.dumps(text)[1:-1]


def quoted(text: str | None) -> str:
    """A JSON string, or null."""
    return "null" if text is None else json.dumps(text)


class RequestLog:
    """Appends to one file. `texts` remembers, for people, what recent contents said."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.texts: dict[str, tuple[str, str]] = {}
        self._lines: list[str] = []
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def add(self, line: str) -> None:
        """One whole line."""
        self._lines.append(line)
        if self._timer is None:
            self._timer = self._loop.call_later(FLUSH_EVERY, self.flush)
        elif len(self._lines) >= FLUSH_LINES:
            self.flush()

    def content(self, title: str, body: str) -> str:
        """The content's hash; its text can be told later, while it is recent."""
        digest = content_hash(title, body)
        if digest not in self.texts:
            if len(self.texts) >= TEXTS:
                del self.texts[next(iter(self.texts))]
            self.texts[digest] = (title, body)
        return digest

    def flush(self) -> None:
        """Write what has gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = "".join(self._lines).encode(), []
        while lines:
            lines = lines[os.write(self._file, lines) :]

    def close(self) -> None:
        """Write the rest and close the file."""
        self.flush()
        os.close(self._file)

    async def entries(self, token: str) -> AsyncIterator[dict[str, Any]]:
        """All lines about this token, oldest first. The loop stays free between pieces of the file."""
        self.flush()
        needle = f'"token":"{safe(token)}"'.encode()
        with self.path.open("rb") as file:
            rest = b""
            while piece := file.read(READ_BYTES):
                piece = rest + piece
                end = piece.rfind(b"\n") + 1
                for line in _lines_with(piece[:end], needle):
                    yield json.loads(line)
                rest = piece[end:]
                await asyncio.sleep(0)

    async def shown(self, token: str) -> list[dict[str, Any]]:
        """What the device has on its screen, oldest first: of requests with one key, the last; silent ones
        not at all. `times` counts the requests behind it, so more than one is a repeat that nobody saw."""
        screen: dict[object, dict[str, Any]] = {}
        async for entry in self.entries(token):
            if 200 <= entry["status"] < 300 and entry["content"] not in (None, NOTHING):
                mark = entry["key"] if entry["key"] is not None else (entry["t"], len(screen))
                before = screen.pop(mark, None)
                screen[mark] = self._notification(entry, 1 + (before["times"] if before else 0))
        return list(screen.values())

    def _notification(self, entry: dict[str, Any], times: int) -> dict[str, Any]:
        title, body = self.texts.get(entry["content"], (None, None))
        facts = {name: entry[name] for name in ("t", "provider", "key", "content")}
        return {**facts, "times": times, "title": title, "body": body}


def _lines_with(piece: bytes, needle: bytes) -> list[bytes]:
    found, at = [], piece.find(needle)
    while at >= 0:
        start, end = piece.rfind(b"\n", 0, at) + 1, piece.find(b"\n", at)
        found.append(piece[start:end])
        at = piece.find(needle, end)
    return found
