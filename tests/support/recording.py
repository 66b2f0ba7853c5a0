"""Record the histories that the replay tests are about: `make histories`, and nothing else, runs this.

A scenario is one way in which a push, a batch or a campaign can go and end. It is lived through on a real
Temporal and a real PostgreSQL with a provider that is not there, and its histories are kept, scrubbed.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from unittest import mock
from uuid import uuid4

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.workflowservice.v1 import ResetWorkflowExecutionRequest
from temporalio.client import WorkflowFailureError, WorkflowHandle

from activities.topics import Topics
from clarion import limits, names
from clarion.client import CampaignHandle
from clarion.model.audience import Audience
from clarion.model.command import CancelMode
from clarion.model.message import Message, Text
from clarion.model.spec import Approval, CampaignSpec, Stage, Then
from clarion.model.topic import TopicChange, TopicSend
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.null import NullSender
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind
from clarion.senders.sender import Answered
from clarion.store import apps, devices
from clarion.store.database import Database
from clarion.store.intake import Intake
from clarion.store.ledger import Ledger
from clarion.store.locales import Locales
from tests.support import histories
from tests.support.engine import MESSAGE, App, Engine, Push, running_engine
from tests.support.postgres import Databases, running_databases
from tests.support.senders import SEAL, app_at, fcm_tokens, process
from tests.support.temporal import running_temporal
from workers import runtime

CORRECTED: Final = Message(texts={"default": Text(title="Hello", body="there, corrected")})
WRONG_KEY: Final = Outcome(OutcomeKind.BLOCKED, "test:InvalidKey")
BUSY: Final = Outcome(OutcomeKind.UNAVAILABLE, "test:Busy")

OF_CAMPAIGNS: Final = ("campaign-approved.pilot", "campaign-orphaned", "campaign-request-cancelled-2")
USUAL: Final = (  # their batches go as those of others do
    *("steered", "rescheduled", "repeated", "lost", "campaign-approved", "campaign-orphaned"),
    *("campaign-request-cancelled", "expired"),
)

Scenario = Callable[[Engine], Awaitable[None]]
SCENARIOS: Final[dict[str, Scenario]] = {}
CONTINUING: Final[set[str]] = set()  # those for a server that suggests to continue as new after few events


def scenario(*, continuing: bool = False) -> Callable[[Scenario], Scenario]:
    """A way to go. The ids of its workflows begin with its name."""

    def add(live: Scenario) -> Scenario:
        name = live.__name__.replace("_", "-")
        SCENARIOS[name] = live
        if continuing:
            CONTINUING.add(name)
        return live

    return add


class Moody(NullSender):
    """A provider that is not there and answers as it is told."""

    mood: Outcome = ACCEPTED

    def post(
        self,
        prepared: Any,
        key: int,
        registration_no: int,
        token: str,
        locale: str,
        variant: int,
        values: dict[str, Any] | None,
        answered: Answered,
    ) -> None:
        """Note it, to be answered by the mood of that moment."""
        told = partial(self._moody, answered)
        super().post(prepared, key, registration_no, token, locale, variant, values, told)

    def _moody(self, answered: Answered, key: int, _: Outcome) -> None:
        answered(key, self.mood)


async def moody(engine: Engine, phones: int) -> tuple[App, Moody]:
    """An app whose provider has moods."""
    app = await engine.app(phones)
    sender = Moody()
    engine.lanes._senders[app.app_no, 1] = app.sender = sender
    return app, sender


async def until(condition: Callable[[], Awaitable[Any]], seconds: float = 20.0) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(seconds):
        while not await condition():  # noqa: ASYNC110  # rows of a database
            await asyncio.sleep(0.02)


async def ended(handle: WorkflowHandle[Any, Any]) -> None:
    """Wait for the end of a workflow, whatever it is."""
    async with asyncio.timeout(40):
        with contextlib.suppress(WorkflowFailureError):
            await handle.result()


def soon(seconds: float) -> datetime:
    """A moment."""
    return datetime.now(UTC) + timedelta(seconds=seconds)


# ── pushes ────────────────────────────────────────────────────────────────────────────────────────────────


@scenario()
async def completed(engine: Engine) -> None:
    """Nothing happens but the work."""
    await (await (await engine.app(40)).push(id="completed")).result()


@scenario()
async def cancelled(engine: Engine) -> None:
    """cancel(now) in mid run."""
    push = await (await engine.app(1_500, rate=400)).push(id="cancelled")
    await push.accepted(50)
    await push.handle.cancel(reason="wrong audience")
    await push.result()


@scenario()
async def drained(engine: Engine) -> None:
    """cancel(drain): three batches have begun, the fourth never does."""
    push = await (await engine.app(4_000, rate=4_000)).push(id="drained")
    await push.accepted(100)
    await push.handle.cancel(CancelMode.DRAIN)
    await push.result()


@scenario()
async def request_cancelled(engine: Engine) -> None:
    """Temporal's own cancellation."""
    push = await (await engine.app(1_500, rate=400)).push(id="request-cancelled")
    await push.accepted(50)
    await push.handle.workflow.cancel()
    await ended(push.handle.workflow)


