"""Badges that count: every phone's own number, once a push, whatever is repeated."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import pytest

from clarion import limits
from clarion.errors import CommandRefused
from clarion.model.ledger import Code
from clarion.model.message import Message, Text
from clarion.model.spec import CampaignSpec
from clarion.render import BADGE
from clarion.store import campaign, devices, users
from clarion.store import push as pushes
from clarion.store.database import Database
from clarion.store.ledger import Ledger, Outcomes
from tests.support.ground import MESSAGE, Ground, Hand

ONE = {**MESSAGE, "badge": "+1"}
TWO = {**MESSAGE, "badge": "+2"}


def accept(message: Message, providers: Any) -> None:
    """Whatever it is, it can be sent."""


async def shown(db: Database, push_no: int) -> list[int | None]:
    """What each phone's request would show, in the order of the users."""
    batches = await db.fetch("select batch from batch where push_no = $1 order by batch", push_no)
    rows = [
        row
        for batch in batches
        for row in await Ledger(db).read(push_no, batch["batch"], -1, 1_000, 1, False, True)
    ]
    return [row["values"][BADGE] for row in sorted(rows, key=lambda row: row["user_no"])]


async def edit(db: Database, push_no: int, message: dict[str, Any]) -> Any:
    """An operator's edit."""
    app_no = (await pushes.facts(db, push_no)).app_no
    args = await pushes.edited(db, app_no, {"message": message}, accept)
    return await pushes.command(db, push_no, uuid4(), "alice", "edit", args)


async def test_each_push_counts_once(db: Database) -> None:
    """Two pushes at once give 1 and 3, or 2 and 3; a range frozen again adds nothing; a plain one neither."""
    ground = await Ground.lay(db, 40)
    first, second = await ground.open(message=ONE), await ground.open(message=TWO)
    for push_no in (first, second):
        await pushes.plan(db, push_no)

    await asyncio.gather(*(pushes.freeze(db, push_no, 0) for push_no in (first, second, first, second)))
    plain = await ground.frozen(message={**MESSAGE, "badge": 7})
    third = await ground.frozen(message=ONE)

    assert sorted(zip(await shown(db, first), await shown(db, second), strict=True)) in (
        [(1, 3)] * 40,
        [(3, 2)] * 40,
    )
    assert await shown(db, third) == [4] * 40
    assert await db.fetchval("select count(*) from delivery where push_no = $1 and badge <> 0", plain) == 0


async def test_a_freeze_that_is_rolled_back_has_not_counted(db: Database) -> None:
    """A push that began to close meanwhile gave no phone a number."""
    ground = await Ground.lay(db, 5)
    push_no = await ground.open(message=ONE)
    await pushes.plan(db, push_no)
    await ground.say(push_no, "close", verdict="cancelled")

    assert (await pushes.freeze(db, push_no, 0)).closing
    assert await shown(db, await ground.frozen(message=ONE)) == [1] * 5


async def test_who_opts_out_is_not_counted(db: Database) -> None:
    """A phone that gets nothing keeps its number."""
    ground = await Ground.lay(db, 3)
    await db.execute("update usr set optout = 1 where app_no = $1 and user_id = 'u2'", ground.app_no)
    await ground.frozen(message=ONE)
    await db.execute("update usr set optout = 0 where app_no = $1", ground.app_no)

    assert await shown(db, await ground.frozen(message=ONE)) == [2, 1, 2]


async def test_a_retry_repeats_its_number(db: Database) -> None:
    """In place, and by another push: what others have counted meanwhile is not shown by it."""
    ground = await Ground.lay(db, 2)
    push_no = await ground.frozen(push_id="unlucky", message=ONE)
    await ground.frozen(message=ONE)
    hand = Hand(db, push_no)
    taken = await hand.take()
    await hand.step(claim=1)
    outcomes = Outcomes(taken.at)
    outcomes.accept(0)
    outcomes.add(1, Code.REFUSED, 0, 0.0)
    await hand.step(outcomes=outcomes)
    await hand.release()
    await hand.take()
    assert await shown(db, push_no) == [1]
    await hand.release()
    await ground.say(push_no, "close", verdict="cancelled")
    await Ledger(db).close(push_no)
    assert await pushes.close_push(db, push_no) is not None

    again = {"retry": {"push": "unlucky", "states": ["cancelled"]}}
    repeated = await ground.frozen(push_id="unlucky.r1", audience=again, message=ONE)

    assert await shown(db, repeated) == [1]
    assert await shown(db, await ground.frozen(message=ONE)) == [3, 3]


async def test_an_opened_app_begins_anew(db: Database) -> None:
    """The number that the phone reports is the one that is counted from; it ends at the largest there is."""
    ground = await Ground.lay(db, 2)
    await ground.frozen(message=ONE)
    phones = await db.fetch(
        "select registration_no from registration where app_no = $1 order by user_no", ground.app_no
    )
    first, second = (phone["registration_no"] for phone in phones)
    await devices.set_badge(db, [first], 0)
    await devices.set_badge(db, [second], 99_999)

    assert await shown(db, await ground.frozen(message=ONE)) == [1, limits.MOST_BADGE]


async def test_an_edit_keeps_the_increment(db: Database) -> None:
    """Text may change; an increment that comes, goes or changes would not be counted, and is refused."""
    ground = await Ground.lay(db, 2)
    counting, plain = await ground.frozen(message=ONE), await ground.frozen(message={**MESSAGE, "badge": 3})

    for push_no, message in ((counting, TWO), (counting, MESSAGE), (plain, ONE)):
        with pytest.raises(CommandRefused, match=r"an edit keeps it: badge is .* and would become"):
            await edit(db, push_no, message)
    await edit(db, counting, {**ONE, "texts": {"default": {"title": "Corrected"}}})
    await edit(db, plain, {**MESSAGE, "badge": 0})

    assert await shown(db, counting) == [1, 1]


async def test_an_edit_of_a_campaign_keeps_it_too(db: Database) -> None:
    """Nothing is written when it does not."""
    ground = await Ground.lay(db, 1)
    spec = CampaignSpec.model_validate({"app": ground.app, "message": ONE, "audience": {"everybody": True}})
    await campaign.open_campaign(db, spec, "counting", check=accept)

    with pytest.raises(CommandRefused, match="an edit keeps it"):
        await campaign.command(db, "counting", uuid4(), "alice", "edit", {"message": MESSAGE}, check=accept)
    edited = Message.model_validate(ONE).model_copy(update={"texts": {"default": Text(title="Corrected")}})
    said = await campaign.command(
        db, "counting", uuid4(), "alice", "edit", {"message": edited.canonical()}, check=accept
    )
    assert said.answer.version == 1


async def test_a_deleted_user_takes_the_number_along(db: Database) -> None:
    """Nothing of the phone stays."""
    ground = await Ground.lay(db, 2)
    await ground.frozen(message=ONE)
    await users.forget(db, ground.app_no, "u1")

    of_app = "select count(*) from badge join device using (device_no) where app_no = $1"
    orphans = "select count(*) from badge where device_no not in (select device_no from device)"
    assert await db.fetchval(of_app, ground.app_no) == 1
    assert await db.fetchval(orphans) == 0
