"""The OPPO sender against the sandbox, and the sandbox against requests written by hand."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any
from urllib.parse import parse_qs, quote_plus

import httpx
import pytest

from clarion.model.message import Classification, Message, OppoOptions, Text
from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.lanes import Lanes
from clarion.senders.outcome import ACCEPTED, OutcomeKind
from clarion.senders.sender import Sender
from clarion.store.database import Database
from tests.support.senders import HELLO, Clock, process, send
from tests.support.vendors import calls, client, lines, registrations, shown

PLACE = "/server/v1/message/notification/"
BATCH = PLACE + "unicast_batch"


@pytest.fixture
async def sender(lanes: Lanes, app: tuple[int, dict[str, int]]) -> Sender:
    """OPPO's."""
    return await lanes.get(app[0], app[1]["oppo"])


async def test_a_batch_carries_many(sandbox: Sandbox, sender: Sender) -> None:
    """A thousand in five requests under one token, personal ones as well: each is shown its own text once."""
    tokens = registrations("oppo", 1_000)
    outcomes = await send(sender, tokens)
    personal = Message(texts={"default": Text(title="Hi {{ user.name }}", body="b")})
    more = await send(sender, registrations("oppo", 200, first=2_000), personal, values={"name": "a&b"})

    assert set(outcomes + more) == {ACCEPTED}
    assert (calls(sandbox, "oppo"), calls(sandbox, "oppo-auth")) == (6, 1)
    assert {shown(sandbox, "oppo")[token] for token in tokens} == {1}
    assert {line["content"] for line in lines(sandbox, "oppo")} == {
        content_hash("Hello", "there"),
        content_hash("Hi a&b", "b"),
    }


@pytest.mark.parametrize("says", [False, True])
async def test_a_repeat_is_shown_once(sandbox: Sandbox, sender: Sender, says: bool) -> None:
    """Its answer lost, the same goes again, also in other company: once on each device, accepted at last."""
    sandbox.change({"oppo_says_duplicate": says})
    tokens = registrations("oppo", 30, first=10_000 + 1_000 * says)
    lost = {"provider": "oppo", "reset": "connection", "processed": True, "first": 1}
    await sandbox.add_rule(lost)
    before = await send(sender, tokens[:20])
    again = await send(sender, tokens)
    sandbox.change({"oppo_says_duplicate": False})

    assert {(o.kind, o.maybe) for o in before} == {(OutcomeKind.UNAVAILABLE, True)}
    assert set(again) == {ACCEPTED}
    assert {shown(sandbox, "oppo")[token] for token in tokens} == {1}
    told = [line["status"] for line in lines(sandbox, "oppo") if line["token"] in tokens]
    assert (told.count(200), told.count(409)) == (30, 20)


async def test_each_has_its_own_answer(sandbox: Sandbox, sender: Sender) -> None:
    """Dead, unsubscribed, of another shape: each its own outcome, whatever the order of the items."""
    tokens = [*registrations("oppo", 9, first=20_000), "nonsense"]
    sandbox.bury({"provider": "oppo", "tokens": tokens[:2]})
    sandbox.bury({"provider": "oppo", "tokens": [tokens[2]], "reason": "10001"})
    outcomes = await send(sender, tokens)

    assert [o.reason for o in outcomes] == ["oppo:10000"] * 2 + ["oppo:10001"] + [""] * 6 + ["oppo:10000"]
    assert [o.retire for o in outcomes] == [True, True, False] + [False] * 6 + [True]


async def test_c32_another_region_is_not_asked(sandbox: Sandbox, sender: Sender) -> None:
    """China's registrations in all their spellings go out; India's does not, and is kept."""
    (bare,) = [token.removeprefix("OPPO_CN_") for token in registrations("oppo", 1, first=21_000)]
    outcomes = await send(sender, [bare, f"CN_{bare}", f"OPPO_CN_{bare}", f"OPPO_IN_{bare}"])

    assert outcomes[:3] == [ACCEPTED] * 3
    assert (outcomes[3].kind, outcomes[3].reason, outcomes[3].retire) == (
        OutcomeKind.REJECTED,
        "oppo:another_region",
        False,
    )


async def test_a_void_token_is_renewed_once(sandbox: Sandbox, sender: Sender) -> None:
    """C17: five requests under a void token make one new one, all goes again; a second refusal blocks."""
    tokens = registrations("oppo", 1_000, first=30_000)
    assert set(await send(sender, tokens[:5])) == {ACCEPTED}
    sandbox.vendors["oppo"].forget()
    refused = await send(sender, tokens[5:])
    again = await send(sender, tokens[5:])
    minted = calls(sandbox, "oppo-auth")
    await sandbox.add_rule({"provider": "oppo", "reject_credential": True})
    first = await send(sender, tokens[:2])
    blocked = await send(sender, tokens[:2])

    assert {(o.kind, o.attempt, o.maybe) for o in refused if o is not ACCEPTED} == {
        (OutcomeKind.UNAVAILABLE, False, False)
    }
    assert set(again) == {ACCEPTED}
    assert minted == 2
    assert {o.kind for o in first} == {OutcomeKind.UNAVAILABLE}
    assert {(o.kind, o.reason) for o in blocked} == {(OutcomeKind.BLOCKED, "oppo:11")}


