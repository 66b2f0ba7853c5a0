"""Credentials: what an app is at a provider. The number of one in its app is its lane.

Secrets are sealed before they reach the database and opened only for senders. A lane is never reused, and a
row is never deleted: deliveries name their lane for ever.

Rotating an APNs or FCM credential replaces the secret in place (version + 1): tokens belong to the app, not
to the key. A browser's subscription belongs to the key it was made under (RFC 8292, section 4), so a new
Web Push key is a new lane in front of the old one, which goes on for its own subscriptions until it is
withdrawn; docs/decisions/web-push-keys.md says why.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import asyncpg

from clarion import names
from clarion.errors import AlreadyExists, BadCredential, NotFound
from clarion.model.ledger import Reason
from clarion.seal import Seal
from clarion.store import credential_check as check
from clarion.store.apps import check_name
from clarion.store.database import Database
from clarion.store.sql import beside
from clarion.store.vendor_check import VENDORS

SQL = beside(__file__)
PROVIDERS: Final = ("apns", "fcm", "webpush", *VENDORS)


@dataclass(frozen=True, slots=True)
class Credential:
    """A credential as a sender needs it. Its repr shows no secret."""

    app_no: int
    lane: int
    name: str
    provider: str
    environment: str | None
    topic: str | None
    endpoint: str | None  # base URL in place of the provider's own
    settings: dict[str, Any]
    ceiling: float  # sends per second
    version: int
    secret: dict[str, Any] = field(repr=False)


@dataclass(frozen=True, slots=True)
class CredentialRow:
    """A credential as people see it: no secret, but how it is doing."""

    app_no: int
    app: str
    lane: int
    name: str
    provider: str
    environment: str | None
    topic: str | None
    endpoint: str | None
    settings: dict[str, Any]
    ceiling: float
    version: int
    withdrawn: bool
    blocked: bool
    reason: int  # why it is blocked
    since: datetime | None  # since when it is blocked or open again
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class NewCredential:
    """What is to be added: a checked secret and where it is used."""

    name: str
    provider: str
    checked: check.Checked
    environment: str | None = None
    topic: str | None = None
    endpoint: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    ceiling: float = float("inf")


def new_apns(
    name: str,
    checked: check.Checked,
    *,
    topic: str | None = None,
    environment: str | None = None,
    **more: Any,
) -> NewCredential:
    """An APNs credential from `apns_token` or `apns_certificate`. Raises BadCredential."""
    topic, environment = check.apns_place(checked, topic, environment)
    return NewCredential(name, "apns", checked, environment, topic, **more)


def new_fcm(name: str, checked: check.Checked, **more: Any) -> NewCredential:
    """An FCM credential; its topic is the project."""
    return NewCredential(name, "fcm", checked, topic=checked.secret["project_id"], **more)


def new_webpush(
    name: str, checked: check.Checked, *, settings: Mapping[str, Any] | None = None, **more: Any
) -> NewCredential:
    """A Web Push credential. Its public key is no secret: pages subscribe with it."""
    shown = {**(settings or {}), "public_key": checked.secret["public_key"]}
    return NewCredential(name, "webpush", checked, settings=shown, **more)


def new_vendor(provider: str, name: str, checked: check.Checked, **more: Any) -> NewCredential:
    """A credential of a Chinese vendor, from `vendor_check`; its topic is the app's id there."""
    return NewCredential(name, provider, checked, topic=checked.topics[0], **more)


async def add(db: Database, seal: Seal, app_no: int, new: NewCredential) -> int:
    """Store a credential as the app's next lane, last in its order; the lane.

    Raises BadCredential, AlreadyExists (the name), NotFound (the app).
    """
    return await _add(db, seal, app_no, new, before=None)


