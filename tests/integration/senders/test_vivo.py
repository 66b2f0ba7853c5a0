"""The vivo sender against the sandbox, and the sandbox against requests written by hand."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from clarion.model.message import Classification, Message, Text, VivoOptions
from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.lanes import Lanes
from clarion.senders.outcome import ACCEPTED, OutcomeKind
from clarion.senders.sender import Sender
from clarion.senders.vivo import seconds_of_night
from clarion.store.database import Database
from tests.support.senders import HELLO, Clock, process, send
from tests.support.vendors import JSON, calls, client, lines, registrations, shown

SEND, SAVE, LIST = "/message/send", "/message/saveListPayload", "/message/pushToList"
SERVICE = Message(
    texts=HELLO.texts, classification=Classification.SERVICE, vivo=VivoOptions(category="ORDER")
)


def noon() -> float:
    """Seconds from now to noon of today in China, or back to it."""
    return 4 * 3_600 - time.time() % 86_400


@pytest.fixture
async def sandbox(sandbox: Sandbox) -> Sandbox:
    """It is noon in China: marketing may go out."""
    sandbox.change({"clock": noon()})
    return sandbox


@pytest.fixture
async def lanes(db: Database, app: tuple[int, dict[str, int]]) -> AsyncIterator[Lanes]:
    """The senders of one process."""
    async with process(db, Clock(noon())) as made:
        yield made


@pytest.fixture
async def sender(lanes: Lanes, app: tuple[int, dict[str, int]]) -> Sender:
    """vivo's."""
    return await lanes.get(app[0], app[1]["vivo"])


