"""Registering devices: who owns what, and through which address, whatever races."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest

from clarion.errors import BadRegistration
from clarion.model.ledger import Reason
from clarion.seal import Seal
from clarion.store import devices, users
from clarion.store.apps import App
from clarion.store.database import Database
from clarion.store.devices import Registered, Registration
from clarion.store.intake import Intake
from clarion.store.locales import Locales
from tests.support import keys
from tests.support.keys import stocked_app

SEAL = Seal.load(Seal.new_key())


class Desk:
    """An app and what is needed to register in it."""

    def __init__(self, db: Database, app: App, intake: Intake, locales: Locales) -> None:
        self.db, self.app, self.intake, self.locales = db, app, intake, locales

    async def register(self, *fields: dict[str, Any]) -> Registered:
        """Register devices."""
        return await devices.register(self.db, self.locales, self.intake, fields)

    async def phone(self, user: str, token: str, **more: Any) -> Registered:
        """Register one iPhone."""
        return await self.register({"user_id": user, "platform": "ios", "token": token} | more)

    async def of(self, user: str, *, active: bool = True) -> list[Registration]:
        """A user's addresses."""
        return await devices.list_registrations(
            self.db, self.locales, self.app.app_no, user_id=user, active=active
        )

    async def tokens(self, user: str) -> set[str]:
        """The tokens that a push to this user would use."""
        rows = await self.db.fetch(
            "select token from usr join registration using (user_no) where user_id = $1 and status = 1", user
        )
        return {row["token"] for row in rows}

    async def retire(self, number: int, seen: datetime) -> None:
        """A provider said at `seen` that the address is dead."""
        await self.db.execute(
            "update registration set status = 3, retired_at = $2, retired_reason = 1 "
            "where registration_no = $1 and registered_at <= $2",
            number,
            seen,
        )


@pytest.fixture
async def desk(db: Database) -> Desk:
    """The app `demo` with three credentials."""
    app = await stocked_app(db, SEAL)
    return Desk(db, app, await Intake.load(db, app), await Locales.load(db))


PHONE = "12345678-1234-4234-8234-123456789abc"
OTHER = "87654321-1234-4234-8234-123456789abc"


async def test_a_registration_keeps_what_was_said(desk: Desk) -> None:
    """Every field of a device comes back; locale and zone in their normal form."""
    await desk.phone(
        "u1",
        "0A0B",
        installation=PHONE,
        app_version="4.10.0",
        model="iPhone17,1",
        os_version="19.1",
        locale="zh_TW",
        zone="Asia/Calcutta",
        last_active="2026-01-02T03:04:05Z",
    )
    (got,) = await desk.of("u1")

    assert (got.platform, got.lane, got.kind, got.status) == ("ios", "apns", "alert", "active")
    assert (got.app_version, got.model, got.os_version) == ("4.10.0", "iPhone17,1", "19.1")
    assert (got.locale, got.zone, got.installation) == ("zh-tw", "Asia/Kolkata", PHONE)
    assert got.last_active == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert got.fingerprint == hashlib.sha256(b"0a0b").hexdigest()[:8]
    assert await desk.tokens("u1") == {"0a0b"}


async def test_fifty_at_once_are_one_device(desk: Desk) -> None:
    """C38: parallel identical registrations all succeed and leave one active row."""
    done = await asyncio.gather(*(desk.phone("u1", "aa") for _ in range(50)))

    assert {one.numbers for one in done} == {done[0].numbers}
    assert sum(one.inserted for one in done) == 1
    assert await desk.db.fetchval("select count(*) from registration") == 1
    assert await desk.db.fetchval("select count(*) from device") == 1


async def test_the_last_of_two_users_owns_the_phone(desk: Desk) -> None:
    """C38: 25 each for two users: one row, and its owner is the last one who wrote."""
    last: list[str] = []

    async def log_in(user: str) -> None:
        await desk.phone(user, "aa", installation=PHONE)
        last.append(user)

    await asyncio.gather(*(log_in(f"u{n % 2}") for n in range(50)))
    await log_in("u1")

    assert await desk.tokens("u0") == set()
    assert await desk.tokens("u1") == {"aa"}
    assert await desk.db.fetchval("select count(*) from registration") == 1


