"""The Getui sender against the sandbox, and the sandbox against requests written by hand."""

from __future__ import annotations

import asyncio
import hashlib
import time
from typing import Any

import httpx
import pytest

from clarion.model.message import GetuiOptions, Message, Text
from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.lanes import Lanes
from clarion.senders.outcome import ACCEPTED, OutcomeKind
from clarion.senders.sender import Sender
from clarion.store.database import Database
from tests.support.senders import Clock, process, send
from tests.support.vendors import calls, client, lines, registrations, shown

SETTINGS = {
    "getui_requests_per_minute": 0,
    "getui_daily": 0,
    "getui_strict_batches": 0,
    "getui_lists_repeats": 1,
}


@pytest.fixture
async def sender(lanes: Lanes, app: tuple[int, dict[str, int]]) -> Sender:
    """Getui's."""
    return await lanes.get(app[0], app[1]["getui"])


async def test_a_batch_carries_many(sandbox: Sandbox, sender: Sender) -> None:
    """A thousand in five requests, personal ones too: each is shown once what was meant; one token."""
    tokens = registrations("getui", 1_000)
    outcomes = await send(sender, tokens)
    personal = Message(texts={"default": Text(title="Hi {{ user.name }}", body="b")})
    more = registrations("getui", 200, first=1_000)
    assert set(await send(sender, more, personal, values={"name": 'a"b'})) == {ACCEPTED}
    told = {line["token"]: line["content"] for line in lines(sandbox, "getui")}

    assert set(outcomes) == {ACCEPTED}
    assert (calls(sandbox, "getui"), calls(sandbox, "getui-auth")) == (6, 1)
    assert {shown(sandbox, "getui")[token] for token in tokens + more} == {1}
    assert {told[token] for token in tokens} == {content_hash("Hello", "there")}
    assert {told[token] for token in more} == {content_hash('Hi a"b', "b")}


@pytest.mark.parametrize("listed", [True, False])
async def test_a_repeat_is_dropped(
    sandbox: Sandbox, db: Database, app: tuple[int, dict[str, int]], listed: bool
) -> None:
    """An answer that is lost, then the same rows from another process: each device is shown it once.

    Where Getui lists no repeats nobody knows of them, and nobody is said to be accepted.
    """
    sandbox.change({"getui_lists_repeats": int(listed)})
    tokens = registrations("getui", 20, first=2_000 + 100 * listed)
    await sandbox.add_rule({"provider": "getui", "reset": "connection", "processed": True, "first": 1})
    async with process(db) as lanes:
        lost = await send(await lanes.get(app[0], app[1]["getui"]), tokens)
    async with process(db) as lanes:
        again = await send(await lanes.get(app[0], app[1]["getui"]), tokens)

    assert {(one.kind, one.maybe) for one in lost} == {(OutcomeKind.UNAVAILABLE, True)}
    assert {one.reason for one in again} == ({""} if listed else {"getui:unlisted"})
    assert {shown(sandbox, "getui")[token] for token in tokens} == {1}
    assert calls(sandbox, "getui-auth") == 1


@pytest.mark.parametrize("strict", [True, False])
async def test_the_unknown_are_found(sandbox: Sandbox, sender: Sender, strict: bool) -> None:
    """Left out of the answer, or refusing all of the batch: they retire, the others get it once."""
    sandbox.change({"getui_strict_batches": int(strict)})
    tokens = registrations("getui", 100, first=3_000 + 500 * strict)
    sandbox.bury({"provider": "getui", "tokens": [tokens[7], tokens[70]]})
    sandbox.bury({"provider": "getui", "tokens": [tokens[50]], "reason": "successed_ignore"})
    outcomes = await send(sender, tokens)
    screens = shown(sandbox, "getui")

    assert [n for n, one in enumerate(outcomes) if one is not ACCEPTED] == [7, 50, 70]
    assert [(outcomes[n].reason, outcomes[n].retire) for n in (7, 50, 70)] == [
        ("getui:20001", True),
        ("getui:successed_ignore", False),
        ("getui:20001", True),
    ]
    assert [n for n, token in enumerate(tokens) if screens[token] != 1] == [7, 50, 70]


async def test_a_void_token_is_renewed_once(sandbox: Sandbox, sender: Sender) -> None:
    """C17: five requests under a void token make one new token; a second refusal blocks."""
    tokens = registrations("getui", 1_000, first=5_000)
    assert set(await send(sender, tokens[:10])) == {ACCEPTED}
    sandbox.vendors["getui"].forget()
    refused = await send(sender, tokens)
    again = await send(sender, tokens)
    minted = calls(sandbox, "getui-auth")
    await sandbox.add_rule({"provider": "getui", "reject_credential": True})
    first = await send(sender, tokens[:2])
    blocked = await send(sender, tokens[:2])

    assert {(o.kind, o.attempt, o.maybe) for o in refused if o is not ACCEPTED} == {
        (OutcomeKind.UNAVAILABLE, False, False)
    }
    assert (set(again), minted) == ({ACCEPTED}, 2)
    assert {o.kind for o in first} == {OutcomeKind.UNAVAILABLE}
    assert {(o.kind, o.reason) for o in blocked} == {(OutcomeKind.BLOCKED, "getui:10001")}


