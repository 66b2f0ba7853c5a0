"""Pushes on a real Temporal server and a real database, with a provider that is not there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowExecutionStatus, WorkflowFailureError, WorkflowUpdateFailedError
from temporalio.exceptions import ApplicationError

from activities.housekeeping import Housekeeping
from clarion import names
from clarion.errors import CommandRefused
from clarion.model.command import CancelMode, RetryInput
from clarion.model.spec import CampaignSpec
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind
from clarion.store import push as pushes
from clarion.store import report
from clarion.store import retry as retries
from clarion.store.database import Database
from clarion.store.reasons import Reasons
from tests.support import histories
from tests.support.engine import Engine, Push, running_engine
from tests.support.postgres import Databases


@pytest.fixture(scope="module")
async def engine(databases: Databases, temporal_address: str) -> AsyncIterator[Engine]:
    """One engine for the module: every test has its own app."""
    url = await databases.migrated()
    db = await Database.connect(url, max_size=16)
    async with running_engine(db, temporal_address) as running:
        yield running
    await db.close()
    await databases.drop(url)


async def said(engine: Engine, push: Push) -> list[tuple[str, str, str]]:
    """What people have said to it, by the audit: what, way, who."""
    rows = await engine.db.fetch(
        "select what, way, who from audit join push using (push_no)"
        " where push_id = $1 and way <> 'clarion' order by at",
        push.id,
    )
    return [(row["what"], row["way"], row["who"]) for row in rows]


async def quiet(push: Push, seconds: float = 0.6) -> int:
    """How many more are accepted within so many seconds."""
    before = (await push.counts()).get("accepted", 0)
    await asyncio.sleep(seconds)
    return (await push.counts()).get("accepted", 0) - before


async def test_a_push_completes_with_exact_counts(engine: Engine) -> None:
    """Every phone once, the result read back from rows, nothing open, the books balanced."""
    app = await engine.app(3_500)
    push = await app.push()

    result = await push.result()

    assert result["verdict"] == "completed"
    assert {name: n for name, n in result["counts"].items() if n} == {"audience": 3_500, "accepted": 3_500}
    assert await push.counts() == {"audience": 3_500, "accepted": 3_500}


async def test_pause_is_obeyed_and_resume_goes_on_where_it_stood(engine: Engine) -> None:
    """Paused within a second of the answer; afterwards all are accepted and none was sent twice."""
    app = await engine.app(2_000, rate=800)
    push = await app.push()
    await push.accepted(100)

    answer = await push.handle.pause("a typo", by="ada")
    await asyncio.sleep(1.0)

    assert answer.hold == "paused"
    assert await quiet(push) == 0
    assert dict(await push.row("hold_by, hold_reason")) == {"hold_by": "ada", "hold_reason": "a typo"}
    progress = await push.handle.progress()
    assert (progress.phase, progress.hold, progress.hold_reason) == ("running", "paused", "a typo")

    app.sender.rate = float("inf")
    await push.handle.resume()
    await push.result()
    assert await push.counts() == {"audience": 2_000, "accepted": 2_000}
    # The pause was short: the batches kept their places, and `resume` cost no child.
    started = EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED
    events = (await push.handle.workflow.fetch_history()).events
    assert sum(event.event_type == started for event in events) == 2


async def test_cancel_now_keeps_exact_results(engine: Engine) -> None:
    """What was accepted stays accepted, what never started is cancelled, nothing is open."""
    app = await engine.app(3_000, rate=800)
    push = await app.push()
    await push.accepted(100)

    await push.handle.cancel(reason="wrong audience")
    result = await push.result()

    counts = await push.counts()
    assert result["verdict"] == "cancelled"
    assert counts["accepted"] >= 100
    assert counts["cancelled"] > 0
    assert counts["accepted"] + counts["cancelled"] + counts.get("in_doubt", 0) == counts["audience"] == 3_000


async def test_drain_finishes_what_was_begun(engine: Engine) -> None:
    """Batches begun are finished, the others are cancelled whole; pause is refused meanwhile."""
    app = await engine.app(20_000, rate=2_000)  # 16 batches of 1,250, three at a time
    push = await app.push()
    await push.accepted(200)

    answer = await push.handle.cancel(CancelMode.DRAIN)
    with pytest.raises(CommandRefused, match="draining"):
        await push.handle.pause()
    app.sender.rate = float("inf")
    await push.result()

    counts = await push.counts()
    assert answer.hold == "draining"
    assert counts["accepted"] % 1_250 == 0
    assert counts["accepted"] >= 1_250
    assert counts["cancelled"] > 0
    assert counts["accepted"] + counts["cancelled"] == 20_000


async def test_pace_is_kept_over_batches(engine: Engine) -> None:
    """A pace set at the start and changed on the way is kept within a fifth."""
    app = await engine.app(1_500, dealt=True)
    push = await app.push(pace=100)
    await push.accepted(50)

    slow = await quiet(push, 3.0) / 3.0
    await push.handle.set_pace(300)
    await asyncio.sleep(1.5)
    faster = await quiet(push, 2.0) / 2.0
    await push.handle.set_pace(None)
    await push.result()

    assert slow == pytest.approx(100, rel=0.2)
    assert faster == pytest.approx(300, rel=0.2)
    assert await push.counts() == {"audience": 1_500, "accepted": 1_500}


async def test_request_cancellation_closes_the_books(engine: Engine) -> None:
    """Temporal's big button means cancel(now), and the workflow shows as Canceled."""
    app = await engine.app(3_000, rate=800)
    push = await app.push()
    await push.accepted(100)

    await push.handle.workflow.cancel()
    with pytest.raises(WorkflowFailureError):
        await push.result()

    description = await push.handle.workflow.describe()
    counts = await push.counts()
    assert description.status is WorkflowExecutionStatus.CANCELED
    assert (await push.row("verdict, closed_at is not null as closed, hold_by")) == (
        "cancelled", True, "operator",
    )  # fmt: skip
    assert await said(engine, push) == [
        ("start", "start", "operator"),
        ("close", "cancellation", "operator"),
    ]
    assert counts["accepted"] + counts["cancelled"] + counts.get("in_doubt", 0) == 3_000


