"""The APNs sender against the sandbox: authorization, rotation, and connections that go wrong."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from clarion.errors import BadCredential
from clarion.model.message import ApnsOptions, Message, PushType, Text
from clarion.sandbox.certificates import private_pem
from clarion.sandbox.credentials import TOPIC
from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from clarion.senders import lanes as lanes_module
from clarion.senders.answers import NOT_SENT
from clarion.senders.apns import ApnsSender
from clarion.senders.lanes import Lanes
from clarion.senders.link import PROBE_AFTER
from clarion.senders.outcome import ACCEPTED, OutcomeKind, Scope
from clarion.senders.sender import MissingValue, TooLarge, Unsendable
from clarion.store import credential_check, credentials
from clarion.store.database import Database
from tests.support.eventually import eventually
from tests.support.keys import ec_key
from tests.support.senders import (
    HELLO,
    PUSH,
    SEAL,
    Clock,
    apns_tokens,
    app_at,
    jwts,
    process,
    send,
)


@pytest.fixture
async def app_no(db: Database, sandbox: Sandbox) -> int:
    """An app whose lane 1 is APNs at the sandbox."""
    return await app_at(sandbox, db)


async def log(sandbox: Sandbox, status: int) -> list[dict[str, Any]]:
    """What the sandbox noted with this status so far."""
    sandbox.log.flush()
    lines = [json.loads(line) for line in sandbox.log.path.read_text().splitlines()]
    return [line for line in lines if line["status"] == status]


async def test_a_thousand_alerts(sandbox: Sandbox, lanes: Lanes, app_no: int) -> None:
    """All accepted, after a warm-up of one stream; key and content as they were meant."""
    before = len(await log(sandbox, 200))
    sender = await lanes.get(app_no, 1)
    outcomes = await send(sender, apns_tokens(1_000))
    noted = (await log(sandbox, 200))[before:]

    assert all(outcome is ACCEPTED for outcome in outcomes)
    assert {line["token"] for line in noted} == set(apns_tokens(1_000))
    assert {(line["key"], line["content"]) for line in noted} == {
        ("clarion-1", content_hash("Hello", "there"))
    }
    assert sender.waiting() is None
    assert sandbox.state()["connections"]["apns"] == 1


def message_of(kind: PushType) -> Message:
    """A message of this type with everything that it must have."""
    more: dict[str, Any] = {}
    if kind is PushType.LIVE_ACTIVITY:
        more = {"event": "update", "timestamp": 1_800_000_000, "content_state": {"a": 1}}
    if kind is PushType.MDM:
        more = {"push_magic": "magic"}
    texts = {"default": Text(body="x")} if kind is PushType.ALERT else {}
    return Message(texts=texts, ttl=60, apns=ApnsOptions(push_type=kind, **more))


async def test_the_strict_simulator_takes_every_push_type(lanes: Lanes, app_no: int) -> None:
    """Topic, priority, expiration and payload of each type are as Apple wants them."""
    sender = await lanes.get(app_no, 1)
    for kind in PushType:
        assert await send(sender, apns_tokens(2), message_of(kind)) == [ACCEPTED, ACCEPTED], kind


async def test_values_reach_the_device_raw(sandbox: Sandbox, lanes: Lanes, app_no: int) -> None:
    """C55 on the wire: what the device shows is the user's value, letter by letter."""
    message = Message(texts={"default": Text(title="Hi {{ user.name }}", body="x")})
    name = 'O\'Neil & "Sons" <b>","badge":9'
    outcomes = await send(await lanes.get(app_no, 1), apns_tokens(1, 77), message, values={"name": name})

    assert outcomes == [ACCEPTED]
    assert (await log(sandbox, 200))[-1]["content"] == content_hash(f"Hi {name}", "x")


