"""The one seam through which time enters: everything that waits or dates something asks a `Clock`."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Where the time comes from. Tests give their own."""

    def monotonic(self) -> float:
        """Seconds that only grow; for durations and gates."""

    def time(self) -> float:
        """Seconds since the epoch; for what others read (JWT claims, expirations)."""

    def now(self) -> datetime:
        """The same moment as an aware UTC datetime."""


class SystemClock:
    """The machine's own clock."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)

    @staticmethod
    def now() -> datetime:
        """The current moment, aware, in UTC."""
        return datetime.now(UTC)


SYSTEM_CLOCK: Clock = SystemClock()
