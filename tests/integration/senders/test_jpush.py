"""The JPush sender against the sandbox, and the sandbox against Jiguang's own library and wrong requests."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import jpush
import pytest

from clarion.model.message import Classification, JPushOptions, Message, Text
from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.lanes import Lanes
from clarion.senders.outcome import ACCEPTED, OutcomeKind, Scope
from clarion.senders.sender import Sender
from clarion.store.database import Database
from tests.support.senders import process, send
from tests.support.vendors import calls, client, endpoint, lines, registrations, shown

SETTINGS = {"jpush_requests_per_minute": 0, "jpush_strict_lists": 0}


@pytest.fixture
async def sender(lanes: Lanes, app: tuple[int, dict[str, int]]) -> Sender:
    """JPush's."""
    return await lanes.get(app[0], app[1]["jpush"])


async def test_a_request_carries_many(sandbox: Sandbox, sender: Sender) -> None:
    """A thousand in five requests: each is shown once what was meant."""
    tokens = registrations("jpush", 1_000)
    outcomes = await send(sender, tokens)

    assert set(outcomes) == {ACCEPTED}
    assert calls(sandbox, "jpush") == 5
    assert {shown(sandbox, "jpush")[token] for token in tokens} == {1}
    assert {line["content"] for line in lines(sandbox, "jpush")} == {content_hash("Hello", "there")}


async def test_a_repeat_is_recognised_by_its_cid(
    sandbox: Sandbox, db: Database, app: tuple[int, dict[str, int]]
) -> None:
    """An answer that is lost, then the same rows from another process: each device is shown it once."""
    tokens = registrations("jpush", 400, first=2_000)
    await sandbox.add_rule({"provider": "jpush", "reset": "connection", "processed": True, "first": 2})
    async with process(db) as lanes:
        lost = await send(await lanes.get(app[0], app[1]["jpush"]), tokens)
    async with process(db) as lanes:
        again = await send(await lanes.get(app[0], app[1]["jpush"]), tokens)
    statuses = [line["status"] for line in lines(sandbox, "jpush") if line["token"] in set(tokens)]

    assert {(one.kind, one.maybe) for one in lost} == {(OutcomeKind.UNAVAILABLE, True)}
    assert set(again) == {ACCEPTED}
    assert sorted(statuses) == [200] * 400 + [409] * 400
    assert {shown(sandbox, "jpush")[token] for token in tokens} == {1}


async def test_a_list_with_bad_ones_is_only_taken(sandbox: Sandbox, sender: Sender) -> None:
    """JPush says nothing of them: all are accepted. Alone one is 1011 (unknown) or 1003 (malformed)."""
    tokens = registrations("jpush", 10, first=3_000)
    sandbox.bury({"provider": "jpush", "tokens": tokens[:2]})
    together = await send(sender, tokens)
    (alone,) = await send(sender, tokens[:1])
    (malformed,) = await send(sender, ["1a00!"])

    assert set(together) == {ACCEPTED}
    assert [shown(sandbox, "jpush")[token] for token in tokens] == [0, 0] + [1] * 8
    assert (alone.reason, alone.retire, alone.suspect) == ("jpush:1011", True, True)
    assert (malformed.reason, malformed.retire, malformed.suspect) == ("jpush:1003", True, False)


async def test_one_gone_does_not_sink_the_list(sandbox: Sandbox, sender: Sender) -> None:
    """C34: where a list is refused for one of it, the good ones get it once and the gone one retires."""
    sandbox.change({"jpush_strict_lists": 1})
    tokens = registrations("jpush", 200, first=4_000)
    sandbox.bury({"provider": "jpush", "tokens": tokens[50:51]})
    outcomes = await send(sender, tokens)
    screens = shown(sandbox, "jpush")

    assert [n for n, one in enumerate(outcomes) if one is not ACCEPTED] == [50]
    assert outcomes[50].retire
    assert [screens[token] for token in tokens] == [1] * 50 + [0] + [1] * 149


async def test_nobody_of_a_list(sandbox: Sandbox, sender: Sender) -> None:
    """Another app's registrations: watched by the 30 % rule, a few are asked for alone, and that is all."""
    outcomes = await send(sender, [f"{token}foreign" for token in registrations("jpush", 200)])

    assert {(o.kind, o.reason, o.suspect) for o in outcomes} == {(OutcomeKind.REJECTED, "jpush:1011", True)}
    assert sum(o.retire for o in outcomes) == 8
    assert calls(sandbox, "jpush") == 15


async def test_the_minute_is_over(sandbox: Sandbox, sender: Sender) -> None:
    """2002 waits as long as X-Rate-Limit-Reset says; it is no attempt, and told as a few deliveries."""
    sandbox.change({"jpush_requests_per_minute": 2})
    outcomes = await send(sender, registrations("jpush", 1_000, first=5_000))
    slow = [one for one in outcomes if one is not ACCEPTED]

    assert len(slow) == 600
    assert {(o.kind, o.reason, o.attempt) for o in slow} == {(OutcomeKind.THROTTLED, "jpush:2002", False)}
    assert 0 < max(o.retry_after for o in slow) <= 60
    assert sum(o.scope is Scope.LANE for o in slow) == 30


