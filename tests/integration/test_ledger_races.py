"""Scripted races and corners of the ledger, on real connections."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from clarion.errors import CommandRefused
from clarion.model.ledger import Code, Hold, Reason, State
from clarion.store import push as pushes
from clarion.store import report
from clarion.store.database import Database
from clarion.store.ledger import SQL, Closed, Ledger
from tests.support.ground import Ground, Hand, statement

WRONG_DEVICE, UNREGISTERED = 501, 502


# ── opening ───────────────────────────────────────────────────────────────────────────────────────


async def test_twelve_openers_on_a_new_day(database_url: str) -> None:
    """Twelve open the same push on a day without partitions: one makes it, all get the same number."""
    db = await Database.connect(database_url, min_size=12, max_size=12)
    ground = await Ground.lay(db, 3)
    spec = ground.spec(send_at=datetime.now(UTC) + timedelta(days=40))

    opened = await asyncio.gather(*(pushes.open_push(db, spec, "dawn") for _ in range(12)))

    assert sorted(o.opened for o in opened) == ["new"] + ["open"] * 11
    assert len({o.push_no for o in opened}) == 1
    day = spec.send_at.strftime("_%Y%m%d") if spec.send_at else ""
    for parent in ("delivery", "batch"):
        assert await db.fetchval("select to_regclass($1) is not null", f"{parent}{day}")
    await db.close()


async def test_different_openers_on_a_new_day(database_url: str) -> None:
    """Twelve different pushes on a day without partitions: each is made once, nobody trips."""
    db = await Database.connect(database_url, min_size=12, max_size=12)
    ground = await Ground.lay(db, 3)
    spec = ground.spec(send_at=datetime.now(UTC) + timedelta(days=41))

    opened = await asyncio.gather(*(pushes.open_push(db, spec, f"dawn-{n}") for n in range(12)))

    assert {o.opened for o in opened} == {"new"}
    assert len({o.push_no for o in opened}) == 12
    await db.close()


async def test_another_push_under_the_same_id(db: Database) -> None:
    """The same id with other content is told apart, for ever; the same words find the push."""
    ground = await Ground.lay(db, 3)
    push_no = await ground.open("spring")

    again = await pushes.open_push(db, ground.spec(id="spring"), "spring")
    other = await pushes.open_push(db, ground.spec(pace=5), "spring")

    assert (again.opened, again.push_no) == ("open", push_no)
    assert other.opened == "different"


# ── freezing ──────────────────────────────────────────────────────────────────────────────────────


async def test_a_freeze_begun_before_a_close(db: Database) -> None:
    """A freeze that is still writing when the push begins to close leaves nothing behind."""
    ground = await Ground.lay(db, 30)
    push_no = await ground.open()
    await pushes.plan(db, push_no)
    slow = "(select null::timestamptz from pg_sleep(0.4))"

    freezing = asyncio.create_task(pushes.freeze(db, push_no, 0, opens=slow))
    await statement(db, "pg_sleep")
    await ground.say(push_no, "close", verdict="cancelled")
    frozen = await freezing

    assert frozen == pushes.Frozen(closing=True)
    assert await ground.batches(push_no) == []
    assert await Ledger(db).close(push_no) == Closed(0, 0)


async def test_a_close_waits_for_a_freeze_past_its_gate(db: Database) -> None:
    """A freeze past its gate is not overtaken: the close comes after its commit and sees its rows."""
    ground = await Ground.lay(db, 30)
    push_no = await ground.frozen()
    async with db.transaction() as connection:
        assert await connection.fetchval(pushes.SQL.gate, push_no) == Hold.NONE
        closing = asyncio.create_task(ground.say(push_no, "close", verdict="cancelled"))
        await statement(db, "push.command", waits=True)
    await closing

    assert (await Ledger(db).close(push_no)).left_open == 0


async def test_two_freeze_the_same_range(db: Database) -> None:
    """Two attempts freeze one range at once: one writes, the other finds its mark."""
    ground = await Ground.lay(db, 200)
    push_no = await ground.open()
    await pushes.plan(db, push_no)

    slow = "(select null::timestamptz from pg_sleep(0.4))"

    frozen = await asyncio.gather(*(pushes.freeze(db, push_no, 0, opens=slow) for _ in range(3)))

    assert sorted(f.rows for f in frozen) == [0, 0, 200]
    assert (await report.reconcile(db, push_no)).audience == 200


# ── taking and stepping ───────────────────────────────────────────────────────────────────────────


async def test_a_live_lease_is_respected(db: Database) -> None:
    """TAKE under another's live lease is refused, says how long it lasts, and changes nothing."""
    ground = await Ground.lay(db, 5)
    push_no = await ground.frozen()
    mine = Hand(db, push_no)
    await mine.take()

    refused = await Hand(db, push_no).take()

    assert (refused.epoch, refused.why) == (None, "leased")
    assert 8 < refused.wait_s <= 10
    assert (await mine.step(claim=4)).granted
    assert (await mine.take()).epoch == 2, "its own repeat takes again"


