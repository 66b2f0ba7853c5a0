"""What goes to FCM: the HTTP v1 message for Android, iPhones and browsers at once.

Source: the REST reference of projects.messages and Google's "About FCM messages". Values of `data` become
strings, because FCM takes nothing else: numbers digit for digit, true and false, what is nested as its JSON
text; null is left out. Repeats bear the same `android.notification.tag` and `apns-collapse-id`, never a
`collapse_key`, which would make the message collapsible and throttle it; a message that shows nothing
carries `clarion_id` among its data.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from clarion.errors import BadSpec
from clarion.limits import APNS_PAYLOAD, FCM_PAYLOAD
from clarion.model.message import FcmOptions, Message, PushType
from clarion.render import (
    Compiled,
    Rendering,
    Renderings,
    Template,
    badge_of,
    plain,
    present,
    render,
    render_languages,
)
from clarion.senders import apns_payload
from clarion.senders.facts import dedup_key, lifetime, web_topic
from clarion.senders.sender import PushFacts

Tree = dict[str, Any]

HEAD: Final = b'{"message":{"token":"'  # then the token, then a rendering
_BEHIND_TOKEN: Final = b'",'
_TAIL: Final = b"}}"

_RESERVED: Final = re.compile(r"from|message_type|(google|gcm).*", re.DOTALL)
_RISKY: Final = ("notification", "collapse_key")
_DURATION: Final = re.compile(r"(\d{1,7})(\.\d{1,9})?s")
_COLOUR: Final = re.compile(r"#[0-9A-Fa-f]{6}")
_LONGEST: Final = 2_419_200


def renderings(push: PushFacts, message: Message, now: float, *, limit: int = FCM_PAYLOAD) -> Renderings:
    """What stands behind the token, one rendering per language. Raises BadSpec."""
    _check(message)
    data = data_strings(message.data)

    def rendered(texts: Compiled) -> Rendering:
        tree = _message(push, message, texts, data, now)
        rendering = render(tree, limit, head=_BEHIND_TOKEN, tail=_TAIL)
        rendering.exempt(rendering.fixed - _counted(tree))
        payload = tree.get("apns", {}).get("payload")
        if payload is not None and render(_object(payload, "fcm.apns.payload"), APNS_PAYLOAD).excess:
            raise BadSpec(f"fcm.apns.payload is over Apple's limit of {APNS_PAYLOAD} bytes")
        return rendering

    return render_languages(message, rendered, "FCM")


def data_strings(data: Mapping[str, Any], where: str = "data") -> dict[str, str]:
    """Data as FCM takes it. Raises BadSpec naming the key that is reserved or cannot be written."""
    strings = {}
    for key, value in data.items():
        if _RESERVED.fullmatch(key):
            raise BadSpec(f"{where}.{key} is reserved by FCM (from, message_type, google…, gcm…): rename it")
        if value is None:
            continue
        try:
            strings[key] = plain(value)
        except TypeError:
            raise BadSpec(f"{where}.{key} cannot be written as JSON: give it as a text") from None
    return strings


def warnings(message: Message) -> list[str]:
    """What FCM takes, and may not do what the author thinks."""
    said = {
        "notification": "data.notification is reserved on paper; FCM takes it, some SDKs hide it",
        "collapse_key": "data.collapse_key is overwritten by FCM",
    }
    return [said[key] for key in _RISKY if key in message.data]


# ── the tree ──────────────────────────────────────────────────────────────────────────────────────────


def _message(push: PushFacts, message: Message, texts: Compiled, data: dict[str, str], now: float) -> Tree:
    options = message.fcm
    shown = bool(texts) and not options.data_only
    key = dedup_key(push, message)
    ttl = lifetime(push, message, now)
    label = options.analytics_label
    return present(
        {
            "notification": _notification(message, texts) if shown else None,
            "data": _data(push, message, texts, data, shown=shown) or None,
            "android": overlaid(_android(push, message, key, ttl, shown=shown), _spelled(options, "android")),
            "apns": overlaid(_apns(message, texts, key, ttl, now, shown=shown), options.apns),
            "webpush": overlaid(_webpush(push, message, key, ttl, shown=shown), _spelled(options, "webpush")),
            "fcm_options": {"analytics_label": label} if label else None,
        }
    )


def _notification(message: Message, texts: Compiled) -> Tree:
    return present({"title": texts.get("title"), "body": texts.get("body"), "image": message.image})


def _data(push: PushFacts, message: Message, texts: Compiled, data: dict[str, str], *, shown: bool) -> Tree:
    more: Tree = {"deep_link": message.deep_link}
    if not shown:
        more |= {**texts, "image": message.image, "clarion_id": push.dedup_key}
    return {**data, **present(more)}


def _android(push: PushFacts, message: Message, key: str, ttl: int | None, *, shown: bool) -> Tree:
    notification = {
        "tag": key,
        "channel_id": message.fcm.channel_id,
        "sound": message.sound if isinstance(message.sound, str) else None,
        "notification_count": badge_of(message) or None,  # 0 means "count by yourself" there
    }
    return present(
        {
            "priority": "high" if push.high else "normal",
            "ttl": None if ttl is None else f"{ttl}s",
            "notification": present(notification) if shown else None,
        }
    )


def _apns(message: Message, texts: Compiled, key: str, ttl: int | None, now: float, *, shown: bool) -> Tree:
    """For iPhones reached through FCM: title and body are Google's to put in."""
    alert = shown or (message.silent and apns_payload.push_type(message) is PushType.ALERT)
    headers = {
        "apns-collapse-id": key,
        "apns-priority": "10" if alert else "5",
        "apns-push-type": "alert" if alert else "background",
        "apns-expiration": None if ttl is None else str(int(now) + ttl if ttl else 0),
    }
    aps: Tree = {"content-available": 1}
    if alert:
        # A subtitle has no place in a notification of FCM's; with it the whole alert is given here.
        aps = apns_payload.notification(message, texts if "subtitle" in texts else {})
        aps |= {"content-available": 1} if message.apns.content_available else {}
    aps = apns_payload.merged(aps, message.apns.aps)
    return present({"headers": present(headers), "payload": {"aps": aps} if aps else None})


