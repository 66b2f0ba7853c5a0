"""Providers that misbehave, and bad lines to them, while a push is in flight."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from typing import Any, Final

from benchmarks.chaos.orders import pause
from benchmarks.chaos.scene import Scene, TooLate
from benchmarks.chaos.tally import MOVES_SECONDS

# What the sandbox is told (clarion/sandbox/faults.py). Shares are such that a batch gets through all the
# same; what hits a connection hits all that is under way on it.
FAULTS: Final[dict[str, dict[str, Any]]] = {
    "429 storm": {"status": 429, "share": 0.6},
    "5xx": {"status": 503, "share": 0.4},
    "5xx, processed": {"reset": "stream", "code": 2, "share": 0.2, "processed": True},
    "GOAWAY": {"goaway": "graceful", "share": 0.01},
    "abrupt GOAWAY": {"goaway": "abrupt", "share": 0.01},
    "REFUSED_STREAM": {"reset": "stream", "code": 7, "share": 0.3},
    "reset streams": {"reset": "stream", "code": 2, "share": 0.2},
    "reset connections": {"reset": "connection", "share": 0.01},
    "black hole": {"black_hole": "request", "share": 0.1, "processed": True},
    "silent connections": {"black_hole": "connection", "share": 0.005},
    "garbage answers": {"garbage": "body", "share": 0.2},
    "garbage frames": {"garbage": "frames", "share": 0.01},
    "slow answers": {"delay": 3.0, "share": 0.5},
    "no listener": {"refuse_connections": True},
}
PROVIDERS: Final = ("apns", "fcm", "webpush")


async def _misbehave(what: str, scene: Scene) -> None:
    """One provider does this for some seconds."""
    provider, seconds = scene.chance.choice(_busy(scene)), scene.chance.uniform(2, 5)
    scene.disturbed = True
    rule = {"provider": provider, "seed": scene.chance.randrange(1_000_000), **FAULTS[what]}
    scene.say(f"{provider}: {what} for {seconds:.1f} s")
    number = (await scene.stack.sandbox("POST", "/faults", rule))["numbers"][0]
    await asyncio.sleep(seconds)
    hits = {one["number"]: one["hits"] for one in await scene.stack.sandbox("GET", "/faults")}[number]
    await scene.stack.sandbox("DELETE", f"/faults/{number}")
    if not hits:
        raise TooLate(f"{provider} was asked nothing meanwhile")
    scene.tally.faults[what] += 1
    after = await scene.moves(what, MOVES_SECONDS)
    scene.say(f"  over; it hit {hits} times, the push goes on after {after:.1f} s")


def _busy(scene: Scene) -> list[str]:
    """The providers that were asked something in the last second."""
    scene.requests.read()
    busy = [name for name in PROVIDERS if scene.requests.last.get(name, 0.0) > time.time() - 1]
    if not busy:
        raise TooLate("no provider is asked anything")
    return busy


def trouble(what: str) -> Any:
    """A fault by its name, as something that can be put into a bag."""
    return partial(_misbehave, what)


# ---- bad lines


async def cut_provider(scene: Scene) -> None:
    """The line to a provider is cut: bytes vanish, or wait, or every connection is reset."""
    provider, how = scene.chance.choice(sorted(scene.lines)), scene.chance.choice(("drop", "hold", "refuse"))
    line, seconds = scene.lines[provider], scene.chance.uniform(2, 9)
    scene.disturbed = True
    scene.tally.cuts[provider] += 1
    scene.say(f"cut between the senders and {provider}: {how} for {seconds:.1f} s")
    getattr(line, how)()
    await asyncio.sleep(seconds)
    line.mend()
    after = await scene.moves(f"cut from {provider}", MOVES_SECONDS)
    scene.say(f"  whole again; the push goes on after {after:.1f} s")


async def reset_line(scene: Scene) -> None:
    """Every connection to a provider is reset, three times within a second."""
    provider = scene.chance.choice(sorted(scene.lines))
    scene.disturbed = True
    scene.tally.faults["reset line"] += 1
    lost = 0
    for _ in range(3):
        lost += scene.lines[provider].reset()
        await asyncio.sleep(0.4)
    scene.say(f"{lost} connections to {provider} are reset")
    await scene.moves("reset line", MOVES_SECONDS)


async def delay_line(scene: Scene) -> None:
    """The line takes long, and somebody pauses meanwhile."""
    await _slow_line(scene, "delay", delay=scene.chance.uniform(0.2, 0.7))


async def drip_line(scene: Scene) -> None:
    """The line drips, and somebody pauses meanwhile."""
    await _slow_line(scene, "drip", rate=scene.chance.uniform(4_000, 16_000))


async def _slow_line(scene: Scene, what: str, **way: float) -> None:
    provider = scene.chance.choice(sorted(scene.lines))
    scene.disturbed = True
    scene.tally.faults[f"{what} line"] += 1
    words = ", ".join(f"{name} {value:.4g}" for name, value in way.items())
    scene.say(f"the line to {provider} is slow: {words}")
    scene.lines[provider].slow(**way)
    await asyncio.sleep(2)
    await pause(scene)
    scene.lines[provider].mend()
    await scene.moves(f"{what} line", MOVES_SECONDS)
