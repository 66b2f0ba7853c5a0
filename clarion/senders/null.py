"""A provider that is not there: everything is accepted, at once or as slowly as asked.

For growth tests and benchmarks of everything but a provider: `python -m workers send-null`. A credential with
the provider `null` may say in its settings {"delay": seconds until an answer, "rate": answers a second}.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from clarion.model.message import Message
from clarion.senders.outcome import ACCEPTED
from clarion.senders.sender import Answered, PushFacts

STREAMS = 1_000  # requests under way at once, as many as real providers allow on one connection


@dataclass(slots=True)
class NullPrepared:
    """Nothing is rendered."""

    needs_values: bool = False
    needs_badge: bool = False


class NullSender:
    """Answers with `outcome`: accepted, if nobody changes it.

    `rate` bounds the answers a second, `delay` is how long each takes at least.
    """

    provider = "null"

    def __init__(self, *, delay: float = 0.0, rate: float = float("inf")) -> None:
        self.delay, self.rate, self.streams, self.outcome = delay, rate, STREAMS, ACCEPTED
        self._next_at = 0.0  # when the rate allows the next answer
        self._waiting: deque[tuple[float, int, Answered]] = deque()  # in the order of their moments
        self._timer: asyncio.TimerHandle | asyncio.Handle | None = None
        self._wakes: set[Callable[[], None]] = set()

    def prepare(self, push: PushFacts, message: Message) -> NullPrepared:
        """Any message will do."""
        return NullPrepared()

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
        """Note when it is answered."""
        now = asyncio.get_running_loop().time()
        self._next_at = max(self._next_at + 1 / self.rate, now)
        self._waiting.append((max(now + self.delay, self._next_at), key, answered))

    def room(self) -> int:
        """As with a connection of so many streams."""
        return self.streams - len(self._waiting)

    def flush(self) -> None:
        """Answer in a later turn of the loop: never from within `post`."""
        if self._timer is None and self._waiting:
            loop = asyncio.get_running_loop()
            at = self._waiting[0][0]
            self._timer = loop.call_at(at, self._answer) if at > loop.time() else loop.call_soon(self._answer)

    def when_room(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Called after each round of answers."""
        self._wakes.add(wake)
        return lambda: self._wakes.discard(wake)

    def waiting(self) -> str | None:
        """For nothing."""
        return None

    async def close(self) -> None:
        """Nothing is open."""

    def _answer(self) -> None:
        self._timer = None
        now = asyncio.get_running_loop().time()
        while self._waiting and self._waiting[0][0] <= now:
            _, key, answered = self._waiting.popleft()
            answered(key, self.outcome)
        for wake in tuple(self._wakes):
            wake()
        self.flush()


class NullLanes:
    """A null sender for every lane that is asked for."""

    def __init__(self, *, delay: float = 0.0, rate: float = float("inf")) -> None:
        self._delay, self._rate = delay, rate
        self._senders: dict[tuple[int, int], NullSender] = {}

    async def get(self, app_no: int, lane: int) -> NullSender:
        """The lane's one sender."""
        if (app_no, lane) not in self._senders:
            self._senders[app_no, lane] = NullSender(delay=self._delay, rate=self._rate)
        return self._senders[app_no, lane]

    async def close(self) -> None:
        """Nothing is open."""
