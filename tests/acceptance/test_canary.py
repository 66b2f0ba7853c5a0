"""What a real stack tells about itself: sums that equal the ledger's, one trace, and not one secret.

Canaries go through everything: a device's token, a message, a user's attribute; with them are looked for the
signing keys of the three credentials, the key that seals them, and the tokens made with them. The two stated
exceptions, a raw start with its message inline and a raw edit_message, are not made here.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import re
import time
import urllib.request
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import yaml
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client.parser import text_string_to_metric_families
from temporalio.client import Client

from clarion import limits
from clarion.client import Clarion, PushHandle
from clarion.model.audience import Audience
from clarion.model.message import Message, Text
from clarion.model.spec import CampaignSpec, PushSpec
from clarion.seal import Seal
from clarion.store import credentials
from clarion.store.database import Database
from tests.acceptance.field import Field
from tests.support.spans import Collector, collecting
from tests.support.stack import Stack, running_stack

METRIC = re.compile(r"\b(?:push|clarion|process|temporal)_[a-z_]+")
DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TITLE = "canary-title-5f1d"
BODY = 'canary-body-77ac for {{ user.nickname | default: "you" }}'
EDITED = "canary-edited-0b3e"
ATTRIBUTE = "canary-attribute-91e2"
APNS_TOKEN = "ca9a" * 16
FCM_TOKEN = f"canaryTokenOfFcm4412:APA91b{'cAnArY' * 20}"
MESSAGE = Message(texts={"default": Text(title=TITLE, body=BODY)})
STATUS = {
    "accepted": "success",
    **dict.fromkeys(("rejected", "dead", "in_doubt"), "failed"),
    **{name: name for name in ("suppressed", "expired", "cancelled")},
}


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    """Where the stack sends its spans."""
    with collecting() as found:
        yield found


@pytest.fixture(scope="module")
async def told(collector: Collector) -> AsyncIterator[Field]:
    """A stack of its own, traced, with the canaries among its devices."""
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "500"}
    async with running_stack(environment=environment) as stack:
        field = await Field.make(stack)
        file = stack.data.parent / "canaries.jsonl"
        file.write_text("".join(json.dumps(device) + "\n" for device in _canaries()))
        await stack.cli("devices", "import", "demo", file)
        yield field


def _canaries() -> Iterator[dict[str, Any]]:
    for n, (provider, platform, token) in enumerate(
        (("apns", "ios", APNS_TOKEN), ("fcm", "android", FCM_TOKEN))
    ):
        yield {
            "user_id": f"canary{n}",
            "platform": platform,
            "provider": provider,
            "token": token,
            "attributes": {"nickname": ATTRIBUTE},
        }


def pages(stack: Stack) -> dict[str, bytes]:
    """The metrics page of every process."""
    found = {}
    for name, port in stack.facts["metrics"].items():
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            found[name] = answer.read()
    return found


def summed(stack: Stack, name: str) -> Counter[tuple[str, ...]]:
    """A metric over all processes, by the values of its labels in the order of their names."""
    found: Counter[tuple[str, ...]] = Counter()
    for page in pages(stack).values():
        for family in text_string_to_metric_families(page.decode()):
            for one in family.samples:
                if one.name == name:
                    found[tuple(one.labels[label] for label in sorted(one.labels))] += int(one.value)
    return +found


async def ledger(stack: Stack) -> tuple[Counter[tuple[str, ...]], int]:
    """The same from the ledger: (platform, priority, status), and what was retired."""
    async with stack.database() as db:
        rows = await db.fetch(
            "select c.provider, p.priority, t.* from push p join push_counts t using (push_no)"
            " join credential c on c.app_no = p.app_no and c.lane = t.lane"
        )
        retired = await db.fetchval("select sum(retired) from push")
    found: Counter[tuple[str, ...]] = Counter()
    platforms = {"apns": "ios", "fcm": "android", "webpush": "web"}
    priorities = {1: "high", 3: "normal", 5: "low"}
    for row in rows:
        for state, status in STATUS.items():
            found[platforms[row["provider"]], priorities[row["priority"]], status] += int(row[state])
    return +found, retired


async def closed(stack: Stack, *ids: str, seconds: float = 120.0) -> None:
    """Wait until these pushes are closed."""
    async with stack.database() as db, asyncio.timeout(seconds):
        while await db.fetchval(  # noqa: ASYNC110  # rows
            "select count(*) from push where push_id = any($1::text[]) and closed_at is not null", list(ids)
        ) < len(ids):
            await asyncio.sleep(0.1)


@pytest.fixture(scope="module")
async def busy(told: Field) -> Field:
    """It, after pushes at two priorities: accepted, retired, tried again, cancelled, expired."""
    stack = told.stack
    await stack.sandbox("POST", "/dead", {"share": 0.02, "seed": 1})
    await stack.sandbox("POST", "/faults", {"provider": "fcm", "status": 503, "share": 0.03, "for": 5})
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 6))
    late = await told.start(pace=500, deadline=soon)
    high = await told.start(priority="high", pace=2_000)
    whole = await told.start()
    await high.until(0.1)
    async with high.handle() as handle:
        await handle.cancel()
    await closed(stack, whole.id, high.id, late.id)
    await stack.sandbox("POST", "/clear")
    return told


async def test_the_sums_of_all_processes_equal_the_ledgers(busy: Field) -> None:
    """Whatever became of a delivery, and at which priority."""
    stack = busy.stack
    expected, retired = await ledger(stack)

    assert {status for _, _, status in expected} >= {"success", "failed", "cancelled", "expired"}
    assert {priority for _, priority, _ in expected} == {"high", "normal"}
    assert summed(stack, "push_notifications_total") == expected
    assert sum(summed(stack, "push_invalid_tokens_total").values()) == retired > 0
    waits = sum(summed(stack, "push_notification_latency_seconds_count").values())
    answers = sum(n for (_, _, status), n in expected.items() if status in ("success", "failed"))
    assert answers <= waits <= answers * 1.1  # what was tried again is timed again


async def test_one_process_says_what_is_pending(told: Field) -> None:
    """The rows that a paused push has left, from one page of all."""
    push = await told.start(pace=1_000)
    await push.until(0.05)
    async with push.handle() as handle:
        await handle.pause()
    await asyncio.sleep(limits.GRANT_SECONDS + 0.5)
    expected = {("normal",): (await push.counts())["open"]}
    async with asyncio.timeout(20):
        while summed(told.stack, "push_pending_messages") != expected:  # noqa: ASYNC110  # pages
            await asyncio.sleep(0.2)
    voices = [name for name, page in pages(told.stack).items() if b"\npush_pending_messages{" in page]

    assert voices == ["control"]
    async with push.handle() as handle:
        await handle.cancel()
    await closed(told.stack, push.id)


async def test_every_process_shows_its_event_loop_and_temporals_metrics(told: Field) -> None:
    """On one page each."""
    found = pages(told.stack)
    found.pop("temporal")  # the server's own

    assert {"control", "sender-1", "sender-high"} <= found.keys()
    for page in found.values():
        assert b"\nclarion_event_loop_delay_seconds " in page
        assert b"\ntemporal_" in page
        assert b"\nprocess_resident_memory_bytes " in page


def deployed() -> dict[str, set[str]]:
    """The metric names that rules and dashboard ask for, by file."""
    rules = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())
    asked = [rule["expr"] for group in rules["groups"] for rule in group["rules"]]
    board = json.loads((DEPLOY / "grafana" / "clarion.json").read_text())
    shown = [target["expr"] for panel in board["panels"] for target in panel["targets"]]
    return {
        what: {name for one in expressions for name in METRIC.findall(one)}
        for what, expressions in (("alerts.yml", asked), ("clarion.json", shown))
    }


async def test_rules_and_dashboard_ask_for_metrics_that_there_are(busy: Field) -> None:
    """Each name stands on a page of the running stack, but the count of failures that there were none of."""
    there = {
        line.split(b"{")[0].split(b" ")[0].decode()
        for page in pages(busy.stack).values()
        for line in page.splitlines()
        if not line.startswith(b"#")
    }

    for file, names in deployed().items():
        assert len(names) >= 5, file
        assert names - there <= {"temporal_workflow_task_execution_failed_total"}, file


async def test_no_canary_is_found_anywhere(told: Field, collector: Collector) -> None:
    """Histories, memos, search attributes, logs, metrics and spans, after starts, words and failures."""
    stack, facts = told.stack, told.stack.facts
    provider = TracerProvider()
    exporter = _exporter(collector)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    async with await Clarion.connect(
        facts["temporal_address"],
        namespace=facts["namespace"],
        database_url=facts["database_url"],
        traced=True,
    ) as clarion:
        await _go_through_everything(told, clarion)
        histories, kept = await _temporal(clarion.temporal)
        db = clarion.db
        assert db is not None
        secrets = await _secrets(db, facts)
        provider.shutdown()
    await asyncio.sleep(1.5)  # the stack's spans leave every half second
    logs = {str(path): path.read_bytes() for path in _logs(stack)}

    assert len(histories) >= 5
    assert len(logs) >= 5
    spans = {span.name for span in collector.spans()}
    assert {"StartWorkflow:PushWorkflow", "RunWorkflow:PushWorkflow", "RunActivity:send_batch"} <= spans
    assert "Attempt" in spans
    places: dict[str, bytes] = {
        **histories,
        **kept,
        **logs,
        **{f"metrics of {name}": page for name, page in pages(stack).items()},
        "spans": b"".join(collector.bodies),
    }
    assert [
        f"{what} in {where}"
        for where, text in places.items()
        for what, one in secrets
        if one.encode() in text
    ] == []
    _is_one_trace(collector)
    # The search finds what is there: ids travel everywhere, and the canaries reached their phones.
    assert sum(b"canary-push" in text for text in places.values()) > 5
    assert b"canary-push" in places["spans"]
    assert FCM_TOKEN.encode() in stack.log.read_bytes()


def _exporter(collector: Collector) -> Any:
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    return OTLPSpanExporter(endpoint=f"{collector.url}/v1/traces")


async def _go_through_everything(told: Field, clarion: Clarion) -> None:
    """Starts, words, dead canaries, bad answers, a killed database, a credential that is refused."""
    stack = told.stack
    everybody = Audience(everybody=True)
    campaign = await clarion.start_campaign(
        CampaignSpec(app="demo", message=MESSAGE, audience=everybody, pace=3_000), id="canary-campaign"
    )
    await _sent(stack, "canary-campaign", 1_000)
    await campaign.edit_message(Message(texts={"default": Text(title=EDITED, body=BODY)}), "edited")
    await campaign.set_pace(None)
    for fault in (
        {"provider": "apns", "status": 500, "share": 0.05, "for": 2},
        {"provider": "fcm", "black_hole": "request", "share": 0.02, "for": 1},
    ):
        await stack.sandbox("POST", "/faults", fault)
    stack.kill(stack.facts["pids"]["postgres"])
    await closed_again(stack, "canary-campaign")
    await stack.sandbox("POST", "/clear")

    for address in (APNS_TOKEN, FCM_TOKEN):
        await stack.sandbox("POST", "/dead", {"tokens": [address]})
    few = Audience(users=("canary0", "canary1", *(f"u{n:08d}" for n in range(90))))
    one = await clarion.schedule_push(PushSpec(app="demo", message=MESSAGE, audience=few), id="canary-push")
    await one.result()
    await one.retry(("rejected",))
    await stack.sandbox("POST", "/faults", {"provider": "apns", "reject_credential": True})
    blocked = await clarion.schedule_push(
        PushSpec(app="demo", message=MESSAGE, audience=few), id="canary-blocked"
    )
    await asyncio.sleep(3)
    await blocked.cancel()
    await _ended(blocked)
    await stack.sandbox("POST", "/clear")
    await stack.cli("push", "unblock", "canary-blocked", check=False)
    await stack.cli("push", "explain", "canary-push", "canary0", check=False)


async def _ended(handle: PushHandle) -> None:
    async with asyncio.timeout(60):
        await handle.result()


async def _sent(stack: Stack, push_id: str, at_least: int) -> None:
    accepted = (
        "select coalesce(sum(accepted), 0) from push_counts join push using (push_no) where push_id = $1"
    )
    async with stack.database() as db, asyncio.timeout(60):
        while await db.fetchval(accepted, push_id) < at_least:  # noqa: ASYNC110  # rows
            await asyncio.sleep(0.1)


async def closed_again(stack: Stack, push_id: str) -> None:
    """Wait for the end over a restart of the database."""
    end = time.monotonic() + 120
    while time.monotonic() < end:
        try:
            await closed(stack, push_id, seconds=end - time.monotonic())
            return
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            await asyncio.sleep(0.5)
    raise AssertionError(f"{push_id} was not closed")


async def _temporal(client: Client) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Every history, decoded, and what visibility keeps of each workflow."""
    histories, kept = {}, {}
    async for execution in client.list_workflows():
        handle = client.get_workflow_handle(execution.id, run_id=execution.run_id)
        events = [event async for event in handle.fetch_history_events()]
        raw = b"".join(event.SerializeToString() for event in events)
        histories[f"history of {execution.id} {execution.run_id}"] = raw + b"".join(_unpacked(raw))
        described = await handle.describe()
        kept[f"memo and attributes of {execution.id}"] = described.raw_description.SerializeToString()
    return histories, kept


