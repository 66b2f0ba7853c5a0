"""The ground of the drill: one stack, its devices, closed pushes to try again, and what is seen of it all.

Everything that judges looks past the way that spoke: at the sandbox's log and the ledger's rows.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from benchmarks.drill.way import Audit
from clarion.client import CampaignHandle
from clarion.errors import ClarionError
from clarion.model.command import CancelMode
from clarion.model.ledger import Hold
from clarion.model.spec import CampaignSpec
from tests.acceptance.field import Field, Push
from tests.support import judge

WRITTEN: Final = 0.4  # the sandbox writes its log at least every 0.2 s
REJECTED, OTHERWISE = "01", "02"  # how the APNs addresses begin that get such answers
RULES: Final = (
    {"provider": "apns", "token": f"{REJECTED}*", "reason": "BadExpirationDate"},
    {"provider": "apns", "token": f"{OTHERWISE}*", "reason": "BadCollapseId"},
)
BUSY: Final = {"provider": "webpush", "status": 503}  # says that it did nothing: four times of it are dead
REJECTED_USERS, DEATHS = 15, 2  # so few of a hundred that they are taken for neither key nor outage
TEXT: Final = {"title": "Drill", "body": "Everything as planned"}
EDITED: Final = {"title": "Drill", "body": "As planned anew"}

ENDED = """
select c.provider, r.token from delivery_now d
join registration r using (registration_no) join credential c on c.app_no = r.app_no and c.lane = r.lane
left join reason n on n.reason_no = d.reason
where d.push_no = $1 and d.state = $2 and ($3::text is null or n.name = $3)
"""
BATCHES = """
select c.provider, r.token, d.batch from delivery d
join registration r using (registration_no) join credential c on c.app_no = r.app_no and c.lane = r.lane
where d.push_no = $1
"""
SAID = """
select way, who, at, args from audit
where at >= $3 and what = $2 and way <> 'clarion' -- what clarion does of itself is nobody's word
  and ((push_no = $1 and campaign_id is null) or campaign_id = $4 or (what = 'unblock' and push_no is null))
