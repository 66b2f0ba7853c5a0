"""VAPID: who we are, said to one push service (RFC 8292).

Signed once per origin and kept: services remember a token they have verified, and Apple asks that it be
renewed at most hourly. `aud` is the origin of the endpoint and nothing more; `exp` is twelve hours away, so
that a clock five minutes fast stays well below the 24 hours that services allow.
"""

from __future__ import annotations

from typing import Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, derive_private_key

from clarion.clock import Clock
from clarion.store.base64url import decode_base64

LIFETIME: Final = 12 * 3600.0
RENEW_AFTER: Final = 6 * 3600.0  # well before it lapses, well above Apple's hour
KEPT: Final = 4_096  # origins; a connection that closes and comes back shows the same token


class Vapid:
    """The key of one credential. `subject`: mailto: or https:, checked when the credential was added."""

    def __init__(self, private_key: str, public_key: str, subject: str, clock: Clock) -> None:
        secret = decode_base64(private_key)
        if secret is None or len(secret) != 32:
            raise ValueError("a VAPID private key is 32 bytes in base64url")
        self._key = derive_private_key(int.from_bytes(secret, "big"), SECP256R1())
        self._public_key = public_key
        self._subject = subject
        self._clock = clock
        self._signed: dict[str, tuple[float, bytes]] = {}

    def authorization(self, origin: str) -> bytes:
        """The Authorization header for one origin (`https://host[:port]`)."""
        now = self._clock.time()
        made_at, header = self._signed.get(origin, (float("-inf"), b""))
        if not 0 <= now - made_at < RENEW_AFTER:  # older, or from a future that the clock has left again
            header = self._sign(origin, now)
            self._signed.pop(origin, None)
            if len(self._signed) >= KEPT:
                del self._signed[next(iter(self._signed))]  # the one signed longest ago
            self._signed[origin] = now, header
        return header

    def _sign(self, origin: str, now: float) -> bytes:
        claims = {"aud": origin, "exp": int(now + LIFETIME), "sub": self._subject}
        token = jwt.encode(claims, self._key, algorithm="ES256")
        return f"vapid t={token}, k={self._public_key}".encode("ascii")
