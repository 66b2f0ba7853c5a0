"""Providers asked for registrations that have ended: the questions, what they end, and the schedule."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import ActivityEnvironment

from activities.feedback import AskInput, AskResult, Feedback, FeedbackPlan, ToAskInput, keep_schedule
from clarion import limits, names
from clarion.errors import CredentialBlocked, SenderError
from clarion.model.ledger import Reason
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.feedback import ended, listed
from clarion.senders.link import Surroundings
from clarion.store import credentials
from clarion.store.database import Database
from clarion.store.ledger import Ledger
from tests.support.senders import SEAL
from tests.support.temporal import running_temporal
from tests.support.vendors import calls, client, registrations
from workers import runtime

App = tuple[int, dict[str, int]]
REFUSES = {
    "xiaomi": {"status": 200, "reason": "21301"},
    "oppo": {"status": 200, "reason": "30"},
}
every_provider = pytest.mark.parametrize("provider", names.TELLING)


@pytest.fixture(autouse=True)
async def _nobody(db: Database) -> None:
    """No phones of another test: they would be this test's app's."""
    await db.execute("truncate registration, device, usr restart identity cascade")


async def pull(db: Database, app: App, provider: str) -> list[list[str]]:
    """All lists."""
    credential = await credentials.load(db, SEAL, app[0], app[1][provider])
    return [tokens async for tokens in ended(credential, Surroundings(db, SEAL))]


async def phones(db: Database, app: App, provider: str, tokens: list[str], age: str = "2 hours") -> None:
    """A user with a phone each, which registered so long ago."""
    await db.execute(
        f"""
        with t as (select * from unnest($3::text[]) with ordinality t (token, n)), u as (
          insert into usr (app_no, user_id) select $1, $4 || n from t returning user_no, user_id
        ), d as (
          insert into device (app_no, installation, user_no, platform)
          select $1, gen_random_uuid(), user_no, 2 from u returning device_no, user_no
        )
        insert into registration (device_no, user_no, app_no, lane, token, registered_at)
        select device_no, user_no, $1, $2, token, now() - interval '{age}'
        from d join u using (user_no) join t on user_id = $4 || n""",
        app[0],
        app[1][provider],
        tokens,
        uuid4().hex,
    )


async def alive(db: Database, app: App, provider: str) -> set[str]:
    """Tokens that are sent to."""
    rows = await db.fetch(
        "select token from registration where app_no = $1 and lane = $2 and status = 1",
        app[0],
        app[1][provider],
    )
    return {row["token"] for row in rows}


async def ask(db: Database, app: App, provider: str) -> AskResult:
    """The activity, as Temporal would run it."""
    input = AskInput(app_no=app[0], lane=app[1][provider], provider=provider)
    result: AskResult = await ActivityEnvironment().run(Feedback(db, SEAL).ask, input)
    return result


@every_provider
async def test_lists_are_read_to_their_end(sandbox: Sandbox, db: Database, app: App, provider: str) -> None:
    """Xiaomi's list drains, OPPO's does not: each registration comes once, and there is an end."""
    dead = registrations(provider, 1_500 if provider == "xiaomi" else 30)
    sandbox.bury({"provider": provider, "tokens": dead})

    lists = await pull(db, app, provider)
    again = await pull(db, app, provider)

    assert sorted(token for tokens in lists for token in tokens) == sorted(dead)
    assert len(lists) == (2 if provider == "xiaomi" else 1)
    assert (again == []) is (provider == "xiaomi")


@pytest.mark.parametrize(
    ("provider", "endpoint"),
    [
        ("xiaomi", "https://api.xmpush.global.xiaomi.com"),
        ("xiaomi", "https://idmb-api.xmpush.global.xiaomi.com"),
        ("oppo", "https://api-intl.push.oppomobile.com"),
    ],
)
async def test_lanes_abroad_are_not_asked(
    sandbox: Sandbox, db: Database, app: App, provider: str, endpoint: str
) -> None:
    """Nobody has written down where: nothing is asked, and nothing fails."""
    credential = await credentials.load(db, SEAL, app[0], app[1][provider])
    abroad = replace(credential, endpoint=endpoint)

    assert [tokens async for tokens in ended(abroad, Surroundings(db, SEAL))] == []


@every_provider
async def test_what_is_named_ends_once(sandbox: Sandbox, db: Database, app: App, provider: str) -> None:
    """Ours end, strangers are counted; who has registered since lives; the same word again ends nobody."""
    old, new, strange = (registrations(provider, 3, first=n) for n in (100, 200, 300))
    healthy = registrations(provider, 2, first=400)
    await phones(db, app, provider, old + healthy)
    await phones(db, app, provider, new, age="1 minute")
    sandbox.bury({"provider": provider, "tokens": old + new + strange})

    first = await ask(db, app, provider)
    sandbox.shared.graves[provider].told.clear()
    second = await ask(db, app, provider)

    assert (first.named, first.retired) == (9, 3)
    assert (second.named, second.retired) == (9, 0)
    assert await alive(db, app, provider) == {*new, *healthy}
    row = await db.fetchrow(
        "select r.name, status from registration join reason r on reason_no = retired_reason"
        " where status <> 1 and app_no = $1 and lane = $2 limit 1",
        app[0],
        app[1][provider],
    )
    assert row is not None
    assert tuple(row) == (f"{provider}:feedback", 3)
    assert await db.fetchval("select count(*) from retire") == 0


async def test_another_lane_with_the_same_token_lives(sandbox: Sandbox, db: Database, app: App) -> None:
    """Tokens are a provider's own."""
    tokens = registrations("xiaomi", 2)
    await phones(db, app, "xiaomi", tokens)
    await db.execute(
        "insert into registration (device_no, user_no, app_no, lane, token, registered_at)"
        " select device_no, user_no, app_no, $1, token, registered_at from registration",
        app[1]["meizu"],
    )
    sandbox.bury({"provider": "xiaomi", "tokens": tokens})

    await ask(db, app, "xiaomi")

    assert await alive(db, app, "xiaomi") == set()
    assert await alive(db, app, "meizu") == set(tokens)


