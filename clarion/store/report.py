"""What people ask of the ledger: how a push stands, what became of one user, whether the books agree."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import asyncpg

from clarion.errors import NotFound
from clarion.model.command import LaneProgress, PushProgress
from clarion.model.ledger import Hold, Reason, State
from clarion.quota.exchange import lane_from_json
from clarion.quota.learn import cooling, starting
from clarion.store.database import Database
from clarion.store.push import find
from clarion.store.sql import beside

SQL = beside(__file__)
HISTORY: Final = 50  # operators' words that `show` brings
_COUNTS: Final = (
    "audience", "planned", "retry", "accepted", "rejected", "suppressed", "expired", "cancelled", "dead",
    "in_doubt", "redo", "maybe", "fell_back",
)  # fmt: skip
_PUSH_COLUMNS: Final = (
    "push_id", "campaign_id", "phase", "hold_by", "hold_reason", "verdict", "pace", "result", "at",
    "ranges_to_freeze", "invalid_tokens", "started_at", "send_at", "deadline", "closed_at",
)  # fmt: skip
_FATE_COLUMNS: Final = (
    "push_id", "batch", "seq", "registration_no", "credential", "provider", "at", "attempt",
    "content_version", "registered_at", "retired_at", "moved", "passed_on",
)  # fmt: skip
_OURS: Final = frozenset(int(reason) for reason in Reason)
_STATUS: Final = {1: "active", 2: "inactive", 3: "unregistered"}


@dataclass(frozen=True, slots=True)
class PushLine:
    """A push in a list. `push_no` is where the next page begins."""

    push_no: int
    push_id: str
    app: str
    campaign_id: str | None
    title: str | None
    phase: str
    hold: str
    hold_by: str | None
    hold_reason: str | None
    verdict: str | None
    send_at: datetime
    closed_at: datetime | None


@dataclass(frozen=True, slots=True)
class Word:
    """One operator's word to a push, from the audit."""

    at: datetime
    who: str
    way: str
    what: str
    args: dict[str, Any]
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    answer: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Shown:
    """All about one push. `chain`: it, what it retries and what retries it, oldest first."""

    progress: PushProgress
    spec: dict[str, Any]
    chain: tuple[str, ...]
    history: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one delivery, and what is known of its registration now."""

    push_id: str
    batch: int
    seq: int
    registration_no: int
    credential: str | None
    provider: str | None
    state: str
    reason: str
    at: datetime  # of the last outcome; in state retry: when it may go again
    attempt: int
    content_version: int
    perhaps_sent: bool  # an earlier request may have arrived
    registration: str  # active | inactive | unregistered | gone
    registered_at: datetime | None
    retired_at: datetime | None
    moved: bool  # the phone belongs to another user now
    passed_on: bool  # the phone was tried through another provider: see the row with the later batch


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a user did, or did not, get a push: its deliveries, else the reason why there are none."""

    fates: tuple[Fate, ...]
    why_none: str | None = None


@dataclass(frozen=True, slots=True)
class Account:
    """Rows and counters compared: `bad_batches` must be 0. `fell_back`: second rows of phones."""

    audience: int
    fell_back: int
    open: int
    bad_batches: int


async def counts(db: Database, push_no: int) -> list[dict[str, int]]:
    """The counts of every lane: lane, and the names of `push_counts`."""
    return [
        {name: int(row[name]) for name in ("lane", *_COUNTS)} for row in await db.fetch(SQL.counts, push_no)
    ]


async def progress(db: Database, push_no: int) -> PushProgress:
    """A push at this moment, in one cheap statement. Raises NotFound."""
    rows = await db.fetch(SQL.progress, push_no)
    if not rows:
        raise NotFound(f"no push with the number {push_no}")
    first = rows[0]
    lanes = tuple(_lane(row) for row in rows if row["lane"] is not None)
    return PushProgress(
        **{name: first[name] for name in _PUSH_COLUMNS},
        hold=Hold(first["hold"]).name.lower(),
        audience=sum(lane.audience - lane.fell_back for lane in lanes),
        estimated_audience=first["estimated_rows"] if first["started_at"] else None,
        lanes=lanes,
    )


