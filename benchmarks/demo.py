"""The demo: one durable campaign over the three providers, on a stack of its own, judged at the end.

    make demo                  100,000 devices
    DEVICES=1000000 make demo
    PROVIDERS=all make demo    the Chinese vendors as well

It does what a newcomer would do, with the same commands: starts `clarion dev` on a fresh directory and free
ports, imports a file of devices, starts a campaign and watches it. The providers' simulators are told to
be difficult: 2 % of the devices are dead; in the first fifth 2 % of APNs' requests are throttled; one of
three Web Push services asks to be left alone for a second. Then an independent judge joins the file, the
ledger and the simulators' log device by device. The last line is the judge's; exit code 1 if it disagrees.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks import devices
from benchmarks.meter import Meter
from tests.support import judge
from tests.support.eventually import eventually
from tests.support.stack import CLARION, Stack, running_stack

ID = "demo"
DEAD = 0.02
THROTTLED = 0.02
DEAD_AT_ONCE = 20_000  # addresses a call to the sandbox
CAMPAIGN = {
    "app": "demo",
    "title": "The demo campaign",
    "audience": {"everybody": True},
    "message": {
        "texts": {
            "default": {"title": "Your parcel", "body": "It will be with you before midnight."},
            "zh-Hant": {"title": "您的包裹", "body": "今天午夜前送達。"},
        },
        "classification": "service",  # vivo would keep marketing back from 23 to 7 o'clock in China
        "sound": "default",
        "data": {"campaign": ID},
    },
}


async def bury(stack: Stack, graves: Path) -> None:
    """Tell the sandbox which devices are dead."""
    tokens = (await asyncio.to_thread(graves.read_text)).split()
    for start in range(0, len(tokens), DEAD_AT_ONCE):
        await stack.sandbox("POST", "/dead", {"tokens": tokens[start : start + DEAD_AT_ONCE]})


async def be_difficult(stack: Stack, count: int, mix: Mapping[str, int]) -> None:
    """Throttle a share of APNs' first requests; when sending has begun, silence one Web Push service."""
    apns = count * mix["apns"] // 100
    rule = {"provider": "apns", "status": 429, "reason": "TooManyRequests", "share": THROTTLED}
    await stack.sandbox("POST", "/faults", rule | {"first": max(1, round(apns / 5 * THROTTLED))})
    await eventually(lambda: stack.log.exists() and stack.log.stat().st_size > 0, "a request", seconds=60)
    quiet = {"provider": "webpush", "origin": 0, "status": 429, "headers": {"retry-after": "1"}}
    await stack.sandbox("POST", "/faults", quiet | {"for": 1.0})


def run_clarion(stack: Stack, console: Console, *words: str | Path) -> None:
    """Run a command as a user would, on this terminal."""
    console.print(f"[bold]$ clarion {' '.join(str(word) for word in words)}[/bold]", highlight=False)
    sys.stdout.flush()
    subprocess.run([CLARION, *map(str, words)], env=stack.environment, check=True)


async def add_vendors(stack: Stack, console: Console, mix: Mapping[str, int]) -> None:
    """Credentials for the providers that the app has none for yet."""
    sandbox = stack.facts["sandbox"]
    for provider in mix.keys() - devices.THREE.keys():
        file = stack.data / "sandbox" / "credentials" / f"{provider}.json"
        place = ["--endpoint", f"https://127.0.0.1:{sandbox[provider]}", "--ca", sandbox["ca"]]
        words = ("credentials", "add", provider, "demo", file, *place)
        await asyncio.to_thread(run_clarion, stack, console, *words)


