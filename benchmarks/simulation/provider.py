"""A provider in memory: a strict book of what reached it, answers by the weather, all from the seed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from contextvars import copy_context
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from benchmarks.simulation.clock import VirtualClock
from benchmarks.simulation.loop import MACHINE, WORLD, Machine, VirtualLoop
from clarion import limits
from clarion.model.message import Message
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind, Scope
from clarion.senders.sender import Answered, PushFacts

STREAMS: Final = 40
DEAD: Final = Outcome(OutcomeKind.REJECTED, "apns:Unregistered", retire=True)
BUSY: Final = Outcome(OutcomeKind.THROTTLED, "apns:TooManyRequests", attempt=False)
STORM: Final = Outcome(
    OutcomeKind.THROTTLED, "fcm:RESOURCE_EXHAUSTED", attempt=False, scope=Scope.LANE, retry_after=1.0
)
REFUSED: Final = Outcome(OutcomeKind.UNAVAILABLE, "fcm:no_connection", scope=Scope.LANE)
SILENT: Final = Outcome(OutcomeKind.UNAVAILABLE, "apns:timeout", maybe=True, scope=Scope.LANE)
BLOCKED: Final = Outcome(OutcomeKind.BLOCKED, "apns:InvalidProviderToken")
WEATHERS: Final = ("storm", "refusing", "black hole", "credential refused")


@dataclass(slots=True)
class Arrived:
    """One request in the provider's book. `left`: when its first byte left the sender."""

    left: float
    token: str
    processed: bool
    content: str


class Provider:
    """What all processes send to."""

    def __init__(self, loop: VirtualLoop, clock: VirtualClock, random: Random) -> None:
        self.loop, self.clock, self.random = loop, clock, random
        self.book: list[Arrived] = []
        self.weather: dict[int, str] = {}  # by lane; none: fair
        self.dead: set[str] = set()

    @property
    def accepted(self) -> Counter[str]:
        """Requests that were processed, by registration."""
        return Counter(one.token for one in self.book if one.processed)

    def send(
        self, lane: int, token: str, content: str, timeout: float, machine: Machine | None, back: Any
    ) -> None:
        """A request leaves its process; what was on the wire of one that dies arrives, or does not."""
        left = self.clock.monotonic()

        def arrive() -> None:
            if machine is not None and machine.dead and self.random.random() < 0.5:
                return
            outcome, processed, seconds = self._judge(lane, token, timeout)
            self.book.append(Arrived(left, token, processed, content))
            back(seconds, outcome)

        self.loop.call_later(self.random.uniform(0.005, 0.06), arrive, context=WORLD.copy())

    def _judge(self, lane: int, token: str, timeout: float) -> tuple[Outcome, bool, float]:
        """The answer, whether the phone gets it, and seconds until the answer is there."""
        soon, draw, weather = self.random.uniform(0.005, 0.06), self.random.random(), self.weather.get(lane)
        if weather == "storm" and draw < 0.7:
            return STORM, False, soon
        if weather == "refusing":
            return REFUSED, False, soon
        if weather == "black hole":
            return SILENT, draw < 0.5, timeout
        if weather == "credential refused":
            return BLOCKED, False, soon
        if token in self.dead:
            return DEAD, False, soon
        if draw < 0.02:
            return BUSY, False, soon
        if draw < 0.04:
            return SILENT, draw < 0.03, timeout if draw < 0.025 else soon
        return ACCEPTED, True, soon


@dataclass(slots=True)
class Compiled:
    """A message, made ready."""

    content: str
    needs_values: bool = False
    needs_badge: bool = False


class MemorySender:
    """A `Sender` of one lane in one process."""

    def __init__(self, world: Provider, lane: int, provider: str) -> None:
        self.provider = provider
        self._world, self._lane = world, lane
        self._flying = 0
        self._wakes: dict[Callable[[], None], None] = {}  # in order

    def prepare(self, push: PushFacts, message: Message) -> Compiled:
        """Only its title is looked at."""
        return Compiled(str(message.texts["default"].title))

    def post(
        self,
        prepared: Any,
        key: int,
        registration_no: int,
        token: str,
        locale: str,
        variant: int,
        values: dict[str, Any] | None,
        answered: Answered,
    ) -> None:
        """It leaves at once."""
        self._flying += 1
        context = copy_context()

        def back(seconds: float, outcome: Outcome) -> None:
            self._world.loop.call_later(seconds, self._answer, key, outcome, answered, context=context)

        timeout = limits.request_timeout(self.provider)
        self._world.send(self._lane, token, prepared.content, timeout, MACHINE.get(), back)

    def _answer(self, key: int, outcome: Outcome, answered: Answered) -> None:
        self._flying -= 1
        answered(key, outcome)
        for wake in tuple(self._wakes):
            wake()

    def room(self) -> int:
        """As one connection has."""
        return STREAMS - self._flying

    def flush(self) -> None:
        """Everything has left."""

    def when_room(self, wake: Callable[[], None]) -> Callable[[], None]:
        """After each answer."""
        self._wakes[wake] = None
        return lambda: self._wakes.pop(wake, None)

    def waiting(self) -> str | None:
        """For nothing."""
        return None

    async def close(self) -> None:
        """Nothing is open."""


class MemoryLanes:
    """The senders of one process."""

    def __init__(self, world: Provider, providers: dict[int, str]) -> None:
        self._senders = {lane: MemorySender(world, lane, name) for lane, name in providers.items()}

    async def get(self, app_no: int, lane: int) -> MemorySender:
        """The lane's one sender."""
        await asyncio.sleep(0)
        return self._senders[lane]

    async def close(self) -> None:
        """Nothing is open."""
