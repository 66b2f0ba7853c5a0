"""Phones with two addresses: tried through the next lane when the first refuses them, or is blocked."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from benchmarks.devices import registration
from clarion.model.ledger import State
from clarion.model.spec import PushSpec
from clarion.store import apps, devices, report
from clarion.store import push as pushes
from clarion.store.database import Database
from clarion.store.intake import Intake
from clarion.store.ledger import Ledger
from clarion.store.locales import Locales
from tests.support.ground import MESSAGE, Ground, Hand, statement

REFUSED = 300  # the number of a reason


async def add_second_lane(db: Database, where: str = "true") -> None:
    """Another address, in lane 2, for the phones of lane 1."""
    await db.execute(
        "insert into registration (device_no, user_no, app_no, lane, token)"
        f" select device_no, user_no, app_no, 2, 'second-' || device_no from registration where {where}"
    )


async def rows_of(db: Database, push_no: int) -> list[tuple[int, int, str, bool]]:
    """(lane, user's number from 1 on, state, passed on), in that order."""
    rows = await db.fetch(
        "select s.lane, substr(u.user_id, 2)::int as number, s.state, s.passed_on"
        " from delivery_now s join usr u using (user_no) where s.push_no = $1 order by 1, 2",
        push_no,
    )
    return [(row["lane"], row["number"], State(row["state"]).name.lower(), row["passed_on"]) for row in rows]


async def looks_to_move(db: Database, push_no: int) -> bool:
    """What the push loop is told."""
    return (await Ledger(db).next_work(push_no, [], 10)).moves


# ── the first ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("says", "goes_by"),
    [
        ({}, "fcm"),
        ({"google_services": True, "manufacturer": "HUAWEI"}, "fcm"),
        ({"google_services": False, "manufacturer": "HUAWEI"}, "hms"),
        ({"google_services": False, "manufacturer": "Honor "}, "hms"),
        ({"google_services": False}, "hms"),
        ({"google_services": False, "manufacturer": "Xiaomi"}, "xiaomi"),
        ({"google_services": "no", "manufacturer": "POCO"}, "xiaomi"),
        ({"google_services": "false", "manufacturer": "samsung"}, "jpush"),
    ],
)
async def test_of_a_phones_addresses_the_first_that_fits(
    db: Database, says: dict[str, Any], goes_by: str
) -> None:
    """FCM needs Google services, a vendor its own phones; an aggregator fits all. Unsaid: the order."""
    app_no = await app_with_lanes(db, "fcm", "hms", "xiaomi", "jpush")
    await register(db, app_no, ["fcm", "hms", "xiaomi", "jpush"], says)

    assert await taken(db) == [goes_by]


@pytest.mark.parametrize("lanes", [["apns"], ["fcm"], ["apns", "webpush"], ["jpush", "umeng"]])
async def test_lanes_among_which_nothing_is_to_choose(db: Database, lanes: list[str]) -> None:
    """One, or none that a phone's word is about: the order of lanes, as ever."""
    app_no = await app_with_lanes(db, *lanes)
    await db.execute("insert into usr (app_no, user_id) values ($1, 'one')", app_no)
    await db.execute(
        "insert into device (app_no, installation, user_no, platform, google_services, manufacturer)"
        " select app_no, gen_random_uuid(), user_no, 2, false, 'samsung' from usr"
    )
    await db.execute(
        "insert into registration (device_no, user_no, app_no, lane, token)"
        " select device_no, user_no, d.app_no, lane, 't' || lane from device d join credential using (app_no)"
    )

    assert await taken(db) == lanes[:1]


async def test_an_address_that_does_not_fit_is_better_than_none(db: Database) -> None:
    """The only one is taken, and of two that do not fit the first in the app's order."""
    app_no = await app_with_lanes(db, "fcm", "hms")
    says = {"google_services": False, "manufacturer": "samsung"}
    await register(db, app_no, ["hms", "fcm"], says)
    await register(db, app_no, ["fcm"], says, user="two")

    assert await taken(db) == ["fcm", "fcm"]


