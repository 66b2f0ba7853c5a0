"""The Meizu sender against the sandbox, and the sandbox against requests written by hand."""

from __future__ import annotations

import hashlib
import json
from typing import Any
from urllib.parse import parse_qs, quote

import pytest

from clarion.model.message import Classification, MeizuOptions, Message, Text
from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.lanes import Lanes
from clarion.senders.outcome import ACCEPTED, OutcomeKind
from clarion.senders.sender import Sender, Unsendable
from tests.support.senders import HELLO, send
from tests.support.vendors import FORM, calls, client, lines, registrations, shown

SERVICE = Message(texts=HELLO.texts, classification=Classification.SERVICE)


@pytest.fixture
async def sender(lanes: Lanes, app: tuple[int, dict[str, int]]) -> Sender:
    """Meizu's."""
    return await lanes.get(app[0], app[1]["meizu"])


async def test_a_request_carries_a_hundred(sandbox: Sandbox, sender: Sender) -> None:
    """A thousand in ten requests: each is shown once what was meant, under any kind of signs."""
    tokens = registrations("meizu", 1_000)
    text = {"default": Text(title="Héllo & + %", body='字 "=" there')}
    outcomes = await send(sender, tokens, Message(texts=text))

    assert set(outcomes) == {ACCEPTED}
    assert calls(sandbox, "meizu") == 10
    assert {shown(sandbox, "meizu")[token] for token in tokens} == {1}
    told = {line["content"] for line in lines(sandbox, "meizu")}
    assert told == {content_hash("Héllo & + %", '字 "=" there')}


@pytest.mark.parametrize("by_target", [False, True])
async def test_a_yes_hides_refusals(sandbox: Sandbox, sender: Sender, by_target: bool) -> None:
    """Dead, switched off, folded, overloaded: each its own, whichever way round the map is."""
    sandbox.change({"meizu_value_by_target": by_target})
    tokens = registrations("meizu", 6, first=2_000 + 100 * by_target)
    for token, code in zip(tokens, (None, "110005", "110010", "519", "520"), strict=False):
        grave = {"provider": "meizu", "tokens": [token]}
        sandbox.bury(grave if code is None else grave | {"reason": code})
    outcomes = await send(sender, tokens)
    sandbox.change({"meizu_value_by_target": False})

    assert [(o.reason, o.retire, o.maybe) for o in outcomes] == [
        ("meizu:target_110002", True, False),
        ("meizu:target_110005", True, False),
        ("meizu:target_110010", False, False),
        ("meizu:target_519", False, False),
        ("", False, False),
        ("", False, False),
    ]
    assert outcomes[3].kind is OutcomeKind.UNAVAILABLE
    assert outcomes[4:] == [ACCEPTED] * 2


async def test_a_repeat_replaces(sandbox: Sandbox, sender: Sender) -> None:
    """Requests have no key: a repeat after a lost answer is shown again, in the place of the first."""
    (token,) = registrations("meizu", 1, first=3_000)
    await sandbox.add_rule({"provider": "meizu", "reset": "connection", "processed": True, "first": 1})
    before = await send(sender, [token])
    again = await send(sender, [token])
    screen = await sandbox.shown(token)

    assert [(o.kind, o.maybe) for o in before] == [(OutcomeKind.UNAVAILABLE, True)]
    assert again == [ACCEPTED]
    assert [(one["title"], one["times"]) for one in screen] == [("Hello", 2)]


async def test_the_days_quota_stops_marketing_alone(sandbox: Sandbox, sender: Sender) -> None:
    """C31: after 110019 no marketing is sent that day, service messages are; no attempt, nobody retires."""
    sandbox.change({"meizu_daily": 5})
    over = await send(sender, registrations("meizu", 6, first=10_000))
    asked = calls(sandbox, "meizu")
    after = await send(sender, registrations("meizu", 3, first=10_100))
    still = calls(sandbox, "meizu")
    others = await send(sender, registrations("meizu", 3, first=10_200), SERVICE)
    sandbox.change({"meizu_daily": 0})

    assert {(o.kind, o.reason, o.attempt, o.retire) for o in over + after} == {
        (OutcomeKind.THROTTLED, "meizu:110019", False, False)
    }
    assert min(o.retry_after for o in after) > 60
    assert asked == still == 1
    assert others == [ACCEPTED] * 3


