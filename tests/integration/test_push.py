"""The life of a push in the store, and what people are told of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from clarion.errors import BadSpec, CommandRefused, NotFound
from clarion.model.audience import Audience
from clarion.model.ledger import Code, Hold, State
from clarion.model.message import Message, Text
from clarion.model.spec import PushSpec
from clarion.quota.exchange import PostgresBoard
from clarion.quota.learn import Lane
from clarion.senders.check import check_message
from clarion.store import content, report
from clarion.store import push as pushes
from clarion.store.database import Database
from clarion.store.ledger import Ledger
from tests.support.ground import MESSAGE, Ground, Hand

# ── opening ───────────────────────────────────────────────────────────────────────────────────────


async def test_a_push_has_its_content_and_facts(db: Database) -> None:
    """What was asked for stands in the row; the message is version 1 of its content."""
    ground = await Ground.lay(db, 1)
    push_no = await ground.open(
        "sale",
        priority="high",
        delivery_guarantee="at_most_once",
        campaign_kind="social",
        weight=2.5,
        pace=40,
    )

    facts = await pushes.facts(db, push_no)

    assert (facts.push_id, facts.app, facts.priority, facts.guarantee) == ("sale", ground.app, 1, 2)
    assert (facts.mask, facts.weight, facts.deadline) == (4, 2.5, None)
    assert len(facts.dedup_key) <= 32
    assert await pushes.message(db, push_no, 1) == Message.model_validate(MESSAGE)
    assert (await report.progress(db, push_no)).pace == 40


async def test_content_is_taken_by_reference(db: Database) -> None:
    """A start with a reference brings the stored message, and is the same push as one with the message."""
    ground = await Ground.lay(db, 1)
    reference = await content.store_message(db, ground.app, Message.model_validate(MESSAGE))
    push_no = await ground.open("by-reference", message=None, content=reference)

    again = await pushes.open_push(db, ground.spec(), "by-reference")

    assert again.push_no == push_no
    assert again.opened == "open"
    assert await pushes.message(db, push_no, 1) == Message.model_validate(MESSAGE)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"app": "nowhere"}, "no app"),
        ({"message": None, "content": "content:" + "ab" * 32}, "content reference"),
        ({"audience": {"retry": {"push": "never", "states": ["dead"]}}}, "push to retry"),
    ],
)
async def test_a_start_that_refers_to_nothing(db: Database, changes: dict[str, Any], said: str) -> None:
    """An unknown app, content or push is refused by name, and no push is made."""
    ground = await Ground.lay(db, 1)

    with pytest.raises(NotFound, match=said):
        await pushes.open_push(db, ground.spec(**changes), "broken")

    with pytest.raises(NotFound):
        await pushes.find(db, "broken")


async def test_the_partition_is_the_planned_days(db: Database) -> None:
    """A push planned for next week lies in next week's partition from the start."""
    ground = await Ground.lay(db, 1)
    at = datetime.now(UTC) + timedelta(days=9)
    push_no = await ground.open(send_at=at)
    await db.execute("update push set send_at = now() where push_no = $1", push_no)  # the week is over
    await pushes.plan(db, push_no)
    await pushes.freeze(db, push_no, 0)

    where = await db.fetchval("select tableoid::regclass::text from delivery where push_no = $1", push_no)

    assert where == f"delivery{at:_%Y%m%d}"


# ── planning and freezing ─────────────────────────────────────────────────────────────────────────


async def test_a_plan_is_made_once(db: Database) -> None:
    """Two plan at once: one set of ranges, and both are told the same."""
    ground = await Ground.lay(db, 50)
    push_no = await ground.open()

    first, second = await asyncio.gather(*(pushes.plan(db, push_no) for _ in range(2)))

    assert first == second == pushes.Plan(ranges=1, estimated_rows=50, batch_size=1_000)
    assert (await report.progress(db, push_no)).phase == "running"