async def test_processes_share_a_token(
    sandbox: Sandbox, db: Database, app: tuple[int, dict[str, int]]
) -> None:
    """Four processes at once ask for one token."""
    made = [process(db) for _ in range(4)]
    running = [await one.__aenter__() for one in made]
    senders = [await lanes.get(app[0], app[1]["oppo"]) for lanes in running]
    tokens = registrations("oppo", 4, first=40_000)
    outcomes = await asyncio.gather(
        *(send(sender, [token]) for sender, token in zip(senders, tokens, strict=True))
    )
    for one in made:
        await one.__aexit__(None, None, None)

    assert outcomes == [[ACCEPTED]] * 4
    assert calls(sandbox, "oppo-auth") == 1


async def test_a_clock_that_is_wrong_blocks(
    sandbox: Sandbox, db: Database, app: tuple[int, dict[str, int]]
) -> None:
    """Eleven minutes slow: code 19 of the token endpoint is the reason, and nothing is sent."""
    async with process(db, Clock(-660)) as lanes:
        sender = await lanes.get(app[0], app[1]["oppo"])
        (outcome,) = await send(sender, registrations("oppo", 1))

    assert (outcome.kind, outcome.reason) == (OutcomeKind.BLOCKED, "oppo:19")
    assert calls(sandbox, "oppo") == 0


async def test_the_days_quota_stops_marketing_alone(sandbox: Sandbox, sender: Sender) -> None:
    """C31: after 33 no marketing is sent that day, service messages are; no attempt, nobody retires."""
    sandbox.change({"oppo_daily": 5})
    over = await send(sender, registrations("oppo", 6, first=50_000))
    asked = calls(sandbox, "oppo")
    after = await send(sender, registrations("oppo", 3, first=50_100))
    still = calls(sandbox, "oppo")
    service = Message(
        texts=HELLO.texts, classification=Classification.SERVICE, oppo=OppoOptions(category="ORDER")
    )
    others = await send(sender, registrations("oppo", 3, first=50_200), service)
    sandbox.change({"oppo_daily": 0})

    assert {(o.kind, o.reason, o.attempt, o.retire) for o in over + after} == {
        (OutcomeKind.THROTTLED, "oppo:33", False, False)
    }
    assert min(o.retry_after for o in after) > 60
    assert asked == still == 1
    assert others == [ACCEPTED] * 3


@pytest.mark.parametrize(
    ("fault", "kind", "reason", "maybe"),
    [
        ({"reason": "13"}, OutcomeKind.THROTTLED, "oppo:13", False),
        ({"reason": "-2"}, OutcomeKind.THROTTLED, "oppo:-2", False),
        ({"reason": "-1"}, OutcomeKind.UNAVAILABLE, "oppo:-1", True),
        ({"reason": "30"}, OutcomeKind.BLOCKED, "oppo:30", False),
        ({"reason": "41"}, OutcomeKind.REJECTED, "oppo:41", False),
        ({"reason": "9999"}, OutcomeKind.UNAVAILABLE, "oppo:code 9999", True),
        ({"status": 502}, OutcomeKind.UNAVAILABLE, "oppo:502", True),
        ({"status": 200}, OutcomeKind.UNAVAILABLE, "oppo:BAD_ANSWER", True),
        ({"status": 200, "body": ""}, OutcomeKind.UNAVAILABLE, "oppo:BAD_ANSWER", True),
        ({"status": 200, "body": '{"code":0,"data":{}}'}, OutcomeKind.UNAVAILABLE, "oppo:BAD_ANSWER", True),
        ({"garbage": "body"}, OutcomeKind.UNAVAILABLE, "oppo:BAD_ANSWER", True),
    ],
)
async def test_answers_that_are_no_yes(
    sandbox: Sandbox, sender: Sender, fault: dict[str, Any], kind: OutcomeKind, reason: str, maybe: bool
) -> None:
    """A code in a 200, a gateway's HTML, nothing, garbage: classified, and never accepted."""
    await sandbox.add_rule({"provider": "oppo", "first": 1, **fault})
    outcomes = await send(sender, registrations("oppo", 3, first=60_000))

    assert {(o.kind, o.reason, o.maybe, o.retire) for o in outcomes} == {(kind, reason, maybe, False)}


