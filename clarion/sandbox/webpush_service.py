"""A Web Push service, strict: RFC 8030, 8188, 8291 and 8292, in the dialect of one of the large ones.

Checked in this order: subscription, method, authorization, TTL, Urgency, Topic, Content-Encoding, size. What
no push service can see, the sandbox sees, for it is also the browser: a message that does not decrypt is
answered 201 as in life, and logged without content and with the reason "Undecryptable".
"""

from __future__ import annotations

import asyncio
import itertools
import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import orjson

from clarion.http2.frames import Header, literal
from clarion.sandbox.answer import Answer
from clarion.sandbox.log import quoted, safe
from clarion.sandbox.service import Service, Shared, Talk, Verdict
from clarion.sandbox.swift import SwiftConnection
from clarion.sandbox.webpush import ANY, Subscriber, subscriber, vapid_tag
from clarion.sandbox.webpush_crypto import Undecryptable, Vapid, decrypt, read_vapid, sender_key
from clarion.sandbox.webpush_dialects import DIALECTS, STATUS, Dialect, Trouble

BODY: Final = 4_096
DAY: Final = 86_400
CLAIMS: Final = 512
OVERFLOW: Final = 2**31
MESSAGE_ID: Final = 16  # digits
_PATH: Final = re.compile(rb"/push/([A-Za-z0-9_.~-]+)")
_TOPIC: Final = re.compile(rb"[A-Za-z0-9_-]{1,32}")
_URGENCIES: Final = (b"very-low", b"low", b"normal", b"high")
_UNREADABLE: Final = Answer(201, "Undecryptable")
_CREATED: Final = Answer(201)


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a request by its headers."""

    method: bool
    vapid: Vapid | None
    trouble: Trouble | None  # of the other headers
    encoding: bytes | None
    key: str | None  # the Topic, as JSON
    ttl: int


class WebPush(Service):
    """One origin; `url` is what VAPID tokens have to name as their audience."""

    provider = "webpush"
    path_form = _PATH

    def __init__(self, shared: Shared, origin: int, dialect: str) -> None:
        super().__init__(shared, origin)
        self.dialect: Dialect = DIALECTS[dialect]
        self.listens_at(0)
        self._claims: dict[bytes, Vapid] = {}
        self._numbers = itertools.count(1)
        self._said: dict[Trouble, Answer] = {}

    def speak(self, dialect: str) -> None:
        """Change the dialect."""
        self.dialect = DIALECTS[dialect]
        self._said.clear()
        self._profiles.clear()
        for conn in self.connections:
            conn.forget()

    def listens_at(self, port: int) -> None:
        """The port is known: with it the origin, and what Location headers begin with."""
        self.url = f"https://127.0.0.1:{port}"
        self._audiences = (self.url, f"https://localhost:{port}")
        self._messages = f"{self.url}/m/".encode()
        self._location = literal(b"location", self._messages + b"0" * MESSAGE_ID)[:-MESSAGE_ID]

    def streams(self, transport: asyncio.Transport) -> int:
        """As many as the settings say."""
        return self.shared.settings.webpush_streams

    # ---- errors

    def say(self, trouble: Trouble) -> Answer:
        """It, in this origin's dialect."""
        answer = self._said.get(trouble)
        if answer is None:
            answer = self._said[trouble] = self.dialect.say(trouble)
        return answer

    def error(self, status: int | None, reason: str | None) -> Answer:
        """The trouble of this name in the dialect, or the usual one of this status."""
        trouble = self.dialect.named.get(reason or "") or STATUS.get(status or 0)
        if trouble is None:
            return Answer(status or 400, reason)
        answer = self.say(trouble)
        if status in (None, answer.status):
            return answer
        return Answer(status or 400, answer.reason, answer.headers, answer.body)

    def rejection(self, reason: str | None) -> Answer:
        """The VAPID token is not believed."""
        return self.error(None, reason) if reason is not None else self.say(Trouble.TOKEN)

    # ---- headers

    def make_profile(self, headers: tuple[Header, ...]) -> Profile:
        """Everything about the headers that does not depend on time, subscription and body."""
        values = dict(headers)
        counts = [name for name, _ in headers]
        authorization = values.get(b"authorization")
        ttl = values.get(b"ttl", b"")
        trouble = self._ttl_trouble(values) or self._other_trouble(values, counts)
        topic = values.get(b"topic")
        return Profile(
            method=values[b":method"] == b"POST",
            vapid=self._vapid(authorization) if authorization is not None else None,
            trouble=trouble,
            encoding=values.get(b"content-encoding"),
            key=quoted(topic.decode("ascii", "replace")) if topic is not None else None,
            ttl=min(int(ttl), OVERFLOW) if ttl.isdigit() else 0,
        )

    def _vapid(self, authorization: bytes) -> Vapid:
        found = self._claims.get(authorization)
        if found is None:
            if len(self._claims) >= CLAIMS:
                self._claims.clear()
            found = self._claims[authorization] = read_vapid(authorization.decode("ascii", "replace"))
        return found

    def _ttl_trouble(self, values: dict[bytes, bytes]) -> Trouble | None:
        ttl = values.get(b"ttl")
        if ttl is None:
            return Trouble.NO_TTL
        if not ttl.isdigit() or (int(ttl) == 0 and not self.dialect.zero_ttl):
            return Trouble.TTL
        if self.dialect.name == "wns":
            policy = values.get(b"x-wns-cache-policy", b"cache")
            if (policy == b"no-cache") != (int(ttl) == 0):
                return Trouble.CACHE_POLICY
        return None

    def _other_trouble(self, values: dict[bytes, bytes], counts: list[bytes]) -> Trouble | None:
        urgency, topic = values.get(b"urgency"), values.get(b"topic")
        twice = counts.count(b"urgency") > 1
        if urgency is not None and (twice or urgency not in _URGENCIES) and not self.dialect.any_urgency:
            return Trouble.URGENCY
        if topic is not None and (not _TOPIC.fullmatch(topic) or counts.count(b"topic") > 1):
            return Trouble.TOPIC
        if b"crypto-key" in values or b"encryption" in values or counts.count(b"content-encoding") > 1:
            return Trouble.ENCODING  # of the draft before RFC 8188
        return None

    # ---- judging

    def judge(
        self, conn: Talk, profile: Profile, path: bytes, hole: bytes | None, body: bytes, known: bool
    ) -> Verdict:
        """The push service's answer, and what the browser makes of it."""
        match = _PATH.fullmatch(path)
        segment = match[1].decode() if match is not None else ""
        to = subscriber(segment)
        trouble = self._trouble(profile, to, body) if to is not None else Trouble.PATH
        if trouble is not None or to is None:
            answer = self.say(trouble or Trouble.PATH)
            return answer, safe(segment), profile.key or "null", "null", (), b""
        answer, key, content = self._receive(profile, segment, to, body)
        if self.graves and (dead := self.graves.find(segment)) is not None:
            gone = self.error(None, dead.reason) if dead.reason else self.say(self.dialect.gone)
            return gone, segment, key, content, (), b""
        location = b"%b%016x" % (self._messages, next(self._numbers))
        ttl = b"%d" % min(profile.ttl, self.dialect.longest_ttl)
        return answer, segment, key, content, ((b"location", location), (b"ttl", ttl)), b""

    def deliver(self, conn: Talk, stream_id: int, verdict: Verdict) -> None:
        """Answer; over HTTP/2 without a detour."""
        answer, _, _, _, extra, body = verdict
        if not isinstance(conn, SwiftConnection):
            super().deliver(conn, stream_id, verdict)
        elif extra and answer.status == 201:
            echo = self._location + extra[0][1][-MESSAGE_ID:] + _ttl_block(extra[1][1])
            conn.answer(stream_id, answer, echo, body or answer.body)
        else:
            conn.answer(stream_id, answer, b"", body or answer.body)

    def _trouble(self, profile: Profile, to: Subscriber, body: bytes) -> Trouble | None:
        if not profile.method:
            return Trouble.METHOD
        if (trouble := self._vapid_trouble(profile.vapid, to)) is not None:
            return trouble
        if profile.trouble is not None:
            return profile.trouble
        if len(body) > BODY:
            return Trouble.TOO_LARGE
        if body and profile.encoding != b"aes128gcm":
            return Trouble.ENCODING
        if body and profile.vapid is not None and sender_key(body) == profile.vapid.key:
            return Trouble.KEY  # RFC 8291 §6: the message's key must not be the signing key
        return None

    def _vapid_trouble(self, vapid: Vapid | None, to: Subscriber) -> Trouble | None:
        if vapid is None:
            return Trouble.NO_AUTHORIZATION
        if vapid.problem is not None:
            known = {"scheme": Trouble.AUTHORIZATION, "key": Trouble.KEY}
            return known.get(vapid.problem, Trouble.TOKEN)
        now = self.shared.clock()
        if not now < vapid.expires <= now + DAY or not self._is_audience(vapid.audience):
            return Trouble.TOKEN
        if not self.dialect.contact(vapid.subject):
            return Trouble.TOKEN
        if to.tag != ANY and to.tag != vapid_tag(vapid.key):
            return Trouble.MISMATCH
        return None

    def _is_audience(self, audience: str) -> bool:
        return audience.lower() in self._audiences

    # ---- the browser

    def _receive(
        self, profile: Profile, segment: str, to: Subscriber, body: bytes
    ) -> tuple[Answer, str, str]:
        """The answer, and key and content for the log."""
        key = profile.key or "null"
        if not body:
            return _CREATED, key, f'"{self.shared.log.content("", "")}"'
        share = self.shared.settings.decrypt
        if share < 1.0 and zlib.crc32(segment.encode()) >= share * 2**32:
            return _CREATED, key, "null"
        try:
            plain = decrypt(body, to)
        except Undecryptable:
            return _UNREADABLE, key, "null"
        title, text, tag = _shown(plain)
        return (
            _CREATED,
            profile.key or quoted(tag),
            f'"{self.shared.log.content(title, text)}"',
        )


@lru_cache(1024)
def _ttl_block(ttl: bytes) -> bytes:
    return literal(b"ttl", ttl)


def _shown(plain: bytes) -> tuple[str, str, str | None]:
    """Title, body and tag of a payload: declarative (inside `notification`), flat, or just text."""
    try:
        value: Any = orjson.loads(plain)
    except orjson.JSONDecodeError:
        return "", plain.decode("utf-8", "replace"), None
    if not isinstance(value, dict):
        return "", plain.decode("utf-8", "replace"), None
    inner = value.get("notification")
    fields = inner if isinstance(inner, dict) else value
    title, body, tag = (fields.get(name) for name in ("title", "body", "tag"))
    return str(title or ""), str(body or ""), tag if isinstance(tag, str) else None
