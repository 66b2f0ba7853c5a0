"""The sender for OPPO Push (HeyTap): /server/v1/message/notification/unicast_batch.

Source: OPPO's pages of addresses and codes, of messages and of unicast. Each registration of a batch has its
own content, so personal messages share requests, too, and each gets its own result. `app_message_id` is the
push's key with the registration's number: OPPO delivers a unicast once per id and registration, whatever
request it comes in. Were it once per id alone, which no page rules out, nobody would be lost by it, either.
The other way, saving a content and broadcasting it to a list, is de-duplicated only when the content is
saved, so a repeat after a crash would be shown twice.

A batch may hold a thousand; a fifth of that is sent, and the credential's setting `group` says otherwise.
Only notifications: a message without texts is refused here. Registrations name their region (OPPO_IN_…,
CN_…; without one it is China): those of another region are not sent to the host in China, nor the Chinese
ones to the host for abroad, https://api-intl.push.oppomobile.com, which is a lane of its own.
"""

from __future__ import annotations

from functools import partial as bound
from typing import Any, Final
from urllib.parse import quote_plus

import orjson

from clarion import limits
from clarion.errors import BadCredential, BadSpec
from clarion.model.message import Message, PushType
from clarion.render import Renderings, present
from clarion.senders import oppo_answers, vendor_tokens
from clarion.senders.grouped import PATIENCE, Group, GroupedSender, Reach, Row, Verdict
from clarion.senders.line import Line
from clarion.senders.link import Surroundings
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind
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

HOST: Final = "https://api.push.oppomobile.com"
ABROAD: Final = "//api-intl."  # how the host for registrations outside China begins
AUTH_PATH: Final = "/server/v1/auth"
PATH: Final = b"/server/v1/message/notification/unicast_batch"
TYPE: Final = b"application/x-www-form-urlencoded"
TITLE: Final = 50
SHORT: Final = 50  # characters of a content in the standard style
LONG: Final = 128  # and as a long text
PARAMETERS: Final = 4_000
LONGEST: Final = 864_000  # seconds: ten days; more is clamped by OPPO

# A message as a form writes it: a registration stands behind the first, its number behind the second piece,
# its notification behind the third.
_TARGET: Final = quote_plus('{"target_type":2,"target_value":"').encode()
_KEY: Final = quote_plus('","verify_registration_id":false,"notification":{"app_message_id":"').encode()
_START, _BETWEEN, _END = b"&messages=%5B", b"%2C", b"%5D"
_OURS: Final = frozenset(("app_message_id", "title", "content"))

SILENT: Final = Outcome(OutcomeKind.REJECTED, "oppo:notifications_only")
ANOTHER_REGION: Final = Outcome(OutcomeKind.REJECTED, "oppo:another_region")


class OppoSender(GroupedSender):
    """One app at OPPO."""

    provider = "oppo"
    most = 1_000
    mixed = True
    token_reasons = oppo_answers.TOKEN_REASONS
    quota_reasons = oppo_answers.QUOTA_REASONS
    letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-"

    def __init__(self, credential: Credential, around: Surroundings) -> None:
        """Raises BadCredential."""
        self._around = around
        super().__init__(credential, around.clock)

    def reach_of(self, credential: Credential) -> Reach:
        """OPPO's host, where its tokens come from as well."""
        url = credential.endpoint or HOST
        tls = client_tls(credential.settings.get("ca"), alpn=("http/1.1",))
        if not {"app_key", "master_secret"} <= credential.secret.keys():
            raise BadCredential(f"credential {credential.name} is not usable for OPPO")
        self._abroad = ABROAD in url
        mint = vendor_tokens.oppo_mint(credential.secret, url + AUTH_PATH, self._around.clock, tls)
        authorization = vendor_tokens.shared(self._around, credential, mint, vendor_tokens.DAY_RENEW)
        timeout = limits.request_timeout("oppo") - PATIENCE
        return Reach(bound(Line, url, tls, timeout, content_type=TYPE), authorization)

    def render(self, push: PushFacts, message: Message) -> VendorPrepared:
        """Compile the message. Raises BadSpec."""

        def rendered(seconds: int | None) -> Renderings:
            return contents(push, message, seconds)

        kind = "service" if is_service(message) else "marketing"
        refusal = SILENT if message.silent else None
        return VendorPrepared(push, message, self.clock, rendered, kind=kind, refusal=refusal)

    def refuse(self, token: str) -> Outcome | None:
        """A registration of another region."""
        return None if (region(token) != "CN") is self._abroad else ANOTHER_REGION

    async def deliver(self, line: Line, group: Group, token: str | None) -> Verdict:
        """One request, one answer. The token is a field of the form, as OPPO's page and its SDK have it."""
        key = _KEY + quote_plus(group.prepared.push.dedup_key).encode() + b"-"
        messages = _BETWEEN.join([_message(row, key) for row in group.rows])
        body = b"".join((b"auth_token=", quote_plus(token or "").encode(), _START, messages, _END))
        reply = await line.post(PATH, b"", body, patience=PATIENCE)
        outcome, items = oppo_answers.read(reply.status, reply.body)
        if outcome is ACCEPTED:
            return self.itemized(group, items, oppo_answers.UNMENTIONED)
        return Verdict(self.later(outcome, reply))


