"""The command line for edited content, other times and retries, on the store alone and through Temporal."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from clarion.attempt import Stop
from clarion.model.command import RetryInput
from clarion.model.message import Message
from clarion.model.spec import CampaignSpec, PushSpec
from clarion.store import campaign as campaigns
from clarion.store import push as pushes
from clarion.store import retry
from clarion.store.database import Database
from clarion.store.ledger import Ledger
from starters.cli import invoke
from tests.support.sending import Bench

Clarion = Callable[..., Awaitable[str]]
LATER = "2099-03-01T09:00:00+00:00"


@pytest.fixture
def clarion(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Clarion:
    """Run a command line against this test's database, with Temporal away; what it printed."""
    monkeypatch.setenv("CLARION_DATABASE_URL", database_url)
    monkeypatch.setenv("TEMPORAL_ADDRESS", "127.0.0.1:1")
    monkeypatch.setenv("COLUMNS", "200")

    async def run(*words: str, code: int = 0) -> str:
        ended = await asyncio.to_thread(invoke, words)
        printed = capsys.readouterr()
        assert ended == code, printed.err
        return printed.out if code == 0 else printed.err

    return run


@pytest.fixture
async def planned(db: Database) -> int:
    """A push `p` of an app with an APNs credential, planned for tomorrow."""
    bench = await Bench.make(db, 3)
    await db.execute(
        "insert into credential (app_no, lane, name, provider, secret)"
        " select app_no, 2, 'two', 'apns', '\\x00' from app"
    )
    spec = {
        "app": "bench",
        "message": {"texts": {"default": {"title": "x"}}},
        "audience": {"everybody": True},
    }
    at = datetime.now(UTC) + timedelta(days=1)
    given = PushSpec.model_validate(spec | {"send_at": at, "deadline": at + timedelta(days=1)})
    return (await pushes.open_push(bench.db, given, "p")).push_no


def message(directory: Path, title: str = "Edited", **more: Any) -> str:
    """A file with a message."""
    path = directory / "message.yaml"
    path.write_text(json.dumps({"texts": {"default": {"title": title, "body": "b"}}} | more))
    return str(path)


async def test_edit_directly(db: Database, clarion: Clarion, planned: int, tmp_path: Path) -> None:
    """Content, version and audit, without Temporal; the same again changes nothing."""
    file = message(tmp_path)

    assert "edited; hold none, version 1" in await clarion("push", "edit", "p", file, "--direct")
    assert "edited (it was so before)" in await clarion("push", "edit", "p", file, "--direct")

    assert (await pushes.message(db, planned, 2)).texts["default"].title == "Edited"
    rows = await db.fetch("select what, way, args->>'content' as content from audit order by at")
    assert [(row["what"], row["way"]) for row in rows] == [("edit", "direct")] * 2
    assert rows[0]["content"].startswith("content:")


async def test_a_campaign_directly(db: Database, clarion: Clarion, planned: int, tmp_path: Path) -> None:
    """The same words to a campaign: its row has them, and its push when that is opened."""
    text = {"texts": {"default": {"title": "x"}}}
    words = {"app": "bench", "message": text, "audience": {"everybody": True}, "approval": {}}
    at = datetime.now(UTC) + timedelta(days=1)
    await campaigns.open_campaign(db, CampaignSpec.model_validate(words | {"send_at": at}), "spring")

    await clarion("campaign", "edit", "spring", message(tmp_path), "--direct")
    await clarion("campaign", "extend-deadline", "spring", "2099-04-01T00:00:00Z", "--direct")
    await clarion("campaign", "reschedule", "spring", LATER, "--direct", "--if-version", "2")
    long = message(tmp_path, "x" * 5_000)
    assert "4096" in await clarion("campaign", "edit", "spring", long, "--direct", code=1)

    campaign = await campaigns.progress(db, "spring")
    edited = Message.model_validate({"texts": {"default": {"title": "Edited", "body": "b"}}})
    assert campaign.content == edited.reference()
    assert campaign.deadline == datetime(2099, 4, 1, tzinfo=UTC)
    assert await db.fetchval("select next_at from campaign") == datetime(2099, 3, 1, 9, tzinfo=UTC)
    words_said = await db.fetch(
        "select what, way from audit where campaign_id = 'spring' and way <> 'start' order by at"
    )
    assert [tuple(word) for word in words_said] == [
        ("edit", "direct"),
        ("extend", "direct"),
        ("reschedule", "direct"),
    ]


async def test_an_edit_that_does_not_fit(
    db: Database, clarion: Clarion, planned: int, tmp_path: Path
) -> None:
    """Too large for APNs, not a message, no such file: said plainly, nothing is changed."""
    long = message(tmp_path, "x" * 5_000)
    assert "4096" in await clarion("push", "edit", "p", long, "--direct", code=1)
    nonsense = message(tmp_path, nonsense=1)
    assert "nonsense: Extra inputs" in await clarion("push", "edit", "p", nonsense, "--direct", code=1)
    assert "cannot be read" in await clarion("push", "edit", "p", "nowhere.yaml", code=1)
    assert "Temporal does not answer" in await clarion("push", "edit", "p", message(tmp_path), code=1)
    assert "no push 'nobody'" in await clarion(
        "push", "edit", "nobody", message(tmp_path), "--direct", code=1
    )

    assert await db.fetchval("select control_version from push") == 0
    assert await db.fetchval("select count(*) from push_content") == 1


