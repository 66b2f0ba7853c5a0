"""The sender for HMS Push Kit: v1 and v2 with an access token, v3 with a JWT of a service account.

Which of the two it is follows from the credential. An id of a project beside a client id means v2.
"""

from __future__ import annotations

from functools import partial as bound
from typing import Final

from clarion import limits
from clarion.errors import BadCredential
from clarion.http2.frames import literal
from clarion.model.message import Message
from clarion.render import Renderings
from clarion.senders import hms_answers, hms_payload, vendor_tokens
from clarion.senders.grouped import PATIENCE, Group, GroupedSender, Reach, Verdict, partial
from clarion.senders.line import Line
from clarion.senders.link import Surroundings
from clarion.senders.outcome import ACCEPTED
from clarion.senders.sender import PushFacts
from clarion.senders.tls import client_tls
from clarion.senders.vendor import VendorPrepared, is_service
from clarion.store.credentials import Credential

HOST: Final = "https://push-api.cloud.huawei.com"
TOKEN_URL: Final = vendor_tokens.HMS_AUDIENCE
TYPE: Final = b"application/json; charset=UTF-8"


class HmsSender(GroupedSender):
    """One app or project at Huawei."""

    provider = "hms"
    most = 1_000
    token_reasons = hms_answers.TOKEN_REASONS

    def __init__(self, credential: Credential, around: Surroundings) -> None:
        """Raises BadCredential."""
        self._around = around
        super().__init__(credential, around.clock)

    def reach_of(self, credential: Credential) -> Reach:
        """Huawei's host; its tokens come from another one, unless the credential says where from."""
        secret, url = credential.secret, credential.endpoint or HOST
        tls = client_tls(credential.settings.get("ca"), alpn=("http/1.1",))
        try:
            if secret["type"] == "service_account":
                self._version, place, renew = 3, credential.topic, vendor_tokens.HOUR_RENEW
                mint = vendor_tokens.hms_jwt_mint(secret, self._around.clock)
            else:
                project = secret.get("project_id")
                self._version, place = (2, project) if project else (1, credential.topic)
                mint = vendor_tokens.hms_oauth_mint(secret, secret.get("token_url", TOKEN_URL), tls)
                renew = vendor_tokens.HOUR_RENEW
        except (KeyError, ValueError) as error:
            raise BadCredential(f"credential {credential.name} is not usable for HMS") from error
        self._path = f"/v{self._version}/{place}/messages:send".encode()
        line = bound(Line, url, tls, limits.request_timeout("hms") - PATIENCE, content_type=TYPE)
        return Reach(line, vendor_tokens.shared(self._around, credential, mint, renew))

    def render(self, push: PushFacts, message: Message) -> VendorPrepared:
        """Compile the message. Raises BadSpec."""
        payload = hms_payload.v3 if self._version == 3 else hms_payload.v1

        def rendered(seconds: int | None) -> Renderings:
            return payload(push, message, seconds)

        kind = "service" if is_service(message) else "marketing"
        return VendorPrepared(push, message, self.clock, rendered, kind=kind)

    async def deliver(self, line: Line, group: Group, token: str | None) -> Verdict:
        """One request, one answer."""
        headers = literal(b"authorization", f"Bearer {token}".encode(), never_indexed=True)
        head = hms_payload.V1_HEAD
        if self._version == 3:
            head = hms_payload.V3_HEAD
            kind = hms_payload.BACKGROUND if group.prepared.silent else hms_payload.ALERT
            headers += literal(b"push-type", kind)
        body = head + hms_answers.tokens_json(group.tokens) + group.body
        reply = await line.post(self._path, headers, body, patience=PATIENCE)
        outcome, others = hms_answers.read(reply.status, reply.body)
        if outcome is ACCEPTED:
            return partial(group.tokens, others)
        return Verdict(self.later(outcome, reply), others)
