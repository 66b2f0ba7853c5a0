"""What goes to JPush (极光): one body for Android, iOS and HarmonyOS, as an app key has them all.

Source: Jiguang's reference of POST /v3/push. What is for one platform stands in its own block, and
`jpush.android`, `jpush.ios`, `jpush.hmos` and `jpush.options` are laid over those. Without `jpush.hmos`
HarmonyOS shows the plain text: that block needs a category that Huawei has granted.

A message without texts is a `message` for the app, and a background notification on iOS. The API leaves a
badge alone that is not given; increments are counted by JPush, phone by phone. `apns_production` is always
said, because its default is not the same everywhere. A message of the class service is said to be `system`
(classification 1), everything else `operation`, which nobody is punished for.

A lifetime is in seconds. Three days are kept for everybody, ten for paying customers (UNCONFIRMED for whom):
it is cut to three. The limits of 4,000 and 2,000 bytes are those of 2019; later ones are UNCONFIRMED.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from clarion.errors import BadSpec
from clarion.limits import JPUSH_ANDROID, JPUSH_IOS
from clarion.model.message import Message, PushType, badge_step
from clarion.render import Renderings, present
from clarion.senders.facts import dedup_key
from clarion.senders.fcm_payload import overlaid
from clarion.senders.sender import PushFacts, TooLarge
from clarion.senders.vendor import cut_lifetime, data_text, is_service, strings, written

LONGEST: Final = 259_200  # seconds: three days
PICTURE: Final = 3  # style: a big picture
BADGE_MOST: Final = 99

Tree = dict[str, Any]


def renderings(push: PushFacts, message: Message, seconds: int | None, production: bool) -> Renderings:
    """What stands behind the audience, per language. Raises BadSpec."""
    _check(message)
    options = _options(push, message, seconds, production)
    extras = strings({**message.data, "deep_link": message.deep_link}, "data") or None

    def write(title: str, body: str) -> bytes:
        tree = _silent(message, extras) if message.silent else _shown(message, title, body, extras)
        _check_size(tree)
        return orjson.dumps({"platform": "all", **tree, "options": options})[1:]

    return written(message, write)


def warnings(message: Message) -> list[str]:
    """What JPush takes, and may not do what the author thinks."""
    said = cut_lifetime(message, LONGEST, "JPush")
    if any(text.subtitle for text in message.texts.values()):
        said.append("texts: JPush shows no subtitle")
    return said


def _check(message: Message) -> None:
    kind = message.apns.push_type
    if kind not in (PushType.ALERT, PushType.BACKGROUND):
        raise BadSpec(f"apns.push_type: JPush carries alert and background, not {kind.value}")
    if "cid" in message.jpush.options:
        raise BadSpec("jpush.options.cid: the key of a request is Clarion's to put in")


def _options(push: PushFacts, message: Message, seconds: int | None, production: bool) -> Tree:
    options = {
        "time_to_live": None if seconds is None else min(seconds, LONGEST),
        "apns_production": production,
        "apns_collapse_id": dedup_key(push, message),
        "classification": 1 if is_service(message) else 0,
    }
    return overlaid(present(options), message.jpush.options)


def _silent(message: Message, extras: Tree | None) -> Tree:
    # An alert that is empty is not shown; "message" reaches an app on iOS only while it is open.
    ios = present({"alert": "", "content-available": True, "badge": message.badge, "extras": extras})
    said = present({"msg_content": data_text(message) or "{}", "extras": extras})
    return {"notification": {"ios": overlaid(ios, message.jpush.ios)}, "message": said}


def _shown(message: Message, title: str, body: str, extras: Tree | None) -> Tree:
    blocks = {
        "alert": body,
        "android": overlaid(_android(message, title, body, extras), message.jpush.android),
        "ios": overlaid(_ios(message, title, body, extras), message.jpush.ios),
    }
    if message.jpush.hmos:
        hmos = present({"alert": body, "title": title, "extras": extras})
        blocks["hmos"] = overlaid(hmos, message.jpush.hmos)
    return {"notification": blocks}


def _android(message: Message, title: str, body: str, extras: Tree | None) -> Tree:
    picture = message.image if message.image and message.image.startswith("https://") else None
    step, badge = badge_step(message.badge), message.badge
    return present(
        {
            "alert": body,
            "title": title,
            "channel_id": message.jpush.channel_id,
            "style": PICTURE if picture else None,
            "big_pic_path": picture,
            "intent": {"url": message.deep_link} if message.deep_link else None,
            "badge_add_num": min(step, BADGE_MOST) if step else None,
            "badge_set_num": min(badge, BADGE_MOST) if isinstance(badge, int) else None,
            "extras": extras,
        }
    )


def _ios(message: Message, title: str, body: str, extras: Tree | None) -> Tree:
    return present(
        {
            "alert": {"title": title, "body": body},
            "sound": message.sound,
            "badge": message.badge,
            "mutable-content": True if message.image else None,
            "category": message.category,
            "thread-id": message.thread_id,
            "extras": extras,
        }
    )


def _check_size(tree: Tree) -> None:
    """Android counts notification and message together, iOS its own block."""
    notification = tree["notification"]
    ios = len(orjson.dumps(notification.get("ios", {})))
    android = {name: part for name, part in notification.items() if name not in ("ios", "hmos")}
    size = len(orjson.dumps(android)) + len(orjson.dumps(tree.get("message", {})))
    if ios > JPUSH_IOS:
        raise TooLarge(f"{ios} bytes, over JPush's limit of {JPUSH_IOS} for iOS")
    if size > JPUSH_ANDROID:
        raise TooLarge(f"{size} bytes, over JPush's limit of {JPUSH_ANDROID} for Android")
