"""Real senders against the sandbox: an app with credentials for it, and a desk that keeps the outcomes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from clarion.model.message import Message, Text
from clarion.sandbox.credentials import TOPIC
from clarion.sandbox.sandbox import Sandbox
from clarion.seal import Seal
from clarion.senders.lanes import Lanes
from clarion.senders.outcome import Outcome
from clarion.senders.sender import PushFacts, Sender
from clarion.store import apps, credential_check, credentials
from clarion.store.database import Database

PUSH = PushFacts(1, "spring", "shop", "clarion-1", high=False, deadline=None)
HELLO = Message(texts={"default": Text(title="Hello", body="there")})
SEAL = Seal([b"k" * 32])


class Clock:
    """The machine's clock, set wrong by `wrong` seconds, `skipped` seconds later on."""

    def __init__(self, wrong: float = 0.0) -> None:
        self.wrong, self.skipped = wrong, 0.0

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return time.monotonic() + self.skipped

    def time(self) -> float:
        """What this machine takes for the time."""
        return time.time() + self.wrong + self.skipped

    def now(self) -> datetime:
        """The same as a datetime."""
        return datetime.fromtimestamp(self.time(), UTC)


def apns_tokens(count: int, first: int = 0) -> list[str]:
    """Device tokens as Apple makes them."""
    return [f"{number:064x}" for number in range(first, first + count)]


def fcm_tokens(count: int, first: int = 0) -> list[str]:
    """Registration tokens as Google makes them."""
    return [f"{number:022d}:APA91b_x-y" for number in range(first, first + count)]


async def send(
    sender: Sender, tokens: Sequence[str], message: Message = HELLO, *, push: PushFacts = PUSH, **more: Any
) -> list[Outcome]:
    """Send to these, one attempt each, as fast as there is room; the outcomes in the same order."""
    outcomes: dict[int, Outcome] = {}
    news = asyncio.Event()

    def answered(key: int, outcome: Outcome) -> None:
        assert key not in outcomes, "told twice"
        outcomes[key] = outcome
        news.set()

    values: dict[str, Any] = {"locale": "", "variant": 0, "values": None} | more
    stop = sender.when_room(news.set)
    prepared = sender.prepare(push, message)
    posted = 0
    async with asyncio.timeout(15):
        while len(outcomes) < len(tokens):
            news.clear()
            for _ in range(min(sender.room(), len(tokens) - posted)):
                sender.post(prepared, posted, posted + 1, tokens[posted], answered=answered, **values)
                posted += 1
            sender.flush()
            if len(outcomes) < len(tokens):
                await news.wait()
    stop()
    return [outcomes[key] for key in range(len(tokens))]


async def app_at(sandbox: Sandbox, db: Database, *topics: str) -> int:
    """An app whose APNs lanes (one per topic) and FCM lane, the last, lead to the sandbox; its number."""
    app = await apps.create(db, "shop")
    settings = {"ca": sandbox.authority.ca_path.read_text()}
    known = sandbox.credentials.apns
    token = credential_check.apns_token(
        known["private_key"], key_id=known["key_id"], team_id=known["team_id"]
    )
    place: dict[str, Any] = {"settings": settings, "endpoint": f"https://127.0.0.1:{sandbox.ports()['apns']}"}
    for topic in topics or (TOPIC,):
        sandbox.keys.topics.add(topic)
        new = credentials.new_apns(topic, token, topic=topic, environment="sandbox", **place)
        await credentials.add(db, SEAL, app.app_no, new)
    place["endpoint"] = f"https://127.0.0.1:{sandbox.ports()['fcm']}"
    account = credential_check.fcm(sandbox.credentials.fcm)
    await credentials.add(db, SEAL, app.app_no, credentials.new_fcm("fcm", account, **place))
    return app.app_no


async def empty(db: Database) -> Database:
    """Without apps and tokens: a fresh database for each test would cost most of its time."""
    await db.execute("truncate app, credential, credential_state, provider_token restart identity cascade")
    return db


async def restore(sandbox: Sandbox) -> None:
    """As it was when it started: no faults, nobody dead, the right time."""
    await sandbox.clear()
    sandbox.revive()
    sandbox.change({"clock": 0.0, "apns_streams": 1000, "fcm_streams": 100})
    sandbox.oauth.forget()
    for vendor in sandbox.vendors.values():
        vendor.forget()
    sandbox.keys._tokens.clear()
    sandbox.reset_counts()


@asynccontextmanager
async def process(db: Database, clock: Clock | None = None) -> AsyncIterator[Lanes]:
    """The lanes of one sender process."""
    lanes = Lanes(db, SEAL, clock or Clock())
    try:
        yield lanes
    finally:
        await lanes.close()


def jwts(sandbox: Sandbox) -> int:
    """How many different provider tokens Apple has seen."""
    return len(sandbox.keys._tokens)


def oauth_calls(sandbox: Sandbox) -> int:
    """How often an access token was asked for."""
    return sandbox.shared.tallies["oauth"].kinds.total()