async def test_other_times_directly(db: Database, clarion: Clarion, planned: int) -> None:
    """With an offset, or local time and its zone; bound to a version it is refused when that is over."""
    await clarion("push", "extend-deadline", "p", "2099-04-01T00:00:00Z", "--direct")
    assert "planned for 2099-03-01" in await clarion("push", "reschedule", "p", LATER, "--direct")
    assert await db.fetchval("select send_at from push") == datetime(2099, 3, 1, 9, tzinfo=UTC)

    zoned = ("2099-03-02 09:00", "--zone", "Asia/Taipei", "--direct")
    await clarion("push", "reschedule", "p", *zoned, "--if-version", "2")
    assert await db.fetchval("select send_at from push") == datetime(2099, 3, 2, 1, tzinfo=UTC)
    refused = await clarion("push", "reschedule", "p", LATER, "--direct", "--if-version", "2", code=1)
    assert "a newer command holds (version 3, by " in refused


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("reschedule", "p", "2020-01-01T00:00:00Z"), "the time is past"),
        (("reschedule", "p", "2098-01-01T00:00:00Z"), "its deadline is"),
        (("reschedule", "p", "2099-03-01T09:00:00"), "needs an offset"),
        (
            ("reschedule", "p", "2099-03-01T09:00:00", "--zone", "Mars/Base"),
            "no time zone: give an IANA name",
        ),
        (("reschedule", "p", "tomorrow"), "'tomorrow': Input should be a valid datetime"),
        (("extend-deadline", "p", "2020-01-01T00:00:00Z"), "the deadline is past"),
    ],
    ids=["past", "behind the deadline", "no offset", "no zone", "no time", "past deadline"],
)
async def test_times_that_make_no_sense(
    db: Database, clarion: Clarion, planned: int, words: tuple[str, ...], said: str
) -> None:
    """One clear line and exit code 1; nothing is changed."""
    assert said in await clarion("push", *words, "--direct", code=1)
    assert await db.fetchval("select control_version from push") == 0


async def test_words_to_a_closed_push(db: Database, clarion: Clarion, planned: int, tmp_path: Path) -> None:
    """A closed push stays closed, and says what can be done instead."""
    await clarion("push", "cancel", "p", "--direct")
    await Ledger(db).close(planned)
    await pushes.close_push(db, planned)

    for words in (
        ("edit", "p", message(tmp_path)),
        ("reschedule", "p", LATER),
        ("extend-deadline", "p", LATER),
    ):
        refused = await clarion("push", *words, "--direct", code=1)
        assert (
            "closed: cancelled. A closed push stays closed: start another, or retry its failures" in refused
        )


async def test_show_and_explain_follow_the_chain(db: Database, clarion: Clarion) -> None:
    """A push that was tried again names who did it, and the other way round."""
    bench = await Bench.make(db, 4)
    push_no, (batch,) = await bench.push()
    await pushes.command(db, push_no, UUID(int=1), "ada", "close", {"verdict": "cancelled"})
    await Ledger(db).close(push_no)
    await pushes.close_push(db, push_no)
    words = RetryInput(states=("cancelled",))
    answer = await retry.retry(db, push_no, words, UUID(int=2))
    again = await pushes.find(db, answer.push_id)
    await pushes.plan(db, again)
    await pushes.freeze(db, again, 0)
    await bench.process.send(again, batch, lease=10, beat=lambda: None, stop=Stop())

    assert "tried again by p0.r1 (sending, 4 of 4 accepted)" in await clarion("push", "show", "p0")
    assert "tries again p0 (cancelled, 0 of 4 accepted)" in await clarion("push", "show", "p0.r1")
    shown = json.loads(await clarion("push", "show", "p0", "--json"))[0]
    assert [(link["push_id"], link["success"]) for link in shown["chain"]] == [("p0", 0), ("p0.r1", 4)]
    fates = json.loads(await clarion("push", "explain", "p0", "u2", "--json"))[0]["fates"]
    assert [(fate["push_id"], fate["state"]) for fate in fates] == [
        ("p0", "cancelled"),
        ("p0.r1", "accepted"),
    ]


@pytest.mark.parametrize("state", ["accepted", "dead,planned", ",", "DEAD"])
async def test_states_that_cannot_be_retried(db: Database, clarion: Clarion, state: str) -> None:
    """Wrong usage: exit code 2, naming those there are."""
    assert "give rejected, expired" in await clarion("push", "retry", "p0", "--state", state, code=2)