async def test_high_priority_has_small_batches(db: Database) -> None:
    """Batches of a high push are small, so that one process is never busy for long."""
    ground = await Ground.lay(db, 700)
    push_no = await ground.frozen(priority="high")

    assert len(await ground.batches(push_no)) == 2


async def test_one_address_a_phone_by_the_order_of_lanes(db: Database) -> None:
    """A phone with two addresses is reached through the app's first lane; unordered lanes go by number."""
    ground = await Ground.lay(db, 4, lane="2")
    await db.execute(
        "insert into registration (device_no, user_no, app_no, lane, token)"
        " select device_no, user_no, app_no, 1, 'second-' || device_no from registration"
    )
    by_number = await ground.frozen()
    await db.execute("update app set lane_order = '{2}'")
    by_order = await ground.frozen()

    assert [c["lane"] for c in await report.counts(db, by_number)] == [1]
    assert [c["lane"] for c in await report.counts(db, by_order)] == [2]
    assert (await report.reconcile(db, by_order)).audience == 4


async def test_opted_out_users_are_accounted_for(db: Database) -> None:
    """Who opted out of this kind is in the audience, suppressed from the start; other kinds reach them."""
    ground = await Ground.lay(db, 10)
    await db.execute("update usr set optout = 1 where user_id in ('u2', 'u3')")

    marketing = await ground.frozen()
    transactional = await ground.frozen(campaign_kind="transactional")

    assert [c["suppressed"] for c in await report.counts(db, marketing)] == [2]
    assert [c["suppressed"] for c in await report.counts(db, transactional)] == [0]
    (fate,) = (await report.explain(db, ground.app, "u2", await push_id(db, marketing))).fates
    assert (fate.state, fate.reason) == ("suppressed", "clarion:opted_out")


async def push_id(db: Database, push_no: int) -> str:
    """The name of a push."""
    return str(await db.fetchval("select push_id from push where push_no = $1", push_no))


async def test_waves_have_batches_of_their_own(db: Database) -> None:
    """Rows that open at different moments never share a batch, and a wave is not taken early."""
    ground = await Ground.lay(db, 30)
    push_no = await ground.open()
    await pushes.plan(db, push_no)
    await pushes.freeze(db, push_no, 0, opens="case u.user_no % 3 when 0 then now() + interval '1 hour' end")

    taken = [await Hand(db, push_no, batch).take() for batch in await ground.batches(push_no)]
    told = await Ledger(db).next_work(push_no, [], 50)

    assert [(t.n, t.why) for t in taken] == [(20, None), (10, "early")]
    assert taken[1].wait_s > 3_500
    assert [lane.doing for lane in told.lanes] == [2]


async def test_locales_lie_together(db: Database) -> None:
    """Rows of one language are neighbours, so that a message is rendered once for many."""
    ground = await Ground.lay(db, 90)
    await db.execute("update usr set locale = (user_no % 3)::smallint")
    push_no = await ground.frozen()

    rows = await db.fetch("select locale from delivery where push_no = $1 order by batch, seq", push_no)

    assert [row["locale"] for row in rows] == sorted(row["locale"] for row in rows)


async def test_named_users_are_looked_up(db: Database) -> None:
    """A push to two users has their phones and nobody else's."""
    ground = await Ground.lay(db, 3_000)
    push_no = await ground.frozen(audience={"users": ["u7", "u2999", "nobody"]})

    assert (await report.reconcile(db, push_no)).audience == 2


async def test_more_batches_than_numbers_is_an_error(db: Database) -> None:
    """A range that would need more than 10,000 batches fails as a whole: nothing is written by half."""
    ground = await Ground.lay(db, 10_001)
    push_no = await ground.open()
    await pushes.plan(db, push_no)
    await db.execute("update push set batch_size = 1 where push_no = $1", push_no)

    with pytest.raises(asyncpg.NotNullViolationError):
        await pushes.freeze(db, push_no, 0)

    assert await ground.batches(push_no) == []