@scenario()
async def expired(engine: Engine) -> None:
    """Its deadline comes while it sends."""
    push = await (await engine.app(1_500, rate=300)).push(id="expired", deadline=soon(2))
    await push.result()


@scenario()
async def failed(engine: Engine) -> None:
    """A start that no push can come of."""
    for id, body in (("failed", {"app": "nobody"}), ("failed-unknown", {"id": "failed-unknown"})):
        await ended(await engine.start_raw(names.PUSH_WORKFLOW, names.push_workflow_id(id), body))


@scenario()
async def blocked(engine: Engine) -> None:
    """The provider refuses the credential; mended and unblocked, the push goes on."""
    app, sender = await moody(engine, 40)
    sender.mood = WRONG_KEY
    push = await app.push(id="blocked")

    async def is_blocked() -> Any:
        return await engine.db.fetchval("select blocked from credential_state where app_no = $1", app.app_no)

    await until(is_blocked)
    await asyncio.sleep(1)
    sender.mood = ACCEPTED
    await Ledger(engine.db).block(app.app_no, 1, False, who="ada", way="cli")
    await push.handle.wake()
    await push.result()


@scenario()
async def paused_by_clarion(engine: Engine) -> None:
    """An audience that cannot be planned; resumed in vain, then cancelled."""
    app = await engine.app(10)
    spec = app.spec().model_dump(mode="json", exclude_defaults=True)
    spec["audience"] = {"user_list": "users:" + "0" * 64}
    id = "paused-by-clarion"
    handle = await engine.start_raw(names.PUSH_WORKFLOW, names.push_workflow_id(id), spec)
    push = Push(engine, engine.clarion.push(id))
    await push.held()
    await push.handle.resume()
    await asyncio.sleep(0.5)
    await push.held()
    await push.handle.cancel()
    await ended(handle)


@scenario()
async def steered(engine: Engine) -> None:
    """Every word that a running push understands, well said and badly, as update and as signal."""
    app = await engine.app(1_200, rate=300)
    push = await app.push(id="steered", deadline=soon(600))
    await push.accepted(20)
    await push.handle.pause("a typo", by="ada")
    await push.handle.edit_message(CORRECTED, "the typo")
    await push.handle.set_pace(900)
    await push.handle.extend_deadline(soon(900))
    with contextlib.suppress(Exception):
        await push.handle.reschedule(soon(60))
    await push.handle.resume(by="ada")
    for signal in ("pause", "resume", "wake"):
        await push.handle.workflow.signal(signal)
        await asyncio.sleep(0.2)
    app.sender.rate = float("inf")
    await push.handle.set_pace(None)
    await push.result()


@scenario()
async def retried(engine: Engine) -> None:
    """The provider is busy at first: retries fall due and go out as a list."""
    app, sender = await moody(engine, 40)
    sender.mood = BUSY
    push = await app.push(id="retried")

    async def waits() -> Any:
        return (await push.counts()).get("retry") == 40

    await until(waits)
    sender.mood = ACCEPTED
    await push.result()


@scenario()
async def rescheduled(engine: Engine) -> None:
    """Planned for later, moved, begun."""
    push = await (await engine.app(20)).push(id="rescheduled", send_at=soon(3_600))
    await asyncio.sleep(0.5)
    await push.handle.reschedule(soon(1.5))
    await push.result()


@scenario()
async def repeated(engine: Engine) -> None:
    """The same start after the end: the stored result."""
    app = await engine.app(20)
    for _ in range(2):
        await (await app.push(id="repeated")).result()


