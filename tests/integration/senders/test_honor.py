"""The Honor sender against the sandbox, and the sandbox against requests written by hand."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import pytest

from clarion.model.message import Classification, HonorOptions, Message, Text
from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.lanes import Lanes
from clarion.senders.outcome import ACCEPTED, OutcomeKind
from clarion.senders.sender import Sender
from clarion.store.database import Database
from tests.support.senders import HELLO, process, send
from tests.support.vendors import FORM, JSON, calls, client, lines, registrations, shown


@pytest.fixture
async def sender(lanes: Lanes, app: tuple[int, dict[str, int]]) -> Sender:
    """Honor's."""
    return await lanes.get(app[0], app[1]["honor"])


async def test_a_request_carries_many(sandbox: Sandbox, sender: Sender) -> None:
    """A thousand in five requests under one token: each is shown once what was meant."""
    tokens = registrations("honor", 1_000)
    outcomes = await send(sender, tokens)

    assert set(outcomes) == {ACCEPTED}
    assert (calls(sandbox, "honor"), calls(sandbox, "honor-auth")) == (5, 1)
    assert {shown(sandbox, "honor")[token] for token in tokens} == {1}
    assert {line["content"] for line in lines(sandbox, "honor")} == {content_hash("Hello", "there")}


async def test_some_are_refused(sandbox: Sandbox, sender: Sender) -> None:
    """The expired retire, the failed go again, the others are accepted; all of them dead: likewise."""
    tokens = registrations("honor", 6, first=2_000)
    sandbox.bury({"provider": "honor", "tokens": tokens[:2]})
    sandbox.bury({"provider": "honor", "tokens": tokens[2:3], "reason": "fail"})
    outcomes = await send(sender, tokens)
    all_dead = await send(sender, tokens[:2])

    assert [(o.reason, o.retire, o.kind) for o in outcomes] == [
        ("honor:expireTokens", True, OutcomeKind.REJECTED),
        ("honor:expireTokens", True, OutcomeKind.REJECTED),
        ("honor:failTokens", False, OutcomeKind.UNAVAILABLE),
        *[("", False, OutcomeKind.ACCEPTED)] * 3,
    ]
    assert {(o.reason, o.retire) for o in all_dead} == {("honor:expireTokens", True)}


async def test_a_repeat_replaces(sandbox: Sandbox, sender: Sender) -> None:
    """Requests have no key: a repeat after a lost answer is shown again, in the place of the first."""
    (token,) = registrations("honor", 1, first=3_000)
    await sandbox.add_rule({"provider": "honor", "reset": "connection", "processed": True, "first": 1})
    before = await send(sender, [token])
    again = await send(sender, [token])
    screen = await sandbox.shown(token)

    assert [(o.kind, o.maybe) for o in before] == [(OutcomeKind.UNAVAILABLE, True)]
    assert again == [ACCEPTED]
    assert [(one["title"], one["times"]) for one in screen] == [("Hello", 2)]


async def test_a_void_token_is_renewed_once(sandbox: Sandbox, sender: Sender) -> None:
    """C17: five requests under a void token make one new one, all goes again; a second refusal blocks."""
    tokens = registrations("honor", 1_000, first=10_000)
    assert set(await send(sender, tokens[:5])) == {ACCEPTED}
    sandbox.vendors["honor"].forget()
    refused = await send(sender, tokens)
    again = await send(sender, tokens)
    minted = calls(sandbox, "honor-auth")
    await sandbox.add_rule({"provider": "honor", "reject_credential": True})
    first = await send(sender, tokens[:2])
    blocked = await send(sender, tokens[:2])

    assert {(o.kind, o.attempt, o.maybe) for o in refused if o is not ACCEPTED} == {
        (OutcomeKind.UNAVAILABLE, False, False)
    }
    assert set(again) == {ACCEPTED}
    assert minted == 2
    assert {o.kind for o in first} == {OutcomeKind.UNAVAILABLE}
    assert {(o.kind, o.reason) for o in blocked} == {(OutcomeKind.BLOCKED, "honor:401")}


async def test_processes_share_a_token(
    sandbox: Sandbox, db: Database, app: tuple[int, dict[str, int]]
) -> None:
    """Four processes at once ask for one token."""
    made = [process(db) for _ in range(4)]
    running = [await one.__aenter__() for one in made]
    senders = [await lanes.get(app[0], app[1]["honor"]) for lanes in running]
    tokens = registrations("honor", 4, first=20_000)
    outcomes = await asyncio.gather(
        *(send(sender, [token]) for sender, token in zip(senders, tokens, strict=True))
    )
    for one in made:
        await one.__aexit__(None, None, None)

    assert outcomes == [[ACCEPTED]] * 4
    assert calls(sandbox, "honor-auth") == 1


