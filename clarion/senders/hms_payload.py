"""What goes to HMS Push Kit: the message of v1 and v2, and that of v3 (HarmonyOS NEXT).

Source: Huawei's references of messages:send. Repeats bear the same notification number (notify_id, notifyId)
and tag: there is no idempotency key. A message without texts is a data message.

`urgency` HIGH needs a right that few apps have and is refused without it, so it is never said unless
`hms.android` does. What is not classified as service is said to be marketing: an app that claims more than it
may is punished. Whether a lifetime of 0 is taken is UNCONFIRMED: it is told as one second.
"""

from __future__ import annotations

from typing import Any, Final

from clarion.errors import BadSpec
from clarion.limits import HMS_BODY
from clarion.model.message import Message, PushType, badge_step
from clarion.render import Compiled, Rendering, Renderings, present, render, render_languages
from clarion.senders.facts import dedup_key
from clarion.senders.fcm_payload import overlaid
from clarion.senders.sender import PushFacts
from clarion.senders.vendor import cut_lifetime, data_text, is_service, notification_number, title_and_body

LONGEST: Final = 1_296_000  # seconds: 15 days
V1_HEAD: Final = b'{"validate_only":false,"message":{"token":'  # then the registrations, then a rendering
V3_HEAD: Final = b'{"target":{"token":'
ALERT: Final = b"0"  # the header push-type of v3
BACKGROUND: Final = b"6"
MARKETING: Final = "MARKETING"

Tree = dict[str, Any]


def v1(push: PushFacts, message: Message, seconds: int | None) -> Renderings:
    """What stands behind the registrations in v1 and v2. Raises BadSpec."""
    _check(message)

    def rendered(texts: Compiled) -> Rendering:
        tree = _v1(push, message, texts, seconds)
        return render(tree, HMS_BODY - len(V1_HEAD), head=b",", tail=b"}}")

    return render_languages(message, rendered, "HMS")


def v3(push: PushFacts, message: Message, seconds: int | None) -> Renderings:
    """What stands behind the registrations in v3. Raises BadSpec."""
    _check(message)

    def rendered(texts: Compiled) -> Rendering:
        tree = _v3(push, message, texts, seconds)
        return render(tree, HMS_BODY - len(V3_HEAD), head=b"},", tail=b"}")

    return render_languages(message, rendered, "HMS")


def warnings(message: Message) -> list[str]:
    """What Huawei takes, and may not do what the author thinks."""
    said = cut_lifetime(message, LONGEST, "HMS")
    if is_service(message) and not message.hms.category:
        said.append(
            "classification: HMS wants hms.category of a service message, else it counts as marketing"
        )
    return said


def _check(message: Message) -> None:
    if message.apns.push_type not in (PushType.ALERT, PushType.BACKGROUND):
        raise BadSpec(f"apns.push_type: HMS carries alert and background, not {message.apns.push_type.value}")
    for name in ("android", "notification"):
        if "token" in getattr(message.hms, name):
            raise BadSpec(f"hms.{name}.token: registrations are Clarion's to put in")


def _kept(seconds: int | None) -> int | None:
    return None if seconds is None else max(1, min(seconds, LONGEST))


def _category(message: Message) -> str | None:
    return message.hms.category if is_service(message) else MARKETING


def _v1(push: PushFacts, message: Message, texts: Compiled, seconds: int | None) -> Tree:
    kept = _kept(seconds)
    android = {
        "ttl": None if kept is None else f"{kept}s",
        "bi_tag": push.dedup_key,
        "receipt_id": message.hms.receipt_id,
        "category": _category(message) if texts else None,
        "target_user_type": 1 if message.hms.test else None,
        "notification": _v1_notification(push, message, texts) if texts else None,
    }
    return present(
        {
            "data": data_text(message) or (None if texts else "{}"),
            "android": overlaid(present(android), message.hms.android),
        }
    )


def _v1_notification(push: PushFacts, message: Message, texts: Compiled) -> Tree:
    title, body = title_and_body(texts)
    notification = {
        "title": title,
        "body": body,
        "image": message.image if message.image and message.image.startswith("https://") else None,
        "tag": dedup_key(push, message),
        "notify_id": notification_number(push, message),
        "channel_id": message.hms.channel_id,
        "importance": "NORMAL" if is_service(message) else "LOW",
        "click_action": _click(message),
        "badge": _badge(message, "set_num", "add_num"),
    }
    return overlaid(present(notification), message.hms.notification)


def _badge(message: Message, exactly: str, more: str) -> Tree | None:
    """Huawei's phones count by themselves, so an increment is the same for all of a request. Up to 99."""
    if message.badge is None:
        return None
    step = badge_step(message.badge)
    return {more: min(step, 99)} if step else {exactly: min(int(message.badge), 99)}


def _click(message: Message) -> Tree:
    link = message.deep_link
    if not link:
        return {"type": 3}
    return {"type": 2, "url": link} if link.startswith("https://") else {"type": 1, "intent": link}


def _v3(push: PushFacts, message: Message, texts: Compiled, seconds: int | None) -> Tree:
    data = data_text(message)
    payload: Tree = {"extraData": data or "{}"}
    if texts:
        payload = present({"notification": _v3_notification(push, message, texts), "extraData": data or None})
    options = {
        "testMessage": True if message.hms.test else None,
        "ttl": _kept(seconds),
        "biTag": push.dedup_key,
        "receiptId": message.hms.receipt_id,
    }
    return {"payload": payload, "pushOptions": present(options)}


def _v3_notification(push: PushFacts, message: Message, texts: Compiled) -> Tree:
    title, body = title_and_body(texts)
    link = message.deep_link
    notification = {
        "category": _category(message),
        "title": title,
        "body": body,
        "image": message.image if message.image and message.image.startswith("https://") else None,
        "clickAction": present({"actionType": 1 if link else 0, "uri": link}),
        "notifyId": notification_number(push, message),
        "badge": _badge(message, "setNum", "addNum"),
    }
    return overlaid(present(notification), message.hms.notification)