def region(token: str) -> str:
    """The region that a registration belongs to: OPPO_IN_… and IN_… are India's, one without it China's."""
    parts = token.split("_")
    return "CN" if len(parts) == 1 else parts[0] if len(parts) == 2 else parts[1]


def contents(push: PushFacts, message: Message, seconds: int | None) -> Renderings:
    """What stands behind a registration's number, as a form writes it; per language. Raises BadSpec."""
    _check(message)
    fixed = _fixed(push, message, seconds)

    def write(title: str, body: str) -> bytes:
        if not message.silent and not (title.strip() and body.strip()):
            raise TooLarge("OPPO wants a title and a content that are not empty")
        long = len(body) > SHORT
        shown = {
            "style": 2 if long else 1,
            "title": fit(title, TITLE),
            "content": fit(body, LONG if long else SHORT),
        }
        text = orjson.dumps({**fixed, **shown, **message.oppo.notification}).decode()
        return quote_plus(f'",{text[1:]}}}').encode()

    return written(message, write)


def warnings(message: Message) -> list[str]:
    """What OPPO takes, and may not do what the author thinks."""
    said = too_long(message, {"title": TITLE, "body": LONG}, len, "OPPO")
    if message.silent:
        said.append("OPPO shows notifications only: a message without texts reaches nobody there")
    if is_service(message) and not (message.oppo.category or message.oppo.channel_id):
        said.append("classification: OPPO wants oppo.category or oppo.channel_id of a service message")
    return said + cut_lifetime(message, LONGEST, "OPPO")


def _message(row: Row, key: bytes) -> bytes:
    return b"".join((_TARGET, row.token.encode(), key, b"%x" % row.registration_no, row.body))


def _fixed(push: PushFacts, message: Message, seconds: int | None) -> dict[str, Any]:
    options, data, link = message.oppo, data_text(message), message.deep_link
    click: dict[str, Any] = {"click_action_type": 0}
    if link:
        web = link.startswith(("https://", "http://"))
        click = {"click_action_type": 2 if web else 5, "click_action_url": link}
    kept = None if seconds is None else min(seconds, LONGEST)
    return present(
        {
            **click,
            "action_parameters": data or None,
            "off_line": kept != 0,
            "off_line_ttl": kept or None,
            "notify_id": notification_number(push, message),
            "channel_id": options.channel_id,
            "category": options.category,
            "notify_level": options.notify_level,
        }
    )


def _check(message: Message) -> None:
    kind = message.apns.push_type
    if kind not in (PushType.ALERT, PushType.BACKGROUND):
        raise BadSpec(f"apns.push_type: OPPO carries alert and background, not {kind.value}")
    if len(data_text(message)) > PARAMETERS:
        raise BadSpec(f"data is over OPPO's limit of {PARAMETERS} characters")
    if message.deep_link and len(message.deep_link) > 2_000:
        raise BadSpec("deep_link is over OPPO's limit of 2000 characters")
    if message.oppo.notify_level is not None and not message.oppo.category:
        raise BadSpec("oppo.notify_level needs oppo.category")
    if ours := sorted(_OURS & message.oppo.notification.keys()):
        raise BadSpec(f"oppo.notification.{ours[0]} is Clarion's own to put in")
