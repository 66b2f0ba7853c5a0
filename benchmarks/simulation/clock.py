"""The virtual clock behind Clarion's own seam."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from benchmarks.simulation.loop import VirtualLoop
from clarion.clock import SystemClock

EPOCH: Final = datetime(2030, 1, 15, 9, 0, tzinfo=UTC)  # when every life begins


class VirtualClock:
    """What `clarion.clock.Clock` asks for, from the loop. Every life begins at the same moment."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop
        self._began = 0.0

    def begin(self) -> None:
        """A new life."""
        self._began = self._loop.time()

    def monotonic(self) -> float:
        """Seconds of this life."""
        return self._loop.time() - self._began

    def time(self) -> float:
        """Seconds since 1970."""
        return EPOCH.timestamp() + self.monotonic()

    def now(self) -> datetime:
        """The moment."""
        return EPOCH + timedelta(seconds=self.monotonic())

    def install(self) -> None:
        """Rule this program: all of Clarion asks the system's clock by its seam."""
        for name in ("monotonic", "time", "now"):
            setattr(SystemClock, name, staticmethod(getattr(self, name)))
