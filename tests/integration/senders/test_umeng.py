"""The Umeng sender against the sandbox, and the sandbox against requests written by hand."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

import httpx
import pytest

from clarion.errors import BadSpec
from clarion.model.message import Message, Text, UmengOptions
from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.lanes import Lanes
from clarion.senders.outcome import ACCEPTED, OutcomeKind
from clarion.senders.sender import Sender, Unsendable
from clarion.store import credentials, vendor_check
from clarion.store.database import Database
from tests.support.senders import SEAL, Clock, process, send
from tests.support.vendors import calls, client, endpoint, lines, registrations, shown

SETTINGS = {"umeng_requests_per_second": 0, "umeng_files_per_hour": 0, "umeng_checks_tokens": 0}


@pytest.fixture
async def sender(lanes: Lanes, app: tuple[int, dict[str, int]]) -> Sender:
    """Umeng's, of lists."""
    return await lanes.get(app[0], app[1]["umeng"])


@pytest.fixture
async def places(sandbox: Sandbox, db: Database, app: tuple[int, dict[str, int]]) -> dict[str, int]:
    """The app's lanes at Umeng: of lists, of files, and of an iOS app."""
    known = sandbox.credentials.vendors["umeng"]
    iphones = {"app_key": "1" * 24, "app_master_secret": "s" * 32, "platform": "ios"}
    sandbox.vendors["umeng"].trust(iphones)
    more = {"files": known | {"filecast": True}, "iphones": iphones}
    where: dict[str, Any] = {
        "endpoint": endpoint(sandbox, "umeng"),
        "settings": {"ca": sandbox.authority.ca_path.read_text()},
    }
    lanes = {"umeng": app[1]["umeng"]}
    for name, secret in more.items():
        new = credentials.new_vendor("umeng", name, vendor_check.umeng(**secret), **where)
        lanes[name] = await credentials.add(db, SEAL, app[0], new)
    return lanes


@pytest.mark.parametrize("lane", ["umeng", "files"])
async def test_a_request_carries_many(
    sandbox: Sandbox, lanes: Lanes, places: dict[str, int], app: tuple[int, dict[str, int]], lane: str
) -> None:
    """A thousand in five lists or files: each is shown once what was meant, emoji as well (C36)."""
    message = Message(texts={"default": Text(title="春 🌱", body="there")})
    tokens = registrations("umeng", 1_000)
    outcomes = await send(await lanes.get(app[0], places[lane]), tokens, message)
    told = lines(sandbox, "umeng")[-1_000:]

    assert set(outcomes) == {ACCEPTED}
    assert calls(sandbox, "umeng") == (5 if lane == "umeng" else 10)
    assert sorted(line["token"] for line in told) == tokens
    assert {(line["status"], line["content"]) for line in told} == {(200, content_hash("春 🌱", "there"))}


async def test_a_file_has_a_key(
    sandbox: Sandbox, db: Database, places: dict[str, int], app: tuple[int, dict[str, int]]
) -> None:
    """An answer that is lost, then the same rows from another process: each device is shown it once."""
    tokens = registrations("umeng", 400, first=2_000)
    rule = {"provider": "umeng", "reset": "connection", "processed": True, "token": "Ak*", "first": 2}
    await sandbox.add_rule(rule)
    async with process(db) as lanes:
        lost = await send(await lanes.get(app[0], places["files"]), tokens)
    async with process(db) as lanes:
        again = await send(await lanes.get(app[0], places["files"]), tokens)
    statuses = [line["status"] for line in lines(sandbox, "umeng") if line["token"] in set(tokens)]

    assert {(one.kind, one.maybe) for one in lost} == {(OutcomeKind.UNAVAILABLE, True)}
    assert set(again) == {ACCEPTED}
    assert sorted(statuses) == [200] * 400 + [409] * 400


async def test_a_list_with_dead_ones_is_only_taken(sandbox: Sandbox, sender: Sender) -> None:
    """Umeng says nothing of them; where an old gateway does (4010) they are found, and only they retire."""
    tokens = registrations("umeng", 100, first=3_000)
    sandbox.bury({"provider": "umeng", "tokens": [tokens[9]]})
    together = await send(sender, tokens)
    sandbox.change({"umeng_checks_tokens": 1})
    found = await send(sender, tokens)

    assert set(together) == {ACCEPTED}
    assert shown(sandbox, "umeng")[tokens[9]] == 0
    assert [n for n, one in enumerate(found) if one is not ACCEPTED] == [9]
    assert (found[9].reason, found[9].retire) == ("umeng:4010", True)


async def test_a_clock_that_is_wrong_blocks(
    sandbox: Sandbox, db: Database, app: tuple[int, dict[str, int]]
) -> None:
    """C36: eleven minutes slow. Signed anew once, then blocked by the code that is about the time."""
    async with process(db, Clock(-660)) as lanes:
        outcomes = await send(await lanes.get(app[0], app[1]["umeng"]), registrations("umeng", 2))

    assert {(o.kind, o.reason) for o in outcomes} == {(OutcomeKind.BLOCKED, "umeng:2028")}
    assert calls(sandbox, "umeng") == 2