async def test_a_closing_push_is_not_planned(db: Database) -> None:
    """A cancel before the start leaves nothing to plan."""
    ground = await Ground.lay(db, 3)
    push_no = await ground.open()
    await ground.say(push_no, "close", verdict="cancelled")

    with pytest.raises(CommandRefused, match="closing"):
        await pushes.plan(db, push_no)


async def end(db: Database, ground: Ground, push_no: int, **codes: list[int]) -> None:
    """Work batch 0 off with these outcomes and close the push."""
    hand = Hand(db, push_no)
    await hand.take()
    await hand.step(claim=max(max(seqs) for seqs in codes.values()))
    await hand.step(outcomes=hand.outcomes(**codes))
    await hand.release()
    await ground.say(push_no, "close", verdict="cancelled")
    await Ledger(db).close(push_no)
    assert await pushes.close_push(db, push_no) is not None


async def test_a_closed_push_is_retried_by_another(db: Database) -> None:
    """A retry takes the final rows of the states asked for, bears the same key, and explains its chain."""
    ground = await Ground.lay(db, 6)
    old = await ground.frozen()
    retry = {"retry": {"push": await push_id(db, old), "states": ["dead", "cancelled"]}}
    with pytest.raises(BadSpec, match="not closed"):
        await ground.open(audience=retry)
    await end(db, ground, old, accepted=[0, 1], dead=[2], rejected=[3])

    new = await ground.frozen(audience=retry)

    assert await ground.states(new) == [State.PLANNED] * 3
    assert (await pushes.facts(db, new)).dedup_key == (await pushes.facts(db, old)).dedup_key
    assert (await report.show(db, await push_id(db, old))).chain == (
        await push_id(db, old),
        await push_id(db, new),
    )
    explained = await report.explain(db, ground.app, "u3", await push_id(db, old))
    assert [fate.state for fate in explained.fates] == ["dead", "planned"]


async def test_a_closed_push_stays_closed(db: Database) -> None:
    """The same start after the end gives the stored result, once and for ever."""
    ground = await Ground.lay(db, 3)
    push_no = await ground.open("once")
    await pushes.plan(db, push_no)
    await pushes.freeze(db, push_no, 0)
    await end(db, ground, push_no, accepted=[0, 1, 2])

    again = await pushes.open_push(db, ground.spec(), "once")

    assert (again.push_no, again.opened) == (push_no, "closed")
    assert again.result is not None
    assert again.result["lanes"][0]["accepted"] == 3


# ── commands ──────────────────────────────────────────────────────────────────────────────────────


async def test_the_audit_says_who_why_how_and_what_changed(db: Database) -> None:
    """A pause stands in the control row with its reason, and in the audit with before and after."""
    ground = await Ground.lay(db, 1)
    push_no = await ground.open()
    answer = await pushes.command(
        db, push_no, uuid4(), "clarion", "pause", {"reason": "no workflow"}, way="clarion"
    )
    await ground.say(push_no, "set", pace=25)
    shown = await report.show(db, await push_id(db, push_no))

    assert (answer.version, answer.hold, answer.already) == (1, "paused", False)
    progress = shown.progress
    assert (progress.hold, progress.hold_by, progress.hold_reason) == ("paused", "clarion", "no workflow")
    pace, pause = shown.history
    assert (pause.who, pause.way, pause.what) == ("clarion", "clarion", "pause")
    assert (pause.before or {})["hold"] == "none"
    assert (pause.after or {})["reason"] == "no workflow"
    assert (pace.after or {})["pace"] == 25
    await ground.say(push_no, "set", pace=None)
    await ground.say(push_no, "resume")
    progress = await report.progress(db, push_no)
    assert (progress.pace, progress.hold, progress.hold_by) == (None, "none", None)


async def test_saying_it_again_changes_nothing(db: Database) -> None:
    """A second pause, and a second cancel, are answered as already so; the first reason stays."""
    ground = await Ground.lay(db, 1)
    push_no = await ground.open()
    await ground.say(push_no, "pause", reason="first")

    again = await ground.say(push_no, "pause", reason="second")

    assert (again.version, again.already) == (1, True)
    assert (await report.progress(db, push_no)).hold_reason == "first"
    await ground.say(push_no, "close", verdict="cancelled")
    assert (await ground.say(push_no, "close", verdict="cancelled")).already
    with pytest.raises(CommandRefused, match="closing: cancelled"):
        await ground.say(push_no, "close", verdict="completed")


