"""The sender for Umeng U-Push (友盟): /api/send to as many as 500 device tokens.

Source: U-Push's API document. Each request is signed: MD5 over the method, the URL without its query, the
very bytes of the body and the master secret. Its time may be ten minutes off. Android and iOS apps have keys
of their own, so a credential says which it is. A success says only that a request was taken.

A list (listcast) has no idempotency key: repeats after a crash are counted as `redo`. With `"filecast": true`
in the credential a list goes as a file, which has one (`out_biz_no`, made of the request's members): a repeat
is not shown twice. It is not the default, because Umeng takes 300 of those an hour. What a repeat is answered
is UNCONFIRMED; a yes is expected. So is whether a file to nobody alive is an error.

The lifetime is a wall-clock time in China, at most seven days from now, and at least a minute, because there
is no word for "now or never". No field for the class of a message is documented publicly (UNCONFIRMED):
`umeng.channel_properties` says it to the makers' channels, as Umeng's reference spells it.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from functools import partial as bound
from typing import Any, Final

import orjson

from clarion import limits
from clarion.errors import BadCredential, BadSpec
from clarion.limits import UMENG_ANDROID, UMENG_IOS
from clarion.model.message import Message, PushType, badge_step
from clarion.render import Renderings, present
from clarion.senders import umeng_answers
from clarion.senders.fcm_payload import overlaid
from clarion.senders.grouped import PATIENCE, Group, GroupedSender, Reach, Verdict
from clarion.senders.halving import ask_all
from clarion.senders.line import Line, Reply
from clarion.senders.link import Surroundings
from clarion.senders.sender import PushFacts, TooLarge
from clarion.senders.tls import client_tls
from clarion.senders.vendor import (
    CHINA,
    VendorPrepared,
    cut_lifetime,
    data_text,
    is_service,
    strings,
    written,
)
from clarion.store.credentials import Credential

HOST: Final = "https://msgapi.umeng.com"
SEND: Final = "/api/send"
UPLOAD: Final = "/upload"
TYPE: Final = b"application/json"
LONGEST: Final = 604_740  # seconds: seven days, and a minute less for clocks
SHORTEST: Final = 60
RESERVED: Final = ("aps", "d", "p")  # keys that data for iOS may not have
PLATFORMS: Final = ("android", "ios")

Tree = dict[str, Any]


class UmengSender(GroupedSender):
    """One app key at Umeng, of one platform."""

    provider = "umeng"
    most = 500
    quota_reasons = umeng_answers.QUOTA_REASONS
    letters = bytes(letter for letter in range(0x21, 0x7F) if letter != ord(","))

    def __init__(self, credential: Credential, around: Surroundings) -> None:
        """Raises BadCredential."""
        super().__init__(credential, around.clock)

    def reach_of(self, credential: Credential) -> Reach:
        """Umeng's host, unless the credential says another one: it is part of what is signed."""
        secret = credential.secret
        try:
            self._app_key, self._secret = str(secret["app_key"]), str(secret["app_master_secret"]).encode()
            self._platform = PLATFORMS.index(secret.get("platform", "android"))
        except (KeyError, ValueError) as error:
            raise BadCredential(f"credential {credential.name} is not usable for Umeng") from error
        self._mode = "true" if secret.get("production", True) else "false"
        self._has_files = bool(secret.get("filecast", False))
        self._url = credential.endpoint or HOST
        tls = client_tls(credential.settings.get("ca"), alpn=("http/1.1",))
        # A file and its sending are two requests, one after the other, within one delivery's time.
        timeout = limits.request_timeout("umeng") - PATIENCE
        if self._has_files:
            timeout /= 2
        return Reach(bound(Line, self._url, tls, timeout, content_type=TYPE), None)

    def render(self, push: PushFacts, message: Message) -> VendorPrepared:
        """Compile the message. Raises BadSpec."""
        platform = PLATFORMS[self._platform]

        def rendered(seconds: int | None) -> Renderings:
            return contents(push, message, seconds, platform)

        kind = "service" if is_service(message) else "marketing"
        return VendorPrepared(push, message, self.clock, rendered, kind=kind)

    async def deliver(self, line: Line, group: Group, token: str | None) -> Verdict:
        """One request (a file: two), or more for a list that is refused because of some of it."""

        async def ask(part: Group) -> Verdict:
            target = await self._target(line, part)
            if isinstance(target, Reply):
                reply = target
            else:
                reply = await self._post(line, SEND, target, part.body)
            outcome = umeng_answers.read(reply.status, reply.body, alone=len(part.rows) == 1)
            return Verdict(self.later(outcome, reply))

        return await ask_all(group, ask, umeng_answers.blames, self.provider)

    async def _target(self, line: Line, group: Group) -> Tree | Reply:
        """Whom a request is for; the answer of an upload that failed."""
        if not self._has_files:
            kind = "unicast" if len(group.rows) == 1 else "listcast"
            return {"type": kind, "device_tokens": ",".join(group.tokens)}
        reply = await self._post(line, UPLOAD, {"content": "\n".join(group.tokens)}, b"}")
        name = umeng_answers.file_id(reply.status, reply.body)
        if name is None:
            return reply
        return {"type": "filecast", "file_id": name, "out_biz_no": group.name()}

    async def _post(self, line: Line, path: str, said: Tree, content: bytes) -> Reply:
        """A signed request; once more with another time if its time is refused."""
        reply = await self._post_once(line, path, said, content)
        if umeng_answers.read(reply.status, reply.body, alone=False).reason in umeng_answers.STAMPS:
            reply = await self._post_once(line, path, said, content)
        return reply

    async def _post_once(self, line: Line, path: str, said: Tree, content: bytes) -> Reply:
        now = self.clock.time()
        head = {"appkey": self._app_key, "timestamp": str(int(now * 1_000)), **said}
        if path == SEND:
            head["production_mode"] = self._mode
            key = {"out_biz_no": head.pop("out_biz_no")} if "out_biz_no" in head else {}
            content, policy = _with_policy(content, now, key)
            head |= {"policy": policy} if policy else {}
        body = orjson.dumps(head)[:-1] + (b"," if content != b"}" else b"") + content
        sign = hashlib.md5(f"POST{self._url}{path}".encode() + body + self._secret, usedforsecurity=False)
        return await line.post(f"{path}?sign={sign.hexdigest()}".encode(), b"", body, patience=PATIENCE)


