"""Topics and conditions as people write them: what Google would refuse is refused before."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from clarion.errors import BadSpec
from clarion.model.message import Message, Text
from clarion.model.topic import TopicChange, TopicSend, condition, topic_name
from clarion.senders.fcm_topics import body
from clarion.senders.sender import PushFacts

MESSAGE = Message(texts={"default": Text(title="Hello", body="there")})
FACTS = PushFacts(0, "topic", "shop", "k" * 32, high=False, deadline=None)


def any_of(count: int) -> str:
    """A condition over so many topics."""
    return " || ".join(f"'t{n}' in topics" for n in range(count))


@pytest.mark.parametrize("name", ["news", "news-1_~.%", "a" * 900])
def test_good_names(name: str) -> None:
    """They stand as they are, and /topics/ in front of them means nothing."""
    assert topic_name(name) == name
    assert topic_name(f"/topics/{name}") == name


@pytest.mark.parametrize("name", ["", "a b", "a/b", "ü", "a" * 901, "/topics/", "a\n", 'a"'])
def test_bad_names(name: str) -> None:
    """Nothing is mended."""
    with pytest.raises(ValueError, match="a topic is 1 to 900"):
        topic_name(name)


@pytest.mark.parametrize(
    "text",
    [
        "'a' in topics",
        "!('a' in topics)",
        "'a' in topics && ('b' in topics || !('c' in topics))",
        "  ('a' in topics)  ",
        "!!'a' in topics||'b' in topics",
        any_of(5),
    ],
)
def test_good_conditions(text: str) -> None:
    """Signs, brackets, up to five topics."""
    assert condition(text) == text.strip()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (any_of(6), "5 topics at most, this one has 6"),
        ("", "not complete"),
        ("'a' in topics &&", "not complete"),
        ("'a' in topics 'b' in topics", "not complete"),
        ("('a' in topics", "not complete"),
        ("'a' in topics)", "not complete"),
        ("()", "not complete"),
        ("'a b' in topics", "a topic is 1 to 900"),
        ("'a' in topics & 'b' in topics", "from character 14 on"),
        ("a in topics", "from character 1 on"),
        ("'a' in topicsx", "from character 1 on"),
        ("(" * 60 + "'a' in topics" + ")" * 60, "not complete"),
    ],
)
def test_bad_conditions(text: str, said: str) -> None:
    """With the place or the reason."""
    with pytest.raises(ValueError, match=said):
        condition(text)


@pytest.mark.parametrize(
    "given",
    [
        {"topic": "a", "condition": "'a' in topics"},
        {},
        {"topic": "a", "content": "content:" + "0" * 64},
        {"topic": "a", "message": None},
    ],
    ids=["two targets", "no target", "two messages", "no message"],
)
def test_one_target_and_one_message(given: dict[str, Any]) -> None:
    """Exactly one of each."""
    with pytest.raises(ValidationError, match="exactly one"):
        TopicSend.model_validate({"app": "shop", "message": MESSAGE} | given)


def test_a_thousand_users_a_call() -> None:
    """More are refused; the command line and a service split them."""
    users = [f"u{n}" for n in range(1_001)]
    assert len(TopicChange.model_validate({"app": "a", "topic": "t", "users": users[:1_000]}).users) == 1_000
    for wrong in (users, []):
        with pytest.raises(ValidationError, match="users"):
            TopicChange.model_validate({"app": "a", "topic": "t", "users": wrong})


def test_the_limit_of_a_topic_is_half() -> None:
    """2,048 bytes, and the same for everybody."""
    fits = MESSAGE.model_copy(update={"data": {"k": "v" * 1_900}})
    assert b'"topic":"news"' in body(FACTS, fits, {"topic": "news"}, 0.0)
    with pytest.raises(BadSpec, match="over the limit of 2048 bytes"):
        body(FACTS, MESSAGE.model_copy(update={"data": {"k": "v" * 2_100}}), {"topic": "news"}, 0.0)
    personal = Message(texts={"default": Text(body="Hi {{ user.name }}")})
    with pytest.raises(BadSpec, match="the same for everybody"):
        body(FACTS, personal, {"topic": "news"}, 0.0)