@pytest.mark.parametrize(
    ("what", "args", "said"),
    [
        ("set", {"deadline": datetime(2020, 1, 1, tzinfo=UTC)}, "past"),
        ("set", {"pace": 0}, "positive"),
        ("set", {"content_version": 9}, "no such content version"),
        ("close", {}, "verdict"),
        ("dance", {}, "unknown"),
    ],
)
async def test_a_command_that_makes_no_sense(
    db: Database, what: str, args: dict[str, Any], said: str
) -> None:
    """A refused command says why, changes nothing, and stands in the audit all the same."""
    ground = await Ground.lay(db, 1)
    push_no = await ground.open()

    with pytest.raises(CommandRefused, match=said):
        await ground.say(push_no, what, **args)

    (word,) = (await report.show(db, await push_id(db, push_no))).history
    assert word.before == word.after
    assert not word.answer["ok"]


async def test_an_unknown_push_is_not_found(db: Database) -> None:
    """Commands, facts, content and progress of a number that nobody has."""
    for call in (
        pushes.command(db, 1, uuid4(), "ann", "pause", {}),
        pushes.facts(db, 1),
        pushes.message(db, 1, 1),
        report.progress(db, 1),
        pushes.plan(db, 1),
    ):
        with pytest.raises(NotFound):
            await call


async def test_reschedule_until_it_starts(db: Database) -> None:
    """The planned time may move until the audience is planned, and what was acknowledged holds."""
    ground = await Ground.lay(db, 1)
    push_no = await ground.open()
    later, soon = (datetime.now(UTC) + timedelta(seconds=s) for s in (5 * 3600, 0.3))
    await ground.say(push_no, "reschedule", send_at=later)
    assert (await pushes.facts(db, push_no)).send_at == later
    assert (await pushes.plan(db, push_no)).ranges == 0  # a plan under way when the word came
    await ground.say(push_no, "reschedule", send_at=soon)
    await asyncio.sleep(0.4)
    assert (await pushes.plan(db, push_no)).ranges == 1

    with pytest.raises(CommandRefused, match="started"):
        await ground.say(push_no, "reschedule", send_at=later)


async def test_edited_content_is_a_new_version(db: Database) -> None:
    """Versions are immutable; the same words are the version that they were; a command puts one in force."""
    ground = await Ground.lay(db, 1)
    push_no = await ground.frozen()
    texts = [{"texts": {"default": {"title": title}}} for title in ("one", "two")]
    first, second = [Message.model_validate(text) for text in texts]

    versions = await asyncio.gather(*(pushes.add_content(db, push_no, m) for m in (first, second)))

    assert sorted(versions) == [2, 3]
    assert await pushes.add_content(db, push_no, first) == versions[0]
    await ground.say(push_no, "set", content_version=versions[0])
    assert (await Hand(db, push_no).take()).content_version == versions[0]
    assert await pushes.message(db, push_no, versions[0]) == first


async def test_the_deadline_comes(db: Database) -> None:
    """Past the deadline nothing is taken or granted, the push loop is told, and the rest expires."""
    ground = await Ground.lay(db, 4)
    push_no = await ground.frozen(deadline=datetime.now(UTC) + timedelta(hours=1))
    hand = Hand(db, push_no, lease=0.05)
    await hand.take()
    assert (await hand.step(claim=1)).granted
    await db.execute("update push set deadline = now() where push_no = $1", push_no)
    await asyncio.sleep(0.1)  # longer than the lease

    told = await Ledger(db).next_work(push_no, [], 5)
    refused = await hand.step(claim=3)

    assert told.overdue
    assert told.deadline is not None
    assert told.deadline < told.now
    assert not refused.granted
    assert (await Hand(db, push_no).take()).why == "deadline"
    await ground.say(push_no, "close", verdict="expired")
    await Ledger(db).close(push_no)
    assert await ground.states(push_no) == [State.IN_DOUBT] * 2 + [State.EXPIRED] * 2


