"""The words that carry something: edited content, another time, a later deadline, a retry; and garbage."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from temporalio.api.common.v1 import Payload, Payloads, WorkflowExecution
from temporalio.api.workflowservice.v1 import SignalWorkflowExecutionRequest
from temporalio.client import WorkflowUpdateFailedError
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import ApplicationError

from clarion.client import Clarion
from clarion.errors import BadInput, BadSpec, CommandRefused, NotFound
from clarion.model.message import Message, Text
from clarion.store import push as pushes
from clarion.store.database import Database
from starters.cli import invoke
from tests.support import histories
from tests.support.engine import Engine, Push, running_engine
from tests.support.postgres import Databases

EDITED = Message(texts={"default": Text(title="Edited", body="there")})
LONG = Message(texts={"default": Text(title="Long", body="x" * 5_000)})
HUGE = Message(texts={"default": Text(title="Huge", body="x" * 9_000)})


@pytest.fixture(scope="module")
async def url(databases: Databases) -> AsyncIterator[str]:
    """The module's database."""
    url = await databases.migrated()
    yield url
    await databases.drop(url)


@pytest.fixture(scope="module")
async def engine(url: str, temporal_address: str) -> AsyncIterator[Engine]:
    """One engine for the module: every test has its own app."""
    db = await Database.connect(url, max_size=16)
    async with running_engine(db, temporal_address) as running:
        yield running
    await db.close()


@pytest.fixture
def stored(engine: Engine) -> Clarion:
    """A client with the database: content goes to the store first."""
    return Clarion(engine.client, engine.db)


async def audit(push: Push) -> list[dict[str, Any]]:
    """What was said to a push, in order: what, who, way and whether it was done."""
    rows = await push.engine.db.fetch(
        "select what, who, way, (answer->>'ok')::boolean as ok, args, before, after"
        " from audit join push using (push_no)"
        " where push_id = $1 and way not in ('clarion', 'start') order by at",
        push.id,
    )
    return [dict(row) for row in rows]


async def versions(push: Push) -> dict[int, int]:
    """How many deliveries have which content version."""
    rows = await push.engine.db.fetch(
        "select d.content_version, count(*) from delivery d join push using (push_no)"
        " where push_id = $1 and state = 2 group by 1 order by 1",
        push.id,
    )
    return {row[0]: row[1] for row in rows}


def soon(**delta: float) -> datetime:
    """A moment ahead."""
    return datetime.now(UTC) + timedelta(**delta)


# ── edit ──────────────────────────────────────────────────────────────────────────────────────────


async def test_an_edit_is_taken_by_running_batches(engine: Engine, stored: Clarion) -> None:
    """In mid batch, by reference: later rows have version 2, and say so; the audit has no body."""
    app = await engine.app(1_500, rate=500)
    push = await app.push()
    await push.accepted(100)

    answer = await stored.push(push.id).edit_message(EDITED, "a typo", by="ada", command_id="e1")
    await push.accepted((await push.counts())["accepted"] + 300)
    app.sender.rate = float("inf")
    await push.result()

    sent = await versions(push)
    assert set(sent) == {1, 2}
    assert sent[1] >= 100
    assert sum(sent.values()) == 1_500
    (word,) = await audit(push)
    assert (word["what"], word["who"], word["way"], word["ok"]) == ("edit", "ada", "update", True)
    assert (word["before"]["content_version"], word["after"]["content_version"]) == (1, 2)
    assert word["args"] == {"reason": "a typo", "kind": 1, "content": EDITED.reference()}
    assert (answer.version, answer.already) == (1, False)
    push_no = await pushes.find(engine.db, push.id)
    assert await pushes.message(engine.db, push_no, 2) == EDITED


