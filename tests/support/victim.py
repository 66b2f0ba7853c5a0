"""A sender process that is to be killed or put to sleep: caught while it holds claimed rows, and looked at.

A kill of a process that holds nothing shows nothing, so it is stopped first (SIGSTOP) and the ledger is asked
what its process has claimed and not yet answered. Too little: it goes on, and another one is tried.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

from tests.support import judge

LEAST = 100  # claimed open rows that make a kill count
# Within these the killed rows go out again: the provider's lease, and what a look and a start take.
LEASE = {"apns": 10.0, "fcm": 14.0, "webpush": 10.0}

WORKERS = """
select worker_no, pid from worker
where pid = any($1::int[]) and seen_at > now() - interval '15 s' order by worker_no desc
"""
CLAIMED = """
select c.provider, r.token, d.batch, d.seq
from batch b
join delivery d on d.push_no = b.push_no and d.batch = b.batch
join registration r using (registration_no)
join credential c on c.app_no = r.app_no and c.lane = b.lane
where b.push_no = $1 and b.process = $2 and b.claimed_to >= 0 and d.seq <= b.claimed_to and d.state = 0
"""
STILL_PLANNED = """
select count(*) from delivery d, unnest($2::int[], $3::int[]) as x (batch, seq)
where d.push_no = $1 and d.batch = x.batch and d.seq = x.seq and d.state = 0
"""


@dataclass
class Victim:
    """A sender process that is stopped, and what it had claimed."""

    pid: int
    worker_no: int
    push_no: int
    claimed: dict[str, str]  # address: provider
    rows: list[tuple[int, int]]  # batch and seq
    at: float = 0.0  # when it was killed, epoch seconds

    def kill(self, at: float) -> None:
        """kill -9; it never wakes."""
        os.kill(self.pid, signal.SIGKILL)
        self.at = at

    def wake(self) -> None:
        """Let it go on as if nothing had happened."""
        os.kill(self.pid, signal.SIGCONT)

    async def still_planned(self, db: asyncpg.Connection[asyncpg.Record]) -> int:
        """How many of its rows have no answer and no decision yet."""
        batches, seqs = ([row[place] for row in self.rows] for place in (0, 1))
        found: int = await db.fetchval(STILL_PLANNED, self.push_no, batches, seqs)
        return found

    def back_after(self, requests: Iterable[dict[str, Any]]) -> dict[str, float]:
        """Per provider: the latest of its rows' first requests after the kill, in seconds."""
        first: dict[str, float] = {}
        for entry in requests:
            if entry["t"] > self.at and entry["token"] in self.claimed:
                first.setdefault(entry["token"], entry["t"] - self.at)
        latest: dict[str, float] = {}
        for address, seconds in first.items():
            provider = self.claimed[address]
            latest[provider] = max(latest.get(provider, 0.0), seconds)
        return latest


async def stop_a_sender(
    db: asyncpg.Connection[asyncpg.Record],
    push_no: int,
    pids: Collection[int],
    *,
    chance: random.Random | None = None,
    least: int = LEAST,
    tries: int = 20,
) -> Victim:
    """Stop one of these processes while it holds so many claimed rows. AssertionError if none ever does."""
    for _ in range(tries):
        workers = await db.fetch(WORKERS, list(pids))
        if chance is not None:
            chance.shuffle(workers)
        for row in workers:
            if len(claimed := await _stopped(db, push_no, row)) >= least:
                return _caught(row, push_no, claimed)
            with suppress(ProcessLookupError):
                os.kill(row["pid"], signal.SIGCONT)
        await asyncio.sleep(0.1)
    raise AssertionError(f"no sender held {least} claimed rows")


async def _stopped(
    db: asyncpg.Connection[asyncpg.Record], push_no: int, worker: asyncpg.Record
) -> list[asyncpg.Record]:
    """What a process has claimed, which is stopped now; nothing if it has died meanwhile."""
    try:
        os.kill(worker["pid"], signal.SIGSTOP)
        await asyncio.sleep(0.05)  # a statement of its may still be on its way
        return await db.fetch(CLAIMED, push_no, worker["worker_no"])
    except ProcessLookupError:
        return []
    except BaseException:  # nobody to be asked: nobody may be left asleep
        os.kill(worker["pid"], signal.SIGCONT)
        raise


def _caught(worker: asyncpg.Record, push_no: int, claimed: list[asyncpg.Record]) -> Victim:
    addresses = {judge.address(row["provider"], row["token"]): row["provider"] for row in claimed}
    rows = [(row["batch"], row["seq"]) for row in claimed]
    return Victim(worker["pid"], worker["worker_no"], push_no, addresses, rows)
