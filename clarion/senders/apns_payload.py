"""What goes to APNs, for every push type: the payload's tree and the headers that all devices share.

Rules and sizes are Apple's ("Sending notification requests to APNs", "Generating a remote notification",
"Starting and updating Live Activities with ActivityKit push notifications"); each violation is a BadSpec
that names the message's field.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from clarion.errors import BadSpec
from clarion.limits import APNS_PAYLOAD, APNS_VOIP_PAYLOAD
from clarion.model.message import Message, PushType
from clarion.render import (
    Compiled,
    Rendering,
    Renderings,
    badge_of,
    compile_text,
    present,
    render,
    render_languages,
)

Tree = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Rules:
    """What one push type demands."""

    suffix: str = ""  # behind the bundle id in apns-topic
    priority: int = 10
    priorities: tuple[int, ...] = (10, 5, 1)
    now_or_never: bool = False  # without a ttl: useless later, so never stored
    limit: int = APNS_PAYLOAD
    tokens_only: bool = False  # not to be had with a certificate


RULES: Final[dict[PushType, Rules]] = {
    PushType.ALERT: Rules(),
    PushType.BACKGROUND: Rules(priority=5, priorities=(5, 1)),
    PushType.VOIP: Rules(".voip", now_or_never=True, limit=APNS_VOIP_PAYLOAD),
    PushType.LIVE_ACTIVITY: Rules(".push-type.liveactivity", priorities=(10, 5)),
    PushType.PUSH_TO_TALK: Rules(".voip-ptt", now_or_never=True),
    PushType.WIDGETS: Rules(".push-type.widgets"),
    PushType.CONTROLS: Rules(".push-type.controls"),
    PushType.LOCATION: Rules(".location-query", priorities=(10, 5), tokens_only=True),
    PushType.COMPLICATION: Rules(".complication"),
    PushType.FILE_PROVIDER: Rules(".pushkit.fileprovider"),
    PushType.MDM: Rules(),  # the topic is the certificate's own
}


def push_type(message: Message) -> PushType:
    """The type that is sent: without a text an alert is a background push, unless it only sets the badge."""
    asked = message.apns.push_type
    if asked is PushType.ALERT and message.silent and not _badge_alone(message):
        return PushType.BACKGROUND
    return asked


def priority(message: Message) -> int:
    """apns-priority. Raises BadSpec: the push type does not go at the one asked for."""
    kind = push_type(message)
    rules = RULES[kind]
    asked = message.apns.priority
    if asked is None:
        return rules.priority
    if asked not in rules.priorities:
        allowed = " or ".join(map(str, rules.priorities))
        raise BadSpec(f"apns.priority: a push of type {kind.value} goes at {allowed}, not at {asked}")
    return asked


def renderings(message: Message, *, certificate: bool = False) -> Renderings:
    """The payloads of a message, one per language. Raises BadSpec."""
    kind = push_type(message)
    if certificate and RULES[kind].tokens_only:
        raise BadSpec(f"apns.push_type: {kind.value} needs a credential with a .p8 key, not a certificate")
    _check(message, kind)
    build = _BUILD.get(kind, _custom)

    def rendered(texts: Compiled) -> Rendering:
        return render(build(message, texts), RULES[kind].limit)

    return render_languages(message, rendered, "APNs")


# ── trees ─────────────────────────────────────────────────────────────────────────────────────────────


def _alert(message: Message, texts: Compiled) -> Tree:
    aps = notification(message, texts)
    if message.apns.content_available:
        aps["content-available"] = 1
    return _payload(message, aps)


def _background(message: Message, texts: Compiled) -> Tree:
    return _payload(message, {"content-available": 1})


def _custom(message: Message, texts: Compiled) -> Tree:
    """Types whose app reads the payload itself: VoIP, push to talk, location, complication, file provider."""
    return _payload(message, notification(message, texts))


def _changed(message: Message, texts: Compiled) -> Tree:
    return _payload(message, {"content-changed": True})


def _mdm(message: Message, texts: Compiled) -> Tree:
    magic = message.apns.push_magic
    if not magic:
        raise BadSpec("apns.push_magic is needed for a push of type mdm")
    return {"mdm": compile_text(magic, "apns.push_magic")}


def _live_activity(message: Message, texts: Compiled) -> Tree:
    options = message.apns
    return _payload(
        message,
        present(
            {
                "timestamp": options.timestamp,
                "event": options.event,
                "content-state": options.content_state,
                "attributes-type": options.attributes_type,
                "attributes": options.attributes,
                "stale-date": options.stale_date,
                "dismissal-date": options.dismissal_date,
            }
        )
        | notification(message, texts),
    )


_BUILD: Final[dict[PushType, Callable[[Message, Compiled], Tree]]] = {
    PushType.ALERT: _alert,
    PushType.BACKGROUND: _background,
    PushType.WIDGETS: _changed,
    PushType.CONTROLS: _changed,
    PushType.MDM: _mdm,
    PushType.LIVE_ACTIVITY: _live_activity,
}


def notification(message: Message, texts: Compiled) -> Tree:
    """The keys of `aps` that a person sees or hears."""
    options = message.apns
    mutable = bool(message.image) if options.mutable_content is None else options.mutable_content
    return present(
        {
            "alert": dict(texts) or None,
            "badge": badge_of(message),
            "sound": message.sound,
            "category": message.category,
            "thread-id": message.thread_id,
            "mutable-content": 1 if mutable else None,
            "interruption-level": options.interruption_level,
            "relevance-score": options.relevance_score,
            "target-content-id": options.target_content_id,
        }
    )


def _payload(message: Message, aps: Tree) -> Tree:
    return {"aps": merged(aps, message.apns.aps)} | custom(message)


def merged(aps: Tree, more: Mapping[str, Any]) -> Tree:
    """`aps` with the message's own additions: they win, and an alert is merged key by key."""
    alert, added = aps.get("alert"), more.get("alert")
    if isinstance(alert, dict) and isinstance(added, dict):
        more = {**more, "alert": alert | added}
    return {**aps, **more}


