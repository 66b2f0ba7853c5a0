"""One campaign over every provider, by the command that a newcomer types, judged device by device."""

from __future__ import annotations

import asyncio
import re
import sys
import time
from typing import Any

import pytest
from rich.console import Console

from benchmarks import devices
from benchmarks.chaos.outpost import running_outpost
from benchmarks.demo import add_vendors
from clarion.senders.lanes import MAKERS
from tests.acceptance.field import Field
from tests.support.stack import ROOT, running_stack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
DEVICES = 4_000
SILENT = {"jpush", "umeng"}  # they take a list, and say nothing of single registrations


LAST = re.compile(
    r"reconciled: audience=(\d+) accepted=(\d+) rejected=(\d+) retired=(\d+) lost=0 duplicates=0 rate=\d+/s"
)


def dead_that_are_told() -> int:
    """How many of the dead are with a provider that always says so."""
    providers = devices.deal(devices.EVERY)
    gone = devices.dead_numbers(DEVICES, 0.02, seed=1)
    return sum(providers[n % 100] not in SILENT for n in gone)


def test_the_mix_has_every_provider() -> None:
    """A provider that gets a sender gets its share of the demo as well."""
    assert devices.EVERY.keys() == MAKERS.keys()
    assert {sum(mix.values()) for mix in devices.MIXES.values()} == {100}


async def test_one_campaign_over_every_provider() -> None:
    """`PROVIDERS=all make demo`: nothing lost, nothing twice, the dead retired at each provider."""
    demo = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.demo", "--devices", str(DEVICES), "--providers", "all"),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await demo.communicate()

    words = said.decode()
    assert demo.returncode == 0, words
    last = LAST.fullmatch(words.rstrip().splitlines()[-1])
    assert last is not None, words
    audience, accepted, rejected, retired = map(int, last.groups())
    assert audience == accepted + rejected == DEVICES
    assert dead_that_are_told() <= rejected == retired <= DEVICES * 0.02


# ── some of them away ─────────────────────────────────────────────────────────────────────────────────────

WINDOW, SENDERS = 1_000, 2  # a provider's own process, and one that serves them all
PHONES = 12_000
AWAY: dict[str, dict[str, Any]] = {
    "hms": {"black_hole": "request"},
    "xiaomi": {"refuse_connections": True},
    "oppo": {"status": 503},
}
AWAITED = {"texts": {"default": {"title": "Your parcel", "body": "Today"}}, "classification": "service"}
TOKENS = ("oauth", "hms-auth", "oppo-auth", "vivo-auth", "getui-auth", "honor-auth")
OUTAGE = 20.0  # seconds: several request timeouts


def phones_of(*providers: str) -> int:
    """How many phones they have."""
    return PHONES // 100 * sum(devices.EVERY[provider] for provider in providers)


async def test_vendors_that_are_away_cost_the_others_nothing() -> None:
    """The others are done meanwhile; little is asked of those away; after the recovery nothing is missing.

    Two processes serve each of them: they share one token, asked for once.
    """
    async with running_stack(senders=4) as stack, running_outpost(stack, print):
        await add_vendors(stack, Console(quiet=True), devices.EVERY)
        field = await Field.make(stack, PHONES, devices.EVERY)
        for provider, fault in AWAY.items():
            await stack.sandbox("POST", "/faults", {"provider": provider, **fault})
        push = await field.start(message=AWAITED)
        push.alone = True
        began = time.time()
        await push.until(1 - phones_of(*AWAY) / PHONES, OUTAGE)
        lanes: list[dict[str, Any]] = (await push.shown())["lanes"]
        assert {lane["provider"]: lane["accepted"] for lane in lanes} == {
            provider: 0 if provider in AWAY else phones_of(provider) for provider in devices.EVERY
        }
        await asyncio.sleep(began + OUTAGE - time.time())
        asked = [entry for entry in push.requests() if entry["provider"] in AWAY]
        await stack.sandbox("POST", "/clear")
        recovered = time.time()

        account = await push.finished()
        counts = await stack.sandbox("GET", "/counts")

    assert account.holds, account
    assert account.states == {"accepted": PHONES}
    assert account.last_request - recovered < OUTAGE
    minted = {name: of["requests"] for name, of in counts.items() if name.endswith("auth") and of["requests"]}
    assert minted == dict.fromkeys(TOKENS, 1)
    for provider in AWAY:
        wasted = sum(entry["provider"] == provider for entry in asked)
        assert wasted <= max(phones_of(provider) // 100, SENDERS * WINDOW), provider
