"""What JPush takes: every key of a push by its reference, and what each may be.

Keys of the blocks `android`, `ios` and `hmos` are those of the reference and of Jiguang's own libraries.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

import orjson

from clarion.sandbox.answer import Answer
from clarion.sandbox.vendor import Refusal, is_number, is_text, json_answer

MOST: Final = 1_000
TAGS: Final = 20
WORD_BYTES: Final = 40
ANDROID_BYTES: Final = 4_000
IOS_BYTES: Final = 2_000
LONGEST: Final = 259_200  # s, who does not pay
COLLAPSE_BYTES: Final = 64
BIG_PUSH: Final = 1_400  # minutes

MESSAGES: Final = {
    1000: "Internal server error",
    1001: "Only POST is supported",
    1002: "Missing parameter",
    1003: "Invalid parameter",
    1004: "Authen failed",
    1005: "The payload is too long",
    1008: "app_key is illegal",
    1009: "The body has a key that is not supported",
    1011: "cannot find user by this audience",
    1012: "Too many pushes for this audience",
    1020: "Only HTTPS is supported",
    1030: "Internal server timeout",
    2002: "Request times of the app_key exceed the limit of current time window",
    2003: "The app_key is limited",
    2004: "Not in the IP whitelist",
}
STATUSES: Final = {
    1000: 500,
    1001: 405,
    1004: 401,
    1020: 404,
    1030: 503,
    2002: 429,
    2003: 403,
    2004: 403,
    2005: 403,
    2006: 403,
    2007: 403,
}


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOP: Final = _words(
    "cid platform audience notification message options callback live_activity inapp_message "
    "notification_3rd sms_message"
)
_AUDIENCE: Final = {
    "tag": TAGS,
    "tag_and": TAGS,
    "tag_not": TAGS,
    "alias": MOST,
    "registration_id": MOST,
    "segment": 1,
    "abtest": 1,
}
_PLATFORMS: Final = frozenset(("android", "ios", "hmos", "quickapp", "winphone"))
_NOTIFICATION: Final = frozenset(("alert", "android", "ios", "hmos", "quickapp", "winphone", "voip"))
_ANDROID: Final = _words(
    "alert title builder_id channel_id priority category style alert_type big_text inbox big_pic_path "
    "large_icon small_icon_uri icon_bg_color intent uri_activity uri_action badge_add_num badge_set_num "
    "badge_class sound show_begin_time show_end_time display_foreground custom_buttons extras "
    "mipns_content_forshort oppns_content_forshort vpns_content_forshort mzpns_content_forshort"
)
_IOS: Final = _words(
    "alert sound badge content-available mutable-content category thread-id interruption-level extras"
)
_HMOS: Final = _words(
    "alert title category large_icon intent extras style inbox badge_add_num badge_set_num test_message "
    "receipt_id push_type extra_data display_foreground sound sound_duration hm_payload"
)
_MESSAGE: Final = frozenset(("msg_content", "title", "content_type", "extras"))
_OPTIONS: Final = _words(
    "sendno time_to_live override_msg_id apns_production apns_collapse_id big_push_duration "
    "third_party_channel classification test_message receipt_id active_push need_backup test_model "
    "target_event business_operation_code"
)
_BADGE: Final = re.compile(r"[+-]\d{1,4}")
_CID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True, slots=True)
class Pushed:
    """A push that is well formed."""

    tokens: list[str]
    title: str
    body: str
    key: str | None
    cid: str | None


def coded(code: int, words: str | None = None, status: int | None = None) -> Answer:
    """An error with this code."""
    error = {"code": code, "message": words or MESSAGES.get(code, "Error")}
    return json_answer({"error": error}, status or STATUSES.get(code, 400), str(code))


def read(value: dict[str, Any], app_key: str) -> Pushed:
    """A push to a list of registration ids. Raises Refusal."""
    _known(value, _TOP)
    cid = value.get("cid")
    if cid is not None:
        _check_cid(cid, app_key)
    if "platform" not in value or "audience" not in value:
        raise Refusal(coded(1002))
    _check_platform(value["platform"])
    tokens = _audience(value["audience"])
    return _pushed(value, tokens, cid)


def read_single(value: Any, cid: str, app_key: str) -> Pushed:
    """One of a batch: `target` is its registration id. Raises Refusal."""
    if not isinstance(value, dict):
        raise Refusal(coded(1003))
    _known(value, (_TOP - {"cid", "audience"}) | {"target"})
    _check_cid(cid, app_key)
    if "platform" not in value or not is_text(value.get("target"), 100):
        raise Refusal(coded(1002))
    _check_platform(value["platform"])
    return _pushed(value, [value["target"]], cid)


def _pushed(value: dict[str, Any], tokens: list[str], cid: str | None) -> Pushed:
    notification, message = _object(value, "notification"), _object(value, "message")
    if not notification and not message:
        raise Refusal(coded(1002))
    _check_notification(notification)
    _check_message(message)
    options = _object(value, "options")
    _check_options(options)
    _check_size(notification, message)
    title, body = _texts(notification)
    return Pushed(tokens, title, body, options.get("apns_collapse_id"), cid)


def _check_cid(cid: Any, app_key: str) -> None:
    prefix = f"{app_key}-"
    good = isinstance(cid, str) and cid.startswith(prefix) and _CID.fullmatch(cid.removeprefix(prefix))
    if not good:
        raise Refusal(coded(1003, "cid is invalid"))


def _check_platform(platform: Any) -> None:
    if platform == "all":
        return
    if not isinstance(platform, list) or not platform or not set(map(str, platform)) <= _PLATFORMS:
        raise Refusal(coded(1003))


def _audience(audience: Any) -> list[str]:
    """The registration ids; everything else that can be addressed is checked and reaches nobody here."""
    if audience == "all":
        raise Refusal(coded(1011))
    if not isinstance(audience, dict) or not audience:
        raise Refusal(coded(1003))
    _known(audience, _AUDIENCE)
    for kind, values in audience.items():
        good = isinstance(values, list) and 1 <= len(values) <= _AUDIENCE[kind]
        if not good or not all(isinstance(one, str) and one for one in values):
            raise Refusal(coded(1003, f"{kind} is invalid"))
        if kind != "registration_id" and any(len(one.encode()) > WORD_BYTES for one in values):
            raise Refusal(coded(1003, f"{kind} is too long"))
    if audience.keys() != {"registration_id"}:
        raise Refusal(coded(1011))
    tokens: list[str] = audience["registration_id"]
    return tokens


def _check_notification(notification: dict[str, Any]) -> None:
    _known(notification, _NOTIFICATION)
    if "alert" in notification and not isinstance(notification["alert"], str):
        raise Refusal(coded(1003))
    _check_android(_object(notification, "android"))
    _check_ios(_object(notification, "ios"))
    hmos = _object(notification, "hmos")
    _known(hmos, _HMOS)
    if hmos and not is_text(hmos.get("category"), 64):
        raise Refusal(coded(1002, "hmos.category is required"))


def _check_android(android: dict[str, Any]) -> None:
    _known(android, _ANDROID)
    if android and not isinstance(android.get("alert", ""), str):
        raise Refusal(coded(1003))
    ranges = {"priority": (-2, 2), "style": (0, 3), "alert_type": (-1, 7), "badge_add_num": (1, 99)}
    for name, (least, most) in ranges.items():
        if name in android and not is_number(android[name], least, most):
            raise Refusal(coded(1003, f"android.{name} is invalid"))
    if "intent" in android and not isinstance((android["intent"] or {}).get("url"), str):
        raise Refusal(coded(1003, "android.intent is invalid"))
    _check_extras(android)


def _check_ios(ios: dict[str, Any]) -> None:
    _known(ios, _IOS)
    if not isinstance(ios.get("alert", ""), str | dict):
        raise Refusal(coded(1003))
    badge = ios.get("badge", 0)
    if not is_number(badge, 0, 99_999) and not (isinstance(badge, str) and _BADGE.fullmatch(badge)):
        raise Refusal(coded(1003, "ios.badge is invalid"))
    for name in ("content-available", "mutable-content"):
        if ios.get(name, True) not in (True, False, 0, 1):
            raise Refusal(coded(1003, f"ios.{name} is invalid"))
    _check_extras(ios)


def _check_message(message: dict[str, Any]) -> None:
    _known(message, _MESSAGE)
    if message and not is_text(message.get("msg_content"), ANDROID_BYTES):
        raise Refusal(coded(1002, "message.msg_content is required"))
    _check_extras(message)


def _check_options(options: dict[str, Any]) -> None:
    _known(options, _OPTIONS)
    if not is_number(options.get("time_to_live", 0), 0, LONGEST):
        raise Refusal(coded(1003, "time_to_live is invalid"))
    if not isinstance(options.get("apns_production", True), bool):
        raise Refusal(coded(1003, "apns_production is invalid"))
    if len(str(options.get("apns_collapse_id", "")).encode()) > COLLAPSE_BYTES:
        raise Refusal(coded(1003, "apns_collapse_id is too long"))
    if not is_number(options.get("big_push_duration", 1), 1, BIG_PUSH):
        raise Refusal(coded(1003, "big_push_duration is invalid"))
    if options.get("classification", 0) not in (0, 1):
        raise Refusal(coded(1003, "classification is invalid"))
    if not is_number(options.get("override_msg_id", 1), 1, 2**63):
        raise Refusal(coded(1003, "override_msg_id is invalid"))


def _check_size(notification: dict[str, Any], message: dict[str, Any]) -> None:
    others = {name: part for name, part in notification.items() if name not in ("ios", "hmos")}
    said = len(orjson.dumps(message))
    if len(orjson.dumps(notification.get("ios", {}))) > IOS_BYTES or said > ANDROID_BYTES:
        raise Refusal(coded(1005))
    if len(orjson.dumps(others)) + said > ANDROID_BYTES:
        raise Refusal(coded(1005))


def _texts(notification: dict[str, Any]) -> tuple[str, str]:
    """What is shown; "" twice for what is not."""
    android, ios = _object(notification, "android"), _object(notification, "ios")
    alert = android.get("alert") or notification.get("alert") or ios.get("alert") or ""
    if isinstance(alert, dict):
        return str(alert.get("title", "")), str(alert.get("body", ""))
    return str(android.get("title", "")), alert


def _check_extras(block: dict[str, Any]) -> None:
    if not isinstance(block.get("extras", {}), dict):
        raise Refusal(coded(1003, "extras is invalid"))


def _known(value: dict[str, Any], known: Collection[str]) -> None:
    if any(name not in known for name in value):
        raise Refusal(coded(1009))


def _object(value: dict[str, Any], name: str) -> dict[str, Any]:
    part = value.get(name)
    if part is None:
        return {}
    if not isinstance(part, dict):
        raise Refusal(coded(1003, f"{name} is invalid"))
    return part
