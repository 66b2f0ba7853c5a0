"""The sender for vivo Push: a content is saved once (saveListPayload), then sent to lists (pushToList).

A list has at least two registrations; a rest of one, and a personal message, goes by /message/send. Each
request to devices bears a `requestId` made of its members: vivo takes a repeat for the same request. How long
it remembers one is UNCONFIRMED, and so is its answer to a repeat; a yes is expected.

How often one saved content may be used is UNCONFIRMED: it is saved anew after ten minutes, and after any
answer that its number may be the cause of. A content is saved under a requestId of its own, because nothing
is shown by it.

Operation messages (what is not classified as service) are sent from 7 to 23 o'clock in China only: outside
of that vivo would count and drop them, so they wait here. Texts are measured in half widths, the stricter of
two readings of vivo's limits. Only notifications: a message without texts is refused here.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial as bound
from typing import Any, Final
from uuid import uuid4

import orjson

from clarion import limits
from clarion.errors import BadCredential, BadSpec
from clarion.http2.frames import literal
from clarion.model.message import Message, PushType
from clarion.render import Renderings, present
from clarion.senders import vendor_tokens, vivo_answers
from clarion.senders.answers import NOT_SENT
from clarion.senders.grouped import PATIENCE, Group, GroupedSender, Reach, Verdict, partial
from clarion.senders.line import Line, Reply, Unanswered
from clarion.senders.link import Surroundings
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind, Scope
from clarion.senders.sender import PushFacts, TooLarge
from clarion.senders.tls import client_tls
from clarion.senders.vendor import (
    CHINA,
    VendorPrepared,
    cut_lifetime,
    fit,
    is_service,
    notification_number,
    strings,
    too_long,
    widths,
    written,
)
from clarion.store.credentials import Credential

HOST: Final = "https://api-push.vivo.com.cn"
AUTH_PATH: Final = "/message/auth"
SEND: Final = b"/message/send"
SAVE: Final = b"/message/saveListPayload"
LIST: Final = b"/message/pushToList"
TYPE: Final = b"application/json"
LEAST: Final = 2  # registrations of a list
TITLE: Final = 40  # half widths
CONTENT: Final = 100
LONGEST: Final = 86_400  # seconds
SHORTEST: Final = 60
MAP_PAIRS: Final = 10
MAP_LETTERS: Final = 1_024
KEPT: Final = 600.0  # a saved content is used for so long
TASKS: Final = 1_024  # saved contents remembered
FIRST_HOUR, LAST_HOUR = 7, 23

SERVICE: Final = frozenset(("IM", "ACCOUNT", "TODO", "DEVICE_REMINDER", "ORDER", "SUBSCRIPTION"))
OPERATION: Final = frozenset(("NEWS", "CONTENT", "MARKETING", "SOCIAL"))
_OURS: Final = frozenset(
    ("appId", "regId", "regIds", "alias", "aliases", "taskId", "requestId", "pushMode", "title", "content")
)
_LIKE_A_TEST: Final = re.compile(r"[\x00-\x7f]*|.*(测试|[{}\[\]]).*", re.DOTALL)

Saving = asyncio.Future[str | Outcome]

SILENT: Final = Outcome(OutcomeKind.REJECTED, "vivo:notifications_only")
NIGHT: Final = Outcome(OutcomeKind.THROTTLED, "vivo:night", attempt=False, scope=Scope.HOST)


class VivoSender(GroupedSender):
    """One app at vivo."""

    provider = "vivo"
    most = 1_000
    token_reasons = vivo_answers.TOKEN_REASONS
    quota_reasons = vivo_answers.QUOTA_REASONS

    def __init__(self, credential: Credential, around: Surroundings) -> None:
        """Raises BadCredential."""
        self._around = around
        self._saved: dict[tuple[str, bytes], tuple[float, Saving]] = {}  # until when it is used
        super().__init__(credential, around.clock)

    def reach_of(self, credential: Credential) -> Reach:
        """vivo's host, where its tokens come from as well."""
        url = credential.endpoint or HOST
        tls = client_tls(credential.settings.get("ca"), alpn=("http/1.1",))
        try:
            self._app_id = int(credential.secret["app_id"])
            mint = vendor_tokens.vivo_mint(credential.secret, url + AUTH_PATH, self._around.clock, tls)
        except (KeyError, ValueError) as error:
            raise BadCredential(f"credential {credential.name} is not usable for vivo") from error
        self._saved.clear()
        authorization = vendor_tokens.shared(self._around, credential, mint, vendor_tokens.DAY_RENEW)
        # A content and its readers are two requests, one after the other, within one delivery's time.
        timeout = (limits.request_timeout("vivo") - 2 * PATIENCE) / 2
        return Reach(bound(Line, url, tls, timeout, content_type=TYPE), authorization)

    def render(self, push: PushFacts, message: Message) -> VendorPrepared:
        """Compile the message. Raises BadSpec."""

        def rendered(seconds: int | None) -> Renderings:
            return contents(push, message, seconds)

        kind = "service" if is_service(message) else "marketing"
        refusal = SILENT if message.silent else None
        return VendorPrepared(push, message, self.clock, rendered, kind=kind, refusal=refusal)

    def hold(self, prepared: VendorPrepared) -> Outcome | None:
        """Operation messages wait for the morning."""
        if prepared.kind == "service":
            return None
        wait = seconds_of_night(self.clock.time())
        return replace(NIGHT, retry_after=wait) if wait else None

    async def deliver(self, line: Line, group: Group, token: str | None) -> Verdict:
        """One message to one, or a saved content to a list."""
        headers = literal(b"authtoken", (token or "").encode(), never_indexed=True)
        if len(group.rows) < LEAST:
            return await self._single(line, group, headers)
        began = self.clock.monotonic()
        task = await self._task(line, group, headers)
        if isinstance(task, Outcome):
            return Verdict(task)
        if self.clock.monotonic() > began + 2 * PATIENCE:  # an operator may have paused meanwhile
            return Verdict(NOT_SENT)
        return await self._listed(line, group, headers, task)

    async def _single(self, line: Line, group: Group, headers: bytes) -> Verdict:
        (row,) = group.rows
        head = {"appId": self._app_id, "regId": row.token, "requestId": group.name()}
        return self._verdict(group, await line.post(SEND, headers, _joined(head, group), patience=PATIENCE))

    async def _listed(self, line: Line, group: Group, headers: bytes, task: str) -> Verdict:
        body = {
            "appId": self._app_id,
            "regIds": group.tokens,
            "taskId": task,
            "requestId": group.name(),
            "pushMode": int(group.prepared.message.vivo.test),
        }
        reply = await line.post(LIST, headers, orjson.dumps(body), patience=PATIENCE)
        verdict = self._verdict(group, reply)
        if verdict.outcome.kind in (OutcomeKind.REJECTED, OutcomeKind.UNAVAILABLE):
            self._saved.pop((group.prepared.mark, group.body), None)
        return verdict

    def _verdict(self, group: Group, reply: Reply) -> Verdict:
        outcome, others = vivo_answers.read(reply.status, reply.body)
        if outcome is ACCEPTED:
            return partial(group.tokens, others)
        return Verdict(self.later(outcome, reply), others)

    async def _task(self, line: Line, group: Group, headers: bytes) -> str | Outcome:
        """The saved content's number, or why there is none; nothing was shown then. Requests that want the
        same content at the same time wait for one saving."""
        saved, now = self._saved, self.clock.monotonic()
        place = group.prepared.mark, group.body
        until, saving = saved.get(place, (0.0, None))
        if saving is None or now >= until:
            if len(saved) >= TASKS:
                del saved[next(iter(saved))]
            saving = asyncio.ensure_future(self._save(line, group, headers))
            saved[place] = now + KEPT, saving
        task = await saving
        if isinstance(task, Outcome) and saved.get(place, (0.0, None))[1] is saving:
            del saved[place]
        return task

    async def _save(self, line: Line, group: Group, headers: bytes) -> str | Outcome:
        body = _joined({"appId": self._app_id, "requestId": uuid4().hex}, group)
        try:
            reply = await line.post(SAVE, headers, body, patience=PATIENCE)
        except Unanswered:
            return NOT_SENT  # perhaps saved, surely not sent
        task = vivo_answers.read_task(reply.status, reply.body)
        return replace(self.later(task, reply), maybe=False) if isinstance(task, Outcome) else task


