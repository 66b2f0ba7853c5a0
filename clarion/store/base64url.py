"""Base64 as it comes: either alphabet, padded or not."""

from __future__ import annotations

import base64
import binascii


def decode_base64(text: str) -> bytes | None:
    """The bytes, None when it is no base64."""
    text = text.strip().rstrip("=")
    if "-" in text or "_" in text:
        text = text.replace("-", "+").replace("_", "/")
    try:
        return binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
    except ValueError:
        return None


def encode_base64url(data: bytes) -> str:
    """The URL-safe alphabet without padding, as push services and browsers write it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
