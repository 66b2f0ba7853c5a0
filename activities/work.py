"""What a push has to do next: the ledger's answer for all lanes, in one short activity."""

from __future__ import annotations

from datetime import datetime

from temporalio import activity

from activities.parcel import Parcel
from clarion import limits
from clarion.store import ledger as ledgers
from clarion.store import running
from clarion.store.database import Database


class NextWorkInput(Parcel):
    """Which push asks, and which batches are in its live children."""

    push_no: int
    live: tuple[int, ...] = ()


class LaneWork(Parcel):
    """One lane of a push: what can start now, when more falls due, and how it stands."""

    lane: int
    provider: str = ""
    limit: int = 0  # how many batches may live at once
    senders: int = 0  # processes that serve its queue
    blocked: bool = False
    blocked_reason: str | None = None
    work: tuple[int, ...] = ()  # batches with planned rows; those that a dead attempt left come first
    left_over: int = 0  # how many of them, the first ones, a dead attempt left
    due: tuple[int, ...] = ()  # batches that have only retries, due now
    due_in: float | None = None  # seconds until more falls due
    doing: int = 0  # batches not finished under the present hold
    dues: float = 0.0  # is another number whenever retries were tried, also when all of them failed again
    counts: dict[str, int] = {}  # audience, planned, retry, accepted, …


class NextWorkResult(Parcel):
    """The ledger's answer. Moments are seconds from now: clocks of machines differ."""

    version: int = 0
    hold: int = 0
    hold_by: str | None = None
    hold_reason: str | None = None
    verdict: str | None = None
    pace: float | None = None
    starts_in: float | None = None  # only while its audience is not planned
    deadline_in: float | None = None
    ranges: int = 0
    to_freeze: tuple[int, ...] = ()
    falls_back: bool = False  # once all is done, phones that were refused may have another provider
    moves: bool = False  # all that is open waits in blocked lanes, and its phones may have another provider
    lanes: tuple[LaneWork, ...] = ()


class Work:
    """The ledger, as the push loop asks it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._ledger = ledgers.Ledger(db)

    @activity.defn(name="next_work")
    async def next_work(self, input: NextWorkInput) -> NextWorkResult:
        """What can start now, on which lane, and when to ask again."""
        look = await self._ledger.next_work(input.push_no, input.live, limits.STOCK)
        return _result(look, await running.standing(self._db, input.push_no))


def _result(look: ledgers.NextWork, standing: running.Standing) -> NextWorkResult:
    return NextWorkResult(
        version=look.control_version,
        hold=look.hold,
        hold_by=look.hold_by,
        hold_reason=look.hold_reason,
        verdict=look.verdict,
        pace=standing.pace,
        starts_in=_seconds(look, look.send_at) if not look.ranges else None,
        deadline_in=_seconds(look, look.deadline),
        ranges=look.ranges,
        to_freeze=look.to_freeze,
        falls_back=look.falls_back,
        moves=look.moves,
        lanes=tuple(_lane(look, lane, standing) for lane in look.lanes),
    )


def _lane(look: ledgers.NextWork, lane: ledgers.LaneWork, standing: running.Standing) -> LaneWork:
    return LaneWork(
        lane=lane.lane,
        provider=lane.provider or "",
        limit=limits.live_limit(lane.senders),
        senders=lane.senders,
        blocked=lane.blocked,
        blocked_reason=standing.blocked.get(lane.lane),
        work=lane.work,
        left_over=lane.left_over,
        due=lane.again,
        due_in=_seconds(look, lane.next_at),
        doing=lane.doing,
        dues=lane.dues,
        counts=standing.counts.get(lane.lane, {}),
    )


def _seconds(look: ledgers.NextWork, moment: datetime | None) -> float | None:
    return None if moment is None else max((moment - look.now).total_seconds(), 0.0)