def _with_policy(content: bytes, now: float, key: Tree) -> tuple[bytes, Tree]:
    """The content without the seconds that stand before it, and the policy that says them as a time."""
    seconds, _, rest = content.partition(b" ")
    policy = dict(key)
    if seconds != b"-":
        moment = datetime.fromtimestamp(now + int(seconds), UTC).astimezone(CHINA)
        policy["expire_time"] = moment.strftime("%Y-%m-%d %H:%M:%S")
    return rest, policy


def contents(push: PushFacts, message: Message, seconds: int | None, platform: str) -> Renderings:
    """The lifetime in seconds ("-": none), then what stands behind the target. Raises BadSpec."""
    _check(message, platform)
    extra = strings({**message.data, "deep_link": message.deep_link}, "data")
    kept = b"-" if seconds is None else b"%d" % max(SHORTEST, min(seconds, LONGEST))
    more = present(
        {
            "description": push.push_id,
            "mipush": "true" if message.umeng.mi_activity else None,
            "mi_activity": message.umeng.mi_activity,
            "channel_properties": message.umeng.channel_properties or None,
        }
    )
    most, build = (UMENG_ANDROID, _android) if platform == "android" else (UMENG_IOS, _ios)

    def write(title: str, body: str) -> bytes:
        payload = build(message, title, body, extra)
        size = len(orjson.dumps(payload))
        if size > most:
            raise TooLarge(f"{size} bytes, over Umeng's limit of {most} for {platform}")
        return kept + b" " + orjson.dumps({"payload": payload, **more})[1:]

    return written(message, write)


def warnings(message: Message) -> list[str]:
    """What Umeng takes, and may not do what the author thinks."""
    said = cut_lifetime(message, LONGEST, "Umeng")
    if message.ttl == 0:
        said.append("ttl: Umeng has no word for now or never: it keeps the message for a minute")
    if badge_step(message.badge):
        said.append("badge: Umeng counts no phone's badge, so an increment is not told")
    if is_service(message) and not message.umeng.channel_properties:
        said.append("classification: Umeng hands it on only as umeng.channel_properties says it")
    return said


def _check(message: Message, platform: str) -> None:
    kind = message.apns.push_type
    if kind not in (PushType.ALERT, PushType.BACKGROUND):
        raise BadSpec(f"apns.push_type: Umeng carries alert and background, not {kind.value}")
    if platform == "ios" and (taken := [name for name in RESERVED if name in message.data]):
        raise BadSpec(f"data.{taken[0]}: Umeng keeps this key for itself on iOS")


def _android(message: Message, title: str, body: str, extra: dict[str, str]) -> Tree:
    if message.silent:
        return {"display_type": "message", "body": {"custom": data_text(message) or "{}"}}
    link, image = message.deep_link or "", message.image or ""
    shown = {
        "ticker": title,
        "title": title,
        "text": body,
        "img": image if image.startswith("https://") else None,
        "after_open": "go_url" if link.startswith("https://") else "go_custom" if link else "go_app",
        "url": link if link.startswith("https://") else None,
        "custom": link if link and not link.startswith("https://") else None,
    }
    tree = {"display_type": "notification", "body": overlaid(present(shown), message.umeng.body)}
    return {**tree, "extra": extra} if extra else tree


def _ios(message: Message, title: str, body: str, extra: dict[str, str]) -> Tree:
    badge = None if badge_step(message.badge) else message.badge
    aps = {
        "alert": None if message.silent else {"title": title, "body": body},
        "content-available": 1 if message.silent else None,
        "badge": badge,
        "sound": message.sound,
        "category": message.category,
        "thread-id": message.thread_id,
        "mutable-content": 1 if message.image else None,
    }
    return {"aps": overlaid(present(aps), message.umeng.aps), **extra}
