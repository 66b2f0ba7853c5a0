"""`clarion campaign …` on the store alone: what it shows, and words with --direct while Temporal is down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from clarion.model.spec import CampaignSpec
from clarion.store import campaign as campaigns
from clarion.store.database import Database
from starters.cli import invoke
from tests.support.ground import MESSAGE, Ground

Clarion = Callable[..., Awaitable[str]]


@pytest.fixture
def clarion(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Clarion:
    """Run a command line against this test's database; what it printed."""
    monkeypatch.setenv("CLARION_DATABASE_URL", database_url)
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("COLUMNS", "200")

    async def run(*words: str, code: int = 0) -> str:
        ended = await asyncio.to_thread(invoke, ["campaign", *words])
        printed = capsys.readouterr()
        assert ended == code, printed.err
        return printed.out if code == 0 else printed.err

    return run


async def opened(db: Database, id: str = "spring", **more: Any) -> str:
    """A campaign in two stages that waits for approval; the reference of its content."""
    ground = await Ground.lay(db, 30)
    words = {"app": ground.app, "message": MESSAGE, "audience": {"everybody": True}, "title": "Spring"}
    stages = {"stages": [{"name": "pilot", "share": 20}, {"name": "rest"}], "approval": {"within": "1h"}}
    await campaigns.open_campaign(db, CampaignSpec.model_validate(words | stages | more), id)
    return (await campaigns.advance(db, id)).progress.content


async def test_show_and_list_say_what_it_waits_for(db: Database, clarion: Clarion) -> None:
    """Its stages, what can be said to it, and for programs the same as JSON."""
    content = await opened(db)

    people, listed = await clarion("show", "spring"), await clarion("list")
    shown = json.loads(await clarion("show", "spring", "--json"))[0]

    assert "pending: waits for approval before stage pilot until" in people
    assert f"content {content} (version 1)" in people
    assert "next: clarion campaign approve, clarion campaign reject" in people
    assert "the rest" in people
    assert "waits for approval" in listed
    assert (shown["state"], shown["waits_for"], shown["pushes"]) == ("pending", "approval", [])
    assert shown["next"][:2] == ["approve", "reject"]
    assert [stage["push_id"] for stage in shown["stages"]] == ["spring.pilot", "spring.rest"]


async def test_approve_and_reject_without_temporal(db: Database, clarion: Clarion) -> None:
    """Bound to what it has now, or to the reference given, with or without its first word."""
    content = await opened(db)

    wrong = await clarion("approve", "spring", "--direct", "--content", "00" * 32, code=1)
    right = await clarion("approve", "spring", "--direct", "--content", content.removeprefix("content:"))
    again = await clarion("approve", "spring", "--direct")
    await campaigns.advance(db, "spring")
    late = await clarion("reject", "spring", "--direct", "--reason", "no", code=1)

    assert "it has other content now" in wrong
    assert f"approved {content}; hold none" in right
    assert "it was so before" in again
    assert "a push of it is open" in late
    rows = await db.fetch(
        "select what, way from audit where campaign_id = 'spring' and way <> 'start' order by at"
    )
    assert {tuple(row) for row in rows} == {("approve", "direct"), ("reject", "direct")}


async def test_words_to_a_waiting_campaign_without_temporal(db: Database, clarion: Clarion) -> None:
    """They are in its row, and the next push is opened with them; cancelled, it says so."""
    await opened(db, approval=None)
    held = await clarion("pause", "spring", "--direct", "--reason", "wait")
    await clarion("pace", "spring", "40", "--direct")
    shown = await clarion("show", "spring")
    await clarion("cancel", "spring", "--direct")

    assert "hold paused" in held
    assert "paused" in shown
    assert "pace 40/s" in shown
    pilot = await db.fetchrow("select hold, pace, verdict from push where push_id = 'spring.pilot'")
    assert pilot is not None
    assert tuple(pilot) == (3, 40, "cancelled")


async def test_watch_follows_it_to_its_end(db: Database, clarion: Clarion) -> None:
    """Also when it ends without a push."""
    await opened(db)
    watching = asyncio.ensure_future(clarion("watch", "spring"))
    await asyncio.sleep(0.2)
    await campaigns.command(db, "spring", uuid4(), "ann", "reject", {"reason": "too loud"})
    await campaigns.advance(db, "spring")

    async with asyncio.timeout(20):
        printed = await watching

    assert printed.splitlines()[-1] == "spring: rejected: too loud"


@pytest.mark.parametrize("verb", ["show", "watch", "approve", "pause"])
async def test_an_unknown_campaign_is_named(db: Database, clarion: Clarion, verb: str) -> None:
    """One clear line, exit code 1, and where to look."""
    more = ["--direct"] if verb in ("approve", "pause") else []

    printed = await clarion(verb, "nowhere", *more, code=1)

    assert "no campaign 'nowhere'" in printed
    assert "clarion campaign list" in printed
