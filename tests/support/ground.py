"""Ground for tests of the store: an app with users, and pushes frozen into batches."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from clarion.model.command import CommandAnswer
from clarion.model.ledger import Code
from clarion.model.spec import PushSpec
from clarion.store import push as pushes
from clarion.store.database import Database
from clarion.store.ledger import Ledger, Outcomes, Step, Take

MESSAGE = {"texts": {"default": {"title": "Tram 9 is late", "body": "By 12 minutes"}}}
LEASE = 10.0
_numbers = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Ground:
    """An app with two lanes. Use `await Ground.lay(db, users)`."""

    db: Database
    app: str
    app_no: int

    @classmethod
    async def lay(cls, db: Database, users: int, *, lane: str = "1", tags: str = "null") -> Ground:
        """Users u1 … un with a phone each; `lane` and `tags` are SQL over g, the user's number."""
        app = f"ground-{next(_numbers)}"
        app_no = await db.fetchval("insert into app (name) values ($1) returning app_no", app)
        await db.execute(
            "insert into credential (app_no, lane, name, provider) select $1, n, 'lane' || n,"
            " case n when 1 then 'apns' else 'fcm' end from generate_series(1, 2) n",
            app_no,
        )
        ground = cls(db, app, app_no)
        await ground.add_users(1, users, lane=lane, tags=tags)
        return ground

    async def add_users(self, first: int, last: int, *, lane: str = "1", tags: str = "null") -> None:
        """More users, with a phone each."""
        await self.db.execute(
            f"""
            with g as (
              select g, ({tags})::text[] as tags, ({lane})::smallint as lane
              from generate_series($2::int, $3) g
            ), u as (
              insert into usr (app_no, user_id, tags) select $1, 'u' || g, tags from g
              returning user_no, user_id
            ), d as (
              insert into device (app_no, installation, user_no, platform)
              select $1, gen_random_uuid(), user_no, 1 from u returning device_no, user_no
            )
            insert into registration (device_no, user_no, app_no, lane, token)
            select device_no, user_no, $1, lane, 't' || g
            from d join u using (user_no) join g on user_id = 'u' || g""",
            self.app_no,
            first,
            last,
        )

    def spec(self, **changes: Any) -> PushSpec:
        """A push to everybody, unless something else is said."""
        words = {"app": self.app, "message": MESSAGE, "audience": {"everybody": True}} | changes
        return PushSpec.model_validate(words)

    async def open(self, push_id: str | None = None, **changes: Any) -> int:
        """A new push; its number."""
        opened = await pushes.open_push(self.db, self.spec(**changes), push_id or f"push-{next(_numbers)}")
        assert opened.opened == "new"
        return opened.push_no

    async def frozen(
        self, *, batch_size: int | None = None, push_id: str | None = None, **changes: Any
    ) -> int:
        """A push whose audience is written; its number."""
        push_no = await self.open(push_id, **changes)
        plan = await pushes.plan(self.db, push_no)
        if batch_size is not None:
            await self.db.execute("update push set batch_size = $2 where push_no = $1", push_no, batch_size)
        for range_no in range(plan.ranges):
            await pushes.freeze(self.db, push_no, range_no)
        return push_no

    async def batches(self, push_no: int) -> list[int]:
        """The numbers of its batches."""
        rows = await self.db.fetch("select batch from batch where push_no = $1 order by 1", push_no)
        return [row["batch"] for row in rows]

    async def states(self, push_no: int, batch: int = 0) -> list[int]:
        """The state of each delivery of a batch, by seq."""
        rows = await self.db.fetch(
            "select state from delivery_now where push_no = $1 and batch = $2 order by seq", push_no, batch
        )
        return [row["state"] for row in rows]

    async def say(self, push_no: int, what: str, **args: Any) -> CommandAnswer:
        """An operator's word."""
        return await pushes.command(self.db, push_no, uuid4(), "ann", what, args)


async def statement(db: Database, word: str, *, waits: bool = False) -> None:
    """Wait until another connection runs a statement that contains `word` (and waits for a lock)."""
    async with asyncio.timeout(20):
        while not await db.fetchval(  # noqa: ASYNC110 - it happens in PostgreSQL
            "select count(*) from pg_stat_activity"
            " where state = 'active' and query like '%' || $1 || '%' and pid <> pg_backend_pid()"
            " and datname = current_database() and (not $2 or wait_event_type = 'Lock')",
            word,
            waits,
        ):
            await asyncio.sleep(0.01)


class Hand:
    """An attempt at one batch, made by hand: takes, claims, says what became of rows."""

    def __init__(self, db: Database, push_no: int, batch: int = 0, *, process: int = 1, lease: float = LEASE):
        self.ledger = Ledger(db)
        self.push_no, self.batch, self.process, self.lease = push_no, batch, process, lease
        self.owner: UUID = uuid4()
        self.taken: Take | None = None

    async def take(self) -> Take:
        """TAKE."""
        self.taken = await self.ledger.take(self.push_no, self.batch, self.owner, self.process, self.lease)
        return self.taken

    async def step(self, claim: int | None = -1, outcomes: Outcomes | None = None) -> Step:
        """STEP, under the epoch that was taken."""
        assert self.taken is not None
        return await self.ledger.step(
            self.push_no,
            self.batch,
            self.taken.epoch or 0,
            outcomes=outcomes or self.outcomes(),
            content_version=1,
            claim=claim,
            lease=self.lease,
        )

    async def release(self) -> bool:
        """RELEASE; whether the batch was ours."""
        assert self.taken is not None
        return await self.ledger.release(self.push_no, self.batch, self.taken.epoch or 0) is not None

    def outcomes(self, **codes: list[int]) -> Outcomes:
        """Outcomes by the name of their code: `outcomes(accepted=[0, 1], dead=[2])`."""
        assert self.taken is not None
        outcomes = Outcomes(self.taken.at)
        for name, seqs in codes.items():
            for seq in seqs:
                if name == "accepted":
                    outcomes.accept(seq)
                else:
                    outcomes.add(seq, Code[name.upper()])
        return outcomes