async def _add(db: Database, seal: Seal, app_no: int, new: NewCredential, *, before: int | None) -> int:
    check_name(new.name, "a credential's name")
    settings = check.check_settings(new.settings)
    endpoint = check.check_endpoint(new.endpoint) if new.endpoint else None
    if not new.ceiling > 0:
        raise BadCredential("the ceiling must be a rate above 0, in sends per second")
    async with db.transaction() as connection:
        if not await connection.fetchval(SQL.lock_app, app_no):
            raise NotFound(f"there is no app {app_no}")
        lane = await connection.fetchval(SQL.next_lane, app_no)
        try:
            await connection.execute(
                SQL.add,
                app_no,
                lane,
                new.name,
                new.provider,
                new.environment,
                new.topic,
                endpoint,
                settings,
                new.ceiling,
                _sealed(seal, app_no, lane, new.checked.secret),
            )
        except asyncpg.UniqueViolationError:
            raise AlreadyExists(
                f"the app has a credential named {new.name}: rotate it or choose another name"
            ) from None
        await connection.execute(SQL.order_lane, app_no, lane, before)
    return int(lane)


async def list_credentials(db: Database, app_no: int | None = None) -> list[CredentialRow]:
    """The credentials of an app, or of all, in order of lanes."""
    return [CredentialRow(**row) for row in await db.fetch(SQL.list, app_no)]


async def find(db: Database, app_no: int, name: str) -> CredentialRow:
    """The credential of that name. Raises NotFound."""
    for row in await list_credentials(db, app_no):
        if row.name == name:
            return row
    raise NotFound(f"the app has no credential named {name[:64]!r}: `clarion credentials list` shows them")


async def load(db: Database, seal: Seal, app_no: int, lane: int) -> Credential:
    """A credential with its secret, for a sender.

    Raises NotFound, BadKey (sealed under a key that is not here), BadCredential (withdrawn).
    """
    row = await db.fetchrow(SQL.load, app_no, lane)
    if row is None:
        raise NotFound(f"app {app_no} has no lane {lane}")
    if row["secret"] is None:
        raise BadCredential(f"the credential {row['name']} was withdrawn")
    return _opened(seal, row)


async def load_all(db: Database, seal: Seal, provider: str) -> list[Credential]:
    """Every credential of a provider that is in use, with its secret."""
    return [_opened(seal, row) for row in await db.fetch(SQL.load_all, provider)]


async def versions(db: Database) -> dict[tuple[int, int], int]:
    """The version of every (app, lane): a sender with an older one loads it again."""
    return {(row["app_no"], row["lane"]): row["version"] for row in await db.fetch(SQL.versions)}


async def rotate(db: Database, seal: Seal, app_no: int, name: str, checked: check.Checked) -> int:
    """Replace an APNs or FCM secret, or a Web Push subject, in place; the new version.

    Senders take it up within seconds; a blocked lane opens, because its reason is gone. Raises NotFound, and
    BadCredential: the secret does not fit the lane's topic, environment, project or key.
    """
    row = await find(db, app_no, name)
    _check_fits(row, checked)
    version = await db.fetchval(
        SQL.rotate, app_no, row.lane, _sealed(seal, app_no, row.lane, checked.secret), row.version
    )
    if version is None:
        raise AlreadyExists(f"{name} was rotated by somebody else just now: look, then try again")
    await unblock(db, app_no, row.lane)
    return int(version)


async def move(
    db: Database, app_no: int, lane: int, *, endpoint: str | None, settings: Mapping[str, Any]
) -> bool:
    """Use a credential at another endpoint, or with other settings; False when nothing changed.

    Senders take it up like a rotation. Settings that are not named stay. Raises BadCredential.
    """
    settings = check.check_settings(settings)
    endpoint = check.check_endpoint(endpoint) if endpoint else None
    return await db.fetchval(SQL.move, app_no, lane, endpoint, settings) is not None


