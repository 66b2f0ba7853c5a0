"""Run the ledger through seeded interleavings and hold what happened against the rules.

    python -m tests.support.ledger_model --seeds 0-500 [--actions 220] [--url postgresql://…]

prints one line a violation with its seed, and an account at the end; exits 1 if there was any.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import Counter
from datetime import timedelta

from clarion.model.ledger import Hold
from clarion.store import push as pushes
from clarion.store.migrate import migrate
from tests.support.ledger_known import LEASE, Attempt, Violation, demand
from tests.support.ledger_rules import check
from tests.support.ledger_world import World
from tests.support.postgres import running_databases
from tests.support.warped import Warped

ACTIONS = 160
CHECK_EVERY = 7


async def run(db: Warped, seed: int, *, actions: int = ACTIONS) -> Counter[str]:
    """One seed from beginning to closed books. Raises Violation."""
    world = World(db, seed)
    await world.begin()
    for n in range(actions):
        await world.act()
        if n % CHECK_EVERY == 0:
            await check(world)
    await check(world)
    await _end(world)
    return Counter(world.tally)


async def _end(world: World) -> None:
    """Everything calms down; the push must come to its end, and late words must not spoil it."""
    world.calm = True
    if world.rng.random() < 0.5:
        for process in world.processes:
            if process.alive:
                world.slay(process)
    if world.hold is not Hold.CLOSING:
        await _finish(world)
    await world.db.pass_time(LEASE + 1)
    await _close(world)
    while world.zombies:
        await world.zombie()
    for attempt in world.living():
        await _talk_late(world, attempt)
    await check(world)


async def _finish(world: World) -> None:
    """Resumed and unblocked, every row gets its answer by attempts that obey the rules."""
    await world.say("resume", {})
    await world.say("set", {"deadline": world.db.now + timedelta(days=1)})
    for lane_no in world.blocked:
        await world.ledger.block(world.app_no, lane_no, False)
        world.blocked[lane_no] = False
    for range_no in sorted(world.unfrozen):
        await pushes.freeze(world.db, world.push_no, range_no)
    world.unfrozen.clear()
    await world.learn()
    for n in range(400):
        told = await world.ledger.next_work(world.push_no, [], 50)
        if not told.doing:
            await world.say("close", {"verdict": "completed"})
            return
        for lane in told.lanes:
            await world.take([*lane.work, *lane.again])
        for _ in range(25):
            await world.act_of_an_attempt()
        await world.db.pass_time(0.7)
        if n % CHECK_EVERY == 0:
            await check(world)
    raise Violation("it does not end")


async def _close(world: World) -> None:
    for _ in range(200):
        done = await world.ledger.close(world.push_no, limit=5)
        if not done.left_open:
            break
    else:
        raise Violation("the books cannot be closed")
    while world.queue:
        await world.retire()
    result = await pushes.close_push(world.db, world.push_no)
    demand(result is not None and result["verdict"] == world.verdict, "a closed push has a result", result)
    again = await pushes.close_push(world.db, world.push_no)
    demand(again == result, "a push is closed once", again, result)
    for lane in result["lanes"] if result else ():
        final = ("accepted", "rejected", "suppressed", "expired", "cancelled", "dead", "in_doubt")
        demand(lane["audience"] == sum(lane[name] for name in final), "the account is complete", lane)


async def _talk_late(world: World, attempt: Attempt) -> None:
    """What an attempt still has to say after the close: answers repair rows, decisions do nothing."""
    while attempt.flying:
        await world.answer(attempt)
    await world.execute_step(attempt, attempt.words, None)
    attempt.words, attempt.call = [], None


async def _run_all(url: str, seeds: range, actions: int) -> int:
    db = await Warped.open(url)
    total: Counter[str] = Counter()
    broken, started = 0, time.monotonic()
    for seed in seeds:
        try:
            total += await run(db, seed, actions=actions)
        except Violation as violation:
            broken += 1
            print(f"seed {seed}: {violation}", flush=True)
    await db.close()
    print(f"{len(seeds)} seeds, {broken} violations, {time.monotonic() - started:.0f} s: {dict(total)}")
    return broken


async def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", default="0-100")
    parser.add_argument("--actions", type=int, default=ACTIONS)
    parser.add_argument("--url", help="a database to migrate and use; else a server of its own")
    args = parser.parse_args()
    first, last = (int(part) for part in args.seeds.split("-"))
    seeds = range(first, last)
    if args.url:
        await migrate(args.url)
        return await _run_all(args.url, seeds, args.actions)
    async with running_databases() as databases:
        return await _run_all(await databases.migrated(), seeds, args.actions)


if __name__ == "__main__":
    sys.exit(min(1, asyncio.run(_main())))
