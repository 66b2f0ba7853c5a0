"""Credentials: lanes for life, sealed secrets, rotation, and the one token all processes share."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from clarion.errors import AlreadyExists, BadCredential, BadInput, NotFound
from clarion.model.ledger import Reason
from clarion.seal import BadKey, Seal
from clarion.store import apps, credential_check, credentials, devices
from clarion.store.apps import App
from clarion.store.database import Database
from clarion.store.intake import Intake
from clarion.store.locales import Locales
from clarion.store.provider_token import fetch_shared_token
from clarion.store.reasons import Reasons
from tests.support import keys
from tests.support.keys import stocked_app

KEY = Seal.new_key()
SEAL = Seal.load(KEY)


@pytest.fixture
async def app(db: Database) -> App:
    """The app `demo` with three credentials."""
    return await stocked_app(db, SEAL)


def webpush_key() -> credential_check.Checked:
    """A new VAPID key."""
    return credential_check.webpush(subject="mailto:ops@example.com")


async def block(db: Database, app_no: int, lane: int, reason: int) -> None:
    """What the ledger does when a provider refuses the credential."""
    await db.execute(
        "insert into credential_state (app_no, lane, blocked, reason) values ($1, $2, true, $3)",
        app_no,
        lane,
        reason,
    )


async def test_lanes_are_numbered_and_ordered(db: Database, app: App) -> None:
    """Each credential is the next lane, last in the order in which phones are reached."""
    rows = await credentials.list_credentials(db, app.app_no)

    assert [(row.lane, row.provider, row.name) for row in rows] == [
        (1, "apns", "apns"),
        (2, "fcm", "fcm"),
        (3, "webpush", "web"),
    ]
    assert app.lane_order == (1, 2, 3)
    assert rows[0].topic == keys.TOPIC
    assert rows[2].settings["public_key"]


async def test_additions_at_once_take_different_lanes(db: Database, app: App) -> None:
    """The app's row is the lock under which lanes are numbered."""
    added = await asyncio.gather(
        *(
            credentials.add(db, SEAL, app.app_no, credentials.new_webpush(f"w{n}", webpush_key()))
            for n in range(8)
        )
    )

    assert sorted(added) == list(range(4, 12))
    assert sorted((await apps.get(db, "demo")).lane_order) == list(range(1, 12))


async def test_a_secret_comes_back_for_senders_only(db: Database, app: App) -> None:
    """Stored sealed, opened whole, and shown by no repr."""
    stored = await db.fetchval("select secret from credential where lane = 1")
    loaded = await credentials.load(db, SEAL, app.app_no, 1)

    assert b"PRIVATE" not in stored
    assert loaded.secret["private_key"] == keys.pem(keys.ec_key())
    assert "PRIVATE" not in repr(loaded)
    assert [one.lane for one in await credentials.load_all(db, SEAL, "fcm")] == [2]
    with pytest.raises(NotFound):
        await credentials.load(db, SEAL, app.app_no, 9)


async def test_a_secret_moved_to_another_row_does_not_open(db: Database, app: App) -> None:
    """Whoever can write the table cannot make one app send with another one's key."""
    await db.execute(
        "update credential set secret = (select secret from credential where lane = 1) where lane = 2"
    )

    with pytest.raises(BadKey, match=r"credential \d+\.2 does not open"):
        await credentials.load(db, SEAL, app.app_no, 2)


async def test_names_are_taken_once(db: Database, app: App) -> None:
    """A second credential or app of a name is refused, and takes no lane."""
    with pytest.raises(AlreadyExists, match="web"):
        await credentials.add(db, SEAL, app.app_no, credentials.new_webpush("web", webpush_key()))
    with pytest.raises(AlreadyExists, match="demo"):
        await apps.create(db, "demo")
    with pytest.raises(NotFound):
        await credentials.add(db, SEAL, 999, credentials.new_webpush("web", webpush_key()))
    with pytest.raises(BadInput, match="an app's name must be"):
        await apps.create(db, "a b")

    assert (await apps.get(db, "demo")).lane_order == (1, 2, 3)