async def test_what_cannot_be_framed_is_told_before(lanes: Lanes, app_no: int) -> None:
    """A token that would break the connection, a payload too large, a missing value: nothing is posted."""
    sender = await lanes.get(app_no, 1)
    personal = Message(texts={"default": Text(body="{{ user.name }}")})
    for token in ("ab\ncd", "", "a b", "../x", "é" * 32, "a" * 9_000, "ab\r\nx: y"):
        with pytest.raises(Unsendable) as refusal:
            await send(sender, [token])
        assert refusal.value.reason == "clarion:bad_token"
    with pytest.raises(MissingValue):
        await send(sender, apns_tokens(1), personal, values={})
    with pytest.raises(TooLarge):
        await send(sender, apns_tokens(1), personal, values={"name": "x" * 5_000})
    assert await send(sender, apns_tokens(3)) == [ACCEPTED] * 3


async def test_the_dead_retire_with_apple_s_time(sandbox: Sandbox, lanes: Lanes, app_no: int) -> None:
    """410 with its timestamp; the others are not touched."""
    dead, alive = apns_tokens(2)
    sandbox.bury({"provider": "apns", "tokens": [dead], "timestamp": 1_700_000_000_000})
    gone, good = await send(await lanes.get(app_no, 1), [dead, alive])

    assert (gone.kind, gone.retire, gone.dead_since) == (OutcomeKind.REJECTED, True, 1_700_000_000.0)
    assert gone.reason == "apns:Unregistered"
    assert good is ACCEPTED


async def test_c03_one_jwt_for_all_topics_and_processes(db: Database, sandbox: Sandbox) -> None:
    """C03: four processes and three topics of one key show Apple one string; nothing is throttled."""
    app_no = await app_at(sandbox, db, TOPIC, "com.example.two", "com.example.three")
    processes = [Lanes(db, SEAL) for _ in range(4)]
    senders = [await lanes.get(app_no, lane) for lanes in processes for lane in (1, 2, 3)]
    outcomes = await asyncio.gather(*(send(sender, apns_tokens(5)) for sender in senders))
    await asyncio.gather(*(lanes.close() for lanes in processes))

    assert all(outcome is ACCEPTED for batch in outcomes for outcome in batch)
    assert jwts(sandbox) == 1
    assert await db.fetchval("select count(*) from provider_token") == 1


async def test_c03_a_throttled_token_slows_and_retires_nothing(
    sandbox: Sandbox, lanes: Lanes, app_no: int
) -> None:
    """C03: TooManyProviderTokenUpdates keeps the same token, goes to another connection, slows the lane."""
    sender = await lanes.get(app_no, 1)
    await send(sender, apns_tokens(3))
    await sandbox.add_rule({"provider": "apns", "reason": "TooManyProviderTokenUpdates", "first": 2})
    first = await send(sender, apns_tokens(2))
    second = await send(sender, apns_tokens(3))

    assert {(outcome.kind, outcome.scope, outcome.retire) for outcome in first} == {
        (OutcomeKind.THROTTLED, Scope.LANE, False)
    }
    assert second == [ACCEPTED] * 3
    assert jwts(sandbox) == 1
    assert sandbox.state()["connections"]["apns"] == 2


async def test_a_token_is_renewed_before_apple_minds(db: Database, sandbox: Sandbox, app_no: int) -> None:
    """50 minutes old: one new token, on a new connection that takes over while the old one drains."""
    clock = Clock()
    async with process(db, clock) as lanes:
        sender = await lanes.get(app_no, 1)
        assert isinstance(sender, ApnsSender)
        await send(sender, apns_tokens(10))
        await db.execute("update provider_token set issued_at = now() - interval '49 minutes'")
        clock.skipped += 61
        await sender.tend()
        await asyncio.sleep(0.1)
        assert jwts(sandbox) == 1  # not yet
        await db.execute("update provider_token set issued_at = now() - interval '51 minutes'")
        await sandbox.add_rule({"provider": "apns", "delay": 0.3, "first": 5})
        slow = asyncio.create_task(send(sender, apns_tokens(5)))
        await asyncio.sleep(0.05)
        clock.skipped += 61
        await sender.tend()
        await eventually(lambda: sender._next is None and len(sender._old) == 1, "the new link takes over")
        outcomes = await send(sender, apns_tokens(10)) + await slow

        assert outcomes == [ACCEPTED] * 15
        assert jwts(sandbox) == 2
        await sender.tend()
        await eventually(lambda: sandbox.state()["connections"]["apns"] == 1, "the old one has drained")