@pytest.mark.parametrize(
    ("fault", "kind", "reason", "maybe"),
    [
        ({"status": 400, "reason": "2050"}, OutcomeKind.THROTTLED, "umeng:2050", False),
        ({"status": 400, "reason": "2027"}, OutcomeKind.BLOCKED, "umeng:2027", False),
        ({"status": 200, "reason": "2022"}, OutcomeKind.REJECTED, "umeng:2022", False),
        ({"status": 400, "reason": "4026"}, OutcomeKind.UNAVAILABLE, "umeng:4026", True),
        ({"status": 502}, OutcomeKind.UNAVAILABLE, "umeng:502", True),
        ({"status": 200}, OutcomeKind.UNAVAILABLE, "umeng:BAD_ANSWER", True),
        ({"garbage": "body"}, OutcomeKind.UNAVAILABLE, "umeng:BAD_ANSWER", True),
        ({"status": 200, "reason": "1", "body": ""}, OutcomeKind.UNAVAILABLE, "umeng:BAD_ANSWER", True),
    ],
)
async def test_answers_that_are_no_yes(
    sandbox: Sandbox, sender: Sender, fault: dict[str, Any], kind: OutcomeKind, reason: str, maybe: bool
) -> None:
    """FAIL in a 200, a gateway's HTML, garbage, nothing: classified, and never accepted."""
    await sandbox.add_rule({"provider": "umeng", "first": 1, **fault})
    outcomes = await send(sender, registrations("umeng", 3, first=9_000))

    assert {(o.kind, o.reason, o.maybe, o.retire) for o in outcomes} == {(kind, reason, maybe, False)}


async def test_a_days_quota_stops_calls(sandbox: Sandbox, sender: Sender) -> None:
    """C31: after 2012 nothing more is asked of Umeng that day; it is no attempt."""
    await sandbox.add_rule({"provider": "umeng", "first": 1, "status": 400, "reason": "2012"})
    over = await send(sender, registrations("umeng", 2))
    after = await send(sender, registrations("umeng", 2))

    assert {(o.kind, o.reason, o.attempt) for o in over + after} == {
        (OutcomeKind.THROTTLED, "umeng:2012", False)
    }
    assert calls(sandbox, "umeng") == 1


@pytest.mark.parametrize("lane", ["umeng", "iphones"])
async def test_messages_of_every_shape_are_taken(
    lanes: Lanes, places: dict[str, int], app: tuple[int, dict[str, int]], lane: str
) -> None:
    """Personal, silent, with links and pictures, lifetimes of 0 and beyond seven days; on both platforms."""
    texts = {"default": Text(title="Hi {{ user.name }}", body="b"), "de": Text(body="Hallo")}
    options = UmengOptions(mi_activity="a.b.C", channel_properties={"channel_activity": "a.b.C"})
    shapes = (
        Message(texts=texts, ttl=2_419_200, deep_link="https://a.example", badge=3, umeng=options),
        Message(texts=texts, ttl=0, deep_link="app://x", image="https://a.example/p.png", badge="+1"),
        Message(data={"n": 9007199254740993}, ttl=3_600),
        Message(texts=texts, data={"o": {"a": [1]}}, sound="default", category="c", thread_id="t"),
    )
    sender = await lanes.get(app[0], places[lane])
    tokens = registrations("umeng", 2) if lane == "umeng" else [f"{n:064x}" for n in range(2)]
    for message in shapes:
        for locale in ("", "de-at"):
            user = {"name": 'a"b 李'}
            assert await send(sender, tokens, message, locale=locale, values=user) == [ACCEPTED] * 2


async def test_what_cannot_be_sent_is_refused_before(lanes: Lanes, places: dict[str, int], app: Any) -> None:
    """A payload that is too long, keys that Umeng keeps for itself, a comma in a registration."""
    android, ios = [await lanes.get(app[0], places[lane]) for lane in ("umeng", "iphones")]
    with pytest.raises(BadSpec, match="1840"):
        await send(android, ["x"], Message(texts={"default": Text(title="t", body="b" * 1_840)}))
    with pytest.raises(BadSpec, match=r"data\.d"):
        await send(ios, ["x"], Message(texts={"default": Text(title="t", body="b")}, data={"d": 1}))
    with pytest.raises(Unsendable):
        await send(android, ["a,b"])


TOKEN = "Ak" + "7" * 42
NOTE: dict[str, Any] = {"ticker": "Hello", "title": "Hello", "text": "there", "after_open": "go_app"}
GOOD: dict[str, Any] = {
    "type": "unicast",
    "device_tokens": TOKEN,
    "payload": {"display_type": "notification", "body": NOTE},
    "production_mode": "true",
}