def _joined(head: dict[str, Any], group: Group) -> bytes:
    return orjson.dumps(head)[:-1] + group.body


def seconds_of_night(now: float) -> float:
    """Seconds until operation messages may be sent; 0 by day."""
    moment = datetime.fromtimestamp(now, UTC).astimezone(CHINA)
    if FIRST_HOUR <= moment.hour < LAST_HOUR:
        return 0.0
    day = moment if moment.hour < FIRST_HOUR else moment + timedelta(days=1)
    return (day.replace(hour=FIRST_HOUR, minute=0, second=0, microsecond=0) - moment).total_seconds()


def contents(push: PushFacts, message: Message, seconds: int | None) -> Renderings:
    """The content, as it stands behind other members of a JSON object; per language. Raises BadSpec."""
    _check(message)
    fixed = _fixed(push, message, seconds)

    def write(title: str, body: str) -> bytes:
        if not message.silent and not (title.strip() and body.strip()):
            raise TooLarge("vivo wants a title and a content that are not empty")
        shown = {"title": fit(title, TITLE, widths), "content": fit(body, CONTENT, widths)}
        return b"," + orjson.dumps({**fixed, **shown, **message.vivo.message})[1:]

    return written(message, write)


def warnings(message: Message) -> list[str]:
    """What vivo takes, and may not do what the author thinks."""
    said = too_long(message, {"title": TITLE, "body": CONTENT}, widths, "vivo")
    if message.silent:
        said.append("vivo shows notifications only: a message without texts reaches nobody there")
    if not message.vivo.test:
        said += [
            f"texts.{language}.{name}: vivo may refuse it as a test: letters and digits only, or brackets"
            for language, text in message.texts.items()
            for name in ("title", "body")
            if (words := getattr(text, name)) and "{{" not in words and _LIKE_A_TEST.fullmatch(words)
        ]
    return said + cut_lifetime(message, LONGEST, "vivo")


