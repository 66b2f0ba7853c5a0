"""The Xiaomi sender against the sandbox, and the sandbox against requests written by hand."""

from __future__ import annotations

import ssl
from typing import Any

import httpx
import pytest

from clarion.model.message import Message, Text, XiaomiOptions
from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.lanes import Lanes
from clarion.senders.outcome import ACCEPTED, OutcomeKind
from clarion.senders.sender import Sender, Unsendable
from tests.support.senders import send
from tests.support.vendors import calls, endpoint, lines, registrations, shown


@pytest.fixture
async def sender(lanes: Lanes, app: tuple[int, dict[str, int]]) -> Sender:
    """Xiaomi's."""
    return await lanes.get(app[0], app[1]["xiaomi"])


async def test_a_request_carries_many(sandbox: Sandbox, sender: Sender) -> None:
    """A thousand in five requests: each is shown once what was meant."""
    tokens = registrations("xiaomi", 1_000)
    outcomes = await send(sender, tokens)

    assert set(outcomes) == {ACCEPTED}
    assert calls(sandbox, "xiaomi") == 5
    assert {shown(sandbox, "xiaomi")[token] for token in tokens} == {1}
    assert {line["content"] for line in lines(sandbox, "xiaomi")} == {content_hash("Hello", "there")}


async def test_some_dead_and_all_dead(sandbox: Sandbox, sender: Sender) -> None:
    """bad_regids retire and the others are accepted; 20301 may be the wrong app, so it is suspect."""
    tokens = registrations("xiaomi", 20, first=2_000)
    sandbox.bury({"provider": "xiaomi", "tokens": tokens[::4]})
    outcomes = await send(sender, tokens)
    all_dead = await send(sender, tokens[::4])

    assert [outcome is ACCEPTED for outcome in outcomes] == [n % 4 > 0 for n in range(20)]
    assert {(o.kind, o.reason, o.retire, o.suspect) for o in outcomes[::4]} == {
        (OutcomeKind.REJECTED, "xiaomi:bad_regid", True, False)
    }
    assert {(o.reason, o.retire, o.suspect) for o in all_dead} == {("xiaomi:20301", True, True)}


async def test_the_days_quota_stops_calls(sandbox: Sandbox, sender: Sender) -> None:
    """C31: after 10034 nothing more is asked of Xiaomi that day; it is no attempt and nobody retires."""
    sandbox.change({"xiaomi_daily": 5})
    over = await send(sender, registrations("xiaomi", 6, first=3_000))
    asked = calls(sandbox, "xiaomi")
    after = await send(sender, registrations("xiaomi", 3, first=3_100))
    sandbox.change({"xiaomi_daily": 0})

    assert {(o.kind, o.reason, o.attempt, o.retire) for o in over + after} == {
        (OutcomeKind.THROTTLED, "xiaomi:10034", False, False)
    }
    assert min(o.retry_after for o in after) > 60
    assert calls(sandbox, "xiaomi") == asked == 1


@pytest.mark.parametrize(
    ("fault", "kind", "reason", "maybe"),
    [
        ({"status": 200, "reason": "10027"}, OutcomeKind.THROTTLED, "xiaomi:10027", False),
        ({"status": 200, "reason": "21301"}, OutcomeKind.BLOCKED, "xiaomi:21301", False),
        ({"status": 200, "reason": "65009"}, OutcomeKind.REJECTED, "xiaomi:65009", False),
        ({"status": 200, "reason": "10001"}, OutcomeKind.UNAVAILABLE, "xiaomi:10001", True),
        ({"status": 502}, OutcomeKind.UNAVAILABLE, "xiaomi:502", True),
        ({"status": 200}, OutcomeKind.UNAVAILABLE, "xiaomi:BAD_ANSWER", True),
        ({"garbage": "body"}, OutcomeKind.UNAVAILABLE, "xiaomi:BAD_ANSWER", True),
    ],
)
async def test_answers_that_are_no_yes(
    sandbox: Sandbox, sender: Sender, fault: dict[str, Any], kind: OutcomeKind, reason: str, maybe: bool
) -> None:
    """A code in a 200, a gateway's HTML, garbage: classified, and never accepted."""
    await sandbox.add_rule({"provider": "xiaomi", "first": 1, **fault})
    outcomes = await send(sender, registrations("xiaomi", 3, first=4_000))

    assert {(o.kind, o.reason, o.maybe, o.retire) for o in outcomes} == {(kind, reason, maybe, False)}


async def test_messages_of_every_shape_are_taken(sender: Sender) -> None:
    """Personal, silent, with a link, a lifetime beyond Xiaomi's, texts that are too long; a comma is not."""
    shapes = (
        Message(texts={"default": Text(title="Hi {{ user.name }}", body="b")}, ttl=2_419_200),
        Message(data={"n": 1}, ttl=0),
        Message(
            texts={"default": Text(title="字" * 80, body="x" * 300)},
            deep_link="https://a.example",
            xiaomi=XiaomiOptions(channel_id="104"),
        ),
    )
    for message in shapes:
        assert (
            await send(sender, registrations("xiaomi", 2), message, values={"name": "a&b"}) == [ACCEPTED] * 2
        )
    with pytest.raises(Unsendable):
        await send(sender, ["a,b"])


GOOD = "restricted_package_name=com.example.clarion&title=t&description=d&pass_through=0&registration_id="


@pytest.mark.parametrize(
    ("form", "code"),
    [
        (GOOD + "r1%2Cr2&time_to_live=1209600000&notify_id=0", 0),
        (GOOD + "%2C".join(f"r{n}" for n in range(1_001)), 10017),
        (GOOD, 10016),
        (GOOD + "r1&time_to_live=1209600001", 10017),
        (GOOD + "r1&payload=" + "x" * 4_096, 65009),
        (GOOD + "r1" + "".join(f"&extra.k{n}=v" for n in range(11)), 65014),
        (GOOD.replace("title=t", "title=" + "t" * 50) + "r1", 65009),
        (GOOD.replace("com.example.clarion", "com.example.other") + "r1", 22022),
    ],
)
async def test_the_sheets_codes(sandbox: Sandbox, form: str, code: int) -> None:
    """Forms written by hand: a good one is taken, each wrong one gets its code, without the key 21301."""
    tls = ssl.create_default_context(cafile=str(sandbox.authority.ca_path))
    secret = sandbox.credentials.vendors["xiaomi"]["app_secret"]
    kind = {"content-type": "application/x-www-form-urlencoded"}
    async with httpx.AsyncClient(verify=tls, base_url=endpoint(sandbox, "xiaomi"), headers=kind) as client:
        said = await client.post(
            "/v3/message/regid", content=form, headers={"authorization": f"key={secret}"}
        )
        unknown = await client.post(
            "/v3/message/regid", content=form, headers={"authorization": f"Bearer {secret}"}
        )

    assert (said.status_code, said.json()["code"]) == (200, code)
    assert said.json()["result"] == ("error" if code else "ok")
    assert unknown.json()["code"] == 21301