async def test_a_take_behind_a_renewing_step(db: Database) -> None:
    """A TAKE that waits for a STEP sees the lease which that STEP renewed."""
    ground = await Ground.lay(db, 5)
    push_no = await ground.frozen()
    mine = Hand(db, push_no, lease=0.05)
    taken = await mine.take()
    await asyncio.sleep(0.1)
    async with db.transaction() as connection:
        row = await connection.fetchrow(
            SQL.step, push_no, 0, taken.epoch, (), 0, b"", (), (), (), 1, 2, timedelta(seconds=9), (), ()
        )
        assert row is not None
        assert row["granted"]
        other = asyncio.create_task(Hand(db, push_no).take())
        await statement(db, "ledger.take", waits=True)
    refused = await other

    assert refused.why == "leased"
    assert refused.wait_s > 5


async def test_a_step_behind_a_pause(db: Database) -> None:
    """After an acknowledged pause nothing is granted, but to a STEP that has been waiting, once."""
    ground = await Ground.lay(db, 9)
    push_no = await ground.frozen()
    hand = Hand(db, push_no)
    await hand.take()
    async with db.transaction() as connection:
        await connection.execute("select from batch where push_no = $1 for no key update", push_no)
        waiting = asyncio.create_task(hand.step(claim=3))
        await statement(db, "ledger.step", waits=True)
        await ground.say(push_no, "pause", reason="typo")
    await waiting
    after = await hand.step(claim=8)

    assert (after.granted, after.hold, after.mine) == (False, Hold.PAUSED, True)
    claimed = await db.fetchval("select claimed_to from batch where push_no = $1", push_no)
    assert claimed <= 3


async def test_a_step_arriving_after_its_release(db: Database) -> None:
    """A STEP that an abandoned connection delivers after RELEASE is granted nothing."""
    ground = await Ground.lay(db, 5)
    push_no = await ground.frozen()
    hand = Hand(db, push_no)
    await hand.take()
    assert await hand.release()

    late = await hand.step(claim=4)

    assert (late.mine, late.granted) == (False, False)
    assert (await Hand(db, push_no).take()).redone == 0


async def test_a_crash_is_marked_and_repeated(db: Database) -> None:
    """Rows up to the watermark of a dead attempt are marked; those beyond it were never sent."""
    ground = await Ground.lay(db, 10)
    push_no = await ground.frozen()
    dead = Hand(db, push_no, lease=0.05)
    await dead.take()
    await dead.step(claim=5)
    await dead.step(outcomes=dead.outcomes(accepted=[0, 1]))
    await asyncio.sleep(0.1)

    taken = await Hand(db, push_no).take()

    assert (taken.redone, taken.careful) == (4, False)
    doubtful = await db.fetch("select seq from delivery where push_no = $1 and doubt order by 1", push_no)
    assert [row["seq"] for row in doubtful] == [2, 3, 4, 5]


