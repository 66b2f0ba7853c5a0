"""What happens during a soak: large and small pushes, providers that misbehave, releases."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from clarion.client import Clarion
from clarion.model.spec import PushSpec
from tests.acceptance.field import Field
from tests.support import histories, judge
from tests.support.workers import replaced

Say = Callable[[str], None]
USERS: Final = 40  # of a small push
FAULTS: Final[tuple[dict[str, Any], ...]] = (
    {"provider": "apns", "status": 429, "reason": "TooManyRequests", "share": 0.3, "for": 4},
    {"provider": "fcm", "status": 503, "reason": "UNAVAILABLE", "share": 0.2, "for": 4},
    {"provider": "webpush", "status": 500, "share": 0.1, "for": 4},
    {"provider": "apns", "goaway": "graceful", "share": 0.005, "for": 6},
    {"provider": "fcm", "reset": "stream", "code": 7, "share": 0.2, "for": 4},
    {"provider": "apns", "delay": 1.0, "share": 0.3, "for": 4},
)
MESSAGE: Final = {"texts": {"default": {"title": "Soak", "body": "A body of the usual length, or so"}}}
SMALL_EVERY: Final = 1.0  # seconds between two small pushes,
SMALL_AT_ONCE: Final = 8  # unless so many are under way: a slow machine is not flooded
FAULT_EVERY: Final = 20.0
RELEASE_EVERY: Final = 150.0
REST: Final = 5.0  # between two large pushes


@dataclass
class Life:
    """One run, and what came of it so far."""

    ground: Field
    say: Say
    chance: random.Random
    pushes: int = 0
    faults: int = 0
    releases: int = 0
    lost: int = 0
    wrong: list[str] = field(default_factory=list)

    async def live(self, seconds: float) -> None:
        """All of it at once for so long; what has begun is brought to its end."""
        over = asyncio.Event()
        asyncio.get_running_loop().call_later(seconds, over.set)
        async with asyncio.TaskGroup() as group:
            for part in (self._large, self._small, self._misbehave, self._release):
                group.create_task(part(over))

    async def _large(self, over: asyncio.Event) -> None:
        """One push to everybody after another, each judged device by device."""
        while not over.is_set():
            self.ground.log_start = self.ground.stack.log.stat().st_size
            push = await self.ground.start()
            self._count(push.id, await push.finished(600))
            await _rest(over, REST)

    def _count(self, id: str, account: judge.Account) -> None:
        self.pushes += 1
        self.lost += account.lost
        if not account.holds or account.duplicates > account.redo + account.maybe:
            self.wrong.append(f"{id}: {account}")

    async def _small(self, over: asyncio.Event) -> None:
        """A push to a few users every second: how it ended is looked at when it is closed."""
        room = asyncio.Semaphore(SMALL_AT_ONCE)
        async with self.ground.client() as clarion, asyncio.TaskGroup() as group:
            for number in itertools.count(1):
                await room.acquire()
                users = [f"u{self.chance.randrange(20_000):08d}" for _ in range(USERS)]
                one = group.create_task(self._one(clarion, f"soak-{number}", sorted(set(users))))
                one.add_done_callback(lambda _: room.release())
                if await _rest(over, SMALL_EVERY):
                    return

    async def _one(self, clarion: Clarion, id: str, users: list[str]) -> None:
        spec = {"app": "demo", "audience": {"users": users}, "message": MESSAGE}
        await clarion.schedule_push(PushSpec.model_validate(spec), id=id)
        result = await clarion.push(id).result()
        self.pushes += 1
        if result["verdict"] != "completed":
            self.wrong.append(f"{id}: {result}")

    async def _misbehave(self, over: asyncio.Event) -> None:
        """A provider does something for some seconds, again and again."""
        while not await _rest(over, FAULT_EVERY):
            await self.ground.stack.sandbox("POST", "/faults", self.chance.choice(FAULTS))
            self.faults += 1

    async def _release(self, over: asyncio.Event) -> None:
        """Every worker process is told to leave, one after another; its successor serves before the next."""
        while not await _rest(over, RELEASE_EVERY):
            for name, pid in sorted(self.ground.stack.pids("").items()):
                if name.startswith(("sender", "control")):
                    self.ground.stack.kill(pid, signal.SIGTERM)
                    await replaced(self.ground.stack, name, pid)
            self.releases += 1
            self.say(f"release {self.releases}: every worker was replaced")


async def replay(clarion: Clarion, most: int) -> int:
    """Replay the histories of so many pushes of this run on the code as it is. Raises on a difference."""
    replayer, count = histories.replayer(), 0
    async for run in clarion.temporal.list_workflows("WorkflowType = 'PushWorkflow'"):
        handle = clarion.temporal.get_workflow_handle(run.id, run_id=run.run_id)
        await replayer.replay_workflow(await handle.fetch_history())
        count += 1
        if count == most:
            break
    return count


async def _rest(over: asyncio.Event, seconds: float) -> bool:
    """Wait so long, or until it is over; whether it is."""
    waiting: Awaitable[bool] = over.wait()
    try:
        return await asyncio.wait_for(waiting, seconds)
    except TimeoutError:
        return False