async def test_what_a_phone_said_stays_until_it_says_otherwise(db: Database) -> None:
    """A registration without the fields changes nothing; one that has them does, `false` as well."""
    app_no = await app_with_lanes(db, "fcm", "hms")
    await register(db, app_no, ["hms", "fcm"], {"google_services": False, "manufacturer": "Huawei"})
    await register(db, app_no, ["fcm"], {})
    kept = await db.fetchrow("select manufacturer, google_services from device")
    await register(db, app_no, ["fcm"], {"google_services": True})
    changed = await db.fetchrow("select manufacturer, google_services from device")

    assert kept is not None
    assert changed is not None
    assert (tuple(kept), tuple(changed)) == (("huawei", False), ("huawei", True))


async def app_with_lanes(db: Database, *providers: str) -> int:
    """An app with a lane for each of them, in this order."""
    app_no = await db.fetchval(
        "insert into app (name, lane_order) values ('phones', $1) returning app_no",
        list(range(1, len(providers) + 1)),
    )
    await db.execute(
        "insert into credential (app_no, lane, name, provider, secret)"
        " select $1, n, p, p, 'sealed' from unnest($2::text[]) with ordinality x (p, n)",
        app_no,
        list(providers),
    )
    return int(app_no)


async def register(
    db: Database, app_no: int, lanes: list[str], says: dict[str, Any], user: str = "one"
) -> None:
    """One phone of the user, known to these lanes."""
    app = await apps.get(db, "phones")
    intake = await Intake.load(db, app)
    phone = {"user_id": user, "platform": "android", "installation": f"phone of {user}"} | says
    fields = [phone | {"lane": lane, "token": registration(lane, 7, f"{user:0>64}")} for lane in lanes]
    await devices.register(db, await Locales.load(db), intake, fields)


async def taken(db: Database) -> list[str]:
    """By which provider each user of the app is reached."""
    spec = PushSpec.model_validate({"app": "phones", "audience": {"everybody": True}, "message": MESSAGE})
    opened = await pushes.open_push(db, spec, "first")
    await pushes.plan(db, opened.push_no)
    await pushes.freeze(db, opened.push_no, 0)
    rows = await db.fetch(
        "select c.provider from delivery_now s join registration r using (registration_no)"
        " join credential c on c.app_no = r.app_no and c.lane = r.lane where s.push_no = $1",
        opened.push_no,
    )
    return [row["provider"] for row in rows]


# ── refused ───────────────────────────────────────────────────────────────────────────────────────


async def test_fallback_goes_through_the_next_lane(db: Database) -> None:
    """Phones whose first address ended rejected or dead are tried through the next lane, once."""
    ground = await Ground.lay(db, 4)
    await add_second_lane(db, "device_no % 2 = 0")
    push_no = await ground.frozen()
    hand = Hand(db, push_no)
    await hand.take()
    await hand.step(claim=3)
    await hand.step(outcomes=hand.outcomes(accepted=[0], rejected=[1, 2], dead=[3]))

    assert await pushes.plan_fallback(db, push_no) == 1
    assert await pushes.plan_fallback(db, push_no) == 0
    frozen = await pushes.freeze(db, push_no, 1)

    rows = await db.fetch(
        "select batch, seq, passed_on from delivery where push_no = $1 order by 1, 2", push_no
    )
    assert frozen.rows == 2
    assert [row["passed_on"] for row in rows if row["batch"] < 10_000].count(True) == 2
    assert not any(row["passed_on"] for row in rows if row["batch"] >= 10_000)
    assert [(c["audience"], c["fell_back"]) for c in await report.counts(db, push_no)] == [(4, 0), (2, 2)]
    account = await report.reconcile(db, push_no)
    assert (account.audience, account.fell_back, account.bad_batches) == (4, 2, 0)
    assert (await report.progress(db, push_no)).audience == 4