async def by_hand(sandbox: Sandbox, other: httpx.AsyncClient, body: str, path: str = "/api/send") -> Any:
    """An answer to a request that is signed by the words of the reference."""
    secret = sandbox.credentials.vendors["umeng"]["app_master_secret"]
    words = f"POST{endpoint(sandbox, 'umeng')}{path}{body}{secret}"
    sign = hashlib.md5(words.encode(), usedforsecurity=False).hexdigest()
    return await other.post(path, params={"sign": sign}, content=body.encode())


def dated(days: float) -> str:
    """So many days from now, as a clock in China shows it."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(time.time() + 28_800 + days * 86_400))


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, None),
        ({"policy": {"expire_time": dated(6)}}, None),
        ({"policy": {"expire_time": dated(8)}}, "2040"),
        ({"policy": {"expire_time": dated(-1)}}, "2001"),
        ({"policy": {"expire_time": "soon"}}, "2030"),
        ({"type": "listcast", "device_tokens": ",".join([TOKEN] * 500)}, None),
        ({"type": "listcast", "device_tokens": ",".join([TOKEN] * 501)}, "2015"),
        ({"device_tokens": f"{TOKEN},{TOKEN}"}, "2015"),
        ({"device_tokens": ""}, "1015"),
        ({"type": None}, "1016"),
        ({"type": "onecast"}, "2048"),
        ({"type": "filecast"}, "2018"),
        ({"type": "filecast", "file_id": "PF0"}, "2019"),
        ({"payload": None}, "1001"),
        ({"payload": {"display_type": "notification"}}, "1002"),
        ({"payload": {"body": NOTE}}, "1004"),
        ({"payload": {"display_type": "banner", "body": NOTE}}, "1019"),
        ({"payload": {"display_type": "message", "body": NOTE}}, "1003"),
        ({"payload": {"display_type": "notification", "body": NOTE | {"ticker": ""}}}, "1008"),
        ({"payload": {"display_type": "notification", "body": NOTE | {"title": ""}}}, "1009"),
        ({"payload": {"display_type": "notification", "body": NOTE | {"text": "t" * 1_840}}}, "2022"),
        ({"payload": {"display_type": "notification", "body": NOTE | {"play_sound": True}}}, "1013"),
        ({"payload": {"display_type": "notification", "body": NOTE | {"after_open": "go_url"}}}, "1022"),
        ({"production_mode": True}, "1017"),
        ({"timestamp": None}, "2052"),
        ({"timestamp": "yesterday"}, "2036"),
        ({"timestamp": str(int(time.time()) - 3_600)}, "2028"),
        ({"appkey": ""}, "1000"),
        ({"appkey": "stranger"}, "2021"),
    ],
)
async def test_the_sheets_codes(sandbox: Sandbox, change: dict[str, Any], code: str | None) -> None:
    """Requests written by hand: a good one is taken, each wrong one gets its code, another signature 2027."""
    known = {"appkey": sandbox.credentials.vendors["umeng"]["app_key"], "timestamp": str(int(time.time()))}
    body = json.dumps(known | GOOD | change, ensure_ascii=False, indent=1)
    async with client(sandbox, "umeng", "application/json") as other:
        said = await by_hand(sandbox, other, body)
        unsigned = await other.post("/api/send", content=body)
        wrong = await other.post("/api/send", params={"sign": "0" * 32}, content=body)

    assert (said.status_code, said.json()["ret"]) == ((400, "FAIL") if code else (200, "SUCCESS"))
    assert said.json()["data"].get("error_code") == code
    if code not in ("1000", "2021"):
        assert [one.json()["data"]["error_code"] for one in (unsigned, wrong)] == ["2007", "2027"]


async def test_files_and_tasks(sandbox: Sandbox) -> None:
    """C36: three tokens in a file, joined by line feeds; a task can be asked about; no JSON is 2008."""
    known = {"appkey": sandbox.credentials.vendors["umeng"]["app_key"], "timestamp": str(int(time.time()))}
    tokens = registrations("umeng", 3, first=20_000)
    async with client(sandbox, "umeng", "application/json") as other:
        upload = json.dumps(known | {"content": "\n".join(tokens)})
        file = (await by_hand(sandbox, other, upload, "/upload")).json()["data"]["file_id"]
        cast = {"type": "filecast", "file_id": file, "policy": {"out_biz_no": "once"}}
        sent = [await by_hand(sandbox, other, json.dumps(known | GOOD | cast)) for _ in range(2)]
        tasks = {one.json()["data"]["task_id"] for one in sent}
        asked = json.dumps(known | {"task_id": tasks.pop()})
        status = (await by_hand(sandbox, other, asked, "/api/status")).json()["data"]
        no_json = await by_hand(sandbox, other, "{")

    assert not tasks, "the repeat got another task"
    assert (status["status"], status["sent_count"]) == (2, 3)
    assert {shown(sandbox, "umeng")[token] for token in tokens} == {1}
    assert no_json.json()["data"]["error_code"] == "2008"
