"""The sender for Honor Push: /api/v1/{appId}/sendMessage with an access token.

Source: integrators' copies of Honor's page; the page itself could not be read. How many registrations one
request may carry (1000) and how long its content may be (4096 bytes, as at Huawei) are UNCONFIRMED; a fifth
of the former is sent, and the credential's setting `group` says otherwise. There is no idempotency key:
repeats bear the same `notifyId` and `tag`, so a device shows one. What is classified as service has
importance NORMAL, what is not has LOW. A message without texts is a data message. Whether a lifetime of 0 is
taken is UNCONFIRMED: it is told as one second.
"""

from __future__ import annotations

from functools import partial as bound
from typing import Any, Final

import orjson

from clarion import limits
from clarion.errors import BadCredential, BadSpec
from clarion.http2.frames import literal
from clarion.model.message import Message, PushType, badge_step
from clarion.render import Compiled, Rendering, Renderings, present, render, render_languages
from clarion.senders import honor_answers, vendor_tokens
from clarion.senders.facts import dedup_key
from clarion.senders.fcm_payload import overlaid
from clarion.senders.grouped import PATIENCE, Group, GroupedSender, Reach, Verdict, partial
from clarion.senders.line import Line
from clarion.senders.link import Surroundings
from clarion.senders.outcome import ACCEPTED
from clarion.senders.sender import PushFacts
from clarion.senders.tls import client_tls
from clarion.senders.vendor import (
    VendorPrepared,
    cut_lifetime,
    data_text,
    is_service,
    notification_number,
    title_and_body,
)
from clarion.store.credentials import Credential

HOST: Final = "https://push-api.cloud.honor.com"
TOKEN_URL: Final = "https://iam.developer.honor.com/auth/token"
TYPE: Final = b"application/json; charset=UTF-8"
LONGEST: Final = 1_296_000  # seconds: 15 days
HEAD: Final = b'{"token":'  # then the registrations, then a rendering

Tree = dict[str, Any]


class HonorSender(GroupedSender):
    """One app at Honor."""

    provider = "honor"
    most = 1_000
    token_reasons = honor_answers.TOKEN_REASONS

    def __init__(self, credential: Credential, around: Surroundings) -> None:
        """Raises BadCredential."""
        self._around = around
        super().__init__(credential, around.clock)

    def reach_of(self, credential: Credential) -> Reach:
        """Honor's host; its tokens come from another one, unless the credential says where from."""
        secret, url = credential.secret, credential.endpoint or HOST
        tls = client_tls(credential.settings.get("ca"), alpn=("http/1.1",))
        if not {"client_id", "client_secret"} <= secret.keys():
            raise BadCredential(f"credential {credential.name} is not usable for Honor")
        mint = vendor_tokens.honor_mint(secret, secret.get("token_url", TOKEN_URL), tls)
        self._path = f"/api/v1/{credential.topic}/sendMessage".encode()
        line = bound(Line, url, tls, limits.request_timeout("honor") - PATIENCE, content_type=TYPE)
        authorization = vendor_tokens.shared(self._around, credential, mint, vendor_tokens.HOUR_RENEW)
        return Reach(line, authorization)

    def render(self, push: PushFacts, message: Message) -> VendorPrepared:
        """Compile the message. Raises BadSpec."""

        def rendered(seconds: int | None) -> Renderings:
            return contents(push, message, seconds)

        kind = "service" if is_service(message) else "marketing"
        return VendorPrepared(push, message, self.clock, rendered, kind=kind)

    async def deliver(self, line: Line, group: Group, token: str | None) -> Verdict:
        """One request, one answer."""
        headers = literal(b"authorization", f"Bearer {token}".encode(), never_indexed=True)
        headers += literal(b"timestamp", b"%d" % (self.clock.time() * 1_000), never_indexed=True)
        body = HEAD + orjson.dumps(group.tokens) + group.body
        reply = await line.post(self._path, headers, body, patience=PATIENCE)
        outcome, others = honor_answers.read(reply.status, reply.body)
        if outcome is ACCEPTED:
            return partial(group.tokens, others)
        return Verdict(self.later(outcome, reply), others)


def contents(push: PushFacts, message: Message, seconds: int | None) -> Renderings:
    """What stands behind the registrations, per language. Raises BadSpec."""
    _check(message)

    def rendered(texts: Compiled) -> Rendering:
        tree = _tree(push, message, texts, seconds)
        return render(tree, limits.HONOR_BODY - len(HEAD), head=b",", tail=b"}")

    return render_languages(message, rendered, "Honor")


def warnings(message: Message) -> list[str]:
    """What Honor takes, and may not do what the author thinks."""
    return cut_lifetime(message, LONGEST, "Honor")


def _check(message: Message) -> None:
    kind = message.apns.push_type
    if kind not in (PushType.ALERT, PushType.BACKGROUND):
        raise BadSpec(f"apns.push_type: Honor carries alert and background, not {kind.value}")
    if "token" in message.honor.android:
        raise BadSpec("honor.android.token: registrations are Clarion's to put in")


def _tree(push: PushFacts, message: Message, texts: Compiled, seconds: int | None) -> Tree:
    kept = None if seconds is None else max(1, min(seconds, LONGEST))
    android = {
        "ttl": None if kept is None else f"{kept}s",
        "biTag": push.dedup_key,
        "targetUserType": 1 if message.honor.test else None,
        "notification": _notification(push, message, texts) if texts else None,
    }
    return present(
        {
            "data": data_text(message) or (None if texts else "{}"),
            "android": overlaid(present(android), message.honor.android),
        }
    )


def _notification(push: PushFacts, message: Message, texts: Compiled) -> Tree:
    title, body = title_and_body(texts)
    notification = {
        "title": title,
        "body": body,
        "image": message.image if message.image and message.image.startswith("https://") else None,
        "importance": "NORMAL" if is_service(message) else "LOW",
        "tag": dedup_key(push, message),
        "notifyId": notification_number(push, message),
        "clickAction": _click(message),
        "badge": _badge(message),
    }
    return overlaid(present(notification), message.honor.notification)


def _badge(message: Message) -> Tree | None:
    """Honor's phones count by themselves, so an increment is the same for all of a request. Up to 99."""
    if message.badge is None:
        return None
    step = badge_step(message.badge)
    return {"addNum": min(step, 99)} if step else {"setNum": min(int(message.badge), 99)}


def _click(message: Message) -> Tree:
    link = message.deep_link
    if not link:
        return {"type": 3}
    return {"type": 2, "url": link} if link.startswith("https://") else {"type": 1, "intent": link}
