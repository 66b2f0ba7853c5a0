"""One campaign over every provider, by the command that a newcomer types, judged device by device."""

from __future__ import annotations

import asyncio
import re
import sys

import pytest

from benchmarks import devices
from clarion.senders.lanes import MAKERS
from tests.support.stack import ROOT

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
