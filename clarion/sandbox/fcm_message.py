"""FCM's message, checked as Google checks it: first against the schema, then against the rules.

What does not fit the schema (an unknown field, a number where text belongs) is answered with
google.rpc.BadRequest and its field violations; what fits and is still wrong (a reserved key, too large, a bad
token) with FcmError INVALID_ARGUMENT. Names come in snake_case or lowerCamelCase, as proto3 JSON has it.

Counted against the limit (4,096 bytes; 2,048 to topics): keys and values of the data and of the notification.
What Google counts exactly is not documented.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

PAYLOAD: Final = 4_096
TOPIC_PAYLOAD: Final = 2_048
APNS_PAYLOAD: Final = 4_096
TTL_SECONDS: Final = 2_419_200
TOPICS_IN_CONDITION: Final = 5

TOKEN_FORM: Final = re.compile(r"[A-Za-z0-9_:.-]{22,4096}")
TOPIC_FORM: Final = re.compile(r"[a-zA-Z0-9\-_.~%]{1,900}")
_LABEL: Final = re.compile(r"[a-zA-Z0-9\-_.~%]{1,50}")
_COLOR: Final = re.compile(r"#[0-9a-fA-F]{6}")
_PACKAGE: Final = re.compile(r"[A-Za-z]\w*(\.[A-Za-z]\w*)+")
_DURATION: Final = re.compile(r"-?\d+(\.\d{1,9})?s")
_TIMESTAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)")
_RESERVED: Final = frozenset(("from", "message_type"))
_ATOM: Final = re.compile(r"\s*(?:'([^']*)'\s+in\s+topics|(&&|\|\||!|\(|\)))")

_GOOGLE: Final = "type.googleapis.com/google."


class BadField(Exception):
    """It does not fit the schema: google.rpc.BadRequest."""

    def __init__(self, where: str, description: str) -> None:
        super().__init__(description)
        self.where = where
        self.description = description


class BadArgument(Exception):
    """It fits the schema and is wrong: FcmError INVALID_ARGUMENT."""


@dataclass(frozen=True, slots=True)
class Message:
    """What matters of a valid message. `target` names a token, fid, topic or condition."""

    kind: str
    target: str
    validate_only: bool
    key: str | None
    title: str
    body: str


# ---- the schema

Check = Callable[[str, Any], Any]


def _bad(where: str, kind: str, value: Any) -> BadField:
    shown = (
        json.dumps(value) if not isinstance(value, dict | list) else "Starting an object on a scalar field"
    )
    return BadField(where, f"Invalid value at '{where}' ({kind}), {shown}")


def _string(where: str, value: Any) -> str:
    if not isinstance(value, str):
        raise _bad(where, "TYPE_STRING", value)
    return value


def _bool(where: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _bad(where, "TYPE_BOOL", value)
    return value


def _int(where: str, value: Any) -> int:
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value == int(value)
    if not whole and not (isinstance(value, str) and re.fullmatch(r"-?\d{1,10}", value)):
        raise _bad(where, "TYPE_INT32", value)
    return int(value)


def _float(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _bad(where, "TYPE_FLOAT", value)
    return float(value)


def _duration(where: str, value: Any) -> float:
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        field = where.rsplit(".", 1)[-1]
        raise BadField(
            where,
            f"Invalid value at '{where}' ({_GOOGLE}protobuf.Duration), Field '{field}', "
            "Illegal duration format; duration must end with 's'",
        )
    return float(value[:-1])


def _timestamp(where: str, value: Any) -> str:
    if not isinstance(value, str) or not _TIMESTAMP.fullmatch(value):
        field = where.rsplit(".", 1)[-1]
        raise BadField(
            where,
            f"Invalid value at '{where}' ({_GOOGLE}protobuf.Timestamp), Field '{field}', Invalid time format",
        )
    return value


def _map(where: str, value: Any) -> dict[str, str]:
    if not isinstance(value, dict):
        raise _bad(where, "TYPE_MESSAGE", value)
    for place, item in enumerate(value.values()):
        _string(f"{where}[{place}].value", item)
    return value


def _struct(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _bad(where, f"{_GOOGLE}protobuf.Struct", value)
    return value


def _strings(where: str, value: Any) -> list[str]:
    if not isinstance(value, list):
        raise _bad(where, "TYPE_STRING", value)
    return [_string(f"{where}[{place}]", item) for place, item in enumerate(value)]


def _durations(where: str, value: Any) -> list[float]:
    if not isinstance(value, list):
        raise _bad(where, f"{_GOOGLE}protobuf.Duration", value)
    return [_duration(f"{where}[{place}]", item) for place, item in enumerate(value)]


def _enum(kind: str, *names: str) -> Check:
    known = {*names, *(name.lower() for name in names)}

    def check(where: str, value: Any) -> str:
        # The SDKs send lower case; the schema has capitals; both are taken.
        if not isinstance(value, str) or value not in known:
            raise _bad(where, f"{_GOOGLE}firebase.fcm.v1.{kind}", value)
        return value.upper()

    return check


def _message(fields: Mapping[str, Check]) -> Check:
    names = {name: name for name in fields} | {_camel(name): name for name in fields}

    def check(where: str, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _bad(where, "TYPE_MESSAGE", value)
        found: dict[str, Any] = {}
        for given, item in value.items():
            name = names.get(given)
            if name is None:
                problem = f"Unknown name \"{given}\" at '{where}': Cannot find field."
                raise BadField(where, f"Invalid JSON payload received. {problem}")
            if item is not None:
                found[name] = fields[name](f"{where}.{name}" if where else name, item)
        return found

    return check


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(word.capitalize() for word in rest)


_OPTIONS: Final = _message({"analytics_label": _string})
_COLORS: Final = _message({"red": _float, "green": _float, "blue": _float, "alpha": _float})
_LIGHTS: Final = _message({"color": _COLORS, "light_on_duration": _duration, "light_off_duration": _duration})
_NOTIFICATION: Final = _message({"title": _string, "body": _string, "image": _string})
_PRIORITY: Final = _enum(
    "AndroidNotification.NotificationPriority",
    "PRIORITY_UNSPECIFIED",
    "PRIORITY_MIN",
    "PRIORITY_LOW",
    "PRIORITY_DEFAULT",
    "PRIORITY_HIGH",
    "PRIORITY_MAX",
)
_PROXY: Final = _enum(
    "AndroidNotification.Proxy", "PROXY_UNSPECIFIED", "ALLOW", "DENY", "IF_PRIORITY_LOWERED"
)
_VISIBILITY: Final = _enum(
    "AndroidNotification.Visibility", "VISIBILITY_UNSPECIFIED", "PRIVATE", "PUBLIC", "SECRET"
)
_ANDROID_NOTIFICATION: Final = _message(
    {
        **dict.fromkeys(
            (
                "title",
                "body",
                "icon",
                "color",
                "sound",
                "tag",
                "click_action",
                "body_loc_key",
                "title_loc_key",
                "channel_id",
                "ticker",
                "image",
            ),
            _string,
        ),
        **dict.fromkeys(("body_loc_args", "title_loc_args"), _strings),
        **dict.fromkeys(
            (
                "sticky",
                "local_only",
                "default_sound",
                "default_vibrate_timings",
                "default_light_settings",
                "bypass_proxy_notification",
            ),
            _bool,
        ),
        "event_time": _timestamp,
        "notification_priority": _PRIORITY,
        "vibrate_timings": _durations,
        "visibility": _VISIBILITY,
        "notification_count": _int,
        "light_settings": _LIGHTS,
        "proxy": _PROXY,
    }
)
_ANDROID: Final = _message(
    {
        "collapse_key": _string,
        "priority": _enum("AndroidConfig.AndroidMessagePriority", "NORMAL", "HIGH"),
        "ttl": _duration,
        "restricted_package_name": _string,
        "data": _map,
        "notification": _ANDROID_NOTIFICATION,
        "fcm_options": _OPTIONS,
        "direct_boot_ok": _bool,
        "bandwidth_constrained_ok": _bool,
        "restricted_satellite_ok": _bool,
    }
)
_WEBPUSH: Final = _message(
    {
        "headers": _map,
        "data": _map,
        "notification": _struct,
        "fcm_options": _message({"link": _string, "analytics_label": _string}),
    }
)
_APNS: Final = _message(
    {
        "headers": _map,
        "payload": _struct,
        "fcm_options": _message({"analytics_label": _string, "image": _string}),
        "live_activity_token": _string,
    }
)
_TARGETS: Final = ("token", "fid", "topic", "condition")
_REQUEST: Final = _message(
    {
        "validate_only": _bool,
        "message": _message(
            {
                "name": _string,
                "data": _map,
                "notification": _NOTIFICATION,
                "android": _ANDROID,
                "webpush": _WEBPUSH,
                "apns": _APNS,
                "fcm_options": _OPTIONS,
                **dict.fromkeys(_TARGETS, _string),
            }
        ),
    }
)


# ---- the rules


def read_message(value: Any) -> Message:
    """A request's body, already parsed. Raises BadField or BadArgument."""
    request = _REQUEST("", value)
    message = request.get("message")
    if message is None:
        raise BadField("message", "Message is not set.")
    targets = [name for name in _TARGETS if name in message]
    if len(targets) > 1:
        problem = f"oneof field 'target' is already set. Cannot set '{targets[1]}'"
        raise BadField("message", f"Invalid value at 'message' (oneof), {problem}")
    if not targets:
        raise BadArgument("Recipient of the message is not set.")
    kind = targets[0]
    _check_target(kind, message[kind])
    android = message.get("android", {})
    _check_android(android)
    _check_others(message)
    data = android.get("data", message.get("data", {}))
    for items in (message.get("data", {}), android.get("data", {})):
        _check_data(items)
    _check_size(message, data, PAYLOAD if kind in ("token", "fid") else TOPIC_PAYLOAD)
    title, body = _text(message, data)
    notification = android.get("notification", {})
    return Message(
        kind=kind,
        target=message[kind],
        validate_only=request.get("validate_only", False),
        key=notification.get("tag") or data.get("clarion_id"),
        title=title,
        body=body,
    )


