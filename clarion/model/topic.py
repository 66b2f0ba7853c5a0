"""FCM topics: Google keeps who is subscribed and fans out; Clarion says what, and to which topic.

There is no ledger of such a send: Google tells nobody whom it reached. What was said stands in the audit.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from clarion.model.base import Model
from clarion.model.message import Message

TOPICS_IN_CONDITION: Final = 5
USERS_A_CALL: Final = 1_000
_NAME: Final = re.compile(r"[a-zA-Z0-9\-_.~%]{1,900}")
_WORD: Final = re.compile(r"\s*(?:'([^']*)'\s+in\s+topics\b|(&&|\|\||!|\(|\)))")
_FORM: Final = "like 'news' in topics && !('sport' in topics)"


def topic_name(text: str) -> str:
    """A topic's bare name; `/topics/` in front of it is left out. Raises ValueError."""
    name = text.removeprefix("/topics/")
    if not _NAME.fullmatch(name):
        raise ValueError("a topic is 1 to 900 letters, digits and - _ . ~ %")
    return name


def condition(text: str) -> str:
    """A condition over topics, checked as Google would. Raises ValueError."""
    words = _words(text)
    topics = [topic_name(word) for word, is_topic in words if is_topic]
    if len(topics) > TOPICS_IN_CONDITION:
        raise ValueError(f"a condition has {TOPICS_IN_CONDITION} topics at most, this one has {len(topics)}")
    shape = ["t" if is_topic else word for word, is_topic in words]
    if _any_of(shape) != len(shape) or not topics:
        raise ValueError(f"the condition is not complete: write it {_FORM}")
    return text.strip()


def _words(text: str) -> list[tuple[str, bool]]:
    """Topics and signs in their order, and which of them are topics."""
    words, place, text = [], 0, text.strip()
    while place < len(text):
        match = _WORD.match(text, place)
        if match is None:
            raise ValueError(f"the condition cannot be read from character {place + 1} on: write it {_FORM}")
        words.append((match[1], True) if match[2] is None else (match[2], False))
        place = match.end()
    return words


def _any_of(shape: list[str], at: int = 0, depth: int = 0) -> int:
    """Where an expression of && and || that begins at `at` ends; -1 when it is none."""
    end = _one(shape, at, depth)
    while 0 <= end < len(shape) and shape[end] in ("&&", "||"):
        end = _one(shape, end + 1, depth)
    return end


def _one(shape: list[str], at: int, depth: int) -> int:
    while at < len(shape) and shape[at] == "!":
        at += 1
    if at >= len(shape) or depth > 50:
        return -1
    if shape[at] == "t":
        return at + 1
    if shape[at] != "(":
        return -1
    end = _any_of(shape, at + 1, depth + 1)
    return end + 1 if 0 <= end < len(shape) and shape[end] == ")" else -1


TopicName = Annotated[str, AfterValidator(topic_name)]
Condition = Annotated[str, Field(max_length=10_000), AfterValidator(condition)]


class TopicSend(Model):
    """A message to whoever is subscribed to a topic, or fits a condition, when Google fans it out."""

    app: str
    credential: str | None = None  # which, if the app has several for FCM
    topic: TopicName | None = None
    condition: Condition | None = None
    message: Message | None = None
    content: str | None = Field(default=None, pattern=r"^content:[0-9a-f]{64}$")
    priority: Literal["high", "normal"] = "normal"
    by: str = ""

    @model_validator(mode="after")
    def _one_target_one_message(self) -> Self:
        if (self.topic is None) == (self.condition is None):
            raise ValueError("give exactly one of topic and condition")
        if (self.message is None) == (self.content is None):
            raise ValueError("give exactly one of message and content")
        return self


class TopicSent(Model):
    """What Google said: it took the message, or why it never will."""

    accepted: bool
    reason: str = ""


class TopicChange(Model):
    """Subscribe all active FCM registrations of some users to a topic, or unsubscribe them."""

    app: str
    credential: str | None = None
    topic: TopicName
    users: tuple[str, ...] = Field(min_length=1, max_length=USERS_A_CALL)
    subscribe: bool = True
    by: str = ""


class TopicRefusal(Model):
    """A registration that was not changed. `retired`: Google calls it dead, and so it is here now."""

    user_id: str
    registration_no: int
    reason: str
    retired: bool = False


class TopicChanged(Model):
    """What became of it. `unknown`: users who have no active FCM registration."""

    changed: int = 0
    unknown: tuple[str, ...] = ()
    refused: tuple[TopicRefusal, ...] = ()

    def __add__(self, other: TopicChanged) -> TopicChanged:
        """Both together."""
        return TopicChanged(
            changed=self.changed + other.changed,
            unknown=self.unknown + other.unknown,
            refused=self.refused + other.refused,
        )
