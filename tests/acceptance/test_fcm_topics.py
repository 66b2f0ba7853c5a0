"""FCM topics on the whole stack, as an operator says them: subscribe, send, unsubscribe, send again."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.field import Field

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


def androids(field: Field, count: int) -> list[dict[str, Any]]:
    """The first ones in the file of devices."""
    with field.file.open(encoding="utf-8") as lines:
        found = (fields for line in lines if (fields := json.loads(line))["provider"] == "fcm")
        return list(itertools.islice(found, count))


async def titles(field: Field, device: dict[str, Any]) -> list[str]:
    """What the phone has been shown."""
    shown = await field.stack.sandbox("GET", f"/shown/{device['token']}")
    return [one["title"] for one in shown["shown"]]


async def test_a_topic_reaches_who_is_subscribed(field: Field, tmp_path: Path) -> None:
    """One leaves before the second message; there is an audit row for each word, and no push."""
    stays, leaves, never = androids(field, 3)
    before = [await titles(field, device) for device in (stays, leaves, never)]

    async def fcm(*words: str) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(await field.stack.cli("fcm", *words, "--json"))
        return answer

    async def send(title: str) -> dict[str, Any]:
        message = tmp_path / "message.yaml"
        message.write_text(json.dumps({"texts": {"default": {"title": title}}}))
        return await fcm("send-topic", "demo", str(message), "--topic", "line-5")

    both = ("--user", stays["user_id"], "--user", leaves["user_id"])
    assert (await fcm("subscribe", "demo", "line-5", *both))["changed"] == 2
    assert await send("First") == {"accepted": True, "reason": ""}
    assert (await fcm("unsubscribe", "demo", "line-5", "--user", leaves["user_id"]))["changed"] == 1
    assert await send("Second") == {"accepted": True, "reason": ""}

    new = [
        (await titles(field, device))[len(old) :]
        for device, old in zip((stays, leaves, never), before, strict=True)
    ]
    assert new == [["First", "Second"], ["First"], []]
    async with field.stack.database() as db:
        rows = await db.fetch("select what, push_no from audit where way = 'topic' order by at")
    assert [tuple(row) for row in rows[-4:]] == [
        (what, None) for what in ("subscribe", "send-topic", "unsubscribe", "send-topic")
    ]