def _webpush(push: PushFacts, message: Message, key: str, ttl: int | None, *, shown: bool) -> Tree:
    options = message.webpush
    headers = {
        "Topic": web_topic(key),
        "Urgency": "high" if push.high else "normal",
        "TTL": None if ttl is None else str(ttl),
    }
    notification = {
        "tag": key,
        "icon": options.icon,
        "badge": options.badge,
        "actions": [{"action": one.action, "title": one.title} for one in options.actions] or None,
        "requireInteraction": options.require_interaction,
        "silent": options.silent,
    }
    link = message.deep_link if message.deep_link and message.deep_link.startswith("https://") else None
    return present(
        {
            "headers": present(headers),
            "notification": present(notification) if shown else None,
            "fcm_options": {"link": link} if link and shown else None,
        }
    )


def _spelled(options: FcmOptions, part: str) -> Tree:
    """The author's own part, with data as FCM takes it."""
    tree: Tree = getattr(options, part)
    where = f"fcm.{part}.data"
    return {**tree, "data": data_strings(_object(tree["data"], where), where)} if "data" in tree else tree


def overlaid(base: Tree, more: Mapping[str, Any]) -> Tree:
    """`base` with `more` laid over it, object by object; null takes a key away."""
    tree = dict(base)
    for name, value in more.items():
        below = tree.get(name)
        tree[name] = overlaid(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return present(tree)


def _counted(tree: Tree) -> int:
    """Bytes of keys and values that count against the limit, without what users bring."""
    counted = 0
    for part in ("notification", "data"):
        for key, value in tree.get(part, {}).items():
            words = value.parts if isinstance(value, Template) else (value,)
            counted += len(key.encode()) + sum(len(word.encode()) for word in words if isinstance(word, str))
    return counted


# ── checks ────────────────────────────────────────────────────────────────────────────────────────────


def _check(message: Message) -> None:
    kind = message.apns.push_type
    if kind not in (PushType.ALERT, PushType.BACKGROUND):
        raise BadSpec(f"apns.push_type: FCM carries alert and background, not {kind.value}")
    if kind is PushType.BACKGROUND and message.texts and not message.fcm.data_only:
        raise BadSpec("texts: a background push shows none; set fcm.data_only or push type alert")
    apns_payload.check_beside_data(message)
    hidden = ("clarion_id", "title", "subtitle", "body") if message.fcm.data_only or message.silent else ()
    for name in hidden:
        if name in message.data and (name == "clarion_id" or message.texts):
            raise BadSpec(f"data.{name} is Clarion's own in a message that the app shows itself: rename it")
    _check_android(message.fcm.android)
    options = _object(message.fcm.webpush.get("fcm_options", {}), "fcm.webpush.fcm_options")
    if not str(options.get("link", "https://")).startswith("https://"):
        raise BadSpec("fcm.webpush.fcm_options.link must begin with https://")


def _object(value: object, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadSpec(f"{where} must be an object")
    return value


def _check_android(android: Mapping[str, Any]) -> None:
    priority = android.get("priority")
    if priority is not None and str(priority).lower() not in ("normal", "high"):
        raise BadSpec("fcm.android.priority must be normal or high")
    if (ttl := android.get("ttl")) is not None:
        match = _DURATION.fullmatch(str(ttl))
        if match is None or int(match[1]) > _LONGEST:
            raise BadSpec('fcm.android.ttl must be seconds like "3600s", at most 2419200s')
    notification = _object(android.get("notification", {}), "fcm.android.notification")
    if (colour := notification.get("color")) is not None and not _COLOUR.fullmatch(str(colour)):
        raise BadSpec("fcm.android.notification.color must be like #a1b2c3")
    for name in ("title", "body"):
        if notification.get(f"{name}_loc_args") and not notification.get(f"{name}_loc_key"):
            raise BadSpec(f"fcm.android.notification.{name}_loc_args needs {name}_loc_key")
