"""How long the last request of a push comes after `pause` was acknowledged, by the sandbox's clock."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from benchmarks.bench import campaign
from benchmarks.bench.figures import Results
from benchmarks.bench.pipeline import Tell, Yard
from benchmarks.home import home
from clarion.client import PushHandle
from tests.support import judge
from tests.support.stack import Stack

PHONES: Final = 60_000
SPEEDS: Final = (("full speed", None, 0.0), ("10/s", 10, 0.0), ("slow answers", None, 1.0))
SILENCE: Final = 3.0  # seconds after the word in which nothing may arrive: the bar is two


async def measure(results: Results, *, tell: Tell) -> None:
    """At full speed, at ten a second, and at a provider that takes a second for each answer."""
    with home() as place:
        async with Yard(place).stack(2) as stack:
            await Yard(place).admit(stack, PHONES, "phones")
            for number, (name, pace, slow) in enumerate(SPEEDS):
                seconds = await _stop(stack, f"stop-{number}", pace, slow)
                results.values[f"stop: {name}"] = seconds
                tell(f"stop at {name}: {seconds:.2f} s")


async def _stop(stack: Stack, id: str, pace: int | None, slow: float) -> float:
    """Start, wait until it is in its swing, pause; seconds until the last request."""
    for provider in ("apns", "fcm", "webpush") if slow else ():
        await stack.sandbox("POST", "/faults", {"provider": provider, "delay": slow})
    log_start = stack.log.stat().st_size
    async with campaign.client_of(stack) as clarion:
        handle = await campaign.start(clarion, id)
        if pace is not None:
            await handle.set_pace(pace)
        await _swing(handle, 20 if pace is not None else PHONES // 10)
        await handle.pause(reason="measured")
        said = time.time()
        await asyncio.sleep(SILENCE)
        last: float = max(line["t"] for line in judge.log_lines(stack.log, None, log_start))
        await handle.cancel()
        await handle.result()
    await stack.sandbox("POST", "/clear")
    return max(0.0, last - said)


async def _swing(handle: PushHandle, sent: int) -> None:
    """Until so many have an answer."""
    async with asyncio.timeout(120):
        while (await handle.progress()).total("accepted") < sent:  # noqa: ASYNC110 - rows of another process
            await asyncio.sleep(0.1)