async def test_the_history_has_no_content_of_an_edit_by_reference(engine: Engine, stored: Clarion) -> None:
    """The client stores it first; a raw update with the message inside is the stated exception."""
    app = await engine.app(10)
    push = await app.push(send_at=soon(hours=1))
    canary = Message(texts={"default": Text(title="CANARY-1", body="CANARY-2")})

    await stored.push(push.id).edit_message(canary)

    history = b"".join(
        event.SerializeToString() for event in (await push.handle.workflow.fetch_history()).events
    )
    assert b"CANARY" not in history
    assert canary.reference().encode() in history
    await push.handle.cancel()
    await push.result()


async def test_a_repeated_edit_acts_once(engine: Engine) -> None:
    """The same command id: one version more. The same words under another id: nothing to change."""
    app = await engine.app(10)
    push = await app.push(send_at=soon(hours=1))

    first = await push.handle.edit_message(EDITED, command_id="e1")
    again = await push.handle.edit_message(EDITED, command_id="e1")
    same = await push.handle.edit_message(EDITED, command_id="e2")

    assert again == first
    assert (same.already, same.version) == (True, first.version)
    assert (
        await engine.db.fetchval(
            "select max(version) from push_content c join push using (push_no) where push_id = $1", push.id
        )
        == 2
    )
    await push.handle.cancel()
    await push.result()


async def test_an_edit_that_does_not_fit_is_refused(engine: Engine, stored: Clarion) -> None:
    """Too large for a provider of the app, another kind, an unknown reference: nothing is changed."""
    app = await engine.app(10)
    await engine.db.execute(
        "insert into credential (app_no, lane, name, provider, secret)"
        " values ($1, 2, 'two', 'apns', '\\x00')",
        app.app_no,
    )
    push = await app.push(send_at=soon(hours=1))
    voip = Message.model_validate({"texts": {"default": {"title": "x"}}, "apns": {"push_type": "voip"}})

    for handle in (push.handle, stored.push(push.id)):
        with pytest.raises(BadSpec, match="4096"):
            await handle.edit_message(LONG)
        with pytest.raises(CommandRefused, match="addresses other registrations: start another push"):
            await handle.edit_message(voip)
    with pytest.raises(ApplicationError, match="no such content in this app") as unknown:
        await raw(push, "edit_message", {"content": f"content:{'0' * 64}"})
    with pytest.raises(BadInput, match="larger than 8192 bytes: store it first"):
        await push.handle.edit_message(HUGE)

    assert unknown.value.type == "NotFound"
    assert (await push.row("content_version, control_version")) == (1, 0)
    assert [word["ok"] for word in await audit(push)] == [False, False]
    await push.handle.cancel()
    await push.result()


# ── times ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_push_is_moved_until_the_last_moment(engine: Engine) -> None:
    """Later, then earlier again: it starts at the last acknowledged time, to the second, and not before."""
    app = await engine.app(50)
    push = await app.push(send_at=soon(seconds=3))
    await asyncio.sleep(2)
    await push.handle.reschedule(soon(hours=3), by="ada")
    await asyncio.sleep(1.5)
    assert await push.counts() == {}
    assert (await push.handle.progress()).phase == "scheduled"

    at = soon(seconds=1.5)
    answer = await push.handle.reschedule(at)
    await push.result()

    first = await engine.db.fetchval(
        "select min(d.at) from delivery d join push using (push_no) where push_id = $1 and state = 2", push.id
    )
    assert timedelta() <= first - at < timedelta(seconds=1.5)
    assert answer.version == 2
    word, _ = await audit(push)
    assert (word["what"], word["who"]) == ("reschedule", "ada")
    assert word["before"]["send_at"] < word["after"]["send_at"]