async def rotate_webpush_key(
    db: Database, seal: Seal, app_no: int, name: str, checked: check.Checked, new_name: str
) -> int:
    """A new Web Push key beside the old: a lane of its own in front of it; the lane.

    New subscriptions go to the new lane; those made under the old key are signed with the old key until it
    is withdrawn. Raises NotFound, AlreadyExists, BadCredential.
    """
    row = await find(db, app_no, name)
    if row.provider != "webpush":
        raise BadCredential(f"{name} is no Web Push credential: rotate it in place")
    new = new_webpush(
        new_name,
        checked,
        settings={key: value for key, value in row.settings.items() if key != "public_key"},
        endpoint=row.endpoint,
        ceiling=row.ceiling,
    )
    return await _add(db, seal, app_no, new, before=row.lane)


async def withdraw(db: Database, app_no: int, name: str) -> int:
    """Forget a secret for good; how many registrations became inactive with it.

    The lane stays, blocked, because deliveries name it. A browser whose subscription was made under a
    withdrawn Web Push key must subscribe again, and its registration says so.
    """
    row = await find(db, app_no, name)
    reason = Reason.MUST_RESUBSCRIBE if row.provider == "webpush" else Reason.RETIRED
    return int(await db.fetchval(SQL.withdraw, app_no, row.lane, int(reason), timeout=600.0))


async def unblock(
    db: Database, app_no: int, lane: int, *, who: str = names.OPERATOR, way: str = "direct"
) -> bool:
    """Open a blocked lane; False when it was open. It starts at a low rate: its first permit is the probe.

    `who` opens it and which `way` (direct, update), for the audit.
    """
    return await db.fetchval(SQL.unblock, app_no, lane, who, way) is not None


async def reseal(db: Database, seal: Seal) -> int:
    """Seal every credential under the newest key; how many were under an older one."""
    changed = 0
    for row in await db.fetch(SQL.sealed):
        if seal.is_newest(row["secret"]):
            continue
        context = _context(row["app_no"], row["lane"])
        fresh = seal.seal(seal.open(row["secret"], context), context)
        # Not over a rotation that happened meanwhile.
        await db.execute(SQL.reseal, row["app_no"], row["lane"], row["secret"], fresh)
        changed += 1
    return changed


def _check_fits(row: CredentialRow, checked: check.Checked) -> None:
    """A secret of another topic or project would turn every token of the lane into a wrong one."""
    if row.provider == "apns":
        check.apns_place(checked, row.topic, row.environment)
    elif row.provider == "fcm" and checked.secret["project_id"] != row.topic:
        raise BadCredential(
            f"the service account is of another project than {row.topic}: its tokens would all be refused. "
            "Add it as a credential of its own"
        )
    elif row.provider in VENDORS and checked.topics != (row.topic,):
        raise BadCredential(
            f"the secret is of another app than {row.topic}: its registrations would all be refused. "
            "Add it as a credential of its own"
        )
    elif row.provider == "webpush" and checked.secret["public_key"] != row.settings.get("public_key"):
        raise BadCredential(
            "subscriptions belong to the key they were made under: rotate to a new key as a lane of its own"
        )


def _context(app_no: int, lane: int) -> str:
    return f"credential {app_no}.{lane}"


def _sealed(seal: Seal, app_no: int, lane: int, secret: Mapping[str, Any]) -> bytes:
    return seal.seal(json.dumps(secret).encode(), _context(app_no, lane))


def _opened(seal: Seal, row: asyncpg.Record) -> Credential:
    values = dict(row)
    secret = seal.open(values.pop("secret"), _context(row["app_no"], row["lane"]))
    return Credential(**values, secret=json.loads(secret))


def webpush_order(rows: Sequence[CredentialRow], lane_order: Sequence[int]) -> list[CredentialRow]:
    """Web Push credentials in use, the one for new subscriptions first."""
    usable = [row for row in rows if row.provider == "webpush" and not row.withdrawn]
    return sorted(usable, key=lambda row: lane_order.index(row.lane))
