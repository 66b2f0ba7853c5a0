"""Chaos: campaigns in flight, and everything around them breaks, at random moments from a printed seed.

    make chaos
    make chaos SEED=7 DEVICES=1000000

A run is a play of several acts. An act is one campaign to all devices and a bag of troubles, taken out in
random order until the bag is empty; what is left when the audience is through happens to the next campaign
of the same act. At the end of each campaign the independent judge (tests/support/judge.py) joins the file,
the ledger and the sandbox's log device by device, and meanwhile counters are compared with rows. The last
line says what was done and seen; exit code 1 when a bound of docs/durability.md was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
import traceback
from contextlib import AsyncExitStack

from benchmarks.chaos.acts import plan
from benchmarks.chaos.outpost import running_outpost
from benchmarks.chaos.stage import Stage
from benchmarks.chaos.tally import Tally
from tests.acceptance.field import Field
from tests.support.stack import running_stack


class Printer:
    """One line an event, with the seconds since the start."""

    def __init__(self) -> None:
        self._began = time.monotonic()

    def __call__(self, words: str) -> None:
        """Print it at once."""
        print(f"[{time.monotonic() - self._began:7.1f} s] {words}", flush=True)


async def chaos(seed: int, phones: int, senders: int, only: str | None = None) -> Tally:
    """The whole run; what it has seen."""
    chance, tally, say = random.Random(seed), Tally(), Printer()
    say(f"seed {seed}: starting PostgreSQL, Temporal, the providers' simulators and the workers")
    async with AsyncExitStack() as held:
        stack = await held.enter_async_context(running_stack(senders=senders))
        say(f"{phones:,} devices are made and imported")
        given = await Field.make(stack, phones)
        outpost = await held.enter_async_context(running_outpost(stack, say))
        stage = Stage(given, tally, say, outpost)
        for act in plan(chance):
            if only is None or only in act.name:
                try:
                    await stage.play(act, chance)
                except Exception as error:  # the run ends here, and its account says so
                    traceback.print_exc()
                    tally.hold(False, f"act {act.name!r} was not played to its end: {error!r}")
                    break
    return tally


def report(tally: Tally) -> None:
    """What was done, which bounds did not hold, and the last line."""
    done = {"kills": tally.kills, "cuts": tally.cuts, "faults": tally.faults, "orders": tally.orders}
    for name, counter in done.items():
        if counter:
            print(f"{name}: " + ", ".join(f"{n} × {what}" for what, n in sorted(counter.items())))
    print(f"counters against rows: {tally.samples} samples; full disks: {tally.full_disks}")
    print(f"redo: {tally.redo}; half a second of the rates of those killed or overslept: {tally.windows}")
    print(
        "longest: " + ", ".join(f"{what} {seconds:.1f} s" for what, seconds in sorted(tally.longest.items()))
    )
    for words in tally.broken:
        print(f"BROKEN: {words}")
    print(tally.line())


def main() -> None:
    """Run as a command."""
    words = argparse.ArgumentParser(description="Campaigns in flight, and everything around them breaks.")
    words.add_argument("--seed", type=int, default=None, help="else a new one; it is printed")
    words.add_argument("--devices", type=int, default=100_000)
    words.add_argument("--senders", type=int, default=3)
    words.add_argument("--only", help="only acts whose name has this in it")
    given = words.parse_args()
    if given.devices < 10_000:
        words.error("--devices: at least 10000")
    seed = random.SystemRandom().randrange(1_000_000) if given.seed is None else given.seed
    tally = asyncio.run(chaos(seed, given.devices, given.senders, given.only))
    report(tally)
    sys.exit(1 if tally.broken else 0)


if __name__ == "__main__":
    main()
