"""The sender for Getui (个推): RestAPI v2, up to 200 single pushes in one request (push/single/batch/cid).

Source: docs.getui.com. Not their list push: that is two requests with one key for the first of them, and a
crash between the two would lose the list in silence, because a repeated `request_id` is dropped. In a batch
each registration has a message and a request_id of its own, made of the push, its content and the
registration. A repeat is not shown twice; what is answered to it is UNCONFIRMED. Whether 200 is the most is
UNCONFIRMED as well (`group` in the credential's settings says fewer).

Who is not listed in the answer to a batch is asked for alone: an unknown one is refused then and retires.

A token of a day is made with a SHA-256 signature and shared by all processes. Lifetimes are in milliseconds,
at most three days; one of 0 is told as -1, not kept for who is away. Phones that are not online are reached
through the maker's channel (`push_channel`), which says the same. How a maker is told the class of a message
is the maker's own: `getui.options`, spelled as in Getui's reference of `android.ups.options`.
"""

from __future__ import annotations

import asyncio
from functools import partial as bound
from typing import Any, Final

import orjson

from clarion import limits
from clarion.errors import BadCredential, BadSpec
from clarion.http2.frames import literal
from clarion.model.message import Message, PushType
from clarion.render import Renderings, present
from clarion.senders import getui_answers, vendor_tokens
from clarion.senders.facts import dedup_key
from clarion.senders.fcm_payload import overlaid
from clarion.senders.getui_answers import UNLISTED
from clarion.senders.grouped import PATIENCE, Group, GroupedSender, Reach, Row, Verdict
from clarion.senders.halving import WIDEST, ask_all
from clarion.senders.line import Line, Unanswered
from clarion.senders.link import Surroundings
from clarion.senders.outcome import ACCEPTED
from clarion.senders.sender import PushFacts, TooLarge
from clarion.senders.tls import client_tls
from clarion.senders.vendor import (
    VendorPrepared,
    cut_lifetime,
    data_text,
    fit,
    is_service,
    notification_number,
    too_long,
    written,
)
from clarion.store.credentials import Credential

HOST: Final = "https://restapi.getui.com"
TYPE: Final = b"application/json;charset=utf-8"
TITLE: Final = 50  # characters
BODY: Final = 256
PAYLOAD: Final = 3_072
LONGEST: Final = 259_200  # seconds: three days

Tree = dict[str, Any]


class GetuiSender(GroupedSender):
    """One app at Getui."""

    provider = "getui"
    most = 200
    mixed = True
    token_reasons = getui_answers.TOKEN_REASONS
    quota_reasons = getui_answers.QUOTA_REASONS

    def __init__(self, credential: Credential, around: Surroundings) -> None:
        """Raises BadCredential."""
        self._around = around
        super().__init__(credential, around.clock)

    def reach_of(self, credential: Credential) -> Reach:
        """Getui's host, where its tokens come from as well."""
        url = credential.endpoint or HOST
        tls = client_tls(credential.settings.get("ca"), alpn=("http/1.1",))
        try:
            base = f"/v2/{credential.secret['app_id']}"
            mint = vendor_tokens.getui_mint(credential.secret, f"{url}{base}/auth", self._around.clock, tls)
        except KeyError as error:
            raise BadCredential(f"credential {credential.name} is not usable for Getui") from error
        self._path = f"{base}/push/single/batch/cid".encode()
        timeout = limits.request_timeout("getui") - PATIENCE
        line = bound(Line, url, tls, timeout, content_type=TYPE)
        shared = vendor_tokens.shared(self._around, credential, mint, vendor_tokens.DAY_RENEW)
        return Reach(line, shared)

    def render(self, push: PushFacts, message: Message) -> VendorPrepared:
        """Compile the message. Raises BadSpec."""

        def rendered(seconds: int | None) -> Renderings:
            return contents(push, message, seconds)

        kind = "service" if is_service(message) else "marketing"
        return VendorPrepared(push, message, self.clock, rendered, kind=kind)

    async def deliver(self, line: Line, group: Group, token: str | None) -> Verdict:
        """One request, and more for who is not listed or refused for the sake of others."""
        headers = literal(b"token", (token or "").encode(), never_indexed=True)

        async def ask(part: Group) -> Verdict:
            reply = await line.post(self._path, headers, batch(part), patience=PATIENCE)
            outcome, states = getui_answers.read(reply.status, reply.body, alone=len(part.rows) == 1)
            if outcome is ACCEPTED:
                return self.itemized(part, states, UNLISTED)
            return Verdict(self.later(outcome, reply))

        async def ask_alone(row: Row) -> Verdict:
            try:
                return await ask(Group(group.prepared, b"", [row]))
            except Unanswered:
                return Verdict(UNLISTED)

        verdict = await ask_all(group, ask, getui_answers.blames, self.provider)
        told = {token: verdict.others.get(token, verdict.outcome) for token in group.tokens}
        unlisted = [row for row in group.rows if told[row.token] == UNLISTED][:WIDEST]
        if not unlisted or len(group.rows) == 1:
            return verdict
        again = await asyncio.gather(*(ask_alone(row) for row in unlisted))
        told |= {row.token: one.outcome for row, one in zip(unlisted, again, strict=True)}
        return self.itemized(group, told, UNLISTED)


