"""A connection that lets out one byte at a time: whoever waits for an answer gets one, much too slowly."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any


class Dripping(asyncio.Transport):
    """A transport's face before another one; only writing is slow."""

    def __init__(self, transport: asyncio.Transport, seconds: float) -> None:
        super().__init__()
        self._under = transport
        self._seconds = seconds
        self._bytes: deque[int] = deque()
        self._timer: asyncio.TimerHandle | None = None

    def write(self, data: Any) -> None:
        """Some time."""
        self._bytes.extend(bytes(data))
        if self._timer is None:
            self._drop()

    def writelines(self, list_of_data: Any) -> None:
        """Likewise."""
        self.write(b"".join(bytes(data) for data in list_of_data))

    def _drop(self) -> None:
        self._timer = None
        if self._bytes and not self._under.is_closing():
            self._under.write(bytes((self._bytes.popleft(),)))
            self._timer = asyncio.get_running_loop().call_later(self._seconds, self._drop)

    def close(self) -> None:
        """What has not left never will."""
        self._bytes.clear()
        self._under.close()

    def abort(self) -> None:
        """Die."""
        self._bytes.clear()
        self._under.abort()

    def is_closing(self) -> bool:
        """As below."""
        return self._under.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As below."""
        return self._under.get_extra_info(name, default)

    def pause_reading(self) -> None:
        """As below."""
        self._under.pause_reading()

    def resume_reading(self) -> None:
        """As below."""
        self._under.resume_reading()

    def get_write_buffer_size(self) -> int:
        """What waits in here."""
        return len(self._bytes)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """There are none."""
