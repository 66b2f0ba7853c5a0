"""Started and steered without anything of Clarion's: the `temporal` program, HTTP, the UI in a browser.

The same as from the client: one result, one idempotency, the same refusals, obeyed within the same seconds,
which count from the acknowledgement (`make drill` measures how long that takes).
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
from tests.acceptance.field import Field, Push
from tests.support.browser import Said
from tests.support.plain import Browser, Http, Refused, TemporalCli, Way, browser, http_api, temporal_cli
from workers import schema

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

OBEYED = 2.0  # seconds from when a word was acknowledged
WRITTEN = 0.4  # the sandbox writes its log at least every 0.2 s
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
async def temporal(field: Field) -> AsyncIterator[TemporalCli]:
    """The `temporal` program on this stack."""
    async with temporal_cli(field.stack) as temporal:
        yield temporal


async def until_logged(moment: float) -> None:
    """Until the log has all of this moment."""
    await asyncio.sleep(max(0.0, moment + WRITTEN - time.time()))


async def heard(push: Push, what: str) -> Said:
    """A signal that the push has taken. (Temporal answers a signal itself, so its commit is the answer.)"""
    sql = "select at from audit where push_no = $1 and way = 'signal' and what = $2"
    async with asyncio.timeout(20), push.stack.database() as db:
        while (at := await db.fetchval(sql, push.push_no, what)) is None:  # noqa: ASYNC110  # a row
            await asyncio.sleep(0.05)
    return Said(at.timestamp(), at.timestamp())


async def later_than(push: Push, moment: float, seconds: float) -> list[dict[str, Any]]:
    """The push's requests of so many seconds from a moment on, once they are over and written."""
    await until_logged(moment + seconds)
    requests = await asyncio.to_thread(push.requests)
    return [entry for entry in requests if moment <= entry["t"] < moment + seconds]


async def stands_still(push: Push, word: Said) -> None:
    """From the bound on nothing is sent; the seconds that are said begin with the word's leaving."""
    late = [entry["t"] for entry in await later_than(push, word.answered + OBEYED, 0.3)]
    took = f"acknowledged after {word.answered - word.asked:.1f} s"
    assert not late, f"{took}, {len(late)} requests, the last after {max(late) - word.asked:.1f} s"


async def goes_on(push: Push, word: Said) -> None:
    """The next request after a word came in time."""
    while not (requests := await later_than(push, word.asked, time.time() - word.asked)):
        assert time.time() <= word.answered + 2 * OBEYED, "no request"
    assert min(entry["t"] for entry in requests) <= word.answered + OBEYED


# ── one life by each way ──────────────────────────────────────────────────────────────────────────────────

REFUSED = (
    ("set_pace", {"pace": "fast"}, "pace: Input should be a valid number"),
    ("pause", {"because": "x"}, "because: Extra inputs are not permitted"),
    ("cancel", {"mode": "sideways"}, "mode: Input should be 'now' or 'drain'"),
    ("edit_message", {"message": {"texts": {"en": {"title": "x"}}}}, "needs an entry 'default'"),
    ("reschedule", {"send_at": "2099-01-01T00:00:00"}, "needs an offset"),
)


async def paused(push: Push, way: Way, workflow_id: str) -> None:
    """It stands still; words that do not validate or do not fit are refused, and change nothing."""
    word = await way.update(workflow_id, "pause", {"reason": "a typo", "by": "alice"})
    for name, value, reason in REFUSED[:1] if isinstance(way, Browser) else REFUSED:
        with pytest.raises(Refused, match=reason):
            await way.update(workflow_id, name, value)
    await stands_still(push, word)
    shown = await push.shown()
    assert (shown["hold"], shown["hold_by"], shown["hold_reason"]) == ("paused", "alice", "a typo")
    assert shown["pace"] == 600


async def at_another_pace_with_other_content(push: Push, way: Way, workflow_id: str) -> None:
    """It goes on, slower, and what is later than the bound has the new content."""
    await way.update(workflow_id, "set_pace", {"pace": 200})
    resumed = await way.update(workflow_id, "resume", {})
    await goes_on(push, resumed)
    edited = await way.update(workflow_id, "edit_message", {"message": {"texts": {"default": AFTER}}})
    later = await later_than(push, edited.answered + OBEYED, 2.0)
    assert {entry["content"] for entry in later} == {content(AFTER)}
    assert 300 <= len(later) <= 500, len(later)


async def cancelled(push: Push, way: Way, workflow_id: str) -> None:
    """Nothing later than the bound, and the books are right."""
    word = await way.cancel(workflow_id)
    account = await push.finished()
    assert account.last_request <= word.answered + OBEYED
    assert account.holds, account
    assert set(account.states) == {"accepted", "cancelled"}


async def remembered(workflow: str, workflow_id: str, http: Http, temporal: TemporalCli) -> None:
    """Closed, it takes no word; started again it says what it said; as the schema has it."""
    with pytest.raises(Refused, match="completed"):
        await http.update(workflow_id, "pause", {})
    await http.start(workflow, workflow_id, spec(pace=600))
    result = await temporal.result(workflow_id)
    valid(workflow.replace("Workflow", "Result"), result)
    assert result["verdict"] == "cancelled"
    progress = await http.query(workflow_id, "progress")
    valid(workflow.replace("Workflow", "Progress"), progress)
    assert progress["closed_at" if workflow == "CampaignWorkflow" else "verdict"]


