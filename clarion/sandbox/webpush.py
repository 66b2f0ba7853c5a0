"""Subscriptions that need no storage: the last segment of the endpoint says everything about one.

    https://127.0.0.1:8443/push/{n}-{tag}-{check}

n      the subscription's number, hexadecimal
tag    "any", or 16 hexadecimal digits of SHA-256 of the VAPID key it is restricted to
check  8 hexadecimal digits of a digest of the two before it: what was made up or mangled is unknown (404)

The same digest names one of 256 key pairs (derived from their number, so every process knows them) and is the
authentication secret. A million subscriptions cost a generator a few seconds and the sandbox nothing. The
origin does not count: who wants to tell devices apart by their segments gives each its own number.

These private keys are public knowledge. They protect nothing: the sandbox is both ends.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from clarion.store.base64url import decode_base64, encode_base64url

POOL: Final = 256
ANY: Final = "any"
PATH: Final = "/push/"
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of the curve P-256


@dataclass(frozen=True, slots=True)
class KeyPair:
    """A browser's key pair."""

    private: ec.EllipticCurvePrivateKey
    public: bytes  # uncompressed point
    p256dh: str


@dataclass(frozen=True, slots=True)
class Subscriber:
    """What an endpoint's last segment says."""

    tag: str
    pair: KeyPair
    auth: bytes


def subscription(n: int, origin: str, vapid_key: str | None = None) -> dict[str, Any]:
    """Subscription n at an origin of the sandbox, as a browser's `toJSON()` gives it.

    `vapid_key` is the application server's public key in base64url: nobody else can push to it. Without one,
    any key may. Pure: the same arguments give the same subscription, in any process.
    """
    stem = f"{n:x}-{vapid_tag(vapid_key)}"
    digest = _digest(stem)
    return {
        "endpoint": f"{origin.rstrip('/')}{PATH}{stem}-{digest[:4].hex()}",
        "expirationTime": None,
        "keys": {"p256dh": _pair(digest[4]).p256dh, "auth": encode_base64url(digest[8:24])},
    }


def subscriber(segment: str) -> Subscriber | None:
    """Who is behind this segment; None when nobody ever was."""
    stem, _, check = segment.rpartition("-")
    digest = _digest(stem)
    if not stem or check != digest[:4].hex():
        return None
    return Subscriber(stem.partition("-")[2], _pair(digest[4]), digest[8:24])


def vapid_tag(vapid_key: str | bytes | None) -> str:
    """The mark of a VAPID key in a segment. Raises ValueError when it is no such key."""
    if vapid_key is None:
        return ANY
    point = decode_base64(vapid_key) if isinstance(vapid_key, str) else vapid_key
    if point is None or len(point) != 65 or point[0] != 4:
        raise ValueError("a VAPID key is an uncompressed point of 65 bytes in base64url")
    return hashlib.sha256(point).hexdigest()[:16]


def _digest(stem: str) -> bytes:
    return hashlib.sha256(b"clarion sandbox subscription " + stem.encode()).digest()


@cache
def _pair(number: int) -> KeyPair:
    seed = hashlib.sha256(b"clarion sandbox browser %d" % (number % POOL)).digest()
    private = ec.derive_private_key(int.from_bytes(seed, "big") % (_ORDER - 1) + 1, ec.SECP256R1())
    public = private.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    return KeyPair(private, public, encode_base64url(public))