async def test_a_local_time_and_its_zone(engine: Engine) -> None:
    """Raw, as people type it: 09:00 in Taipei; a zone that does not exist is refused with advice."""
    app = await engine.app(1)
    push = await app.push(send_at=soon(hours=1))

    await raw(push, "reschedule", {"send_at": "2099-03-01T09:00:00", "zone": "Asia/Taipei"})

    assert (await push.row("send_at"))[0] == datetime(2099, 3, 1, 1, tzinfo=UTC)
    for zone in ("Mars/Base", "", "../etc/passwd", "localtime"):
        with pytest.raises(ApplicationError, match="no time zone: give an IANA name") as refused:
            await raw(push, "reschedule", {"send_at": "2099-03-01T09:00:00", "zone": zone})
        assert refused.value.type == "BadInput"
    with pytest.raises(ApplicationError, match="needs an offset"):
        await raw(push, "reschedule", {"send_at": "2099-03-01T09:00:00"})
    assert (await push.row("send_at"))[0] == datetime(2099, 3, 1, 1, tzinfo=UTC)
    await push.handle.cancel()
    await push.result()


async def test_times_that_make_no_sense(engine: Engine) -> None:
    """In the past, behind the deadline, before the planned time, after the start: refused with advice."""
    app = await engine.app(600, rate=100)
    push = await app.push(send_at=soon(hours=1), deadline=soon(hours=2))
    await push.handle.extend_deadline(soon(hours=2.5))
    await the_list_says(push, "ExpiresAt", soon(hours=2.5))
    with pytest.raises(CommandRefused, match=r"the time is past \(it is .* UTC\): give a later one"):
        await push.handle.reschedule(soon(hours=-1))
    with pytest.raises(CommandRefused, match=r"its deadline is .*: extend that first"):
        await push.handle.reschedule(soon(hours=3))
    with pytest.raises(CommandRefused, match=r"it is planned for .*: the deadline must be later"):
        await push.handle.extend_deadline(soon(minutes=10))
    with pytest.raises(CommandRefused, match="the deadline is past"):
        await push.handle.extend_deadline(soon(hours=-1))
    await push.handle.reschedule(soon(seconds=1.5))
    await push.accepted(10)
    with pytest.raises(CommandRefused, match=r"it has started \(.*\): pause or cancel it"):
        await push.handle.reschedule(soon(hours=1))

    await push.handle.cancel()
    await push.result()


async def the_list_says(push: Push, name: str, about: datetime) -> None:
    """Wait until a search attribute is about this moment: it follows the operator's word."""
    key = SearchAttributeKey.for_datetime(name)
    async with asyncio.timeout(10):
        while True:
            shown = (await push.handle.workflow.describe()).typed_search_attributes.get(key)
            if shown is not None and abs(shown - about) < timedelta(minutes=1):
                return
            await asyncio.sleep(0.1)


async def test_a_deadline_is_extended(engine: Engine) -> None:
    """Past the old deadline it goes on to its end; afterwards nothing can be extended any more."""
    app = await engine.app(900, rate=100)
    push = await app.push(deadline=soon(seconds=5))
    await push.accepted(20)

    await push.handle.extend_deadline(soon(hours=1), command_id="d1")
    await asyncio.sleep(5)
    app.sender.rate = float("inf")
    result = await push.result()

    assert result["verdict"] == "completed"
    assert await push.counts() == {"audience": 900, "accepted": 900}
    with pytest.raises(NotFound, match="is not running"):
        await push.handle.extend_deadline(soon(hours=1))
    with pytest.raises(CommandRefused, match="is closed"):
        await Clarion(engine.client, engine.db).push(push.id).extend_deadline(soon(hours=1))


async def test_a_deadline_extended_while_the_books_are_about_to_close(engine: Engine) -> None:
    """The word was acknowledged before the close was written: the close is refused and the push goes on."""
    app = await engine.app(300, rate=100)
    push = await app.push(deadline=soon(seconds=60))
    await push.accepted(20)
    push_no = await pushes.find(engine.db, push.id)

    with pytest.raises(CommandRefused, match="the deadline was moved"):
        await pushes.command(engine.db, push_no, uuid4(), "clarion", "close", {"verdict": "expired"})

    app.sender.rate = float("inf")
    assert (await push.result())["verdict"] == "completed"


