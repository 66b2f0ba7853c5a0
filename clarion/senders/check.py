"""Everything that can be known of a message before a push is opened or its content edited.

Nothing is sent for it and no credential is needed: each provider's payload is rendered and its rules are
applied, so that what cannot be sent to anybody is refused while its author is still there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from clarion.errors import BadSpec
from clarion.model.message import Message, PushType
from clarion.senders import (
    apns_payload,
    fcm_payload,
    getui,
    hms_payload,
    honor,
    jpush_payload,
    meizu,
    oppo,
    umeng,
    vivo,
    webpush_payload,
    xiaomi,
)
from clarion.senders.sender import PushFacts

# The longest key that a push can have: what fits with it fits with its own.
_ANY_PUSH: Final = PushFacts(push_no=0, push_id="check", app="", dedup_key="-" * 32, high=True, deadline=None)


def check_message(message: Message, providers: Iterable[str], now: float) -> list[str]:
    """Warnings about a message that these providers take. Raises BadSpec naming the field and the limit.

    A type of push that only Apple has is checked for Apple alone: nobody else's devices are addressed by it.
    `now` (epoch seconds) is only for dates that must lie ahead.
    """
    warnings: list[str] = []
    everywhere = message.apns.push_type in (PushType.ALERT, PushType.BACKGROUND)
    for provider in providers if everywhere else ("apns",):
        if (check := _CHECKS.get(provider)) is not None:
            warnings += check(message, now)
    stale = message.apns.stale_date
    if stale is not None and stale <= now:
        raise BadSpec("apns.stale_date is past: the Live Activity would be shown as outdated at once")
    return warnings


def _apns(message: Message, now: float) -> list[str]:
    apns_payload.renderings(message)
    apns_payload.priority(message)
    return []


def _fcm(message: Message, now: float) -> list[str]:
    fcm_payload.renderings(_ANY_PUSH, message, now)
    return fcm_payload.warnings(message)


def _webpush(message: Message, now: float) -> list[str]:
    webpush_payload.renderings(_ANY_PUSH, message)
    return []


def _jpush(message: Message, now: float) -> list[str]:
    jpush_payload.renderings(_ANY_PUSH, message, message.ttl, production=True)
    return jpush_payload.warnings(message)


def _hms(message: Message, now: float) -> list[str]:
    hms_payload.v1(_ANY_PUSH, message, None)
    return hms_payload.warnings(message)


def _xiaomi(message: Message, now: float) -> list[str]:
    xiaomi.contents(_ANY_PUSH, message, None, "")
    return xiaomi.warnings(message)


def _oppo(message: Message, now: float) -> list[str]:
    oppo.contents(_ANY_PUSH, message, None)
    return oppo.warnings(message)


def _vivo(message: Message, now: float) -> list[str]:
    vivo.contents(_ANY_PUSH, message, None)
    return vivo.warnings(message)


def _getui(message: Message, now: float) -> list[str]:
    getui.contents(_ANY_PUSH, message, message.ttl)
    return getui.warnings(message)


def _umeng(message: Message, now: float) -> list[str]:
    umeng.contents(_ANY_PUSH, message, message.ttl, "android")
    return umeng.warnings(message)


def _honor(message: Message, now: float) -> list[str]:
    honor.contents(_ANY_PUSH, message, None)
    return honor.warnings(message)


def _meizu(message: Message, now: float) -> list[str]:
    meizu.contents(_ANY_PUSH, message, None)
    return meizu.warnings(message)


_CHECKS: Final[dict[str, Callable[[Message, float], list[str]]]] = {
    "apns": _apns,
    "fcm": _fcm,
    "webpush": _webpush,
    "hms": _hms,
    "xiaomi": _xiaomi,
    "oppo": _oppo,
    "vivo": _vivo,
    "jpush": _jpush,
    "getui": _getui,
    "umeng": _umeng,
    "honor": _honor,
    "meizu": _meizu,
}
