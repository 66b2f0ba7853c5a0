"""Campaigns on the whole stack, judged: approval, and stages of which the second is cancelled."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections import Counter
from contextlib import suppress
from itertools import count
from typing import Any

import pytest
import yaml

from clarion.client import Clarion
from clarion.errors import ClarionError
from tests.acceptance.field import PHONES, Field, Push
from tests.acceptance.together import Together
from tests.support import judge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]
_numbers = count(1)
together = Together()


class Campaign:
    """A campaign to everybody, started by the command line."""

    def __init__(self, field: Field, id: str) -> None:
        self.field, self.stack, self.id = field, field.stack, id
        self.log_start = field.log_start

    @classmethod
    async def start(cls, field: Field, **spec: Any) -> Campaign:
        """Write the spec and start it."""
        id = f"c{os.getpid()}-{next(_numbers)}"
        given = {
            "app": "demo",
            "audience": {"everybody": True},
            "message": {"texts": {"default": {"title": f"Test {id}", "body": "A body"}}},
            **spec,
        }
        path = field.stack.data.parent / f"{id}.yaml"
        path.write_text(yaml.safe_dump(given))
        await field.stack.cli("campaign", "start", path, "--id", id)
        return cls(field, id)

    async def say(self, *words: str) -> float:
        """One operator's word; when it had been acknowledged."""
        await self.stack.cli("campaign", words[0], self.id, *words[1:])
        return time.time()

    async def until(self, timeout: float = 60.0, **wanted: Any) -> dict[str, Any]:
        """Wait until it is so; what `clarion campaign show --json` says then."""
        async with asyncio.timeout(timeout), self.field.client() as clarion:
            while not await self._is(clarion, wanted):  # noqa: ASYNC110  # a row
                await asyncio.sleep(0.1)
        found: dict[str, Any] = json.loads(await self.stack.cli("campaign", "show", self.id, "--json"))[0]
        assert {key: found[key] for key in wanted} == wanted
        return found

    async def _is(self, clarion: Clarion, wanted: dict[str, Any]) -> bool:
        with suppress(ClarionError):  # it is opened a moment after its start was acknowledged
            progress = await clarion.campaign(self.id).progress()
            return wanted.items() <= {"state": progress.status, "waits_for": progress.waits_for}.items()
        return False

    async def push(self, id: str | None = None) -> Push:
        """One of its pushes."""
        async with self.stack.database() as db, asyncio.timeout(60):
            while True:
                row = await db.fetchrow(
                    "select push_no, 'clarion-' || to_hex(dedup_no) as key from push where push_id = $1",
                    id or self.id,
                )
                if row is not None:
                    return Push(self.field, id or self.id, row["push_no"], row["key"])
                await asyncio.sleep(0.05)

    def requests(self) -> int:
        """How many requests with this campaign's words the providers have seen."""
        content = hashlib.sha256(f"Test {self.id}\x00A body".encode()).hexdigest()
        return sum(
            entry["content"] == content for entry in judge.log_lines(self.stack.log, None, self.log_start)
        )


@together
async def test_approved_it_is_sent(field: Field) -> None:
    """Not one request before the word; then everybody, exactly."""
    campaign = await Campaign.start(field, approval={"within": "1h"})
    waiting = await campaign.until(waits_for="approval")
    await asyncio.sleep(1.5)
    before = campaign.requests()
    refused = await field.stack.cli(
        "campaign", "approve", campaign.id, "--content", "content:" + "00" * 32, check=False
    )

    approved = await campaign.say("approve", "--content", waiting["content"])
    account = await (await campaign.push()).finished()

    assert (before, waiting["state"]) == (0, "pending")
    assert "it has other content now" in refused
    assert account.holds, account
    assert account.states == {"accepted": PHONES}
    assert account.duplicates == 0
    assert account.first_request - approved <= 5.0  # the audience is frozen first
    assert (await campaign.until(state="completed"))["success"] == PHONES


@together
async def test_rejected_and_expired_nothing_is_sent(field: Field) -> None:
    """Neither has a push, a row or a request; both say why, and take no more words."""
    rejected = await Campaign.start(field, approval={})
    expired = await Campaign.start(field, approval={"within": "2s"})
    await rejected.until(waits_for="approval")

    await rejected.say("reject", "--reason", "too loud")
    first, second = await rejected.until(state="rejected"), await expired.until(state="expired")
    await asyncio.sleep(1)

    assert (first["result"]["reason"], second["result"]["reason"]) == (
        "too loud",
        "it was not approved in time",
    )
    for one in (rejected, expired):
        assert one.requests() == 0
        assert "closed" in await field.stack.cli("campaign", "approve", one.id, check=False)
    async with field.stack.database() as db:
        ids = [rejected.id, expired.id]
        assert await db.fetchval("select count(*) from push where campaign_id = any ($1::text[])", ids) == 0
        audit = await db.fetchrow(
            "select what, way from audit where campaign_id = $1 order by at desc", rejected.id
        )
    assert audit is not None
    assert (audit["what"], audit["way"]) == ("reject", "update")


@together
async def test_the_second_of_two_stages_is_cancelled(field: Field) -> None:
    """The pilot's phones are accepted, the rest's accepted or cancelled: every phone in one, exactly."""
    campaign = await Campaign.start(
        field, pace=1_000, stages=[{"name": "pilot", "share": 20}, {"name": "rest"}]
    )
    rest = await campaign.push(f"{campaign.id}.rest")
    await rest.until(0.05)
    async with field.client() as clarion:
        await clarion.campaign(campaign.id).cancel(reason="enough")
        acknowledged = time.time()
    shown = await campaign.until(state="cancelled")
    pilot = await campaign.push(f"{campaign.id}.pilot")
    await asyncio.sleep(0.5)  # the sandbox writes its log at least every 0.2 s

    whole, parts = judge.Account(), []
    rows: dict[str, tuple[str, bool]] = {}
    accepted: Counter[str] = Counter()
    for push in (pilot, rest):
        account = judge.Account()
        accepted += judge.read_log(field.stack.log, push.key, account, push.log_start)[1]
        its = await judge.read_ledger(field.stack.facts["database_url"], push.id, account)
        assert not rows.keys() & its.keys()
        rows |= its
        parts.append(account)
    judge.judge_devices(judge.devices_in(field.file), rows, accepted, whole)

    assert whole.holds, whole
    assert len(rows) == whole.devices == PHONES
    assert parts[0].states == {"accepted": parts[0].audience}
    assert set(parts[1].states) == {"accepted", "cancelled"}
    assert parts[1].states["accepted"] == parts[1].accepted_requests
    assert max(accepted.values()) == 1
    assert parts[1].last_request - acknowledged <= 2
    assert (shown["total"], shown["success"]) == (PHONES, accepted.total())
    async with field.stack.database() as db:
        wrong = await db.fetchval(
            "select count(*) from delivery where push_no = $1 and slice_of(user_no, $2) >= 200000",
            pilot.push_no,
            campaign.id,
        )
    assert wrong == 0
