"""A small world around the ledger: processes that obey its rules, die, stall and speak late; devices that
really get what is sent; operators; phones that change hands. What it knows is what happened, never what
the ledger says; `ledger_rules` compares the two.

One connection, one statement at a time: the interleavings are the seed's, and time is one of the actions.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg

from clarion.errors import CommandRefused
from clarion.model.ledger import Hold
from clarion.store import push as pushes
from tests.support.ledger_known import DEAD_TOKEN, LEASE, SUSPECT, aware, demand
from tests.support.ledger_senders import Senders


class World(Senders):
    """One push, its senders, operators and devices, driven by one seed."""

    async def begin(self) -> None:
        """Found it, and freeze a first range."""
        await self.found()
        await self.freeze()

    # ── actions ───────────────────────────────────────────────────────────────────────────────────

    async def act(self) -> None:
        """One action of the seed's choice."""
        self.actions += 1
        if self.actions == self.close_at and self.hold is not Hold.CLOSING:
            verdict = self.rng.choice(("cancelled", "expired"))
            if verdict == "expired" and (self.deadline is None or self.db.now < self.deadline):
                self.deadline = self.db.now  # else the word is refused
                await self.db.execute(
                    "update push set deadline = $2 where push_no = $1", self.push_no, self.deadline
                )
            await self.say("close", {"verdict": verdict})
        actions: list[tuple[int, Callable[[], Awaitable[None]]]] = [
            (44, self.act_of_an_attempt),
            (8, self.take),
            (9, self.wait),
            (3, self.command),
            (2, self.block),
            (2, self.kill),
            (3, self.registry),
            (2, self.freeze),
            (3, self.retire),
            (5, self.zombie),
            (2, self.look),
            (6 if self.hold is Hold.CLOSING else 0, self.close),
        ]
        weights = [weight for weight, _ in actions]
        await self.rng.choices([action for _, action in actions], weights)[0]()

    async def wait(self) -> None:
        """Time goes by: mostly a little, sometimes longer than a lease."""
        seconds = self.rng.choice((0.05, 0.2, 0.5, 1.0, LEASE + 0.1))
        await self.db.pass_time(seconds)
        if seconds > LEASE and not self.calm:  # leases have run out: others come, while their holders sleep
            await self.take()
            await self.take()

    # ── operators ─────────────────────────────────────────────────────────────────────────────────

    async def command(self) -> None:
        """An operator's word; sometimes the same one again."""
        if self.commands and self.rng.random() < 0.3:
            command_id = self.rng.choice(list(self.commands))
            await self._repeat(command_id)
            return
        words: list[tuple[str, dict[str, Any]]] = [
            ("pause", {"reason": "lunch"}),
            ("pause", {}),
            ("resume", {}),
            ("resume", {}),
            ("resume", {}),
            ("drain", {}),
            *(("set", {"deadline": self.db.now + timedelta(seconds=s)}) for s in (1.5, 4, 3600)),
            ("set", {"pace": 12.5}),
        ]
        what, args = self.rng.choice(words)
        await self.say(what, args)

    async def say(self, what: str, args: dict[str, Any]) -> None:
        """Give a command and compare the answer with what must come."""
        command_id = self.new_id()
        refused, already = self._expected(what, args)
        if not refused and not already:
            self._obey(what, args)
        try:
            answer = await pushes.command(self.db, self.push_no, command_id, "ann", what, args)
        except CommandRefused:
            demand(refused, "the command is accepted", what, self.hold)
            self.commands[command_id] = {"what": what, "args": args, "refused": True}
            return
        demand(not refused, "the command is refused", what, self.hold, answer)
        demand(
            (answer.version, answer.hold, answer.already) == (self.version, self.hold.name.lower(), already),
            "a command answers as it must", answer, self.version, self.hold,
        )  # fmt: skip
        self.commands[command_id] = {"what": what, "args": args, "refused": False, "answer": answer}
        if self.hold is Hold.CLOSING and self.rows_at_close is None:
            self.rows_at_close = await self.row_count()

    def _expected(self, what: str, args: dict[str, Any]) -> tuple[bool, bool]:
        """Whether the command is refused; whether it was so before."""
        same = {"pause": Hold.PAUSED, "resume": Hold.NONE, "drain": Hold.DRAINING}.get(what)
        if same is not None and self.hold is same:
            return False, True
        if self.hold is Hold.CLOSING:
            return True, False
        if what == "close" and args["verdict"] == "expired":
            return self.deadline is None or self.db.now < self.deadline, False
        return what == "pause" and self.hold is Hold.DRAINING, False

    def _obey(self, what: str, args: dict[str, Any]) -> None:
        self.version += 1
        self.hold = {
            "pause": Hold.PAUSED, "resume": Hold.NONE, "drain": Hold.DRAINING, "close": Hold.CLOSING,
        }.get(what, self.hold)  # fmt: skip
        self.verdict = args.get("verdict")
        self.deadline = args.get("deadline", self.deadline)

    async def _repeat(self, command_id: UUID) -> None:
        """The same command again: the same answer, and nothing happens."""
        known = self.commands[command_id]
        try:
            answer = await pushes.command(
                self.db, self.push_no, command_id, "ann", known["what"], known["args"]
            )
        except CommandRefused:
            demand(known["refused"], "a repeated command answers as before", known)
        else:
            demand(
                not known["refused"] and answer == known["answer"],
                "a repeated command answers as before",
                known,
            )

    async def block(self) -> None:
        """A lane's credential is refused, or works again."""
        lane = self.rng.choice((1, 2))
        blocked = not self.blocked[lane] and self.rng.random() < 0.4
        await self.ledger.block(self.app_no, lane, blocked, DEAD_TOKEN)
        self.blocked[lane] = blocked

    # ── phones and their owners ───────────────────────────────────────────────────────────────────

    async def registry(self) -> None:
        """A user opts out or in, an address is registered again, retired elsewhere, or changes hands."""
        chosen = self.rng.choice(sorted(set(self.registration.values())) or [0])
        what = self.rng.choice(("optout", "again", "again", "retired", "moved"))
        if what == "optout":
            await self.db.execute(
                "update usr set optout = optout # 1 where user_no ="
                " (select user_no from registration where registration_no = $1)",
                chosen,
            )
        elif what == "again":
            await self.db.execute(
                "update registration set status = 1, registered_at = now() where registration_no = $1", chosen
            )
            self.retired_by_world.discard(chosen)
        elif what == "retired":
            await self.db.execute("update registration set status = 2 where registration_no = $1", chosen)
        else:
            await self.db.execute(
                "update registration set status = 1, registered_at = now(), user_no ="
                " (select min(user_no) from usr where app_no = $2) where registration_no = $1",
                chosen,
                self.app_no,
            )

    # ── the push's own work ───────────────────────────────────────────────────────────────────────

    async def freeze(self) -> None:
        """A range is frozen, or found frozen; behind a close nothing is born."""
        if not self.unfrozen and self.rng.random() < 0.5:
            return
        every = await self.db.fetchval("select ranges from push where push_no = $1", self.push_no)
        range_no = self.rng.randrange(every)
        opens = "null::timestamptz"
        if self.rng.random() < 0.3:
            opens = f"case (u.user_no - {self.first_user}) % 2 when 0 then now() + interval '2 s' end"
        frozen = await pushes.freeze(self.db, self.push_no, range_no, opens=opens)
        if range_no not in self.unfrozen:
            demand(frozen.already and not frozen.rows, "a range is frozen once", frozen)
        elif self.hold is Hold.CLOSING:
            demand(frozen.closing, "nothing is born behind a close", frozen)
        else:
            demand(frozen.rows > 0 or not frozen.already, "a range is frozen", frozen)
            self.unfrozen.discard(range_no)
        await self.learn()

    async def retire(self) -> None:
        """Part of the retire queue is worked off: exactly what may be."""
        limit = self.rng.choice((1, 3, 50))
        lanes = {
            r["lane"]: r["open"]
            for r in await self.db.fetch(
                "select lane, sum(case closed when 0 then open else 0 end) as open from batch"
                " where push_no = $1 group by lane",
                self.push_no,
            )
        }
        lane_of = {
            r["batch"]: r["lane"]
            for r in await self.db.fetch("select batch, lane from batch where push_no = $1", self.push_no)
        }
        entries = sorted(self.queue)[:limit]
        waiting = [row for row in entries if self.queue[row] and lanes[lane_of[row[0]]] > 0]
        done = await self.ledger.retire(self.push_no, [SUSPECT], limit)
        demand(
            (done.handled, done.waiting) == (len(entries) - len(waiting), len(waiting)),
            "RETIRE handles what it may", done, entries, waiting,
        )  # fmt: skip
        self.count("retired", done.retired)
        for row in entries:
            if row not in waiting:
                del self.queue[row]

    async def close(self) -> None:
        """Close some books: those whose lease has run out, in order."""
        if self.hold is not Hold.CLOSING:
            return
        limit = self.rng.choice((1, 2, 100))
        before = await self.db.fetch(
            "select batch, open, closed, lease_until from batch where push_no = $1 order by batch",
            self.push_no,
        )
        now = self.db.now
        free = [b for b in before if b["lease_until"] is None or b["lease_until"] < now]
        able = [b["batch"] for b in free if not b["closed"] and b["open"] > 0][:limit]
        done = await self.ledger.close(self.push_no, limit=limit)
        closed = await self.db.fetch(
            "select batch from batch where push_no = $1 and closed > 0 order by batch", self.push_no
        )
        was = {b["batch"] for b in before if b["closed"]}
        demand(
            [b["batch"] for b in closed if b["batch"] not in was] == able and done.done == len(able),
            "CLOSE waits for leases", done, able, closed,
        )  # fmt: skip

    async def look(self) -> None:
        """next_work says what there is to do."""
        live = [b for b in self.holders if self.rng.random() < 0.2]
        stock = self.rng.choice((1, 50))
        told = await self.ledger.next_work(self.push_no, live, stock)
        demand((told.control_version, told.hold) == (self.version, self.hold), "the word is current", told)
        demand(set(told.to_freeze) == self.unfrozen, "ranges not yet frozen are named", told)
        batches = await self.db.fetch("select * from batch where push_no = $1 order by batch", self.push_no)
        for lane in told.lanes:
            mine = [b for b in batches if b["lane"] == lane.lane]
            self._compare_work(lane, mine, live, stock)

    def _compare_work(self, lane: Any, batches: list[asyncpg.Record], live: list[int], stock: int) -> None:
        now = self.db.now
        todo = [b for b in batches if b["open"] > 0 and (self.hold is not Hold.DRAINING or b["begun"])]
        at = {
            b["batch"]: max(
                aware(moment) for moment in (
                    b["lease_until"], b["opens_at"], b["due_at"] if b["open"] == b["retry"] else None)
                if moment is not None
            )
            for b in todo
        }  # fmt: skip
        free = [b for b in todo if at[b["batch"]] <= now and b["batch"] not in live]
        fresh = [b for b in free if b["open"] > b["retry"]]
        work = sorted((b["claimed_to"] < 0, b["batch"]) for b in fresh)
        again = sorted(b["batch"] for b in free if b["open"] == b["retry"])
        demand(lane.work == tuple(b for _, b in work[:stock]), "work is what can go now", lane, work)
        left_over = sum(b["claimed_to"] >= 0 for b in fresh)
        demand(lane.left_over == left_over, "what a dead attempt left is counted", lane, left_over)
        demand(lane.again == tuple(again[:stock]), "again is what is due", lane, again)
        later = [moment for moment in at.values() if moment > now]
        demand(lane.next_at == min(later, default=None), "next_at is the next moment", lane, later)
        demand(lane.doing == len(todo), "doing is what is left", lane, todo)