# ── retry ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_cancelled_push_is_retried(engine: Engine, stored: Clarion) -> None:
    """What was cancelled is sent by a push of its own, exactly that; repeated, it is the same one."""
    app = await engine.app(2_000, rate=800)
    push = await app.push()
    await push.accepted(100)
    with pytest.raises(CommandRefused, match="not closed"):
        await stored.push(push.id).retry(["cancelled"])
    await push.handle.cancel()
    await push.result()
    cancelled = (await push.counts())["cancelled"]
    app.sender.rate = float("inf")

    answer = await stored.push(push.id).retry(["cancelled"], by="ada", command_id="r1")
    again = await stored.push(push.id).retry(["cancelled"], command_id="r1")
    result = await stored.push(answer.push_id).result()

    assert (answer.push_id, answer.audience) == (f"{push.id}.r1", cancelled)
    assert again == answer.model_copy(update={"already": True})
    assert result["counts"]["accepted"] == cancelled
    twice = await engine.db.fetchval(
        "select count(*) from (select registration_no from delivery d join push p using (push_no)"
        " where p.push_id = any ($1) and d.state = 2 group by 1 having count(*) > 1) t",
        [push.id, answer.push_id],
    )
    assert twice == 0
    assert (await stored.push(push.id).retry(["cancelled"], command_id="r1")).push_id == answer.push_id
    with pytest.raises(CommandRefused, match=r"has taken these rows"):
        await stored.push(push.id).retry(["cancelled"])


async def test_a_campaign_is_retried_by_its_pushes(engine: Engine, stored: Clarion) -> None:
    """One id for all of it: a retry for each push that has such rows, refused when none has."""
    app = await engine.app(500, rate=200)
    name = f"c-{uuid4().hex[:6]}"
    first = await app.push(id=f"{name}.1", campaign=name)
    await first.accepted(10)
    await first.handle.cancel()
    await first.result()
    app.sender.rate = float("inf")
    second = await app.push(id=f"{name}.2", campaign=name)
    await second.result()

    (answer,) = await stored.campaign(name).retry(["cancelled"], command_id="r")
    await stored.push(answer.push_id).result()

    assert answer.push_id == f"{name}.1.r1"
    assert [one.push_id for one in await stored.campaign(name).retry(["cancelled"], command_id="r")] == [
        f"{name}.1.r1"
    ]
    with pytest.raises(CommandRefused, match=rf"{name}\.2 ended in_doubt"):
        await stored.campaign(name).retry(["in_doubt"])
    with pytest.raises(NotFound, match="no campaign"):
        await stored.campaign("nobody").retry()
    with pytest.raises(BadSpec, match="database_url"):
        await engine.clarion.push(name).retry()


# ── the command line ──────────────────────────────────────────────────────────────────────────────