def _check_target(kind: str, target: str) -> None:
    if kind == "token" and not TOKEN_FORM.fullmatch(target):
        raise BadArgument("The registration token is not a valid FCM registration token")
    if kind == "fid" and not TOKEN_FORM.fullmatch(target):
        raise BadArgument("The installation id is not a valid Firebase installation id")
    if kind == "topic" and not TOPIC_FORM.fullmatch(target):
        raise BadArgument("Topic name format is invalid")
    if kind == "condition":
        read_condition(target)


def _check_data(data: Mapping[str, str]) -> None:
    for key in data:
        if key in _RESERVED or key.startswith(("google", "gcm")):
            raise BadArgument(f"Invalid data payload key: {key}")


def _check_android(android: Mapping[str, Any]) -> None:
    ttl = android.get("ttl")
    if ttl is not None and not 0 <= ttl <= TTL_SECONDS:
        raise BadArgument("Invalid ttl: must be between 0 and 2,419,200 seconds")
    package = android.get("restricted_package_name")
    if package and not _PACKAGE.fullmatch(package):
        raise BadArgument("Invalid package name")
    notification = android.get("notification", {})
    if "color" in notification and not _COLOR.fullmatch(notification["color"]):
        raise BadArgument("Invalid notification color: must be of the form #RRGGBB")
    for part in ("title", "body"):
        if notification.get(f"{part}_loc_args") and not notification.get(f"{part}_loc_key"):
            raise BadArgument(f"{part}_loc_args is set but {part}_loc_key is not")
    if notification.get("notification_count", 0) < 0:
        raise BadArgument("notification_count is negative")


