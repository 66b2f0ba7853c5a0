"""The sandbox's log of one push as it grows: what arrived last, of which content, and how fast."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path


class Requests:
    """Reads on from where the log stood; a whole log would be read again and again otherwise."""

    def __init__(self, log: Path, key: str) -> None:
        self._file = log.open("rb")
        self._file.seek(0, 2)
        self._rest = b""
        self._key = key.encode()
        self.count = 0
        self.last: dict[str, float] = {}  # by provider, epoch seconds
        self.contents: dict[str, float] = {}  # by content, the last of each
        self._tenths: Counter[int] = Counter()

    def close(self) -> None:
        """Look no more."""
        self._file.close()

    def read(self) -> None:
        """Take in what was written since the last call."""
        piece = self._rest + self._file.read()
        end = piece.rfind(b"\n") + 1
        self._rest = piece[end:]
        for line in piece[:end].splitlines():
            if self._key in line:
                self._note(json.loads(line))

    def _note(self, entry: dict[str, object]) -> None:
        at, provider = float(entry["t"]), str(entry["provider"])  # type: ignore[arg-type]
        self.count += 1
        self.last[provider] = max(self.last.get(provider, 0.0), at)
        self._tenths[int(at * 10)] += 1
        if entry["content"] is not None:
            content = str(entry["content"])
            self.contents[content] = max(self.contents.get(content, 0.0), at)

    def between(self, start: float, end: float) -> int:
        """How many came from one moment to another, to a tenth of a second."""
        return sum(self._tenths[tenth] for tenth in range(int(start * 10), int(end * 10)))

    def latest(self, *, but: frozenset[str] = frozenset()) -> float:
        """When the last request arrived, of all providers but these."""
        return max((at for provider, at in self.last.items() if provider not in but), default=0.0)
