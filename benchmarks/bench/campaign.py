"""One campaign on a running stack, measured: the judge's account, CPU, memory, and its cost in Temporal."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import temporal_cost
from benchmarks.meter import Meter
from benchmarks.temporal_cost import TemporalCost
from clarion.client import Clarion, PushHandle
from clarion.model.spec import PushSpec
from tests.support import judge
from tests.support.stack import Stack

MESSAGE: Final = {
    "texts": {
        "default": {"title": "Spring sale", "body": "Everything is 20 % off until midnight."},
        "zh-Hant": {"title": "春季特賣", "body": "全館八折，只到今天午夜。"},
    },
    "sound": "default",
}
PATIENCE: Final = 1_800.0  # seconds until a campaign counts as stuck


@dataclass(frozen=True)
class Ran:
    """What one campaign took."""

    account: judge.Account
    cpu_us: Mapping[str, float]  # a delivery, by kind of process
    idle: float  # the senders' share
    peaks: Mapping[str, float]  # MB, by kind of process, since it was started
    temporal: TemporalCost

    @property
    def cpu_us_in_all(self) -> float:
        """CPU µs a delivery, all processes together."""
        return sum(self.cpu_us.values())

    def a_million(self, count: int) -> float:
        """So many, had the audience been a million."""
        return count * 1e6 / self.account.audience


@asynccontextmanager
async def client_of(stack: Stack) -> AsyncIterator[Clarion]:
    """The Python client of this stack."""
    facts = stack.facts
    async with await Clarion.connect(
        facts["temporal_address"], namespace=facts["namespace"], database_url=facts["database_url"]
    ) as clarion:
        yield clarion


async def start(clarion: Clarion, id: str, audience: Mapping[str, Any] | None = None) -> PushHandle:
    """A push to everybody, or to whom is said."""
    spec = {"app": "demo", "audience": audience or {"everybody": True}, "message": MESSAGE}
    await clarion.schedule_push(PushSpec.model_validate(spec), id=id)
    return clarion.push(id)


async def run(
    stack: Stack, file: Path, id: str, *, senders: int, audience: Mapping[str, Any] | None = None
) -> Ran:
    """Start it, wait for its end, judge it. Raises AssertionError when the judge does not agree."""
    log_start, meter = stack.log.stat().st_size, Meter(stack)
    async with client_of(stack) as clarion:
        handle = await start(clarion, id, audience)
        async with asyncio.timeout(PATIENCE):
            await handle.result()
        costs, idle, peaks = meter.read(), meter.idle("sender", senders), meter.peaks()
        cost = await temporal_cost.of_push(clarion.temporal, id)
    await asyncio.sleep(0.3)  # the sandbox writes its log at least every 0.2 s
    account = await judge.judge(file, stack.log, id, stack.facts["database_url"], start=log_start)
    _agree(account, everybody=audience is None)
    cpu_us = {kind: seconds * 1e6 / account.audience for kind, seconds in costs.items()}
    return Ran(account, cpu_us, idle, peaks, cost)


def _agree(account: judge.Account, *, everybody: bool) -> None:
    """A figure of a campaign that lost something, or sent twice, is none."""
    assert account.states.keys() <= {"accepted", "in_doubt"}, account  # refused four times, perhaps sent
    assert account.duplicates == account.phantom == account.unexplained == 0, account
    assert not everybody or account.lost == 0, account
