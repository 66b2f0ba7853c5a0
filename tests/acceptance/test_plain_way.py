"""Started and steered without anything of Clarion's: the `temporal` program, HTTP, the UI in a browser.

The same as from the client: one result, one idempotency, the same refusals, obeyed within the same seconds.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from clarion.client import Clarion
from clarion.errors import AlreadyExists
from clarion.model.spec import CampaignSpec
from tests.acceptance.field import PHONES, Field, Push
from tests.support.browser import Ui, browsing
from tests.support.plain import Browser, Http, Refused, TemporalCli, Way
from workers import schema

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

OBEYED = 2.0  # seconds from the acknowledgement
SLACK = 0.05  # the clock of a process that ends a moment after the answer
BEFORE, AFTER = {"title": "Before", "body": "the edit"}, {"title": "After", "body": "the edit"}


def spec(**more: Any) -> dict[str, Any]:
    """A push to everybody, as anybody would write it."""
    message = {"texts": {"default": BEFORE}}
    return {"app": "demo", "audience": {"everybody": True}, "message": message, **more}


def named(what: str) -> str:
    """An id of this run."""
    return f"{what}-{os.getpid()}-{time.time_ns() % 1_000_000}"


def content(text: dict[str, str]) -> str:
    """As the sandbox's log names it."""
    return hashlib.sha256(f"{text['title']}\x00{text['body']}".encode()).hexdigest()


def valid(model: str, value: Any) -> None:
    """It is what the published schema says."""
    Draft202012Validator(json.loads((schema.PLACE / f"{model}.json").read_text())).validate(value)


@pytest.fixture
def temporal(field: Field) -> TemporalCli:
    """The `temporal` program on this stack."""
    return TemporalCli(field.stack)


@pytest.fixture(params=["cli", "http", "ui"])
async def way(request: pytest.FixtureRequest, field: Field) -> AsyncIterator[Way]:
    """Each of the ways."""
    async with AsyncExitStack() as held:
        if request.param == "ui":
            page = await held.enter_async_context(browsing())
            yield Browser(Ui(page, field.stack.facts["temporal_ui"]))
        elif request.param == "http":
            yield Http(field.stack)
        else:
            yield TemporalCli(field.stack)


async def quiet_after(push: Push, moment: float) -> None:
    """No request came later than two seconds after the word."""
    await asyncio.sleep(max(0.0, moment + OBEYED + 0.8 - time.time()))
    late = [entry["t"] - moment for entry in push.requests() if entry["t"] > moment + OBEYED + SLACK]
    assert late == []


async def requests_in(push: Push, start: float, seconds: float) -> list[dict[str, Any]]:
    """The log of that time, once it is over and written."""
    await asyncio.sleep(max(0.0, start + seconds + 0.4 - time.time()))
    return [entry for entry in push.requests() if start <= entry["t"] < start + seconds]


async def test_every_word_is_obeyed_in_two_seconds(field: Field, way: Way) -> None:
    """Start, pause, edit, pace, resume and cancel by this way alone; the books are right at the end."""
    id = named("way")
    push_id = f"push/{id}"
    await way.start("PushWorkflow", push_id, spec(pace=600))
    push = await field.find(id)
    await push.until(0.01)

    paused = await way.update(push_id, "pause", {"reason": "a typo", "by": "alice"})
    await quiet_after(push, paused)
    shown = await push.shown()
    assert (shown["hold"], shown["hold_by"], shown["hold_reason"]) == ("paused", "alice", "a typo")

    await way.update(push_id, "set_pace", {"pace": 200})
    resumed = await way.update(push_id, "resume", {})
    at_pace = await requests_in(push, resumed + OBEYED, 4)
    assert 0 < push.next_request_after(resumed) <= OBEYED
    assert 600 <= len(at_pace) <= 1_000, len(at_pace)

    edited = await way.update(push_id, "edit_message", {"message": {"texts": {"default": AFTER}}})
    later = await requests_in(push, edited + OBEYED, 1.5)
    assert {entry["content"] for entry in later} == {content(AFTER)}

    cancelled = await way.update(push_id, "cancel", {"mode": "now", "reason": "enough"})
    account = await push.finished()
    assert account.last_request <= cancelled + OBEYED + SLACK
    assert account.holds, account
    assert set(account.states) == {"accepted", "cancelled"}
    with pytest.raises(Refused, match=r"closed|completed"):
        await TemporalCli(field.stack).update(push_id, "pause", {})


async def test_refusals_say_why_and_the_push_goes_on(field: Field, way: Way) -> None:
    """Words that do not validate or do not fit, by this way: the reason is told, nothing has changed."""
    id = named("refused")
    push_id = f"push/{id}"
    await way.start("PushWorkflow", push_id, spec(pace=400))
    push = await field.find(id)
    refused = (
        ("set_pace", {"pace": "fast"}, "pace: Input should be a valid number"),
        ("pause", {"because": "x"}, "because: Extra inputs are not permitted"),
        ("cancel", {"mode": "sideways"}, "mode: Input should be 'now' or 'drain'"),
        ("edit_message", {"message": {"texts": {"en": {"title": "x"}}}}, "needs an entry 'default'"),
        ("reschedule", {"send_at": "2099-01-01T00:00:00"}, "needs an offset"),
    )
    for name, value, words in refused[:2] if isinstance(way, Browser) else refused:
        with pytest.raises(Refused, match=words):
            await way.update(push_id, name, value)
    shown = await push.shown()
    assert (shown["hold"], shown["pace"]) == ("none", 400)

    await way.update(push_id, "cancel", "now")  # as a person types it
    assert (await push.finished()).holds


