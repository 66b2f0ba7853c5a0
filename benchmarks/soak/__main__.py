"""`make soak`: the stack in use for half an hour. Nothing may be lost, and nothing may grow.

    make soak [MINUTES=30]
    python -m benchmarks.soak --minutes 30 --seed 1

The last line is `soak: minutes=… pushes=… lost=… growth=none`, or what grew. A minute's line before it shows
every gauge as it was.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
from contextlib import suppress
from typing import Final

from rich.console import Console

from benchmarks.soak import life
from benchmarks.soak.gauges import Gauges, grown
from benchmarks.soak.life import Life
from tests.acceptance.field import Field
from tests.support.stack import Stack, running_stack

SENDERS: Final = 3
SAMPLE_EVERY: Final = 10.0
REPLAYED: Final = 50  # histories of pushes at the end


async def soak(minutes: float, seed: int, console: Console) -> bool:
    """Run it; whether nothing was lost, nothing false booked, and nothing grew."""

    def say(words: str) -> None:
        console.print(words, highlight=False)

    seconds, gauges = minutes * 60, Gauges()
    async with running_stack(senders=SENDERS) as stack:
        field = await Field.make(stack)
        one = Life(field, say, random.Random(seed))
        watching = asyncio.create_task(_watch(stack, field, gauges, one, say))
        await one.live(seconds)
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching
        async with field.client() as clarion:
            say(f"{await life.replay(clarion, REPLAYED)} histories replayed on the code as it is")
    growth = gauges.growth(seconds)
    for name, (early, late) in growth.items():
        say(f"{name}: {early:,.0f} early, {late:,.0f} late")
    for words in one.wrong:
        say(f"wrong: {words}")
    more = grown(growth)
    print(
        f"soak: minutes={minutes:g} pushes={one.pushes} faults={one.faults} releases={one.releases} "
        f"lost={one.lost} growth={', '.join(more) or 'none'}"
    )
    return not (one.lost or one.wrong or more)


async def _watch(stack: Stack, field: Field, gauges: Gauges, one: Life, say: life.Say) -> None:
    async with field.client() as clarion:
        for turn in range(sys.maxsize):
            await asyncio.sleep(SAMPLE_EVERY)
            seen = await gauges.sample(stack, clarion.temporal)
            if turn % 6 == 5:
                words = " · ".join(f"{name} {value:,.0f}" for name, value in seen.items())
                say(f"{(turn + 1) * SAMPLE_EVERY / 60:.0f} min, {one.pushes} pushes: {words}")


def main() -> None:
    """Run as a command."""
    words = argparse.ArgumentParser(description="The stack in use: nothing lost, nothing grows.")
    words.add_argument("--minutes", type=float, default=30.0)
    words.add_argument("--seed", type=int, default=1)
    given = words.parse_args()
    console = Console(soft_wrap=not sys.stdout.isatty())
    sys.exit(0 if asyncio.run(soak(given.minutes, given.seed, console)) else 1)


if __name__ == "__main__":
    main()
