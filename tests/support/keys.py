"""Keys, certificates and an app with credentials, made for tests."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from clarion.seal import Seal
from clarion.store import apps, credential_check, credentials
from clarion.store.apps import App
from clarion.store.database import Database

TOPIC = "com.example.app"
KEY_ID = "ABC123DEFG"
TEAM_ID = "TEAM456789"


def pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    """The key as a .p8 file has it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


@cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    """A key on P-256, the same for the whole run."""
    return ec.generate_private_key(ec.SECP256R1())


@cache
def rsa_key() -> rsa.RSAPrivateKey:
    """A small RSA key, the same for the whole run."""
    return rsa.generate_private_key(65_537, 2_048)


def service_account(**changes: Any) -> dict[str, Any]:
    """A service account as Google's console gives it."""
    return {
        "type": "service_account",
        "project_id": "demo-project",
        "private_key_id": "0123456789abcdef",
        "private_key": pem(rsa_key()),
        "client_email": "push@demo-project.iam.gserviceaccount.com",
        "token_uri": "https://oauth2.googleapis.com/token",
    } | changes


def certificate(
    *,
    topics: tuple[str, ...] = (TOPIC, f"{TOPIC}.voip"),
    uid: str = TOPIC,
    days: int = 365,
    production: bool = True,
    key: ec.EllipticCurvePrivateKey | None = None,
) -> x509.Certificate:
    """A push certificate with Apple's extensions, signed by itself."""
    key = key or ec_key()
    name = x509.Name(
        [x509.NameAttribute(NameOID.USER_ID, uid), x509.NameAttribute(NameOID.COMMON_NAME, "push")]
    )
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=400))
        .not_valid_after(now + timedelta(days=days))
    )
    for number, content in _apple_extensions(topics, production):
        oid = x509.ObjectIdentifier(f"1.2.840.113635.100.6.3.{number}")
        builder = builder.add_extension(x509.UnrecognizedExtension(oid, content), critical=False)
    return builder.sign(key, hashes.SHA256())


def p12(cert: x509.Certificate, password: str) -> bytes:
    """The certificate and its key as Keychain exports them."""
    encryption = serialization.BestAvailableEncryption(password.encode())
    return pkcs12.serialize_key_and_certificates(b"push", ec_key(), cert, None, encryption)


def certificate_pem(cert: x509.Certificate) -> str:
    """The certificate as PEM."""
    return cert.public_bytes(serialization.Encoding.PEM).decode()


def subscription(number: int, *, endpoint: str | None = None) -> dict[str, Any]:
    """What the browser of device `number` gives."""
    point = (
        ec_key()
        .public_key()
        .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    )
    return {
        "endpoint": endpoint or f"https://push.example.net/wp/{number}",
        "keys": {
            "p256dh": base64.urlsafe_b64encode(point).rstrip(b"=").decode(),
            "auth": base64.urlsafe_b64encode(number.to_bytes(16, "big")).rstrip(b"=").decode(),
        },
    }


async def stocked_app(db: Database, seal: Seal, name: str = "demo") -> App:
    """An app with an APNs, an FCM and a Web Push credential: lanes 1, 2 and 3."""
    app = await apps.create(db, name)
    token = credential_check.apns_token(pem(ec_key()), key_id=KEY_ID, team_id=TEAM_ID)
    for new in (
        credentials.new_apns("apns", token, topic=TOPIC, environment="sandbox"),
        credentials.new_fcm("fcm", credential_check.fcm(json.dumps(service_account()))),
        credentials.new_webpush("web", credential_check.webpush(subject="mailto:ops@example.com")),
    ):
        await credentials.add(db, seal, app.app_no, new)
    return await apps.get(db, name)


def _apple_extensions(topics: tuple[str, ...], production: bool) -> list[tuple[int, bytes]]:
    extensions = [(2 if production else 1, b"\x05\x00")]
    if topics:
        parts = b"".join(_der(0x0C, topic.encode()) + _der(0x30, _der(0x0C, b"app")) for topic in topics)
        extensions.append((6, _der(0x30, parts)))
    return extensions


def _der(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + content
