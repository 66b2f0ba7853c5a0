"""The receiving end of RFC 8291 (message encryption) and RFC 8292 (VAPID)."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any, Final

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from clarion.sandbox.webpush import Subscriber
from clarion.senders.webpush_crypto import hmac_sha256
from clarion.store.base64url import decode_base64

HEADER: Final = 86  # salt 16, record size 4, key length 1, key 65
TAG: Final = 16
SMALLEST_RECORD: Final = 18
_CURVE: Final = ec.SECP256R1()
_ECDH: Final = ec.ECDH()
_PARAMETER: Final = re.compile(r"\s*([A-Za-z]+)\s*=\s*\"?([A-Za-z0-9_\-.=+/]*)\"?\s*")


class Undecryptable(Exception):
    """A browser would throw this message away."""


def sender_key(body: bytes) -> bytes:
    """The sender's public key in a message's header."""
    return body[21:HEADER]


def decrypt(body: bytes, to: Subscriber) -> bytes:
    """The plaintext of an aes128gcm message of one record. Raises Undecryptable."""
    if len(body) < HEADER + TAG + 1 or body[20] != 65:
        raise Undecryptable("the header is broken")
    salt, size, key = body[:16], int.from_bytes(body[16:20], "big"), sender_key(body)
    record = body[HEADER:]
    if size < SMALLEST_RECORD or len(record) > size:
        raise Undecryptable("not exactly one record")
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, key)
        secret = to.pair.private.exchange(_ECDH, public)
    except ValueError:
        raise Undecryptable("the sender's key is no point on the curve") from None
    content_key, nonce = _derive(secret, to, key, salt)
    try:
        padded = AESGCM(content_key).decrypt(nonce, record, None)
    except InvalidTag:
        raise Undecryptable("it was not encrypted for this subscription") from None
    plain = padded.rstrip(b"\x00")
    if not plain.endswith(b"\x02"):
        raise Undecryptable("the delimiter of the last record is missing")
    return plain[:-1]


def _derive(secret: bytes, to: Subscriber, key: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """Content key and nonce (RFC 8291 §3.4): each HKDF expansion is one block, so an HMAC each."""
    info = b"WebPush: info\0" + to.pair.public + key + b"\1"
    extracted = hmac_sha256(salt, hmac_sha256(hmac_sha256(to.auth, secret), info))
    content_key = hmac_sha256(extracted, b"Content-Encoding: aes128gcm\0\1")[:16]
    return content_key, hmac_sha256(extracted, b"Content-Encoding: nonce\0\1")[:12]


@dataclass(frozen=True, slots=True)
class Vapid:
    """A signed claim: for whom, until when, by whom. `problem` says why it is none."""

    key: bytes = b""
    audience: str = ""
    expires: float = 0.0
    subject: str | None = None
    problem: str | None = None


def read_vapid(authorization: str) -> Vapid:
    """An Authorization header `vapid t=…, k=…`, its signature verified. Never raises."""
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.lower() != "vapid":
        return Vapid(problem="scheme")
    parameters: dict[str, str] = {}
    for part in rest.split(","):
        match = _PARAMETER.fullmatch(part)
        if match is not None:
            parameters.setdefault(match[1].lower(), match[2])
    token, key = parameters.get("t", ""), decode_base64(parameters.get("k", ""))
    if not token or not key or len(key) != 65:
        return Vapid(problem="key" if token else "token")
    try:
        public = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, key)
    except ValueError:
        return Vapid(problem="key")
    claims = _verify(token, public)
    return Vapid(key, problem="token") if claims is None else _claims(key, claims)


def _verify(token: str, public: ec.EllipticCurvePublicKey) -> dict[str, Any] | None:
    parts = [decode_base64(part) for part in token.split(".")]
    if len(parts) != 3 or parts[0] is None or parts[1] is None or parts[2] is None or len(parts[2]) != 64:
        return None
    try:
        header, claims = json.loads(parts[0]), json.loads(parts[1])
        r, s = int.from_bytes(parts[2][:32], "big"), int.from_bytes(parts[2][32:], "big")
        signed = token.rpartition(".")[0].encode()
        public.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    except (ValueError, InvalidSignature):
        return None
    good = isinstance(header, dict) and header.get("alg") == "ES256" and isinstance(claims, dict)
    return claims if good else None


def _claims(key: bytes, claims: dict[str, Any]) -> Vapid:
    audience, expires, subject = claims.get("aud"), claims.get("exp"), claims.get("sub")
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        return Vapid(key, problem="expires")
    if not isinstance(audience, str):
        return Vapid(key, problem="audience")
    return Vapid(key, audience, float(expires), subject if isinstance(subject, str) else None)
