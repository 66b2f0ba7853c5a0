"""The sender for FCM's HTTP v1 API."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from typing import Any, Final

from clarion import limits
from clarion.model.message import Message
from clarion.render import Renderings
from clarion.senders import fcm_answers, tokens
from clarion.senders.answers import Classifier
from clarion.senders.facts import grows_old
from clarion.senders.fcm_payload import HEAD, renderings
from clarion.senders.link import Access, Link, LinkSender, Surroundings
from clarion.senders.outcome import ACCEPTED
from clarion.senders.sender import Answered, Prepared, PushFacts, Unsendable
from clarion.senders.tls import client_tls
from clarion.store.credentials import Credential

HOST: Final = "https://fcm.googleapis.com"
CONNECTIONS: Final = 4  # Google allows about 100 streams on one
BAD_TOKEN: Final = "clarion:bad_token"
_TOKEN_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_:.-"
_FOREVER: Final = float("inf")


class FcmPrepared:
    """A message ready for FCM: what stands behind the token, by locale."""

    __slots__ = ("_message", "_push", "fresh_until", "needs_badge", "needs_values", "ready", "renderings")

    renderings: Renderings
    ready: dict[str, bytes]

    def __init__(self, push: PushFacts, message: Message, now: float) -> None:
        self._push, self._message = push, message
        self.freshen(now)
        self.needs_values = self.renderings.needs_values
        self.needs_badge = self.renderings.needs_badge

    def freshen(self, now: float) -> None:
        """Render for this moment: what is said of the lifetime may depend on it."""
        self.renderings = renderings(self._push, self._message, now)
        self.ready = self.renderings.ready
        self.fresh_until = int(now) + 1.0 if grows_old(self._push, self._message) else _FOREVER


class FcmLink(Link):
    """A set of connections to Google."""

    def answered(self, key: Any, status: int, headers: Mapping[bytes, bytes], body: bytes) -> None:
        """A yes is a 200 that names the message."""
        if status == 200 and fcm_answers.is_yes(body):
            self.proven = True
            number, answered = key
            answered(number, ACCEPTED)
        else:
            self.tell(key, self.sender.classify(status, headers, body))


class FcmSender(LinkSender):
    """One service account in this process, for its project."""

    provider = "fcm"
    token_reasons = frozenset((fcm_answers.UNAUTHENTICATED,))

    def __init__(self, credential: Credential, around: Surroundings) -> None:
        self._around = around
        access = self.access_of(credential)
        super().__init__(access, around.clock, Classifier(fcm_answers.read, around.clock))
        self._path = f"/v1/projects/{credential.topic}/messages:send".encode()
        self.conclusions = {fcm_answers.UNAUTHENTICATED: self.token_refused}

    def make_link(self, access: Access, token: str | None, *, forced: bool) -> Link:
        """Connections under this access token."""
        return FcmLink(self, access, token, forced=forced)

    def access_of(self, credential: Credential) -> Access:
        """Google's host, and the access token of the service account."""
        url, ca = credential.endpoint or HOST, credential.settings.get("ca")
        return Access(
            url,
            client_tls(ca) if url.startswith("https://") else None,
            limits.request_timeout("fcm"),
            oauth_authorization(self._around, credential, client_tls(ca, alpn=())),
            _headers,
            CONNECTIONS,
        )

    def prepare(self, push: PushFacts, message: Message) -> FcmPrepared:
        """Compile the message. Raises BadSpec when it cannot fit for anybody."""
        self.reconsider()
        return FcmPrepared(push, message, self.clock.time())

    def post(
        self,
        prepared: Prepared,
        key: int,
        registration_no: int,
        token: str,
        locale: str,
        variant: int,
        values: dict[str, Any] | None,
        answered: Answered,
    ) -> None:
        """Frame one request. Raises TooLarge, MissingValue or Unsendable; nothing was framed then."""
        assert type(prepared) is FcmPrepared
        if prepared.fresh_until < _FOREVER and self.clock.time() >= prepared.fresh_until:
            prepared.freshen(self.clock.time())
        rest = prepared.ready.get(locale) or prepared.renderings.body(locale, values)
        # It stands inside a JSON string: only letters that need no escape, as FCM's tokens have them.
        name = token.encode("ascii", "replace")
        if not name or name.translate(None, _TOKEN_LETTERS) or len(name) > limits.TOKEN_BYTES:
            raise Unsendable(BAD_TOKEN)
        link = self._link
        if link is None:
            self.refuse(key, answered)
            return
        try:
            link.post((key, answered), self._path, b"", HEAD + name + rest)
        except ConnectionError:
            self.refuse(key, answered)

    def post_body(self, key: int, body: bytes, answered: Answered) -> None:
        """Frame a request whose target stands in the body already: a topic or a condition."""
        link = self._link
        if link is None:
            self.refuse(key, answered)
            return
        try:
            link.post((key, answered), self._path, b"", body)
        except ConnectionError:
            self.refuse(key, answered)

    @property
    def access(self) -> Access:
        """Where its requests go, and what authorizes them."""
        return self._access


def oauth_authorization(
    around: Surroundings, credential: Credential, tls: ssl.SSLContext
) -> tokens.SharedAuthorization:
    """One access token per lane and version of its service account, for all processes (C17)."""
    place = credential.app_no, credential.lane, "oauth", credential.version
    share = tokens.share_in(around.db, around.seal, *place)
    mint = tokens.oauth_mint(credential.secret, around.clock, tls)
    return tokens.SharedAuthorization(share, mint, tokens.OAUTH_RENEW)


def _headers(token: str | None) -> list[tuple[bytes, bytes]]:
    return [
        (b"authorization", b"Bearer " + (token or "").encode()),
        (b"content-type", b"application/json"),
    ]
