"""A closed push tried again: which rows, under which id, and when it is refused."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from clarion.errors import BadInput, BadSpec, CommandRefused, NotFound
from clarion.model.command import RetryAnswer, RetryInput
from clarion.model.ledger import Code, Reason
from clarion.model.message import Message
from clarion.model.spec import PushSpec
from clarion.store import push as pushes
from clarion.store import report, retry
from clarion.store.database import Database
from clarion.store.ledger import Ledger, Outcomes
from clarion.store.reasons import Reasons
from tests.support.ground import Ground, Hand

BUSY, TOO_LARGE = "scripted:Busy", "clarion:payload_too_large"


async def ended(ground: Ground, push_id: str = "old", **changes: Any) -> int:
    """A closed push of eight: 2 accepted, 2 rejected (one as too large), 2 dead (Busy), 2 cancelled."""
    db = ground.db
    reasons = await Reasons.load(db)
    busy = await reasons.intern(db, BUSY)
    push_no = await ground.frozen(push_id=push_id, **changes)
    hand = Hand(db, push_no)
    taken = await hand.take()
    await hand.step(claim=5)
    outcomes = Outcomes(taken.at)
    for seq in (0, 1):
        outcomes.accept(seq)
    outcomes.add(2, Code.REJECTED, Reason.PAYLOAD_TOO_LARGE)
    outcomes.add(3, Code.REJECTED, busy)
    outcomes.add(4, Code.DEAD, busy)
    outcomes.add(5, Code.DEAD, busy)
    await hand.step(outcomes=outcomes)
    await hand.release()
    await close(ground, push_no)
    return push_no


async def close(ground: Ground, push_no: int) -> None:
    """Close the books."""
    await ground.say(push_no, "close", verdict="cancelled")
    await Ledger(ground.db).close(push_no)
    assert await pushes.close_push(ground.db, push_no) is not None


async def again(db: Database, push_no: int, id: UUID | None = None, **words: Any) -> RetryAnswer:
    """One retry."""
    return await retry.retry(db, push_no, RetryInput.model_validate(words), id or uuid4())


async def users(ground: Ground, push_id: str) -> list[int]:
    """Freeze a push and say who is in it."""
    push_no = await pushes.find(ground.db, push_id)
    plan = await pushes.plan(ground.db, push_no)
    for range_no in range(plan.ranges):
        await pushes.freeze(ground.db, push_no, range_no)
    rows = await ground.db.fetch("select user_no from delivery where push_no = $1 order by 1", push_no)
    return [row["user_no"] for row in rows]


@pytest.mark.parametrize(
    ("words", "seqs"),
    [
        ({}, [2, 3, 4, 5]),
        ({"states": ["dead"]}, [4, 5]),
        ({"states": ["rejected", "dead"], "reasons": [BUSY]}, [3, 4, 5]),
        ({"states": ["rejected"], "reasons": ["payload_TOO_large"]}, [2]),
        ({"states": ["rejected", "dead"], "reasons": ["Busy", TOO_LARGE]}, [2, 3, 4, 5]),
        ({"states": ["cancelled"]}, [6, 7]),
    ],
    ids=["default", "dead", "busy", "too large", "both", "cancelled"],
)
async def test_exactly_those_rows(db: Database, words: dict[str, Any], seqs: list[int]) -> None:
    """By state and reason, whole names or what stands behind the colon; the answer says how many."""
    ground = await Ground.lay(db, 8)
    old = await ended(ground)
    expected = await db.fetch(
        "select user_no from delivery where push_no = $1 and seq = any ($2::int[]) order by 1", old, seqs
    )

    answer = await again(db, old, **words)

    assert answer == RetryAnswer(push_id="old.r1", retry_of="old", audience=len(seqs))
    assert await users(ground, "old.r1") == [row["user_no"] for row in expected]


async def test_it_is_as_the_old_one_was(db: Database) -> None:
    """Content as it was last, key of de-duplication, priority, pace and campaign; not its times."""
    ground = await Ground.lay(db, 8)
    deadline = datetime.now(UTC) + timedelta(hours=1)
    old = await ended(ground, priority="low", campaign="spring", deadline=deadline, title="Spring")
    edited = Message.model_validate({"texts": {"default": {"title": "Edited"}}})
    await db.execute(
        "insert into push_content (push_no, version, message) values ($1, 2, $2)", old, edited.canonical()
    )
    await db.execute("update push set content_version = 2, pace = 25 where push_no = $1", old)

    await again(db, old)

    new = await pushes.find(db, "old.r1")
    facts, before = await pushes.facts(db, new), await pushes.facts(db, old)
    kept = ("dedup_key", "priority", "campaign_id", "app_no", "kind", "mask", "guarantee", "weight")
    assert [getattr(facts, name) for name in kept] == [getattr(before, name) for name in kept]
    assert (facts.retry_of, facts.deadline) == (old, None)
    assert await pushes.message(db, new, 1) == edited
    assert (await report.progress(db, new)).pace == 25
    spec, closed = await retry.opened(db, "old.r1")
    assert (spec.title, spec.send_at, closed) == ("Spring", None, None)
    started = await pushes.open_push(db, PushSpec.model_validate(spec.model_dump() | {"id": None}), "old.r1")
    assert (started.push_no, started.opened) == (new, "open")


async def test_the_audit_says_it(db: Database) -> None:
    """Who, when, what was asked and what came of it, with the old push."""
    ground = await Ground.lay(db, 8)
    old = await ended(ground)

    await again(db, old, states=["dead"], reasons=["busy"], by="ada")

    shown = await report.show(db, "old")
    word = shown.history[0]
    assert (word.who, word.what, word.after) == ("ada", "retry", {"retried_by": "old.r1"})
    assert word.args == {"states": ["dead"], "reasons": ["busy"]}
    assert shown.chain == ("old", "old.r1")


async def test_the_same_command_again_is_the_same_push(db: Database) -> None:
    """Repeated, also ten times at once: one push, one answer."""
    ground = await Ground.lay(db, 8)
    old = await ended(ground)
    id = uuid4()

    answers = await asyncio.gather(*(again(db, old, id) for _ in range(10)))

    assert {answer.push_id for answer in answers} == {"old.r1"}
    assert sorted(answer.already for answer in answers) == [False] + [True] * 9
    assert await db.fetchval("select count(*) from push") == 2


async def test_rows_are_taken_once(db: Database) -> None:
    """Who asks for them again is sent to the push that has taken them; others may still be retried."""
    ground = await Ground.lay(db, 8)
    old = await ended(ground)
    await again(db, old, states=["dead"])

    with pytest.raises(CommandRefused, match=r"old\.r1 \(open\) has taken these rows of old"):
        await again(db, old, states=["dead", "rejected"])
    assert (await again(db, old, states=["rejected"], reasons=["Busy"])).push_id == "old.r2"
    assert (await again(db, old, states=["rejected"], reasons=["payload_too_large"])).push_id == "old.r3"


async def test_a_push_over_closed_rows_takes_none_that_are_taken(db: Database) -> None:
    """However it is started; by the short names of reasons, too, and the other way round."""
    ground = await Ground.lay(db, 8)
    old = await ended(ground)
    await again(db, old, states=["rejected"], reasons=["Busy"])

    def raw(**rows: Any) -> PushSpec:
        return ground.spec(audience={"retry": {"push": "old", **rows}})

    for rows in ({"states": ["rejected"]}, {"states": ["rejected"], "reasons": ["Busy"]}):
        with pytest.raises(BadSpec, match=r"old\.r1 \(open\) has taken these rows of old"):
            await pushes.open_push(db, raw(**rows), "mine")
    opened = await pushes.open_push(db, raw(states=["dead"], reasons=["Busy"]), "mine")
    assert await users(ground, "mine") == [5, 6]
    assert (await pushes.open_push(db, raw(states=["dead"], reasons=["Busy"]), "mine")).opened == "open"
    with pytest.raises(CommandRefused, match=r"mine \(open\) has taken these rows of old"):
        await again(db, old, states=["dead"], reasons=[BUSY])
    assert opened.opened == "new"


async def test_of_two_that_take_the_same_rows_at_once_one_is_refused(db: Database) -> None:
    """Started in the same instant; the same start twice is one push, as ever."""
    ground = await Ground.lay(db, 8)
    await ended(ground)
    spec = ground.spec(audience={"retry": {"push": "old", "states": ["rejected"]}})

    answers = await asyncio.gather(
        *(pushes.open_push(db, spec, f"mine-{n // 4}") for n in range(8)), return_exceptions=True
    )

    assert sorted(type(answer).__name__ for answer in answers) == ["BadSpec"] * 4 + ["OpenedPush"] * 4
    assert await db.fetchval("select count(*) from push") == 2


async def test_a_retry_is_retried_in_its_chain(db: Database) -> None:
    """The next in the chain has the next number and the first one's key; explain tells all of it."""
    ground = await Ground.lay(db, 8)
    old = await ended(ground)
    await again(db, old, states=["dead"])
    await users(ground, "old.r1")
    first = await pushes.find(db, "old.r1")
    with pytest.raises(CommandRefused, match=r"old\.r1 is not closed"):
        await again(db, first, states=["cancelled"])
    await close(ground, first)

    second = await again(db, first, states=["cancelled"])

    assert (second.push_id, second.retry_of, second.audience) == ("old.r2", "old.r1", 2)
    assert await users(ground, "old.r2") == await users(ground, "old.r1")
    user = await db.fetchval(
        "select user_id from usr join delivery using (user_no) where push_no = $1 and seq = 4", old
    )
    fates = (await report.explain(db, ground.app, user, "old")).fates
    assert [(fate.push_id, fate.state) for fate in fates] == [
        ("old", "dead"),
        ("old.r1", "cancelled"),
        ("old.r2", "planned"),
    ]


