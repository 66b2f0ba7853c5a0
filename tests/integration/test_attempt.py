"""Attempts at batches: real PostgreSQL and window, a sender that answers as it is told."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from clarion import limits
from clarion.attempt import AttemptResult, Stop, _Attempt
from clarion.model.message import Message, Text
from clarion.process import SenderProcess
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind, Scope
from clarion.senders.sender import TooLarge
from clarion.store import push as pushes
from clarion.store.database import Database
from tests.support.sending import Bench, Prepared, full_disk

LEASE = 10.0
GONE = Outcome(OutcomeKind.REJECTED, "scripted:Unregistered", retire=True)
BUSY = Outcome(OutcomeKind.THROTTLED, "scripted:TooMany", retry_after=0.2)
SILENT = Outcome(OutcomeKind.UNAVAILABLE, "scripted:timeout", maybe=True)
DOWN = Outcome(OutcomeKind.UNAVAILABLE, "scripted:refused")
SUSPECT = Outcome(OutcomeKind.REJECTED, "scripted:BadExpirationDate", suspect=True)
WRONG_KEY = Outcome(OutcomeKind.BLOCKED, "scripted:InvalidKey")


async def attempt(
    process: SenderProcess, push_no: int, batch: int, stop: Stop | None = None
) -> AttemptResult:
    """One attempt, as the activity makes it."""
    return await process.send(push_no, batch, lease=LEASE, beat=lambda: None, stop=stop or Stop())


async def test_a_batch_is_sent_once_and_accounted_for(db: Database) -> None:
    """Every phone gets one request, and the counters say so."""
    bench = await Bench.make(db, 900)
    push_no, (batch,) = await bench.push()

    result = await attempt(bench.process, push_no, batch)

    assert result == AttemptResult("done")
    assert len({sent.registration_no for sent in bench.sender.sent}) == len(bench.sender.sent) == 900
    assert await bench.counts(push_no) == {"audience": 900, "accepted": 900}
    assert bench.permits.good == 900
    assert bench.process.window.used == 0


async def test_a_large_batch_keeps_within_the_window(db: Database) -> None:
    """However large the batch, claimed and uncommitted rows stay within the window of the process."""
    bench = await Bench.make(db, 2_400)
    bench.sender.delay = 0.02
    push_no, batches = await bench.push()

    results = await asyncio.gather(*(attempt(bench.process, push_no, batch) for batch in batches))

    assert {result.why for result in results} == {"done"}
    assert bench.process.window.fullest <= 1_000
    assert bench.sender.most_in_flight <= 1_000
    assert await bench.counts(push_no) == {"audience": 2_400, "accepted": 2_400}


async def test_a_paced_batch_claims_half_a_second_of_its_rate(db: Database) -> None:
    """What a crash may repeat: claimed and uncommitted rows, those on the wire among them, are ≤ 0.5 s."""
    bench = await Bench.make(db, 900)
    bench.permits.rate, bench.sender.delay = 600.0, 0.02
    push_no, (batch,) = await bench.push()

    result = await attempt(bench.process, push_no, batch)

    assert result.why == "done"
    assert bench.process.window.fullest <= 300


async def test_slow_answers_do_not_cost_the_pace(db: Database) -> None:
    """Answers after a second: twice half a second of the rate are on the wire, and more may start."""
    bench = await Bench.make(db, 900)
    bench.permits.rate, bench.sender.delay = 600.0, 1.0
    push_no, (batch,) = await bench.push()

    result = await attempt(bench.process, push_no, batch)

    assert result.why == "done"
    assert bench.sender.most_in_flight > 400


async def test_rejections_retire_and_throttled_rows_go_again(db: Database) -> None:
    """A rejection is final and queues its address; a throttled row is no attempt and goes again when due."""
    bench = await Bench.make(db, 100)
    push_no, (batch,) = await bench.push()
    some = [row["registration_no"] for row in await db.fetch("select registration_no from registration")]
    gone, busy = set(some[:10]), set(some[10:30])
    bench.sender.script = lambda registration_no, times: (
        GONE if registration_no in gone else BUSY if registration_no in busy and times == 1 else ACCEPTED
    )

    first = await attempt(bench.process, push_no, batch)
    between = await bench.counts(push_no)
    await asyncio.sleep(1.5)
    second = await attempt(bench.process, push_no, batch)

    assert (first.why, second.why) == ("done", "done")
    assert between == {"audience": 100, "accepted": 70, "rejected": 10, "retry": 20}
    assert await bench.counts(push_no) == {"audience": 100, "accepted": 90, "rejected": 10}
    assert await db.fetchval("select count(*) from retire") == 10
    assert await db.fetchval("select max(attempt) from delivery where state = 2") == 1
    name = await db.fetchval("select r.name from reason r join retire q on q.reason = r.reason_no limit 1")
    assert name == "scripted:Unregistered"


async def test_refusals_are_tried_four_times_and_then_dead(db: Database) -> None:
    """A provider that surely did not take it: at most four attempts, then dead with the last reason."""
    bench = await Bench.make(db, 3)
    push_no, (batch,) = await bench.push()
    bench.sender.script = lambda registration_no, times: DOWN

    for _ in range(4):
        await attempt(bench.process, push_no, batch)
        await db.execute("update delivery set at = now() where state = 1")
        await db.execute("update batch set due_at = now() where due_at is not null")

    assert len(bench.sender.sent) == 12
    assert await bench.counts(push_no) == {"audience": 3, "dead": 3}


async def test_unanswered_sends_are_repeated_and_end_in_doubt(db: Database) -> None:
    """At least once, a send without an answer is repeated and counted; without any answer it is in doubt."""
    bench = await Bench.make(db, 2)
    push_no, (batch,) = await bench.push()
    bench.sender.script = lambda registration_no, times: SILENT

    for _ in range(4):
        await attempt(bench.process, push_no, batch)
        await db.execute("update delivery set at = now() where state = 1")
        await db.execute("update batch set due_at = now() where due_at is not null")

    assert await bench.counts(push_no) == {"audience": 2, "in_doubt": 2, "maybe": 6}


async def test_at_most_once_an_unanswered_send_is_never_repeated(db: Database) -> None:
    """With at_most_once there is one request a phone, and the unanswered are listed as in doubt."""
    bench = await Bench.make(db, 50)
    push_no, (batch,) = await bench.push(delivery_guarantee="at_most_once")
    bench.sender.script = lambda registration_no, times: SILENT if registration_no % 2 else ACCEPTED

    await attempt(bench.process, push_no, batch)
    again = await attempt(bench.process, push_no, batch)

    assert again.why == "done"
    assert len(bench.sender.sent) == 50
    assert await bench.counts(push_no) == {"audience": 50, "accepted": 25, "in_doubt": 25, "maybe": 25}


async def test_at_most_once_a_slow_pace_asks_the_ledger_no_more_than_it_sends(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two permits the attempt sleeps: it does not ask for claims of nothing."""
    bench = await Bench.make(db, 20)
    bench.permits.rate = 20.0
    push_no, (batch,) = await bench.push(delivery_guarantee="at_most_once")
    asked = 0
    step = bench.process.ledger.step

    async def counted(*args: Any, **named: Any) -> Any:
        nonlocal asked
        asked += 1
        return await step(*args, **named)

    monkeypatch.setattr(bench.process.ledger, "step", counted)

    result = await attempt(bench.process, push_no, batch)

    assert result.why == "done"
    assert await bench.counts(push_no) == {"audience": 20, "accepted": 20}
    assert asked < 20 * 4  # a claim and an answer for each, the first and the last words