async def test_processes_share_a_token(
    sandbox: Sandbox, db: Database, app: tuple[int, dict[str, int]]
) -> None:
    """Four processes at once ask for one token."""
    made = [process(db) for _ in range(4)]
    running = [await one.__aenter__() for one in made]
    senders = [await lanes.get(app[0], app[1]["getui"]) for lanes in running]
    tokens = registrations("getui", 4, first=7_000)
    pairs = zip(senders, tokens, strict=True)
    outcomes = await asyncio.gather(*(send(sender, [token]) for sender, token in pairs))
    for one in made:
        await one.__aexit__(None, None, None)

    assert outcomes == [[ACCEPTED]] * 4
    assert calls(sandbox, "getui-auth") == 1


async def test_a_clock_that_is_wrong_blocks(
    sandbox: Sandbox, db: Database, app: tuple[int, dict[str, int]]
) -> None:
    """Eleven minutes slow: no token is given, the lane is blocked, nothing is sent."""
    async with process(db, Clock(-660)) as lanes:
        outcomes = await send(await lanes.get(app[0], app[1]["getui"]), registrations("getui", 1))

    assert [(o.kind, o.reason) for o in outcomes] == [(OutcomeKind.BLOCKED, "getui:20001")]
    assert calls(sandbox, "getui") == 0


async def test_the_days_quota_stops_calls(sandbox: Sandbox, sender: Sender) -> None:
    """C31: after 30009 nothing more is asked of Getui that day; it is no attempt and nobody retires."""
    sandbox.change({"getui_daily": 5})
    over = await send(sender, registrations("getui", 6, first=8_000))
    asked = calls(sandbox, "getui")
    after = await send(sender, registrations("getui", 3, first=8_100))

    assert {(o.kind, o.reason, o.attempt, o.retire) for o in over + after} == {
        (OutcomeKind.THROTTLED, "getui:30009", False, False)
    }
    assert min(o.retry_after for o in after) > 60
    assert calls(sandbox, "getui") == asked == 1


@pytest.mark.parametrize(
    ("fault", "kind", "reason", "maybe"),
    [
        ({"status": 401, "reason": "10005"}, OutcomeKind.THROTTLED, "getui:10005", False),
        ({"status": 401, "reason": "10002"}, OutcomeKind.BLOCKED, "getui:10002", False),
        ({"status": 200, "reason": "20001"}, OutcomeKind.REJECTED, "getui:20001", False),
        ({"status": 200, "reason": "5000"}, OutcomeKind.UNAVAILABLE, "getui:5000", True),
        ({"status": 502}, OutcomeKind.UNAVAILABLE, "getui:502", True),
        ({"status": 200}, OutcomeKind.UNAVAILABLE, "getui:BAD_ANSWER", True),
        ({"garbage": "body"}, OutcomeKind.UNAVAILABLE, "getui:BAD_ANSWER", True),
        ({"status": 200, "reason": "1", "body": ""}, OutcomeKind.UNAVAILABLE, "getui:BAD_ANSWER", True),
    ],
)
async def test_answers_that_are_no_yes(
    sandbox: Sandbox, sender: Sender, fault: dict[str, Any], kind: OutcomeKind, reason: str, maybe: bool
) -> None:
    """An error in a 200, a gateway's HTML, garbage, nothing: classified, and never accepted."""
    await sandbox.add_rule({"provider": "getui", "first": 1, **fault})
    outcomes = await send(sender, registrations("getui", 3, first=9_000))

    assert {(o.kind, o.reason, o.maybe, o.retire) for o in outcomes} == {(kind, reason, maybe, False)}


async def test_messages_of_every_shape_are_taken(sender: Sender) -> None:
    """Silent, with links of three forms, lifetimes of 0 and beyond three days, texts that are too long."""
    texts = {"default": Text(title="字" * 60, body="x" * 300), "de": Text(body="Hallo")}
    options = GetuiOptions(
        channel_id="c", settings={"strategy": {"default": 1}}, options={"VV": {"/classification": 1}}
    )
    shapes = (
        Message(texts=texts, ttl=2_419_200, badge="+1", deep_link="https://a.example", getui=options),
        Message(texts=texts, ttl=0, badge=0, deep_link="intent:#Intent;end", sound="default"),
        Message(texts=texts, data={"n": 9007199254740993}, deep_link="app://x", collapse="é" * 32),
        Message(data={"n": 1}, ttl=60),
    )
    for number, message in enumerate(shapes):
        for locale in ("", "de-at"):
            tokens = registrations("getui", 2, first=10_000 + number)
            assert await send(sender, tokens, message, locale=locale) == [ACCEPTED] * 2


