"""The ledger through seeded interleavings, and its guards taken away one at a time.

`python -m tests.support.ledger_model --seeds 0-1000` runs as many seeds as one likes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator

import asyncpg
import pytest

from clarion.store.database import Database
from tests.integration import test_ledger_races, test_push
from tests.support.ledger_known import Violation
from tests.support.ledger_model import run
from tests.support.ledger_mutants import EQUIVALENT, MUTANTS, Mutant, in_force
from tests.support.postgres import Databases
from tests.support.warped import Warped

SEEDS = range(14)
OBJECTIONS = (Violation, asyncpg.IntegrityConstraintViolationError)
BY_SEED = [mutant for mutant in MUTANTS if mutant.seed is not None]
BY_SCRIPT = [mutant for mutant in MUTANTS if mutant.script is not None]


@pytest.fixture(scope="module")
async def warped(databases: Databases) -> AsyncIterator[Warped]:
    """A database whose time is the test's; every seed has an app and a push of its own in it."""
    url = await databases.migrated()
    db = await Warped.open(url)
    yield db
    await db.close()
    await databases.drop(url)


async def test_the_ledger_keeps_its_promises(warped: Warped) -> None:
    """Processes die, stall and speak late, operators change their minds: nothing false is ever booked."""
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        seen += await run(warped, seed)

    rare = {"kills", "fenced", "zombies", "overslept", "repeats", "redo", "acknowledgements lost", "retired"}
    assert not [what for what in rare if not seen[what]], "the seeds no longer reach all of it"


@pytest.mark.slow
@pytest.mark.parametrize("mutant", BY_SEED, ids=lambda mutant: mutant.name.replace(" ", "-"))
async def test_the_model_misses_each_guard(warped: Warped, mutant: Mutant) -> None:
    """Without this guard the stored seed breaks a promise."""
    assert mutant.seed is not None
    async with in_force(mutant, warped):
        with pytest.raises(OBJECTIONS):
            await run(warped, mutant.seed)


@pytest.mark.parametrize("mutant", BY_SCRIPT, ids=lambda mutant: mutant.name.replace(" ", "-"))
async def test_a_script_misses_each_other_guard(databases: Databases, mutant: Mutant) -> None:
    """Without this guard the scripted race that is named beside it fails."""
    url = await databases.migrated()
    db = await Database.connect(url)
    script = getattr(test_ledger_races, mutant.script or "", None) or getattr(test_push, mutant.script or "")
    async with in_force(mutant, db):
        with pytest.raises((AssertionError, asyncpg.PostgresError, pytest.fail.Exception)):
            await script(db)
    await db.close()
    await databases.drop(url)


def test_every_guard_is_accounted_for() -> None:
    """A mutant has a seed or a script; one that has neither says why nothing can tell it apart."""
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    for mutant in MUTANTS:
        told = [mutant.seed is not None, mutant.script is not None, mutant.name in EQUIVALENT]
        assert sum(told) == 1, mutant.name
