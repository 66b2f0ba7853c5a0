"""A sender process that starts as much as its permits allow, and says so on standard output.

    python -m tests.support.quota_process URL NUMBER LANE PUSH

Lines: "ready", "deals" when it became the dealer, and "s MOMENT N" for N starts at a moment of the machine's
monotonic clock, which all processes share.
"""

from __future__ import annotations

import asyncio
import sys
import time

from clarion.quota.exchange import PostgresBoard
from clarion.quota.permits import Permits
from clarion.store.database import Database


async def main(url: str, number: int, lane: str, push_no: int) -> None:
    """Send for ever."""
    db = await Database.connect(url, max_size=2)
    permits = Permits(PostgresBoard(db), number)
    running = asyncio.create_task(permits.run())
    tap = permits.open(lane, push_no, False)
    tap.want(100_000, 1_000_000)
    print("ready", flush=True)
    dealt = False
    while not running.done():
        started = tap.allowed(1_000)
        if started:
            permits.heard(lane, started, 0, 0, 0.0)
            print("s", time.monotonic(), started, flush=True)
        if permits.dealer.dealing and not dealt:
            dealt = True
            print("deals", flush=True)
        await asyncio.sleep(max(0.01, tap.next_in()))
    await running


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])))