@every_provider
@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ({"status": 500}, SenderError),
        ({"garbage": "body"}, SenderError),
        ({"reset": "connection"}, SenderError),
    ],
)
async def test_what_is_no_answer_is_tried_again(
    sandbox: Sandbox, db: Database, app: App, provider: str, fault: dict[str, Any], error: type[Exception]
) -> None:
    """It says nothing, and nothing ends."""
    await sandbox.add_rule({"provider": provider, **fault})

    with pytest.raises(error) as raised:
        await pull(db, app, provider)

    assert "secret" not in str(raised.value)
    assert "https" not in str(raised.value)


async def test_xiaomi_asked_too_often(sandbox: Sandbox, db: Database, app: App) -> None:
    """10030: later, and the credential is not blamed. What was told before it counts."""
    dead = registrations("xiaomi", 3)
    sandbox.bury({"provider": "xiaomi", "tokens": dead})
    sandbox.change({"xiaomi_requests_per_second": 1})
    try:
        told = await asyncio.gather(*(pull(db, app, "xiaomi") for _ in range(4)), return_exceptions=True)
    finally:
        sandbox.change({"xiaomi_requests_per_second": 0})

    assert [dead] in told
    assert {str(one) for one in told if isinstance(one, Exception)} == {"it tells nothing now (xiaomi:10030)"}


@every_provider
async def test_a_credential_that_is_refused(sandbox: Sandbox, db: Database, app: App, provider: str) -> None:
    """Said so, for good; the lane is not blocked by it: only its own messages do that."""
    await sandbox.add_rule({"provider": provider, **REFUSES[provider]})

    with pytest.raises(CredentialBlocked):
        await pull(db, app, provider)

    assert await db.fetchval("select count(*) from credential_state where blocked") == 0


async def test_oppos_token_is_made_anew_once(sandbox: Sandbox, db: Database, app: App) -> None:
    """A void one is replaced, and shared with those who send."""
    sandbox.bury({"provider": "oppo", "tokens": registrations("oppo", 2)})
    assert len(await pull(db, app, "oppo")) == 1
    minted = calls(sandbox, "oppo-auth")
    sandbox.vendors["oppo"].forget()

    assert len(await pull(db, app, "oppo")) == 1
    assert (minted, calls(sandbox, "oppo-auth")) == (1, 2)


