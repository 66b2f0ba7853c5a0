"""Lanes: senders made of credentials as they are stored, whoever stored them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator

import pytest

from clarion.errors import BadCredential, NotFound
from clarion.senders.lanes import Lanes
from clarion.store.database import Database
from tests.support.keys import stocked_app
from tests.support.senders import SEAL, process

OURS = re.compile("lanes|authorize|origin")


@pytest.fixture
async def app_no(db: Database) -> int:
    """An app with APNs, FCM and Web Push as lanes 1, 2 and 3; none of them can be reached from here."""
    return (await stocked_app(db, SEAL)).app_no


@pytest.fixture
async def lanes(db: Database) -> AsyncIterator[Lanes]:
    """The senders of one process."""
    async with process(db) as made:
        yield made


async def test_each_lane_has_one_sender(lanes: Lanes, app_no: int) -> None:
    """Twenty who ask at once get the same; each provider its own."""
    asked = await asyncio.gather(*(lanes.get(app_no, 1 + n % 3) for n in range(20)))

    assert [sender.provider for sender in asked[:3]] == ["apns", "fcm", "webpush"]
    assert len({id(sender) for sender in asked}) == 3


async def test_what_is_not_there_or_not_usable_says_so(db: Database, lanes: Lanes, app_no: int) -> None:
    """A lane that never was, a provider without a sender, rows that other hands have written."""
    with pytest.raises(NotFound):
        await lanes.get(app_no, 9)
    for change, words in (
        ("endpoint = 'ftp://example.com'", "endpoint"),
        ("endpoint = 'http://example.com'", "https"),
        ('settings = \'{"ca": "no certificate"}\'', "settings.ca"),
        ('settings = \'{"proxy": "x"}\'', "settings"),
        ("topic = null", "topic"),
        ("environment = null", "environment"),
        ("provider = 'pigeon'", "no sender for pigeon"),
    ):
        await db.execute(f"update credential set {change} where lane = 1")
        with pytest.raises(BadCredential, match=words):
            await lanes.get(app_no, 1)
        await db.execute(
            "update credential set endpoint = null, settings = '{}', topic = 'com.example.app',"
            " environment = 'sandbox', provider = 'apns' where lane = 1"
        )
    assert (await lanes.get(app_no, 1)).provider == "apns"


async def test_a_sender_that_is_there_needs_no_store(db: Database, lanes: Lanes, app_no: int) -> None:
    """An attempt that begins while the store is away has its sender all the same."""
    sender = await lanes.get(app_no, 1)
    await db.close()

    assert await lanes.get(app_no, 1) is sender


async def test_closing_leaves_nothing_behind(db: Database, app_no: int) -> None:
    """Not connecting, not authorizing, not watching: no task survives."""
    lanes = Lanes(db, SEAL)
    for lane in (1, 2, 3):
        await lanes.get(app_no, lane)
    await asyncio.sleep(0.05)
    await lanes.close()

    assert not [task for task in asyncio.all_tasks() if OURS.match(task.get_name())]