async def test_a_terminated_push_is_paused_and_resumes_where_it_stood(engine: Engine) -> None:
    """The watch pauses it with the reason; its workflow started again sends the rest and nothing twice."""
    app = await engine.app(3_000, rate=800)
    push = await app.push()
    await push.accepted(100)
    await push.handle.workflow.terminate("a test")
    await engine.db.execute(
        "update push set created_at = now() - interval '1 min' where push_id = $1", push.id
    )

    lost = await Housekeeping(engine.db, engine.client).watch()

    assert push.handle.workflow_id in lost
    row = await push.row("hold, hold_by, hold_reason")
    assert row["hold"] == 2
    assert row["hold_by"] == "clarion"
    assert "terminated" in row["hold_reason"]
    app.sender.rate = float("inf")
    await push.handle.restart()
    await push.handle.resume()
    result = await push.result(40)
    assert result["verdict"] == "completed"
    assert await push.counts() == {"audience": 3_000, "accepted": 3_000}


async def test_a_lost_child_needs_no_rule(engine: Engine) -> None:
    """A batch terminated in the UI is found again by its open rows once its attempt has let go."""
    app = await engine.app(3_000, rate=800)
    push = await app.push()
    await push.accepted(100)

    await engine.client.get_workflow_handle(names.batch_workflow_id(push.id, 0)).terminate("a test")
    app.sender.rate = float("inf")

    result = await push.result(40)
    assert result["verdict"] == "completed"
    assert await push.counts() == {"audience": 3_000, "accepted": 3_000}