async def test_the_command_line_through_temporal(
    engine: Engine,
    url: str,
    temporal_address: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As an operator types them: obeyed by the workflow, and in the audit."""
    monkeypatch.setenv("CLARION_DATABASE_URL", url)
    monkeypatch.setenv("TEMPORAL_ADDRESS", temporal_address)

    async def clarion(*words: str, code: int = 0) -> str:
        assert await asyncio.to_thread(invoke, ("push", *words)) == code
        printed = capsys.readouterr()
        return printed.err if code else printed.out

    app = await engine.app(40)
    push = await app.push(send_at=soon(hours=1), deadline=soon(hours=2))
    file = tmp_path / "message.yaml"
    file.write_text("texts: {default: {title: Edited, body: there}}")

    assert "edited; hold none, version 1" in await clarion("edit", push.id, str(file), "--reason", "a typo")
    late = soon(hours=3).isoformat()
    assert "version 2" in await clarion("extend-deadline", push.id, late, "--if-version", "1")
    assert "a newer command holds" in await clarion("reschedule", push.id, late, "--if-version", "1", code=1)
    assert "version 3" in await clarion("reschedule", push.id, soon(seconds=2.5).isoformat())
    assert (await push.result())["verdict"] == "completed"
    assert await versions(push) == {2: 40}
    assert "no delivery of" in await clarion("retry", push.id, code=1)
    assert "is closed (completed" in await clarion("extend-deadline", push.id, late, code=1)
    said = [(word["what"], word["way"], word["ok"]) for word in await audit(push)]
    assert said == [
        ("edit", "update", True),
        ("extend", "update", True),
        ("reschedule", "update", False),
        ("reschedule", "update", True),
    ]


# ── refusals ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_word_bound_to_a_version(engine: Engine) -> None:
    """Somebody has spoken since: refused, naming the version and who; bound to the present one it holds."""
    app = await engine.app(10)
    push = await app.push(send_at=soon(hours=1))
    seen = (await push.handle.set_pace(50, by="bob")).version
    await push.handle.set_pace(60, by="bob")

    with pytest.raises(CommandRefused, match=r"a newer command holds \(version 2, by bob\): look"):
        await push.handle.edit_message(EDITED, if_version=seen)
    await push.handle.edit_message(EDITED, if_version=seen + 1)

    assert (await push.row("content_version, control_version")) == (2, 3)
    await push.handle.cancel()
    await push.result()


async def test_a_push_that_nobody_knows(engine: Engine, stored: Clarion) -> None:
    """By either client: not found, and nothing is started by the asking."""
    for client in (engine.clarion, stored):
        handle = client.push("nobody-knows-it")
        for word in (
            handle.edit_message(EDITED),
            handle.reschedule(soon(hours=1)),
            handle.extend_deadline(soon(hours=1)),
        ):
            with pytest.raises(NotFound, match="nobody-knows-it"):
                await word
    with pytest.raises(NotFound, match="nobody-knows-it"):
        await stored.push("nobody-knows-it").retry()


GARBAGE: list[tuple[str, Any, str]] = [
    ("edit_message", None, "exactly one of message and content"),
    ("edit_message", {}, "exactly one of message and content"),
    ("edit_message", {"message": {"texts": {"en": {"title": "x"}}}}, "needs an entry 'default'"),
    ("edit_message", {"message": 7}, "message"),
    ("edit_message", {"message": {}, "content": f"content:{'0' * 64}"}, "exactly one"),
    ("edit_message", {"message": {"no": "such"}}, "Extra inputs"),
    ("edit_message", "content:xyz", "content: String should match"),
    ("edit_message", ["a", "list"], "content"),
    ("reschedule", None, "send_at: Field required"),
    ("reschedule", {"send_at": "next tuesday"}, "send_at: Input should be a valid datetime"),
    ("reschedule", {"send_at": {"a": 1}}, "send_at"),
    ("reschedule", {"send_at": "9999-12-31T23:59:59-12:00"}, "outside the years"),
    ("reschedule", {"send_at": 1e300}, "send_at"),
    ("extend_deadline", True, "deadline"),
    (
        "extend_deadline",
        {"deadline": "2099-01-01T00:00:00Z", "by": "x" * 101},
        "by: String should have at most",
    ),
    ("extend_deadline", {"deadline": "2099-01-01T00:00:00Z", "if_version": -1}, "if_version"),
    ("pause", {"reason": ["not", "text"]}, "reason"),
    ("set_pace", {"pace": "NaN"}, "pace"),
]


async def raw(push: Push, update: str, *inputs: Any) -> Any:
    """As another language or the command line would say it. Raises the ApplicationError of a refusal."""
    try:
        return await push.handle.workflow.execute_update(update, args=list(inputs), id=str(uuid4()))
    except WorkflowUpdateFailedError as error:
        if isinstance(error.cause, ApplicationError):
            raise error.cause from None
        raise


async def test_garbage_is_refused_and_wedges_nothing(engine: Engine) -> None:
    """Whatever is sent as update or signal: an answer that says what is wrong, and the push goes on."""
    app = await engine.app(300, rate=100)
    push = await app.push(send_at=soon(hours=1))
    before = await events(push)

    for update, given, said in GARBAGE:
        with pytest.raises(ApplicationError, match=said):
            await raw(push, update, given)
    for update in ("edit_message", "reschedule", "pause", "no_such_update"):
        with pytest.raises(ApplicationError):
            await raw(push, update, {"one": 1}, {"two": 2}, {"three": 3})
    assert await audit(push) == []
    accepted = [event for event in await events(push) if "UPDATE" in event]
    assert accepted == [event for event in before if "UPDATE" in event]  # a refused update leaves no event

    await garbage_signals(engine, push)
    async with asyncio.timeout(10):
        while [word["what"] for word in await audit(push)] != ["pause", "resume"] * 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    app.sender.rate = float("inf")
    await push.handle.reschedule(soon(seconds=1.5))
    assert (await push.result())["verdict"] == "completed"
    assert await push.counts() == {"audience": 300, "accepted": 300}


async def events(push: Push) -> list[str]:
    """The types of the events of its history."""
    history = await push.handle.workflow.fetch_history()
    return [event.WhichOneof("attributes") or "" for event in history.events]


async def garbage_signals(engine: Engine, push: Push) -> None:
    """Signals that nobody has heard of, and known ones whose useless arguments nobody can decode, either."""
    broken = Payload(metadata={"encoding": b"binary/unheard-of"}, data=b"\x00\xff")
    not_json = Payload(metadata={"encoding": b"json/plain"}, data=b"{not json")
    for name, payloads in (
        ("wake", [broken]),
        ("no_such_signal", [not_json, broken]),
        ("pause", [not_json]),
        ("resume", [Payload()]),
    ):
        await engine.client.workflow_service.signal_workflow_execution(
            SignalWorkflowExecutionRequest(
                namespace=engine.client.namespace,
                workflow_execution=WorkflowExecution(workflow_id=push.handle.workflow_id),
                signal_name=name,
                input=Payloads(payloads=payloads),
                request_id=str(uuid4()),
            )
        )
    await push.handle.workflow.signal("pause", args=[None, {"x": [1, 2, 3]}])
    await push.handle.workflow.signal("resume", "text")


async def test_many_signals_in_a_row(engine: Engine) -> None:
    """Half a hundred, faster than they can be written: each acts once, in order, and the last one stands."""
    app = await engine.app(10)
    push = await app.push(send_at=soon(hours=1))
    await pushes_there(push)
    said = ["pause", "resume"] * 25 + ["pause"]

    for name in said:
        await push.handle.workflow.signal(name)
    async with asyncio.timeout(20):
        while len(await audit(push)) < len(said):  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    answer = await push.handle.set_pace(70)

    assert [word["what"] for word in await audit(push)] == [*said, "set"]
    assert await push.row("hold, pace") == (2, 70)
    assert answer.version == len(said) + 1
    await push.handle.cancel()
    await push.result()


async def test_words_while_the_workflow_is_away(engine: Engine, stored: Clarion) -> None:
    """Its workflow was terminated: the client starts it again and the edit is obeyed."""
    app = await engine.app(100)
    push = await app.push(send_at=soon(hours=1))
    await push.handle.progress()
    await pushes_there(push)
    await push.handle.workflow.terminate("a test")

    await stored.push(push.id).edit_message(EDITED)
    await stored.push(push.id).reschedule(soon(seconds=1.5))

    assert (await push.result())["verdict"] == "completed"
    assert await versions(push) == {2: 100}


async def pushes_there(push: Push) -> None:
    """Wait until the ledger has it."""
    async with asyncio.timeout(10):
        while await push.row("push_no") is None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_the_histories_of_this_module_replay(engine: Engine) -> None:
    """Whatever was said: the code decides the same again."""
    replayer = histories.replayer()
    replayed = 0
    query = "WorkflowType = 'PushWorkflow' AND ExecutionStatus != 'Running'"
    async for execution in engine.client.list_workflows(query, limit=20):
        handle = engine.client.get_workflow_handle(execution.id, run_id=execution.run_id)
        await replayer.replay_workflow(await handle.fetch_history())
        replayed += 1

    assert replayed >= 12