async def test_c04_a_clock_step_at_apple_s_costs_one_token_and_blocks(
    db: Database, sandbox: Sandbox, app_no: int
) -> None:
    """C04: 61 minutes ahead: one new JWT in all processes, each refused delivery goes again as no attempt;
    refused again: blocked. When the clock is right and somebody unblocks, it goes on."""
    clock = Clock()
    async with process(db, clock) as one, process(db, clock) as two:
        senders = [await lanes.get(app_no, 1) for lanes in (one, two)]
        for sender in senders:
            await send(sender, apns_tokens(3))
        sandbox.change({"clock": 61 * 60.0})
        first = [await send(sender, apns_tokens(20)) for sender in senders]
        second = [await send(sender, apns_tokens(20)) for sender in senders]

        assert {(o.kind, o.attempt, o.maybe, o.retire) for batch in first for o in batch} == {
            (OutcomeKind.UNAVAILABLE, False, False, False)
        }
        assert {(o.kind, o.reason, o.retire) for batch in second for o in batch} == {
            (OutcomeKind.BLOCKED, "apns:ExpiredProviderToken", False)
        }
        assert jwts(sandbox) == 2
        third = [await send(sender, apns_tokens(2)) for sender in senders]
        assert {o.kind for batch in third for o in batch} == {OutcomeKind.BLOCKED}
        assert jwts(sandbox) == 2  # no loop

        sandbox.change({"clock": 0.0})
        clock.skipped += PROBE_AFTER + 1
        for sender in senders:
            assert await send(sender, apns_tokens(3)) == [ACCEPTED] * 3
        assert jwts(sandbox) == 3


async def test_c04_a_clock_of_ours_that_was_set_back_mints_no_loop(
    db: Database, sandbox: Sandbox, app_no: int
) -> None:
    """C04: two hours behind: our tokens are born expired. Two are made, the lane blocks, nothing retires;
    with the clock right again the next probe makes a good one."""
    clock = Clock(wrong=-7_200.0)
    async with process(db, clock) as lanes:
        sender = await lanes.get(app_no, 1)
        kinds = [(await send(sender, apns_tokens(1)))[0].kind for _ in range(5)]

        assert kinds == [OutcomeKind.UNAVAILABLE] + [OutcomeKind.BLOCKED] * 4
        assert jwts(sandbox) == 2
        clock.wrong = 0.0
        clock.skipped += PROBE_AFTER + 1
        assert await send(sender, apns_tokens(5)) == [ACCEPTED] * 5
        assert jwts(sandbox) == 3


async def test_a_key_that_does_not_fit_the_connection_has_one_new_connection(
    sandbox: Sandbox, lanes: Lanes, app_no: int
) -> None:
    """UnrelatedKeyIdInToken: the same token elsewhere, once; then blocked."""
    sender = await lanes.get(app_no, 1)
    await send(sender, apns_tokens(3))
    rule = await sandbox.add_rule({"provider": "apns", "reason": "UnrelatedKeyIdInToken"})
    first = await send(sender, apns_tokens(3))
    second = await send(sender, apns_tokens(3))
    await sandbox.clear(rule.number)

    assert {o.kind for o in first} == {OutcomeKind.UNAVAILABLE}
    assert {o.kind for o in second} == {OutcomeKind.BLOCKED}
    assert jwts(sandbox) == 1


