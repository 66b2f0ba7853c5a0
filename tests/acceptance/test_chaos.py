"""A short `make chaos`: one seed, and one kill of each kind of process while a campaign is in flight."""

from __future__ import annotations

import random

import pytest

from benchmarks.chaos import kills
from benchmarks.chaos.acts import SERVERS, Act
from benchmarks.chaos.stage import Stage
from benchmarks.chaos.tally import Tally
from tests.acceptance.field import Field

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


async def test_one_kill_of_each_kind(field: Field) -> None:
    """Killed one after the other, some before the last is over: every bound of docs/durability.md holds."""
    chance, tally = random.Random(4), Tally()
    bag = [kills.kill_sender, *SERVERS]
    act = Act("short", bag, together=True, troubles=chance.sample(bag, len(bag)))

    await Stage(field, tally, print).play(act, chance)

    assert tally.broken == []
    assert tally.kills == dict.fromkeys(("sender", "control", "postgres", "backend", "temporal"), 1)
    assert tally.lost == 0
    assert tally.duplicates <= tally.bound
    assert tally.samples > 0  # counters were compared with rows meanwhile
