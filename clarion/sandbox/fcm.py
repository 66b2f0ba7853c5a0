"""FCM HTTP v1, strict: authorization, the message's schema and rules, dead registrations, topics, quota.

A message to a topic or condition is one request and one line of the log, with "/topics/NAME" or the condition
as its token; `received` tells what it meant for a subscribed registration.
"""

from __future__ import annotations

import asyncio
import itertools
import re
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from clarion.http2.frames import Header
from clarion.http2.server import ServerConnection
from clarion.sandbox.answer import JSON_TYPE, Answer
from clarion.sandbox.fcm_message import TOKEN_FORM, BadArgument, BadField, Message, read_message
from clarion.sandbox.fcm_topics import BATCH_PATHS, RESOURCE, Topics
from clarion.sandbox.google import (
    FCM_CODES,
    NOT_FOUND,
    STATUSES,
    bad_request,
    by_code,
    fcm_error,
    google_error,
    permission_denied,
    unauthenticated,
)
from clarion.sandbox.log import quoted, safe
from clarion.sandbox.oauth import PATH as TOKEN_PATH
from clarion.sandbox.oauth import Grant, OAuth
from clarion.sandbox.service import Service, Shared, Talk, Verdict
from clarion.sandbox.swift import SwiftConnection

SEND: Final = re.compile(rb"/v1/projects/([A-Za-z0-9.:-]{1,64})/messages:send")
BODIES: Final = 4_096
PATHS: Final = 256
_MARK: Final = b'"token":"'
_TOKEN: Final = re.compile(TOKEN_FORM.pattern.encode())
_STANDIN: Final = b"stand-in:for-any-registration-token"

OK: Final = Answer(200, None, [JSON_TYPE])
_MISSING: Final = unauthenticated("CREDENTIALS_MISSING")
_UNKNOWN: Final = unauthenticated("ACCESS_TOKEN_TYPE_UNSUPPORTED")
_EXPIRED: Final = unauthenticated("ACCESS_TOKEN_EXPIRED")
_SCOPES: Final = google_error("PERMISSION_DENIED", "Request had insufficient authentication scopes.")


@dataclass(frozen=True, slots=True)
class Judged:
    """What is known of a body, the registration token apart (unless `token` names it)."""

    error: Answer | None
    message: Message | None
    token: str | None
    key: str
    content: str
    is_wide: bool = False  # to a topic or condition, and to be delivered


@dataclass(frozen=True, slots=True)
class Profile:
    """What is known of a request by its headers: the bearer token, None without one."""

    is_post: bool
    bearer: bytes | None


@dataclass(frozen=True, slots=True)
class Destination:
    """What a path of messages:send says, and how an answer's body begins there."""

    project: str
    answer: bytes