async def test_a_wrong_secret_blocks(sandbox: Sandbox, sender: Sender) -> None:
    """The token endpoint refuses the client: blocked by its status, nothing is sent."""
    await sandbox.add_rule({"provider": "honor-auth", "status": 401, "body": '{"error":"invalid_client"}'})
    sandbox.vendors["honor"].forget()
    outcomes = await send(sender, registrations("honor", 1, first=30_000))
    while outcomes[0].kind is not OutcomeKind.BLOCKED:  # a token was made before the rule
        outcomes = await send(sender, registrations("honor", 1, first=30_000))

    assert outcomes[0].reason == "honor:oauth_401"
    assert not shown(sandbox, "honor")[registrations("honor", 1, first=30_000)[0]]


@pytest.mark.parametrize(
    ("fault", "kind", "reason", "maybe"),
    [
        ({"reason": "429"}, OutcomeKind.THROTTLED, "honor:429", False),
        ({"status": 429}, OutcomeKind.THROTTLED, "honor:429", False),
        ({"reason": "400"}, OutcomeKind.REJECTED, "honor:400", False),
        ({"reason": "403"}, OutcomeKind.BLOCKED, "honor:403", False),
        ({"reason": "500"}, OutcomeKind.UNAVAILABLE, "honor:500", True),
        ({"reason": "80300007"}, OutcomeKind.UNAVAILABLE, "honor:code 80300007", True),
        ({"status": 502}, OutcomeKind.UNAVAILABLE, "honor:502", True),
        ({"status": 200}, OutcomeKind.UNAVAILABLE, "honor:BAD_ANSWER", True),
        ({"status": 200, "body": ""}, OutcomeKind.UNAVAILABLE, "honor:BAD_ANSWER", True),
        (
            {"status": 200, "body": '{"code":200,"data":{"sendResult":false}}'},
            OutcomeKind.UNAVAILABLE,
            "honor:sendResult",
            True,
        ),
        ({"garbage": "body"}, OutcomeKind.UNAVAILABLE, "honor:BAD_ANSWER", True),
    ],
)
async def test_answers_that_are_no_yes(
    sandbox: Sandbox, sender: Sender, fault: dict[str, Any], kind: OutcomeKind, reason: str, maybe: bool
) -> None:
    """A code in a 200, a gateway's HTML, nothing, garbage: classified, and never accepted."""
    await sandbox.add_rule({"provider": "honor", "first": 1, **fault})
    outcomes = await send(sender, registrations("honor", 3, first=40_000))

    assert {(o.kind, o.reason, o.maybe, o.retire) for o in outcomes} == {(kind, reason, maybe, False)}


async def test_messages_of_every_shape_are_taken(sandbox: Sandbox, sender: Sender) -> None:
    """Personal, in a language, silent, with lifetimes of 0 and beyond Honor's, links, badges, a picture."""
    texts = {"default": Text(title="Hi {{ user.name }}", body="b"), "de": Text(body="Hallo")}
    shapes = (
        Message(texts=texts, ttl=0, badge=1, deep_link="https://a.example", data={"n": 1}),
        Message(texts=texts, badge="+120", image="https://a.example/i.png"),
        Message(data={"n": 1, "o": {"a": [1]}}, ttl=2_419_200),
        Message(
            texts=HELLO.texts,
            deep_link="app://x",
            classification=Classification.SERVICE,
            honor=HonorOptions(test=True, notification={"group": "g"}),
        ),
    )
    for message in shapes:
        for locale in ("", "de-at"):
            user = {"name": 'a"b'}
            outcomes = await send(sender, registrations("honor", 2), message, locale=locale, values=user)
            assert outcomes == [ACCEPTED] * 2