async def prepare(stack: Stack, console: Console, count: int, mix: Mapping[str, int]) -> Path:
    """The devices: made, imported, and known to the sandbox."""
    await add_vendors(stack, console, mix)
    file = stack.data.parent / "devices.jsonl"
    origins = [f"https://127.0.0.1:{port}" for port in stack.facts["sandbox"]["webpush"]]
    dead = await asyncio.to_thread(devices.write, file, count, origins, dead=DEAD, mix=mix)
    console.print(f"{count:,} devices in {file}, {dead:,} of them dead", highlight=False)
    await asyncio.to_thread(run_clarion, stack, console, "devices", "import", "demo", file)
    await bury(stack, Path(f"{file}.dead"))
    return file


async def campaign(stack: Stack, console: Console, count: int, mix: Mapping[str, int]) -> Meter:
    """Start the campaign and watch it to its end."""
    spec = stack.data.parent / "campaign.yaml"
    spec.write_text(json.dumps(CAMPAIGN, ensure_ascii=False))
    difficult = asyncio.create_task(be_difficult(stack, count, mix))
    meter = Meter(stack)
    await asyncio.to_thread(run_clarion, stack, console, "campaign", "start", spec, "--id", ID)
    await asyncio.to_thread(run_clarion, stack, console, "campaign", "watch", ID)
    await difficult
    return meter


def report(console: Console, account: judge.Account, meter: Meter, senders: int) -> None:
    """What it took, and the judge's line."""
    costs = sorted(meter.microseconds_each(account.audience).items(), key=lambda item: -item[1])
    console.print(
        f"CPU µs a delivery: {sum(cost for _, cost in costs):.0f} in all · "
        + " · ".join(f"{name} {cost:.1f}" for name, cost in costs if cost >= 0.05),
        highlight=False,
        soft_wrap=True,
    )
    console.print(f"senders idle {meter.idle('sender', senders):.0%} of the time", highlight=False)
    console.print(f"requests={account.requests} throttled={account.throttled}", highlight=False)
    counts = account.states
    print(
        f"reconciled: audience={account.audience} accepted={counts.get('accepted', 0)} "
        f"rejected={counts.get('rejected', 0)} retired={account.retired} lost={account.lost} "
        f"duplicates={account.duplicates} rate={account.rate:.0f}/s"
    )


def agrees(account: judge.Account) -> bool:
    """File, ledger and log agree, and everybody has an answer."""
    counts = account.states
    answered = counts.get("accepted", 0) + counts.get("rejected", 0)
    return (
        account.holds
        and answered == account.audience == account.devices
        and account.duplicates <= account.redo + account.maybe
        and account.throttled > 0
    )


async def demo(count: int, senders: int, mix: Mapping[str, int]) -> bool:
    """The whole story. Whether the judge agrees."""
    console = Console(soft_wrap=not sys.stdout.isatty())
    console.print("starting PostgreSQL, Temporal, the providers' simulators and the workers …")
    async with running_stack(senders=senders) as stack:
        console.print(f"Temporal UI: {stack.facts['temporal_ui']}", highlight=False)
        console.print(f"kill anything you like: {_pids(stack.facts['pids'])}", highlight=False)
        file = await prepare(stack, console, count, mix)
        meter = await campaign(stack, console, count, mix)
        await asyncio.sleep(0.3)  # the sandbox writes its log at least every 0.2 s
        url = stack.facts["database_url"]
        account = await judge.judge(file, stack.log, ID, url)
        report(console, account, meter, senders)
    return agrees(account)


def _pids(pids: dict[str, Any]) -> str:
    return ", ".join(f"{name} {pid}" for name, pid in pids.items() if name != "supervisor")


def main() -> None:
    """Run as a command."""
    words = argparse.ArgumentParser(description="One durable campaign, judged device by device.")
    words.add_argument("--devices", type=int, default=100_000)
    words.add_argument("--senders", type=int, default=3)
    words.add_argument("--providers", choices=devices.MIXES, default="three")
    given = words.parse_args()
    if given.devices < 1_000:
        words.error("--devices: at least 1000")
    sys.exit(0 if asyncio.run(demo(given.devices, given.senders, devices.MIXES[given.providers])) else 1)


if __name__ == "__main__":
    main()