# ── what people are told ──────────────────────────────────────────────────────────────────────────


async def test_a_list_has_pages(db: Database) -> None:
    """Newest planned time first, page after page, of one app or of all, open or all."""
    ground = await Ground.lay(db, 1)
    other = await Ground.lay(db, 1)
    now = datetime.now(UTC)
    for hour in range(1, 6):
        await ground.open(f"p{hour}", send_at=now + timedelta(hours=hour), title=f"Number {hour}")
    await other.open("elsewhere")
    await ground.say(await pushes.find(db, "p4"), "close", verdict="cancelled")
    await pushes.close_push(db, await pushes.find(db, "p4"))

    first = await report.list_pushes(db, app=ground.app, limit=2)
    second = await report.list_pushes(db, app=ground.app, limit=2, before=first[-1].push_no)
    still_open = await report.list_pushes(db, app=ground.app, open_only=True)

    assert [p.push_id for p in first] == ["p5", "p4"]
    assert [p.push_id for p in second] == ["p3", "p2"]
    assert [p.push_id for p in still_open] == ["p5", "p3", "p2", "p1"]
    assert (first[0].title, first[1].phase, first[1].verdict) == ("Number 5", "closed", "cancelled")
    assert len(await report.list_pushes(db)) == 6


async def test_progress_has_a_word_for_every_phase(db: Database) -> None:
    """scheduled, running, closing, closed; with what a lane waits for."""
    ground = await Ground.lay(db, 3)
    push_no = await ground.open()
    assert (await report.progress(db, push_no)).phase == "scheduled"
    await pushes.plan(db, push_no)
    assert (await report.progress(db, push_no)).ranges_to_freeze == 1
    await pushes.freeze(db, push_no, 0)
    await Ledger(db).block(ground.app_no, 1, True, 7)
    running = await report.progress(db, push_no)
    assert (running.phase, running.audience, running.total("planned")) == ("running", 3, 3)
    assert (running.lanes[0].blocked, running.lanes[0].senders) == ("clarion:timeout", 0)
    await ground.say(push_no, "close", verdict="cancelled")
    assert (await report.progress(db, push_no)).phase == "closing"
    await Ledger(db).close(push_no)
    await pushes.close_push(db, push_no)
    closed = await report.progress(db, push_no)
    assert (closed.phase, closed.verdict, closed.total("cancelled")) == ("closed", "cancelled", 3)


@pytest.mark.parametrize(
    ("known", "cools"),
    [
        ({"rate": 0.1}, True),
        ({"rate": 900.0, "learned": 1_000.0}, False),
        ({"rate": 400.0, "learned": 1_000.0}, True),
        ({"rate": 100.0}, False),
        ({"rate": 100.0, "failed": 1.0}, True),
        ({"rate": 1_000.0, "closed": 30.0}, True),
        ({"rate": 1_000.0, "closed": -1.0}, False),
    ],
    ids=[
        "outage",
        "almost at its top",
        "half of its top",
        "merely new",
        "after bad answers",
        "Retry-After",
        "Retry-After is over",
    ],
)
async def test_progress_says_that_a_lane_is_cooling(db: Database, known: dict[str, Any], cools: bool) -> None:
    """What the dealer has learned of one lane is shown at that one, while somebody deals."""
    ground = await Ground.lay(db, 4, lane="1 + g % 2")
    push_no = await ground.frozen()
    await db.execute("update credential set ceiling = 1000")
    board = PostgresBoard(db)
    post = await board.take_over()
    assert post is not None
    if "closed" in known:
        known = known | {"closed": post.clock + known["closed"]}
    lanes = {f"{ground.app_no}.1": Lane(**known), f"{ground.app_no}.2": Lane(rate=1_000.0)}
    assert await board.write(post.epoch, post.number + 1, lanes, {})

    assert [lane.cooling for lane in (await report.progress(db, push_no)).lanes] == [cools, False]
    await db.execute("update dealer set dealt_at = dealt_at - 60")
    assert [lane.cooling for lane in (await report.progress(db, push_no)).lanes] == [False, False]


