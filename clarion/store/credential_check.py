"""What a usable credential is, per provider. Pure: text and bytes in, the secret's JSON out.

Everything that would fail at the first send is refused here. Errors name what is wrong, where, and what to
do, and hold no byte of a key.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

from clarion.errors import BadCredential
from clarion.store.base64url import decode_base64, encode_base64url

_BEGIN: Final = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_TEN: Final = re.compile(r"[A-Z0-9]{10}")
_BUNDLE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,254}")
_PROJECT: Final = re.compile(r"[a-z0-9][a-z0-9.:-]{0,127}")
_SERVICE_ACCOUNT_FIELDS: Final = (
    "type",
    "project_id",
    "private_key_id",
    "private_key",
    "client_email",
    "token_uri",
)
# Apple's certificate extensions: may be used in development, in production, and for these topics.
_DEVELOPMENT: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.3.1")
_PRODUCTION: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.3.2")
_TOPICS: Final = x509.ObjectIdentifier("1.2.840.113635.100.6.3.6")
_NO_PUBLIC_DOMAIN: Final = {"local", "localhost", "localdomain", "internal", "lan", "home", "corp", "arpa"}


@dataclass(frozen=True, slots=True)
class Checked:
    """A credential that can be used: what is sealed, and what the check learned about it."""

    secret: dict[str, Any] = field(repr=False)
    topics: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    expires: datetime | None = None


def apns_token(private_key: str | bytes, *, key_id: str, team_id: str) -> Checked:
    """Token authentication: a .p8 file, its key id and the team's id."""
    for value, what in ((key_id, "key id"), (team_id, "team id")):
        if not _TEN.fullmatch(value):
            raise BadCredential(f"APNs: the {what} must be 10 capital letters and digits, as Apple shows it")
    key = read_private_key(private_key, "APNs: the .p8 key")
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadCredential(
            "APNs: the .p8 key is not an elliptic curve key on P-256: take the file from Apple's Keys page"
        )
    return Checked({"type": "token", "team_id": team_id, "key_id": key_id, "private_key": pem_text(key)})


def apns_certificate(
    data: str | bytes, *, password: str | None = None, private_key: str | bytes | None = None
) -> Checked:
    """Certificate authentication: a .p12 file, or PEM with the key in the same text or beside it."""
    raw = data.encode() if isinstance(data, str) else data
    if b"-----BEGIN" in raw:
        certificate, key = _pem_pair(raw, private_key, password)
    else:
        certificate, key = _p12_pair(raw, password)
    now = datetime.now(UTC)
    if certificate.not_valid_after_utc <= now:
        raise BadCredential(
            f"APNs: the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}: renew it at Apple"
        )
    if certificate.not_valid_before_utc > now:
        raise BadCredential(
            f"APNs: the certificate is valid from {certificate.not_valid_before_utc:%Y-%m-%d} on: "
            "check this machine's clock"
        )
    if _spki(certificate.public_key()) != _spki(key.public_key()):
        raise BadCredential("APNs: the private key does not belong to the certificate")
    pem = certificate.public_bytes(serialization.Encoding.PEM).decode()
    return Checked(
        {"type": "certificate", "certificate": pem, "private_key": pem_text(key)},
        topics=_certificate_topics(certificate),
        environments=_certificate_environments(certificate),
        expires=certificate.not_valid_after_utc,
    )


def apns_place(checked: Checked, topic: str | None, environment: str | None) -> tuple[str, str]:
    """The bundle id and environment of a credential; a certificate says its own when they are not given."""
    topic = topic or next(iter(checked.topics), None)
    if topic is None or not _BUNDLE.fullmatch(topic):
        raise BadCredential("APNs: the topic must be the app's bundle id, e.g. com.example.app")
    if checked.topics and topic not in checked.topics:
        raise BadCredential(
            f"APNs: the certificate does not cover the topic {topic}; it covers {', '.join(checked.topics)}"
        )
    if environment is None and len(checked.environments) == 1:
        environment = checked.environments[0]
    if environment not in ("sandbox", "production"):
        raise BadCredential("APNs: the environment must be sandbox or production")
    if checked.environments and environment not in checked.environments:
        raise BadCredential(f"APNs: the certificate is for {checked.environments[0]}, not for {environment}")
    return topic, environment


def fcm(account: str | bytes | Mapping[str, Any]) -> Checked:
    """A service account as Google's console gives it: the JSON text or the parsed object."""
    values = account if isinstance(account, Mapping) else json_object(account, "FCM: the service account")
    if values.get("type", "service_account") != "service_account":
        raise BadCredential(
            "FCM: this file is not a service account's (its field type says otherwise): make a key under "
            "Firebase console, Project settings, Service accounts"
        )
    for name in _SERVICE_ACCOUNT_FIELDS:
        if not isinstance(values.get(name), str) or not values[name].strip():
            raise BadCredential(f"FCM: the service account lacks the field {name}: download the file again")
    key = read_private_key(values["private_key"], "FCM: the service account's private_key")
    if not isinstance(key, rsa.RSAPrivateKey):
        raise BadCredential("FCM: the service account's private_key is not an RSA key")
    if not _PROJECT.fullmatch(values["project_id"]):
        raise BadCredential("FCM: the service account's project_id is not a project's id")
    if "@" not in values["client_email"]:
        raise BadCredential("FCM: the service account's client_email is not an address")
    check_url(values["token_uri"], "FCM: the service account's token_uri")
    return Checked({**values, "private_key": pem_text(key)})


