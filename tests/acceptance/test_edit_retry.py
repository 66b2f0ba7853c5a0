"""Content edited in mid run, and deliveries of one reason tried again: by the sandbox's log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.field import PHONES, Field, Push
from tests.support import judge

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROWS = """
select c.provider, r.token, d.state, d.content_version, n.name as reason
from delivery_now d
join registration r using (registration_no)
join credential c on c.app_no = r.app_no and c.lane = d.lane
left join reason n on n.reason_no = d.reason
where d.push_no = $1
"""


def content(title: str, body: str) -> str:
    """What the log calls this content."""
    return hashlib.sha256(f"{title}\x00{body}".encode()).hexdigest()


async def rows(push: Push) -> dict[str, dict[str, Any]]:
    """The push's rows by the address that the log has for them."""
    async with push.stack.database() as db:
        found = await db.fetch(ROWS, push.push_no)
    return {judge.address(row["provider"], row["token"]): dict(row) for row in found}


def last_requests(entries: Iterator[dict[str, Any]] | list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The last accepted request of every address."""
    return {entry["token"]: entry for entry in entries if entry["status"] in judge.ACCEPTED_IN_LOG}


async def test_an_edit_in_mid_run(field: Field, tmp_path: Path) -> None:
    """Two seconds after the word all has the new content; each row has the version of its request.

    One that does not fit was refused before with the limit, and changed nothing.
    """
    push = await field.start(pace=1_000)
    await push.until(0.25)
    message = tmp_path / "message.yaml"
    message.write_text(json.dumps({"texts": {"default": {"title": "Edited", "body": "Another body"}}}))
    too_long = tmp_path / "too-long.yaml"
    too_long.write_text(json.dumps({"texts": {"default": {"title": "Long", "body": "x" * 5_000}}}))

    refused = await field.stack.cli("push", "edit", push.id, too_long, check=False)
    before = await push.counts()
    acknowledged = await push.command("edit", str(message), "--reason", "a typo")
    await push.until(0.5)
    await push.hurry()
    account = await push.finished()

    assert account.holds, account
    assert account.states == {"accepted": PHONES}
    assert account.duplicates == 0
    old, new = content(f"Test {push.id}", "A body"), content("Edited", "Another body")
    entries = push.requests()
    late = [entry["t"] - acknowledged for entry in entries if entry["content"] == old]
    assert max(late) <= 2
    assert {entry["content"] for entry in entries} == {old, new}
    ledger, versions = await rows(push), {old: 1, new: 2}
    sent = last_requests(entries)
    assert {address: row["content_version"] for address, row in ledger.items()} == {
        address: versions[entry["content"]] for address, entry in sent.items()
    }
    with_old = sum(entry["content"] == old for entry in sent.values())
    assert with_old >= before["accepted"] >= 0.25 * PHONES
    assert "4096" in refused
    shown = await push.shown()
    assert shown["state"] == "completed"


async def test_a_retry_of_one_reason(field: Field) -> None:
    """Exactly the registrations that ended for it, once, with the old key; repeated it is the same."""
    rules = [
        {"provider": "apns", "token": "0*", "reason": "BadExpirationDate"},
        {"provider": "apns", "token": "1*", "reason": "BadCollapseId"},
    ]
    await field.stack.sandbox("POST", "/faults", {"rules": rules})
    push = await field.start()
    account = await push.finished()
    assert account.holds, account
    wanted = {
        address for address, row in (await rows(push)).items() if row["reason"] == "apns:BadExpirationDate"
    }
    assert len(wanted) >= 300
    assert account.states["rejected"] > len(wanted)
    await field.stack.sandbox("POST", "/clear")
    before = len(push.requests())

    words = ("push", "retry", push.id, "--state", "rejected", "--reason", "BadExpirationDate")
    printed = await field.stack.cli(*words, "--command-id", "one")
    again = await field.stack.cli(*words, "--command-id", "one")
    refused = await field.stack.cli(*words, check=False)
    async with field.stack.database() as db:
        number = await db.fetchval("select push_no from push where push_id = $1", f"{push.id}.r1")
    retry = Push(field, f"{push.id}.r1", number, push.key)
    await retry.finished()

    assert f"push {push.id}.r1 started, {len(wanted):,} deliveries of {push.id} again" in printed
    assert f"push {push.id}.r1 was started before" in again
    assert f"{push.id}.r1" in refused
    assert "has taken these rows" in refused
    tried = push.requests()[before:]  # the log knows a push by its key, and a retry has the old one's
    assert sorted(entry["token"] for entry in tried) == sorted(wanted)
    assert {entry["status"] for entry in tried} == {200}
    ledger = await rows(retry)
    assert set(ledger) == wanted
    assert {row["state"] for row in ledger.values()} == {2}
    assert "bad_batches=0" in await field.stack.cli("push", "reconcile", retry.id)
    chain = [(link["push_id"], link["success"]) for link in (await push.shown())["chain"]]
    assert chain == [(push.id, account.states["accepted"]), (retry.id, len(wanted))]
    assert retry.id in await field.stack.cli("push", "explain", push.id, await a_user(field, wanted))


async def a_user(field: Field, addresses: set[str]) -> str:
    """The user of one of these APNs addresses."""
    async with field.stack.database() as db:
        user: str = await db.fetchval(
            "select user_id from usr join registration using (user_no) where token = $1", min(addresses)
        )
    return user