@pytest.mark.parametrize(
    "change",
    [{"ceiling": 0.0}, {"ceiling": float("nan")}, {"endpoint": "https://x/y"}, {"settings": {"x": 1}}],
)
async def test_a_credential_with_odd_settings_is_refused(
    db: Database, app: App, change: dict[str, object]
) -> None:
    """What could not work is not stored."""
    new = replace(credentials.new_webpush("odd", webpush_key()), **change)  # type: ignore[arg-type]

    with pytest.raises(BadCredential):
        await credentials.add(db, SEAL, app.app_no, new)


async def test_the_order_names_every_lane(db: Database, app: App) -> None:
    """A lane left out would never be sent to."""
    await apps.set_lane_order(db, app.app_no, [3, 1, 2])
    assert (await apps.get(db, "demo")).lane_order == (3, 1, 2)

    for wrong in ([1, 2], [1, 2, 3, 4], [1, 1, 2, 3]):
        with pytest.raises(BadInput, match="every lane"):
            await apps.set_lane_order(db, app.app_no, wrong)


async def test_rotating_in_place(db: Database, app: App) -> None:
    """A new APNs key counts the version up, and opens a lane that was blocked for the old one."""
    await block(db, app.app_no, 1, 120)
    other = credential_check.apns_token(keys.pem(keys.ec_key()), key_id="ZZZ1234567", team_id=keys.TEAM_ID)

    assert await credentials.rotate(db, SEAL, app.app_no, "apns", other) == 2
    assert (await credentials.load(db, SEAL, app.app_no, 1)).secret["key_id"] == "ZZZ1234567"
    assert (await credentials.versions(db))[app.app_no, 1] == 2
    assert not (await credentials.find(db, app.app_no, "apns")).blocked
    said = await db.fetch("select who, way, args->'lane' as lane from audit where what = 'unblock'")
    assert [tuple(row) for row in said] == [("operator", "direct", 1)]


async def test_a_rotation_must_fit_its_lane(db: Database, app: App) -> None:
    """Another project, topic or Web Push key would make every stored token a wrong one."""
    stranger = credential_check.fcm(keys.service_account(project_id="other"))
    certificate = credential_check.apns_certificate(keys.p12(keys.certificate(), "x"), password="x")

    with pytest.raises(BadCredential, match="another project than demo-project"):
        await credentials.rotate(db, SEAL, app.app_no, "fcm", stranger)
    with pytest.raises(BadCredential, match="is for production, not for sandbox"):
        await credentials.rotate(db, SEAL, app.app_no, "apns", certificate)
    with pytest.raises(BadCredential, match="lane of its own"):
        await credentials.rotate(db, SEAL, app.app_no, "web", webpush_key())
    with pytest.raises(BadCredential, match="no Web Push credential"):
        await credentials.rotate_webpush_key(db, SEAL, app.app_no, "fcm", webpush_key(), "new")


async def test_old_subscriptions_keep_their_key(db: Database, app: App) -> None:
    """C29: S1 made under K1 and S2 under K2 are each signed with their own; without K1, S1 must resubscribe
    and S2 is unaffected."""
    locales = await Locales.load(db)

    async def subscribe(user: str, number: int) -> int:
        intake = await Intake.load(db, await apps.get(db, "demo"))
        fields = {"user_id": user, "platform": "web", "subscription": keys.subscription(number)}
        done = await devices.register(db, locales, intake, [fields])
        return int(
            await db.fetchval("select lane from registration where registration_no = $1", done.numbers[0])
        )

    first = await credentials.load(db, SEAL, app.app_no, await subscribe("s1", 1))
    lane = await credentials.rotate_webpush_key(db, SEAL, app.app_no, "web", webpush_key(), "web2")
    second = await credentials.load(db, SEAL, app.app_no, await subscribe("s2", 2))

    assert (first.lane, second.lane, lane) == (3, 4, 4)
    assert (await apps.get(db, "demo")).lane_order == (1, 2, 4, 3)
    assert first.secret["public_key"] != second.secret["public_key"]
    assert await credentials.load(db, SEAL, app.app_no, 3) == first

    assert await credentials.withdraw(db, app.app_no, "web") == 1
    (gone,) = await devices.list_registrations(db, locales, app.app_no, user_id="s1")
    (kept,) = await devices.list_registrations(db, locales, app.app_no, user_id="s2")
    assert (gone.status, gone.retired_reason) == ("inactive", Reason.MUST_RESUBSCRIBE)
    assert kept.status == "active"
    with pytest.raises(BadCredential, match="withdrawn"):
        await credentials.load(db, SEAL, app.app_no, 3)
    assert await credentials.load(db, SEAL, app.app_no, 4) == second


