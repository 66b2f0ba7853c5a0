"""TLS as a client: whom to trust, and who we are."""

from __future__ import annotations

import os
import ssl
import tempfile
from functools import lru_cache
from pathlib import Path

from clarion.errors import BadCredential


@lru_cache(maxsize=64)
def client_tls(ca: str | None, *, alpn: tuple[str, ...] = ("h2",)) -> ssl.SSLContext:
    """A client's context: the system's roots, and the credential's own in addition. Raises BadCredential.

    Shared: reading the system's roots takes a fifth of a second. Nobody may change it.
    """
    return own_client_tls(ca, alpn=alpn)


def own_client_tls(ca: str | None, *, alpn: tuple[str, ...] = ("h2",)) -> ssl.SSLContext:
    """The same for one owner, who may give it an identity. Raises BadCredential."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if alpn:
        context.set_alpn_protocols(list(alpn))
    if ca:
        try:
            context.load_verify_locations(cadata=ca)
        except ssl.SSLError:
            raise BadCredential("settings.ca must be certificates in PEM") from None
    return context


def load_identity(context: ssl.SSLContext, certificate: str, private_key: str) -> None:
    """Give the context a client certificate. Raises BadCredential.

    OpenSSL reads it from a path; where the system has memory files the key never meets a disk.
    """
    pem = f"{private_key.strip()}\n{certificate.strip()}\n".encode()
    try:
        if hasattr(os, "memfd_create"):
            with os.fdopen(os.memfd_create("identity"), "wb") as file:
                file.write(pem)
                file.flush()
                context.load_cert_chain(f"/proc/self/fd/{file.fileno()}")
        else:
            with tempfile.TemporaryDirectory() as home:
                path = Path(home) / "identity.pem"
                path.touch(mode=0o600)
                path.write_bytes(pem)
                context.load_cert_chain(path)
    except ssl.SSLError:
        raise BadCredential("the certificate and its private key cannot be used") from None
