"""Keeping children alive: each is started again when it ends, later and later while it keeps ending."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from clarion.errors import StackUnavailable
from workers.embedded.child import Child

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 10.0
LIFE_SECONDS: Final = 10.0  # a child that lived so long has earned a quick restart


class Service(Protocol):
    """Something that runs as a child: PostgreSQL, Temporal, the sandbox, a worker process."""

    @property
    def child(self) -> Child | None:
        """The process, once it was started."""

    async def start(self) -> None:
        """Start it and wait until it is of use. Raises StackUnavailable with the reason."""

    async def stop(self) -> None:
        """Stop it in order."""


class Process:
    """The simplest service: a child that is of use as soon as it runs."""

    def __init__(self, child: Child) -> None:
        self.child = child

    async def start(self) -> None:
        """Start it."""
        await self.child.start()

    async def stop(self) -> None:
        """Stop it in order."""
        await self.child.stop()


class Backoff:
    """How long to wait before the next start."""

    def __init__(self) -> None:
        self._pause = FIRST_PAUSE

    def after(self, lived: float) -> float:
        """The pause after a life of so many seconds."""
        if lived >= LIFE_SECONDS:
            self._pause = FIRST_PAUSE
        pause, self._pause = self._pause, min(self._pause * 2, LONGEST_PAUSE)
        return pause


class Keeper:
    """Starts services in order, restarts those that end, stops all in reverse order."""

    def __init__(self, say: Callable[[str], None], changed: Callable[[str], Awaitable[None]]) -> None:
        """`say` gets one line for people; `changed` the name of a child that is back with another id."""
        self._say = say
        self._changed = changed
        self._services: dict[str, Service] = {}
        self._stages: dict[str, int] = {}
        self._watches: dict[str, asyncio.Task[None]] = {}

    @property
    def pids(self) -> dict[str, int]:
        """The processes that run now."""
        children = {name: service.child for name, service in self._services.items()}
        return {name: child.pid for name, child in children.items() if child and child.pid}

    async def start(self, name: str, service: Service, *, stage: int) -> None:
        """Start a service and keep it from now on. The first start must succeed.

        Services of a stage are stopped together, after those of all higher stages.
        """
        self._services[name] = service
        self._stages[name] = stage
        await service.start()
        self._watches[name] = asyncio.create_task(self._watch(name, service), name=f"keep {name}")

    async def stop(self) -> None:
        """Stop restarting, then stop every service, the highest stage first."""
        for watch in self._watches.values():
            watch.cancel()
        await asyncio.gather(*self._watches.values(), return_exceptions=True)
        self._watches.clear()
        for stage in sorted(set(self._stages.values()), reverse=True):
            names = [name for name, its_stage in self._stages.items() if its_stage == stage]
            await asyncio.gather(*(self._services[name].stop() for name in names))

    def kill(self) -> None:
        """End every process now, in no order: somebody has asked twice."""
        for service in self._services.values():
            if service.child is not None:
                service.child.signal(signal.SIGKILL)

    async def _watch(self, name: str, service: Service) -> None:
        backoff = Backoff()
        clock = asyncio.get_running_loop().time
        started = clock()
        while True:
            assert service.child is not None
            code = await service.child.wait()
            pause = backoff.after(clock() - started)
            self._say(f"{name} {_ended(code)}{_because(service.child)}; starting it again in {pause:g} s")
            await asyncio.sleep(pause)
            started = clock()
            await self._restart(name, service)

    async def _restart(self, name: str, service: Service) -> None:
        try:
            await service.start()
        except StackUnavailable as error:
            self._say(f"{name}: {error}")
        else:
            await self._changed(name)


def _ended(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"


def _because(child: Child) -> str:
    words = child.last_words(1)
    return f" ({words})" if words else ""