@scenario()
async def unlucky(engine: Engine) -> None:
    """A batch is terminated, another one is cancelled: both are found again."""
    app = await engine.app(3_000, rate=800)
    push = await app.push(id="unlucky")
    await push.accepted(100)
    batches = [engine.client.get_workflow_handle(names.batch_workflow_id(push.id, n)) for n in (0, 1)]
    await batches[0].terminate("by hand")
    await batches[1].cancel()
    await asyncio.sleep(0.5)
    app.sender.rate = float("inf")
    await push.result(60)


@scenario()
async def lost(engine: Engine) -> None:
    """Terminated, and started again with the id alone."""
    app = await engine.app(1_500, rate=600)
    push = await app.push(id="lost")
    await push.accepted(100)
    await push.handle.workflow.terminate("by hand")
    app.sender.rate = float("inf")
    await push.handle.restart()
    await push.result(60)


@scenario()
async def reset(engine: Engine) -> None:
    """Reset to its beginning while a batch is live."""
    app = await engine.app(1_500, rate=600)
    push = await app.push(id="reset")
    await push.accepted(100)
    await engine.client.workflow_service.reset_workflow_execution(
        ResetWorkflowExecutionRequest(
            namespace=engine.client.namespace,
            workflow_execution=WorkflowExecution(workflow_id=push.handle.workflow_id),
            reason="by hand",
            workflow_task_finish_event_id=4,
            request_id=str(uuid4()),
        )
    )
    app.sender.rate = float("inf")
    await push.result(60)


@scenario(continuing=True)
async def continued(engine: Engine) -> None:
    """It continues as new between batches."""
    app = await engine.app(6_000, rate=4_000)
    push = await app.push(id="continued")
    await push.accepted(1_000)
    await push.handle.pause()
    await push.handle.resume()
    await push.result(60)


# ── batches ───────────────────────────────────────────────────────────────────────────────────────────────


async def batch(engine: Engine, id: str, push_no: int) -> None:
    """A batch workflow by hand."""
    input = {"push_no": push_no, "batches": [0], "provider": "null"}
    await ended(await engine.start_raw(names.BATCH_WORKFLOW, names.batch_workflow_id(id, 0), input))


@scenario()
async def more(engine: Engine) -> None:
    """Its attempt's minute is over before its rows."""
    app = await engine.app(300, rate=200)
    with mock.patch.object(limits, "ATTEMPT_SECONDS", 0.5):
        await (await app.push(id="more")).result()


@scenario()
async def held(engine: Engine) -> None:
    """The push is paused; then its books are closed."""
    app = await engine.app(300, rate=50)
    push = await app.push(id="held")
    await push.accepted(5)
    await push.handle.pause()
    await asyncio.sleep(1)
    push_no = (await push.row("push_no"))["push_no"]
    await batch(engine, "held-again", push_no)
    await push.handle.cancel()
    await push.result()
    await batch(engine, "held-closed", push_no)


@scenario()
async def leased(engine: Engine) -> None:
    """Another attempt holds the batch."""
    app = await engine.app(100, rate=20)
    push = await app.push(id="leased")
    await push.accepted(5)
    await push.handle.pause()
    await asyncio.sleep(1)
    push_no = (await push.row("push_no"))["push_no"]
    await push.handle.resume()
    await push.accepted(15)
    await batch(engine, "leased-again", push_no)
    app.sender.rate = float("inf")
    await push.result()


# ── campaigns ─────────────────────────────────────────────────────────────────────────────────────────────


STAGES: Final = (Stage(name="pilot", share=20), Stage(name="rest"))


async def campaign(engine: Engine, app: App, id: str, **more: Any) -> CampaignHandle:
    """Start one."""
    spec = CampaignSpec(app=app.name, message=MESSAGE, audience=Audience(everybody=True), **more)
    return await engine.clarion.start_campaign(spec, id=id)


@scenario()
async def campaign_completed(engine: Engine) -> None:
    """One push, no stages."""
    await (await campaign(engine, await engine.app(40), "campaign-completed")).result()


