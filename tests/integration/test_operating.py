"""The operator's command line on the store alone: looking, and steering while Temporal is down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from clarion.attempt import Stop
from clarion.store.database import Database
from starters.cli import invoke
from tests.support.sending import Bench

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
        ended = await asyncio.to_thread(invoke, words)
        printed = capsys.readouterr()
        assert ended == code, printed.err
        return printed.out if code == 0 else printed.err

    return run


async def sent(bench: Bench, **spec: Any) -> int:
    """A push of which every delivery was accepted."""
    push_no, batches = await bench.push(**spec)
    for batch in batches:
        await bench.process.send(push_no, batch, lease=10, beat=lambda: None, stop=Stop())
    return push_no


async def test_show_and_list_speak_both_languages(db: Database, clarion: Clarion) -> None:
    """Our words, and beside them total, success, failed, invalid tokens, pending | sending | completed."""
    bench = await Bench.make(db, 5)
    await sent(bench, title="The first")

    shown = json.loads(await clarion("push", "show", "p0", "--json"))[0]
    assert {k: shown[k] for k in ("state", "total", "success", "failed", "invalid_tokens", "hold")} == {
        "state": "sending",
        "total": 5,
        "success": 5,
        "failed": 0,
        "invalid_tokens": 0,
        "hold": "none",
    }
    assert "accepted" in await clarion("push", "show", "p0")
    listed = json.loads(await clarion("push", "list", "--json"))
    assert [(line["push_id"], line["title"]) for line in listed] == [("p0", "The first")]
    assert "The first" in await clarion("push", "list", "--open")


async def test_explain_says_why(db: Database, clarion: Clarion) -> None:
    """Each registration of the user with state, time and batch; a user without one gets the reason."""
    bench = await Bench.make(db, 3)
    await sent(bench)
    await db.execute("insert into usr (app_no, user_id) select app_no, 'late' from app")

    fates = json.loads(await clarion("push", "explain", "p0", "u2", "--json"))[0]["fates"]
    assert [(fate["state"], fate["batch"], fate["attempt"]) for fate in fates] == [("accepted", 0, 1)]
    assert "accepted" in await clarion("push", "explain", "p0", "u2")
    assert "not in the audience" in await clarion("push", "explain", "p0", "late")
    assert "no such user" in await clarion("push", "explain", "p0", "nobody", code=1)


async def test_reconcile_finds_a_counter_that_lies(db: Database, clarion: Clarion) -> None:
    """Exit code 0 while rows and counters agree, 1 when they do not."""
    bench = await Bench.make(db, 3)
    await sent(bench)

    assert await clarion("push", "reconcile", "p0") == "audience=3 open=0 bad_batches=0\n"
    await db.execute("update batch set accepted = accepted - 1")
    await clarion("push", "reconcile", "p0", code=1)


async def test_direct_commands_need_no_temporal(db: Database, clarion: Clarion) -> None:
    """With Temporal away, --direct writes control row and audit; without it the error says what is away."""
    bench = await Bench.make(db, 3)
    push_no, _ = await bench.push()

    assert "Temporal does not answer" in await clarion("push", "pause", "p0", code=1)
    assert "hold paused" in await clarion("push", "pause", "p0", "--direct", "--reason", "typo")
    assert "hold none" in await clarion("push", "resume", "p0", "--direct")
    await clarion("push", "pace", "p0", "500", "--direct")
    await clarion("push", "cancel", "p0", "--direct", "--mode", "drain")

    row = await db.fetchrow("select hold, pace, hold_reason from push where push_no = $1", push_no)
    assert row is not None
    assert (row["hold"], row["pace"]) == (1, 500)
    words = await db.fetch("select what, way, args->>'reason' as reason from audit order by at")
    assert [(word["what"], word["way"]) for word in words] == [
        ("pause", "direct"),
        ("resume", "direct"),
        ("set", "direct"),
        ("drain", "direct"),
    ]
    assert words[0]["reason"] == "typo"


async def test_unblock_opens_what_the_push_waits_for(db: Database, clarion: Clarion) -> None:
    """The blocked lanes of the push are opened and named with the reason they had."""
    bench = await Bench.make(db, 3)
    await bench.push()
    await db.execute("update credential set secret = '\\x00'")
    number = await bench.process.reasons.intern(db, "scripted:InvalidKey")
    await bench.process.ledger.block(1, 1, True, number)

    assert "was scripted:InvalidKey" in await clarion("push", "unblock", "p0")
    assert "no lane" in await clarion("push", "unblock", "p0")
    assert await db.fetchval("select blocked from credential_state") is False


@pytest.mark.parametrize("verb", ["show", "watch", "pause", "reconcile", "unblock"])
async def test_an_unknown_id_is_named(db: Database, clarion: Clarion, verb: str) -> None:
    """One clear line, exit code 1."""
    more = ["--direct"] if verb == "pause" else []

    assert "no push 'nowhere'" in await clarion("push", verb, "nowhere", *more, code=1)


@pytest.mark.parametrize("rate", ["0", "-5", "fast", "inf"])
async def test_a_pace_is_a_number_above_zero(db: Database, clarion: Clarion, rate: str) -> None:
    """Wrong usage: exit code 2, and nothing was written."""
    assert "above 0" in await clarion("push", "pace", "p0", "--direct", "--", rate, code=2)
    assert await db.fetchval("select count(*) from audit") == 0