async def test_an_answer_of_a_new_kind_survives_a_lost_connection(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An answer stays in hand until its reason has a number: at most once, losing it were a second send."""
    bench = await Bench.make(db, 10)
    push_no, (batch,) = await bench.push(delivery_guarantee="at_most_once")
    bench.sender.script = lambda registration_no, times: SILENT if registration_no % 2 else ACCEPTED
    lose_first_answer(db, monkeypatch, "insert into reason")

    first = await attempt(bench.process, push_no, batch)
    again = await attempt(bench.process, push_no, batch)

    assert (first.why, again.why) == ("done", "done")
    assert len(bench.sender.sent) == 10
    assert await bench.counts(push_no) == {"audience": 10, "accepted": 5, "in_doubt": 5, "maybe": 5}


async def test_a_block_of_a_new_kind_survives_a_lost_connection(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lane is blocked in the ledger, too: else this process alone would stand still, for ever."""
    bench = await Bench.make(db, 10)
    push_no, (batch,) = await bench.push()
    bench.sender.script = lambda registration_no, times: WRONG_KEY
    lose_first_answer(db, monkeypatch, "insert into reason")

    await attempt(bench.process, push_no, batch)
    await bench.process.close()

    assert await db.fetchval("select blocked from credential_state")


async def test_answers_that_were_not_written_are_asked_of_the_ledger(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that cannot work leaves the batch to its lease: the next take marks what was claimed."""
    bench = await Bench.make(db, 10)
    push_no, (batch,) = await bench.push(delivery_guarantee="at_most_once")
    step = bench.process.ledger.step

    async def broken(*args: Any, **named: Any) -> Any:
        if len(named["outcomes"]):
            raise ValueError("cannot be written")
        return await step(*args, **named)

    monkeypatch.setattr(bench.process.ledger, "step", broken)
    with pytest.raises(ValueError, match="cannot be written"):
        await attempt(bench.process, push_no, batch)
    sent = len(bench.sender.sent)
    monkeypatch.undo()
    await db.execute("update batch set lease_until = now() - interval '1 s'")

    again = await attempt(bench.process, push_no, batch)

    assert again.why == "done"
    assert len(bench.sender.sent) == len({one.registration_no for one in bench.sender.sent}) == 10
    counts = await bench.counts(push_no)
    assert counts["in_doubt"] == sent
    assert counts.get("accepted", 0) == 10 - sent


def lose_first_answer(db: Database, monkeypatch: pytest.MonkeyPatch, words: str) -> None:
    """The first such statement is done, and the connection breaks before its answer."""
    execute = db.execute
    lost: list[str] = []

    async def losing(sql: str, *args: Any, **named: Any) -> str:
        answer = await execute(sql, *args, **named)
        if words in sql and not lost:
            lost.append(sql)
            raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")
        return answer

    monkeypatch.setattr(db, "execute", losing)


async def test_stop_waits_for_what_is_on_the_wire(db: Database) -> None:
    """Stopped in the middle: started requests are answered and committed, the rest is simply planned."""
    bench = await Bench.make(db, 3_000)
    bench.sender.delay = 0.1
    push_no, (batch, *_) = await bench.push()
    stop = Stop()
    running = asyncio.create_task(attempt(bench.process, push_no, batch, stop))
    await bench.sender.first.wait()
    stop.set("shutdown")
    sent = len(bench.sender.sent)

    result = await running

    assert result.why == "stopped"
    assert len(bench.sender.sent) == sent
    counts = await bench.counts(push_no)
    assert counts["accepted"] == sent
    assert "redo" not in counts
    assert await db.fetchval("select count(*) from batch where lease_until > now()") == 0


async def test_waiting_for_the_last_answers_costs_nothing(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An attempt that is stopped sleeps until they come, and does not ask the time a thousand times."""
    bench = await Bench.make(db, 100)
    bench.sender.delay = 3.0
    push_no, (batch,) = await bench.push()
    naps, nap, stop = 0, _Attempt._nap, Stop()

    def counted(attempt: _Attempt) -> float:
        nonlocal naps
        naps += 1
        return nap(attempt)

    monkeypatch.setattr(_Attempt, "_nap", counted)
    running = asyncio.create_task(attempt(bench.process, push_no, batch, stop))
    await bench.sender.first.wait()
    stop.set("shutdown")
    result = await running

    assert result.why == "stopped"
    assert bench.sender.sent
    assert naps < 50


async def test_pause_is_obeyed_within_the_gate(db: Database) -> None:
    """From 1.5 s after the pause was committed nothing starts, also while answers are slow."""
    bench = await Bench.make(db, 3_000)
    bench.sender.delay = 0.4
    push_no, (batch, *_) = await bench.push()
    running = asyncio.create_task(attempt(bench.process, push_no, batch))
    await bench.sender.first.wait()
    await pushes.command(db, push_no, uuid4(), "test", "pause", {"reason": "test"})
    paused_at = asyncio.get_running_loop().time()

    result = await running

    assert result.why == "held"
    assert max(sent.at for sent in bench.sender.sent) - paused_at < 1.5
    again = await attempt(bench.process, push_no, batch)
    assert again.why == "hold"


async def test_an_attempt_stands_by_while_its_push_is_paused(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It holds nothing meanwhile. Resumed it is told so; closed, stopped or paused for long it gives up."""
    bench = await Bench.make(db, 10)
    push_no, (batch,) = await bench.push()

    async def say(what: str, **args: str) -> None:
        await pushes.command(db, push_no, uuid4(), "test", what, args)

    def standing(stop: Stop) -> asyncio.Task[bool]:
        return asyncio.create_task(bench.process.resumed(push_no, beat=lambda: None, stop=stop))

    await say("pause")
    assert (await attempt(bench.process, push_no, batch)).why == "hold"
    stop = Stop()
    goes_on, stopped = standing(Stop()), standing(stop)
    await asyncio.sleep(0.1)
    assert not goes_on.done()
    assert await db.fetchval("select count(*) from batch where lease_until > now() or claimed_to >= 0") == 0
    stop.set("shutdown")
    assert not await stopped
    await say("resume")
    assert await goes_on

    await say("pause")
    with monkeypatch.context() as patched:
        patched.setattr(limits, "STAND_BY_SECONDS", 0.0)
        assert not await standing(Stop())
    with monkeypatch.context() as patched:
        patched.setattr(limits, "STAND_BY_MOST", 0)
        assert not await standing(Stop())
    closing = standing(Stop())
    await asyncio.sleep(0.1)
    await say("close", verdict="cancelled")
    assert not await closing
    assert bench.sender.sent == []


async def test_a_refused_credential_blocks_the_lane_and_burns_nothing(db: Database) -> None:
    """The first refusal stops the lane; no row is rejected, none retired; unblocked, all are delivered."""
    bench = await Bench.make(db, 2_000)
    push_no, (batch, *others) = await bench.push()
    bench.sender.script = lambda registration_no, times: WRONG_KEY

    result = await attempt(bench.process, push_no, batch)
    calls = len(bench.sender.sent)
    elsewhere = await attempt(bench.process, push_no, others[0])

    assert (result.why, elsewhere.why) == ("blocked", "blocked")
    assert calls <= 1_000
    assert await db.fetchval("select blocked from credential_state") is True
    counts = await bench.counts(push_no)
    assert "rejected" not in counts
    assert counts.get("planned", 0) + counts.get("retry", 0) == 2_000
    assert await db.fetchval("select count(*) from retire") == 0

    bench.sender.script = lambda registration_no, times: ACCEPTED
    await bench.process.ledger.block(1, 1, False)
    await asyncio.sleep(1.5)
    for each in (batch, *others):
        await attempt(bench.process, push_no, each)
    assert (await bench.counts(push_no))["accepted"] == 2_000


@pytest.mark.parametrize(("one_in", "why"), [(4, "done"), (3, "blocked")])
async def test_a_third_of_answers_about_the_credential_block_the_lane(
    db: Database, monkeypatch: pytest.MonkeyPatch, one_in: int, why: str
) -> None:
    """Answers that are in, and not yet committed, count neither for nor against it; 30 % is the bound."""
    bench = await Bench.make(db, 2_400)
    push_no, batches = await bench.push()
    step = bench.process.ledger.step

    async def slow(*given: Any, **more: Any) -> Any:
        stepped = await step(*given, **more)
        await asyncio.sleep(0.1)  # answers of the other attempts arrive meanwhile
        return stepped

    monkeypatch.setattr(bench.process.ledger, "step", slow)
    bench.sender.script = lambda registration_no, times: ACCEPTED if registration_no % one_in else SUSPECT

    results = await asyncio.gather(*(attempt(bench.process, push_no, batch) for batch in batches))

    blocked = "select count(*) from credential_state where blocked"
    async with asyncio.timeout(10):  # the ledger is told beside the attempts
        while await db.fetchval(blocked) != (why == "blocked"):  # noqa: ASYNC110 - rows
            await asyncio.sleep(0.05)
    assert why in {result.why for result in results} <= {"done", why}  # one may have had all its answers


async def test_edited_content_is_never_mixed_in_a_statement(db: Database) -> None:
    """An edit in mid batch: each row's version is that of the request that went out for it."""
    bench = await Bench.make(db, 2_500)
    bench.sender.delay = 0.05
    push_no, batches = await bench.push()
    running = asyncio.gather(*(attempt(bench.process, push_no, batch) for batch in batches))
    await bench.sender.first.wait()
    edited = Message(texts={"default": Text(title="Edited", body="text")})
    version = await pushes.add_content(db, push_no, edited)
    await pushes.command(db, push_no, uuid4(), "test", "set", {"content_version": version})

    await running

    rows = await db.fetch("select registration_no, content_version from delivery")
    by_version = {row["registration_no"]: row["content_version"] for row in rows}
    assert set(by_version.values()) == {1, 2}
    for sent in bench.sender.sent:
        assert isinstance(sent.prepared, Prepared)
        assert (sent.prepared.message == edited) == (by_version[sent.registration_no] == 2)


async def test_a_later_deadline_is_told_to_providers(db: Database) -> None:
    """Extended in mid batch, and between two attempts: what leaves afterwards has the new lifetime."""
    bench = await Bench.make(db, 2_500)
    bench.sender.delay = 0.05
    first, second = (datetime.now(UTC) + timedelta(hours=hours) for hours in (1, 2))
    push_no, batches = await bench.push(deadline=first)
    running = asyncio.gather(*(attempt(bench.process, push_no, batch) for batch in batches[:-1]))
    await bench.sender.first.wait()
    await pushes.command(db, push_no, uuid4(), "test", "extend", {"deadline": second})
    moved = asyncio.get_running_loop().time()
    await running
    await attempt(bench.process, push_no, batches[-1])

    told = [(sent.at - moved, sent.prepared.push.deadline) for sent in bench.sender.sent]
    assert {deadline for _, deadline in told} == {first.timestamp(), second.timestamp()}
    assert {deadline for since, deadline in told if since > 1.0} <= {second.timestamp()}
    assert told[-1][1] == second.timestamp()
    assert await bench.counts(push_no) == {"audience": 2_500, "accepted": 2_500}


def refuse_as_too_large(bench: Bench, monkeypatch: pytest.MonkeyPatch, share: int) -> None:
    """One of `share` phones cannot be sent a message whose title is Long."""
    post = bench.sender.post

    def posted(prepared: Any, key: int, registration_no: int, *more: Any) -> None:
        if prepared.message.texts["default"].title == "Long" and registration_no % share == 0:
            raise TooLarge
        post(prepared, key, registration_no, *more)

    monkeypatch.setattr(bench.sender, "post", posted)


async def test_an_edit_that_is_too_large_for_many_pauses_the_push(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than 5 % of the first 1,000 rows with the new content: paused by clarion, saying why, once."""
    bench = await Bench.make(db, 4_000)
    refuse_as_too_large(bench, monkeypatch, 10)
    push_no, batches = await bench.push()
    await attempt(bench.process, push_no, batches[0])
    version = await pushes.add_content(db, push_no, Message(texts={"default": Text(title="Long")}))
    await pushes.command(db, push_no, uuid4(), "test", "set", {"content_version": version})
    bench.sender.delay = 0.1

    ends = [(await attempt(bench.process, push_no, batch)).why for batch in batches[1:]]
    await bench.process.close()

    row = await db.fetchrow("select hold, hold_by, hold_reason from push")
    assert row is not None
    assert (row["hold"], row["hold_by"]) == (2, "clarion")
    assert re.match(r"\d+ of the first \d+ rows with content version 2 are too large", row["hold_reason"])
    assert ends[-1] in ("held", "hold")
    counts = await bench.counts(push_no)
    assert counts["rejected"] >= 51
    assert counts["planned"] >= 500

    await pushes.command(db, push_no, uuid4(), "test", "resume", {})
    for batch in batches[1:]:
        await attempt(bench.process, push_no, batch)
    assert await bench.counts(push_no) == {"audience": 4_000, "accepted": 3_700, "rejected": 300}
    await bench.process.close()
    assert await db.fetchval("select hold from push") == 0


async def test_a_few_rows_too_large_do_not_stop_a_push(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Less than 5 %: those few are rejected with their reason, the others are sent."""
    bench = await Bench.make(db, 2_000)
    refuse_as_too_large(bench, monkeypatch, 25)
    push_no, batches = await bench.push()
    version = await pushes.add_content(db, push_no, Message(texts={"default": Text(title="Long")}))
    await pushes.command(db, push_no, uuid4(), "test", "set", {"content_version": version})

    for batch in batches:
        await attempt(bench.process, push_no, batch)
    await bench.process.close()

    assert await bench.counts(push_no) == {"audience": 2_000, "accepted": 1_920, "rejected": 80}
    assert await db.fetchval("select hold from push") == 0


async def test_a_batch_under_a_live_lease_is_left_alone(db: Database) -> None:
    """Another attempt holds it: the refusal names the wait, and nothing is sent."""
    bench = await Bench.make(db, 10)
    push_no, (batch,) = await bench.push()
    await bench.process.ledger.take(push_no, batch, uuid4(), 7, LEASE)

    result = await attempt(bench.process, push_no, batch)

    assert result.why == "leased"
    assert 8 < result.wait <= LEASE
    assert not bench.sender.sent


async def test_phones_that_changed_hands_are_left_out(db: Database) -> None:
    """Between freeze and send: retired, moved and opted out rows are suppressed with their reason."""
    bench = await Bench.make(db, 4)
    push_no, (batch,) = await bench.push()
    await db.execute("update registration set status = 3 where registration_no = 1")
    await db.execute("update registration set user_no = 3 where registration_no = 2")
    await db.execute("update usr set optout = 1 where user_no = 4")

    await attempt(bench.process, push_no, batch)

    assert await bench.counts(push_no) == {"audience": 4, "accepted": 1, "suppressed": 3}
    reasons = await db.fetch("select reason from delivery where state = 4 order by registration_no")
    assert [row["reason"] for row in reasons] == [1, 2, 3]


async def test_many_throttled_registrations_slow_the_lane(db: Database) -> None:
    """A fifth of the last answers throttle registrations: it is the lane that is too fast."""
    bench = await Bench.make(db, 900)
    push_no, (batch,) = await bench.push()
    busy = Outcome(OutcomeKind.THROTTLED, "scripted:TooMany", retry_after=60.0, scope=Scope.REGISTRATION)
    bench.sender.script = lambda registration_no, times: ACCEPTED if registration_no % 4 else busy

    await attempt(bench.process, push_no, batch)

    assert bench.permits.throttled > 0


async def test_a_failure_of_our_own_leaves_nothing_on_the_wire(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sender that breaks in mid batch: what had left is committed, the batch released, the error raised."""
    bench = await Bench.make(db, 300)
    push_no, (batch,) = await bench.push()
    post = bench.sender.post

    def breaks(*args: Any) -> None:
        if len(bench.sender.sent) == 100:
            raise RuntimeError("broken")
        post(*args)

    monkeypatch.setattr(bench.sender, "post", breaks)

    with pytest.raises(RuntimeError, match="broken"):
        await attempt(bench.process, push_no, batch)
    counts = await bench.counts(push_no)
    assert counts["accepted"] == 100
    assert counts["planned"] == 200
    assert bench.process.window.used == 0


async def test_a_full_disk_pauses_the_push_and_loses_nothing(db: Database) -> None:
    """No room for what an answer needs: paused by clarion, answers kept; with room nothing is sent twice."""
    bench = await Bench.make(db, 3_000)
    bench.sender.script = lambda registration_no, times: GONE if registration_no % 100 == 0 else ACCEPTED
    bench.sender.delay = 0.05
    push_no, batches = await bench.push()
    await db.execute(full_disk("retire"))

    sending = [asyncio.create_task(attempt(bench.process, push_no, batch)) for batch in batches]
    for _ in range(1_000):
        if paused := await db.fetchrow("select hold_by, hold_reason from push where hold <> 0"):
            break
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.6)  # the statement is repeated four or five times meanwhile
    words = await db.fetchval("select count(*) from audit where push_no = $1", push_no)
    await db.execute("drop trigger full_disk on retire")
    ends = {(await task).why for task in sending}
    before = await bench.counts(push_no)
    await pushes.command(db, push_no, uuid4(), "test", "resume", {})
    for batch in batches:
        await attempt(bench.process, push_no, batch)

    assert paused is not None
    assert (paused["hold_by"], paused["hold_reason"][:10]) == ("clarion", "store full")
    assert words == 1
    assert "held" in ends
    assert before["planned"] >= 1_000  # more than a window was never started
    assert len(bench.sender.sent) == 3_000
    assert await bench.counts(push_no) == {"audience": 3_000, "accepted": 2_970, "rejected": 30}
