"""What aggregators are told: lifetimes in each one's unit, the class of a message, and what is warned of."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from clarion.errors import BadSpec
from clarion.model.message import Classification, Message, PushType, Text
from clarion.senders import getui, jpush_payload, umeng
from clarion.senders.check import check_message
from clarion.senders.sender import PushFacts

PUSH = PushFacts(1, "spring", "shop", "clarion-1", high=False, deadline=None)
TEXTS = {"default": Text(title="Hello", body="there")}
HELLO = Message(texts=TEXTS)


def jpush_options(message: Message, seconds: int | None) -> dict[str, Any]:
    """JPush's options."""
    body = jpush_payload.renderings(PUSH, message, seconds, production=True).body("", None)
    options: dict[str, Any] = orjson.loads(b"{" + body)["options"]
    return options


@pytest.mark.parametrize(
    ("seconds", "jpush", "milliseconds", "left"),
    [
        (None, None, None, b"-"),
        (0, 0, -1, b"60"),
        (3_600, 3_600, 3_600_000, b"3600"),
        (3_456_000, 259_200, 259_200_000, b"604740"),
    ],
)
def test_lifetimes(seconds: int | None, jpush: int | None, milliseconds: int | None, left: bytes) -> None:
    """C08: seconds, milliseconds, and what Umeng's time of day is made of; 40 days are cut."""
    settings = orjson.loads(b"{" + getui.contents(PUSH, HELLO, seconds).body("", None))["settings"]

    assert jpush_options(HELLO, seconds).get("time_to_live") == jpush
    assert settings.get("ttl") == milliseconds
    assert umeng.contents(PUSH, HELLO, seconds, "android").body("", None).split(b" ")[0] == left


def test_the_class_of_a_message() -> None:
    """What is not called service is operation, which nobody is punished for."""
    service = HELLO.model_copy(update={"classification": Classification.SERVICE})

    assert [jpush_options(one, None)["classification"] for one in (HELLO, service)] == [0, 1]
    assert [len(check_message(service, [name], 0.0)) for name in ("getui", "umeng")] == [1, 1]


def test_what_is_cut_or_left_out_is_said() -> None:
    """Before anything is sent, for each that it concerns."""
    long = Message(texts={"default": Text(title="t" * 51, subtitle="s", body="b")}, ttl=2_419_200, badge="+1")
    said = {name: check_message(long, [name], 0.0) for name in ("jpush", "getui", "umeng")}

    assert ["ttl" in " ".join(said[name]) for name in said] == [True] * 3
    assert any("subtitle" in words for words in said["jpush"])
    assert any("texts.default.title" in words for words in said["getui"])
    assert any("badge" in words for words in said["umeng"])


@pytest.mark.parametrize("provider", ["jpush", "getui", "umeng"])
def test_what_cannot_be_carried_is_refused(provider: str) -> None:
    """A push type that only Apple has is checked for Apple alone; here it is refused by the sender itself."""
    voip = HELLO.model_copy(update={"apns": HELLO.apns.model_copy(update={"push_type": PushType.VOIP})})
    makers = {
        "jpush": lambda: jpush_payload.renderings(PUSH, voip, None, production=True),
        "getui": lambda: getui.contents(PUSH, voip, None),
        "umeng": lambda: umeng.contents(PUSH, voip, None, "ios"),
    }
    with pytest.raises(BadSpec, match="push_type"):
        makers[provider]()
