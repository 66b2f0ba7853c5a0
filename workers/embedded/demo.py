"""The app `demo`, at home in the sandbox: there after every start, with addresses that are true today."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from clarion.errors import AlreadyExists, NotFound
from clarion.seal import Seal
from clarion.store import apps, credential_check, credentials
from clarion.store.credentials import NewCredential
from clarion.store.database import Database

APP: Final = "demo"
LOOPBACK_NETWORK: Final = "127.0.0.0/8"  # where a Web Push endpoint may point although it is private


async def make(db: Database, seal: Seal, directory: Path, ports: Mapping[str, Any]) -> None:
    """Make the app and its credentials, or move them to where the sandbox listens now.

    `directory` is the sandbox's own, where it keeps the keys that it knows; `ports` is what it said.
    """
    app = await _app(db)
    for new in _credentials(directory, ports):
        try:
            row = await credentials.find(db, app.app_no, new.name)
        except NotFound:
            await credentials.add(db, seal, app.app_no, new)
            continue
        await _update(db, seal, row, new)


async def _app(db: Database) -> apps.App:
    try:
        return await apps.create(db, APP)
    except AlreadyExists:
        return await apps.get(db, APP)


async def _update(db: Database, seal: Seal, row: credentials.CredentialRow, new: NewCredential) -> None:
    """The sandbox's ports may have moved, and with the FCM port the place where its account gets tokens."""
    await credentials.move(db, row.app_no, row.lane, endpoint=new.endpoint, settings=new.settings)
    known = await credentials.load(db, seal, row.app_no, row.lane)
    if known.secret != new.checked.secret:
        await credentials.rotate(db, seal, row.app_no, row.name, new.checked)


def _credentials(directory: Path, ports: Mapping[str, Any]) -> list[NewCredential]:
    ca = {"ca": Path(ports["ca"]).read_text()}
    apns, fcm, webpush = (_file(directory, name) for name in ("apns", "fcm", "webpush"))
    topic = apns.pop("topic")
    return [
        credentials.new_apns(
            "apns",
            credential_check.apns_token(**apns),
            topic=topic,
            environment="sandbox",
            endpoint=f"https://127.0.0.1:{ports['apns']}",
            settings=ca,
        ),
        credentials.new_fcm(
            "fcm",
            credential_check.fcm(fcm),
            endpoint=f"https://127.0.0.1:{ports['fcm']}",
            settings=ca,
        ),
        credentials.new_webpush(
            "webpush",
            credential_check.webpush(**webpush),
            settings=ca | {"allow": [LOOPBACK_NETWORK]},
        ),
    ]


def _file(directory: Path, name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((directory / "credentials" / f"{name}.json").read_bytes())
    return values