async def test_messages_of_every_shape(sandbox: Sandbox, sender: Sender) -> None:
    """With links, data, a lifetime beyond OPPO's or of 0, texts that are too long: taken; silent: told so."""
    shapes = (
        Message(texts=HELLO.texts, ttl=0, deep_link="app://x?a=1&b=2", data={"n": 1, "o": {"a": "字+&"}}),
        Message(texts={"default": Text(title="字" * 80, body="x" * 300)}, ttl=2_419_200),
        Message(
            texts={"default": Text(title="t", body="b" * 100)},
            deep_link="https://a.example",
            classification=Classification.SERVICE,
            oppo=OppoOptions(category="IM", notify_level=2, channel_id="c", notification={"network_type": 1}),
        ),
    )
    for number, message in enumerate(shapes):
        tokens = registrations("oppo", 2, first=70_000 + 10 * number)
        assert await send(sender, tokens, message) == [ACCEPTED] * 2
    silent = await send(sender, registrations("oppo", 1), Message(data={"n": 1}))

    assert [(o.kind, o.reason) for o in silent] == [(OutcomeKind.REJECTED, "oppo:notifications_only")]
    assert calls(sandbox, "oppo") == len(shapes)


# ── requests written by hand ──────────────────────────────────────────────────────────────────────────

# SIGN is what sha256sum says of a1b2c3d41700000000000m4st3rs3cr3t.
KEY, SECRET, STAMP = "a1b2c3d4", "m4st3rs3cr3t", "1700000000000"
SIGN = "728eeabb96d42ba49d8d0a4932619b50b1d932e553de677137c77645830e18d2"
REGID = "CN_" + "0123456789abcdef" * 2
OTHER = "fedcba98" * 4


def message(target: str = REGID, **more: Any) -> dict[str, Any]:
    """One target, as the page of unicast has it."""
    notification = {"title": "t", "content": "c"} | more
    return {"target_type": 2, "target_value": target, "notification": notification}


def form(*messages: dict[str, Any]) -> str:
    """A batch's form."""
    return "messages=" + quote_plus(json.dumps(messages))


async def token_of(sandbox: Sandbox, web: httpx.AsyncClient, **changes: str) -> dict[str, Any]:
    """The token endpoint's answer to the request of the vector, or to one that differs in this."""
    sandbox.vendors["oppo"].trust({"app_key": KEY, "master_secret": SECRET})
    sandbox.change({"clock": 1_700_000_000.0 - time.time()})
    fields = {"app_key": KEY, "timestamp": STAMP, "sign": SIGN} | changes
    content = "&".join(f"{name}={value}" for name, value in fields.items() if value)
    said: dict[str, Any] = (await web.post("/server/v1/auth", content=content)).json()
    return said


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 0),
        ({"sign": SIGN.upper()}, 16),
        ({"timestamp": "1700000000001"}, 16),
        ({"timestamp": "1700000601000"}, 19),
        ({"timestamp": "1700000000"}, 19),
        ({"app_key": "unknown"}, 14),
        ({"app_key": ""}, 15),
        ({"sign": ""}, 17),
        ({"timestamp": ""}, 18),
    ],
)
async def test_the_signature_is_checked(sandbox: Sandbox, changes: dict[str, str], code: int) -> None:
    """A signature computed by hand gets a token, each wrong one its code."""
    async with client(sandbox, "oppo") as web:
        said = await token_of(sandbox, web, **changes)

    assert said["code"] == code
    assert ("data" in said) is (code == 0)


WRONG: list[tuple[str, str, int]] = [
    (BATCH, form(message()), 0),
    (BATCH, form(*[message(f"{n:032x}") for n in range(1_000)]), 0),
    (BATCH, form(*[message(f"{n:032x}") for n in range(1_001)]), 41),
    (BATCH, form(), 41),
    (BATCH, "messages=", 40),
    (BATCH, "messages=%5B", 41),
    (BATCH, form(message(title="t" * 50, content="c" * 50)), 0),
    (BATCH, form(message(title="t" * 51)), 41),
    (BATCH, form(message(content="字" * 51)), 41),
    (BATCH, form(message(style=2, content="字" * 128)), 0),
    (BATCH, form(message(style=2, content="c" * 129)), 41),
    (BATCH, form(message(style=3)), 41),
    (BATCH, form(message(content="")), 40),
    (BATCH, form(message(sub_title="s" * 11)), 41),
    (BATCH, form(message(off_line_ttl=864_001)), 0),
    (BATCH, form(message(off_line_ttl="3600")), 41),
    (BATCH, form(message(click_action_type=2)), 40),
    (BATCH, form(message(click_action_type=3)), 41),
    (BATCH, form(message(action_parameters="{")), 41),
    (BATCH, form(message(action_parameters='"' + "x" * 3_999 + '"')), 41),
    (BATCH, form(message(notify_level=2)), 41),
    (BATCH, form(message(notify_level=2, category="IM")), 0),
    (BATCH, form(message(notify_level=8, category="IM")), 67),
    (BATCH, form(message(call_back_url="h" * 201)), 41),
    (BATCH, form(message(colour="red")), 41),
    (BATCH, form(message() | {"target_type": 3}), 41),
    (BATCH, form(message(f"{REGID};{OTHER}")), 41),
    (PLACE + "unicast", "message=" + quote_plus(json.dumps(message())), 0),
    (PLACE + "unicast", "message=" + quote_plus(json.dumps(message("short"))), 10000),
    (PLACE + "broadcast", f"message_id=none&target_type=2&target_value={REGID}", 31),
]