def _check_others(message: Mapping[str, Any]) -> None:
    link = message.get("webpush", {}).get("fcm_options", {}).get("link")
    if link is not None and not link.startswith("https://"):
        raise BadArgument("webpush.fcm_options.link must be an HTTPS URL")
    payload = message.get("apns", {}).get("payload")
    if payload is not None:
        if len(json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()) > APNS_PAYLOAD:
            raise BadArgument("APNs payload is too big")
        if not isinstance(payload.get("aps", {}), dict):
            raise BadArgument("Invalid APNs payload: aps must be a dictionary")
    for part in (message, *(message.get(name, {}) for name in ("android", "webpush", "apns"))):
        label = part.get("fcm_options", {}).get("analytics_label")
        if label is not None and not _LABEL.fullmatch(label):
            raise BadArgument("Invalid analytics label")


def _check_size(message: Mapping[str, Any], data: Mapping[str, str], limit: int) -> None:
    counted = [*data.items(), *message.get("notification", {}).items()]
    if sum(len(key.encode()) + len(value.encode("utf-8", "replace")) for key, value in counted) > limit:
        raise BadArgument("Message is too big")


def _text(message: Mapping[str, Any], data: Mapping[str, str]) -> tuple[str, str]:
    """Title and body that an Android phone shows: the platform's own before the common ones, then data."""
    common, own = message.get("notification", {}), message.get("android", {}).get("notification", {})
    if common or own:
        return tuple(own.get(part) or common.get(part) or "" for part in ("title", "body"))  # type: ignore[return-value]
    return data.get("title", ""), data.get("body", "")


