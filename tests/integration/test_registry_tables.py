"""Workers, reasons, locales, users: the small tables that everything else names by number."""

from __future__ import annotations

import asyncio

import pytest

from clarion.errors import BadInput, NotFound
from clarion.model.ledger import Reason
from clarion.seal import Seal
from clarion.store import users, worker
from clarion.store.database import Database
from clarion.store.locales import Locales
from clarion.store.reasons import Reasons
from tests.support.keys import stocked_app


async def test_processes_have_numbers_of_their_own(db: Database) -> None:
    """A process that starts again is another one: its number is in the ledger."""
    first = await worker.register(db, "host", 1, ["send-apns"])
    await worker.leave(db, first)
    second = await worker.register(db, "host", 1, ["send-apns", "send-fcm"])

    assert second > first
    assert [one.worker_no for one in await worker.list_workers(db)] == [second]
    everyone = await worker.list_workers(db, gone_too=True)
    assert [(one.worker_no, one.alive, one.queues) for one in everyone] == [
        (second, True, ("send-apns", "send-fcm")),
        (first, False, ("send-apns",)),
    ]


async def test_no_sender_since(db: Database) -> None:
    """Alive, silent for 15 s, gone in good order, and never there are told apart."""
    assert (await worker.no_sender_since(db, "apns")).year == 1970  # type: ignore[union-attr]
    number = await worker.register(db, "host", 1, ["send-apns"])
    assert await worker.no_sender_since(db, "apns") is None
    assert await worker.no_sender_since(db, "apns", high=True) is not None

    await db.execute("update worker set seen_at = now() - interval '16 s'")
    silent = await worker.no_sender_since(db, "apns")
    assert silent == await db.fetchval("select seen_at from worker")
    await worker.seen(db, number)
    assert await worker.no_sender_since(db, "apns") is None

    await worker.leave(db, number)
    left = await worker.no_sender_since(db, "apns")
    assert left is not None
    assert left > silent


async def test_reasons_are_numbered_once(db: Database) -> None:
    """Two processes that meet a new code at once give it one number; ours are below 100."""
    one, other = await Reasons.load(db), await Reasons.load(db)
    numbers = await asyncio.gather(*(desk.intern(db, "apns:New") for desk in (one, other) for _ in range(20)))

    assert len(set(numbers)) == 1
    assert numbers[0] >= 100
    assert one.number("apns:New") == numbers[0]
    assert one.name(numbers[0]) == "apns:New"
    assert one.name(Reason.MOVED) == "clarion:moved"
    assert one.name(0) == ""
    assert one.name(30_000) == "reason 30000"
    assert await one.intern(db, "clarion:moved") == Reason.MOVED


async def test_reasons_of_another_process_are_learnt(db: Database) -> None:
    """A name that somebody else numbered is known after a refresh, whatever the order of commits."""
    mine, theirs = await Reasons.load(db), await Reasons.load(db)
    later = await mine.intern(db, "fcm:B")
    await db.execute("insert into reason (reason_no, name) overriding system value values (99, 'fcm:A')")
    await mine.refresh(db)
    await theirs.refresh(db)

    assert theirs.number("fcm:B") == later
    assert mine.number("fcm:A") == 99


async def test_locales_are_numbered_once(db: Database) -> None:
    """Every spelling of a locale is one number; no locale is 0."""
    one, other = await Locales.load(db), await Locales.load(db)
    numbers = await asyncio.gather(*(desk.intern(db, "zh_TW") for desk in (one, other) for _ in range(20)))

    assert set(numbers) == {await one.intern(db, "ZH-tw")}
    assert numbers[0] > 0
    assert one.tags[numbers[0]] == "zh-tw"
    assert await one.intern(db, "no locale at all") == 0
    assert one.tags[0] == ""
    assert await db.fetchval("select count(*) from locale") == 2


async def test_a_locale_of_another_process_is_learnt_in_time(db: Database) -> None:
    """A sender that reads a row with a number it has not met learns it before it looks its text up."""
    sender, importer = await Locales.load(db), await Locales.load(db)
    number = await importer.intern(db, "pt-BR")
    assert sender.number("pt-br") is None
    await sender.know(db, {0, number})

    assert sender.tags[number] == "pt-br"


async def test_users_are_made_and_changed(db: Database) -> None:
    """What is said replaces, what is not said stays, what is none is none."""
    app = await stocked_app(db, Seal.load(Seal.new_key()))
    locales = await Locales.load(db)
    number = await users.put(
        db, locales, app.app_no, "u1", locale="zh_TW", zone="US/Pacific", tags=["b", "a"], attributes={"x": 1}
    )
    again = await users.put(db, locales, app.app_no, "u1", zone="Mars/Base", attributes={"x": None, "y": 2})
    user = await users.get(db, locales, app.app_no, "u1")

    assert number == again == user.user_no
    assert (user.locale, user.zone, user.tags, user.attributes) == ("zh-tw", None, ("a", "b"), {"y": 2})
    assert user.opted_out == frozenset()
    with pytest.raises(NotFound):
        await users.get(db, locales, app.app_no, "u2")
    with pytest.raises(BadInput, match="kinds of campaigns are marketing"):
        await users.set_opted_out(db, app.app_no, "u1", ["spam"])
