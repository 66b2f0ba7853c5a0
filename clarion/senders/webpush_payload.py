"""What a browser gets: a JSON object that our service worker (deploy/webpush) shows as a notification.

    title body icon image badge url tag actions requireInteraction silent data

`tag` is the de-duplication key: a repeat replaces what is shown. A message without text is still delivered,
with its data: the service worker decides what to show (browsers forbid showing nothing for long).
"""

from __future__ import annotations

from typing import Any

from clarion.limits import WEBPUSH_PLAINTEXT
from clarion.model.message import Message
from clarion.render import Compiled, Renderings, badge_of, present, render, render_languages
from clarion.senders.facts import dedup_key
from clarion.senders.sender import PushFacts


def renderings(push: PushFacts, message: Message) -> Renderings:
    """The plaintext, one rendering per language. Raises BadSpec."""
    tag = dedup_key(push, message)
    return render_languages(
        message, lambda texts: render(_tree(message, texts, tag), WEBPUSH_PLAINTEXT), "Web Push"
    )


def _tree(message: Message, texts: Compiled, tag: str) -> dict[str, Any]:
    options = message.webpush
    actions = [present({"action": a.action, "title": a.title, "url": a.url}) for a in options.actions]
    return present(
        {
            "title": texts.get("title"),
            "body": texts.get("body"),
            "icon": options.icon,
            "image": message.image,
            "badge": options.badge,
            "url": message.deep_link,
            "tag": tag,
            "actions": actions or None,
            "requireInteraction": options.require_interaction,
            "silent": options.silent,
            "appBadge": badge_of(message),
            "data": message.data or None,
        }
    )