async def test_why_there_is_nothing_for_a_user(db: Database) -> None:
    """Nobody is left without a reason: not planned, not frozen, newer, no address, not chosen."""
    ground = await Ground.lay(db, 4, tags="case g when 1 then '{vip}' end")
    await db.execute("update registration set status = 2 where token = 't2'")
    vip = {"where": {"tags_any": ["vip"]}}
    push_no = await ground.open("vips", audience=vip)

    async def why(user_id: str) -> str:
        explained = await report.explain(db, ground.app, user_id, "vips")
        return explained.why_none or explained.fates[0].state

    assert "not started" in await why("u1")
    await pushes.plan(db, push_no)
    assert "not frozen" in await why("u1")
    await pushes.freeze(db, push_no, 0)
    await ground.add_users(9, 9)

    assert await why("u1") == "planned"
    assert "no active registration" in await why("u2")
    assert "rule did not choose" in await why("u3")
    assert "newer" in await why("u9")
    with pytest.raises(NotFound, match="user"):
        await why("u77")


async def test_a_dead_address_is_explained(db: Database) -> None:
    """A rejected delivery says its reason, and what became of the address: retired, then registered again."""
    ground = await Ground.lay(db, 2)
    reason = await db.fetchval("insert into reason (name) values ('apns:Unregistered') returning reason_no")
    push_no = await ground.frozen()
    hand = Hand(db, push_no)
    await hand.take()
    await hand.step(claim=0)
    outcomes = hand.outcomes()
    outcomes.add(0, Code.REJECTED, reason)
    outcomes.retire(0)
    await hand.step(outcomes=outcomes)
    assert (await report.progress(db, push_no)).invalid_tokens == 1
    await Ledger(db).retire(push_no, [], 10)
    name = await push_id(db, push_no)

    (dead,) = (await report.explain(db, ground.app, "u1", name)).fates
    await db.execute("update registration set status = 1, registered_at = now()")
    (back,) = (await report.explain(db, ground.app, "u1", name)).fates

    assert (dead.state, dead.reason, dead.registration) == ("rejected", "apns:Unregistered", "unregistered")
    assert (back.registration, back.retired_at) == ("active", dead.retired_at)
    assert (await report.progress(db, push_no)).invalid_tokens == 1


# ── trouble that users of other systems reported ──────────────────────────────────────────────────


@pytest.mark.parametrize("guarantee", ["at_least_once", "at_most_once"])
async def test_c52_a_push_ends_although_devices_and_workers_do_not_help(db: Database, guarantee: str) -> None:
    """C52: 10 devices, 2 without a token, 1 retired, kill -9 after 3 are claimed: it ends, all explained."""
    ground = await Ground.lay(db, 10)
    await db.execute("delete from registration where token in ('t1', 't2')")
    await db.execute("update registration set status = 3 where token = 't3'")
    push_no = await ground.open("c52", delivery_guarantee=guarantee)
    await pushes.plan(db, push_no)
    await pushes.freeze(db, push_no, 0)
    killed = Hand(db, push_no, lease=0.2)
    await killed.take()
    await killed.step(claim=2)
    await asyncio.sleep(0.25)

    hand = Hand(db, push_no)
    taken = await hand.take()
    assert taken.redone == 3
    rows = await hand.ledger.read(push_no, 0, -1, 100, taken.mask, False)
    await hand.step(claim=6)
    await hand.step(outcomes=hand.outcomes(accepted=[row["seq"] for row in rows]))
    await hand.release()
    assert (await hand.ledger.next_work(push_no, [], 5)).doing == 0
    await ground.say(push_no, "close", verdict="completed")
    assert await pushes.close_push(db, push_no) is not None

    fates = [await report.explain(db, ground.app, f"u{n}", "c52") for n in range(1, 11)]
    sent = [fate.state for explained in fates for fate in explained.fates]
    assert sent.count("accepted") + sent.count("in_doubt") == 7
    assert sent.count("in_doubt") == (3 if guarantee == "at_most_once" else 0)
    assert [bool(explained.why_none) for explained in fates] == [True] * 3 + [False] * 7