async def test_a_late_answer_is_still_written(db: Database) -> None:
    """An answer is a fact whoever brings it: it replaces in doubt, and the second one changes nothing."""
    ground = await Ground.lay(db, 4)
    push_no = await ground.frozen(delivery_guarantee="at_most_once")
    dead = Hand(db, push_no, lease=0.05)
    await dead.take()
    await dead.step(claim=3)
    await asyncio.sleep(0.1)
    await Hand(db, push_no).take()
    assert await ground.states(push_no) == [State.IN_DOUBT] * 4

    await dead.step(claim=None, outcomes=dead.outcomes(accepted=[0], rejected=[1], dead=[2]))
    await dead.step(claim=None, outcomes=dead.outcomes(rejected=[0]))

    assert await ground.states(push_no) == [
        State.ACCEPTED, State.REJECTED, State.IN_DOUBT, State.IN_DOUBT,
    ]  # fmt: skip
    assert (await report.reconcile(db, push_no)).bad_batches == 0


async def test_an_answer_repairs_a_wrong_decision(db: Database) -> None:
    """Whatever was decided of a row, an answer corrects it, and the counters with it."""
    ground = await Ground.lay(db, 4)
    push_no = await ground.frozen()
    hand = Hand(db, push_no)
    await hand.take()
    await hand.step(claim=3)
    await hand.step(outcomes=hand.outcomes(suppressed=[0], expired=[1], dead=[2]))

    await hand.step(outcomes=hand.outcomes(accepted=[0, 1, 2]))

    assert await ground.states(push_no) == [State.ACCEPTED] * 3 + [State.PLANNED]
    assert (await report.reconcile(db, push_no)).bad_batches == 0


async def test_an_answer_for_a_row_booked_cancelled(db: Database) -> None:
    """An answer for a row that the close called cancelled corrects row and counters."""
    ground = await Ground.lay(db, 4)
    push_no = await ground.frozen()
    hand = Hand(db, push_no, lease=0.05)
    await hand.take()
    await ground.say(push_no, "close", verdict="cancelled")
    await asyncio.sleep(0.1)
    assert await Ledger(db).close(push_no) == Closed(1, 0)
    assert await ground.states(push_no) == [State.CANCELLED] * 4

    await hand.step(claim=None, outcomes=hand.outcomes(accepted=[2]))

    assert await ground.states(push_no) == [6, 6, State.ACCEPTED, 6]
    (lane,) = await report.counts(db, push_no)
    assert (lane["cancelled"], lane["accepted"]) == (3, 1)
    assert (await report.reconcile(db, push_no)).bad_batches == 0


async def test_poison(db: Database) -> None:
    """After three deaths one row at a time; the seventh TAKE books the row that kills everybody."""
    ground = await Ground.lay(db, 3)
    push_no = await ground.frozen()
    careful = []
    for _ in range(6):
        hand = Hand(db, push_no, lease=0.01)
        careful.append((await hand.take()).careful)
        await hand.step(claim=0)
        await asyncio.sleep(0.03)
    assert careful == [False, False, False, True, True, True]

    taken = await Hand(db, push_no).take()

    assert taken.redone == 0
    row = await db.fetchrow("select state, reason from delivery where push_no = $1 and seq = 0", push_no)
    assert row is not None
    assert tuple(row) == (State.IN_DOUBT, Reason.POISON)
    assert (await report.reconcile(db, push_no)).bad_batches == 0


async def test_a_push_with_open_rows_does_not_close(db: Database) -> None:
    """Nothing is closed while a row is open, whatever was said."""
    ground = await Ground.lay(db, 4)
    push_no = await ground.frozen()
    assert await pushes.close_push(db, push_no) is None
    await ground.say(push_no, "close", verdict="failed")
    assert await pushes.close_push(db, push_no) is None
    await Ledger(db).close(push_no)

    result = await pushes.close_push(db, push_no)

    assert result is not None
    assert result["verdict"] == "failed"
    assert [lane["cancelled"] for lane in result["lanes"]] == [4]


async def test_pause_does_not_forget_a_drain(db: Database) -> None:
    """While draining a pause is refused: a resume after it would begin what the drain gave up."""
    ground = await Ground.lay(db, 4)
    push_no = await ground.frozen()
    await ground.say(push_no, "drain")

    with pytest.raises(CommandRefused, match="draining"):
        await ground.say(push_no, "pause")


# ── wrong devices ─────────────────────────────────────────────────────────────────────────────────