def _unpacked(raw: bytes) -> Iterator[bytes]:
    """Whatever in it was compressed."""
    at = raw.find(b"\x1f\x8b")
    while at >= 0:
        with suppress(OSError, EOFError):
            yield gzip.decompress(raw[at:])
        at = raw.find(b"\x1f\x8b", at + 2)


async def _secrets(db: Database, facts: dict[str, Any]) -> list[tuple[str, str]]:
    """What must be found nowhere: the canaries, as they are and in base64, and every key and token."""
    canaries = {
        "the APNs token": APNS_TOKEN,
        "the FCM token": FCM_TOKEN,
        "the title": TITLE,
        "the body": "canary-body-77ac",
        "the edited title": EDITED,
        "the attribute": ATTRIBUTE,
    }
    found = list(canaries.items())
    found += [(f"{what} in base64", base64.b64encode(one.encode()).decode()[:-4]) for what, one in found]
    sealing = Path(facts["key_file"]).read_text().split()  # noqa: ASYNC240  # a test
    found += [("the sealing key", key) for key in sealing]
    seal = Seal.load(key_file=facts["key_file"])
    for row in await db.fetch("select app_no, lane, name from credential where secret is not null"):
        known = await credentials.load(db, seal, row["app_no"], row["lane"])
        pem = known.secret["private_key"].strip().splitlines()
        found.append((f"the key of {row['name']}", pem[len(pem) // 2]))
    for row in await db.fetch("select * from provider_token where token is not null"):
        place = f"token {row['app_no']}.{row['lane']}.{row['purpose']}"
        found.append((place, seal.open(row["token"], place).decode()))
    assert sum(what.startswith("token ") for what, _ in found) >= 2
    return found


def _logs(stack: Stack) -> Iterator[Any]:
    """Everything that its processes wrote for people; the sandbox's request log is the phones' side."""
    yield stack.data.parent / f"{stack.data.name}.log"
    yield from (path for path in stack.data.rglob("*.log") if path.is_file())


def _is_one_trace(collector: Collector) -> None:
    """The starter's span is the root of the workflow's, the activity's and the attempt's."""
    by_trace: dict[bytes, set[str]] = {}
    for span in collector.spans():
        by_trace.setdefault(span.trace_id, set()).add(span.name)
    wanted = {f"RunWorkflow:{one}Workflow" for one in ("Push", "Batch")} | {
        "RunActivity:send_batch",
        "Attempt",
    }
    whole = [names for names in by_trace.values() if "StartWorkflow:PushWorkflow" in names]
    assert any(wanted <= names for names in whole)