"""
WEB_USERS = """
select user_id, token from usr join registration using (user_no)
where token like $1 || '%' order by user_id limit $2
"""
USER = "select user_id from usr join registration using (user_no) where token like $1 || '%'"


def spec(**more: Any) -> dict[str, Any]:
    """A push to everybody, as anybody would write it."""
    return {"app": "demo", "audience": {"everybody": True}, "message": {"texts": {"default": TEXT}}, **more}


def content(text: dict[str, str]) -> str:
    """What the log calls it."""
    return hashlib.sha256(f"{text['title']}\x00{text['body']}".encode()).hexdigest()


class Ground:
    """Where the stories play."""

    def __init__(self, field: Field) -> None:
        self.field, self.stack = field, field.stack
        self._closed: dict[str, Push] = {}

    # ── before ────────────────────────────────────────────────────────────────────────────────────

    async def prepare(self, ways: Sequence[str]) -> None:
        """Start a push for each way that will have rejections, and one that will have dead letters."""
        for rule in RULES:
            await self.stack.sandbox("POST", "/faults", rule)
        rejected = [*await self._users(REJECTED), *await self._users(OTHERWISE)]
        others = await self._users("f", 100)
        dead = await self._busy(DEATHS * len(ways))
        for n, way in enumerate(ways):
            some = dead[n * DEATHS : (n + 1) * DEATHS]
            self._closed[f"rejected-{way}"] = await self.begin(
                audience={"users": rejected + others[: 100 - len(rejected)]}, fallback=False
            )
            self._closed[f"dead-{way}"] = await self.begin(
                audience={"users": some + others[: 100 - DEATHS]}, fallback=False
            )

    async def closed(self, what: str, way: str) -> Push:
        """One of them, once all are closed; then there are no faults any more."""
        for push in self._closed.values():
            await push.finished()
        await self.stack.sandbox("POST", "/clear")
        return self._closed[f"{what}-{way}"]

    async def _busy(self, count: int) -> list[str]:
        """So many users of one Web Push service, which is busy whenever it is asked for these."""
        service = f"https://127.0.0.1:{self.stack.facts['sandbox']['webpush'][0]}/"
        async with self.stack.database() as db:
            rows = await db.fetch(WEB_USERS, service, count)
        for row in rows:
            token = judge.address("webpush", row["token"])
            await self.stack.sandbox("POST", "/faults", BUSY | {"token": token})
        return [row["user_id"] for row in rows]

    async def _users(self, beginning: str, limit: int = REJECTED_USERS) -> list[str]:
        async with self.stack.database() as db:
            sql = f"{USER} and octet_length(token) = 64 order by user_id limit $2"
            return [row["user_id"] for row in await db.fetch(sql, beginning, limit)]

    # ── pushes beside the word that is tried ──────────────────────────────────────────────────────

    def mark(self) -> None:
        """What is started from now on reads the log from here."""
        self.field.log_start = self.stack.log.stat().st_size if self.stack.log.exists() else 0

    async def begin(self, **more: Any) -> Push:
        """A push that is not the story's own matter."""
        self.mark()
        return await self.field.start(message={"texts": {"default": TEXT}}, **more)

    async def begin_campaign(self, id: str, **more: Any) -> None:
        """A campaign that waits for approval."""
        self.mark()
        async with self.field.client() as clarion:
            campaign = await clarion.start_campaign(
                CampaignSpec.model_validate(spec(approval={"within": "1h"}, **more)), id=id
            )
            async with asyncio.timeout(20):
                while not await _waits(campaign):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)

    async def end(self, push: Push) -> judge.Account:
        """Cancel it and close its books."""
        async with push.handle() as handle:
            await handle.cancel(CancelMode.NOW, "the story is told")
        return await push.finished()

    # ── looks ─────────────────────────────────────────────────────────────────────────────────────

    async def log(self, push: Push, until: float) -> list[dict[str, Any]]:
        """All of the push's requests until a moment, once that is over and written."""
        await asyncio.sleep(max(0.0, until + WRITTEN - time.time()))
        return await asyncio.to_thread(push.requests)

    async def first(
        self, push: Push, asked: float, provider: str | None = None, *, more: float = 0.0
    ) -> float:
        """Seconds until the push's next accepted request.

        Raises AssertionError: none in 8 s, and so many `more`.
        """
        while time.time() < asked + 8.0 + more:
            for entry in await asyncio.to_thread(push.requests):
                accepted = entry["t"] >= asked and entry["status"] in judge.ACCEPTED_IN_LOG
                if accepted and provider in (None, entry["provider"]):
                    return float(entry["t"] - asked)
            await asyncio.sleep(0.05)
        raise AssertionError("no request in 8 s")

    async def flows(self, push: Push, pace: float) -> None:
        """Until a second had so many requests."""
        async with asyncio.timeout(20):
            while True:
                second = time.time() - WRITTEN - 1.0
                entries = await asyncio.to_thread(push.requests)
                if sum(second <= entry["t"] < second + 1.0 for entry in entries) >= pace:
                    return
                await asyncio.sleep(0.2)

    async def ended(self, push: Push, state: int, reason: str | None) -> set[str]:
        """The addresses of the rows that ended so."""
        async with self.stack.database() as db:
            rows = await db.fetch(ENDED, push.push_no, state, reason)
        return {judge.address(row["provider"], row["token"]) for row in rows}

    async def batches(self, push: Push) -> dict[str, int]:
        """In which batch each address is."""
        async with self.stack.database() as db:
            rows = await db.fetch(BATCHES, push.push_no)
        return {judge.address(row["provider"], row["token"]): row["batch"] for row in rows}

    async def user(self, address: str) -> str:
        """Whose address it is."""
        async with self.stack.database() as db:
            return str(await db.fetchval(USER, address))

    async def hold(self, push: Push) -> Hold:
        """What the control row says now."""
        async with self.stack.database() as db:
            return Hold(await db.fetchval("select hold from push where push_no = $1", push.push_no))

    async def is_blocked(self) -> bool:
        """Whether a lane is."""
        async with self.stack.database() as db:
            return bool(await db.fetchval("select exists (select from credential_state where blocked)"))

    async def audited(self, push_no: int | None, campaign: str | None, audit: Audit, asked: float) -> float:
        """When the word's one row was written. Raises AssertionError: none, several, or another one."""
        since = datetime.fromtimestamp(asked - 0.2, UTC)  # a program's word may leave in several pieces
        moment = time.time() + 3.0
        while True:
            async with self.stack.database() as db:
                rows = await db.fetch(SAID, push_no, audit.what, since, campaign)
            if rows or time.time() > moment:
                break
            await asyncio.sleep(0.1)
        found = [(row["way"], row["who"]) for row in rows]
        assert found == [(audit.way, audit.who)], f"audit of {audit.what}: {found}, not {audit}"
        return float(rows[0]["at"].timestamp())


async def _waits(campaign: CampaignHandle) -> bool:
    with suppress(ClarionError):  # it is opened a moment after its start was acknowledged
        return (await campaign.progress()).waits_for == "approval"
    return False