async def test_a_fallback_waits_until_all_is_done(db: Database) -> None:
    """With open rows, under a hold or past the deadline no range is added."""
    ground = await Ground.lay(db, 3)
    push_no = await ground.frozen()
    hand = Hand(db, push_no)
    await hand.take()
    await hand.step(claim=2)
    await hand.step(outcomes=hand.outcomes(accepted=[0], rejected=[1]))
    assert await pushes.plan_fallback(db, push_no) == 0
    await hand.step(outcomes=hand.outcomes(rejected=[2]))
    await ground.say(push_no, "pause")
    assert await pushes.plan_fallback(db, push_no) == 0
    await ground.say(push_no, "resume")
    await db.execute("update push set deadline = now() - interval '1 s' where push_no = $1", push_no)
    assert await pushes.plan_fallback(db, push_no) == 0
    await db.execute("update push set deadline = 'infinity' where push_no = $1", push_no)

    assert await pushes.plan_fallback(db, push_no) == 1


async def test_a_fallback_leaves_a_blocked_lane_out(db: Database) -> None:
    """A phone whose other provider has blocked us is not moved to where it would only wait."""
    ground = await Ground.lay(db, 2)
    await add_second_lane(db)
    await Ledger(db).block(ground.app_no, 2, True, 300)
    push_no = await ground.frozen()
    hand = Hand(db, push_no)
    await hand.take()
    await hand.step(claim=1)
    await hand.step(outcomes=hand.outcomes(rejected=[0, 1]))

    assert await pushes.plan_fallback(db, push_no) == 1

    assert (await pushes.freeze(db, push_no, 1)).rows == 0


async def test_a_phone_is_tried_twice_and_not_three_times(db: Database) -> None:
    """Moved out of a blocked lane and refused there: with a third address, too, that is its end."""
    ground = await Ground.lay(db, 2)
    await add_second_lane(db)
    await db.execute(
        "insert into credential (app_no, lane, name, provider) values ($1, 3, 'lane3', 'fcm')", ground.app_no
    )
    await db.execute(
        "insert into registration (device_no, user_no, app_no, lane, token)"
        " select device_no, user_no, app_no, 3, 'third-' || device_no from registration where lane = 2"
    )
    push_no = await ground.frozen()
    await Ledger(db).block(ground.app_no, 1, True, REFUSED)
    assert await pushes.plan_move(db, push_no) == 1
    await pushes.freeze(db, push_no, 1)
    hand = Hand(db, push_no, 10_000)
    await hand.take()
    await hand.step(claim=1)
    await hand.step(outcomes=hand.outcomes(accepted=[0], rejected=[1]))
    await hand.release()

    assert await pushes.plan_fallback(db, push_no) == 1
    assert (await pushes.freeze(db, push_no, 2)).rows == 0
    account = await report.reconcile(db, push_no)
    assert (account.audience, account.fell_back, account.bad_batches) == (2, 2, 0)


# ── blocked ───────────────────────────────────────────────────────────────────────────────────────


