"""FCM topics from the client to the sandbox: who is subscribed, what a topic is sent, what the audit says."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from activities.topics import Topics
from clarion.client import Clarion
from clarion.errors import AlreadyExists, BadInput, BadSpec, ClarionError, CommandRefused, NotFound
from clarion.model.message import Message, Text
from clarion.model.topic import TopicChange, TopicChanged, TopicSend
from clarion.sandbox.sandbox import Sandbox
from clarion.senders import fcm_topics
from clarion.store import apps
from clarion.store import topics as stored
from clarion.store.database import Database
from clarion.store.intake import Intake
from clarion.store.locales import Locales
from starters.cli import invoke
from tests.support.senders import SEAL, app_at, fcm_tokens, process
from workers import runtime

_numbers = itertools.count(1)  # the sandbox remembers who is subscribed
MESSAGE = Message(texts={"default": Text(title="To", body="all")})


@dataclass
class Stage:
    """A client, with and without a database of its own, and an app with ten phones."""

    clarion: Clarion
    bare: Clarion
    db: Database
    sandbox: Sandbox
    tokens: list[str]

    def change(self, *users: str, topic: str = "news", subscribe: bool = True) -> TopicChange:
        """A change of subscriptions."""
        return TopicChange(app="shop", topic=topic, users=users, subscribe=subscribe)

    async def titles(self, n: int) -> list[str]:
        """What phone n was shown."""
        return [shown["title"] for shown in await self.sandbox.shown(self.tokens[n])]


@pytest.fixture
async def stage(db: Database, sandbox: Sandbox, temporal_address: str) -> AsyncIterator[Stage]:
    """Workers for topics, on a real Temporal and the sandbox."""
    from clarion.store import devices

    app_no = await app_at(sandbox, db)
    intake = await Intake.load(db, await apps.get(db, "shop"))
    tokens = fcm_tokens(10, first=1_000 * next(_numbers))
    fields = [{"user_id": f"u{n}", "platform": "android", "token": token} for n, token in enumerate(tokens)]
    await devices.register(db, await Locales.load(db), intake, fields)
    assert intake.app_no == app_no
    client = await Client.connect(temporal_address, data_converter=pydantic_data_converter)
    async with process(db) as lanes, contextlib.AsyncExitStack() as workers:
        await workers.enter_async_context(runtime.control_worker(client))
        await workers.enter_async_context(runtime.topic_worker(client, Topics(db, lanes, SEAL)))
        yield Stage(Clarion(client, db), Clarion(client), db, sandbox, tokens)


async def audits(db: Database) -> list[tuple[str, str]]:
    """Who said what to topics."""
    rows = await db.fetch("select who, what from audit where way = 'topic' order by at")
    return [(row["who"], row["what"]) for row in rows]


async def test_subscribe_send_unsubscribe(stage: Stage) -> None:
    """Who is subscribed gets it, who left does not; a word is an audit row and no row of the ledger."""
    both = await stage.clarion.subscribe(stage.change("u0", "u1"))
    left = await stage.clarion.subscribe(stage.change("u1", subscribe=False))
    sent = await stage.clarion.send_topic(TopicSend(app="shop", topic="news", message=MESSAGE, by="ann"))

    assert (both, left) == (TopicChanged(changed=2), TopicChanged(changed=1))
    assert sent.accepted
    assert [await stage.titles(n) for n in range(3)] == [["To"], [], []]
    assert await audits(stage.db) == [("", "subscribe"), ("", "unsubscribe"), ("ann", "send-topic")]
    assert await stage.db.fetchval("select count(*) from push") == 0


async def test_a_temporal_address_alone_is_enough(stage: Stage) -> None:
    """A condition, from a client without a database; the message travels with the word then."""
    await stage.bare.subscribe(stage.change("u0", topic="a"))
    await stage.bare.subscribe(stage.change("u0", "u1", topic="b"))
    word = TopicSend(app="shop", condition="'b' in topics && !('a' in topics)", message=MESSAGE)
    assert (await stage.bare.send_topic(word)).accepted

    assert [await stage.titles(n) for n in range(2)] == [[], ["To"]]


async def test_the_same_id_is_the_same_word(stage: Stage) -> None:
    """Said again it is answered alike and not sent again; another word under its id is refused."""
    await stage.clarion.subscribe(stage.change("u0"))
    word = TopicSend(app="shop", topic="news", message=MESSAGE)
    first = await stage.clarion.send_topic(word, id=f"spring-{id(stage)}")
    again = await stage.clarion.send_topic(word, id=f"spring-{id(stage)}")

    assert first == again
    assert await stage.titles(0) == ["To"]
    assert [what for _, what in await audits(stage.db)] == ["subscribe", "send-topic"]
    with pytest.raises(AlreadyExists, match="another one"):
        await stage.clarion.send_topic(word.model_copy(update={"topic": "sport"}), id=f"spring-{id(stage)}")


async def test_what_google_says_of_single_ones_is_data(stage: Stage) -> None:
    """Dead registrations end here as well; unknown users are named."""
    stage.sandbox.bury({"provider": "fcm", "tokens": stage.tokens[1:3]})
    done = await stage.clarion.subscribe(stage.change("u0", "u1", "u2", "nobody"))

    assert (done.changed, done.unknown) == (1, ("nobody",))
    assert [(one.user_id, one.reason, one.retired) for one in done.refused] == [
        ("u1", "NOT_FOUND", True),
        ("u2", "NOT_FOUND", True),
    ]
    rows = await stage.db.fetch(
        "select status, n.name from registration r left join reason n on n.reason_no = r.retired_reason "
        "order by registration_no limit 3"
    )
    assert [tuple(row) for row in rows] == [(1, None), (3, "fcm:UNREGISTERED"), (3, "fcm:UNREGISTERED")]


async def test_all_unknown_is_nobodys_end(stage: Stage) -> None:
    """Google knows none of them: perhaps the project is wrong, so nobody is retired for it."""
    stage.sandbox.bury({"provider": "fcm", "tokens": stage.tokens[:2]})
    done = await stage.clarion.subscribe(stage.change("u0", "u1"))

    assert [one.retired for one in done.refused] == [False, False]
    assert await stage.db.fetchval("select count(*) from registration where status = 1") == 10


async def test_a_registration_made_anew_lives(stage: Stage) -> None:
    """Google's word is older than the registration: it stays."""
    number = await stage.db.fetchval("select max(registration_no) from registration")
    seen = await stage.db.fetchval("select now() - interval '1 h'")

    assert await stage.db.fetchval("select count(*) from registration where status = 1") == 10
    assert await stored.retire(stage.db, [number], seen, "fcm:UNREGISTERED") == set()


