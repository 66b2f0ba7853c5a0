"""An event loop with a time of its own: it jumps to the next timer whenever nothing is left to do.

Real input and output (PostgreSQL alone) is waited for really, while the virtual time stands still and nobody
else runs. So the order of everything follows from the program and its seed.

What can die or stand still as a whole is a `Machine`: every callback that began in its context goes through
its gate. A killed machine's code never runs again, not even a `finally`; a frozen one's runs when it thaws.
"""

from __future__ import annotations

import asyncio
import gc
import heapq
import math
import selectors
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar, copy_context
from typing import Any, Final

MACHINE: Final[ContextVar[Machine | None]] = ContextVar("machine", default=None)
WORLD: Final = Context()  # of what belongs to no machine: wires, providers, servers
REAL_SECONDS: Final = 60.0  # longer than any statement takes
TICKS: Final = 2**20  # a second: whoever waits for less than one waits for one, so that time always passes


class Deadlock(Exception):
    """Everything waits and no timer is left."""


class Machine:
    """A process, or a run of a workflow: what dies or stands still at once."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.dead = False
        self.held: list[_Step] | None = None  # what would have run while it is frozen

    @property
    def frozen(self) -> bool:
        """Whether it stands still."""
        return self.held is not None

    def context(self) -> Context:
        """A new context of this machine."""
        context = WORLD.copy()
        context.run(MACHINE.set, self)
        return context

    def kill(self) -> None:
        """Nothing of it runs again."""
        self.dead, self.held = True, None

    def freeze(self) -> None:
        """As by SIGSTOP."""
        if not self.dead and self.held is None:
            self.held = []

    def thaw(self) -> None:
        """As by SIGCONT: timers that ran out meanwhile are due, in their order."""
        held, self.held = self.held or [], None
        for step in held:
            step.loop.resume(step)


class _Step:
    """One callback behind its machine's gate."""

    __slots__ = ("args", "callback", "context", "handle", "loop", "machine")

    def __init__(
        self, loop: VirtualLoop, machine: Machine, callback: Callable[..., Any], args: Any, context: Context
    ) -> None:
        self.loop, self.machine, self.callback, self.args = loop, machine, callback, args
        self.context = context
        self.handle: asyncio.Handle | None = None

    def __call__(self) -> None:
        if self.machine.dead or (self.handle is not None and self.handle.cancelled()):
            return
        if self.machine.held is not None:
            self.machine.held.append(self)
        else:
            self.callback(*self.args)


class _Timer(asyncio.TimerHandle):
    """Of two for the same moment the one that was made first is first, whatever else waits."""

    __slots__ = ("number",)
    number: int
    _when: float

    def __lt__(self, other: Any) -> bool:
        return (self._when, self.number) < (other._when, other.number)


class _Selector(selectors.DefaultSelector):
    """Looks for real answers first; else lets the loop do what is left, or lets time pass."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        found = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        if self.loop.flying:
            return super().select(REAL_SECONDS)
        if any(one() for one in self.loop.when_idle):
            return []
        if self.loop.patience and (found := super().select(self.loop.patience)):
            return found
        if timeout is None:
            raise Deadlock
        self.loop.now = self.loop._scheduled[0].when()  # type: ignore[attr-defined]
        return []


@contextmanager
def _no_complaints() -> Iterator[None]:
    """What the dead still wanted to do when they were buried is nobody's business."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        sys.unraisablehook = hook


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. `when_idle`: asked in turn when nobody can run; true if somebody can now."""

    def __init__(self) -> None:
        self.now = 0.0
        self.flying = 0  # statements under way at PostgreSQL
        self.patience = 0.0  # real seconds to wait before time passes
        self.when_idle: list[Callable[[], bool]] = []
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)
        self._clock_resolution = 1e-9
        self._numbers = 0
        self._made: list[asyncio.Task[Any]] = []
        self.set_task_factory(self._make)

    def _make(self, loop: Any, coro: Any, context: Context | None = None) -> asyncio.Task[Any]:
        """Kept: a task that nobody waits for any more must not run its `finally` when memory is tidied up."""
        task = asyncio.Task(coro, loop=loop, context=context)
        self._made.append(task)
        return task

    def forget(self) -> None:
        """Between two lives: nothing of the first reaches the second, and time begins again."""
        for task in self._made:
            task._log_destroy_pending = False  # type: ignore[attr-defined]
        with _no_complaints():
            for _ in range(2):  # what runs at a burial may leave something, too
                self._made.clear()
                self._ready.clear()  # type: ignore[attr-defined]
                self._scheduled.clear()  # type: ignore[attr-defined]
                gc.collect()
        self._timer_cancelled_count = 0
        self.now, self.flying, self._numbers = 0.0, 0, 0

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self.now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As ever, behind the gate of the machine that calls."""
        context = copy_context() if context is None else context  # (an empty one is false)
        machine = context.get(MACHINE)
        if machine is None:
            return super().call_soon(callback, *args, context=context)
        step = _Step(self, machine, callback, args, context)
        step.handle = super().call_soon(step, context=context)
        return step.handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Likewise."""
        context = copy_context() if context is None else context  # (an empty one is false)
        machine = context.get(MACHINE)
        step = None if machine is None else _Step(self, machine, callback, args, context)
        self._numbers += 1
        when = math.ceil(when * TICKS) / TICKS
        timer = _Timer(when, callback if step is None else step, args if step is None else (), self, context)
        timer.number = self._numbers
        if step is not None:
            step.handle = timer
        heapq.heappush(self._scheduled, timer)  # type: ignore[attr-defined]
        timer._scheduled = True  # type: ignore[attr-defined]
        return timer

    def resume(self, step: _Step) -> None:
        """Run what a frozen machine has missed."""
        super().call_soon(step, context=step.context)
