"""A badge in a message, and where each provider's payload shows it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from clarion.errors import BadSpec
from clarion.model.message import Message, Text, badge_step
from clarion.render import BADGE, Renderings
from clarion.senders import apns_payload, fcm_payload, fcm_topics, webpush_payload
from clarion.senders.sender import MissingValue, PushFacts

PUSH = PushFacts(7, "spring", "shop", "clarion-7", high=False, deadline=None)
NOW = 1_800_000_000.5
TEXTS = {"default": Text(title='Hello {{ user.name | default: "you" }}')}
COUNTED = Message(texts=TEXTS, badge="+1")


def apns(message: Message) -> Renderings:
    """For APNs."""
    return apns_payload.renderings(message)


def fcm(message: Message) -> Renderings:
    """For FCM, all three parts."""
    return fcm_payload.renderings(PUSH, message, NOW)


def webpush(message: Message) -> Renderings:
    """For browsers."""
    return webpush_payload.renderings(PUSH, message)


def body(rendered: Renderings, values: Mapping[str, Any] | None) -> Any:
    """One request's payload; FCM's begins behind the token."""
    text = rendered.body("", values)
    return json.loads(text if text.startswith(b"{") else fcm_payload.HEAD + b"x" + text)


@pytest.mark.parametrize(
    ("badge", "step"), [(None, 0), (0, 0), (3, 0), ("+1", 1), ("+12", 12), ("+9999", 9_999)]
)
def test_c07_what_a_badge_may_be(badge: int | str | None, step: int) -> None:
    """C07: nothing, a number for all (0 clears), or an increment; it is stored as it was given."""
    message = Message(texts=TEXTS, badge=badge)

    assert (message.badge, badge_step(badge)) == (badge, step)
    assert json.loads(json.dumps(message.canonical())).get("badge") == badge


@pytest.mark.parametrize(
    "badge", [-1, "3", "-1", "+0", "+", "+01", "+1.5", "+10000", " +1", "+1\n", 1.0, True, [1]]
)
def test_c07_what_a_badge_is_not(badge: Any) -> None:
    """C07: refused, and the field is named."""
    with pytest.raises(ValidationError, match="badge"):
        Message(texts=TEXTS, badge=badge)


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        (apns, ("aps", "badge")),
        (fcm, ("message", "android", "notification", "notification_count")),
        (fcm, ("message", "apns", "payload", "aps", "badge")),
        (webpush, ("appBadge",)),
    ],
)
def test_each_phone_has_its_own_number(kind: Any, place: tuple[str, ...]) -> None:
    """As a JSON number, beside the user's values; without one the phone is not sent to."""
    rendered = kind(COUNTED)
    assert rendered.needs_badge
    assert rendered.needs_values

    for number, values in ((1, {BADGE: 1}), (32_767, {BADGE: 32_767, "name": "Lin"})):
        node = body(rendered, values)
        for name in place:
            node = node[name]
        assert node == number
    wrong: list[dict[str, Any]] = [{}, {BADGE: None}, {BADGE: "1"}, {BADGE: True}]
    for missing in wrong:
        with pytest.raises(MissingValue):
            rendered.body("", missing)


@pytest.mark.parametrize("kind", [apns, fcm, webpush])
@pytest.mark.parametrize("badge", [None, 0, 3])
def test_a_number_for_all_asks_for_no_phones(kind: Any, badge: int | None) -> None:
    """The payload is the same for everybody."""
    rendered = kind(Message(texts={"default": Text(title="Hello")}, badge=badge))

    assert not rendered.needs_badge
    assert not rendered.needs_values


def test_only_the_badge_makes_it_personal() -> None:
    """The users' attributes are not fetched for it."""
    rendered = apns(Message(texts={"default": Text(title="Hello")}, badge="+1"))

    assert rendered.needs_badge
    assert not rendered.needs_values


def test_a_topic_has_one_number_for_all() -> None:
    """An increment is refused: nobody knows which phones a topic reaches."""
    message = Message(texts={"default": Text(title="Hello")}, badge="+1")

    with pytest.raises(BadSpec, match="badge: a message to a topic has one number for all"):
        fcm_topics.body(PUSH, message, {"topic": "news"}, NOW)