def _fixed(push: PushFacts, message: Message, seconds: int | None) -> dict[str, Any]:
    link = message.deep_link
    skip: dict[str, Any] = {"skipType": 1}
    if link:
        skip = {"skipType": 2 if link.startswith(("https://", "http://")) else 4, "skipContent": link}
    kept = LONGEST if seconds is None else max(SHORTEST, min(seconds, LONGEST))
    return present(
        {
            "notifyType": 4,
            "timeToLive": kept,
            **skip,
            "networkType": -1,
            "classification": 1 if is_service(message) else 0,
            "category": message.vivo.category,
            "clientCustomMap": strings(message.data, "data") or None,
            "notifyId": notification_number(push, message),
            "sendOnline": True if seconds == 0 else None,
            "pushMode": 1 if message.vivo.test else 0,
        }
    )


def _check(message: Message) -> None:
    form = message.apns.push_type
    if form not in (PushType.ALERT, PushType.BACKGROUND):
        raise BadSpec(f"apns.push_type: vivo carries alert and background, not {form.value}")
    data = strings(message.data, "data")
    if len(data) > MAP_PAIRS or sum(len(name) + len(value) for name, value in data.items()) > MAP_LETTERS:
        raise BadSpec(f"data is over vivo's limit of {MAP_PAIRS} pairs and {MAP_LETTERS} characters in all")
    if message.deep_link and len(message.deep_link) > 1_000:
        raise BadSpec("deep_link is over vivo's limit of 1000 characters")
    if ours := sorted(_OURS & message.vivo.message.keys()):
        raise BadSpec(f"vivo.message.{ours[0]} is Clarion's own to put in")
    if message.vivo.category in (OPERATION if is_service(message) else SERVICE):
        kind = "marketing" if is_service(message) else "service"
        raise BadSpec(f"vivo.category {message.vivo.category} is for classification {kind}")