async def test_the_same_campaign_from_the_command_line_and_from_the_client(
    field: Field, temporal: TemporalCli
) -> None:
    """One id, one meaning: repeated by either it is joined or remembered, with other content refused."""
    id = named("same")
    given = {**spec(), "title": "The same", "tags": ["plain"]}
    await temporal.start("CampaignWorkflow", f"campaign/{id}", given)
    with pytest.raises(Refused, match="already"):
        await temporal.start("CampaignWorkflow", f"campaign/{id}", given)
    first = await temporal.result(f"campaign/{id}")
    valid("CampaignResult", first)
    push = await field.find(id)
    account = await push.finished()
    assert account.states == {"accepted": PHONES}

    await temporal.start("CampaignWorkflow", f"campaign/{id}", given)
    assert await temporal.result(f"campaign/{id}") == first
    await temporal.start("CampaignWorkflow", f"campaign/{id}", spec(pace=7))
    with pytest.raises(Refused, match=f"{id}.* exists with other content: choose another id"):
        await temporal.result(f"campaign/{id}")
    facts = field.stack.facts
    async with await Clarion.connect(
        facts["temporal_address"], database_url=facts["database_url"]
    ) as clarion:
        again = await clarion.start_campaign(CampaignSpec.model_validate(given), id=id)
        assert again.closed == "completed"
        with pytest.raises(AlreadyExists, match="other content"):
            await clarion.start_campaign(CampaignSpec.model_validate(spec(pace=7)), id=id)
    assert (await push.finished()).duplicates == 0


async def test_the_same_push_over_http(field: Field, temporal: TemporalCli) -> None:
    """Its result, its progress and a repeated start are what they are elsewhere."""
    http, id = Http(field.stack), named("http")
    await http.start("PushWorkflow", f"push/{id}", spec())
    result = await temporal.result(f"push/{id}")
    progress = await http.query(f"push/{id}", "progress")
    valid("PushResult", result)
    valid("PushProgress", progress)

    assert (result["verdict"], result["counts"]["accepted"]) == ("completed", PHONES)
    assert (progress["phase"], progress["verdict"]) == ("closed", "completed")
    await http.start("PushWorkflow", f"push/{id}", spec())
    assert await temporal.result(f"push/{id}") == result
    assert (await (await field.find(id)).finished()).duplicates == 0


@pytest.mark.parametrize(
    ("workflow_id", "given", "words"),
    [
        ("pushes/x", spec(), "the workflow id must be push/ and an id"),
        ("push/ä", spec(), "the workflow id must be push/ and an id"),
        ("push/plain-bad", {"app": "demo"}, "audience: Field required"),
        ("push/plain-bad", {**spec(), "id": "other"}, "let it be 'plain-bad'"),
        ("push/plain-bad", spec(app="nobody"), "no app named 'nobody': `clarion apps list`"),
        ("push/plain-bad", spec(send_at="tomorrow"), "send_at: Input should be a valid datetime"),
        ("push/plain-bad", ["a", "list"], "start with one JSON object, a PushSpec"),
    ],
    ids=["id-shape", "id-letters", "no-audience", "two-ids", "no-app", "no-time", "no-object"],
)
async def test_bad_starts_end_at_once(
    field: Field, temporal: TemporalCli, workflow_id: str, given: Any, words: str
) -> None:
    """Failed, with the reason and what to do; nothing is in the ledger."""
    await temporal.start("PushWorkflow", workflow_id, given)

    with pytest.raises(Refused) as refused:
        await temporal.result(workflow_id)

    assert words in str(refused.value)
    async with field.stack.database() as db:
        assert not await db.fetchval(
            "select exists (select from push where push_id = $1)", workflow_id.removeprefix("push/")
        )


async def test_signals_by_hand_and_garbage(field: Field, temporal: TemporalCli) -> None:
    """Those that are known act, whatever comes with them; those that are not do nothing; nothing hangs."""
    id = named("signals")
    push_id = f"push/{id}"
    await temporal.start("PushWorkflow", push_id, spec(pace=600))
    push = await field.find(id)
    await push.until(0.01)

    await temporal.signal(push_id, "no-such-signal", "--input", '{"a": 1}')
    with pytest.raises(Refused, match="no-such-update"):
        await temporal.update(push_id, "no-such-update", {})
    paused = await temporal.signal(push_id, "pause", "--input", "7", "--input", '"x"')
    await quiet_after(push, paused)
    resumed = await temporal.signal(
        push_id, "resume", "--input", "broken", "--input-meta", "encoding=no/such"
    )
    await asyncio.sleep(OBEYED + 0.5)
    assert push.next_request_after(resumed) <= OBEYED
    cancelled = await temporal.signal(push_id, "cancel")
    account = await push.finished()
    assert account.holds, account
    assert account.last_request <= cancelled + OBEYED + SLACK


async def test_request_cancellation_in_the_ui_means_cancel_now(field: Field, temporal: TemporalCli) -> None:
    """The books are closed, and Temporal shows it as Canceled."""
    id = named("button")
    await temporal.start("CampaignWorkflow", f"campaign/{id}", spec(pace=600))
    push = await field.find(id)
    await push.until(0.01)
    async with browsing() as page:
        ui = Ui(page, field.stack.facts["temporal_ui"])
        await ui.open(f"campaign/{id}")
        asked = await ui.request_cancellation()

    account = await push.finished()
    assert account.holds, account
    assert account.last_request <= asked + OBEYED + SLACK

    with pytest.raises(Refused, match='"CANCELED"'):
        await temporal.result(f"campaign/{id}")
