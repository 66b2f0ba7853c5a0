"""Secrets at rest: sealed with AES-GCM under a key that the database never sees.

A sealed value says which key closed it, so that keys can be rotated: put the new one first, keep the old
ones behind it until everything was sealed again (`clarion credentials reseal`).

    version (1 byte) | key id (4) | nonce (12) | ciphertext and tag
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from clarion.errors import BadInput

KEY_BYTES: Final = 32
KEY_VARIABLE: Final = "CLARION_KEY"
KEY_FILE_VARIABLE: Final = "CLARION_KEY_FILE"
_VERSION: Final = 1
_ID_BYTES: Final = 4
_NONCE_BYTES: Final = 12
_HEAD: Final = 1 + _ID_BYTES + _NONCE_BYTES


class BadKey(BadInput):
    """The key that seals credentials is missing, malformed or not the one that sealed this."""


class Seal:
    """Closes and opens secrets. The first key seals, all of them open."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise BadKey(f"no key to seal credentials with: set {KEY_VARIABLE} or {KEY_FILE_VARIABLE}")
        self._ciphers = {_key_id(key): AESGCM(key) for key in keys}
        self._first = _key_id(keys[0])

    def __repr__(self) -> str:
        return f"Seal({', '.join(key_id.hex() for key_id in self._ciphers)})"

    @classmethod
    def load(
        cls,
        key: str | None = None,
        key_file: Path | str | None = None,
        *,
        environ: Mapping[str, str] = os.environ,
    ) -> Seal:
        """Keys from `key`, else from `key_file`, else from CLARION_KEY or CLARION_KEY_FILE.

        A text holds one or several keys, newest first, each 32 bytes in base64, apart by spaces or commas.
        Raises BadKey, which names the place but holds no byte of a key.
        """
        if key is None and key_file is None:
            key, key_file = environ.get(KEY_VARIABLE), environ.get(KEY_FILE_VARIABLE)
        if key:
            return cls(_parse(key, KEY_VARIABLE))
        if not key_file:
            return cls(())
        try:
            text = Path(key_file).read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise BadKey(f"the key file {key_file} cannot be read: {type(error).__name__}") from None
        return cls(_parse(text, f"the key file {key_file}"))

    @staticmethod
    def new_key() -> str:
        """A fresh key, as CLARION_KEY takes it."""
        return base64.b64encode(os.urandom(KEY_BYTES)).decode()

    def seal(self, secret: bytes, context: str) -> bytes:
        """Close a secret. It opens only with the same context: a row's secret is no use in another row."""
        nonce = os.urandom(_NONCE_BYTES)
        head = bytes((_VERSION,)) + self._first + nonce
        return head + self._ciphers[self._first].encrypt(nonce, secret, context.encode())

    def open(self, sealed: bytes, context: str) -> bytes:
        """The secret. Raises BadKey: sealed under a key that is not here, or damaged, or of another place."""
        cipher = self._ciphers.get(sealed[1 : 1 + _ID_BYTES])
        if sealed[:1] != bytes((_VERSION,)) or cipher is None:
            raise BadKey(
                f"{context} was sealed under the key {sealed[1 : 1 + _ID_BYTES].hex()}, which is not among "
                f"the given ones: add it behind the newest in {KEY_VARIABLE} or the key file"
            )
        try:
            return cipher.decrypt(sealed[1 + _ID_BYTES : _HEAD], sealed[_HEAD:], context.encode())
        except InvalidTag:
            raise BadKey(f"{context} does not open: its sealed value is damaged or from elsewhere") from None

    def is_newest(self, sealed: bytes) -> bool:
        """Whether it is sealed under the first key."""
        return sealed[1 : 1 + _ID_BYTES] == self._first


def _key_id(key: bytes) -> bytes:
    return hashlib.sha256(b"clarion key id\x00" + key).digest()[:_ID_BYTES]


def _parse(text: str, where: str) -> list[bytes]:
    keys = []
    for number, word in enumerate(text.replace(",", " ").split(), 1):
        try:
            key = base64.b64decode(word.replace("-", "+").replace("_", "/"), validate=True)
        except binascii.Error:
            key = b""
        if len(key) != KEY_BYTES:
            raise BadKey(f"key {number} in {where} must be {KEY_BYTES} bytes in base64")
        keys.append(key)
    if not keys:
        raise BadKey(f"{where} holds no key: it must be {KEY_BYTES} bytes in base64")
    return keys