@scenario()
async def campaign_approved(engine: Engine) -> None:
    """Approved, then a pilot, a wait, an approval and the rest."""
    then = Then(wait="1s", approval=Approval())
    stages = (Stage(name="pilot", share=20, then=then), Stage(name="rest"))
    handle = await campaign(
        engine, await engine.app(100), "campaign-approved", approval=Approval(), stages=stages
    )

    async def waits() -> Any:
        return (await handle.progress()).waits_for == "approval"

    for by in ("ada", "grace"):
        await asyncio.sleep(0.5)
        await until(waits)
        await handle.approve(by=by)
    await handle.result()


@scenario()
async def campaign_rejected(engine: Engine) -> None:
    """Somebody says no."""
    handle = await campaign(engine, await engine.app(10), "campaign-rejected", approval=Approval())
    await asyncio.sleep(0.5)
    await handle.reject("not like this", by="ada")
    await ended(handle.workflow)


@scenario()
async def campaign_expired(engine: Engine) -> None:
    """Nobody says anything."""
    approval = Approval(within="2s")
    handle = await campaign(engine, await engine.app(10), "campaign-expired", approval=approval)
    await ended(handle.workflow)


@scenario()
async def campaign_cancelled(engine: Engine) -> None:
    """Cancelled in its first stage; the second is never opened."""
    app = await engine.app(2_000, rate=200)
    handle = await campaign(engine, app, "campaign-cancelled", stages=STAGES)
    push = Push(engine, engine.clarion.push("campaign-cancelled.pilot"))
    await until(lambda: push.row("push_no"))
    await push.accepted(20)
    await handle.pause("look")
    await handle.resume()
    await handle.cancel(reason="wrong")
    await ended(handle.workflow)


@scenario()
async def campaign_request_cancelled(engine: Engine) -> None:
    """Temporal's own cancellation, while it waits and while it sends."""
    waiting = await campaign(engine, await engine.app(10), "campaign-request-cancelled", send_at=soon(3_600))
    await asyncio.sleep(0.5)
    await waiting.workflow.cancel()
    await ended(waiting.workflow)
    app = await engine.app(1_500, rate=300)
    sending = await campaign(engine, app, "campaign-request-cancelled-2")
    push = Push(engine, engine.clarion.push("campaign-request-cancelled-2"))
    await until(lambda: push.row("push_no"))
    await push.accepted(20)
    await sending.workflow.cancel()
    await ended(sending.workflow)


@scenario()
async def campaign_orphaned(engine: Engine) -> None:
    """Its push is terminated and started again: it follows the books."""
    app = await engine.app(1_500, rate=600)
    handle = await campaign(engine, app, "campaign-orphaned")
    push = Push(engine, engine.clarion.push("campaign-orphaned"))
    await until(lambda: push.row("push_no"))
    await push.accepted(50)
    await push.handle.workflow.terminate("by hand")
    app.sender.rate = float("inf")
    await push.handle.restart()
    await ended(handle.workflow)


@scenario()
async def campaign_failed(engine: Engine) -> None:
    """Somebody has taken the id of its push; and an app that there is not."""
    app = await engine.app(10)
    await (await app.push(id="campaign-failed", pace=7)).result()
    for id, name in (("campaign-failed", app.name), ("campaign-failed-app", "nobody")):
        spec = {"app": name, "message": MESSAGE.canonical(), "audience": {"everybody": True}}
        await ended(await engine.start_raw(names.CAMPAIGN_WORKFLOW, names.campaign_workflow_id(id), spec))


@scenario()
async def campaign_rescheduled(engine: Engine) -> None:
    """Edited and moved while it waits for its time."""
    handle = await campaign(engine, await engine.app(20), "campaign-rescheduled", send_at=soon(3_600))
    await asyncio.sleep(0.5)
    await handle.edit_message(CORRECTED, "a typo")
    await handle.reschedule(soon(2))
    await ended(handle.workflow)


# ── words to FCM topics ───────────────────────────────────────────────────────────────────────────────────


@scenario()
async def topic(engine: Engine) -> None:
    """Subscribed, sent to, unsubscribed; and words to an app that there is not."""
    with tempfile.TemporaryDirectory() as place:
        async with Sandbox(Path(place)) as sandbox, process(engine.db) as lanes:
            await _phones(engine, sandbox)
            done = Topics(engine.db, lanes, SEAL)
            async with runtime.topic_worker(engine.client, done):
                await _words_to_topics(engine)