async def test_an_id_that_is_taken_is_passed_over(db: Database) -> None:
    """Somebody has called a push of theirs old.r1: the retry is old.r2."""
    ground = await Ground.lay(db, 8)
    old = await ended(ground)
    await ground.open("old.r1")

    assert (await again(db, old)).push_id == "old.r2"


async def test_refusals_say_what_there_is(db: Database) -> None:
    """Open, nothing that ended so, a reason that nobody knows, a past deadline: nothing is opened."""
    ground = await Ground.lay(db, 8)
    still_open = await ground.open("still-open")
    old = await ended(ground)
    with pytest.raises(CommandRefused, match="still-open is not closed: cancel it, or wait"):
        await again(db, still_open)
    with pytest.raises(
        CommandRefused, match=r"no delivery of old ended in_doubt; it has .*2 dead for scripted"
    ):
        await again(db, old, states=["in_doubt"])
    with pytest.raises(CommandRefused, match=r"ended dead for clarion:payload_too_large; it has"):
        await again(db, old, states=["dead"], reasons=["payload_too_large"])
    with pytest.raises(BadInput, match="reason 'Bussy'"):
        await again(db, old, reasons=["Bussy"])
    with pytest.raises(CommandRefused, match="deadline is past"):
        await again(db, old, deadline=datetime(2020, 1, 1, tzinfo=UTC))
    with pytest.raises(NotFound):
        await again(db, 17)

    assert await db.fetchval("select count(*) from push") == 2


@pytest.mark.parametrize("took", [{"states": ["in_doubt"]}, {"states": ["dead"], "reasons": ["Bussy"]}])
async def test_a_start_by_hand(db: Database, took: dict[str, Any]) -> None:
    """The same as a spec: by state and reason, and refused when nothing ended so."""
    ground = await Ground.lay(db, 8)
    await ended(ground)
    with pytest.raises(BadSpec, match="no delivery of push 'old' ended so"):
        await ground.open("mine", audience={"retry": {"push": "old"} | took})

    await ground.open(
        "mine", audience={"retry": {"push": "old", "states": ["dead", "rejected"], "reasons": ["busy"]}}
    )

    assert len(await users(ground, "mine")) == 3


async def test_a_name_that_gets_too_long(db: Database) -> None:
    """Ids have 128 characters: refused, nothing half done."""
    ground = await Ground.lay(db, 8)
    old = await ended(ground, "x" * 127)

    with pytest.raises(CommandRefused, match="too long"):
        await again(db, old)