@pytest.mark.parametrize(("path", "content", "code"), WRONG)
async def test_the_pages_codes(sandbox: Sandbox, path: str, content: str, code: int) -> None:
    """Forms written by hand: good ones are taken, each wrong one gets its code with HTTP 200."""
    async with client(sandbox, "oppo") as web:
        token = (await token_of(sandbox, web))["data"]["auth_token"]
        said = await web.post(path, content=content, headers={"auth_token": token})
        unknown = await web.post(path, content=f"auth_token=unknown&{content}")
        missing = await web.post(path, content=content)
        read = await web.get(path, headers={"auth_token": token})

    assert (said.status_code, said.json()["code"]) == (200, code)
    assert [one.json()["code"] for one in (unknown, missing, read)] == [11, 29, 12]


async def test_a_token_ends_after_a_day(sandbox: Sandbox) -> None:
    """24 hours after it was made it is code 11, a second before it is not."""
    async with client(sandbox, "oppo") as web:
        token = (await token_of(sandbox, web))["data"]["auth_token"]
        clock = sandbox.shared.settings.clock
        sandbox.change({"clock": clock + 86_390})
        before = await web.post(BATCH, content=form(message()), headers={"auth_token": token})
        sandbox.change({"clock": clock + 86_401})
        after = await web.post(BATCH, content=form(message()), headers={"auth_token": token})

    assert (before.json()["code"], after.json()["code"]) == (0, 11)


async def test_a_broadcast_names_the_bad(sandbox: Sandbox) -> None:
    """A saved content goes to a list; who is not shown it stands under its code as a text."""
    gone, good = f"{1:032x}", f"{2:032x}"
    sandbox.bury({"provider": "oppo", "tokens": [gone], "reason": "10001"})
    async with client(sandbox, "oppo") as web:
        token = (await token_of(sandbox, web))["data"]["auth_token"]
        content = f"title=t&content=c&app_message_id=b1&off_line=true&off_line_ttl=60&auth_token={token}"
        saved = (await web.post(PLACE + "save_message_content", content=content)).json()
        twice = (await web.post(PLACE + "save_message_content", content=content)).json()
        number = saved["data"]["message_id"]
        targets = quote_plus(f"{good};{gone};short;{good}")
        content = f"message_id={number}&target_type=2&target_value={targets}&auth_token={token}"
        said = (await web.post(PLACE + "broadcast", content=content)).json()

    assert saved == twice
    assert said["code"] == 0
    assert {name: said["data"][name] for name in ("10000", "10001", "10004")} == {
        "10000": ["short"],
        "10001": [gone],
        "10004": [good],
    }
    assert [line["status"] for line in lines(sandbox, "oppo")[-3:]] == [200, 400, 400]


async def test_what_a_form_says(sandbox: Sandbox, sender: Sender) -> None:
    """What leaves us, read field by field: the key per registration, the lifetime in seconds, the link."""
    seen: list[bytes] = []
    service = sandbox.vendors["oppo"]
    decide = service.decide

    def listen(method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Any:
        seen.append(body)
        return decide(method, path, headers, body)

    service.decide = listen  # type: ignore[method-assign]
    (token,) = registrations("oppo", 1, first=80_000)
    text = {"default": Text(title='a"b', body="c&d")}
    await send(sender, [token], Message(texts=text, ttl=3_600, deep_link="https://a.example/?x=1&y=2"))
    del service.decide
    ((told,),) = (json.loads(value) for value in parse_qs(seen[-1].decode())["messages"])
    notification = told.pop("notification")
    notify_id = notification.pop("notify_id")

    assert told == {"target_type": 2, "target_value": token, "verify_registration_id": False}
    assert 1 <= notify_id <= 2_147_483_647
    assert notification == {
        "app_message_id": "clarion-1-1",
        "style": 1,
        "title": 'a"b',
        "content": "c&d",
        "click_action_type": 2,
        "click_action_url": "https://a.example/?x=1&y=2",
        "off_line": True,
        "off_line_ttl": 3_600,
    }