@pytest.mark.parametrize(
    ("fault", "kind", "reason", "maybe"),
    [
        ({"status": 401, "reason": "1004"}, OutcomeKind.BLOCKED, "jpush:1004", False),
        ({"status": 401}, OutcomeKind.BLOCKED, "jpush:401", False),
        ({"status": 403, "reason": "2004"}, OutcomeKind.BLOCKED, "jpush:2004", False),
        ({"status": 400, "reason": "1005"}, OutcomeKind.REJECTED, "jpush:1005", False),
        ({"status": 200, "reason": "1000"}, OutcomeKind.UNAVAILABLE, "jpush:1000", True),
        ({"status": 502}, OutcomeKind.UNAVAILABLE, "jpush:502", True),
        ({"status": 200}, OutcomeKind.UNAVAILABLE, "jpush:BAD_ANSWER", True),
        ({"garbage": "body"}, OutcomeKind.UNAVAILABLE, "jpush:BAD_ANSWER", True),
        ({"status": 200, "reason": "1000", "body": ""}, OutcomeKind.UNAVAILABLE, "jpush:BAD_ANSWER", True),
    ],
)
async def test_answers_that_are_no_yes(
    sandbox: Sandbox, sender: Sender, fault: dict[str, Any], kind: OutcomeKind, reason: str, maybe: bool
) -> None:
    """An error in a 200, a gateway's HTML, garbage, nothing: classified, and never accepted."""
    await sandbox.add_rule({"provider": "jpush", "first": 1, **fault})
    outcomes = await send(sender, registrations("jpush", 3, first=6_000))

    assert {(o.kind, o.reason, o.maybe, o.retire) for o in outcomes} == {(kind, reason, maybe, False)}


async def test_messages_of_every_shape_are_taken(sender: Sender) -> None:
    """Personal, silent, with a picture, a link, a badge that counts, options of all platforms."""
    texts = {"default": Text(title="Hi {{ user.name }}", body="b"), "de": Text(body="Hallo")}
    options = JPushOptions(
        channel_id="c",
        android={"priority": 1},
        ios={"interruption-level": "active"},
        hmos={"category": "MARKETING"},
        options={"override_msg_id": 58_546_795_155_880_001, "third_party_channel": {"xiaomi": {}}},
    )
    shapes = (
        Message(texts=texts, ttl=2_419_200, badge=3, data={"n": 1, "o": {"a": [1]}}),
        Message(
            texts=texts, badge="+1", deep_link="app://x", image="https://a.example/p.png", sound="default"
        ),
        Message(data={"n": 9007199254740993}, ttl=0),
        Message(
            texts=texts, classification=Classification.SERVICE, jpush=options, category="c", thread_id="t"
        ),
    )
    for message in shapes:
        for locale in ("", "de-at"):
            user = {"name": 'a"b 李'}
            outcomes = await send(sender, registrations("jpush", 2), message, locale=locale, values=user)
            assert outcomes == [ACCEPTED] * 2


async def test_jiguangs_own_library(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """It pushes, validates, takes cids, pushes single ones in a batch, and is refused with its own words."""
    monkeypatch.setitem(jpush.common.ZONES["DEFAULT"], "PUSH", f"{endpoint(sandbox, 'jpush')}/v3/")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(sandbox.authority.ca_path))
    known = sandbox.credentials.vendors["jpush"]
    made = jpush.JPush(known["app_key"], known["master_secret"])
    good, other, gone = registrations("jpush", 3, first=7_000)
    sandbox.bury({"provider": "jpush", "tokens": [gone]})
    note = jpush.notification(
        alert="there",
        android=jpush.android(alert="there", title="Hello", priority=1, intent={"url": "app://x"}),
        ios=jpush.ios(alert={"title": "Hello", "body": "there"}, content_available=True, extras={"k": "v"}),
        hmos=jpush.hmos(alert="there", category="MARKETING"),
    )

    def pushed(token: str, cid: str | None = None) -> Any:
        push = made.create_push()
        push.audience = jpush.audience({"registration_id": [token]})
        push.platform, push.notification, push.cid = jpush.all_, note, cid
        push.options = {"time_to_live": 60, "apns_production": False}
        return push

    def talk() -> tuple[Any, ...]:
        cid = made.create_push().get_cid(1, "push").payload["cidlist"][0]
        first, again = (pushed(good, cid).send().payload["msg_id"] for _ in range(2))
        single = {"platform": "all", "target": other, "notification": {"alert": "b"}}
        batch = made.create_push().batch_push_by_regid([single, {**single, "target": gone}]).payload
        with pytest.raises(jpush.common.JPushFailure) as refused:
            pushed(gone).send()
        made.session.auth = (known["app_key"], "wrong")
        with pytest.raises(jpush.common.Unauthorized):
            pushed(good).send_validate()
        return first, again, batch, refused.value.error_code

    first, again, batch, code = await asyncio.to_thread(talk)
    screens = shown(sandbox, "jpush")

    assert first == again
    assert sorted(next(iter(one)) for one in batch.values()) == ["error", "msg_id"]
    assert code == 1011
    assert [screens[token] for token in (good, other, gone)] == [1, 1, 0]