async def test_phones_of_a_blocked_lane_move_to_their_next_one(db: Database) -> None:
    """Those with another address; the others wait for the credential. A phone counts once."""
    ground = await Ground.lay(db, 6)
    await add_second_lane(db, "device_no % 2 = 0")
    push_no = await ground.frozen()
    assert not await looks_to_move(db, push_no)
    assert await pushes.plan_move(db, push_no) == 0
    await Ledger(db).block(ground.app_no, 1, True, REFUSED)

    assert await looks_to_move(db, push_no)
    assert await pushes.plan_move(db, push_no) == 1
    assert await pushes.plan_move(db, push_no) == 0
    frozen = await pushes.freeze(db, push_no, 1)
    again = await pushes.freeze(db, push_no, 1)

    assert (frozen.rows, frozen.moved, again.already) == (3, (("apns", "rejected", 3),), True)
    both = await rows_of(db, push_no)
    assert len([row for row in both if row[0] == 1 and row[2:] == ("rejected", True)]) == 3
    assert len([row for row in both if row[0] == 1 and row[2:] == ("planned", False)]) == 3
    assert [row[2:] for row in both if row[0] == 2] == [("planned", False)] * 3
    account = await report.reconcile(db, push_no)
    assert (account.audience, account.fell_back, account.open, account.bad_batches) == (6, 3, 6, 0)
    moved = next(number for lane, number, state, _ in both if lane == 1 and state == "rejected")
    fates = (await report.explain(db, ground.app, f"u{moved}", await push_id(db, push_no))).fates
    assert [(fate.state, fate.reason) for fate in fates] == [("rejected", "clarion:blocked"), ("planned", "")]
    assert not await looks_to_move(db, push_no)


async def test_what_may_have_been_sent_does_not_move(db: Database) -> None:
    """In doubt, or claimed by an attempt that died: such a phone waits, or it could have two messages."""
    ground = await Ground.lay(db, 5)
    await add_second_lane(db)
    push_no = await ground.frozen()
    first = Hand(db, push_no)
    await first.take()
    await first.step(claim=2)
    await first.step(outcomes=first.outcomes(accepted=[0], maybe=[1], refused=[2]))
    await first.release()
    await db.execute("update delivery set at = now() where state = 1")
    await db.execute("update batch set due_at = now()")
    second = Hand(db, push_no)
    await second.take()
    await second.step(claim=3)  # 1 again, 2 again and 3: it dies here
    await db.execute("update batch set lease_until = now() - interval '1 s'")
    await Ledger(db).block(ground.app_no, 1, True, REFUSED)
    assert await pushes.plan_move(db, push_no) == 1

    frozen = await pushes.freeze(db, push_no, 1)

    assert frozen.rows == 1
    assert await ground.states(push_no) == [State.ACCEPTED, *[State.PLANNED] * 3, State.REJECTED]
    assert (await report.reconcile(db, push_no)).bad_batches == 0


async def test_retries_that_surely_were_not_taken_move(db: Database) -> None:
    """Refused without effect, and due later: they go by the other lane now, and the batch has no retries."""
    ground = await Ground.lay(db, 2)
    await add_second_lane(db)
    push_no = await ground.frozen()
    hand = Hand(db, push_no)
    await hand.take()
    await hand.step(claim=0)
    await hand.step(outcomes=hand.outcomes(refused=[0]))
    await hand.release()
    await Ledger(db).block(ground.app_no, 1, True, REFUSED)
    assert await pushes.plan_move(db, push_no) == 1

    assert (await pushes.freeze(db, push_no, 1)).rows == 2

    batch = await db.fetchrow("select retry, due_at, open, rejected from batch where batch = 0")
    assert batch is not None
    assert dict(batch) == {"retry": 0, "due_at": None, "open": 0, "rejected": 2}


async def test_nothing_moves_while_something_else_may_go_out(db: Database) -> None:
    """Another lane with open rows, an attempt that lives, a hold, the deadline, a spec without fallback."""
    ground = await Ground.lay(db, 4, lane="1 + g % 2")
    push_no = await ground.frozen()
    await Ledger(db).block(ground.app_no, 1, True, REFUSED)
    assert not await looks_to_move(db, push_no)
    assert await pushes.plan_move(db, push_no) == 0
    await db.execute("update batch set accepted = size where lane = 2")
    assert await looks_to_move(db, push_no)
    await db.execute(
        "update batch set lease_until = now() + interval '10 s', owner = gen_random_uuid() where lane = 1"
    )
    assert not await looks_to_move(db, push_no)
    await db.execute("update batch set lease_until = null")
    for change, back in (
        ("hold = 2", "hold = 0"),
        ("deadline = now() - interval '1 s'", "deadline = 'infinity'"),
    ):
        await db.execute(f"update push set {change}")
        assert await pushes.plan_move(db, push_no) == 0
        await db.execute(f"update push set {back}")
    await Ledger(db).block(ground.app_no, 2, True, REFUSED)
    assert not await looks_to_move(db, push_no)

    without = await Ground.lay(db, 1)
    await add_second_lane(db, f"app_no = {without.app_no}")
    only = await without.frozen(fallback=False)
    await Ledger(db).block(without.app_no, 1, True, REFUSED)
    assert not await looks_to_move(db, only)