def custom(message: Message) -> Tree:
    """What stands beside `aps` for the app: data as it is, and where a tap leads. Null is left out."""
    return present(message.data | present({"deep_link": message.deep_link, "image": message.image}))


# ── checks ────────────────────────────────────────────────────────────────────────────────────────────

_WORDLESS: Final = (PushType.WIDGETS, PushType.CONTROLS, PushType.MDM)


def _badge_alone(message: Message) -> bool:
    return message.badge is not None and not (message.data or message.sound or message.apns.content_available)


def _check(message: Message, kind: PushType) -> None:
    check_beside_data(message)
    render({"data": message.data}, limit=0)  # what JSON cannot say is named by where its author put it
    if "aps" in message.data:
        raise BadSpec("data.aps is reserved: give the keys of aps under apns.aps")
    badge = message.apns.aps.get("badge")
    if badge is not None and (type(badge) is not int or badge < 0):
        raise BadSpec("apns.aps.badge must be a whole number, 0 or more")
    if kind is PushType.BACKGROUND:
        _check_background(message)
    elif kind is PushType.LIVE_ACTIVITY:
        _check_live_activity(message)
    elif kind in _WORDLESS and message.texts:
        raise BadSpec(f"texts: a push of type {kind.value} shows none")
    elif kind is PushType.ALERT and not (message.texts or _badge_alone(message)):
        raise BadSpec("texts: a push of type alert needs one")


def check_beside_data(message: Message) -> None:
    """Raises BadSpec: a field of the message would be hidden by a data key of its name."""
    for name in ("deep_link", "image"):
        if getattr(message, name) is not None and name in message.data:
            raise BadSpec(f"data.{name} and {name} are both given: leave one out")


def _check_background(message: Message) -> None:
    for name in ("texts", "badge", "sound"):
        if getattr(message, name) not in (None, {}):
            raise BadSpec(
                f"{name}: a background push carries data only, and Apple refuses or delays one that shows "
                f"something; leave {name} out, or give the message a text and push type alert"
            )
    if stray := message.apns.aps.keys() - {"content-available"}:
        raise BadSpec(f"apns.aps.{min(stray)}: a background push has nothing but content-available in aps")


def _check_live_activity(message: Message) -> None:
    options = message.apns
    if options.event not in ("start", "update", "end"):
        raise BadSpec("apns.event must be start, update or end for a Live Activity")
    if options.timestamp is None:
        # A retry that took its own time would overtake the update sent after it; devices drop older ones.
        raise BadSpec("apns.timestamp (epoch seconds) is needed: devices keep the newest state by it")
    needed = {
        "start": ("attributes_type", "attributes", "content_state"),
        "update": ("content_state",),
        "end": (),
    }
    for name in needed[options.event]:
        if getattr(options, name) is None:
            raise BadSpec(f"apns.{name} is needed for the event {options.event}")
    if options.event == "start" and message.silent and "alert" not in options.aps:
        raise BadSpec("texts: the event start needs an alert")
    for name in ("timestamp", "stale_date", "dismissal_date"):
        if (moment := getattr(options, name)) is not None and moment > 20_000_000_000:
            raise BadSpec(f"apns.{name} is in seconds since 1970, not in milliseconds")
    if options.stale_date is not None and options.stale_date <= options.timestamp:
        raise BadSpec("apns.stale_date is not later than apns.timestamp: it would be shown as outdated")