async def test_what_a_request_says(sandbox: Sandbox, sender: Sender) -> None:
    """What leaves us, read field by field: the lifetime as a text, importance by classification, the link."""
    seen: list[Any] = []
    service = sandbox.vendors["honor"]
    decide = service.decide

    def listen(method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Any:
        if path != "/auth/token":
            seen.append((path, json.loads(body)))
        return decide(method, path, headers, body)

    service.decide = listen  # type: ignore[method-assign]
    (token,) = registrations("honor", 1, first=50_000)
    await send(sender, [token], Message(texts=HELLO.texts, ttl=3_600, data={"n": 1}))
    await send(sender, [token], Message(texts=HELLO.texts, classification=Classification.SERVICE))
    del service.decide
    (path, first), (_, second) = seen
    number = first["android"]["notification"].pop("notifyId")

    assert path == f"/api/v1/{sandbox.credentials.vendors['honor']['app_id']}/sendMessage"
    assert 1 <= number <= 2_147_483_647
    assert first == {
        "token": [token],
        "data": '{"n":1}',
        "android": {
            "ttl": "3600s",
            "biTag": "clarion-1",
            "notification": {
                "title": "Hello",
                "body": "there",
                "importance": "LOW",
                "tag": "clarion-1",
                "clickAction": {"type": 3},
            },
        },
    }
    assert second["android"]["notification"]["importance"] == "NORMAL"


# ── requests written by hand ──────────────────────────────────────────────────────────────────────────

APP, CLIENT, SECRET = "104", "c1", "s3cr3t"
PATH = f"/api/v1/{APP}/sendMessage"
GRANT = f"grant_type=client_credentials&client_id={CLIENT}&client_secret={SECRET}"


async def headers_of(sandbox: Sandbox) -> dict[str, str]:
    """What a request to send shows."""
    sandbox.vendors["honor"].trust({"app_id": APP, "client_id": CLIENT, "client_secret": SECRET})
    async with client(sandbox, "honor", FORM) as web:
        said = (await web.post("/auth/token", content=GRANT)).json()
    assert (said["token_type"], said["expires_in"]) == ("Bearer", 3_600)
    return {"authorization": f"Bearer {said['access_token']}", "timestamp": "1700000000000"}


@pytest.mark.parametrize(
    ("form", "status"),
    [
        (GRANT.replace(SECRET, "wrong"), 401),
        (GRANT.replace(CLIENT, "wrong"), 401),
        (GRANT.replace("client_credentials", "password"), 400),
        ("", 400),
    ],
)
async def test_no_token_for_others(sandbox: Sandbox, form: str, status: int) -> None:
    """Another secret, client or way of asking."""
    sandbox.vendors["honor"].trust({"app_id": APP, "client_id": CLIENT, "client_secret": SECRET})
    async with client(sandbox, "honor", FORM) as web:
        said = await web.post("/auth/token", content=form)

    assert said.status_code == status
    assert said.json().keys() == {"error"}


def message(notification: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    """A notification to two, as an integrator writes it; `more` stands in android."""
    shown = {"title": "t", "body": "b", "clickAction": {"type": 3}} | (notification or {})
    return {"android": {"notification": shown, **more}, "token": ["r1", "r2"]}


WRONG: list[tuple[dict[str, Any], int]] = [
    (message(), 200),
    (message() | {"token": [f"r{n}" for n in range(1_000)]}, 200),
    (message() | {"token": [f"r{n}" for n in range(1_001)]}, 400),
    (message() | {"token": []}, 400),
    (message() | {"token": "r1"}, 400),
    (message(ttl="1296000s"), 200),
    (message(ttl="1296001s"), 400),
    (message(ttl="0s"), 400),
    (message(ttl=3_600), 400),
    (message(targetUserType=2), 400),
    (message({"clickAction": {"type": 2}}), 400),
    (message({"clickAction": {"type": 1}}), 400),
    (message({"clickAction": {"type": 4}}), 400),
    (message({"clickAction": None}), 400),
    (message({"importance": "HIGH"}), 400),
    (message({"title": ""}), 400),
    (message({"badge": {"addNum": 100}}), 400),
    (message({"badge": {"setNum": 99}}), 200),
    (message({"notifyId": -1}), 400),
    (message({"image": "http://a.example/i.png"}), 400),
    (message({"buttons": [{}, {}, {}, {}]}), 400),
    (message({"colour": "red"}), 400),
    ({"message": message()}, 400),
    ({"data": "{}", "token": ["r1"]}, 200),
    ({"token": ["r1"]}, 400),
    (message({"bigBody": "b" * 4_096}), 413),
]


async def test_the_sheets_rules(sandbox: Sandbox) -> None:
    """Messages written by hand: good ones are taken, each wrong one gets its code."""
    shows = await headers_of(sandbox)
    said = []
    async with client(sandbox, "honor", JSON) as web:
        for value, _ in WRONG:
            answer = (await web.post(PATH, content=json.dumps(value), headers=shows)).json()
            said.append(answer["code"])
            assert (answer["code"] == 200) == bool(answer["data"] and answer["data"]["sendResult"])

    assert said == [code for _, code in WRONG]


async def test_authorization(sandbox: Sandbox) -> None:
    """Bare, void, missing, of another app, an hour old: 401; without the time of day: 400."""
    shows = await headers_of(sandbox)
    bare = shows["authorization"].removeprefix("Bearer ")
    body = json.dumps(message())

    async with client(sandbox, "honor", JSON) as web:

        async def said(path: str = PATH, **changes: str) -> int:
            answer: httpx.Response = await web.post(path, content=body, headers=shows | changes)
            return answer.status_code if answer.status_code != 200 else int(answer.json()["code"])

        wrong = [
            await said(authorization=bare),
            await said(authorization="Bearer void"),
            await said(authorization=""),
            await said("/api/v1/105/sendMessage"),
            await said(timestamp="1700000000"),
        ]
        sandbox.change({"clock": 3_590})
        young = await said()
        sandbox.change({"clock": 3_601})
        old = await said()

    assert wrong == [401, 401, 401, 401, 400]
    assert (young, old) == (200, 401)
