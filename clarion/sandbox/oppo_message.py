"""OPPO's notification, as its page of messages defines the fields."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import orjson

from clarion.sandbox.vendor import is_number, is_text

CONTENTS: Final = {1: 50, 2: 128, 3: 50}  # style → characters of a content
ACTIONS: Final[dict[int, str | None]] = {
    0: None,
    1: "click_action_activity",
    2: "click_action_url",
    4: "click_action_activity",
    5: "click_action_url",
}
"""What is to be done with a click, and the field that it needs."""
LEVELS: Final = frozenset((1, 2, 3, 16, 17, 18, 19))
PUBLIC: Final = frozenset(("MARKETING", "NEWS", "CONTENT", "SOCIAL"))
_TEXTS: Final = {
    "app_message_id": 64,
    "sub_title": 10,
    "click_action_activity": 500,
    "click_action_url": 2_000,
    "call_back_url": 200,
    "call_back_parameter": 100,
    "channel_id": 64,
    "category": 64,
    "small_picture_id": 64,
    "private_msg_template_id": 64,
}
_NUMBERS: Final = {
    "show_time_type": (0, 1),
    "show_start_time": (0, 2**53),
    "show_end_time": (0, 2**53),
    "off_line_ttl": (1, 2**31),  # more than ten days is clamped
    "network_type": (0, 1),
    "show_ttl": (0, 2**31),
    "notify_id": (0, 2_147_483_647),
    "notify_level": (1, 31),
    "badge_operation_type": (0, 2),
    "badge_message_count": (0, 99),
}
_OTHERS: Final = frozenset(
    (
        "style",
        "title",
        "content",
        "click_action_type",
        "action_parameters",
        "off_line",
        "private_title_parameters",
        "private_content_parameters",
        "auditResponse",
        "big_picture_id",
    )
)
_FLAT: Final = frozenset((*_NUMBERS, "style", "click_action_type"))  # numbers in a form's texts


class Notification(NamedTuple):
    """What is shown, and what the rest is decided by."""

    title: str
    content: str
    app_message_id: str
    notify_id: int | None
    private: bool


class Bad(Exception):
    """A notification that OPPO refuses, with its code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def check(value: Any) -> Notification:
    """A unicast's notification. Raises Bad."""
    if not isinstance(value, dict) or value.keys() - _OTHERS - _TEXTS.keys() - _NUMBERS.keys():
        raise Bad(41)
    if not value.get("title") or not value.get("content"):
        raise Bad(40)
    style = value.get("style", 1)
    if style not in (1, 2) or "big_picture_id" in value:  # pictures are for broadcasts
        raise Bad(41)
    if not is_text(value["title"], 50) or not is_text(value["content"], CONTENTS[style]):
        raise Bad(41)
    for name, most in _TEXTS.items():
        if name in value and not is_text(value[name], most):
            raise Bad(41)
    for name, (least, most) in _NUMBERS.items():
        if name in value and not is_number(value[name], least, most):
            raise Bad(41)
    if not isinstance(value.get("off_line", True), bool):
        raise Bad(41)
    _check_click(value)
    _check_level(value)
    category = value.get("category")
    private = "private_msg_template_id" in value or (category is not None and category not in PUBLIC)
    shown = value["title"], value["content"]
    return Notification(*shown, value.get("app_message_id", ""), value.get("notify_id"), private)


def from_form(form: dict[str, str]) -> Notification:
    """A broadcast's notification, whose fields stand flat in a form. Raises Bad."""
    value: dict[str, Any] = dict(form)
    for name in _FLAT & value.keys():
        if not value[name].isdigit():
            raise Bad(41)
        value[name] = int(value[name])
    if "off_line" in value:
        value["off_line"] = {"true": True, "false": False}.get(value["off_line"])
    return check(value)


def _check_click(value: dict[str, Any]) -> None:
    action = value.get("click_action_type", 0)
    if isinstance(action, bool) or action not in ACTIONS:
        raise Bad(41)
    needed = ACTIONS[action]
    if needed is not None and not value.get(needed):
        raise Bad(40)
    parameters = value.get("action_parameters")
    if parameters is None:
        return
    if not is_text(parameters, 4_000):
        raise Bad(41)
    try:
        orjson.loads(parameters)
    except orjson.JSONDecodeError:
        raise Bad(41) from None


def _check_level(value: dict[str, Any]) -> None:
    level = value.get("notify_level")
    if level is None:
        return
    if "category" not in value:
        raise Bad(41)
    if level not in LEVELS:
        raise Bad(67)
