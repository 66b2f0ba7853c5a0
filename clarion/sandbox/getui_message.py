"""What Getui takes: every key of a single push by its reference, and what each may be."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from clarion.sandbox.answer import Answer
from clarion.sandbox.vendor import Refusal, is_number, is_text, json_answer

LONGEST: Final = 259_200_000  # ms
TEXTS: Final = {"title": 50, "body": 256}
CLICKS: Final = {  # how long what belongs to it may be
    "intent": 4_096,
    "url": 1_024,
    "payload": 3_072,
    "payload_custom": 3_072,
    "startapp": 0,
    "none": 0,
}
TRANSMISSION: Final = 3_072
STRATEGIES: Final = (1, 2, 3, 4)
COLLAPSE_BYTES: Final = 64

MESSAGES: Final = {
    0: "success",
    1: "failed",
    301: "The domain is wrong",
    404: "Not found",
    405: "Method not allowed",
    10001: "token is invalid",
    10002: "appId or ip is in the blacklist",
    10003: "auth requests of the minute are over the limit",
    10005: "requests of the minute are over the limit",
    30009: "The total of the day is over the limit",
}
_TOP: Final = frozenset(("request_id", "group_name", "settings", "audience", "push_message", "push_channel"))
_SETTINGS: Final = frozenset(
    {
        "ttl",
        "strategy",
        "speed",
        "schedule_time",
        "custom_callback",
        "filter_notify_off",
        "active_days",
        "need_backup",
    }
)
_MESSAGES: Final = frozenset(("notification", "transmission", "revoke"))
_CHANNELS: Final = frozenset(("ios", "android", "harmony"))
_IOS: Final = frozenset(("type", "aps", "auto_badge", "payload", "multimedia", "apns-collapse-id"))
_BADGE: Final = re.compile(r"[+-]?\d{1,5}")


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push that is well formed."""

    token: str
    request_id: str
    title: str
    body: str
    key: str | None


def coded(code: int, words: str | None = None, data: Any = None, status: int | None = None) -> Answer:
    """An answer with this code; its class follows from the number."""
    value = {"code": code, "msg": words or MESSAGES.get(code, "error")}
    if data is not None:
        value["data"] = data
    return json_answer(value, status or _status(code), str(code) if code else None)


def _status(code: int) -> int:
    if code in (404, 405):
        return code
    return {1: 401, 2: 400, 3: 403}.get(code // 10_000, 200)


def read(value: Any) -> Pushed:
    """A push to one registration. Raises Refusal."""
    if not isinstance(value, dict):
        raise Refusal(coded(20001, "msg_list type error"))
    _known(value, _TOP, "param")
    request_id = value.get("request_id")
    if not is_text(request_id, 32, 10):
        raise Refusal(coded(20001, "request_id is invalid"))
    _check_settings(_object(value, "settings"))
    title, body, key = _check_message(_object(value, "push_message"))
    collapse = _check_channels(_object(value, "push_channel"))
    return Pushed(_target(value.get("audience")), str(request_id), title, body, collapse or key)


def _target(audience: Any) -> str:
    """Exactly one."""
    if not isinstance(audience, dict) or audience.keys() != {"cid"} or not isinstance(audience["cid"], list):
        raise Refusal(coded(20001, "audience type error"))
    if len(audience["cid"]) != 1 or not is_text(audience["cid"][0], 64):
        raise Refusal(coded(20001, "cid size over limit"))
    return str(audience["cid"][0])


def _check_settings(settings: dict[str, Any]) -> None:
    _known(settings, _SETTINGS, "settings")
    if not is_number(settings.get("ttl", -1), -1, LONGEST):
        raise Refusal(coded(20001, "ttl is invalid"))
    strategy = settings.get("strategy", {})
    if not isinstance(strategy, dict) or not all(one in STRATEGIES for one in strategy.values()):
        raise Refusal(coded(20001, "strategy is invalid"))


def _check_message(message: dict[str, Any]) -> tuple[str, str, str | None]:
    """Exactly one of the three kinds; what is shown, and what it replaces."""
    _known(message, _MESSAGES | {"network_type", "duration"}, "push_message")
    if len(message.keys() & _MESSAGES) != 1:
        raise Refusal(coded(20001, "push_message is invalid"))
    if "transmission" in message:
        if not is_text(message["transmission"], TRANSMISSION):
            raise Refusal(coded(20001, "transmission size over limit"))
        return "", "", None
    if "notification" not in message:
        return "", "", None
    shown = _object(message, "notification")
    _check_notification(shown)
    number = shown.get("notify_id")
    return shown["title"], shown["body"], None if number is None else f"notify_id {number}"


def _check_notification(shown: dict[str, Any]) -> None:
    for name, most in TEXTS.items():
        if not shown.get(name):
            raise Refusal(coded(20001, f"{name} can not be empty"))
        if not is_text(shown[name], most):
            raise Refusal(coded(20001, f"{name} size over limit"))
    kind = shown.get("click_type")
    if kind not in CLICKS:
        raise Refusal(coded(20001, "click_type is invalid"))
    if CLICKS[kind] and not is_text(shown.get(kind.removesuffix("_custom")), CLICKS[kind]):
        raise Refusal(coded(20001, f"{kind} can not be empty"))
    if not is_number(shown.get("notify_id", 0), 0, 2_147_483_647):
        raise Refusal(coded(20001, "notify_id is invalid"))


def _check_channels(channel: dict[str, Any]) -> str | None:
    """What it replaces on iOS."""
    _known(channel, _CHANNELS, "push_channel")
    ios = _object(channel, "ios")
    _known(ios, _IOS, "ios")
    kinds = ("notify", "voip", "liveactivity")
    if ios and (ios.get("type", "notify") not in kinds or not isinstance(ios.get("aps"), dict)):
        raise Refusal(coded(20001, "ios is invalid"))
    badge = ios.get("auto_badge", "0")
    if not isinstance(badge, str) or not _BADGE.fullmatch(badge):
        raise Refusal(coded(20001, "auto_badge is invalid"))
    collapse = ios.get("apns-collapse-id")
    if collapse is not None and not 0 < len(str(collapse).encode()) <= COLLAPSE_BYTES:
        raise Refusal(coded(20001, "apns-collapse-id size over limit"))
    ups = _object(_object(channel, "android"), "ups")
    if ups:
        _known(ups, _MESSAGES | {"options"}, "ups")
        _check_message({name: one for name, one in ups.items() if name != "options"})
    return collapse


def _known(value: dict[str, Any], known: Collection[str], what: str) -> None:
    if any(name not in known for name in value):
        raise Refusal(coded(20001, f"{what} is invalid"))


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    part = value.get(name)
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise Refusal(coded(20001, f"{name} type error"))
    return part