async def test_one_token_racing_to_many_installations_is_one_row(desk: Desk) -> None:
    """A token known nowhere, registered by 20 installations at once, ends at one of them."""
    installations = [f"installation {n}" for n in range(20)]
    await asyncio.gather(*(desk.phone(f"u{n}", "aa", installation=i) for n, i in enumerate(installations)))

    assert await desk.db.fetchval("select count(*) from registration where status = 1") == 1
    owners = await desk.db.fetchval(
        "select count(*) from registration r join device d using (device_no) where r.user_no = d.user_no"
    )
    assert owners == 1


async def test_a_new_token_replaces_the_old_one(desk: Desk) -> None:
    """C40: an installation that registers T1, then T2, is reached at T2 only, once."""
    first = await desk.phone("u1", "aa", installation=PHONE)
    second = await desk.phone("u1", "bb", installation=PHONE)

    assert await desk.tokens("u1") == {"bb"}
    assert second.numbers == first.numbers
    assert (second.inserted, second.updated) == (0, 1)


async def test_a_retired_token_comes_back(desk: Desk) -> None:
    """C40: registering a retired token again activates it with a new time; the retirement stays visible."""
    await desk.phone("u1", "aa", installation=PHONE)
    number = (await desk.phone("u1", "bb", installation=PHONE)).numbers[0]
    before = (await desk.of("u1"))[0].registered_at
    await desk.retire(number, datetime.now(UTC))
    assert await desk.of("u1") == []

    assert (await desk.phone("u1", "bb", installation=PHONE)).numbers == (number,)
    (got,) = await desk.of("u1")
    assert got.registered_at > before
    assert got.retired_at is not None
    assert got.retired_reason == 1


async def test_an_old_line_is_no_new_registration(desk: Desk) -> None:
    """A file that says when the device was active neither revives what was retired since, nor outdates the
    word of a provider who noticed later."""
    now = datetime.now(UTC)
    week_ago = now - timedelta(days=7)
    await desk.phone("u1", "aa", last_active=week_ago.isoformat())
    number = (await desk.of("u1"))[0].registration_no
    await desk.retire(number, now - timedelta(days=3))
    await desk.phone("u1", "aa", last_active=(now - timedelta(days=5)).isoformat())
    assert await desk.of("u1") == []

    await desk.phone("u1", "aa", last_active=(now - timedelta(days=1)).isoformat())
    assert len(await desk.of("u1")) == 1


async def test_logging_in_as_another_user_moves_all_addresses(desk: Desk) -> None:
    """The alert and the voip token of a phone both leave the old user, whichever registers."""
    await desk.phone("u1", "aa", installation=PHONE)
    await desk.phone("u1", "bb", installation=PHONE, kind="voip")
    await desk.phone("u2", "aa", installation=PHONE)

    assert await desk.tokens("u1") == set()
    assert await desk.tokens("u2") == {"aa", "bb"}


async def test_a_known_token_moves_and_keeps_its_number(desk: Desk) -> None:
    """An app installed anew has a new installation and the old token: the row moves, nobody gets two."""
    first = await desk.phone("u1", "aa", installation=PHONE)
    moved = await desk.phone("u2", "aa", installation=OTHER)

    assert moved.numbers == first.numbers
    assert await desk.tokens("u1") == set()
    assert await desk.tokens("u2") == {"aa"}


async def test_a_moving_token_takes_the_place_of_another(desk: Desk) -> None:
    """The installation it comes to had an address of its own: that one goes, the known one stays."""
    known = await desk.phone("u1", "aa", installation=PHONE)
    await desk.phone("u2", "bb", installation=OTHER)
    done = await desk.phone("u2", "aa", installation=OTHER)

    assert done.numbers == known.numbers
    assert await desk.tokens("u2") == {"aa"}
    assert await desk.db.fetchval("select count(*) from registration") == 1