def paths(sandbox: Sandbox) -> list[str]:
    """Begin to note which paths are asked for."""
    seen: list[str] = []
    service = sandbox.vendors["vivo"]
    decide = service.decide

    def listen(method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Any:
        seen.append(path)
        return decide(method, path, headers, body)

    service.decide = listen  # type: ignore[method-assign]
    return seen


async def test_a_content_is_saved_once_and_sent_to_lists(sandbox: Sandbox, sender: Sender) -> None:
    """A thousand and one: one saving, five lists, the last alone by the endpoint for one; one token."""
    seen = paths(sandbox)
    tokens = registrations("vivo", 1_001)
    outcomes = await send(sender, tokens)
    del sandbox.vendors["vivo"].decide

    assert set(outcomes) == {ACCEPTED}
    assert {path: seen.count(path) for path in sorted(seen)} == {
        "/message/auth": 1,
        LIST: 5,
        SAVE: 1,
        SEND: 1,
    }
    assert {shown(sandbox, "vivo")[token] for token in tokens} == {1}
    assert {line["content"] for line in lines(sandbox, "vivo")} == {content_hash("Hello", "there")}


async def test_personal_ones_go_one_by_one(sandbox: Sandbox, sender: Sender) -> None:
    """Every person's text is a content of its own: nothing is saved for it."""
    seen = paths(sandbox)
    message = Message(texts={"default": Text(title="Hi {{ user.name }}", body="b")})
    outcomes = await send(sender, registrations("vivo", 3, first=2_000), message, values={"name": "a&b"})
    del sandbox.vendors["vivo"].decide

    assert outcomes == [ACCEPTED] * 3
    assert set(seen) - {"/message/auth"} <= {SEND, SAVE, LIST}
    assert {line["content"] for line in lines(sandbox, "vivo")[-3:]} == {content_hash("Hi a&b", "b")}


@pytest.mark.parametrize("count", [1, 20])
async def test_a_repeat_is_shown_once(sandbox: Sandbox, sender: Sender, count: int) -> None:
    """Its answer lost, the same request goes again: once on each device, and accepted."""
    await send(sender, registrations("vivo", 2, first=10_000 + count))  # the content is saved by now
    tokens = registrations("vivo", count, first=11_000 + 100 * count)
    lost = {"provider": "vivo", "reset": "connection", "processed": True, "first": 1}
    await sandbox.add_rule(lost)
    before = await send(sender, tokens)
    again = await send(sender, tokens)
    told = [line["status"] for line in lines(sandbox, "vivo") if line["token"] in tokens]

    assert {(o.kind, o.maybe) for o in before} == {(OutcomeKind.UNAVAILABLE, True)}
    assert set(again) == {ACCEPTED}
    assert (told.count(200), told.count(409)) == (count, count)


async def test_each_has_its_own_answer(sandbox: Sandbox, sender: Sender) -> None:
    """Dead ones of a list by their status; alone; and a list of dead ones, which may as well be our app."""
    tokens = registrations("vivo", 9, first=20_000)
    for number, status in enumerate("1234"):
        sandbox.bury({"provider": "vivo", "tokens": [tokens[number]], "reason": status})
    outcomes = await send(sender, tokens)
    alone = await send(sender, tokens[1:2])
    sandbox.bury({"provider": "vivo", "tokens": tokens})
    all_dead = await send(sender, tokens[4:])

    assert [(o.reason, o.retire) for o in outcomes] == [
        ("vivo:user_1", True),
        ("vivo:user_2", True),
        ("vivo:user_3", False),
        ("vivo:user_4", False),
        *[("", False)] * 5,
    ]
    assert [(o.reason, o.retire, o.suspect) for o in alone] == [("vivo:user_2", True, False)]
    assert {(o.reason, o.retire, o.suspect) for o in all_dead} == {("vivo:10302", True, True)}


async def test_a_void_token_is_renewed_once(sandbox: Sandbox, sender: Sender) -> None:
    """C17: five requests under a void token make one new one, all goes again; a second refusal blocks."""
    tokens = registrations("vivo", 1_000, first=30_000)
    assert set(await send(sender, tokens[:5])) == {ACCEPTED}
    sandbox.vendors["vivo"].forget()
    refused = await send(sender, tokens[5:])
    again = await send(sender, tokens[5:])
    minted = calls(sandbox, "vivo-auth")
    await sandbox.add_rule({"provider": "vivo", "reject_credential": True})
    first = await send(sender, tokens[:2])
    blocked = await send(sender, tokens[:2])

    assert {(o.kind, o.attempt, o.maybe) for o in refused if o is not ACCEPTED} == {
        (OutcomeKind.UNAVAILABLE, False, False)
    }
    assert set(again) == {ACCEPTED}
    assert minted == 2
    assert {o.kind for o in first} == {OutcomeKind.UNAVAILABLE}
    assert {(o.kind, o.reason) for o in blocked} == {(OutcomeKind.BLOCKED, "vivo:10000")}


async def test_processes_share_a_token(
    sandbox: Sandbox, db: Database, app: tuple[int, dict[str, int]]
) -> None:
    """Four processes at once ask for one token."""
    made = [process(db, Clock(noon())) for _ in range(4)]
    running = [await one.__aenter__() for one in made]
    senders = [await lanes.get(app[0], app[1]["vivo"]) for lanes in running]
    tokens = registrations("vivo", 4, first=40_000)
    outcomes = await asyncio.gather(
        *(send(sender, [token]) for sender, token in zip(senders, tokens, strict=True))
    )
    for one in made:
        await one.__aexit__(None, None, None)

    assert outcomes == [[ACCEPTED]] * 4
    assert calls(sandbox, "vivo-auth") == 1


async def test_a_clock_that_is_wrong_blocks(
    sandbox: Sandbox, db: Database, app: tuple[int, dict[str, int]]
) -> None:
    """Eleven minutes slow: code 10207 of the token endpoint is the reason, and nothing is sent."""
    async with process(db, Clock(noon() - 660)) as lanes:
        sender = await lanes.get(app[0], app[1]["vivo"])
        (outcome,) = await send(sender, registrations("vivo", 1))

    assert (outcome.kind, outcome.reason) == (OutcomeKind.BLOCKED, "vivo:10207")
    assert calls(sandbox, "vivo") == 0


@pytest.mark.parametrize(
    ("setting", "first", "other", "reason"),
    [
        ("vivo_operation_daily", HELLO, SERVICE, "vivo:10070"),
        ("vivo_system_daily", SERVICE, HELLO, "vivo:10073"),
        ("vivo_saves_daily", HELLO, SERVICE, "vivo:10252"),
    ],
)
async def test_the_days_quota_stops_one_class(
    sandbox: Sandbox, sender: Sender, setting: str, first: Message, other: Message, reason: str
) -> None:
    """C31: nothing more of that class is asked for that day, the other goes on; nobody retires."""
    if setting == "vivo_saves_daily":
        await send(sender, registrations("vivo", 2, first=49_000), other)
    sandbox.change({setting: 1})
    over = await send(sender, registrations("vivo", 6, first=50_000), first)
    if setting == "vivo_saves_daily":  # the first saving of the day is none too many
        changed = first.model_copy(update={"collapse": "another"})
        over = await send(sender, registrations("vivo", 6, first=50_050), changed)
    asked = calls(sandbox, "vivo")
    after = await send(sender, registrations("vivo", 3, first=50_100), first)
    still = calls(sandbox, "vivo")
    others = await send(sender, registrations("vivo", 3, first=50_200), other)
    sandbox.change({setting: 0})

    assert {(o.kind, o.reason, o.attempt, o.retire) for o in over + after} == {
        (OutcomeKind.THROTTLED, reason, False, False)
    }
    assert min(o.retry_after for o in after) > 60
    assert asked == still
    assert others == [ACCEPTED] * 3


async def test_c31_operation_messages_wait_for_the_morning(
    sandbox: Sandbox, db: Database, app: tuple[int, dict[str, int]]
) -> None:
    """At 23:30 in China: not sent and not burnt; a service message is sent."""
    half_past_eleven = noon() + 11.5 * 3_600
    sandbox.change({"clock": half_past_eleven})
    async with process(db, Clock(half_past_eleven)) as lanes:
        sender = await lanes.get(app[0], app[1]["vivo"])
        held = await send(sender, registrations("vivo", 3, first=55_000))
        asked = calls(sandbox, "vivo")
        sent = await send(sender, registrations("vivo", 3, first=55_100), SERVICE)

    assert {(o.kind, o.reason, o.attempt) for o in held} == {(OutcomeKind.THROTTLED, "vivo:night", False)}
    assert {round(o.retry_after, -2) for o in held} == {27_000}
    assert asked == 0
    assert sent == [ACCEPTED] * 3


@pytest.mark.parametrize(
    ("hour", "minute", "seconds"),
    [(7, 0, 0), (22, 59, 0), (23, 0, 28_800), (23, 30, 27_000), (0, 0, 25_200), (6, 59, 60)],
)
def test_the_night_of_vivo(hour: int, minute: int, seconds: float) -> None:
    """From 23 to 7 o'clock in China."""
    moment = datetime(2026, 11, 26, hour, minute, tzinfo=UTC).timestamp() - 8 * 3_600

    assert seconds_of_night(moment) == seconds


@pytest.mark.parametrize(
    ("fault", "kind", "reason", "maybe"),
    [
        ({"reason": "10072"}, OutcomeKind.THROTTLED, "vivo:10072", False),
        ({"reason": "10040"}, OutcomeKind.UNAVAILABLE, "vivo:10040", False),
        ({"reason": "10045"}, OutcomeKind.BLOCKED, "vivo:10045", False),
        ({"reason": "10085"}, OutcomeKind.REJECTED, "vivo:10085", False),
        ({"reason": "99999"}, OutcomeKind.UNAVAILABLE, "vivo:code 99999", False),
        ({"status": 500}, OutcomeKind.UNAVAILABLE, "vivo:500", False),
        ({"status": 200}, OutcomeKind.UNAVAILABLE, "vivo:BAD_ANSWER", False),
        ({"status": 200, "body": ""}, OutcomeKind.UNAVAILABLE, "vivo:BAD_ANSWER", False),
        ({"garbage": "body"}, OutcomeKind.UNAVAILABLE, "vivo:BAD_ANSWER", False),
        ({"reset": "connection"}, OutcomeKind.UNAVAILABLE, "clarion:not_sent", False),
    ],
)
@pytest.mark.parametrize("sent", [False, True], ids=["saving", "sending"])
async def test_answers_that_are_no_yes(
    sandbox: Sandbox,
    sender: Sender,
    sent: bool,
    fault: dict[str, Any],
    kind: OutcomeKind,
    reason: str,
    maybe: bool,
) -> None:
    """A code in a 200, a gateway's HTML, nothing, garbage: never accepted; a saving shows nothing."""
    tokens = registrations("vivo", 3, first=60_000)
    if sent:
        await send(sender, tokens)
        maybe = kind is OutcomeKind.UNAVAILABLE
        reason = reason.replace("not_sent", "connection_lost")
    await sandbox.add_rule({"provider": "vivo", "first": 1, **fault})
    outcomes = await send(sender, registrations("vivo", 3, first=60_100))

    assert {(o.kind, o.reason, o.maybe, o.retire) for o in outcomes} == {(kind, reason, maybe, False)}


async def test_messages_of_every_shape(sandbox: Sandbox, sender: Sender) -> None:
    """With links, data, lifetimes of 0 and beyond vivo's, texts that are too long: taken; silent: told so."""
    shapes = (
        Message(texts=HELLO.texts, ttl=0, deep_link="app://x", data={"n": 1, "o": {"a": [1]}}),
        Message(texts={"default": Text(title="字" * 80, body="x" * 300)}, ttl=2_419_200),
        Message(
            texts=HELLO.texts,
            deep_link="https://a.example",
            classification=Classification.SERVICE,
            vivo=VivoOptions(category="IM", test=True, message={"foregroundShow": False}),
        ),
    )
    for number, message in enumerate(shapes):
        for count in (1, 3):
            tokens = registrations("vivo", count, first=70_000 + 10 * number)
            assert await send(sender, tokens, message) == [ACCEPTED] * count
    asked = calls(sandbox, "vivo")
    silent = await send(sender, registrations("vivo", 1), Message(data={"n": 1}))

    assert [(o.kind, o.reason) for o in silent] == [(OutcomeKind.REJECTED, "vivo:notifications_only")]
    assert calls(sandbox, "vivo") == asked


# ── requests written by hand ──────────────────────────────────────────────────────────────────────────

# SIGN is what md5sum says of 10004a1b2c31700000000000s3cr3t.
APP, KEY, SECRET, STAMP = 10004, "a1b2c3", "s3cr3t", 1_700_000_000_000
SIGN = "0378bc9d79eb2ea14dfa374a1feeb25e"


async def token_of(sandbox: Sandbox, web: httpx.AsyncClient, **changes: Any) -> dict[str, Any]:
    """The token endpoint's answer to the request of the vector, or to one that differs in this."""
    sandbox.vendors["vivo"].trust({"app_id": APP, "app_key": KEY, "app_secret": SECRET})
    sandbox.change({"clock": 1_700_000_000.0 - time.time()})
    fields = {"appId": APP, "appKey": KEY, "timestamp": STAMP, "sign": SIGN} | changes
    said: dict[str, Any] = (await web.post("/message/auth", content=json.dumps(fields))).json()
    return said


@pytest.mark.parametrize(
    ("changes", "result"),
    [
        ({}, 0),
        ({"appId": None}, 10200),
        ({"appKey": None}, 10201),
        ({"appKey": "another"}, 10202),
        ({"timestamp": None}, 10203),
        ({"sign": ""}, 10204),
        ({"appId": 7}, 10205),
        ({"appId": str(APP)}, 10205),
        ({"sign": SIGN.upper()}, 10206),
        ({"timestamp": STAMP + 1}, 10206),
        ({"timestamp": STAMP + 601_000}, 10207),
        ({"timestamp": STAMP // 1_000}, 10207),
    ],
)
async def test_the_signature_is_checked(sandbox: Sandbox, changes: dict[str, Any], result: int) -> None:
    """A signature computed by hand gets a token, each wrong one its code."""
    async with client(sandbox, "vivo", JSON) as web:
        said = await token_of(sandbox, web, **changes)

    assert said["result"] == result
    assert ("authToken" in said) is (result == 0)


async def test_tokens_are_asked_for_ten_times_a_second(sandbox: Sandbox) -> None:
    """10250 is the answer to the eleventh."""
    async with client(sandbox, "vivo", JSON) as web:
        said = [(await token_of(sandbox, web))["result"] for _ in range(12)]

    assert said[:10] == [0] * 10
    assert 10250 in said[10:]


def one(**changes: Any) -> dict[str, Any]:
    """A message to one."""
    fields = {
        "appId": APP,
        "regId": "15513410784181118114099",
        "requestId": "r1",
        "title": "标题",
        "content": "内容",
        "notifyType": 4,
        "skipType": 1,
        "timeToLive": 86_400,
    }
    return {name: value for name, value in (fields | changes).items() if value is not None}


WRONG: list[tuple[dict[str, Any], int, int | None]] = [
    (one(), 200, 0),
    (one(title="字" * 40, content="字" * 100), 200, 0),
    (one(title="字" * 41), 200, 10085),
    (one(content="字" * 101), 200, 10085),
    (one(title=None), 200, 10085),
    (one(appId=7), 200, 10094),
    (one(classification=1, category="IM"), 200, 0),
    (one(classification=1, category="MARKETING"), 200, 10097),
    (one(category="IM"), 200, 10097),
    (one(category="WEATHER"), 200, 10096),
    (one(regId="not-a-number"), 200, 10302),
    (one(regId=None), 400, None),
    (one(requestId=None), 400, None),
    (one(requestId="r" * 65), 400, None),
    (one(timeToLive=86_401), 400, None),
    (one(timeToLive=59), 400, None),
    (one(notifyType=0), 400, None),
    (one(skipType=2), 400, None),
    (one(notifyId=0), 400, None),
    (one(clientCustomMap={str(n): "v" for n in range(11)}), 400, None),
    (one(clientCustomMap={"n": 1}), 400, None),
    (one(clientCustomMap={"n": "v" * 1_024}), 400, None),
    (one(colour="red"), 400, None),
]


async def test_the_sheets_codes(sandbox: Sandbox) -> None:
    """Messages written by hand: good ones are taken, each wrong one gets its code; none without a token."""
    async with client(sandbox, "vivo", JSON) as web:
        token = {"authToken": (await token_of(sandbox, web))["authToken"]}
        said = []
        for number, (value, _, _) in enumerate(WRONG):
            mine = value | {"requestId": f"r{number}"} if value.get("requestId") == "r1" else value
            answer = await web.post(SEND, content=json.dumps(mine), headers=token)
            said.append((answer.status_code, answer.json()["result"] if answer.status_code == 200 else None))
        none = await web.post(SEND, content=json.dumps(one()))
        void = await web.post(SEND, content=json.dumps(one()), headers={"authToken": "void"})
        read = await web.get(SEND, headers=token)

    assert said == [(status, result) for _, status, result in WRONG]
    assert [none.json()["result"], void.json()["result"]] == [10000, 10000]
    assert read.status_code == 405


async def test_lists_have_their_rules(sandbox: Sandbox) -> None:
    """Two to a thousand; a saved content, of this app; a repeat of a request is answered and not shown."""
    content = one(regId=None, classification=1)
    a, b = "1" * 23, "2" * 23
    async with client(sandbox, "vivo", JSON) as web:
        token = {"authToken": (await token_of(sandbox, web))["authToken"]}
        sandbox.bury({"provider": "vivo", "tokens": [b], "reason": "2"})
        task = (await web.post(SAVE, content=json.dumps(content), headers=token)).json()["taskId"]

        async def listed(ids: list[str], request: str = "l1", **more: Any) -> httpx.Response:
            value = {"appId": APP, "regIds": ids, "taskId": task, "requestId": request, **more}
            return await web.post(LIST, content=json.dumps(value), headers=token)

        with_target = await web.post(SAVE, content=json.dumps(one()), headers=token)
        wrong = [
            await listed([a]),
            await listed([f"{n:023d}" for n in range(1_001)]),
            await listed([a, a]),
            await listed([a, b], taskId="none"),
            await listed([a, b], requestId=None),
            await listed([a, b], pushMode=1),
        ]
        first, again = await listed([a, b]), await listed([a, b])
        another = await listed([a, b], "l2", appId=7)
        sandbox.bury({"provider": "vivo", "tokens": [a]})
        nobody = await listed([a, b], "l3")

    assert with_target.status_code == 400
    assert [answer.status_code for answer in wrong] == [400] * len(wrong)
    assert first.json() == again.json()
    assert first.json()["invalidUsers"] == [{"userid": b, "status": 2}]
    assert [another.json()["result"], nobody.json()["result"]] == [10094, 10302]
    assert [line["status"] for line in lines(sandbox, "vivo") if line["token"] == a].count(200) == 1


async def test_restrictions_of_an_app(sandbox: Sandbox) -> None:
    """Under review test messages alone are taken; formal ones must not look like a test; nights are quiet."""
    async with client(sandbox, "vivo", JSON) as web:
        token = {"authToken": (await token_of(sandbox, web))["authToken"]}

        async def said(**changes: Any) -> int:
            answer = await web.post(SEND, content=json.dumps(one(**changes)), headers=token)
            result: int = answer.json()["result"]
            return result

        sandbox.change({"vivo_review": True})
        review = [await said(requestId="v1"), await said(requestId="v2", pushMode=1)]
        sandbox.change({"vivo_review": False, "vivo_text_rule": True})
        texts = ("abc 123!", "这是测试", "你好{name}", "你好")
        rule = [await said(requestId=f"t{n}", title=text) for n, text in enumerate(texts)]
        sandbox.change({"vivo_text_rule": False})
        clock = sandbox.shared.settings.clock  # the vector's time is 06:13 in China
        night = await said(requestId="n1", regId="7" * 23)
        sandbox.change({"clock": clock + 3_600})
        day = await said(requestId="n2", regId="7" * 23)

    assert review == [10045, 0]
    assert rule == [10104, 10104, 10104, 0]
    assert (night, day) == (0, 0)
    told = [(line["status"], line["reason"]) for line in lines(sandbox, "vivo") if line["token"] == "7" * 23]
    assert told == [(400, "controlled"), (200, None)]
