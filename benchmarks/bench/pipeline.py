"""The whole pipeline: campaigns to a million devices on the whole stack, with one and with two senders.

The devices are imported once; each size of the audience and each number of senders gets processes of its own,
so that the most memory they ever held belongs to it. What runs beside: everything, on the same two cores.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import devices
from benchmarks.bench import campaign
from benchmarks.bench.campaign import Ran
from benchmarks.bench.figures import Results
from benchmarks.home import home
from tests.support.stack import Stack, running_stack

RETRIED: Final = 0.03
# Web Push: not 503, with which Mozilla names a time to come back, and is left alone until then.
UNAVAILABLE: Final[dict[str, dict[str, Any]]] = {
    "apns": {"status": 503, "reason": "ServiceUnavailable"},
    "fcm": {"status": 503, "reason": "UNAVAILABLE"},
    "webpush": {"status": 500},
}
Tell = Callable[[str], None]


@dataclass(frozen=True)
class Yard:
    """Where the stack keeps everything between its lives, and the devices' files."""

    home: Path

    @asynccontextmanager
    async def stack(self, senders: int) -> AsyncIterator[Stack]:
        """A life of the stack, with fresh processes."""
        async with running_stack(senders=senders, data=self.home / "data") as stack:
            yield stack

    async def admit(self, stack: Stack, count: int, name: str) -> Path:
        """So many living devices more; the file of all of them."""
        file = self.home / f"{name}.jsonl"
        origins = [f"https://127.0.0.1:{port}" for port in stack.facts["sandbox"]["webpush"]]
        await asyncio.to_thread(devices.write, file, count, origins, dead=0.0)
        await stack.cli("devices", "import", "demo", file, timeout=1_800)
        return file


async def measure(results: Results, *, count: int, rounds: int, tell: Tell) -> None:
    """All of it."""
    with home() as place:
        yard = Yard(place)
        async with yard.stack(2) as stack:
            small = await yard.admit(stack, count // 10, "small")
            ran = await _told(tell, stack, small, "small", senders=2)
            _memory(results, "100 k", ran)
            file = await yard.admit(stack, count, "all")
        async with yard.stack(2) as stack:
            await _two_senders(results, stack, file, rounds, tell)
        async with yard.stack(1) as stack:
            ran = await _told(tell, stack, file, "one", senders=1)
            results.values["pipeline: one sender"] = ran.account.rate


async def _two_senders(results: Results, stack: Stack, file: Path, rounds: int, tell: Tell) -> None:
    runs = [await _told(tell, stack, file, f"two-{n}", senders=2) for n in range(rounds)]
    values = results.values

    def median(pick: Callable[[Ran], float]) -> float:
        return statistics.median(map(pick, runs))

    values["pipeline: two senders"] = median(lambda ran: ran.account.rate)
    values["pipeline: CPU, all processes"] = median(lambda ran: ran.cpu_us_in_all)
    _memory(results, "1 M", runs[0])
    values["temporal: actions a million"] = median(lambda ran: ran.a_million(ran.temporal.actions))
    values["temporal: events a million"] = median(lambda ran: ran.a_million(ran.temporal.events))
    values["temporal: longest history"] = max(ran.temporal.longest for ran in runs)
    apple = await _told(tell, stack, file, "apns", senders=2, audience={"where": {"platform": ["ios"]}})
    values["pipeline: CPU of senders, APNs"] = apple.cpu_us["sender"]
    both = {"where": {"platform": ["ios", "android"]}}
    ran = await _told(tell, stack, file, "apns-fcm", senders=2, audience=both)
    values["pipeline: APNs and FCM"] = ran.account.rate
    values["pipeline: CPU, APNs and FCM"] = ran.cpu_us_in_all
    await _retried(results, stack, file, tell)


async def _retried(results: Results, stack: Stack, file: Path, tell: Tell) -> None:
    """The same with 3 % of the requests refused for the moment."""
    for provider, answer in UNAVAILABLE.items():
        await stack.sandbox("POST", "/faults", {"provider": provider, "share": RETRIED, **answer})
    ran = await _told(tell, stack, file, "retried", senders=2)
    await stack.sandbox("POST", "/clear")
    results.values["temporal: actions a million, 3 % retried"] = ran.a_million(ran.temporal.actions)
    results.values["temporal: events a million, 3 % retried"] = ran.a_million(ran.temporal.events)


def _memory(results: Results, size: str, ran: Ran) -> None:
    for kind in ("sender", "control"):
        results.values[f"memory: {kind}, {size}"] = ran.peaks[kind]
        first = results.values[f"memory: {kind}, 100 k"]
        if size == "1 M":
            results.values[f"memory: {kind}, 1 M / 100 k"] = ran.peaks[kind] / first


async def _told(tell: Tell, stack: Stack, file: Path, id: str, **more: Any) -> Ran:
    ran = await campaign.run(stack, file, id, **more)
    costs = sorted(ran.cpu_us.items(), key=lambda item: -item[1])
    tell(
        f"{id:9} {ran.account.audience:>9,} devices {ran.account.rate:7,.0f}/s, senders {ran.idle:.0%} idle, "
        f"{ran.cpu_us_in_all:.0f} CPU µs: "
        + " · ".join(f"{name} {cost:.1f}" for name, cost in costs if cost >= 0.05)
        + f"; Temporal: {ran.temporal.workflows} workflows, {ran.temporal.actions} actions, "
        f"{ran.temporal.events} events"
    )
    return ran