async def test_two_pushes_at_once(engine: Engine) -> None:
    """Pushes over the same phones do not disturb each other."""
    app = await engine.app(2_500)
    pair = [await app.push(), await app.push()]

    results = await asyncio.gather(*(push.result() for push in pair))

    assert [result["counts"]["accepted"] for result in results] == [2_500, 2_500]


async def test_a_scheduled_push_starts_on_time(engine: Engine) -> None:
    """Nothing is sent or frozen before its time, and the first answer is there within a second after."""
    app = await engine.app(50)
    send_at = datetime.now(UTC) + timedelta(seconds=3)
    push = await app.push(send_at=send_at)

    await asyncio.sleep(1)
    progress = await push.handle.progress()
    counts = await push.counts()
    await push.result()

    first = await engine.db.fetchval(
        "select min(d.at) from delivery d join push using (push_no) where push_id = $1 and state = 2", push.id
    )
    assert progress.phase == "scheduled"
    assert counts == {}
    assert timedelta() <= first - send_at < timedelta(seconds=1)


async def test_a_scheduled_push_can_be_cancelled_before_it_is_due(engine: Engine) -> None:
    """No audience is frozen any more; the result says that nobody was addressed."""
    app = await engine.app(50)
    push = await app.push(send_at=datetime.now(UTC) + timedelta(hours=1))
    await push.handle.cancel()

    result = await push.result()

    assert result["verdict"] == "cancelled"
    assert await push.counts() == {}


async def test_the_deadline_ends_a_paused_push(engine: Engine) -> None:
    """It runs on during the pause; what was never started is expired."""
    app = await engine.app(2_000, rate=300)
    push = await app.push(deadline=datetime.now(UTC) + timedelta(seconds=4))
    await push.accepted(50)
    await push.handle.pause()

    result = await push.result()

    counts = await push.counts()
    assert result["verdict"] == "expired"
    assert counts["accepted"] + counts["expired"] + counts.get("in_doubt", 0) == 2_000


async def test_who_is_refused_is_tried_through_the_next_provider(engine: Engine) -> None:
    """Once, when all is done: a phone counts once, both rows are explained, a retry takes one of them."""
    app = await engine.app(300)
    other = await app.second_lane(every=2)
    app.sender.outcome = Outcome(OutcomeKind.REJECTED, "null:Gone")
    push = await app.push()

    result = await push.result()

    counts, push_no = result["counts"], result["push_no"]
    assert (counts["audience"], counts["fell_back"]) == (450, 150)
    assert (counts["accepted"], counts["rejected"]) == (150, 300)
    assert other.outcome is ACCEPTED
    progress = await report.progress(engine.db, push_no)
    assert progress.audience == 300
    books = await report.reconcile(engine.db, push_no)
    assert (books.audience, books.fell_back, books.open, books.bad_batches) == (300, 150, 0, 0)
    users = "select user_id from usr join registration r using (user_no) where r.app_no = $1 and r.lane = 2"
    user = await engine.db.fetchval(users, app.app_no)
    fates = (await report.explain(engine.db, app.name, user, push.id)).fates
    assert [(fate.state, fate.passed_on) for fate in fates] == [("rejected", True), ("accepted", False)]
    again = await retries.retry(engine.db, push_no, RetryInput(states=("rejected",)), uuid4())
    assert again.audience == 150


async def test_who_waits_for_a_blocked_credential_goes_by_the_next_provider(engine: Engine) -> None:
    """When all else is done. Who has no other address waits, and goes out when the credential works again."""
    app = await engine.app(300)
    await app.second_lane(every=2)
    await engine.db.execute("update credential set secret = 'sealed' where app_no = $1", app.app_no)
    app.sender.outcome = Outcome(OutcomeKind.BLOCKED, "null:InvalidKey")
    push = await app.push()
    await push.accepted(150)
    app.sender.outcome = ACCEPTED
    waiting = await push.counts()
    workflow = engine.client.get_workflow_handle(names.push_workflow_id(push.id))
    await workflow.execute_update("unblock", {"by": "ada"}, id=str(uuid4()))

    result = await push.result()

    counts = result["counts"]
    assert waiting == {"audience": 450, "accepted": 150, "rejected": 150, "retry": 150}
    assert (counts["audience"], counts["fell_back"]) == (450, 150)
    assert (counts["accepted"], counts["rejected"]) == (300, 150)
    books = await report.reconcile(engine.db, result["push_no"])
    assert (books.audience, books.fell_back, books.open, books.bad_batches) == (300, 150, 0, 0)