async def test_two_phones_may_swap_tokens(desk: Desk) -> None:
    """One set in which each takes the other's token: both rows move and keep their numbers."""
    first = await desk.phone("u1", "aa", installation=PHONE)
    second = await desk.phone("u2", "bb", installation=OTHER)
    done = await desk.register(
        {"user_id": "u1", "platform": "ios", "token": "bb", "installation": PHONE},
        {"user_id": "u2", "platform": "ios", "token": "aa", "installation": OTHER},
    )

    assert (await desk.tokens("u1"), await desk.tokens("u2")) == ({"bb"}, {"aa"})
    assert done.numbers == second.numbers + first.numbers


async def test_one_phone_said_in_two_ways(desk: Desk) -> None:
    """One row knows it by its old token, the next by its installation: the later one counts."""
    await desk.phone("u1", "aa", installation=PHONE)
    await desk.register(
        {"user_id": "u1", "platform": "ios", "token": "aa"},
        {"user_id": "u1", "platform": "ios", "token": "bb", "installation": PHONE},
    )

    assert await desk.tokens("u1") == {"bb"}


async def test_a_chain_in_one_set(desk: Desk) -> None:
    """A phone gets a new token while another one takes its old: both right, in one statement."""
    first = await desk.phone("u1", "aa", installation=PHONE)
    done = await desk.register(
        {"user_id": "u1", "platform": "ios", "token": "cc", "installation": PHONE},
        {"user_id": "u2", "platform": "ios", "token": "aa", "installation": OTHER},
    )

    assert (await desk.tokens("u1"), await desk.tokens("u2")) == ({"cc"}, {"aa"})
    assert done.numbers[1] == first.numbers[0]


async def test_a_dump_does_not_take_a_token_from_its_phone(desk: Desk) -> None:
    """A line without an installation is about the phone that is known to have the token."""
    first = await desk.phone("u1", "aa", installation=PHONE)
    again = await desk.phone("u1", "aa")

    assert again.numbers == first.numbers
    assert await desk.db.fetchval("select count(*) from device") == 1


async def test_the_same_token_in_two_lanes_is_two_addresses(desk: Desk) -> None:
    """Lanes are different apps or environments at a provider: their tokens are not compared."""
    await desk.phone("u1", "aa")
    await desk.register({"user_id": "u1", "platform": "android", "token": "aa"})

    assert await desk.db.fetchval("select count(*) from registration") == 2