async def _phones(engine: Engine, sandbox: Sandbox) -> None:
    await app_at(sandbox, engine.db)
    intake = await Intake.load(engine.db, await apps.get(engine.db, "shop"))
    fields = [
        {"user_id": f"u{n}", "platform": "android", "token": token}
        for n, token in enumerate(fcm_tokens(2, first=1))
    ]
    await devices.register(engine.db, await Locales.load(engine.db), intake, fields)


async def _words_to_topics(engine: Engine) -> None:
    change = TopicChange(app="shop", topic="news", users=("u0", "u1", "nobody"))
    await engine.clarion.subscribe(change, id="topic-subscribed")
    await engine.clarion.send_topic(TopicSend(app="shop", topic="news", message=MESSAGE), id="topic-sent")
    leaving = change.model_copy(update={"subscribe": False})
    await engine.clarion.subscribe(leaving, id="topic-unsubscribed")
    for id, workflow, word in (
        ("topic-send-failed", names.TOPIC_SEND_WORKFLOW, {"topic": "news", "message": MESSAGE.canonical()}),
        ("topic-change-failed", names.TOPIC_CHANGE_WORKFLOW, {"topic": "news", "users": ["u0"]}),
    ):
        body = {"app": "nowhere", **word}
        await ended(await engine.start_raw(workflow, names.topic_workflow_id(id), body))


# ── recording ─────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.asynccontextmanager
async def engine_on(databases: Databases, *, continuing: bool) -> AsyncIterator[Engine]:
    """Servers of their own."""
    url = await databases.migrated()
    db = await Database.connect(url, max_size=16)
    async with (
        running_temporal(suggest_continue_as_new=50 if continuing else None) as server,
        running_engine(db, server.address) as engine,
    ):
        yield engine
    await db.close()


async def keep(engine: Engine, wanted: set[str]) -> int:
    """Keep what the scenarios left: of each workflow its first two runs and its last one."""
    kept = 0
    for id, runs in sorted((await _runs(engine)).items()):
        if not _belongs(id, wanted):
            continue
        for number, run_id in _first_and_last(runs):
            handle = engine.client.get_workflow_handle(id, run_id=run_id)
            histories.write(await handle.fetch_history(), histories.file_of(id, number))
            kept += 1
    return kept


async def _runs(engine: Engine) -> dict[str, list[str]]:
    """The runs of every workflow, the oldest first."""
    found: dict[str, list[tuple[datetime, str]]] = {}
    async for one in engine.client.list_workflows():
        found.setdefault(one.id, []).append((one.start_time, one.run_id))
    return {id: [run for _, run in sorted(runs)] for id, runs in found.items()}


def _belongs(id: str, wanted: set[str]) -> bool:
    """Of batches and pushes that went the same way as others the first is enough."""
    kind, _, rest = id.partition("/")
    push, _, child = rest.partition("/")
    name = next((name for name in sorted(wanted, reverse=True) if push.startswith(name)), None)
    if name is None or (kind == "push" and name.startswith("campaign") and push not in OF_CAMPAIGNS):
        return False
    return not child or (child in ("b0", "r0") and name not in USUAL) or id in ("push/unlucky/b1",)


def _first_and_last(runs: list[str]) -> list[tuple[int, str]]:
    numbered = list(enumerate(runs, start=1))
    return numbered if len(numbered) <= 3 else [*numbered[:2], numbered[-1]]


async def record(wanted: set[str]) -> int:
    """Live through the scenarios and keep their histories; how many."""
    kept = 0
    async with running_databases() as databases:
        for continuing in (False, True):
            chosen = {name for name in wanted if (name in CONTINUING) is continuing}
            if not chosen:
                continue
            async with engine_on(databases, continuing=continuing) as engine:
                for name in sorted(chosen):
                    print(name, flush=True)
                    await SCENARIOS[name](engine)
                await asyncio.sleep(1.5)  # until the list of workflows knows the last ones
                kept += await keep(engine, chosen)
    return kept


def main() -> None:
    """Record all of them anew, or those that are named."""
    wanted = set(sys.argv[1:]) or set(SCENARIOS)
    if unknown := wanted - set(SCENARIOS):
        sys.exit(
            f"recording: no such scenario: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}"
        )
    for file in histories.PLACE.glob("*.json"):
        if len(sys.argv) == 1:
            file.unlink()
    print(f"{asyncio.run(record(wanted))} histories kept in {histories.PLACE.name}/")


if __name__ == "__main__":
    main()
