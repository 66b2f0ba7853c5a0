"""The sender for JPush (极光): POST /v3/push to as many as a thousand registration ids.

Source: docs.jiguang.cn. App key and master secret are shown as they are (Basic) and never expire. An answer
says only that a request was taken: each of its registrations is accepted then, also those that JPush knows to
be dead. A list that is refused for the sake of some of them is halved (`halving`).

`cid` is the idempotency key: for a day a repeat gets the first answer and sends nothing, after a failed
request it may be used again. Its form is `<appKey>-<uuid>`, and the reference has one take it from a pool of
theirs; whether one that was made here is believed is UNCONFIRMED, and one of the pool could not be the same
again after a crash. Where they are refused the credential says `"cid": false`, and repeats after a crash are
doubles that are counted as `redo`.
"""

from __future__ import annotations

import base64
from functools import partial as bound
from typing import Final
from uuid import UUID

import orjson

from clarion import limits
from clarion.errors import BadCredential
from clarion.http2.frames import literal
from clarion.model.message import Message
from clarion.render import Renderings
from clarion.senders import jpush_answers, jpush_payload
from clarion.senders.grouped import PATIENCE, Group, GroupedSender, Reach, Verdict
from clarion.senders.halving import ask_all
from clarion.senders.line import Line
from clarion.senders.link import Surroundings
from clarion.senders.sender import PushFacts
from clarion.senders.tls import client_tls
from clarion.senders.vendor import VendorPrepared, is_service
from clarion.store.credentials import Credential

HOST: Final = "https://api.jpush.cn"
PATH: Final = b"/v3/push"
TYPE: Final = b"application/json; charset=UTF-8"
RESET: Final = b"x-rate-limit-reset"  # seconds


class JPushSender(GroupedSender):
    """One app key at Jiguang."""

    provider = "jpush"
    most = 1_000

    def __init__(self, credential: Credential, around: Surroundings) -> None:
        """Raises BadCredential."""
        super().__init__(credential, around.clock)

    def reach_of(self, credential: Credential) -> Reach:
        """Jiguang's host, unless the credential says another one (there is one in Beijing)."""
        secret = credential.secret
        try:
            words = base64.b64encode(f"{secret['app_key']}:{secret['master_secret']}".encode())
            self._app_key = str(secret["app_key"])
        except KeyError as error:
            raise BadCredential(f"credential {credential.name} is not usable for JPush") from error
        self._headers = literal(b"authorization", b"Basic " + words, never_indexed=True)
        self._has_cid, self._production = bool(secret.get("cid", True)), bool(secret.get("production", True))
        tls = client_tls(credential.settings.get("ca"), alpn=("http/1.1",))
        timeout = limits.request_timeout("jpush") - PATIENCE
        url = credential.endpoint or HOST
        return Reach(bound(Line, url, tls, timeout, content_type=TYPE, wait_header=RESET), None)

    def render(self, push: PushFacts, message: Message) -> VendorPrepared:
        """Compile the message. Raises BadSpec."""
        production = self._production

        def rendered(seconds: int | None) -> Renderings:
            return jpush_payload.renderings(push, message, seconds, production)

        kind = "service" if is_service(message) else "marketing"
        return VendorPrepared(push, message, self.clock, rendered, kind=kind)

    async def deliver(self, line: Line, group: Group, token: str | None) -> Verdict:
        """One request, or more for a list that is refused because of some of it."""

        async def ask(part: Group) -> Verdict:
            reply = await line.post(PATH, self._headers, self._body(part), patience=PATIENCE)
            outcome = jpush_answers.read(reply.status, reply.body, alone=len(part.rows) == 1)
            return Verdict(self.later(outcome, reply))

        return await ask_all(group, ask, jpush_answers.blames, self.provider)

    def _body(self, group: Group) -> bytes:
        cid = b'"cid":"%b",' % self.cid_of(group).encode() if self._has_cid else b""
        audience = orjson.dumps({"registration_id": group.tokens})
        return b'{%b"audience":%b,%b' % (cid, audience, group.body)

    def cid_of(self, group: Group) -> str:
        """The request's key, in JPush's form."""
        return f"{self._app_key}-{UUID(hex=group.name())}"
