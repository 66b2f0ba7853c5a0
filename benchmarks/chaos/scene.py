"""A push in flight and everything around it: where troubles happen, and where one looks at what they do."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import asyncpg
import httpx

from benchmarks.chaos.outpost import NAME as OUTPOST
from benchmarks.chaos.outpost import Outpost
from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.requests import Requests
from benchmarks.chaos.tally import RESUME_SECONDS, Caught, Tally
from tests.acceptance.field import Push
from tests.support import judge
from tests.support.victim import Victim

if TYPE_CHECKING:
    from benchmarks.chaos.small_disk import SmallDisk

AWAY = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)


class TooLate(AssertionError):
    """There was nothing left to break or to steer: it does not count, and is tried on another push."""


class Scene:
    """One push, its stack, and who writes down what happens."""

    def __init__(
        self,
        push: Push,
        chance: random.Random,
        tally: Tally,
        say: Callable[[str], None],
        *,
        once: bool = False,
        pace: float | None = None,
        outpost: Outpost | None = None,
        lines: dict[str, Proxy] | None = None,
        disk: SmallDisk | None = None,
    ) -> None:
        """`once`: the push's guarantee is at most once. `lines`: proxies before providers, by provider."""
        self.push, self.stack = push, push.stack
        self.chance, self.tally, self._say = chance, tally, say
        self.once, self.pace = once, pace
        self.outpost, self.lines, self.disk = outpost, lines or {}, disk
        self.requests = Requests(self.stack.log, push.key)
        self.caught: list[Caught] = []
        self.killed: list[Victim] = []
        self.asleep: set[int] = set()  # stopped processes that are to wake again: nobody else's victims
        self.catching = asyncio.Lock()  # one looks for a victim at a time: to look is to stop and to wake
        self.disturbed = False  # a provider's answers were spoilt
        self.cancelled = False
        self.calm = True  # one trouble at a time: times are measured

    def say(self, words: str) -> None:
        """One line for whoever watches."""
        self._say(words)

    async def counts(self) -> dict[str, int]:
        """The ledger's counters, as soon as PostgreSQL can be asked."""
        while True:
            with suppress(*AWAY):
                return await self.push.counts()
            await asyncio.sleep(0.1)

    async def share(self) -> float:
        """How much of the audience has an answer."""
        return _answered(await self.counts()) / self.push.field.phones

    async def moves(self, what: str, most: float, *, since: float | None = None) -> float:
        """Wait until something more is answered; seconds since then (now, if not given).

        Longer than `most`: a bound is broken, and nobody waits any longer.
        """
        began = time.time() if since is None else since
        before = _answered(await self.counts())
        while (seconds := time.time() - began) <= most:
            counts = await self.counts()
            if _answered(counts) > before or (counts["audience"] and not counts["open"]):
                return seconds
            await asyncio.sleep(0.1)
        self.tally.hold(False, f"{what}: nothing moved for {most:g} s")
        return seconds

    async def asked(self, question: Callable[[asyncpg.Connection[asyncpg.Record]], Any]) -> Any:
        """Ask the database, again while it is away."""
        while True:
            with suppress(*AWAY):
                async with self.stack.database() as db:
                    return await question(db)
            await asyncio.sleep(0.1)

    # ---- processes

    def senders(self) -> dict[str, int]:
        """The sender processes that serve this push, by name."""
        pids = {name: pid for name, pid in self.stack.pids("sender").items() if name != "sender-high"}
        if self.outpost is not None and self.outpost.pid is not None:
            pids[OUTPOST] = self.outpost.pid
        return pids

    async def answered(self) -> dict[str, float]:
        """How many answers each sender process has committed since its start, by name."""
        ports: dict[str, int] = self.stack.facts["metrics"]
        if self.outpost is not None:
            ports = ports | {OUTPOST: self.outpost.metrics_port}
        names = list(self.senders())
        async with httpx.AsyncClient() as client:  # one for all: to make one takes a tenth of a second
            found = await asyncio.gather(*(_committed(client, ports[name]) for name in names))
        return dict(zip(names, found, strict=True))

    # ---- looking back

    async def look_back(self, account: judge.Account) -> None:
        """The push is closed: hold what happened to its bounds."""
        self.requests.close()
        if self.killed:
            requests = await asyncio.to_thread(self.push.requests)
            for victim in self.killed:
                after = victim.back_after(requests)
                if after and self.calm:
                    self.tally.time("resume", max(after.values()), RESUME_SECONDS)
        all_answered = not (self.once or self.disturbed or self.cancelled)
        self.tally.judged(account, self.caught, once=self.once, all_answered=all_answered)


async def _committed(client: httpx.AsyncClient, port: int) -> float:
    """The sum of a process's own counter; 0 while it cannot be asked."""
    try:
        page = (await client.get(f"http://127.0.0.1:{port}/metrics", timeout=2)).text
    except httpx.HTTPError:
        return 0.0
    counted = [line for line in page.splitlines() if line.startswith("push_notifications")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in counted)


def _answered(counts: dict[str, int]) -> int:
    return counts["accepted"] + counts["rejected"]
