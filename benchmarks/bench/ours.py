"""Our own senders in a race: the product's APNs, FCM and Web Push senders, rendering and outcomes included.

    python -m benchmarks.bench.ours apns|fcm|webpush    (the task on standard input)

The authorization is given instead of being shared through PostgreSQL; all else is as in a sender process.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

import uvloop

from benchmarks.webpush import Run
from clarion.clock import SYSTEM_CLOCK
from clarion.model.message import Message, Text
from clarion.seal import Seal
from clarion.senders import tokens
from clarion.senders.apns import ApnsSender
from clarion.senders.fcm import FcmSender
from clarion.senders.lanes import KeptSender
from clarion.senders.link import Access, Surroundings
from clarion.senders.webpush import WebPushSender
from clarion.store import address, credential_check
from clarion.store.credentials import Credential
from clarion.store.database import Database


@dataclass(frozen=True)
class Given:
    """An authorization that is there already."""

    token: str

    async def obtain(self, refused: str | None = None) -> str:
        """The string."""
        return self.token


class Apns(ApnsSender):
    """The sender with a provider token of its own."""

    token = ""

    def access_of(self, credential: Credential) -> Access:
        """Apple's place, under the token made before."""
        return replace(super().access_of(credential), authorization=Given(self.token))


class Fcm(FcmSender):
    """The sender with an access token of its own."""

    def access_of(self, credential: Credential) -> Access:
        """Google's place, under a token of the usual length."""
        return replace(super().access_of(credential), authorization=Given("y" * 220))


def _credential(task: dict[str, Any], provider: str, secret: dict[str, Any], **more: Any) -> Credential:
    settings = {"ca": Path(task["ca"]).read_text(), "allow": ["127.0.0.0/8"]}
    place = {"environment": None, "topic": None, "endpoint": task["url"]} | more
    return Credential(
        1, 1, provider, provider, settings=settings, ceiling=float("inf"), version=1, secret=secret, **place
    )


def _around() -> Surroundings:
    return Surroundings(cast(Database, None), Seal([b"k" * 32]))


async def apns(task: dict[str, Any]) -> KeptSender:
    """The APNs sender, and the JWT that it would share."""
    key = Path(task["key_file"]).read_text()
    secret = credential_check.apns_token(key, key_id=task["key_id"], team_id=task["team_id"]).secret
    Apns.token, _ = await tokens.jwt_mint(dict(secret), SYSTEM_CLOCK)()
    place = {"environment": "sandbox", "topic": task["topic"]}
    return Apns(_credential(task, "apns", dict(secret), **place), _around())


async def fcm(task: dict[str, Any]) -> KeptSender:
    """The FCM sender."""
    secret = json.loads(Path(task["account"]).read_text())
    return Fcm(_credential(task, "fcm", secret, topic=task["project"]), _around())


async def webpush(task: dict[str, Any]) -> KeptSender:
    """The Web Push sender under the key that all clients use."""
    secret = credential_check.webpush(private_key=task["vapid_private"], subject=task["subject"]).secret
    return WebPushSender(_credential(task, "webpush", dict(secret), endpoint=None), _around())


def addresses(kind: str, task: dict[str, Any], count: int) -> Sequence[str]:
    """Who is sent to: the same numbers in every client."""
    if kind == "apns":
        return [f"{n:064x}" for n in range(count)]
    if kind == "fcm":
        return [f"{n:022d}:APA91b{'x' * 123}" for n in range(count)]
    browsers = [address.from_subscription(one) for one in json.loads(Path(task["subscriptions"]).read_text())]
    return [browsers[n % len(browsers)] for n in range(count)]


SENDERS: Final = {"apns": apns, "fcm": fcm, "webpush": webpush}


async def race(kind: str, task: dict[str, Any]) -> dict[str, float]:
    """Warm up, send, and say what it cost."""
    sender = await SENDERS[kind](task)
    sender.start()
    message = Message(texts={"default": Text(title=task["title"], body=task["body"])})
    everybody = addresses(kind, task, max(task["warm"], task["requests"]))
    await Run(sender, everybody[: task["warm"]], message).all()
    count = task["requests"]
    measured = everybody[:count]
    began, used = time.monotonic(), time.process_time()
    refused = await Run(sender, measured, message).all()
    used, seconds = time.process_time() - used, time.monotonic() - began
    await sender.close()
    return {"cpu_us": used / count * 1e6, "rate": count / seconds, "failures": refused}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(race(sys.argv[1], json.load(sys.stdin)))))