async def test_a_blocked_configuration_is_probed_on_a_new_connection(
    db: Database, sandbox: Sandbox, app_no: int
) -> None:
    """After an unblock: connect anew, with the token that was not at fault."""
    clock = Clock()
    async with process(db, clock) as lanes:
        sender = await lanes.get(app_no, 1)
        rule = await sandbox.add_rule({"provider": "apns", "reason": "TopicDisallowed"})
        blocked = await send(sender, apns_tokens(2))
        await sandbox.clear(rule.number)
        clock.skipped += PROBE_AFTER + 1

        assert {(o.kind, o.reason) for o in blocked} == {(OutcomeKind.BLOCKED, "apns:TopicDisallowed")}
        assert await send(sender, apns_tokens(2)) == [ACCEPTED] * 2
        assert jwts(sandbox) == 1
        assert sandbox.state()["connections"]["apns"] == 2


async def test_a_certificate_instead_of_a_key(db: Database, sandbox: Sandbox) -> None:
    """Certificate authentication: no token is made; location pushes are refused by name."""
    known = sandbox.credentials.apns_certificate
    checked = credential_check.apns_certificate(known["certificate"], private_key=known["private_key"])
    app_no = await app_at(sandbox, db)
    new = credentials.new_apns(
        "certificate",
        checked,
        topic=TOPIC,
        environment="sandbox",
        settings={"ca": sandbox.authority.ca_path.read_text()},
        endpoint=f"https://127.0.0.1:{sandbox.ports()['apns']}",
    )
    lane = await credentials.add(db, SEAL, app_no, new)
    async with process(db) as lanes:
        assert await send(await lanes.get(app_no, lane), apns_tokens(20)) == [ACCEPTED] * 20

    assert jwts(sandbox) == 0
    assert await db.fetchval("select count(*) from provider_token") == 0