async def test_a_push_without_fallback(engine: Engine) -> None:
    """Its author wants one provider or none."""
    app = await engine.app(50)
    await app.second_lane(every=1)
    app.sender.outcome = Outcome(OutcomeKind.REJECTED, "null:Gone")

    result = await (await app.push(fallback=False)).result()

    assert (result["counts"]["audience"], result["counts"]["rejected"]) == (50, 50)


async def test_a_repeated_start_gets_the_stored_result(engine: Engine) -> None:
    """The same id and spec after the end: the result, at once, and not one more request."""
    app = await engine.app(200)
    spec = app.spec()
    first = await engine.clarion.schedule_push(spec, id=app.name)
    before = await first.result()

    again = await engine.clarion.schedule_push(spec, id=app.name)

    assert await again.result() == before
    assert before["counts"]["accepted"] == 200


async def test_the_same_id_with_other_content_is_refused(engine: Engine) -> None:
    """The old push is not returned silently: the workflow fails, saying why."""
    app = await engine.app(20)
    await (await app.push(id=app.name)).result()

    other = await app.push(id=app.name, title="another one")
    with pytest.raises(WorkflowFailureError) as failure:
        await other.result()

    assert isinstance(failure.value.cause, ApplicationError)
    assert failure.value.cause.type == "AlreadyExists"


async def test_signals_do_the_same_as_updates(engine: Engine) -> None:
    """The raw UI and command line suffice: pause, resume, cancel without arguments, or with useless ones."""
    app = await engine.app(2_000, rate=800)
    push = await app.push()
    await push.accepted(50)

    await push.handle.workflow.signal("pause", args=[{"what": "ever"}, 7])
    await asyncio.sleep(1.2)
    assert await quiet(push) == 0
    await push.handle.workflow.signal("resume")
    await push.accepted((await push.counts())["accepted"] + 20)
    await push.handle.workflow.signal("cancel")

    assert (await push.result())["verdict"] == "cancelled"
    rows = await engine.db.fetch(
        "select what, who, way from audit join push using (push_no) where push_id = $1 and way = 'signal'"
        " order by at",
        push.id,
    )
    assert [tuple(row) for row in rows] == [
        ("pause", "operator", "signal"),
        ("resume", "operator", "signal"),
        ("close", "operator", "signal"),
    ]


async def test_who_has_started_it_stands_in_the_audit(engine: Engine) -> None:
    """One row with its time: whom the memo names, else an operator; a repeated start leaves none."""
    app = await engine.app(10)
    due = datetime.now(UTC) + timedelta(hours=1)
    spec = app.spec(send_at=due)
    handle = await engine.clarion.schedule_push(spec, id=f"{app.name}-named", by="ada")
    named, unnamed = Push(engine, handle), await app.push()
    await named.opened()
    await unnamed.result()
    await engine.clarion.schedule_push(spec, id=named.id, by="bob")
    await named.handle.cancel(by="ada")
    await named.result()
    await engine.client.execute_workflow(
        "PushWorkflow", spec, id=f"push/{named.id}", task_queue=names.CONTROL_QUEUE
    )

    assert await said(engine, named) == [("start", "start", "ada"), ("close", "update", "ada")]
    assert await said(engine, unnamed) == [("start", "start", "operator")]
    row = await engine.db.fetchrow(
        "select args, after from audit join push using (push_no) where push_id = $1 and what = 'start'",
        named.id,
    )
    assert row is not None
    assert datetime.fromisoformat(row["args"]["send_at"]) == due
    assert row["after"]["hold"] == "none"


