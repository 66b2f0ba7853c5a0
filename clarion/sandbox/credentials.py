"""Demo credentials: what a developer would get from Apple, Google and a browser, made here and known here."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from clarion.sandbox.certificates import Authority, private_pem
from clarion.store.base64url import encode_base64url

TEAM: Final = "SANDBOX001"
KEY: Final = "CLARIONKEY"
TOPIC: Final = "com.example.clarion"
PROJECT: Final = "clarion-sandbox"
PROJECT_NUMBER: Final = "100000000001"
APP_ID: Final = "100000001"
HMS_PROJECT: Final = "200000001"
SUBJECT: Final = "mailto:push@clarion.example"


@dataclass(frozen=True)
class Credentials:
    """The demo credentials, as they lie in their files."""

    apns: dict[str, Any]
    apns_certificate: dict[str, Any]
    fcm: dict[str, Any]
    webpush: dict[str, Any]
    vendors: dict[str, dict[str, Any]]  # by provider
    hms_v3: dict[str, Any]


def demo_credentials(directory: Path, authority: Authority, ports: Mapping[str, int]) -> Credentials:
    """Those of `directory`; what is missing is made. Only the URLs of token endpoints follow the ports."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    fcm = _read(directory / "fcm.json") or _service_account()
    fcm["token_uri"] = f"https://127.0.0.1:{ports['fcm']}/token"
    vendors = {name: _read(directory / f"{name}.json") or make() for name, make in _VENDORS.items()}
    vendors["hms"]["token_url"] = f"https://127.0.0.1:{ports['hms']}/oauth2/v3/token"
    vendors["honor"]["token_url"] = f"https://127.0.0.1:{ports['honor']}/auth/token"
    made = Credentials(
        apns=_read(directory / "apns.json") or _apns_key(),
        apns_certificate=_read(directory / "apns-certificate.json") or _apns_certificate(authority),
        fcm=fcm,
        webpush=_read(directory / "webpush.json") or _vapid_key(),
        vendors=vendors,
        hms_v3=_read(directory / "hms-v3.json") or _hms_v3(),
    )
    for name, vendor in vendors.items():
        _write(directory / f"{name}.json", vendor)
    _write(directory / "hms-v3.json", made.hms_v3)
    _write(directory / "apns.json", made.apns)
    _write(directory / "apns-certificate.json", made.apns_certificate)
    _write(directory / "fcm.json", made.fcm)
    _write(directory / "webpush.json", made.webpush)
    return made


def _apns_key() -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    return {"team_id": TEAM, "key_id": KEY, "topic": TOPIC, "private_key": private_pem(key).decode()}


def _apns_certificate(authority: Authority) -> dict[str, Any]:
    pair = authority.push_certificate(TOPIC)
    return {
        "topic": TOPIC,
        "certificate": pair.certificate_pem.decode(),
        "private_key": pair.key_pem.decode(),
    }


def _service_account() -> dict[str, Any]:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return {
        "type": "service_account",
        "project_id": PROJECT,
        "private_key_id": os.urandom(20).hex(),
        "private_key": pem.decode(),
        "client_email": f"clarion@{PROJECT}.iam.gserviceaccount.com",
        "client_id": "100000000000000000001",
        "universe_domain": "googleapis.com",
    }


def _vapid_key() -> dict[str, Any]:
    key = ec.generate_private_key(ec.SECP256R1())
    point = key.public_key().public_bytes(
        serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
    )
    number = key.private_numbers().private_value.to_bytes(32, "big")
    return {
        "private_key": encode_base64url(number),
        "public_key": encode_base64url(point),
        "subject": SUBJECT,
    }


def _hms() -> dict[str, Any]:
    return {"app_id": APP_ID, "client_id": APP_ID, "client_secret": os.urandom(32).hex()}


def _xiaomi() -> dict[str, Any]:
    return {"package": TOPIC, "app_secret": os.urandom(16).hex()}


def _jpush() -> dict[str, Any]:
    return {"app_key": os.urandom(12).hex(), "master_secret": os.urandom(12).hex()}


def _oppo() -> dict[str, Any]:
    return {"app_key": os.urandom(16).hex(), "master_secret": os.urandom(16).hex()}


def _vivo() -> dict[str, Any]:
    return {"app_id": APP_ID, "app_key": os.urandom(16).hex(), "app_secret": os.urandom(16).hex()}


def _getui() -> dict[str, Any]:
    names = ("app_id", "app_key", "master_secret")
    return {name: os.urandom(11).hex() for name in names}


def _umeng() -> dict[str, Any]:
    return {"app_key": os.urandom(12).hex(), "app_master_secret": os.urandom(16).hex()}


def _honor() -> dict[str, Any]:
    return {"app_id": APP_ID, "client_id": os.urandom(16).hex(), "client_secret": os.urandom(16).hex()}


def _meizu() -> dict[str, Any]:
    return {"app_id": APP_ID, "app_secret": os.urandom(16).hex()}


def _hms_v3() -> dict[str, Any]:
    account = _service_account()
    return {
        "project_id": HMS_PROJECT,
        "key_id": os.urandom(16).hex(),
        "private_key": account["private_key"],
        "sub_account": "100000002",
        "auth_uri": "https://oauth-login.cloud.huawei.com/oauth2/v3/authorize",
        "token_uri": "https://oauth-login.cloud.huawei.com/oauth2/v3/token",
        "auth_provider_cert_uri": "https://oauth-login.cloud.huawei.com/oauth2/v3/certs",
        "client_cert_uri": "https://oauth-login.cloud.huawei.com/oauth2/v3/x509?client_id=",
    }


_VENDORS: Final[dict[str, Callable[[], dict[str, Any]]]] = {
    "hms": _hms,
    "xiaomi": _xiaomi,
    "oppo": _oppo,
    "vivo": _vivo,
    "jpush": _jpush,
    "getui": _getui,
    "umeng": _umeng,
    "honor": _honor,
    "meizu": _meizu,
}


def _read(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def _write(path: Path, value: dict[str, Any]) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        json.dump(value, file, indent=2)
        file.write("\n")
    draft.replace(path)
