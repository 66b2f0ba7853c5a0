"""Tokens and subscriptions: what a provider's address looks like, and its one normal form.

Nothing is cut, and no length is assumed but the greatest (`limits.TOKEN_BYTES`): Apple and Google say that
lengths vary. Raises BadRegistration, which never repeats the token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final
from urllib.parse import urlsplit

from clarion.errors import BadRegistration
from clarion.limits import TOKEN_BYTES
from clarion.store.base64url import decode_base64, encode_base64url

_HEX: Final = re.compile(r"(?:[0-9a-f]{2})+")
_FCM: Final = re.compile(r"[A-Za-z0-9_:.-]+")
_VISIBLE: Final = re.compile(r"[!-\[\]-~]+")  # printable ASCII without space and backslash
_ENDPOINT: Final = re.compile(r"https://[A-Za-z0-9._~%:\[\]!$&'()*+,;=@-]+/[!-\[\]-~]*")  # with a path

# P-256, y² = x³ − 3x + b over the field of p (SEC 2, section 2.4.2). Checked with plain integers: a
# library's point decoding takes thirty times as long, and an import does it for every browser.
_P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B


def normalise(provider: str, token: str) -> str:
    """The normal form of a token of this provider. Raises BadRegistration."""
    token = token.strip()
    if not token:
        raise BadRegistration("the token is empty")
    if len(token) > TOKEN_BYTES:
        raise BadRegistration(f"the token is longer than {TOKEN_BYTES} bytes")
    return _NORMALISE.get(provider, _other)(token)


def subscription(endpoint: str, p256dh: str, auth: str) -> str:
    """A Web Push subscription as one text: endpoint, p256dh and auth, the keys in base64url unpadded."""
    endpoint = endpoint.strip()
    if len(endpoint) > TOKEN_BYTES - 128:
        raise BadRegistration(f"subscription.endpoint is longer than {TOKEN_BYTES - 128} bytes")
    if not _ENDPOINT.fullmatch(endpoint) or not _is_origin("/".join(endpoint.split("/", 3)[:3])):
        raise BadRegistration("subscription.endpoint must be an https URL with a path")
    return f"{endpoint} {encode_base64url(_point(p256dh))} {encode_base64url(_auth(auth))}"


def from_subscription(value: Mapping[str, Any]) -> str:
    """The same from what a browser's `PushSubscription.toJSON()` gives."""
    keys = value.get("keys")
    if not isinstance(keys, Mapping):
        raise BadRegistration("subscription.keys must hold p256dh and auth")
    texts = value.get("endpoint"), keys.get("p256dh"), keys.get("auth")
    for name, text in zip(("endpoint", "keys.p256dh", "keys.auth"), texts, strict=True):
        if not isinstance(text, str):
            raise BadRegistration(f"subscription.{name} is missing")
    return subscription(*(str(text) for text in texts))


@lru_cache(1_024)
def _is_origin(origin: str) -> bool:
    try:
        parts = urlsplit(origin)
        return bool(parts.hostname) and (parts.port or 443) > 0 and "@" not in parts.netloc
    except ValueError:  # a port that is no number, brackets that do not close
        return False


def _point(p256dh: str) -> bytes:
    point = decode_base64(p256dh)
    if point is None:
        raise BadRegistration("subscription.keys.p256dh is not base64")
    if len(point) != 65 or point[0] != 4:
        raise BadRegistration(
            "subscription.keys.p256dh must be an uncompressed point of 65 bytes, encoded once; "
            f"it has {len(point)}"
        )
    x, y = int.from_bytes(point[1:33], "big"), int.from_bytes(point[33:], "big")
    if x >= _P or y >= _P or (y * y - x * x * x + 3 * x - _B) % _P:
        raise BadRegistration("subscription.keys.p256dh is not a point on the curve P-256")
    return point


def _auth(auth: str) -> bytes:
    secret = decode_base64(auth)
    if secret is None:
        raise BadRegistration("subscription.keys.auth is not base64")
    if len(secret) != 16:
        raise BadRegistration(f"subscription.keys.auth must be 16 bytes, encoded once; it has {len(secret)}")
    return secret


def _apns(token: str) -> str:
    token = token.lower()
    if not _HEX.fullmatch(token):
        raise BadRegistration("an APNs device token must be hexadecimal digits, an even number of them")
    return token


def _fcm(token: str) -> str:
    if not _FCM.fullmatch(token):
        raise BadRegistration("an FCM registration token has letters, digits and _ : . - only")
    return token


def _webpush(token: str) -> str:
    parts = token.split(" ")
    if len(parts) != 3:
        raise BadRegistration("a Web Push token is 'endpoint p256dh auth'; better give the subscription")
    return subscription(*parts)


def _other(token: str) -> str:
    # A line feed in a request's path takes the whole connection down, at any provider.
    if not _VISIBLE.fullmatch(token):
        raise BadRegistration("a token has printable ASCII characters only, no spaces and no backslash")
    return token


_NORMALISE: Final[dict[str, Callable[[str], str]]] = {"apns": _apns, "fcm": _fcm, "webpush": _webpush}