def _lane(row: asyncpg.Record) -> LaneProgress:
    return LaneProgress(
        lane=row["lane"],
        provider=row["provider"] or "",
        blocked=reason_name(row["blocked_reason"], row["blocked_name"]) if row["blocked"] else None,
        cooling=_cooling(row),
        senders=row["senders"],
        **{name: int(row[name]) for name in _COUNTS},
    )


def _cooling(row: asyncpg.Record) -> bool:
    """Whether the quota keeps the lane slow for now: a provider has asked for it, or answers badly."""
    if row["learned"] is None:
        return False
    lane = lane_from_json(row["learned"])
    return lane.closed > row["clock"] or (cooling(lane, row["ceiling"]) and not starting(lane))


def reason_name(number: int, name: str | None) -> str:
    """A reason in words: the provider's as it stands in the table, our own by its name."""
    if name is not None:
        return name
    return f"clarion:{Reason(number).name.lower()}" if number in _OURS else f"reason {number}"


async def list_pushes(
    db: Database,
    *,
    app: str | None = None,
    campaign_id: str | None = None,
    open_only: bool = False,
    before: int | None = None,
    limit: int = 50,
) -> list[PushLine]:
    """Pushes, latest planned time first; the next page is `before` the last one's push_no."""
    rows = await db.fetch(SQL.list, app, open_only, before, campaign_id, limit)
    return [PushLine(**{**row, "hold": Hold(row["hold"]).name.lower()}) for row in rows]


async def chain(db: Database, push_no: int) -> dict[str, int]:
    """Ids and numbers of a push, what it retries and what retries it, oldest first."""
    return {row["push_id"]: row["push_no"] for row in await db.fetch(SQL.chain, push_no)}


async def show(db: Database, push_id: str) -> Shown:
    """All about one push. Raises NotFound."""
    push_no = await find(db, push_id)
    history = await db.fetch(SQL.history, push_no, HISTORY)
    return Shown(
        progress=await progress(db, push_no),
        spec=await db.fetchval(SQL.spec, push_no),
        chain=tuple(await chain(db, push_no)),
        history=tuple(Word(**row) for row in history),
    )


async def explain(db: Database, app: str, user_id: str, push_id: str) -> Explanation:
    """What became of one user in a push and the pushes that retry it. Raises NotFound."""
    push_no = await find(db, push_id)
    user = await db.fetchrow(SQL.whose, app, user_id)
    if user is None:
        raise NotFound("there is no such user in this app")
    rows = await db.fetch(SQL.explain, user["user_no"], list((await chain(db, push_no)).values()))
    if rows:
        return Explanation(tuple(_fate(row) for row in rows))
    return Explanation((), await _why_none(db, user["user_no"], push_no))


def _fate(row: asyncpg.Record) -> Fate:
    return Fate(
        **{name: row[name] for name in _FATE_COLUMNS},
        state=State(row["state"]).name.lower(),
        reason=reason_name(row["reason"], row["reason_name"]) if row["reason"] else "",
        perhaps_sent=row["doubt"],
        registration=_STATUS.get(row["registration_status"], "gone"),
    )


async def _why_none(db: Database, user_no: int, push_no: int) -> str:
    row = await db.fetchrow(SQL.why_not, user_no, push_no)
    assert row is not None
    if row["past_retention"]:
        return "the deliveries of this push are past retention and gone: only its totals are kept"
    if row["not_planned"]:
        return "the push has not started: its audience is not chosen yet"
    if row["other_slice"]:
        return "the user falls to another slice of the audience: another stage of the campaign"
    if row["not_frozen"]:
        return "the part of the audience that this user would be in was not frozen (yet)"
    if row["came_later"]:
        return "the user is newer than the audience, which was chosen when the push started"
    if row["no_registration"]:
        return "the user has no active registration of the kind that the push addresses"
    return "the audience rule did not choose this user when the push started"


async def reconcile(db: Database, push_no: int) -> Account:
    """Count every row and compare with the counters: reads the whole push."""
    row = await db.fetchrow(SQL.reconcile, push_no, timeout=600)
    assert row is not None
    return Account(**row)
