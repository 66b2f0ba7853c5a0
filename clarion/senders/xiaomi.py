"""The sender for Xiaomi Mi Push: /v3/message/regid, a form with up to a thousand registrations.

Source: dev.mi.com. The app's secret is shown as it is and never expires. There is no idempotency key: repeats
bear the same notify_id, so a device shows one. `time_to_live` is in milliseconds. What sorts private from
public messages is the channel id: `xiaomi.channel_id`, which the app's console gives for each of the two.

A message without texts is passed through to the app (pass_through 1). A lifetime of 0 is told as
`extra.only_send_once`: not kept for a device that is away. Whether a lifetime over two weeks is clamped is
UNCONFIRMED: it is cut here.
"""

from __future__ import annotations

from functools import partial as bound
from typing import Final
from urllib.parse import quote_plus, urlencode

from clarion import limits
from clarion.errors import BadCredential, BadSpec
from clarion.http2.frames import literal
from clarion.model.message import Message, PushType
from clarion.render import Renderings
from clarion.senders import xiaomi_answers
from clarion.senders.grouped import PATIENCE, Group, GroupedSender, Reach, Verdict, partial
from clarion.senders.line import Line
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

HOST: Final = "https://api.xmpush.xiaomi.com"
PATH: Final = b"/v3/message/regid"
TYPE: Final = b"application/x-www-form-urlencoded; charset=UTF-8"
TITLE: Final = 49  # characters: fewer than 50
DESCRIPTION: Final = 127
PAYLOAD: Final = 4_095  # bytes: less than 4 KB
EXTRAS: Final = 10
EXTRA_LETTERS: Final = 1_024
LONGEST: Final = 1_209_600  # seconds: two weeks


class XiaomiSender(GroupedSender):
    """One app at Xiaomi."""

    provider = "xiaomi"
    most = 1_000
    quota_reasons = xiaomi_answers.QUOTA_REASONS
    # A comma would be two registrations; a space cannot stand in one, either.
    letters = bytes(letter for letter in range(0x21, 0x7F) if letter != ord(","))

    def __init__(self, credential: Credential, around: Surroundings) -> None:
        """Raises BadCredential."""
        super().__init__(credential, around.clock)

    def reach_of(self, credential: Credential) -> Reach:
        """Xiaomi's host in China, unless the credential says another one."""
        try:
            self._headers = literal(
                b"authorization", f"key={credential.secret['app_secret']}".encode(), never_indexed=True
            )
        except (KeyError, ValueError) as error:
            raise BadCredential(f"credential {credential.name} is not usable for Xiaomi") from error
        self._package = credential.topic or ""
        tls = client_tls(credential.settings.get("ca"), alpn=("http/1.1",))
        url = credential.endpoint or HOST
        timeout = limits.request_timeout("xiaomi") - PATIENCE
        return Reach(bound(Line, url, tls, timeout, content_type=TYPE), None)

    def render(self, push: PushFacts, message: Message) -> VendorPrepared:
        """Compile the message. Raises BadSpec."""
        package = self._package

        def rendered(seconds: int | None) -> Renderings:
            return contents(push, message, seconds, package)

        kind = "service" if is_service(message) else "marketing"
        return VendorPrepared(push, message, self.clock, rendered, kind=kind)

    async def deliver(self, line: Line, group: Group, token: str | None) -> Verdict:
        """One request, one answer."""
        body = group.body + b"&registration_id=" + quote_plus(",".join(group.tokens)).encode()
        reply = await line.post(PATH, self._headers, body, patience=PATIENCE)
        outcome, others = xiaomi_answers.read(reply.status, reply.body)
        if outcome is ACCEPTED:
            return partial(group.tokens, others)
        return Verdict(self.later(outcome, reply))


def contents(push: PushFacts, message: Message, seconds: int | None, package: str) -> Renderings:
    """The form without its registrations, per language. Raises BadSpec."""
    _check(message)
    data = data_text(message)
    if len(data.encode()) > PAYLOAD:
        raise BadSpec(f"data is over Xiaomi's limit of {PAYLOAD} bytes")
    fixed = {"restricted_package_name": package, "pass_through": "1" if message.silent else "0"}
    if data or message.silent:
        fixed["payload"] = data or "{}"
    if seconds is not None:
        fixed["time_to_live"] = str(max(1, min(seconds, LONGEST)) * 1_000)
    extra = _extra(message, seconds)
    if not message.silent:
        fixed["notify_id"] = str(notification_number(push, message))
        fixed["notify_type"] = "-1"
    fixed |= {f"extra.{name}": value for name, value in extra.items()}

    def write(title: str, body: str) -> bytes:
        shown = {} if message.silent else {"title": fit(title, TITLE), "description": fit(body, DESCRIPTION)}
        if not message.silent and not (title.strip() and body.strip()):
            raise TooLarge("Xiaomi wants a title and a description that are not empty")
        return urlencode({**fixed, **shown}).encode()

    return written(message, write)


def warnings(message: Message) -> list[str]:
    """What Xiaomi takes, and may not do what the author thinks."""
    said = too_long(message, {"title": TITLE, "body": DESCRIPTION}, len, "Xiaomi")
    said += cut_lifetime(message, LONGEST, "Xiaomi")
    if not message.xiaomi.channel_id and not message.silent:
        said.append("xiaomi.channel_id is missing: without it a message counts against the default channel")
    return said


def _extra(message: Message, seconds: int | None) -> dict[str, str]:
    extra = dict(message.xiaomi.extra)
    if message.xiaomi.channel_id:
        extra["channel_id"] = message.xiaomi.channel_id
    if seconds == 0:
        extra["only_send_once"] = "1"
    link = message.deep_link
    if not message.silent:
        web = link is not None and link.startswith("https://")
        extra["notify_effect"] = "1" if not link else "3" if web else "2"
        if link:
            extra["web_uri" if web else "intent_uri"] = link
    if len(extra) > EXTRAS:
        raise BadSpec(f"xiaomi.extra: Xiaomi takes {EXTRAS} pairs, Clarion's own among them")
    for name, value in extra.items():
        if max(len(name), len(value)) > EXTRA_LETTERS:
            raise BadSpec(f"xiaomi.extra: names and values have at most {EXTRA_LETTERS} characters")
    return extra


def _check(message: Message) -> None:
    kind = message.apns.push_type
    if kind not in (PushType.ALERT, PushType.BACKGROUND):
        raise BadSpec(f"apns.push_type: Xiaomi carries alert and background, not {kind.value}")
