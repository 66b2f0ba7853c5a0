"""What every provider is told of a push besides its payload: a de-duplication key and a lifetime."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Final

from clarion.model.message import Message
from clarion.senders.sender import PushFacts

LONGEST: Final = 2_419_200  # seconds, FCM's four weeks; a message's own ttl is checked by its model
_TOPIC: Final = re.compile(r"[A-Za-z0-9_-]{1,32}")


def dedup_key(push: PushFacts, message: Message) -> str:
    """What makes a device show a repeat once: the message's own word for it, else the push's key."""
    return message.collapse or push.dedup_key


def web_topic(key: str) -> str:
    """The key as a Web Push Topic, at most 32 URL-safe characters (RFC 8030 §5.4); else its stable hash."""
    if _TOPIC.fullmatch(key):
        return key
    return base64.urlsafe_b64encode(hashlib.sha256(key.encode()).digest())[:32].decode()


def lifetime(push: PushFacts, message: Message, now: float) -> int | None:
    """Seconds that a provider may keep the message for a device that is away; None leaves it to the provider.

    The message's ttl as it is given; without one what is left until the push's deadline, because what must
    not be sent any more must not be shown, either.
    """
    if message.ttl is not None:
        return message.ttl
    if push.deadline is None:
        return None
    return max(0, min(int(push.deadline - now), LONGEST))


def grows_old(push: PushFacts, message: Message) -> bool:
    """Whether what a provider is told of the lifetime depends on when it is told."""
    return push.deadline is not None if message.ttl is None else message.ttl > 0
