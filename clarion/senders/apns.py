"""The sender for APNs.

A delivery costs a look for the payload, twelve digits of its apns-id and one request on the connection;
everything else was encoded when the message was prepared.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, Final

from clarion import limits
from clarion.errors import BadCredential
from clarion.http2.client import literal
from clarion.model.message import Message
from clarion.senders import apns_answers, tokens
from clarion.senders.answers import Classifier
from clarion.senders.apns_payload import RULES, priority, push_type, renderings
from clarion.senders.facts import dedup_key, grows_old, lifetime
from clarion.senders.link import Access, Link, LinkSender, Surroundings
from clarion.senders.outcome import ACCEPTED, Outcome
from clarion.senders.sender import Answered, Prepared, PushFacts, Unsendable
from clarion.senders.tls import client_tls, load_identity, own_client_tls
from clarion.store.credentials import Credential

HOSTS: Final = {
    "production": "https://api.push.apple.com",
    "sandbox": "https://api.sandbox.push.apple.com",
}
NAMESPACE: Final = uuid.UUID("6ba1b2a4-2a5c-5d0e-9c3e-0f6f3c1d7e55")  # of the namespaces of pushes
BAD_TOKEN: Final = "clarion:bad_token"
_FOREVER: Final = float("inf")
_ID_HEAD: Final = literal(b"apns-id", b"-" * 36)[:-36]


class ApnsPrepared:
    """A message ready for APNs: payloads by locale, and the headers that all its deliveries share."""

    __slots__ = (
        "_fixed", "_ids", "_message", "_push", "body", "extra", "fresh_until", "needs_badge", "needs_values",
        "ready",
    )  # fmt: skip

    def __init__(self, push: PushFacts, message: Message, topic: str, *, certificate: bool) -> None:
        rendered = renderings(message, certificate=certificate)
        self.needs_values, self.needs_badge = rendered.needs_values, rendered.needs_badge
        self.ready, self.body = rendered.ready, rendered.body
        self._ids = apns_ids(push)
        self._push, self._message = push, message
        kind = push_type(message)
        self._fixed = b"".join(
            (
                literal(b"apns-topic", (topic + RULES[kind].suffix).encode()),
                literal(b"apns-push-type", kind.value.encode()),
                literal(b"apns-priority", b"%d" % priority(message)),
                literal(b"apns-collapse-id", dedup_key(push, message).encode()),
            )
        )
        self.extra = b""  # ends within the apns-id, before the registration's number
        self.fresh_until = 0.0

    def freshen(self, now: float) -> None:
        """Encode the headers for this moment: an expiration is a time of day."""
        expires = expiration(self._push, self._message, now)
        dated = b"" if expires is None else literal(b"apns-expiration", b"%d" % expires)
        self.extra = self._fixed + dated + _ID_HEAD + self._ids
        self.fresh_until = int(now) + 1.0 if grows_old(self._push, self._message) else _FOREVER


def apns_ids(push: PushFacts) -> bytes:
    """All but the last twelve digits of a push's apns-ids, which are the registration's number.

    A UUID of version 8 (RFC 9562 §5.8), the same for every attempt at one delivery, which says at sight whose
    it was; hashing each (version 5) cost four times as much as the rest of a post.
    """
    text = uuid.uuid5(NAMESPACE, push.push_id).hex
    return f"{text[:8]}-{text[8:12]}-8{text[13:16]}-8{text[17:20]}-".encode()


def expiration(push: PushFacts, message: Message, now: float) -> int | None:
    """apns-expiration: None leaves it to Apple, 0 is now or never, else epoch seconds."""
    seconds = lifetime(push, message, now)
    if seconds is None:
        return 0 if RULES[push_type(message)].now_or_never else None
    return int(now) + seconds if seconds else 0


class ApnsLink(Link):
    """A connection to Apple."""

    def answered(self, key: Any, status: int, headers: Mapping[bytes, bytes], body: bytes) -> None:
        """A yes is an empty 200."""
        if status == 200 and not body:
            self.proven = True
            number, answered = key
            answered(number, ACCEPTED)
        else:
            self.tell(key, self.sender.classify(status, headers, body))


class ApnsSender(LinkSender):
    """One APNs credential in this process: a key or certificate, for one bundle id and environment."""

    provider = "apns"
    token_reasons = frozenset(("apns:ExpiredProviderToken", "apns:InvalidProviderToken"))

    def __init__(self, credential: Credential, around: Surroundings) -> None:
        self._around = around
        access = self.access_of(credential)
        super().__init__(access, around.clock, Classifier(apns_answers.read, around.clock))
        self._topic = credential.topic or ""
        self.conclusions = {
            "apns:ExpiredProviderToken": self.token_refused,
            "apns:UnrelatedKeyIdInToken": self.reconnect,
            "apns:TooManyProviderTokenUpdates": self._same_token,
        }

    def make_link(self, access: Access, token: str | None, *, forced: bool) -> Link:
        """A connection under this JWT, or under the certificate."""
        return ApnsLink(self, access, token, forced=forced)

    def access_of(self, credential: Credential) -> Access:
        """Apple's host for the environment, a JWT or a client certificate."""
        url = credential.endpoint or HOSTS.get(credential.environment or "")
        if url is None:
            raise BadCredential(f"{credential.name}: the environment must be sandbox or production")
        secret, authorization = credential.secret, None
        if secret["type"] == "certificate":
            tls = own_client_tls(credential.settings.get("ca"))
            load_identity(tls, secret["certificate"], secret["private_key"])
        else:
            tls = client_tls(credential.settings.get("ca"))
            authorization = jwt_authorization(self._around, secret)
        secure = url.startswith("https://")
        return Access(url, tls if secure else None, limits.request_timeout("apns"), authorization, _headers)

    def prepare(self, push: PushFacts, message: Message) -> ApnsPrepared:
        """Compile the message. Raises BadSpec when it cannot fit for anybody."""
        self.reconsider()
        prepared = ApnsPrepared(push, message, self._topic, certificate=self._access.authorization is None)
        prepared.freshen(self.clock.time())
        return prepared

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
        assert type(prepared) is ApnsPrepared
        body = prepared.ready.get(locale) or prepared.body(locale, values)
        # What must not be framed: letters and digits cannot end a path or a header, and Apple knows the rest.
        name = token.encode("ascii", "replace")  # bytes.isalnum takes a twentieth of str.isalnum's time
        if not name.isalnum() or len(name) > limits.TOKEN_BYTES:
            raise Unsendable(BAD_TOKEN)
        if prepared.fresh_until < _FOREVER and self.clock.time() >= prepared.fresh_until:
            prepared.freshen(self.clock.time())
        link = self._link
        if link is None:
            self.refuse(key, answered)
            return
        extra = b"%b%012x" % (prepared.extra, registration_no)
        try:
            link.post((key, answered), b"/3/device/" + name, extra, body)
        except ConnectionError:
            self.refuse(key, answered)

    def _same_token(self, link: Link, outcome: Outcome) -> Outcome:
        """Apple counts the tokens of a connection: the same one on another, unless that was just tried."""
        if link is self._link and link.proven:
            self._replace(link)
            self._connect(link.token, forced=False)
        return outcome


def jwt_authorization(around: Surroundings, secret: dict[str, Any]) -> tokens.SharedAuthorization:
    """One JWT per team and key, whatever app, topic or lane uses it: Apple counts tokens by key (C03)."""
    share = tokens.share_in(around.db, around.seal, 0, 0, tokens.jwt_purpose(secret), 1)
    return tokens.SharedAuthorization(share, tokens.jwt_mint(secret, around.clock), tokens.JWT_RENEW)


def _headers(token: str | None) -> list[tuple[bytes, bytes]]:
    return [] if token is None else [(b"authorization", b"bearer " + token.encode())]
