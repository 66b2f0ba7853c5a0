"""The sender for Meizu (Flyme) Push: varnished/pushByPushId, a form with up to a hundred registrations.

Source: Meizu's HTTP document and its Java SDK. There is no token: every request is signed over its own
values, and its signature stands for no other. There is no idempotency key, either: repeats bear the same
`notifyKey`, so a device shows one. The lifetime is told in whole hours, 1 to 72, rounded down so that nothing
is shown after its time; less than an hour means "not kept for a device that is away" (`offLine` 0; whether
that value is taken as the SDK has it is UNCONFIRMED). Only notifications: passing messages through has been
restricted since 2018, so one without texts is refused here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import partial as bound
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import orjson

from clarion import limits
from clarion.errors import BadCredential, BadSpec
from clarion.model.message import Message, PushType
from clarion.render import Renderings, present
from clarion.senders import meizu_answers
from clarion.senders.facts import dedup_key
from clarion.senders.fcm_payload import overlaid
from clarion.senders.grouped import PATIENCE, Group, GroupedSender, Reach, Verdict, partial
from clarion.senders.line import Line
from clarion.senders.link import Surroundings
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind
from clarion.senders.sender import PushFacts, TooLarge
from clarion.senders.tls import client_tls
from clarion.senders.vendor import (
    HOUR,
    VendorPrepared,
    cut_lifetime,
    fit,
    is_service,
    strings,
    too_long,
    written,
)
from clarion.store.credentials import Credential

HOST: Final = "https://server-api-push.meizu.com"
PATH: Final = b"/garcia/api/server/push/varnished/pushByPushId"
TYPE: Final = b"application/x-www-form-urlencoded;charset=UTF-8"
TITLE: Final = 32
CONTENT: Final = 100
LONGEST: Final = 72  # hours
KEY_LETTERS: Final = 8
PUBLIC, PRIVATE = 0, 1  # noticeMsgType
APP, URL, OWN = 0, 2, 1  # clickType: open the app, a page of the web, a page of the app

SILENT: Final = Outcome(OutcomeKind.REJECTED, "meizu:notifications_only")


class MeizuSender(GroupedSender):
    """One app at Meizu."""

    provider = "meizu"
    most = 100
    quota_reasons = meizu_answers.QUOTA_REASONS
    letters = bytes(letter for letter in range(0x21, 0x7F) if letter != ord(","))  # a comma would be two

    def __init__(self, credential: Credential, around: Surroundings) -> None:
        """Raises BadCredential."""
        super().__init__(credential, around.clock)

    def reach_of(self, credential: Credential) -> Reach:
        """Meizu's host, unless the credential says another one."""
        try:
            self._app_id = str(credential.secret["app_id"])
            self._secret = str(credential.secret["app_secret"])
        except KeyError as error:
            raise BadCredential(f"credential {credential.name} is not usable for Meizu") from error
        tls = client_tls(credential.settings.get("ca"), alpn=("http/1.1",))
        timeout = limits.request_timeout("meizu") - PATIENCE
        return Reach(bound(Line, credential.endpoint or HOST, tls, timeout, content_type=TYPE), None)

    def render(self, push: PushFacts, message: Message) -> VendorPrepared:
        """Compile the message. Raises BadSpec."""

        def rendered(seconds: int | None) -> Renderings:
            return contents(push, message, seconds)

        kind = "service" if is_service(message) else "marketing"
        refusal = SILENT if message.silent else None
        return VendorPrepared(push, message, self.clock, rendered, kind=kind, refusal=refusal)

    async def deliver(self, line: Line, group: Group, token: str | None) -> Verdict:
        """One request, one answer."""
        form = {
            "appId": self._app_id,
            "messageJson": group.body.decode(),
            "pushIds": ",".join(group.tokens),
        }
        form["sign"] = signature(form, self._secret)
        reply = await line.post(PATH, b"", urlencode(form, quote_via=quote_plus).encode(), patience=PATIENCE)
        outcome, others = meizu_answers.read(reply.status, reply.body)
        if outcome is ACCEPTED:
            return partial(group.tokens, others)
        return Verdict(self.later(outcome, reply))


def signature(form: Mapping[str, str], secret: str) -> str:
    """MD5 over all values as they are before the form is encoded, sorted by their names, and the secret."""
    words = "".join(f"{name}={form[name]}" for name in sorted(form))
    return hashlib.md5(f"{words}{secret}".encode(), usedforsecurity=False).hexdigest()


def contents(push: PushFacts, message: Message, seconds: int | None) -> Renderings:
    """messageJson, per language. Raises BadSpec."""
    _check(message)
    fixed = _fixed(push, message, seconds)
    kind = PRIVATE if is_service(message) else PUBLIC

    def write(title: str, body: str) -> bytes:
        if not message.silent and not (title.strip() and body.strip()):
            raise TooLarge("Meizu wants a title and a content that are not empty")
        shown = {"noticeMsgType": kind, "title": fit(title, TITLE), "content": fit(body, CONTENT)}
        return orjson.dumps(overlaid({"noticeBarInfo": shown, **fixed}, message.meizu.message))

    return written(message, write)


def warnings(message: Message) -> list[str]:
    """What Meizu takes, and may not do what the author thinks."""
    said = too_long(message, {"title": TITLE, "body": CONTENT}, len, "Meizu")
    if message.silent:
        said.append("Meizu shows notifications only: a message without texts reaches nobody there")
    if message.ttl is not None and 0 < message.ttl < HOUR:
        said.append("ttl: Meizu counts whole hours; less than one is not kept for a device that is away")
    return said + cut_lifetime(message, LONGEST * HOUR, "Meizu")


def _fixed(push: PushFacts, message: Message, seconds: int | None) -> dict[str, Any]:
    hours = None if seconds is None else min(seconds // HOUR, LONGEST)
    kept = {"offLine": 0} if hours == 0 else present({"offLine": 1, "validTime": hours})
    key = hashlib.sha256(dedup_key(push, message).encode()).hexdigest()[:KEY_LETTERS]
    return {"clickTypeInfo": _click(message), "pushTimeInfo": kept, "advanceInfo": {"notifyKey": key}}


def _click(message: Message) -> dict[str, Any]:
    link = message.deep_link
    parameters = present({"parameters": strings(message.data, "data") or None})
    if not link:
        return {"clickType": APP, **parameters}
    if link.startswith(("https://", "http://")):
        return {"clickType": URL, "url": link, **parameters}
    return {"clickType": OWN, "activity": link, **parameters}


def _check(message: Message) -> None:
    kind = message.apns.push_type
    if kind not in (PushType.ALERT, PushType.BACKGROUND):
        raise BadSpec(f"apns.push_type: Meizu carries alert and background, not {kind.value}")
    bar = message.meizu.message.get("noticeBarInfo", {})
    if not isinstance(bar, dict) or {"title", "content"} & bar.keys():
        raise BadSpec("meizu.message.noticeBarInfo: title and content are Clarion's own to put in")