async def answered(db: Database, push_no: int, answers: int, suspects: int, others: int) -> None:
    """So many answers: suspects say "wrong device", others kill their address for another reason."""
    hand = Hand(db, push_no)
    await hand.take()
    await hand.step(claim=answers - 1)
    outcomes = hand.outcomes(accepted=list(range(suspects + others, answers)))
    for seq in range(suspects + others):
        outcomes.add(seq, Code.REJECTED, WRONG_DEVICE if seq < suspects else UNREGISTERED)
        outcomes.retire(seq)
    await hand.step(outcomes=outcomes)
    await hand.release()


async def test_wrong_devices_wait_for_two_hundred_answers(db: Database) -> None:
    """Before 200 answers nobody is retired for being the wrong device; others are."""
    ground = await Ground.lay(db, 300)
    push_no = await ground.frozen()
    await answered(db, push_no, 199, suspects=150, others=3)

    done = await Ledger(db).retire(push_no, [WRONG_DEVICE], 1000)

    assert (done.handled, done.waiting, done.retired, done.wrong_lanes) == (3, 150, 3, ())


async def test_thirty_percent_wrong_devices_mean_a_wrong_credential(db: Database) -> None:
    """From 30 % of 200 answers on the lane is named and no registration retires for that reason."""
    ground = await Ground.lay(db, 300)
    push_no = await ground.frozen()
    await answered(db, push_no, 200, suspects=60, others=5)
    ledger = Ledger(db)

    done = await ledger.retire(push_no, [WRONG_DEVICE], 1000)

    assert (done.handled, done.waiting, done.retired, done.wrong_lanes) == (65, 0, 5, (1,))
    assert await db.fetchval("select count(*) from registration where status = 3") == 5


async def test_fewer_wrong_devices_are_retired(db: Database) -> None:
    """Below 30 % they are simply dead addresses."""
    ground = await Ground.lay(db, 300)
    push_no = await ground.frozen()
    await answered(db, push_no, 200, suspects=59, others=0)

    done = await Ledger(db).retire(push_no, [WRONG_DEVICE], 1000)

    assert (done.retired, done.wrong_lanes) == (59, ())


async def test_a_lane_blocked_for_wrong_devices_drops_them(db: Database) -> None:
    """Once the lane is blocked for that reason its entries are dropped, without another alarm."""
    ground = await Ground.lay(db, 300)
    push_no = await ground.frozen()
    await answered(db, push_no, 50, suspects=20, others=0)
    ledger = Ledger(db)
    await ledger.block(ground.app_no, 1, True, WRONG_DEVICE)

    done = await ledger.retire(push_no, [WRONG_DEVICE], 1000)

    assert (done.handled, done.retired, done.wrong_lanes) == (20, 0, ())


async def test_two_pushes_retire_the_same_devices(db: Database) -> None:
    """Two pushes that kill the same addresses at once do not deadlock, and each address ends once."""
    ground = await Ground.lay(db, 300)
    numbers = [await ground.frozen() for _ in range(2)]
    for push_no in numbers:
        await answered(db, push_no, 300, suspects=0, others=300)
    ledger = Ledger(db)

    done = await asyncio.gather(*(ledger.retire(push_no, [], 1000) for push_no in numbers))

    assert sum(d.handled for d in done) == 600
    assert sum(d.retired for d in done) == 300


async def test_blocking_twice_is_blocking_once(db: Database) -> None:
    """Many senders report the same refusal: one of them changes the lane, and the audit has one entry."""
    ground = await Ground.lay(db, 2)
    ledger = Ledger(db)

    versions = await asyncio.gather(*(ledger.block(ground.app_no, 1, True, 7) for _ in range(4)))

    assert sorted(v for v in versions if v is not None) == [1]
    assert await db.fetchval("select count(*) from audit where what = 'block'") == 1
    assert await ledger.block(ground.app_no, 1, False) == 2


async def test_a_command_is_done_once(db: Database) -> None:
    """Two connections bring the same command at once: it is done once, both hear the same."""
    ground = await Ground.lay(db, 2)
    push_no = await ground.open()
    command_id = uuid4()

    answers = await asyncio.gather(
        *(pushes.command(db, push_no, command_id, "ann", "set", {"pace": 9.5}) for _ in range(3))
    )

    assert {answer.version for answer in answers} == {1}
    assert await db.fetchval("select count(*) from audit where push_no = $1", push_no) == 1