@pytest.mark.parametrize(
    ("fault", "kind", "reason", "maybe"),
    [
        ({"reason": "110010"}, OutcomeKind.THROTTLED, "meizu:110010", False),
        ({"reason": "1003"}, OutcomeKind.THROTTLED, "meizu:1003", False),
        ({"reason": "1006"}, OutcomeKind.BLOCKED, "meizu:1006", False),
        ({"reject_credential": "110009"}, OutcomeKind.BLOCKED, "meizu:110009", False),
        ({"reason": "1005"}, OutcomeKind.REJECTED, "meizu:1005", False),
        ({"reason": "1001"}, OutcomeKind.UNAVAILABLE, "meizu:1001", True),
        ({"reason": "777777"}, OutcomeKind.UNAVAILABLE, "meizu:code 777777", True),
        ({"status": 502}, OutcomeKind.UNAVAILABLE, "meizu:502", True),
        ({"status": 200}, OutcomeKind.UNAVAILABLE, "meizu:BAD_ANSWER", True),
        ({"status": 200, "body": ""}, OutcomeKind.UNAVAILABLE, "meizu:BAD_ANSWER", True),
        ({"garbage": "body"}, OutcomeKind.UNAVAILABLE, "meizu:BAD_ANSWER", True),
    ],
)
async def test_answers_that_are_no_yes(
    sandbox: Sandbox, sender: Sender, fault: dict[str, Any], kind: OutcomeKind, reason: str, maybe: bool
) -> None:
    """A code in a 200, a gateway's HTML, nothing, garbage: classified, and never accepted."""
    await sandbox.add_rule({"provider": "meizu", "first": 1, **fault})
    outcomes = await send(sender, registrations("meizu", 3, first=20_000))

    assert {(o.kind, o.reason, o.maybe, o.retire) for o in outcomes} == {(kind, reason, maybe, False)}


async def test_messages_of_every_shape(sandbox: Sandbox, sender: Sender) -> None:
    """Personal, with links, data, every lifetime, texts that are too long: taken; silent: told so."""
    shapes = (
        Message(texts={"default": Text(title="Hi {{ user.name }}", body="b")}, ttl=2_419_200),
        Message(texts=HELLO.texts, ttl=0, deep_link="https://a.example/?x=1&y=2", data={"n": 1, "o": {}}),
        Message(texts={"default": Text(title="字" * 80, body="x" * 300)}, ttl=3_599),
        Message(
            texts=HELLO.texts,
            deep_link="com.example.Page",
            meizu=MeizuOptions(message={"advanceInfo": {"clearNoticeBar": 1}}),
        ),
    )
    for message in shapes:
        outcomes = await send(sender, registrations("meizu", 2), message, values={"name": "a&b"})
        assert outcomes == [ACCEPTED] * 2
    asked = calls(sandbox, "meizu")
    silent = await send(sender, registrations("meizu", 1), Message(data={"n": 1}))
    with pytest.raises(Unsendable):
        await send(sender, ["a,b"])

    assert [(o.kind, o.reason) for o in silent] == [(OutcomeKind.REJECTED, "meizu:notifications_only")]
    assert calls(sandbox, "meizu") == asked