async def test_tokens_of_any_length_are_distinct(desk: Desk) -> None:
    """C41: long tokens are stored whole and told apart by their last letter; the monster is refused."""
    apple = ["0f" * (length // 2) for length in (64, 108, 160, 200)]
    google = "aZ9:_-." * 57 + "x"
    long = "https://push.example.net/" + "x" * 2_974
    web = [keys.subscription(n, endpoint=long + end) for n, end in enumerate("ab")]
    for n, token in enumerate(apple):
        await desk.phone("u1", token, installation=f"phone {n}")
    await desk.register({"user_id": "u1", "platform": "android", "token": google})
    for one in web:
        await desk.register({"user_id": "u1", "platform": "web", "subscription": one})

    stored = await desk.tokens("u1")
    assert {*apple, google} < stored
    assert {token.split()[0] for token in stored if " " in token} == {long + "a", long + "b"}
    with pytest.raises(BadRegistration, match="longer than"):
        await desk.register({"user_id": "u1", "platform": "android", "token": "x" * 100_000})


async def test_a_set_is_all_or_none(desk: Desk) -> None:
    """A bad device among several is named by its place, and none is stored."""
    good = {"user_id": "u1", "platform": "ios", "token": "aa"}
    with pytest.raises(BadRegistration, match="device 1: an APNs device token must be hexadecimal"):
        await desk.register(good, good | {"token": "xyz"})

    assert await desk.db.fetchval("select count(*) from registration") == 0


async def test_what_a_user_is_known_for(desk: Desk) -> None:
    """Tags are replaced as a set, attributes by key; a null removes one; what is not said stays."""
    await desk.phone("u1", "aa", tags=["a", "b"], attributes={"name": "Ada", "level": 3, "old": 1})
    await desk.phone("u1", "aa", attributes={"level": 4, "old": None, "id": 2**53 + 1})
    await desk.phone("u1", "aa", tags=["c"])
    user = await users.get(desk.db, desk.locales, desk.app.app_no, "u1")

    assert user.tags == ("c",)
    assert user.attributes == {"name": "Ada", "level": 4, "id": 9007199254740993}


async def test_unregistered_until_it_registers(desk: Desk) -> None:
    """After logging out nothing is sent to the phone; logging in brings it back."""
    await desk.phone("u1", "aa", installation=PHONE)
    await desk.phone("u1", "bb", installation=PHONE, kind="voip")

    assert await devices.unregister(desk.db, desk.app.app_no, PHONE) == 2
    assert await desk.tokens("u1") == set()
    await desk.phone("u1", "aa", installation=PHONE)
    assert await desk.tokens("u1") == {"aa"}


async def test_unseen_for_ninety_days(desk: Desk) -> None:
    """Devices not seen for so long become inactive, piece by piece; being seen brings them back."""
    old = (datetime.now(UTC) - timedelta(days=91)).isoformat()
    for n in range(5):
        await desk.phone(f"u{n}", f"a{n}", installation=f"phone {n}", last_active=old if n < 3 else None)
    ended, after = await devices.end_unseen(desk.db, desk.app.app_no, limit=2)
    rest, end = await devices.end_unseen(desk.db, desk.app.app_no, after=after or 0)

    assert (ended, rest, end) == (2, 1, None)
    (got,) = await desk.of("u0", active=False)
    assert (got.status, got.retired_reason) == ("inactive", Reason.UNSEEN)
    assert await devices.seen(desk.db, desk.app.app_no, got.installation)
    assert (await desk.of("u0"))[0].status == "active"
    assert not await devices.seen(desk.db, desk.app.app_no, PHONE)


async def test_a_forgotten_user_leaves_nothing(desk: Desk) -> None:
    """Deleting a user deletes devices and addresses, and nobody else's."""
    await desk.phone("u1", "aa")
    await desk.phone("u2", "bb")

    assert await users.forget(desk.db, desk.app.app_no, "u1")
    assert not await users.forget(desk.db, desk.app.app_no, "u1")
    assert await desk.db.fetchval("select array_agg(token) from registration") == ["bb"]
    assert await desk.db.fetchval("select count(*) from device") == 1


async def test_a_refusal_may_come_first(desk: Desk) -> None:
    """Opting out is kept for a user whom nobody has met yet."""
    await users.set_opted_out(desk.db, desk.app.app_no, "u1", ["marketing", "social"])
    await desk.phone("u1", "aa")
    user = await users.get(desk.db, desk.locales, desk.app.app_no, "u1")

    assert user.opted_out == {"marketing", "social"}


async def test_whatever_happens_an_address_is_one(desk: Desk) -> None:
    """Random registrations from eight clients at once: one address a place, owners agree, all succeed."""
    rng = random.Random(7)

    async def client(seed: int) -> None:
        mine = random.Random(seed)
        for _ in range(25):
            fields = [
                {
                    "user_id": f"u{mine.randrange(4)}",
                    "platform": "ios",
                    "token": f"{mine.randrange(16):02x}",
                    "installation": f"phone {mine.randrange(8)}",
                    "kind": mine.choice(["alert", "voip"]),
                }
                for _ in range(mine.randrange(1, 4))
            ]
            await desk.db.persist(partial(desk.register, *fields), patience=30.0)

    await asyncio.gather(*(client(rng.randrange(10**6)) for _ in range(8)))

    rows = await desk.db.fetch(
        "select token, d.installation, kind, r.user_no, d.user_no as owner "
        "from registration r join device d using (device_no)"
    )
    assert rows
    assert all(row["user_no"] == row["owner"] for row in rows)
    places = defaultdict(list)
    for row in rows:
        places[row["installation"], row["kind"]].append(row["token"])
    assert all(len(tokens) == 1 for tokens in places.values())
    assert len({row["token"] for row in rows}) == len(rows)
