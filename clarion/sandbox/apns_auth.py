"""Who may push through APNs: signed tokens and client certificates, and what a connection is bound to.

Apple's pages "Establishing a token-based connection" and "… certificate-based connection"; where they leave
a choice, the choice is written at the line.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID

from clarion.sandbox.certificates import DEVELOPMENT, PRODUCTION, TOPICS
from clarion.store.base64url import decode_base64

TOKEN_SECONDS: Final = 3600  # how old, and how far in the future, a token's iat may be
CHANGE_SECONDS: Final = 1200  # a connection may show a new token so often
TOKENS: Final = 512
_JWT: Final = re.compile(rb"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class SigningKey:
    """A key of a team. `topics` bounds a topic-specific key; None: team-scoped."""

    team: str
    key_id: str
    public_key: ec.EllipticCurvePublicKey = field(repr=False)
    environment: str = "sandbox"
    topics: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """A token that was signed with a key we know, and when; or the reason why it is none."""

    key: SigningKey | None
    issued: int = 0
    reason: str | None = None


@dataclass(frozen=True)
class PushCertificate:
    """What a client certificate allows."""

    topics: tuple[str, ...]
    environments: frozenset[str]
    serial: int

    @classmethod
    def read(cls, der: bytes) -> PushCertificate:
        """From the certificate that TLS has verified."""
        certificate = x509.load_der_x509_certificate(der)
        uid = [str(name.value) for name in certificate.subject.get_attributes_for_oid(NameOID.USER_ID)]
        topics = dict.fromkeys(uid + _topics(certificate))
        marks = {extension.oid for extension in certificate.extensions}
        both = {DEVELOPMENT: "sandbox", PRODUCTION: "production"}
        environments = frozenset(name for oid, name in both.items() if oid in marks)
        return cls(tuple(topics), environments, certificate.serial_number)


class Keys:
    """The teams' keys, and the topics that exist. Verified tokens are remembered."""

    def __init__(self, environment: str = "sandbox") -> None:
        self.environment = environment
        self.topics: set[str] = set()
        self.revoked: set[int] = set()  # serial numbers of certificates
        self._keys: dict[str, SigningKey] = {}
        self._tokens: dict[bytes, Token] = {}

    def add(
        self,
        team: str,
        key_id: str,
        public_key: str | bytes,
        *,
        environment: str | None = None,
        topics: Iterable[str] | None = None,
    ) -> None:
        """A key; PEM of its public half, or of the whole. Raises ValueError."""
        pem = public_key.encode() if isinstance(public_key, str) else public_key
        key: Any
        if b"PRIVATE" in pem:
            key = getattr(serialization.load_pem_private_key(pem, None), "public_key", lambda: None)()
        else:
            key = serialization.load_pem_public_key(pem)
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ValueError("an APNs key is on the curve P-256")
        bound = frozenset(topics) if topics is not None else None
        self._keys[key_id] = SigningKey(team, key_id, key, environment or self.environment, bound)
        self._tokens.clear()

    def remove(self, key_id: str) -> None:
        """The key is revoked."""
        self._keys.pop(key_id, None)
        self._tokens.clear()

    def read(self, text: bytes) -> Token:
        """The token behind these bytes, verified once."""
        token = self._tokens.get(text)
        if token is None:
            if len(self._tokens) >= TOKENS:
                self._tokens.clear()
            token = self._tokens[text] = self._verify(text)
        return token

    def _verify(self, text: bytes) -> Token:
        bad = Token(None, reason="InvalidProviderToken")
        if not _JWT.fullmatch(text):
            return bad
        signed, _, tail = text.rpartition(b".")
        header, claims = (_json(part) for part in signed.split(b"."))
        signature = decode_base64(tail.decode())
        if header is None or claims is None or signature is None or header.get("alg") != "ES256":
            return bad
        key = self._keys.get(str(header.get("kid")))
        issued = claims.get("iat")
        if key is None or claims.get("iss") != key.team or not isinstance(issued, int | float):
            return bad
        if not _is_signed(key.public_key, signed, signature):
            return bad
        if key.environment != self.environment:
            return Token(None, reason="BadEnvironmentKeyIdInToken")
        return Token(key, int(issued))


class Binding:
    """What one connection may do. Refusals are reasons.

    The first push binds the connection to a team and a family of keys; a token that was found too old wedges
    it (clients have to come again); a token may change every 20 minutes, and the old one goes on working.
    """

    def __init__(self, keys: Keys, clock: Callable[[], float], certificate: PushCertificate | None) -> None:
        self.certificate = certificate
        self.warm = certificate is not None  # streams are there from the start with a certificate only
        self.raised = self.warm
        self.bad_tokens = 0
        self.topics: frozenset[str] | None = None  # of a topic-specific key
        self.current: bytes | None = None  # the token shown last and found good,
        self.until = 0.0  # and how long it is
        self._keys = keys
        self._clock = clock
        self._first: SigningKey | None = None
        self._known: set[bytes] = set()
        self._changed = 0.0
        self._wedged = False

    def refuse_certificate(self) -> str | None:
        """Why the certificate does not serve here; None: it does."""
        certificate = self.certificate
        assert certificate is not None
        if not certificate.topics or certificate.serial in self._keys.revoked:
            return "BadCertificate"
        if self._keys.environment not in certificate.environments:
            return "BadCertificateEnvironment"
        return None

    def refuse_token(self, text: bytes) -> str | None:
        """Why this token does not serve here; None: it does, until `until`."""
        now = self._clock()
        token = self._keys.read(text)
        if self._wedged:
            return "ExpiredProviderToken"
        if token.key is None:
            return token.reason
        if token.issued < now - TOKEN_SECONDS:
            self._wedged = True
            self.current = None
            return "ExpiredProviderToken"
        # The page bounds iat on both sides and names no reason for the future: the token is not valid yet.
        if token.issued > now + TOKEN_SECONDS:
            return "InvalidProviderToken"
        if (reason := self._refuse_key(token.key)) is not None:
            return reason
        if text not in self._known:
            if self._known and now - self._changed < CHANGE_SECONDS:
                return "TooManyProviderTokenUpdates"
            self._known.add(text)
            self._changed = now
        self.current, self.until, self.topics = text, token.issued + TOKEN_SECONDS, token.key.topics
        return None

    def _refuse_key(self, key: SigningKey) -> str | None:
        first = self._first
        if first is None:
            self._first = key
        elif first.team != key.team:
            return "InvalidProviderToken"  # one team per connection
        elif (first.topics is None) != (key.topics is None) or (
            key.topics is not None and first.key_id != key.key_id
        ):
            return "UnrelatedKeyIdInToken"
        return None


def _json(part: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(decode_base64(part.decode()) or b"")
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _is_signed(key: ec.EllipticCurvePublicKey, signed: bytes, signature: bytes) -> bool:
    if len(signature) != 64:  # R and S, not DER: JWS, RFC 7518 §3.4
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _topics(certificate: x509.Certificate) -> list[str]:
    try:
        value = certificate.extensions.get_extension_for_oid(TOPICS).value
    except x509.ExtensionNotFound:
        return []
    der = value.value if isinstance(value, x509.UnrecognizedExtension) else b""
    return [content.decode() for tag, content in _elements(_content(der)) if tag == 0x0C]


def _content(der: bytes) -> bytes:
    return next((content for _, content in _elements(der)), b"")


def _elements(der: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at + 2 <= len(der):
        tag, length, start = der[at], der[at + 1], at + 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(der[at + 2 : start], "big")
        found.append((tag, der[start : start + length]))
        at = start + length
    return found