async def live(field: Field, way: Way, http: Http, workflow: str) -> None:
    """One life by one way."""
    id = named("way")
    workflow_id = f"{workflow.removesuffix('Workflow').lower()}/{id}"
    await way.start(workflow, workflow_id, spec(pace=600))
    push = await field.find(id)
    await push.until(0.01)
    await paused(push, way, workflow_id)
    await at_another_pace_with_other_content(push, way, workflow_id)
    await cancelled(push, way, workflow_id)
    async with temporal_cli(field.stack) as temporal:
        await remembered(workflow, workflow_id, http, temporal)


async def live_by_signals(field: Field, temporal: TemporalCli) -> None:
    """Those that are known act, whatever comes with them; those that are not do nothing; nothing hangs."""
    id = named("signals")
    push_id = f"push/{id}"
    await temporal.start("PushWorkflow", push_id, spec(pace=600))
    push = await field.find(id)
    await push.until(0.01)

    await temporal.signal(push_id, "no-such-signal", "--input", '{"a": 1}')
    with pytest.raises(Refused, match="no-such-update"):
        await temporal.update(push_id, "no-such-update", {})
    await temporal.signal(push_id, "pause", "--input", "7", "--input", '"x"')
    word = await heard(push, "pause")
    await stands_still(push, word)
    await temporal.signal(push_id, "resume", "--input", "broken", "--input-meta", "encoding=no/such")
    await goes_on(push, await heard(push, "resume"))
    await temporal.signal(push_id, "cancel")
    word = await heard(push, "close")
    account = await push.finished()
    assert account.holds, account
    assert account.last_request <= word.answered + OBEYED


async def test_every_word_is_obeyed_in_two_seconds(field: Field) -> None:
    """Start, pause, resume, pace, edit and cancel by each way alone, and the same end; four lives at once."""
    async with AsyncExitStack() as held:
        signals = await held.enter_async_context(temporal_cli(field.stack))
        temporal = await held.enter_async_context(temporal_cli(field.stack))
        http = await held.enter_async_context(http_api(field.stack))
        ui = await held.enter_async_context(browser(field.stack))
        async with asyncio.TaskGroup() as lives:
            lives.create_task(live_by_signals(field, signals))
            lives.create_task(live(field, temporal, http, "PushWorkflow"))
            lives.create_task(live(field, http, http, "PushWorkflow"))
            lives.create_task(live(field, ui, http, "CampaignWorkflow"))


# ── the same as from elsewhere ────────────────────────────────────────────────────────────────────────────


async def test_the_same_campaign_from_the_command_line_and_from_the_client(
    field: Field, temporal: TemporalCli
) -> None:
    """One id, one meaning: repeated by either it is joined or remembered, with other content refused."""
    id = named("same")
    users = [f"u{n:08d}" for n in range(100)]
    given = {**spec(audience={"users": users}), "title": "The same", "tags": ["plain"]}
    await temporal.start("CampaignWorkflow", f"campaign/{id}", given)
    with pytest.raises(Refused, match="already"):
        await temporal.start("CampaignWorkflow", f"campaign/{id}", given)
    first = await temporal.result(f"campaign/{id}")
    valid("CampaignResult", first)

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
    account = await (await field.find(id)).finished()
    assert account.states == {"accepted": len(users)}
    assert account.duplicates == 0


BAD_STARTS: tuple[tuple[str, Any, str], ...] = (
    ("pushes/x", spec(), "the workflow id must be push/ and an id"),
    ("push/ä", spec(), "the workflow id must be push/ and an id"),
    ("push/bad-audience", {"app": "demo"}, "audience: Field required"),
    ("push/bad-id", {**spec(), "id": "other"}, "let it be 'bad-id'"),
    ("push/bad-app", spec(app="nobody"), "no app named 'nobody': `clarion apps list`"),
    ("push/bad-time", spec(send_at="tomorrow"), "send_at: Input should be a valid datetime"),
    ("push/bad-list", ["a", "list"], "start with one JSON object, a PushSpec"),
)


async def test_bad_starts_end_at_once(field: Field, temporal: TemporalCli) -> None:
    """Failed, with the reason and what to do; nothing is in the ledger."""

    async def refusal(workflow_id: str, given: Any) -> str:
        await temporal.start("PushWorkflow", workflow_id, given)
        with pytest.raises(Refused) as refused:
            await temporal.result(workflow_id)
        return str(refused.value)

    told = await asyncio.gather(*(refusal(workflow_id, given) for workflow_id, given, _ in BAD_STARTS))

    assert [words for (_, _, words), said in zip(BAD_STARTS, told, strict=True) if words not in said] == []
    async with field.stack.database() as db:
        ids = [workflow_id.partition("/")[2] for workflow_id, _, _ in BAD_STARTS]
        assert await db.fetchval("select count(*) from push where push_id = any($1)", ids) == 0
