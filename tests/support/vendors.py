"""Vendors' senders against the sandbox: an app with a lane for each, and registrations as they make them."""

from __future__ import annotations

import json
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from benchmarks.devices import registration
from clarion.sandbox.sandbox import Sandbox
from clarion.store import apps, credentials, vendor_check
from clarion.store.credential_check import Checked
from clarion.store.database import Database
from tests.support.senders import SEAL

CHECKS: dict[str, Callable[..., Checked]] = {
    "hms": vendor_check.hms,
    "xiaomi": vendor_check.xiaomi,
    "oppo": vendor_check.oppo,
    "vivo": vendor_check.vivo,
    "jpush": vendor_check.jpush,
    "getui": vendor_check.getui,
    "umeng": vendor_check.umeng,
    "honor": vendor_check.honor,
    "meizu": vendor_check.meizu,
}
PROVIDERS = tuple(CHECKS)
FORM = "application/x-www-form-urlencoded"
JSON = "application/json"


def registrations(provider: str, count: int, first: int = 0) -> list[str]:
    """As this provider makes them."""
    return [registration(provider, number, f"{number:032x}" * 2) for number in range(first, first + count)]


def checked(sandbox: Sandbox, provider: str) -> Checked:
    """The sandbox's credential, checked."""
    return CHECKS[provider](**sandbox.credentials.vendors[provider])


def endpoint(sandbox: Sandbox, provider: str) -> str:
    """Where the sandbox serves it."""
    return f"https://127.0.0.1:{sandbox.ports()[provider]}"


def client(sandbox: Sandbox, provider: str, kind: str = FORM) -> httpx.AsyncClient:
    """Somebody else's client, without any of our code."""
    tls = ssl.create_default_context(cafile=str(sandbox.authority.ca_path))
    place = endpoint(sandbox, provider)
    return httpx.AsyncClient(verify=tls, base_url=place, headers={"content-type": kind}, timeout=15)


async def vendor_app(sandbox: Sandbox, db: Database, **settings: Any) -> tuple[int, dict[str, int]]:
    """An app with a lane per vendor, and one called hms-v3: its number, and the lanes by name."""
    app = await apps.create(db, "shop")
    ca = {"ca": sandbox.authority.ca_path.read_text()}
    lanes = {}
    for provider in sandbox.vendors:
        new = credentials.new_vendor(
            provider,
            provider,
            checked(sandbox, provider),
            endpoint=endpoint(sandbox, provider),
            settings=ca | settings,
        )
        lanes[provider] = await credentials.add(db, SEAL, app.app_no, new)
    new = credentials.new_vendor(
        "hms",
        "hms-v3",
        vendor_check.hms_account(sandbox.credentials.hms_v3),
        endpoint=endpoint(sandbox, "hms"),
        settings=ca | settings,
    )
    lanes["hms-v3"] = await credentials.add(db, SEAL, app.app_no, new)
    return app.app_no, lanes


def calls(sandbox: Sandbox, provider: str) -> int:
    """Requests that it got (tokens: "hms-auth")."""
    return sandbox.shared.tallies[provider].kinds.total()


def lines(sandbox: Sandbox, provider: str) -> list[Mapping[str, Any]]:
    """What the log says of it."""
    sandbox.log.flush()
    read = [json.loads(line) for line in sandbox.log.path.read_text().splitlines()]
    return [line for line in read if line["provider"] == provider]


def shown(sandbox: Sandbox, provider: str) -> Counter[str]:
    """How often each registration was shown something."""
    return Counter(line["token"] for line in lines(sandbox, provider) if line["status"] == 200)