def webpush(*, subject: str, private_key: str | None = None, public_key: str | None = None) -> Checked:
    """A VAPID key (made when none is given) and the contact that push services may write to."""
    check_subject(subject)
    key = _vapid_key(private_key)
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    if public_key is not None and decode_base64(public_key) != point:
        raise BadCredential("Web Push: the public key does not belong to the private key")
    number = key.private_numbers().private_value.to_bytes(32, "big")
    return Checked(
        {
            "private_key": encode_base64url(number),
            "public_key": encode_base64url(point),
            "subject": subject,
        }
    )


def check_subject(subject: str) -> None:
    """A VAPID contact that every push service takes. Raises BadCredential.

    RFC 8292 section 2.1 wants mailto: or https:. Most services look no further; Apple answers what is not a
    reachable contact with 403 BadJwtToken, and only when a browser of theirs is sent to.
    """
    try:
        good = subject.isascii() and not re.search(r"[\s<>\"\\]", subject) and _is_contact(subject)
    except ValueError:  # brackets that do not close, in a URL's host
        good = False
    if not good:
        raise BadCredential(
            "Web Push: the subject must be mailto:you@your.domain or https://your.domain/…, without spaces "
            "or brackets and with a public domain: Apple refuses anything else with BadJwtToken"
        )


def check_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What may stand beside a secret: `ca`, certificates trusted in addition (PEM), and `allow`, networks
    that Web Push endpoints may point into although they are private; `group`, how many registrations one
    request of a vendor carries at most."""
    unknown = settings.keys() - {"ca", "allow", "public_key", "group"}
    if unknown:
        raise BadCredential(f"settings may hold ca, allow and group, not {', '.join(sorted(unknown))}")
    group = settings.get("group", 1)
    if not isinstance(group, int) or isinstance(group, bool) or not 1 <= group <= 1_000:
        raise BadCredential("settings.group must be a number from 1 to 1000")
    if (ca := settings.get("ca")) is not None:
        try:
            x509.load_pem_x509_certificates(str(ca).encode())
        except ValueError:
            raise BadCredential("settings.ca must be certificates in PEM") from None
    for network in settings.get("allow", ()):
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise BadCredential("settings.allow must be networks like 10.0.0.0/8") from None
    return dict(settings)


def check_url(url: str, what: str) -> str:
    """An https URL; http only to this machine itself. Raises BadCredential."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    loopback = host in ("localhost", "127.0.0.1", "::1")
    if not host or parts.username or re.search(r"[\s\\]", url) or parts.scheme not in ("https", "http"):
        raise BadCredential(f"{what} must be a URL like https://host:port")
    if parts.scheme == "http" and not loopback:
        raise BadCredential(f"{what} must begin with https:// unless it is on this machine")
    return url


def check_endpoint(url: str) -> str:
    """The base URL that replaces a provider's own: scheme, host and port alone. Raises BadCredential."""
    check_url(url, "the endpoint")
    parts = urlsplit(url)
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise BadCredential("the endpoint must be scheme, host and port alone, like https://127.0.0.1:8443")
    return url.rstrip("/")


def _is_contact(subject: str) -> bool:
    parts = urlsplit(subject)
    if parts.scheme == "mailto":
        local, _, domain = parts.path.rpartition("@")
        return bool(re.fullmatch(r"[\w.!#$%&'*+/=?^`{|}~-]+", local)) and _is_public_domain(domain)
    return parts.scheme == "https" and "@" not in parts.netloc and _is_public_domain(parts.hostname or "")


def _is_public_domain(domain: str) -> bool:
    labels = domain.lower().split(".")
    if len(labels) < 2 or len(domain) > 253 or labels[-1] in _NO_PUBLIC_DOMAIN or labels[-1].isdigit():
        return False
    return all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", label) for label in labels)


def read_private_key(
    text: str | bytes, what: str, password: str | None = None
) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    """A key from PEM that may have gone through forms and variables. Raises BadCredential."""
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    try:
        key = _loaded(_mend(words), password)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadCredential(
            f"{what} cannot be read: it must be the whole file from -----BEGIN PRIVATE KEY----- to "
            "-----END PRIVATE KEY-----, and not encrypted without its password"
        ) from None
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise BadCredential(f"{what} is of a kind that no provider uses")
    return key


def _loaded(pem: bytes, password: str | None) -> PrivateKeyTypes:
    try:
        return serialization.load_pem_private_key(pem, password.encode() if password else None)
    except TypeError:  # a password for a key that is not encrypted, or none for one that is
        return serialization.load_pem_private_key(pem, None)