async def test_trouble_passes(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Google is busy for a moment, and the access token has run out: everybody is subscribed in the end."""
    monkeypatch.setattr(fcm_topics, "PAUSE", 0.05)
    await stage.clarion.subscribe(stage.change("u0"))
    await stage.sandbox.add_rule({"provider": "fcm", "status": 503, "reason": "UNAVAILABLE", "first": 3})
    stage.sandbox.oauth.forget()
    done = await stage.clarion.subscribe(stage.change(*(f"u{n}" for n in range(10))))

    assert done == TopicChanged(changed=10)


@pytest.mark.parametrize(
    ("changes", "kind", "said"),
    [
        ({"app": "nowhere"}, NotFound, "no app named 'nowhere'"),
        ({"credential": "other"}, NotFound, "other"),
        ({"credential": "com.example.clarion"}, BadInput, "topics are FCM's"),
        ({"content": "content:" + "0" * 64, "message": None}, NotFound, "no such content"),
        ({"message": Message(texts={"default": Text(body="x" * 2_100)})}, BadSpec, "over the limit"),
        ({"topic": "a b"}, BadSpec, "a topic is 1 to 900"),
    ],
    ids=["app", "credential", "provider", "content", "too large", "topic"],
)
async def test_words_that_cannot_be_done(
    stage: Stage, changes: dict[str, object], kind: type[ClarionError], said: str
) -> None:
    """They fail at once, with the reason, whoever forgot to check them."""
    word = TopicSend(app="shop", topic="news", message=MESSAGE).model_copy(update=changes)

    with pytest.raises(kind, match=said):
        await stage.bare.send_topic(word)
    assert await audits(stage.db) == []


async def test_a_blocked_credential_sends_nothing(stage: Stage) -> None:
    """As for pushes: somebody must unblock it first."""
    await stage.db.execute(
        "insert into credential_state (app_no, lane, blocked, reason) values (1, 2, true, 0)"
    )

    with pytest.raises(CommandRefused, match="blocked"):
        await stage.clarion.subscribe(stage.change("u0"))


async def test_a_refused_message_is_data(stage: Stage) -> None:
    """Google refuses the message for good: that is an answer, with its reason."""
    await stage.sandbox.add_rule({"provider": "fcm", "status": 400, "reason": "INVALID_ARGUMENT", "first": 1})
    sent = await stage.clarion.send_topic(TopicSend(app="shop", topic="news", message=MESSAGE))

    assert not sent.accepted
    assert sent.reason.startswith("fcm:")


async def test_the_command_line(
    stage: Stage,
    database_url: str,
    temporal_address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Users from a file in pieces, a message from a file; exit codes say whether everything went well."""
    monkeypatch.setenv("CLARION_DATABASE_URL", database_url)
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_address)
    monkeypatch.setattr("starters.fcm.USERS_A_CALL", 3)
    users, message = tmp_path / "users", tmp_path / "message.yaml"
    users.write_text("".join(f"u{n}\n" for n in range(8)) + "\nnobody\n")
    message.write_text("texts: {default: {title: To, body: all}}")

    async def clarion(*words: str) -> int:
        return await asyncio.to_thread(invoke, ["fcm", *words])

    assert await clarion("subscribe", "shop", "news", str(users), "--user", "u9") == 0
    assert "9 registrations subscribed" in capsys.readouterr().out
    assert await clarion("unsubscribe", "shop", "news", "--user", "u9", "--json") == 0
    assert json.loads(capsys.readouterr().out)["changed"] == 1
    assert await clarion("send-topic", "shop", str(message), "--topic", "news") == 0
    assert [await stage.titles(n) for n in (7, 8, 9)] == [["To"], [], []]
    assert len(await audits(stage.db)) == 4 + 1 + 1

    assert await clarion("subscribe", "shop", "news") == 1
    assert "nobody is named" in capsys.readouterr().err
    assert await clarion("send-topic", "shop", str(message), "--condition", "'a' in") == 1
    assert "cannot be read from character 1" in capsys.readouterr().err
