"""The sandbox's own authority: server certificates, and client certificates as Apple makes them.

Everything is on P-256 and lies in one directory, so that a client has to trust one file (`ca.pem`) and
a restart changes nothing. A certificate that is about to lapse is made anew.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAMES: Final = ("localhost",)
ADDRESSES: Final = ("127.0.0.1", "::1")
CA_DAYS: Final = 3650
DAYS: Final = 396
RENEW_DAYS: Final = 30

# Apple's extensions: for which environment a push certificate is, and which topics it covers.
DEVELOPMENT: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.3.1")
PRODUCTION: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.3.2")
TOPICS: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.3.6")
_NULL: Final = b"\x05\x00"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as text."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The key as PKCS#8 text."""
        return private_pem(self.key)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PKCS#8 text: what a .p8 file holds."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


class Authority:
    """The authority in `directory`; made there when there is none."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._ca = _load(directory / "ca") or self._make_ca()

    @property
    def ca_path(self) -> Path:
        """What a client has to trust."""
        return self.directory / "ca.pem"

    def server_context(self, protocols: Sequence[str], *, ask_certificate: bool = False) -> ssl.SSLContext:
        """TLS 1.2 and later with our server certificate; `ask_certificate` lets clients show one of ours."""
        self._server()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.directory / "server.pem", self.directory / "server.key")
        context.set_alpn_protocols(list(protocols))
        # Tickets would leave behind the handshake, where asyncio's own TLS takes them for our first write.
        context.num_tickets = 0
        if ask_certificate:
            context.load_verify_locations(self.ca_path)
            context.verify_mode = ssl.CERT_OPTIONAL
        return context

    def client_context(self, certificate: Pair | None = None) -> ssl.SSLContext:
        """What a client of the sandbox needs; ALPN is its own business."""
        context = ssl.create_default_context(cafile=str(self.ca_path))
        if certificate is not None:
            path = self.directory / "client.tmp"
            _write(path, certificate.certificate_pem + certificate.key_pem)
            context.load_cert_chain(path)
            path.unlink()
        return context

    def push_certificate(
        self,
        topic: str,
        *,
        topics: Sequence[str] = (),
        environments: Sequence[x509.ObjectIdentifier] = (DEVELOPMENT,),
        days: float = DAYS,
    ) -> Pair:
        """A client certificate for APNs: the bundle id is its UID, `topics` are those it covers in all.

        Negative `days` make one that has expired.
        """
        subject = [
            x509.NameAttribute(NameOID.USER_ID, topic),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Apple Push Services: {topic}"[:64]),
        ]
        extensions: list[tuple[x509.ExtensionType, bool]] = [
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False)
        ]
        extensions += [(x509.UnrecognizedExtension(oid, _NULL), False) for oid in environments]
        if topics:
            extensions.append((x509.UnrecognizedExtension(TOPICS, _topics_der(topics)), False))
        return self._issue(x509.Name(subject), extensions, days)

    def _server(self) -> Pair:
        kept = _load(self.directory / "server")
        if kept is not None and _is_fresh(kept.certificate) and self._is_ours(kept.certificate):
            return kept
        names: list[x509.GeneralName] = [x509.DNSName(name) for name in NAMES]
        names += [x509.IPAddress(ip_address(address)) for address in ADDRESSES]
        made = self._issue(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Clarion sandbox")]),
            [
                (x509.SubjectAlternativeName(names), False),
                (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            ],
            DAYS,
        )
        _store(self.directory / "server", made)
        return made

    def _is_ours(self, certificate: x509.Certificate) -> bool:
        try:
            certificate.verify_directly_issued_by(self._ca.certificate)
        except Exception:  # whatever is wrong with it, a new one is made
            return False
        return True

    def _make_ca(self) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Clarion sandbox authority")])
        builder = _builder(name, name, key.public_key(), key.public_key(), CA_DAYS)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_usage(signs=True), critical=True)
        made = Pair(builder.sign(key, hashes.SHA256()), key)
        _store(self.directory / "ca", made)
        return made

    def _issue(
        self, subject: x509.Name, extensions: Sequence[tuple[x509.ExtensionType, bool]], days: float
    ) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self._ca.certificate.subject
        builder = _builder(subject, issuer, key.public_key(), self._ca.key.public_key(), days)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(_usage(signs=False), critical=True)
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical=critical)
        return Pair(builder.sign(self._ca.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    issuer_key: ec.EllipticCurvePublicKey,
    days: float,
) -> x509.CertificateBuilder:
    end = datetime.now(UTC) + timedelta(days=days)
    start = min(datetime.now(UTC), end) - timedelta(days=1)  # a client's clock may be behind
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        # Strict clients (Python 3.13's default) want both identifiers.
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _topics_der(topics: Sequence[str]) -> bytes:
    """Topics as Apple writes them: each name followed by a sequence that says what it is for."""
    parts = b""
    for topic in topics:
        purpose = topic.rsplit(".", 1)[-1] if topic.endswith((".voip", ".complication")) else "app"
        parts += _der(0x0C, topic.encode()) + _der(0x30, _der(0x0C, purpose.encode()))
    return _der(0x30, parts)


def _der(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 128:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _is_fresh(certificate: x509.Certificate) -> bool:
    return certificate.not_valid_after_utc > datetime.now(UTC) + timedelta(days=RENEW_DAYS)


def _load(stem: Path) -> Pair | None:
    try:
        certificate = x509.load_pem_x509_certificate(stem.with_suffix(".pem").read_bytes())
        key = serialization.load_pem_private_key(stem.with_suffix(".key").read_bytes(), None)
    except (FileNotFoundError, ValueError):
        return None
    return Pair(certificate, key) if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _store(stem: Path, pair: Pair) -> None:
    _write(stem.with_suffix(".key"), pair.key_pem)
    _write(stem.with_suffix(".pem"), pair.certificate_pem, mode=0o644)


def _write(path: Path, content: bytes, mode: int = 0o600) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb") as file:
        file.write(content)
    draft.replace(path)