async def test_a_withdrawn_lane_stays_shut(db: Database, app: App) -> None:
    """There is nothing to send with, so nothing opens it; its number is not given again."""
    await credentials.withdraw(db, app.app_no, "web")

    assert not await credentials.unblock(db, app.app_no, 3)
    assert (await credentials.find(db, app.app_no, "web")).blocked
    assert await credentials.add(db, SEAL, app.app_no, credentials.new_webpush("w2", webpush_key())) == 4


async def test_unblocking(db: Database, app: App) -> None:
    """A blocked lane opens once, and its list entry says why it was shut."""
    reasons = await Reasons.load(db)
    number = await reasons.intern(db, "apns:InvalidProviderToken")
    await block(db, app.app_no, 1, number)
    row = await credentials.find(db, app.app_no, "apns")

    assert (row.blocked, reasons.name(row.reason)) == (True, "apns:InvalidProviderToken")
    assert await credentials.unblock(db, app.app_no, 1, who="ada")
    assert not await credentials.unblock(db, app.app_no, 1, who="bob")
    assert not (await credentials.find(db, app.app_no, "apns")).blocked
    said = await db.fetch("select who, way, args->'lane' as lane from audit where what = 'unblock'")
    assert [tuple(row) for row in said] == [("ada", "direct", 1)]


async def test_sealing_again_under_a_new_key(db: Database, app: App) -> None:
    """With the new key in front of the old one everything is sealed again, then the old one can go."""
    new = Seal.new_key()

    assert await credentials.reseal(db, Seal.load(f"{new} {KEY}")) == 3
    assert await credentials.reseal(db, Seal.load(f"{new} {KEY}")) == 0
    assert (await credentials.load(db, Seal.load(new), app.app_no, 1)).lane == 1
    with pytest.raises(BadKey):
        await credentials.load(db, SEAL, app.app_no, 1)


class Mint:
    """Makes tokens and counts them."""

    def __init__(self, *, lifetime: float = 3_600.0, slow: float = 0.0) -> None:
        self.made = 0
        self.minting = asyncio.Event()
        self._lifetime, self._slow = lifetime, slow

    async def __call__(self) -> tuple[str, float]:
        """The next token."""
        self.made += 1
        self.minting.set()
        token = f"token {self.made}"
        await asyncio.sleep(self._slow)
        return token, self._lifetime


async def test_all_processes_show_one_token(db: Database, database_url: str) -> None:
    """C03, C17: however many ask at once, from however many processes, one token is minted."""
    other = await Database.connect(database_url)
    mint = Mint(slow=0.2)
    try:
        got = await asyncio.gather(
            *(
                fetch_shared_token(pool, SEAL, 1, 1, "", 1, mint, 3_000.0)
                for pool in (db, other)
                for _ in range(32)
            )
        )
    finally:
        await other.close()

    assert {one.token for one in got} == {"token 1"}
    assert mint.made == 1
    assert b"token 1" not in await db.fetchval("select token from provider_token")


async def test_a_refused_token_is_replaced_once(db: Database) -> None:
    """C04, C17: 64 requests were answered that the token has expired: one new one, for all of them."""
    mint = Mint(slow=0.05)
    old = await fetch_shared_token(db, SEAL, 1, 1, "", 1, mint, 3_000.0)
    got = await asyncio.gather(
        *(fetch_shared_token(db, SEAL, 1, 1, "", 1, mint, 3_000.0, refused=old.token) for _ in range(64))
    )

    assert {one.token for one in got} == {"token 2"}
    assert mint.made == 2


