"""Retire what providers called dead, and stop a lane whose credential fits too few devices."""

from __future__ import annotations

from temporalio import activity

from activities.faults import ticking
from activities.parcel import Parcel
from clarion.senders.outcome import WRONG_DEVICE
from clarion.store import push as pushes
from clarion.store import running
from clarion.store.database import Database
from clarion.store.ledger import Ledger
from clarion.store.reasons import Reasons
from clarion.telemetry import TOTALS

ENTRIES = 1_000  # of the retire queue in one transaction


class RetireInput(Parcel):
    """Whose retire queue is worked off."""

    push_no: int


class RetireResult(Parcel):
    """Registrations retired now; entries that wait for more answers of their lane; lanes blocked now."""

    retired: int = 0
    waiting: int = 0
    blocked: tuple[int, ...] = ()


class Registrations:
    """The end of addresses, always with the provider's time: registered again later, an address lives."""

    def __init__(self, db: Database) -> None:
        self._db = db

    @activity.defn(name="retire_registrations")
    async def retire_registrations(self, input: RetireInput) -> RetireResult:
        """Work off the queue of one push."""
        async with ticking():
            return await retire(self._db, input.push_no)


async def retire(db: Database, push_no: int) -> RetireResult:
    """Retire until nothing is left but what must wait.

    Entries that say "wrong device for this credential" wait until their lane has 200 answers or nothing
    open; if they are 30 % of its answers, it is the credential that is wrong: the lane is blocked with that
    reason, and they are dropped.
    """
    ledger = Ledger(db)
    suspects = await _suspects(db)
    retired, blocked = 0, set[int]()
    while True:
        part = await ledger.retire(push_no, list(suspects), ENTRIES)
        retired += part.retired
        TOTALS.retired(part.by_reason)
        blocked.update(part.wrong_lanes)
        for lane in part.wrong_lanes:
            await _block(db, ledger, push_no, lane, suspects)
        if part.handled == 0:
            return RetireResult(retired=retired, waiting=part.waiting, blocked=tuple(sorted(blocked)))


async def _suspects(db: Database) -> dict[int, str]:
    """The numbers of the reasons that mean "wrong device for this credential"."""
    reasons = await Reasons.load(db)
    numbers = {reasons.number(name): name for name in WRONG_DEVICE}
    return {number: name for number, name in numbers.items() if number is not None}


async def _block(db: Database, ledger: Ledger, push_no: int, lane: int, suspects: dict[int, str]) -> None:
    """Block the lane for the most frequent of the reasons found on it."""
    facts = await pushes.facts(db, push_no)
    number = await running.frequent_reason(db, push_no, lane, list(suspects))
    await ledger.block(facts.app_no, lane, True, number or next(iter(suspects)))
