"""Processes that die, sleep too long or are cut off while a push is in flight."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from benchmarks.chaos.scene import Scene, TooLate
from benchmarks.chaos.tally import MOVES_SECONDS, RESUME_SECONDS, Caught
from clarion import limits
from tests.support.victim import LEASE, Victim, stop_a_sender

OVERSLEPT: Final = max(limits.HEARTBEAT_TIMEOUT, *LEASE.values()) + 1.0
BACKENDS: Final = "select pid from pg_stat_activity where application_name like 'clarion%'"
HELD: Final = "select count(*) from batch where push_no = $1 and process = $2 and claimed_to >= 0"
STOP_TRIES: Final = 30
LOOK_EVERY: Final = 0.4


async def kill_sender(scene: Scene) -> None:
    """kill -9 of a sender that holds at least 100 claimed rows; they go out again when its lease is over."""
    victim, name = await _catch(scene)
    victim.kill(time.time())
    scene.killed.append(victim)
    scene.tally.kills["sender"] += 1
    scene.say(f"kill -9 {name}: it held {_held(scene)}")
    if scene.calm:
        seconds = await _gone_again(scene, victim, RESUME_SECONDS + 3)
        scene.say(f"  its rows went out again within {seconds:.1f} s")


async def overslept(scene: Scene) -> None:
    """SIGSTOP past heartbeat and lease, then SIGCONT: its attempts wake up as zombies."""
    victim, name = await _catch(scene)
    scene.asleep.add(victim.pid)
    scene.say(f"{name} falls asleep: it holds {_held(scene)}")
    try:
        await asyncio.sleep(OVERSLEPT + scene.chance.uniform(0, 3))
        still = await scene.asked(lambda db: db.fetchval(HELD, victim.push_no, victim.worker_no))
    finally:
        victim.wake()
        scene.asleep.discard(victim.pid)
    # A batch that nobody took from it: too little time, or nothing is sent just now (a pause, a server away).
    scene.tally.zombies += not still
    scene.say(f"{name} wakes up: " + ("a zombie, others have its batches" if not still else "nobody noticed"))
    await asyncio.sleep(2)


async def _catch(scene: Scene) -> tuple[Victim, str]:
    """A stopped sender and its name; what it may cost is noted."""
    async with scene.catching, _watched(scene) as rates:
        await rates.known.wait()
        pids = {name: pid for name, pid in scene.senders().items() if pid not in scene.asleep}
        try:
            victim: Victim = await scene.asked(
                lambda db: stop_a_sender(
                    db, scene.push.push_no, list(pids.values()), chance=scene.chance, tries=STOP_TRIES
                )
            )
        except AssertionError as error:
            raise TooLate(str(error)) from None
        name = next(name for name, pid in pids.items() if pid == victim.pid)
        scene.caught.append(Caught(len(victim.claimed), rates.of(name)))
        return victim, name


class _Rates:
    """How many answers each sender has committed, looked at again and again."""

    def __init__(self) -> None:
        self.looks: deque[tuple[float, dict[str, float]]] = deque(maxlen=3)
        self.known = asyncio.Event()  # there are enough looks to tell a rate

    def of(self, name: str) -> float:
        """Answers a second of one of them, in the second before the last look."""
        (began, before), (ended, after) = self.looks[0], self.looks[-1]
        return max(0.0, after.get(name, 0.0) - before.get(name, 0.0)) / max(0.1, ended - began)


@asynccontextmanager
async def _watched(scene: Scene) -> AsyncIterator[_Rates]:
    rates = _Rates()

    async def look() -> None:
        while True:
            rates.looks.append((time.monotonic(), await scene.answered()))
            if len(rates.looks) == rates.looks.maxlen:
                rates.known.set()
            await asyncio.sleep(LOOK_EVERY)

    task = asyncio.create_task(look())
    try:
        yield rates
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def _held(scene: Scene) -> str:
    caught = scene.caught[-1]
    return f"{caught.held} claimed open rows (window {caught.window}: it did {caught.rate:.0f}/s)"


async def _gone_again(scene: Scene, victim: Victim, most: float) -> float:
    """Until none of its rows is as it left it; seconds since the kill."""
    while (seconds := time.time() - victim.at) <= most:
        if not await scene.asked(victim.still_planned):
            break
        await asyncio.sleep(0.2)
    return seconds


# ---- what sends nothing


async def kill_control(scene: Scene) -> None:
    """kill -9 of the control process."""
    await _kill_child(scene, "control")


async def kill_temporal(scene: Scene) -> None:
    """kill -9 of the Temporal server."""
    await _kill_child(scene, "temporal")


async def kill_postmaster(scene: Scene) -> None:
    """kill -9 of PostgreSQL's first process: all others end by themselves."""
    await _kill_child(scene, "postgres")


async def kill_backend(scene: Scene) -> None:
    """kill -9 of a PostgreSQL session of ours: the server ends all sessions and recovers."""
    pid = await _session(scene)
    os.kill(pid, signal.SIGKILL)
    at = time.time()
    scene.tally.kills["backend"] += 1
    scene.say(f"kill -9 of a PostgreSQL session ({pid})")
    await _goes_on(scene, "backend", at)


async def _session(scene: Scene) -> int:
    """One of our sessions at random; there may be none for a moment after the server's start."""
    for _ in range(100):
        pids: list[int] = [row["pid"] for row in await scene.asked(lambda db: db.fetch(BACKENDS))]
        postmaster = scene.stack.pids("postgres").get("postgres")
        if ours := [pid for pid in pids if _parent(pid) == postmaster]:
            return scene.chance.choice(ours)
        await asyncio.sleep(0.1)
    raise TooLate("PostgreSQL has no session of ours")


async def _kill_child(scene: Scene, name: str) -> None:
    pid = scene.stack.pids(name)[name]
    scene.stack.kill(pid)
    at = time.time()
    scene.tally.kills[name] += 1
    scene.say(f"kill -9 {name} ({pid})")
    while scene.stack.pids(name).get(name, pid) == pid:
        await asyncio.sleep(0.1)
        scene.tally.hold(time.time() - at < MOVES_SECONDS, f"{name} did not come back")
        if time.time() - at > MOVES_SECONDS:
            return
    await _goes_on(scene, name, at)


async def _goes_on(scene: Scene, name: str, at: float) -> None:
    seconds = await scene.moves(f"kill of {name}", MOVES_SECONDS, since=at)
    scene.say(f"  the push goes on, {seconds:.1f} s after the kill")


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


# ---- cut off


async def cut_temporal(scene: Scene) -> None:
    """A sender on another machine loses Temporal for longer than its heartbeat."""
    assert scene.outpost is not None, "this trouble needs an outpost"
    line, how = scene.outpost.line, scene.chance.choice(("drop", "hold", "refuse"))
    seconds = scene.chance.uniform(5, 16)
    scene.tally.cuts["temporal"] += 1
    scene.say(f"cut between the outpost and Temporal: {how} for {seconds:.1f} s")
    getattr(line, how)()
    await asyncio.sleep(seconds)
    line.mend()
    scene.say("  the line to Temporal is whole again")
    await asyncio.sleep(1)