NOTE: dict[str, Any] = {"title": "Hello", "body": "there", "click_type": "none"}
GOOD: dict[str, Any] = {
    "request_id": "0123456789",
    "settings": {"ttl": 3_600_000},
    "audience": {"cid": ["r1"]},
    "push_message": {"notification": NOTE},
}


async def signed_in(sandbox: Sandbox, other: httpx.AsyncClient, **change: Any) -> httpx.Response:
    """An answer of /auth, to a request made by the words of the reference."""
    known = sandbox.credentials.vendors["getui"]
    stamp = str(change.pop("timestamp", int(time.time() * 1_000)))
    sign = hashlib.sha256((known["app_key"] + stamp + known["master_secret"]).encode()).hexdigest()
    body = {"sign": sign, "timestamp": stamp, "appkey": known["app_key"]} | change
    return await other.post(f"/v2/{known['app_id']}/auth", json=body)


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({}, 200, 0),
        ({"request_id": "123456789"}, 400, 20001),
        ({"request_id": "x" * 33}, 400, 20001),
        ({"audience": {"cid": ["r1", "r2"]}}, 400, 20001),
        ({"audience": {"cid": ["foreign"]}}, 400, 20001),
        ({"audience": "all"}, 400, 20001),
        ({"settings": {"ttl": 259_200_001}}, 400, 20001),
        ({"settings": {"ttl": "3600000"}}, 400, 20001),
        ({"settings": {"strategy": {"default": 5}}}, 400, 20001),
        ({"push_message": {"notification": NOTE | {"body": ""}}}, 400, 20001),
        ({"push_message": {"notification": NOTE | {"title": "t" * 51}}}, 400, 20001),
        ({"push_message": {"notification": NOTE | {"click_type": "url"}}}, 400, 20001),
        ({"push_message": {"transmission": "x" * 3_073}}, 400, 20001),
        ({"push_message": {"transmission": "x"}}, 200, 0),
        ({"push_message": {"transmission": "x", "notification": NOTE}}, 400, 20001),
        ({"push_channel": {"ios": {"type": "notify"}}}, 400, 20001),
        ({"urgent": True}, 400, 20001),
    ],
)
async def test_the_sheets_codes(sandbox: Sandbox, change: dict[str, Any], status: int, code: int) -> None:
    """Requests written by hand, alone and in a batch; without a token, or with a revoked one, 10001."""
    base = f"/v2/{sandbox.credentials.vendors['getui']['app_id']}"
    async with client(sandbox, "getui", "application/json") as other:
        token = (await signed_in(sandbox, other)).json()["data"]["token"]
        head = {"token": token}
        one = await other.post(f"{base}/push/single/cid", json=GOOD | change, headers=head)
        several = {"is_async": False, "msg_list": [GOOD | {"request_id": "9876543210"} | change]}
        batch = await other.post(f"{base}/push/single/batch/cid", json=several, headers=head)
        without = await other.post(f"{base}/push/single/cid", json=GOOD)
        await other.delete(f"{base}/auth/{token}")
        revoked = await other.post(f"{base}/push/single/cid", json=GOOD, headers=head)

    assert [(said.status_code, said.json()["code"]) for said in (one, batch)] == [(status, code)] * 2
    assert [(said.status_code, said.json()["code"]) for said in (without, revoked)] == [(401, 10001)] * 2


async def test_signatures_and_batches(sandbox: Sandbox) -> None:
    """A wrong signature or key, an old stamp, one too many, no JSON, no such path, too many a minute."""
    base = f"/v2/{sandbox.credentials.vendors['getui']['app_id']}"
    sandbox.change({"getui_requests_per_minute": 4})
    many = [GOOD | {"request_id": f"{n:010d}", "audience": {"cid": [f"r{n}"]}} for n in range(201)]
    async with client(sandbox, "getui", "application/json") as other:
        asked = [
            await signed_in(sandbox, other, sign="0" * 64),
            await signed_in(sandbox, other, appkey="x"),
            await signed_in(sandbox, other, timestamp=int(time.time() * 1_000) - 660_000),
        ]
        other.headers["token"] = (await signed_in(sandbox, other)).json()["data"]["token"]
        place = f"{base}/push/single/batch/cid"
        asked += [
            await other.post(place, json={"msg_list": many}),
            await other.post(place, json={"msg_list": [many[0], many[0]]}),
            await other.post(place, content="{"),
            await other.get(place),
            await other.post(f"{base}/push/all", json={}),
            await other.post(place, json={"msg_list": many[:200]}),
            await other.post(place, json={"msg_list": many[:1]}),
        ]

    assert [(said.status_code, said.json()["code"]) for said in asked] == [
        (401, 10001),
        (401, 10001),
        (400, 20001),
        (400, 20001),
        (400, 20001),
        (200, 1),
        (405, 405),
        (404, 404),
        (200, 0),
        (401, 10005),
    ]
    assert shown(sandbox, "getui")["r199"] == 1