@every_provider
async def test_the_simulator_is_strict(sandbox: Sandbox, provider: str) -> None:
    """Without who we are, and by another method, it tells nothing."""
    path = {
        "xiaomi": "/v1/feedback/fetch_invalid_regids",
        "oppo": "/server/v1/feedback/fetch_invalid_regidList",
    }[provider]
    async with client(sandbox, provider) as other:
        nobody = (await other.get(path)).json()["code"]
        posted = await other.post(path)

    assert nobody == {"xiaomi": 21301, "oppo": 29}[provider]
    assert posted.status_code == 405 or posted.json()["code"] == 12


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"data":{"list":["a","b"]}}', ["a", "b"]),
        (b'{"data":{"list":["a",1,null,"",{"b":2}]}}', ["a"]),
        (b'{"data":{"list":"a,b"}}', []),
        (b'{"data":[]}', []),
        (b'{"data":{"list":["' + b"x" * 300 + b'"]}}', []),
        (b"<html>", []),
        (b"[]", []),
    ],
)
def test_only_texts_are_registrations(body: bytes, tokens: list[str]) -> None:
    """Whatever else stands in an answer is nobody's address."""
    assert listed(body, "list") == tokens


async def test_whom_to_ask(db: Database, app: App) -> None:
    """Lanes of those that tell, unless their credential is blocked or withdrawn."""
    plan = FeedbackPlan(db)
    everybody = (await ActivityEnvironment().run(plan.to_ask, ToAskInput())).lanes
    await Ledger(db).block(app[0], app[1]["oppo"], True, int(Reason.NONE))
    without_oppo = (await ActivityEnvironment().run(plan.to_ask, ToAskInput())).lanes
    await db.execute("update credential set secret = null where provider = 'xiaomi'")
    nobody = (await ActivityEnvironment().run(plan.to_ask, ToAskInput())).lanes

    assert {lane.provider for lane in everybody} == {"xiaomi", "oppo"}
    assert [lane.provider for lane in without_oppo] == ["xiaomi"]
    assert nobody == ()


@pytest.fixture
async def temporal(db: Database) -> AsyncIterator[Client]:
    """A server of its own, and workers of the queues that feedback needs."""
    async with running_temporal() as server, AsyncExitStack() as stack:
        found = await Client.connect(server.address, data_converter=pydantic_data_converter)
        for worker in (
            runtime.control_worker(found),
            runtime.ops_worker(found, db),
            runtime.feedback_worker(found, Feedback(db, SEAL)),
        ):
            await stack.enter_async_context(worker)
        yield found


async def test_a_schedule_asks_them_all(sandbox: Sandbox, db: Database, app: App, temporal: Client) -> None:
    """It is made once; triggered it asks each, and who refuses us keeps none of the others from it."""
    tokens = registrations("xiaomi", 4)
    await phones(db, app, "xiaomi", tokens)
    sandbox.bury({"provider": "xiaomi", "tokens": tokens[:3]})
    await sandbox.add_rule({"provider": "oppo", **REFUSES["oppo"]})
    await keep_schedule(temporal)
    await keep_schedule(temporal)
    schedule = temporal.get_schedule_handle(names.FEEDBACK)

    await schedule.trigger()
    async with asyncio.timeout(30):
        while not (recent := (await schedule.describe()).info.recent_actions):  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.1)
        started = recent[-1].action.workflow_id  # type: ignore[attr-defined]
        told = await temporal.get_workflow_handle(started).result()

    said = {one["provider"]: (one["named"], one["retired"], one["error"]) for one in told}
    assert said["xiaomi"] == (3, 3, None)
    assert said["oppo"][:2] == (0, 0)
    assert "oppo:30" in said["oppo"][2]
    assert await alive(db, app, "xiaomi") == {tokens[3]}
    (interval,) = (await schedule.describe()).schedule.spec.intervals
    assert interval.every == timedelta(seconds=limits.FEEDBACK_EVERY)
