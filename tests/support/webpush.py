"""Web Push against the sandbox: an app with a VAPID key, its subscriptions, and what the services noted."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Any, cast

from clarion.model.audience import Audience
from clarion.model.message import Message
from clarion.model.spec import PushSpec
from clarion.sandbox.front import Listener
from clarion.sandbox.sandbox import Sandbox
from clarion.sandbox.webpush import subscription
from clarion.sandbox.webpush_service import WebPush
from clarion.senders.lanes import Lanes
from clarion.senders.link import Surroundings
from clarion.senders.outcome import ACCEPTED
from clarion.senders.webpush import WebPushSender
from clarion.store import address, apps, credential_check, credentials
from clarion.store import push as pushes
from clarion.store.credentials import Credential
from clarion.store.database import Database
from tests.support.senders import SEAL, Clock, send

HERE = ["127.0.0.0/8", "::1/128"]


async def browser_app(
    sandbox: Sandbox, db: Database, *, allow: Sequence[str] = HERE, name: str = "shop"
) -> int:
    """An app whose lane 1 is the sandbox's VAPID key; its number."""
    app = await apps.create(db, name)
    await add_key(sandbox, db, app.app_no, "web", sandbox.credentials.webpush["private_key"], allow=allow)
    return app.app_no


async def add_key(
    sandbox: Sandbox,
    db: Database,
    app_no: int,
    name: str,
    private_key: str | None = None,
    *,
    allow: Sequence[str] = HERE,
) -> str:
    """One more lane with a key of its own; its public key."""
    checked = credential_check.webpush(subject="mailto:push@clarion.example", private_key=private_key)
    settings = {"ca": sandbox.authority.ca_path.read_text(), "allow": list(allow)}
    await credentials.add(db, SEAL, app_no, credentials.new_webpush(name, checked, settings=settings))
    return str(checked.secret["public_key"])


def credential(sandbox: Sandbox, *, allow: Sequence[str] = HERE) -> Credential:
    """The sandbox's VAPID key as a lane has it."""
    secret = {**sandbox.credentials.webpush, "subject": "mailto:push@clarion.example"}
    settings = {"ca": sandbox.authority.ca_path.read_text(), "allow": list(allow)}
    return Credential(1, 1, "web", "webpush", None, None, None, settings, inf, 1, secret)


@asynccontextmanager
async def browser_sender(
    sandbox: Sandbox, clock: Clock | None = None, *, allow: Sequence[str] = HERE
) -> AsyncIterator[WebPushSender]:
    """A sender by itself; at its end it owes nobody an answer. It asks no database for anything."""
    around = Surroundings(cast(Database, None), SEAL, clock or Clock())
    sender = WebPushSender(credential(sandbox, allow=allow), around)
    yield sender
    await sender.close()
    assert sender.out == sender.parked == 0


async def sender_of(lanes: Lanes, app_no: int, lane: int = 1) -> WebPushSender:
    """The Web Push sender of a lane."""
    sender = await lanes.get(app_no, lane)
    assert isinstance(sender, WebPushSender)
    return sender


async def push_to(db: Database, app: str, stored: Sequence[str], message: Message) -> tuple[int, int]:
    """Register these, one user each, and freeze a push to them: its number and its only batch."""
    await db.execute(
        "insert into usr (app_no, user_id) select app_no, t from app, unnest($2::text[]) t where name = $1",
        app,
        stored,
    )
    await db.execute(
        "insert into device (app_no, installation, user_no, platform)"
        " select app_no, gen_random_uuid(), user_no, 3 from usr"
    )
    await db.execute(
        "insert into registration (device_no, user_no, app_no, lane, token)"
        " select device_no, user_no, app_no, 1, user_id from device join usr using (app_no, user_no)"
    )
    spec = PushSpec(app=app, message=message, audience=Audience(everybody=True))
    opened = await pushes.open_push(db, spec, "p1")
    plan = await pushes.plan(db, opened.push_no)
    for range_no in range(plan.ranges):
        await pushes.freeze(db, opened.push_no, range_no)
    batch = await db.fetchval("select batch from batch where push_no = $1", opened.push_no)
    return opened.push_no, int(batch)


async def send_until_sent(sender: WebPushSender, stored: Sequence[str]) -> None:
    """Send to all, again to those that found no room in time: told so, surely not sent."""
    left = list(stored)
    async with asyncio.timeout(15):
        while left:
            outcomes = await send(sender, left)
            assert {o.reason for o in outcomes if o is not ACCEPTED} <= {"clarion:not_sent"}
            left = [one for one, outcome in zip(left, outcomes, strict=True) if outcome is not ACCEPTED]


def token(n: int, origin: str, key: str | None = None) -> str:
    """Subscription n at an origin as it is stored."""
    return address.from_subscription(subscription(n, origin, key))


def tokens(sandbox: Sandbox, count: int, origins: Iterable[int] = (0,), *, first: int = 0) -> list[str]:
    """So many at each of these origins, mixed; no two tests of a session have the same `first`."""
    places = [sandbox.webpush[origin].url for origin in origins]
    numbers = itertools.count(first * 1_000)
    return [token(next(numbers), place) for _ in range(count) for place in places]


def segment(stored: str) -> str:
    """What the log calls a stored subscription."""
    return stored.split(" ")[0].rsplit("/", 1)[1]


def noted(sandbox: Sandbox, stored: Sequence[str]) -> list[dict[str, Any]]:
    """The log's lines about these subscriptions."""
    sandbox.log.flush()
    wanted = {segment(one) for one in stored}
    lines = [json.loads(line) for line in sandbox.log.path.read_text().splitlines()]
    return [line for line in lines if line["provider"] == "webpush" and line["token"] in wanted]


def times_noted(sandbox: Sandbox, stored: Sequence[str]) -> Counter[str]:
    """How many requests each of these had."""
    return Counter(line["token"] for line in noted(sandbox, stored))


@asynccontextmanager
async def plain_service(sandbox: Sandbox, protocols: Sequence[str] = ("http/1.1",)) -> AsyncIterator[WebPush]:
    """One more origin, number 3, which speaks HTTP/1.1 only."""
    service = WebPush(sandbox.shared, 3, "rfc")
    tls = sandbox.authority.server_context(list(protocols))
    listener = Listener(service.plain, service.plain, tls)
    await listener.open()
    service.listens_at(listener.port)
    yield service
    listener.close()
    for conn in list(service.connections):
        conn.close()
