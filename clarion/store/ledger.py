"""The ledger as an attempt and the push loop see it. Every call is one round trip and safe to repeat.

What each statement promises stands beside it in ledger.sql; the protocol at the head of 0002_ledger.sql.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar
from uuid import UUID

import asyncpg

from clarion.model.ledger import Reason
from clarion.store.database import Database
from clarion.store.sql import beside

SQL = beside(__file__)
R = TypeVar("R")


class Outcomes:
    """What became of some rows of one batch, until a STEP writes it.

    `accept(seq)` is the path of nearly every row and does nothing but note the seq. `known_since`: when
    an address that an answer kills counts as dead if the provider names no time (the attempt's TAKE).
    """

    __slots__ = ("_dead", "_known_since", "_others", "_retries", "accept", "seqs")

    def __init__(self, known_since: datetime) -> None:
        self.seqs: list[int] = []
        self.accept = self.seqs.append
        self._others: dict[int, tuple[int, int]] = {}
        self._retries: dict[int, float] = {}
        self._dead: dict[int, datetime] = {}
        self._known_since = known_since

    def __len__(self) -> int:
        return len(self.seqs)

    def add(self, seq: int, code: int, reason: int = 0, delay: float = 0.0) -> None:
        """An outcome that is not simply accepted; `delay`: seconds until the row may go again."""
        self.seqs.append(seq)
        self._others[seq] = code, reason
        if delay:
            self._retries[seq] = delay

    def retire(self, seq: int, dead_since: float | None = None) -> None:
        """The answer for `seq` kills its address; `dead_since`: epoch seconds, if the provider says."""
        self._dead[seq] = self._known_since if dead_since is None else datetime.fromtimestamp(dead_since, UTC)

    def pack(self) -> tuple[Any, ...]:
        """STEP's arrays: seqs, the first, codes, reasons | retries, seconds | dead, since."""
        seqs = self.seqs
        if not seqs:
            return ((), 0, b"", (), (), (), (), ())
        first = min(seqs)
        # The server looks only at the bytes of `seqs`, so every other byte may say accepted, too.
        codes = bytearray(b"\x02") * (max(seqs) - first + 1)
        reasons: list[int] = []
        for seq, (code, reason) in self._others.items():
            codes[seq - first] = code
            if reason:
                reasons.extend([0] * (seq - first + 1 - len(reasons)))
                reasons[seq - first] = reason
        retries, dead = self._retries, self._dead
        return (
            seqs, first, bytes(codes), reasons,
            list(retries), list(retries.values()), list(dead), list(dead.values()),
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Take:
    """An attempt's hold on a batch, or why it has none (`epoch` None).

    `why`: closed, hold, deadline, blocked, early, leased, no such batch; `wait_s`: seconds until the lease
    or the wave that stands in the way. `at`: the database's time. `careful`: attempts died here in a row.
    `redone`: rows that a dead attempt may have sent. `n`: rows of the batch, for ever.
    """

    epoch: int | None
    why: str | None
    wait_s: float
    at: datetime
    careful: bool
    redone: int
    reopened: int
    lane: int
    n: int
    guarantee: int
    mask: int
    content_version: int
    deadline: datetime | None


@dataclass(frozen=True, slots=True)
class Step:
    """What a STEP wrote, and the operator's word as it stood then."""

    written: int
    mine: bool  # the epoch is still the batch's
    closed: int  # 5 | 6: the books of this batch are closed
    lane: int
    guarantee: int
    control_version: int
    hold: int
    pace: float
    content_version: int
    deadline: datetime | None
    blocked: bool
    granted: bool  # the claim is; nothing may start otherwise
    accepted: int  # of the written: rows that have their answer now, and had none
    rejected: int


@dataclass(frozen=True, slots=True)
class Released:
    """What is left open in a batch whose attempt ended cleanly."""

    planned: int
    retry: int
    due_at: datetime | None


@dataclass(frozen=True, slots=True)
class LaneWork:
    """One lane of a push: what can start now, and how it stands."""

    lane: int
    provider: str | None
    work: tuple[int, ...]  # batches whose planned rows may go; what a dead attempt left comes first
    again: tuple[int, ...]  # batches that have only retries, due now
    left_over: int  # batches with planned rows that a dead attempt left
    next_at: datetime | None  # when more falls due
    doing: int  # batches not done under this hold
    audience: int
    planned: int
    retry: int
    dues: float  # is another number whenever retries were tried, also when all of them failed again
    blocked: bool
    blocked_reason: int | None
    senders: int  # processes that serve its queue


@dataclass(frozen=True, slots=True)
class NextWork:
    """What the push loop needs to decide what goes out next. Moments are the database's; so is `now`."""

    control_version: int
    hold: int
    hold_by: str | None
    hold_reason: str | None
    verdict: str | None
    deadline: datetime | None
    overdue: bool  # the deadline has come
    send_at: datetime
    started_at: datetime | None
    closed_at: datetime | None
    ranges: int  # 0: not planned yet
    to_freeze: tuple[int, ...]
    falls_back: bool  # when nothing is open any more: phones may have another lane
    moves: bool  # all that is open waits in blocked lanes: phones may have another one
    now: datetime
    lanes: tuple[LaneWork, ...]

    @property
    def doing(self) -> int:
        """Batches, over all lanes, that are not done under this hold."""
        return sum(lane.doing for lane in self.lanes)


@dataclass(frozen=True, slots=True)
class Retired:
    """One call's part of the retire queue. `wrong_lanes`: their credential fits too few devices, block it.

    `by_reason`: of the retired, (provider, reason, how many).
    """

    handled: int
    waiting: int
    retired: int
    wrong_lanes: tuple[int, ...]
    by_reason: tuple[tuple[str, str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Closed:
    """Batches whose books were closed, and how many are left (-1: the push is not closing)."""

    done: int
    left_open: int


class Ledger:
    """The hot statements. See the class names of the answers for what comes back."""

    def __init__(self, db: Database) -> None:
        self._db = db

    async def take(self, push_no: int, batch: int, owner: UUID, process: int, lease: float) -> Take:
        """Take a batch for an attempt. `owner` is made by the attempt: its own repeat takes again."""
        row = await self._db.fetchrow(SQL.take, push_no, batch, owner, process, timedelta(seconds=lease))
        assert row is not None
        return Take(*row)

    async def read(
        self, push_no: int, batch: int, after: int, limit: int, mask: int, values: bool, badge: bool = False
    ) -> list[asyncpg.Record]:
        """Planned rows after seq `after`, in order.

        (seq, registration_no, user_no, token, variant, locale, attempt, drop, values); `drop` is 0 or the
        `Reason` for which the row must not be sent; `values`: the user's attributes, if asked for,
        and if its `badge` is asked for, the device's number under `clarion.render.BADGE`.
        """
        return await self._db.fetch(SQL.read, push_no, batch, after, limit, mask, values, badge)

    async def step(
        self,
        push_no: int,
        batch: int,
        epoch: int,
        *,
        outcomes: Outcomes,
        content_version: int,
        claim: int | None,
        lease: float,
    ) -> Step:
        """Write outcomes and ask to start rows up to seq `claim` (-1: only renew, None: only write)."""
        seqs, first, codes, reasons, retries, seconds, dead, since = outcomes.pack()
        row = await self._db.fetchrow(
            SQL.step, push_no, batch, epoch, seqs, first, codes, reasons, retries, seconds,
            content_version, claim, timedelta(seconds=lease), dead, since,
        )  # fmt: skip
        if row is None:
            raise LookupError(f"push {push_no} has no batch {batch}")
        return Step(*row)

    async def release(self, push_no: int, batch: int, epoch: int) -> Released | None:
        """End an attempt cleanly, when all its outcomes are committed. None: the batch is not its own."""
        row = await self._db.fetchrow(SQL.release, push_no, batch, epoch)
        return None if row is None else Released(*row)

    async def next_work(self, push_no: int, live: Sequence[int], stock: int) -> NextWork:
        """What can be started now: at most `stock` batches a lane, none of those in `live`."""
        rows = await self._db.fetch(SQL.next_work, push_no, live, stock)
        if not rows:
            raise LookupError(f"no push {push_no}")
        lanes = tuple(_part(LaneWork, row) for row in rows if row["lane"] is not None)
        return _part(NextWork, rows[0], lanes=lanes)

    async def retire(self, push_no: int, suspects: Sequence[int], limit: int) -> Retired:
        """Work off the retire queue. `suspects`: reasons that mean "wrong device for this credential"."""
        row = await self._db.fetchrow(SQL.retire, push_no, suspects, limit)
        assert row is not None
        by_reason = tuple((provider, reason, n) for provider, reason, n in row[4] or ())
        return Retired(row[0], row[1], row[2], tuple(row[3] or ()), by_reason)

    async def close(self, push_no: int, reason: int = Reason.UNANSWERED, limit: int = 100) -> Closed:
        """Close the books of up to `limit` batches of a closing push. Repeat until nothing is left open."""
        row = await self._db.fetchrow(SQL.close, push_no, reason, limit)
        assert row is not None
        return Closed(*row)

    async def block(
        self,
        app_no: int,
        lane: int,
        blocked: bool,
        reason: int = 0,
        *,
        who: str = "clarion",
        way: str = "clarion",
    ) -> int | None:
        """Block or unblock a credential for all pushes of its app. None: it was so before."""
        version: int | None = await self._db.fetchval(SQL.block, app_no, lane, blocked, reason, who, way)
        return version


def _part(kind: type[R], row: asyncpg.Record, **known: Any) -> R:
    """A result whose fields are the row's columns of the same name; arrays become tuples."""
    values = dict(known)
    for name in (field.name for field in fields(kind) if field.name not in known):  # type: ignore[arg-type]
        value = row[name]
        values[name] = tuple(value) if isinstance(value, list) else value
    for name in {"work", "again"} & values.keys():
        values[name] = values[name] or ()
    return kind(**values)
