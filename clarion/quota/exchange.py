"""The exchange through PostgreSQL: what senders and the dealer write for each other, and its JSON.

    ask    {"urgent": …, "lanes": {lane: [good, bad, throttled, seconds of Retry-After]},
            "wants": [[lane, push, sends/s, urgent, counted sends taken], …]}
    rates  {lane: [sends/s, cooling, {push: [sends/s, counted sends or null, when given]}]}
    lanes  {lane: {field: value}}, the fields of `clarion.quota.learn.Lane`

A rate of null is unlimited: JSON has no infinity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from math import floor, inf
from typing import Any, NamedTuple, Protocol, TypeAlias

from clarion.quota.ask import DEAD_SECONDS, Ask, Pair, Terms, Totals, Want
from clarion.quota.deal import LaneRates, PairRate, Rates
from clarion.quota.learn import Lane
from clarion.quota.payout import Dealt
from clarion.store.database import Database
from clarion.store.sql import beside

SQL = beside(__file__)

Json: TypeAlias = dict[str, Any]

LIGHTEST, HEAVIEST = 1e-3, 1e3  # weights beyond these would drown the others in rounding
GONE_SECONDS = 600.0  # without an exchange: the process does not come back


class Answer(NamedTuple):
    """What a process reads when it has asked."""

    clock: float
    deal: int | None  # number of the last deal; None: nobody ever dealt
    dealt_at: float
    number: int  # of the process's rates; 0 = it has none
    rates: Json | None  # None: those that it goes by already


class Post(NamedTuple):
    """What a process finds when it becomes the dealer."""

    epoch: int
    number: int
    clock: float
    dealt_at: float  # by the dealer before
    lanes: dict[str, Lane]
    dealt: dict[int, list[Dealt]]


class Terrain(NamedTuple):
    """What people decided about lanes and pushes."""

    ceilings: dict[str, float]
    reopened: dict[str, float]  # when the lane was last unblocked (database clock)
    pushes: dict[int, Terms]


class Board(Protocol):
    """Where asks and rates are left for each other: PostgreSQL, or a test's own."""

    async def exchange(self, process: int, read: int, ask: Json) -> Answer:
        """Leave an ask, read the rates."""

    async def take_over(self) -> Post | None:
        """Become the dealer if nobody has dealt for a second."""

    async def asks(self) -> tuple[float, list[Ask]]:
        """The database's clock and the asks of all living processes."""

    async def terrain(self, lanes: Iterable[str], pushes: Iterable[int]) -> Terrain:
        """Ceilings, weights and paces as they are now."""

    async def write(
        self, epoch: int, number: int, lanes: Mapping[str, Lane], rates: Mapping[int, Json]
    ) -> bool:
        """Deal. False: another process is the dealer."""


class PostgresBoard:
    """The board in PostgreSQL. Give it a pool that does not wait behind long statements."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def exchange(self, process: int, read: int, ask: Json) -> Answer:
        """Leave an ask, read the rates: one round trip."""
        row = await self._db.fetchrow(SQL.exchange, process, read, ask)
        assert row is not None
        return Answer(row["clock"], row["deal"], row["dealt_at"] or 0.0, row["number"] or 0, row["rates"])

    async def take_over(self) -> Post | None:
        """Become the dealer if nobody has dealt for a second; what was dealt is known then."""
        row = await self._db.fetchrow(SQL.take_over)
        if row is None:
            return None
        dealt = {
            r["process"]: [Dealt(r["number"], rates_in_use(r["rates"]))]
            for r in await self._db.fetch(SQL.dealt)
        }
        return Post(
            row["epoch"], row["number"], row["clock"], row["dealt_at"], lanes_from_json(row["lanes"]), dealt
        )

    async def asks(self) -> tuple[float, list[Ask]]:
        """The database's clock and the asks of all living processes."""
        rows = await self._db.fetch(SQL.asks, DEAD_SECONDS)
        return rows[0]["clock"], [
            ask_from_json(row["process"], row["at"], row["read"], row["ask"])
            for row in rows
            if row["process"] is not None
        ]

    async def terrain(self, lanes: Iterable[str], pushes: Iterable[int]) -> Terrain:
        """Ceilings, weights and paces as they are now."""
        keys = [tuple(map(int, lane.split("."))) for lane in lanes]
        rows = await self._db.fetch(SQL.limits, [k[0] for k in keys], [k[1] for k in keys], list(pushes))
        terrain = Terrain({}, {}, {})
        for lane, push_no, rate, weight, reopened in rows:
            if lane is None:
                terrain.pushes[push_no] = Terms(min(max(weight, LIGHTEST), HEAVIEST), rate)
            else:
                terrain.ceilings[lane] = rate
                if reopened is not None:
                    terrain.reopened[lane] = reopened
        return terrain

    async def write(
        self, epoch: int, number: int, lanes: Mapping[str, Lane], rates: Mapping[int, Json]
    ) -> bool:
        """Deal, unless another process has taken over. False: it has."""
        written = await self._db.fetchval(
            SQL.write, epoch, number, lanes_to_json(lanes), list(rates), list(rates.values())
        )
        return written is not None