class Fcm(Service):
    """fcm.googleapis.com, iid.googleapis.com and oauth2.googleapis.com at one port."""

    provider = "fcm"
    path_form = SEND

    def __init__(self, shared: Shared, oauth: OAuth) -> None:
        super().__init__(shared)
        self.oauth = oauth
        self.topics = Topics(shared.clock, lambda token: self.graves.find(token) is not None)
        self.received: dict[str, list[dict[str, Any]]] = {}
        self._bodies: dict[bytes, Judged] = {}  # by the body without its registration token
        self._seen: set[bytes] = set()  # such bodies that came once
        self._graves: dict[str, Answer] = {}
        self._numbers = itertools.count(1)
        self._minutes: dict[str, tuple[int, int]] = {}  # project → (minute, messages in it)
        self._paths: dict[bytes, Destination | None] = {}

    # ---- connections and paths

    def streams(self, transport: asyncio.Transport) -> int:
        """As many as Google gives."""
        return self.shared.settings.fcm_streams

    def request(
        self,
        conn: ServerConnection,
        stream_id: int,
        method: bytes,
        path: bytes,
        headers: list[Header],
        body: bytes,
    ) -> None:
        """Messages go on; tokens and topics are answered here."""
        if path == TOKEN_PATH:
            self.oauth.request(conn, stream_id, method, path, headers, body)
        elif (add := BATCH_PATHS.get(path)) is not None or RESOURCE.match(path.decode("ascii", "replace")):
            answer = self._manage(method, path, headers, body, add)
            conn.respond(stream_id, answer.status, answer.headers, answer.body)
        else:
            super().request(conn, stream_id, method, path, headers, body)

    def _manage(
        self, method: bytes, path: bytes, headers: list[Header], body: bytes, add: bool | None
    ) -> Answer:
        values = dict(headers)
        grant = self._authorize(_bearer(values.get(b"authorization")))
        if isinstance(grant, Answer):
            return grant
        if add is not None:
            if method != b"POST":
                return NOT_FOUND
            return self.topics.batch(grant.project, values, body, add=add)
        text = path.decode("ascii", "replace")
        parts = RESOURCE.match(text)
        if parts is None or parts[1] not in (grant.project, grant.number):
            return permission_denied(parts[1] if parts else "")
        return self.topics.resource(method, text, grant.project)

    # ---- errors

    def error(self, status: int | None, reason: str | None) -> Answer:
        """FcmError of this name, google.rpc's own status, or what the HTTP status implies."""
        if reason in FCM_CODES:
            return fcm_error(reason, code=status)
        if reason in STATUSES:
            return google_error(reason, code=status)
        if reason is not None:
            return google_error("INTERNAL", reason, reason=reason, code=status or 500)
        named = {404: "UNREGISTERED", 429: "QUOTA_EXCEEDED", 500: "INTERNAL", 503: "UNAVAILABLE"}
        return fcm_error(named[status]) if status in named else by_code(status or 500)

    def rejection(self, reason: str | None) -> Answer:
        """The access token is void, unless another reason is named."""
        return self.error(None, reason) if reason is not None else _EXPIRED

    def _grave(self, reason: str) -> Answer:
        answer = self._graves.get(reason)
        if answer is None:
            answer = self._graves[reason] = self.error(None, reason)
        return answer

    # ---- judging

    def make_profile(self, headers: tuple[Header, ...]) -> Profile:
        """Method and authorization."""
        values = dict(headers)
        return Profile(values[b":method"] == b"POST", _bearer(values.get(b"authorization")))

    def judge(
        self,
        conn: Talk,
        profile: Profile,
        path: bytes,
        hole: bytes | None,
        body: bytes,
        known: bool,
    ) -> Verdict:
        """Google's answer."""
        start = body.find(_MARK) + len(_MARK)
        end = body.find(b'"', start)
        token, judged = "", None
        if start >= len(_MARK) and _TOKEN.fullmatch(body, start, end):
            judged = self._bodies.get(body[:start] + body[end:])
            token = body[start:end].decode()
        if judged is None:
            judged = self._read(body, start, end)
        if judged.token is not None:
            token = judged.token
        to = self._paths[path] if path in self._paths else self._read_path(path)
        answer = self._refusal(profile, to, judged, token)
        if answer is not None or to is None:
            return answer or NOT_FOUND, token, judged.key, judged.content, (), b""
        name = b'%b%d%%clarion"}' % (to.answer, next(self._numbers))
        return OK, token, judged.key, judged.content, (), name

    def _read_path(self, path: bytes) -> Destination | None:
        send = SEND.fullmatch(path)
        to = Destination(send[1].decode(), b'{"name":"projects/%b/messages/0:' % send[1]) if send else None
        if len(self._paths) < PATHS:
            self._paths[path] = to
        return to

    def deliver(self, conn: Talk, stream_id: int, verdict: Verdict) -> None:
        """Answer; over HTTP/2 without a detour."""
        if isinstance(conn, SwiftConnection):
            conn.answer(stream_id, verdict[0], b"", verdict[5] or verdict[0].body)
        else:
            super().deliver(conn, stream_id, verdict)

    def _refusal(self, profile: Profile, to: Destination | None, judged: Judged, token: str) -> Answer | None:
        if to is None or not profile.is_post:
            return NOT_FOUND
        grant = self._authorize(profile.bearer)
        if isinstance(grant, Answer):
            return grant
        if to.project not in (grant.project, grant.number):
            return permission_denied(to.project)
        if judged.error is not None:
            return judged.error
        if self.shared.settings.fcm_quota and (answer := self._over_quota(grant.project)) is not None:
            return answer
        if self.graves and (dead := self.graves.find(token)) is not None:
            return self._grave(dead.reason or _gone_name(judged.message))
        if judged.is_wide and judged.message is not None:
            self._fan_out(grant.project, judged.message)
        return None

    def _authorize(self, bearer: bytes | None) -> Grant | Answer:
        if bearer is None:
            return _MISSING
        grant = self.oauth.grants.get(bearer)
        if grant is None:
            return _UNKNOWN
        if grant.expires < self.shared.clock():
            return _EXPIRED
        return grant if grant.may_send else _SCOPES

    def _over_quota(self, project: str) -> Answer | None:
        """So many messages in a minute that is not the clock's; the bucket refills at once."""
        quota, now = self.shared.settings.fcm_quota, self.shared.clock()
        begun, used = self._minutes.get(project, (0, 0))
        if now - begun >= 60:
            begun, used = int(now), 0
        self._minutes[project] = (begun, used + 1)
        if used < quota:
            return None
        wait = max(1, int(begun + 60 - now))
        return fcm_error("QUOTA_EXCEEDED").with_headers([(b"retry-after", b"%d" % wait)])

    def _fan_out(self, project: str, message: Message) -> None:
        for token in self.topics.members(project, message.kind, message.target):
            notification = {
                "t": self.shared.clock(),
                "provider": "fcm",
                "key": message.key,
                "content": self.shared.log.content(message.title, message.body),
                "times": 1,
                "title": message.title,
                "body": message.body,
            }
            screen = self.received.setdefault(token, [])
            if message.key is not None:
                screen[:] = [shown for shown in screen if shown["key"] != message.key]
            screen.append(notification)

    # ---- bodies

    def _read(self, body: bytes, start: int, end: int) -> Judged:
        """Judge a body. When it is the same whatever the registration token is, remember it without one."""
        judged = self._parse(body)
        if start < len(_MARK) or not _TOKEN.fullmatch(body, start, end):
            return judged
        apart = body[:start] + body[end:]
        if apart not in self._seen:  # a personal message never comes again: not worth a second look
            if len(self._seen) >= BODIES:
                self._seen.clear()
            self._seen.add(apart)
            return judged
        other = self._parse(_STANDIN.join((body[:start], body[end:])))
        if judged.token == body[start:end].decode() and other.token == _STANDIN.decode():
            if len(self._bodies) >= BODIES:
                self._bodies.clear()
            self._bodies[apart] = replace(other, token=None)
        return judged

    def _parse(self, body: bytes) -> Judged:
        value = None
        try:
            value = orjson.loads(body)
            message = read_message(value)
        except orjson.JSONDecodeError as error:
            answer = bad_request("", f"Invalid JSON payload received. {error.msg}.")
        except BadField as error:
            answer = bad_request(error.where, error.description)
        except BadArgument as error:
            answer = fcm_error("INVALID_ARGUMENT", str(error))
        else:
            return self._valid(message)
        return Judged(answer, None, safe(_token_in(value)), "null", "null")

    def _valid(self, message: Message) -> Judged:
        target = safe(f"/topics/{message.target}" if message.kind == "topic" else message.target)
        if message.validate_only:
            return Judged(None, message, target, "null", "null")
        content = f'"{self.shared.log.content(message.title, message.body)}"'
        is_wide = message.kind in ("topic", "condition")
        return Judged(None, message, target, quoted(message.key), content, is_wide)


def _bearer(authorization: bytes | None) -> bytes | None:
    if authorization is None or authorization[:7].lower() != b"bearer ":
        return None
    return authorization[7:]


def _token_in(value: Any) -> str:
    """The registration token of a message that is wrong in some other way."""
    message = value.get("message") if isinstance(value, dict) else None
    token = message.get("token") if isinstance(message, dict) else None
    return token if isinstance(token, str) else ""


def _gone_name(message: Message | None) -> str:
    return "UNREGISTERED_FID" if message is not None and message.kind == "fid" else "UNREGISTERED"