def batch(group: Group) -> bytes:
    """The request to a group."""
    messages = b",".join(
        b'{"request_id":"%b","audience":{"cid":[%b]},%b'
        % (request_id(group, row).encode(), orjson.dumps(row.token), row.body)
        for row in group.rows
    )
    return b'{"is_async":false,"msg_list":[%b]}' % messages


def request_id(group: Group, row: Row) -> str:
    """The key of one registration's message: 32 characters, the most that are allowed."""
    return Group(group.prepared, b"", [row]).name(32)


def contents(push: PushFacts, message: Message, seconds: int | None) -> Renderings:
    """What stands behind a registration, per language. Raises BadSpec."""
    _check(message)
    settings = overlaid(present({"ttl": _milliseconds(seconds)}), message.getui.settings)
    payload = data_text(message)
    if len(payload) > PAYLOAD:
        raise BadSpec(f"data is over Getui's limit of {PAYLOAD} characters")

    def write(title: str, body: str) -> bytes:
        title, body = fit(title, TITLE), fit(body, BODY)
        if not message.silent and not (title.strip() and body.strip()):
            raise TooLarge("Getui wants a title and a body that are not empty")
        said = _silent(message, payload) if message.silent else _shown(push, message, title, body, payload)
        channel = {"ios": _ios(push, message, title, body, payload), "android": {"ups": _ups(message, said)}}
        return orjson.dumps({"settings": settings, "push_message": said, "push_channel": channel})[1:]

    return written(message, write)


def warnings(message: Message) -> list[str]:
    """What Getui takes, and may not do what the author thinks."""
    said = too_long(message, {"title": TITLE, "body": BODY}, len, "Getui")
    said += cut_lifetime(message, LONGEST, "Getui")
    if is_service(message) and not message.getui.options:
        said.append("classification: Getui hands it to a phone's maker only as getui.options says it")
    return said


def _check(message: Message) -> None:
    kind = message.apns.push_type
    if kind not in (PushType.ALERT, PushType.BACKGROUND):
        raise BadSpec(f"apns.push_type: Getui carries alert and background, not {kind.value}")


def _milliseconds(seconds: int | None) -> int | None:
    if seconds is None:
        return None
    return -1 if seconds <= 0 else min(seconds, LONGEST) * 1_000


def _silent(message: Message, payload: str) -> Tree:
    return {"transmission": payload or "{}"}


def _shown(push: PushFacts, message: Message, title: str, body: str, payload: str) -> Tree:
    shown = {
        "title": title,
        "body": body,
        **_click(message, payload),
        "notify_id": notification_number(push, message),
        "channel_id": message.getui.channel_id,
    }
    return {"notification": overlaid(present(shown), message.getui.notification)}


def _click(message: Message, payload: str) -> Tree:
    """A link of another form than these two is in the data only."""
    link = message.deep_link or ""
    if link.startswith("https://"):
        return {"click_type": "url", "url": link}
    if link.startswith("intent:"):
        return {"click_type": "intent", "intent": link}
    return {"click_type": "payload", "payload": payload} if payload else {"click_type": "startapp"}


def _ups(message: Message, said: Tree) -> Tree:
    """The same for the maker's channel, which opens the app where Getui's own would hand it a payload."""
    if message.silent:
        return said
    shown = {name: value for name, value in said["notification"].items() if name != "payload"}
    if shown["click_type"] == "payload":
        shown["click_type"] = "startapp"
    more = {"options": message.getui.options} if message.getui.options else {}
    return {"notification": shown, **more}


def _ios(push: PushFacts, message: Message, title: str, body: str, payload: str) -> Tree:
    if message.silent:
        return overlaid(
            present({"type": "notify", "aps": {"content-available": 1}, "payload": payload or None}),
            message.getui.ios,
        )
    badge = None if message.badge is None else str(message.badge)
    shown = {
        "type": "notify",
        "aps": present({"alert": {"title": title, "body": body}, "sound": message.sound}),
        "auto_badge": badge,
        "payload": payload or None,
        "apns-collapse-id": dedup_key(push, message),
    }
    return overlaid(present(shown), message.getui.ios)