async def test_a_rotated_key_is_taken_up_while_sending(
    db: Database, sandbox: Sandbox, app_no: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender stays the same, goes over to a new connection, and no delivery notices."""
    monkeypatch.setattr(lanes_module, "TEND_EVERY", 0.05)
    monkeypatch.setattr(lanes_module, "WATCH_EVERY", 0.1)
    async with process(db) as lanes:
        sender = await lanes.get(app_no, 1)
        await send(sender, apns_tokens(10))
        team = sandbox.credentials.apns["team_id"]
        sandbox.keys.add(team, "NEWKEY0001", private_pem(ec_key()))
        new = credential_check.apns_token(private_pem(ec_key()), key_id="NEWKEY0001", team_id=team)
        await credentials.rotate(db, SEAL, app_no, TOPIC, new)
        outcomes = []
        async with asyncio.timeout(5):
            while not await db.fetchval("select count(*) = 2 from provider_token where token is not null"):
                outcomes += await send(sender, apns_tokens(10))
        await asyncio.sleep(0.3)
        outcomes += await send(sender, apns_tokens(10))

        assert set(outcomes) == {ACCEPTED}
        assert sender is await lanes.get(app_no, 1)
        await eventually(lambda: sandbox.state()["connections"]["apns"] == 1, "the old one has drained")


async def test_nothing_goes_out_under_a_revoked_key_once_it_is_rotated(
    db: Database, sandbox: Sandbox, app_no: int
) -> None:
    """Rotating unblocks the lane: an attempt that begins at once must not have it blocked again."""
    known = sandbox.credentials.apns
    async with process(db) as lanes:
        sender = await lanes.get(app_no, 1)
        await send(sender, apns_tokens(2))
        await sandbox.add_rule({"provider": "apns", "reject_credential": True})
        (blocked,) = await send(sender, apns_tokens(1))
        sandbox.keys.add(known["team_id"], "NEWKEY0001", private_pem(ec_key()))
        new = credential_check.apns_token(
            private_pem(ec_key()), key_id="NEWKEY0001", team_id=known["team_id"]
        )
        await credentials.rotate(db, SEAL, app_no, TOPIC, new)
        await sandbox.clear()
        assert isinstance(sender, ApnsSender)
        old = sender._link
        assert await lanes.get(app_no, 1) is sender
        assert sender._link is not old
        outcomes = await send(sender, apns_tokens(20))

        assert jwts(sandbox) == 1  # adding a key makes the sandbox forget the tokens seen before
        assert (blocked.kind, blocked.reason) == (OutcomeKind.BLOCKED, "apns:InvalidProviderToken")
        assert outcomes == [ACCEPTED] * 20


async def test_a_withdrawn_credential_is_let_go(
    db: Database, sandbox: Sandbox, app_no: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sender closes, and who asks for the lane hears why."""
    monkeypatch.setattr(lanes_module, "TEND_EVERY", 0.05)
    monkeypatch.setattr(lanes_module, "WATCH_EVERY", 0.1)
    async with process(db) as lanes:
        await send(await lanes.get(app_no, 1), apns_tokens(2))
        await credentials.withdraw(db, app_no, TOPIC)
        await eventually(lambda: not lanes._lanes, "it is let go")
        with pytest.raises(BadCredential, match="withdrawn"):
            await lanes.get(app_no, 1)


async def test_shutdown_is_survived_and_nothing_is_sent_twice(
    sandbox: Sandbox, lanes: Lanes, app_no: int
) -> None:
    """GOAWAY in mid-flight: what was not processed is surely unsent, and goes out on the next connection."""
    sender = await lanes.get(app_no, 1)
    await send(sender, apns_tokens(3))
    before = len(await log(sandbox, 200))
    await sandbox.add_rule(
        {"provider": "apns", "goaway": "graceful", "reason": "Shutdown", "token": "*32", "first": 1}
    )
    tokens = apns_tokens(200)
    outcomes = await send(sender, tokens)
    again = [token for token, outcome in zip(tokens, outcomes, strict=True) if outcome is not ACCEPTED]
    repeated = await send(sender, again)
    noted = [line["token"] for line in (await log(sandbox, 200))[before:]]

    assert {outcome for outcome in outcomes if outcome is not ACCEPTED} <= {NOT_SENT}
    assert set(repeated) <= {ACCEPTED}
    assert sorted(noted) == tokens


async def test_a_broken_connection_leaves_doubt(sandbox: Sandbox, lanes: Lanes, app_no: int) -> None:
    """Reset after the bytes left: in doubt, one attempt; then a new connection."""
    sender = await lanes.get(app_no, 1)
    await send(sender, apns_tokens(3))
    await sandbox.add_rule({"provider": "apns", "reset": "stream", "first": 2})
    reset = await send(sender, apns_tokens(2))
    await sandbox.add_rule({"provider": "apns", "reset": "connection", "first": 1})
    lost = await send(sender, apns_tokens(1))

    assert {(o.kind, o.reason, o.maybe) for o in reset} == {
        (OutcomeKind.UNAVAILABLE, "clarion:stream_reset", True)
    }
    assert {(o.kind, o.reason, o.maybe) for o in lost} == {
        (OutcomeKind.UNAVAILABLE, "clarion:connection_lost", True)
    }
    assert await send(sender, apns_tokens(3)) == [ACCEPTED] * 3


async def test_nobody_there_is_a_named_wait(db: Database, sandbox: Sandbox, app_no: int) -> None:
    """A host that we must not trust: no room, and the wait has a name."""
    await db.execute("update credential set settings = '{}' where lane = 1")
    async with process(db) as lanes:
        sender = await lanes.get(app_no, 1)
        assert isinstance(sender, ApnsSender)
        await eventually(lambda: bool(sender._link and sender._link.origin.failure), "it cannot connect")

        assert sender.room() == 0
        assert sender.waiting() in ("connecting", "authorization")
        assert sender.prepare(PUSH, HELLO).needs_values is False