def _mend(text: str) -> bytes:
    r"""PEM with its lines restored: a literal \n, CRLF, spaces for line ends, or the bare middle part."""
    text = text.strip().strip("\"'").replace("\\r", "").replace("\\n", "\n")
    match = _BEGIN.search(text)
    if match and "\n" in match[2].strip() and ":" in match[2]:
        return match[0].encode()  # an old encrypted form: its header lines matter
    label, middle = (match[1], match[2]) if match else ("PRIVATE KEY", text)
    middle = re.sub(r"\s+", "", middle)
    lines = [middle[i : i + 64] for i in range(0, len(middle), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def pem_text(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> str:
    """The key as PKCS#8 in PEM."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def _spki(key: Any) -> bytes:
    encoded: bytes = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return encoded


def _pem_pair(
    raw: bytes, private_key: str | bytes | None, password: str | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]:
    text = raw.decode("utf-8", "replace").replace("\\r", "").replace("\\n", "\n")
    blocks = {match[1]: match[0] for match in reversed(list(_BEGIN.finditer(text)))}
    if "CERTIFICATE" not in blocks:
        raise BadCredential("APNs: there is no certificate in the PEM text")
    keys = [block for label, block in blocks.items() if label.endswith("PRIVATE KEY")]
    if private_key is None and not keys:
        raise BadCredential("APNs: the PEM text holds no private key: give it in the same file or beside it")
    try:
        certificate = x509.load_pem_x509_certificate(_mend(blocks["CERTIFICATE"]))
    except ValueError:
        raise BadCredential("APNs: the certificate cannot be read") from None
    key = keys[0] if private_key is None else private_key
    return certificate, read_private_key(key, "APNs: the certificate's private key", password)


def _p12_pair(
    raw: bytes, password: str | None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey]:
    try:
        key, certificate, _ = pkcs12.load_key_and_certificates(raw, (password or "").encode() or None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise BadCredential(
            "APNs: the .p12 file cannot be opened: is the password right, and the file a .p12?"
        ) from None
    if certificate is None or not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise BadCredential(
            "APNs: the .p12 file lacks the certificate or its private key: export both from Keychain"
        )
    return certificate, key


def _certificate_topics(certificate: x509.Certificate) -> tuple[str, ...]:
    """The topics that Apple's extension lists; without it the one in the subject."""
    listed = _extension(certificate, _TOPICS)
    if listed is not None:
        return tuple(_utf8_strings(listed))
    uid = certificate.subject.get_attributes_for_oid(NameOID.USER_ID)
    return tuple(str(name.value) for name in uid)


def _certificate_environments(certificate: x509.Certificate) -> tuple[str, ...]:
    pairs = (("sandbox", _DEVELOPMENT), ("production", _PRODUCTION))
    return tuple(name for name, oid in pairs if _extension(certificate, oid) is not None)


def _extension(certificate: x509.Certificate, oid: x509.ObjectIdentifier) -> bytes | None:
    try:
        value = certificate.extensions.get_extension_for_oid(oid).value
    except x509.ExtensionNotFound:
        return None
    return value.value if isinstance(value, x509.UnrecognizedExtension) else b""


def _utf8_strings(der: bytes) -> Iterator[str]:
    """The strings directly within a DER sequence. Between them stand sequences that say what each is for."""
    body = next(_elements(der), (0, b""))[1]
    for tag, content in _elements(body):
        if tag == 0x0C:
            yield content.decode("utf-8", "replace")


def _elements(der: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 2 <= len(der):
        tag, length, start = der[at], der[at + 1], at + 2
        if length & 0x80:
            start += length & 0x7F
            length = int.from_bytes(der[at + 2 : start], "big")
        yield tag, der[start : start + length]
        at = start + length


def json_object(text: str | bytes, what: str) -> Mapping[str, Any]:
    """The JSON object of a file. Raises BadCredential."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        where = f" at line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise BadCredential(f"{what} is not JSON{where}: give the file as it is") from None
    if not isinstance(values, dict):
        raise BadCredential(f"{what} must be a JSON object")
    return values


def _vapid_key(private_key: str | None) -> ec.EllipticCurvePrivateKey:
    if private_key is None:
        return ec.generate_private_key(ec.SECP256R1())
    if "PRIVATE KEY" in private_key:
        key = read_private_key(private_key, "Web Push: the VAPID key")
        if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1):
            return key
        raise BadCredential("Web Push: the VAPID key is not an elliptic curve key on P-256")
    number = decode_base64(private_key) or b""
    try:
        if len(number) == 32:
            return ec.derive_private_key(int.from_bytes(number, "big"), ec.SECP256R1())
        loaded = serialization.load_der_private_key(number, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        loaded = None
    if isinstance(loaded, ec.EllipticCurvePrivateKey) and isinstance(loaded.curve, ec.SECP256R1):
        return loaded
    raise BadCredential(
        "Web Push: the VAPID private key must be 32 bytes in base64url, or PEM, on the curve P-256"
    )
