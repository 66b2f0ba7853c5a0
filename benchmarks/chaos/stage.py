"""Where acts are played: campaign after campaign on one stack, each judged when it is closed."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Final

from benchmarks.chaos import small_disk
from benchmarks.chaos.acts import Act
from benchmarks.chaos.lines import running_lines
from benchmarks.chaos.outpost import Outpost
from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.scene import Scene, TooLate
from benchmarks.chaos.small_disk import SmallDisk, running_small_disk
from benchmarks.chaos.tally import Tally
from clarion.errors import CommandRefused
from tests.acceptance.field import Field
from tests.support import judge

BEGUN: Final = 0.05  # share of the audience that has an answer when troubles begin
TRIES: Final = 6  # campaigns that an act may take more than its bag has troubles


class Stage:
    """Where the acts are played: a stack, its devices, and the account of the run."""

    def __init__(
        self, given: Field, tally: Tally, say: Callable[[str], None], outpost: Outpost | None = None
    ) -> None:
        self._field, self._tally, self._say, self._outpost = given, tally, say, outpost
        self._lines: dict[str, Proxy] = {}
        self._disk: SmallDisk | None = None

    async def play(self, act: Act, chance: random.Random) -> None:
        """Campaign after campaign, until the act's bag is empty."""
        async with AsyncExitStack() as held:
            self._lines, self._disk = {}, None
            if act.lines:
                self._lines = await held.enter_async_context(running_lines(self._field.stack))
            if act.full_disk:
                disk = running_small_disk(self._field.stack, self._field.phones, self._say)
                self._disk = await held.enter_async_context(disk)
                if self._disk is None:
                    return
                self._disk.fill()
            for _ in range(len(act.bag) + TRIES):
                if act.troubles:
                    await self._campaign(act, chance)
        self._tally.hold(not act.troubles, f"act {act.name!r}: {len(act.troubles)} troubles found no place")
        if act.full_disk:  # some have died for good; the next audience is whole again
            await self._field.stack.cli("devices", "import", "demo", self._field.file)

    async def _campaign(self, act: Act, chance: random.Random) -> None:
        scene = await self._scene(act, chance)
        async with _sampled(scene):
            await self._begin(scene, act)
            await (_overlapping if act.together else _in_turn)(act, scene)
            await scene.stack.cli("push", "pace", scene.push.id, "none", check=False)
            account = await scene.push.finished(300)
        await scene.look_back(account)
        if act.free_of_redo:
            self._tally.hold(account.redo == 0, f"redo {account.redo} although no sender was killed")
        self._say(_account(account))

    async def _scene(self, act: Act, chance: random.Random) -> Scene:
        guarantee = "at_most_once" if act.once else "at_least_once"
        pace = act.pace_for(self._field.phones)
        given: dict[str, object] = {} if pace is None else {"pace": pace}
        self._field.log_start = self._field.stack.log.stat().st_size  # what came before is judged
        push = await self._field.start(delivery_guarantee=guarantee, **given)
        scene = Scene(
            push,
            chance,
            self._tally,
            self._say,
            once=act.once,
            pace=pace,
            outpost=self._outpost,
            lines=self._lines,
            disk=self._disk,
        )
        scene.calm = not act.together
        speed = "at full speed" if pace is None else f"{pace:.0f}/s"
        self._say(f"act {act.name!r}: campaign {push.id}, {guarantee}, {speed}")
        return scene

    async def _begin(self, scene: Scene, act: Act) -> None:
        """Until troubles make sense."""
        if act.full_disk and not self._tally.full_disks:
            await small_disk.no_room_to_freeze(scene)
        begun = BEGUN if scene.pace is None else min(BEGUN, 3 * scene.pace / self._field.phones)
        await scene.push.until(begun)


async def _in_turn(act: Act, scene: Scene) -> None:
    """One trouble after the other, each watched to its end."""
    while act.troubles and not scene.cancelled and await scene.share() < 0.85:
        await _trouble(act, scene)
        await asyncio.sleep(scene.chance.uniform(0.2, 2) if scene.pace else 0.2)


async def _overlapping(act: Act, scene: Scene) -> None:
    """The next trouble does not wait for the end of the last."""
    async with asyncio.TaskGroup() as group:
        while act.troubles and await scene.share() < 0.85:
            group.create_task(_trouble(act, scene))
            await asyncio.sleep(scene.chance.uniform(0.5, 6))


async def _trouble(act: Act, scene: Scene) -> None:
    """The next one. What found nothing to break or to steer goes back into the bag."""
    trouble = act.troubles.pop(0)
    try:
        await trouble(scene)
    except (TooLate, CommandRefused) as error:
        scene.say(f"  {getattr(trouble, '__name__', trouble)}: {error}")
        act.troubles.append(trouble)


@asynccontextmanager
async def _sampled(scene: Scene) -> AsyncIterator[None]:
    """Meanwhile, again and again: counters against rows, in one snapshot."""

    async def sample() -> None:
        while True:
            began = time.monotonic()
            audience, bad = await scene.asked(lambda db: judge.balance(db, scene.push.push_no))
            scene.tally.samples += 1
            scene.tally.hold(not bad, f"counters of {bad} batches differ from their rows ({audience} rows)")
            await asyncio.sleep(max(1.0, 10 * (time.monotonic() - began)))

    task = asyncio.create_task(sample())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):  # and nothing else: who cannot look any more must say so
            await task


def _account(account: judge.Account) -> str:
    states = " ".join(f"{name}={n}" for name, n in sorted(account.states.items()))
    return (
        f"  judged: audience={account.audience} {states} lost={account.lost} duplicates={account.duplicates} "
        f"redo={account.redo} maybe={account.maybe} rate={account.rate:.0f}/s"
    )
