"""An event loop whose time is a number: a minute of it passes in a moment, and always the same way."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

START = 1_000_000.0


class _Leap(selectors.DefaultSelector):
    """Instead of waiting it moves the clock."""

    clock: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits for nothing"
            self.clock.virtual_now += max(0.0, timeout)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop in virtual time."""

    def __init__(self) -> None:
        self.virtual_now = START
        selector = _Leap()
        selector.clock = self
        super().__init__(selector)
        self._clock_resolution = 1e-9

    def time(self) -> float:
        """The virtual moment."""
        return self.virtual_now


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run it in virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