@pytest.mark.parametrize(
    ("ttl", "told"),
    [
        (None, {"offLine": 1}),
        (0, {"offLine": 0}),
        (3_599, {"offLine": 0}),
        (3_600, {"offLine": 1, "validTime": 1}),
        (10_799, {"offLine": 1, "validTime": 2}),
        (2_419_200, {"offLine": 1, "validTime": 72}),
    ],
)
async def test_c08_lifetimes_are_whole_hours(
    sandbox: Sandbox, sender: Sender, ttl: int | None, told: dict[str, int]
) -> None:
    """Never longer than they are; the rest of what leaves us is read as well."""
    seen: list[bytes] = []
    service = sandbox.vendors["meizu"]
    decide = service.decide

    def listen(method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Any:
        seen.append(body)
        return decide(method, path, headers, body)

    service.decide = listen  # type: ignore[method-assign]
    (token,) = registrations("meizu", 1, first=30_000)
    await send(sender, [token], Message(texts=HELLO.texts, ttl=ttl))
    del service.decide
    form = parse_qs(seen[-1].decode())

    assert form["pushIds"] == [token]
    assert json.loads(form["messageJson"][0]) == {
        "noticeBarInfo": {"noticeMsgType": 0, "title": "Hello", "content": "there"},
        "clickTypeInfo": {"clickType": 0},
        "pushTimeInfo": told,
        "advanceInfo": {"notifyKey": hashlib.sha256(b"clarion-1").hexdigest()[:8]},
    }


# ── requests written by hand ──────────────────────────────────────────────────────────────────────────

APP, SECRET = "110000", "s3cr3t"
PATH = "/garcia/api/server/push/varnished/pushByPushId"
IDS = "S5Q4b726e7a7e40737a,S5Q4b726e7a7e40737b"
MESSAGE = (
    '{"noticeBarInfo":{"noticeMsgType":0,"title":"标题 &","content":"内容+"},'
    '"clickTypeInfo":{"clickType":0},"pushTimeInfo":{"offLine":1,"validTime":24}}'
)
# What md5sum says of appId=110000messageJson=…pushIds=…s3cr3t.
SIGN = "7f4fd109f10502c9276fc79513323928"


def form(message: str = MESSAGE, ids: str = IDS, app: str = APP, sign: str | None = None) -> str:
    """A form; signed by the sheet's rule, unless it says how."""
    signed = f"appId={app}messageJson={message}pushIds={ids}{SECRET}".encode()
    sign = hashlib.md5(signed, usedforsecurity=False).hexdigest() if sign is None else sign
    return f"appId={app}&messageJson={quote(message, safe='')}&pushIds={quote(ids, safe='')}&sign={sign}"


def changed(**parts: Any) -> str:
    """The message with other parts."""
    return form(json.dumps(json.loads(MESSAGE) | parts))


WRONG: list[tuple[str, str]] = [
    (form(sign=SIGN), "200"),
    (form(sign=SIGN.upper()), "1006"),
    (form(MESSAGE + " ", sign=SIGN), "1006"),
    (form(sign=""), "1005"),
    (form(app="110001"), "110000"),
    (form(ids=",".join(f"S5Q{n:016d}" for n in range(100))), "200"),
    (form(ids=",".join(f"S5Q{n:016d}" for n in range(101))), "110004"),
    (form(ids="S5Q4b726e7a7e40737a,"), "110004"),
    (form("{}"), "1005"),
    (form("{"), "1005"),
    (changed(noticeBarInfo={"title": "字" * 32, "content": "字" * 100}), "200"),
    (changed(noticeBarInfo={"title": "字" * 33, "content": "c"}), "1005"),
    (changed(noticeBarInfo={"title": "t", "content": "字" * 101}), "1005"),
    (changed(noticeBarInfo={"title": "t", "content": "c", "noticeMsgType": 2}), "1005"),
    (changed(clickTypeInfo={"clickType": 2}), "1005"),
    (changed(clickTypeInfo={"clickType": 3}), "1005"),
    (changed(pushTimeInfo={"offLine": 1, "validTime": 73}), "1005"),
    (changed(pushTimeInfo={"offLine": 1, "validTime": 0}), "1005"),
    (changed(advanceInfo={"notifyKey": "k" * 9}), "1005"),
    (changed(extra={"callback": "h" * 129}), "1005"),
    (changed(extra={"callback.type": 4}), "1005"),
    (changed(colour={"a": 1}), "1005"),
]


async def test_the_documents_codes(sandbox: Sandbox) -> None:
    """Forms written by hand: good ones are taken, each wrong one gets its code with HTTP 200."""
    sandbox.vendors["meizu"].trust({"app_id": APP, "app_secret": SECRET})
    said = []
    async with client(sandbox, "meizu", FORM) as web:
        for content, _ in WRONG:
            answer = await web.post(PATH, content=content)
            said.append((answer.status_code, answer.json()["code"]))
        unsigned = await web.post(PATH, content=form().partition("&sign=")[0])
        read = await web.get(PATH)

    assert said == [(200, code) for _, code in WRONG]
    assert (unsigned.json()["code"], read.status_code) == ("1005", 405)