async def test_an_unblocked_lane_keeps_its_phones(db: Database) -> None:
    """The credential works again before the range is frozen: nothing moves."""
    ground = await Ground.lay(db, 3)
    await add_second_lane(db)
    push_no = await ground.frozen()
    await Ledger(db).block(ground.app_no, 1, True, REFUSED)
    assert await pushes.plan_move(db, push_no) == 1
    await Ledger(db).block(ground.app_no, 1, False, 0)

    assert (await pushes.freeze(db, push_no, 1)).rows == 0
    assert await ground.states(push_no) == [State.PLANNED] * 3


async def test_an_attempt_that_takes_meanwhile_keeps_its_batch(db: Database) -> None:
    """The freeze waits for whoever holds the batch at that moment, and then looks again."""
    ground = await Ground.lay(db, 3)
    await add_second_lane(db)
    push_no = await ground.frozen()
    await Ledger(db).block(ground.app_no, 1, True, REFUSED)
    assert await pushes.plan_move(db, push_no) == 1
    async with db.transaction() as other:
        await other.execute(
            "update batch set epoch = 1, owner = gen_random_uuid(), lease_until = now() + interval '10 s'"
        )
        freezing = asyncio.create_task(pushes.freeze(db, push_no, 1))
        await statement(db, "for no key update", waits=True)

    assert (await freezing).rows == 0
    assert await ground.states(push_no) == [State.PLANNED] * 3


@pytest.mark.parametrize("wakes", ["unblocked", "blocked"])
async def test_an_attempt_that_slept_starts_nothing_that_moved(db: Database, wakes: str) -> None:
    """Its lease is over, its epoch too: whatever the lane is by then, it is granted nothing."""
    ground = await Ground.lay(db, 3)
    await add_second_lane(db)
    push_no = await ground.frozen()
    sleeper = Hand(db, push_no)
    await sleeper.take()
    await db.execute("update batch set lease_until = now() - interval '1 s'")
    await Ledger(db).block(ground.app_no, 1, True, REFUSED)
    assert await pushes.plan_move(db, push_no) == 1
    assert (await pushes.freeze(db, push_no, 1)).rows == 3
    await Ledger(db).block(ground.app_no, 1, wakes == "blocked", REFUSED)

    step = await sleeper.step(claim=2)

    assert (step.granted, step.mine) == (False, False)
    assert (await report.reconcile(db, push_no)).bad_batches == 0


async def test_a_closing_push_moves_nobody(db: Database) -> None:
    """What was cancelled while the range was frozen leaves no row behind, and none ends as moved."""
    ground = await Ground.lay(db, 3)
    await add_second_lane(db)
    push_no = await ground.frozen()
    await Ledger(db).block(ground.app_no, 1, True, REFUSED)
    assert await pushes.plan_move(db, push_no) == 1
    await ground.say(push_no, "close", verdict="cancelled")

    assert (await pushes.freeze(db, push_no, 1)).closing

    assert await ground.states(push_no) == [State.PLANNED] * 3
    assert await db.fetchval("select count(*) from batch where batch >= 10000") == 0


async def push_id(db: Database, push_no: int) -> str:
    """Its id."""
    return str(await db.fetchval("select push_id from push where push_no = $1", push_no))