async def test_a_living_token_serves_while_the_next_is_made(db: Database) -> None:
    """Renewing early keeps nobody waiting: only the one who mints sees the new token at once."""
    await fetch_shared_token(db, SEAL, 1, 1, "", 1, Mint(), 3_000.0)
    slow = Mint(slow=0.5)
    renewing = asyncio.create_task(fetch_shared_token(db, SEAL, 1, 1, "", 1, slow, 0.0))
    await slow.minting.wait()
    async with asyncio.timeout(0.3):
        meanwhile = await fetch_shared_token(db, SEAL, 1, 1, "", 1, slow, 0.0)

    assert meanwhile.token == "token 1"
    assert (await renewing).issued_at > meanwhile.issued_at
    assert slow.made == 1


async def test_a_dead_token_is_waited_for(db: Database) -> None:
    """One that has lapsed is shown to nobody, also while the next one is made."""
    await fetch_shared_token(db, SEAL, 1, 1, "", 1, Mint(lifetime=0.0), 3_000.0)
    mint = Mint(slow=0.1)
    got = await asyncio.gather(*(fetch_shared_token(db, SEAL, 1, 1, "", 1, mint, 3_000.0) for _ in range(5)))

    assert {one.token for one in got} == {"token 1"}
    assert mint.made == 1
    assert got[0].expires_at - got[0].issued_at == pytest.approx(3_600.0)


async def test_a_rotated_credential_gets_a_new_token(db: Database) -> None:
    """A token of an earlier version is not used; one of a later version is, by whoever is behind."""
    mint = Mint()
    await fetch_shared_token(db, SEAL, 1, 1, "", 1, mint, 3_000.0)
    new = await fetch_shared_token(db, SEAL, 1, 1, "", 2, mint, 3_000.0)
    behind = await fetch_shared_token(db, SEAL, 1, 1, "", 1, mint, 3_000.0)

    assert (new.token, behind.token) == ("token 2", "token 2")


async def test_purposes_have_tokens_of_their_own(db: Database) -> None:
    """Another scope or origin is another token."""
    mint = Mint()
    await fetch_shared_token(db, SEAL, 1, 1, "", 1, mint, 3_000.0)

    assert (await fetch_shared_token(db, SEAL, 1, 1, "iid", 1, mint, 3_000.0)).token == "token 2"


async def test_a_failed_mint_is_the_next_ones_turn(db: Database) -> None:
    """The error reaches the one who asked, and nobody waits for the right he held."""

    async def broken() -> tuple[str, float]:
        raise OSError("no route")

    with pytest.raises(OSError, match="no route"):
        await fetch_shared_token(db, SEAL, 1, 1, "", 1, broken, 3_000.0)
    async with asyncio.timeout(1.0):
        got = await fetch_shared_token(db, SEAL, 1, 1, "", 1, Mint(), 3_000.0)

    assert got.token == "token 1"
    assert "token" not in repr(got).replace("SharedToken", "")


async def test_a_minter_that_died_holds_nobody_up(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """The right to mint lapses, and another process takes it."""
    monkeypatch.setattr("clarion.store.provider_token.MINT_SECONDS", 0.3)
    await db.execute(
        "insert into provider_token (app_no, lane, credential_version, minter, minting_until) "
        "values (1, 1, 0, gen_random_uuid(), now() + interval '0.3 s')"
    )

    assert (await fetch_shared_token(db, SEAL, 1, 1, "", 1, Mint(), 3_000.0)).token == "token 1"


async def test_a_token_under_a_lost_key_is_made_anew(db: Database) -> None:
    """Rotating the sealing key needs no care for tokens: they last an hour."""
    await fetch_shared_token(db, SEAL, 1, 1, "", 1, Mint(), 3_000.0)
    new = Seal.load(Seal.new_key())
    mint = Mint()
    first = await fetch_shared_token(db, new, 1, 1, "", 1, mint, 3_000.0)

    assert await fetch_shared_token(db, new, 1, 1, "", 1, mint, 3_000.0) == first
    assert mint.made == 1