async def test_c53_sending_changes_what_the_rule_asks(db: Database) -> None:
    """C53: 5,000 users chosen by what sending changes, people come and go: the frozen set, each once."""
    ground = await Ground.lay(db, 5_000, tags="'{badge0}'")
    push_no = await ground.frozen(
        batch_size=100, audience={"where": {"tags_any": ["badge0", "badge1"], "tags_none": ["gone"]}}
    )
    frozen = {row["registration_no"] for row in await db.fetch("select registration_no from registration")}
    reached: list[int] = []
    for batch in await ground.batches(push_no):
        hand = Hand(db, push_no, batch)
        taken = await hand.take()
        rows = await hand.ledger.read(push_no, batch, -1, 100, taken.mask, False)
        await hand.step(claim=99)
        await hand.step(outcomes=hand.outcomes(accepted=[row["seq"] for row in rows]))
        await hand.release()
        reached += [row["registration_no"] for row in rows]
        if batch % 10 == 0:
            users = [row["user_no"] for row in rows]
            await db.execute("update usr set tags = '{badge1}' where user_no = any($1)", users)
            await db.execute("update usr set tags = '{gone}' where user_no % 50 = $1", batch % 50)
            await ground.add_users(6_000 + batch * 10, 6_003 + batch * 10, tags="'{badge0}'")

    assert len(reached) == len(set(reached)) == 5_000
    assert set(reached) == frozen
    assert [c["accepted"] for c in await report.counts(db, push_no)] == [5_000]


async def test_next_work_names_its_waits(db: Database) -> None:
    """What the push loop is told of a lane: blocked with its reason, nobody sending, everything due later."""
    ground = await Ground.lay(db, 4, lane="1 + g % 2")
    push_no = await ground.frozen()
    ledger = Ledger(db)
    await ledger.block(ground.app_no, 2, True, 7)
    await db.execute(
        "insert into worker (host, pid, queues, served) values ('h', 1, '{send-apns}', '{send-apns}')"
    )
    hand = Hand(db, push_no)
    await hand.take()
    await hand.step(claim=1)
    outcomes = hand.outcomes()
    for seq in (0, 1):
        outcomes.add(seq, Code.REFUSED, 11, 60.0)
    await hand.step(outcomes=outcomes)
    await hand.release()

    told = await ledger.next_work(push_no, [], 5)
    apns, fcm = told.lanes

    assert (apns.provider, apns.senders, apns.work, apns.again, apns.retry) == ("apns", 1, (), (), 2)
    assert apns.next_at is not None
    assert 50 < (apns.next_at - told.now).total_seconds() <= 60
    assert (fcm.provider, fcm.senders, fcm.blocked, fcm.blocked_reason) == ("fcm", 0, True, 7)
    assert told.hold == Hold.NONE


async def test_a_message_that_nobody_could_be_sent_opens_nothing(db: Database) -> None:
    """Checked against the app's providers before the first row is written: nothing is half started."""
    await db.execute("insert into app (name) values ('shop')")
    await db.execute(
        "insert into credential (app_no, lane, name, provider, secret)"
        " select app_no, 1, 'one', 'apns', '\\x00' from app"
    )
    spec = PushSpec(
        app="shop",
        audience=Audience(everybody=True),
        message=Message(texts={"default": Text(title="Hi", body="x" * 5_000)}),
    )

    def check(message: Message, providers: Sequence[str]) -> None:
        check_message(message, providers, 1_800_000_000.0)

    with pytest.raises(BadSpec, match="APNs"):
        await pushes.open_push(db, spec, "large", check=check)
    assert await db.fetchval("select count(*) from push") == 0