GOOD: dict[str, Any] = {
    "platform": "all",
    "audience": {"registration_id": ["r1"]},
    "notification": {"alert": "there", "android": {"alert": "there", "title": "Hello"}},
}


@pytest.mark.parametrize(
    ("change", "status", "code"),
    [
        ({}, 200, None),
        ({"audience": {"registration_id": [f"r{n}" for n in range(1_000)]}}, 200, None),
        ({"audience": {"registration_id": [f"r{n}" for n in range(1_001)]}}, 400, 1003),
        ({"audience": {"registration_id": []}}, 400, 1003),
        ({"audience": {"registration_id": ["r!"]}}, 400, 1003),
        ({"audience": {"registration_id": ["foreign"]}}, 400, 1011),
        ({"audience": {"registration_id": ["r1"], "tag": ["t"]}}, 400, 1011),
        ({"audience": {"tag": [f"t{n}" for n in range(21)]}}, 400, 1003),
        ({"audience": {"alias": ["a" * 41]}}, 400, 1003),
        ({"audience": {"token": ["r1"]}}, 400, 1009),
        ({"platform": None}, 400, 1003),
        ({"platform": ["symbian"]}, 400, 1003),
        ({"notification": None}, 400, 1002),
        ({"notification": {"android": {"alert": "a", "colour": 1}}}, 400, 1009),
        ({"notification": {"android": {"alert": "a", "priority": 3}}}, 400, 1003),
        ({"notification": {"ios": {"alert": "a", "badge": "1+"}}}, 400, 1003),
        ({"notification": {"android": {"alert": "a" * 4_000}}}, 400, 1005),
        ({"notification": {"ios": {"alert": "a" * 2_000}}}, 400, 1005),
        ({"message": {"title": "t"}}, 400, 1002),
        ({"options": {"time_to_live": 259_201}}, 400, 1003),
        ({"options": {"apns_collapse_id": "c" * 65}}, 400, 1003),
        ({"options": {"apns_production": "true"}}, 400, 1003),
        ({"cid": "123"}, 400, 1003),
        ({"urgent": True}, 400, 1009),
    ],
)
async def test_the_sheets_codes(
    sandbox: Sandbox, change: dict[str, Any], status: int, code: int | None
) -> None:
    """Requests written by hand: a good one is taken, each wrong one gets its code, no secret 1004."""
    known = sandbox.credentials.vendors["jpush"]
    async with client(sandbox, "jpush", "application/json") as other:
        auth = (known["app_key"], known["master_secret"])
        said = await other.post("/v3/push", json=GOOD | change, auth=auth)
        unknown = await other.post("/v3/push", json=GOOD | change, auth=("x", known["master_secret"]))

    assert (said.status_code, said.json().get("error", {}).get("code")) == (status, code)
    assert code or isinstance(said.json()["msg_id"], str)
    assert (unknown.status_code, unknown.json()["error"]["code"]) == (401, 1004)


async def test_other_ways_to_be_wrong(sandbox: Sandbox) -> None:
    """Another method, another path, no JSON, a cid of another app; and /validate shows nothing."""
    known = sandbox.credentials.vendors["jpush"]
    words = base64.b64encode(f"{known['app_key']}:{known['master_secret']}".encode()).decode()
    stranger = {"cid": f"{'0' * 24}-711261d4-5f17-4d2f-a855-5e5a8909b26e"}
    async with client(sandbox, "jpush", "application/json") as other:
        other.headers["authorization"] = f"Basic {words}"
        said = [
            await other.get("/v3/push"),
            await other.post("/v4/push", json=GOOD),
            await other.post("/v3/push", content="{"),
            await other.post("/v3/push", content=""),
            await other.post("/v3/push", json=GOOD | stranger),
            await other.get("/v3/push/cid", params={"count": 1_001}),
        ]
        taken = await other.post("/v3/push/validate", json=GOOD)

    codes = [(one.status_code, json.loads(one.content)["error"]["code"]) for one in said]
    assert codes == [(405, 1001), (404, 1020), (400, 1003), (400, 1002), (400, 1003), (400, 1003)]
    assert taken.status_code == 200
    assert lines(sandbox, "jpush")[-1]["status"] != 200