async def sweep(db: Database, *, gone_seconds: float = GONE_SECONDS) -> int:
    """Housekeeping: delete what processes left that do not come back. Returns how many there were."""
    return int(await db.fetchval(SQL.sweep, gone_seconds))


async def lanes(db: Database) -> dict[str, Lane]:
    """For operators: what the dealer has learned of every lane; nothing while nobody deals."""
    row = await db.fetchrow(SQL.lanes)
    return lanes_from_json(row["lanes"]) if row is not None and row["age"] < DEAD_SECONDS else {}


def ask_to_json(urgent: bool, heard: Mapping[str, tuple[Totals, float]], wants: Mapping[Pair, Want]) -> Json:
    """What a process says."""
    return {
        "urgent": urgent,
        "lanes": {lane: [*totals, stop] for lane, (totals, stop) in heard.items()},
        "wants": [[*pair, *want] for pair, want in wants.items()],
    }


def ask_from_json(process: int, at: float, read: int, ask: Json) -> Ask:
    """What the dealer understands of it."""
    return Ask(
        process,
        at,
        read,
        ask["urgent"],
        {lane: (Totals(*totals), stop) for lane, (*totals, stop) in ask["lanes"].items()},
        {(lane, push): Want(*want) for lane, push, *want in ask["wants"]},
    )


def rates_to_json(rates: Rates) -> Json:
    """What the dealer says to a process. Rounded down, so that small changes are none and no sum grows."""
    return {
        key: [
            _rate(lane.rate),
            lane.cooling,
            {str(push): [_rate(r.rate), r.counted, r.given_at] for push, r in lane.pushes.items()},
        ]
        for key, lane in rates.items()
    }


def rates_from_json(rates: Json) -> Rates:
    """What a process understands of it."""
    return {
        key: LaneRates(
            _unlimited(rate),
            cooling,
            {int(push): PairRate(_unlimited(x), counted, at) for push, (x, counted, at) in pushes.items()},
        )
        for key, (rate, cooling, pushes) in rates.items()
    }


def rates_in_use(rates: Json) -> dict[Pair, float]:
    """The bare rates, as the next dealer reckons with them."""
    return {
        (key, push): pair.rate
        for key, lane in rates_from_json(rates).items()
        for push, pair in lane.pushes.items()
    }


def lanes_to_json(lanes: Mapping[str, Lane]) -> Json:
    """Lanes as the next dealer finds them."""
    return {key: asdict(lane) | {"second": list(lane.second)} for key, lane in lanes.items()}


def lanes_from_json(lanes: Json) -> dict[str, Lane]:
    """Lanes as a dealer before left them; fields of another release are left out."""
    return {key: lane_from_json(fields) for key, fields in lanes.items()}


def lane_from_json(fields: Json) -> Lane:
    """One lane as a dealer left it."""
    known = {name: _unlimited(value) for name, value in fields.items() if name in Lane.__slots__}
    return Lane(**known | {"second": Totals(*fields["second"])})


def _rate(rate: float) -> float | None:
    return None if rate == inf else floor(rate * 10_000) / 10_000


def _unlimited(rate: Any) -> Any:
    return inf if rate is None else rate