# ---- conditions

Matches = Callable[[set[str]], bool]


def read_condition(text: str) -> Matches:
    """`'a' in topics && !('b' in topics)`: whether a registration with these topics is meant.

    Raises BadArgument.
    """
    tokens, at = [], 0
    while text[at:].strip():
        atom = _ATOM.match(text, at)
        if atom is None:
            raise BadArgument("Invalid condition expression provided.")
        tokens.append(("topic", atom[1]) if atom[2] is None else (atom[2], ""))
        at = atom.end()
    topics = [value for kind, value in tokens if kind == "topic"]
    if len(topics) > TOPICS_IN_CONDITION or not all(TOPIC_FORM.fullmatch(topic) for topic in topics):
        raise BadArgument("Invalid condition expression provided.")
    tokens.append(("end", ""))
    matches, rest = _either(tokens)
    if rest[0][0] != "end":
        raise BadArgument("Invalid condition expression provided.")
    return matches


_Tokens = list[tuple[str, str]]


def _either(tokens: _Tokens) -> tuple[Matches, _Tokens]:
    left, tokens = _both(tokens)
    while tokens[0][0] == "||":
        right, tokens = _both(tokens[1:])
        left = _or(left, right)
    return left, tokens


def _both(tokens: _Tokens) -> tuple[Matches, _Tokens]:
    left, tokens = _one(tokens)
    while tokens[0][0] == "&&":
        right, tokens = _one(tokens[1:])
        left = _and(left, right)
    return left, tokens


def _one(tokens: _Tokens) -> tuple[Matches, _Tokens]:
    kind, topic = tokens[0]
    if kind == "topic":
        return lambda topics: topic in topics, tokens[1:]
    if kind == "!":
        inner, tokens = _one(tokens[1:])
        return lambda topics: not inner(topics), tokens
    if kind == "(":
        inner, tokens = _either(tokens[1:])
        if tokens[0][0] == ")":
            return inner, tokens[1:]
    raise BadArgument("Invalid condition expression provided.")


def _or(left: Matches, right: Matches) -> Matches:
    return lambda topics: left(topics) or right(topics)


def _and(left: Matches, right: Matches) -> Matches:
    return lambda topics: left(topics) and right(topics)
