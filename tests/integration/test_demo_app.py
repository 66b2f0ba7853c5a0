"""The app `demo`: at home in the sandbox after every start."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from clarion.sandbox.certificates import Authority
from clarion.sandbox.credentials import demo_credentials
from clarion.seal import Seal
from clarion.store import apps, credentials
from clarion.store.credentials import Credential
from clarion.store.database import Database
from workers.embedded import demo

SEAL = Seal.load(Seal.new_key())


def sandbox_ports(fcm: int = 4443) -> dict[str, int]:
    """Where a sandbox listens."""
    return {"fcm": fcm, "hms": 4451, "xiaomi": 4452, "oppo": 4453, "vivo": 4454, "honor": 4455}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A sandbox's directory, as it leaves it."""
    demo_credentials(tmp_path / "credentials", Authority(tmp_path / "tls"), sandbox_ports())
    return tmp_path


def ports(home: Path, apns: int = 4442, fcm: int = 4443) -> dict[str, Any]:
    """What a sandbox says when it is ready."""
    return {"apns": apns, "fcm": fcm, "webpush": [1, 2, 3], "control": 4, "ca": str(home / "tls" / "ca.pem")}


async def stored(db: Database) -> dict[str, Credential]:
    """The credentials of the app, by provider."""
    app = await apps.get(db, demo.APP)
    rows = await credentials.list_credentials(db, app.app_no)
    return {row.provider: await credentials.load(db, SEAL, row.app_no, row.lane) for row in rows}


async def test_made_at_the_first_start(db: Database, home: Path) -> None:
    """The app has one credential a provider, each leading to the sandbox and trusting its certificates."""
    await demo.make(db, SEAL, home, ports(home))
    made = await stored(db)

    assert {name: one.endpoint for name, one in made.items()} == {
        "apns": "https://127.0.0.1:4442",
        "fcm": "https://127.0.0.1:4443",
        "webpush": None,
    }
    assert all(one.settings["ca"].startswith("-----BEGIN CERTIFICATE") for one in made.values())
    assert made["webpush"].settings["allow"] == ["127.0.0.0/8"]


async def test_a_second_start_changes_nothing(db: Database, home: Path) -> None:
    """Credentials that are true already stay as they are: no sender loads them again."""
    await demo.make(db, SEAL, home, ports(home))
    before = await stored(db)
    await demo.make(db, SEAL, home, ports(home))

    assert await stored(db) == before


async def test_follows_the_sandbox(db: Database, home: Path) -> None:
    """When the sandbox's ports have moved, endpoints and the token URL move with them, in place."""
    await demo.make(db, SEAL, home, ports(home))
    before = await stored(db)
    demo_credentials(home / "credentials", Authority(home / "tls"), sandbox_ports(5443))
    await demo.make(db, SEAL, home, ports(home, apns=5442, fcm=5443))
    after = await stored(db)

    assert after["apns"].endpoint == "https://127.0.0.1:5442"
    assert after["fcm"].endpoint == "https://127.0.0.1:5443"
    assert after["fcm"].secret["token_uri"] == "https://127.0.0.1:5443/token"
    assert {name: one.lane for name, one in after.items()} == {name: one.lane for name, one in before.items()}
    assert after["apns"].version > before["apns"].version
    assert after["webpush"] == before["webpush"]