@pytest.mark.parametrize("noun", ["push", "campaign"])
async def test_unblocked_by_an_update(engine: Engine, noun: str) -> None:
    """The lane opens, the push goes on, the audit has who; again it does nothing; nonsense is refused."""
    app = await engine.app(600, rate=100)
    await engine.db.execute("update credential set secret = 'sealed' where app_no = $1", app.app_no)
    if noun == "push":
        push = await app.push()
        workflow = push.handle.workflow
    else:
        spec = CampaignSpec.model_validate(app.spec().model_dump(exclude_unset=True))
        campaign = await engine.clarion.start_campaign(spec, id=f"{app.name}-c")
        push, workflow = Push(engine, engine.clarion.push(campaign.id)), campaign.workflow
    await push.accepted(20)
    reason = await (await Reasons.load(engine.db)).intern(engine.db, "null:Refused")
    block = "select block_lane($1, 1::smallint, true, $2::smallint, 'clarion', 'clarion')"
    await engine.db.execute(block, app.app_no, reason)
    await asyncio.sleep(1.5)
    stood = (await push.counts())["accepted"]

    with pytest.raises(WorkflowUpdateFailedError) as refused:
        await workflow.execute_update("unblock", {"lane": "one"}, id=str(uuid4()))
    first = await workflow.execute_update("unblock", {"by": "ada"}, id=str(uuid4()))
    second = await workflow.execute_update("unblock", id=str(uuid4()))
    app.sender.rate = float("inf")
    await push.result()

    assert "lane: Input should be a valid integer" in str(refused.value.cause)
    assert first["opened"] == ["null (lane 1, was null:Refused)"]
    assert second["opened"] == []
    assert stood < 600
    assert await push.counts() == {"audience": 600, "accepted": 600}
    rows = await engine.db.fetch(
        "select who, way from audit where what = 'unblock' and args->>'app_no' = $1", str(app.app_no)
    )
    assert [tuple(row) for row in rows] == [("ada", "update")]


async def test_a_repeated_command_acts_once(engine: Engine) -> None:
    """The same command id again gives the same answer and changes nothing."""
    app = await engine.app(1_000, rate=200)
    push = await app.push()
    await push.accepted(20)

    first = await push.handle.pause(command_id="p1")
    await push.handle.resume()
    again = await push.handle.pause(command_id="p1")

    assert again == first
    assert (await push.row("hold"))["hold"] == 0
    await push.handle.cancel()
    await push.result()


async def test_a_word_written_directly_is_obeyed(engine: Engine) -> None:
    """With Temporal away the row itself is written: the senders obey, and the loop finds it."""
    app = await engine.app(2_000, rate=800)
    push = await app.push()
    await push.accepted(50)

    push_no = await pushes.find(engine.db, push.id)
    await pushes.command(engine.db, push_no, uuid4(), "ada", "close", {"verdict": "cancelled"}, way="direct")

    assert (await push.result())["verdict"] == "cancelled"


async def test_the_histories_of_this_module_replay(engine: Engine) -> None:
    """Pushes, batches and what was done to them: the code decides the same again."""
    replayer = histories.replayer()
    replayed = {"PushWorkflow": 0, "BatchWorkflow": 0}
    for kind, limit in (("PushWorkflow", 24), ("BatchWorkflow", 8)):
        query = f"WorkflowType = '{kind}' AND ExecutionStatus != 'Running'"
        async for execution in engine.client.list_workflows(query, limit=limit):
            handle = engine.client.get_workflow_handle(execution.id, run_id=execution.run_id)
            await replayer.replay_workflow(await handle.fetch_history())
            replayed[kind] += 1

    assert replayed["PushWorkflow"] >= 15
    assert replayed["BatchWorkflow"] == 8
