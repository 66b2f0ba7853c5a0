"""`clarion credentials`: what an app is at its providers.

Secrets come from files or standard input, passwords from a prompt or a variable: nothing secret stands on a
command line, where every process of the machine can read it.
"""

from __future__ import annotations

import dataclasses
import getpass
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from clarion.errors import BadInput
from clarion.store import apps, credential_check, credentials, vendor_check
from clarion.store.credential_check import Checked
from clarion.store.credentials import CredentialRow, NewCredential
from clarion.store.reasons import Reasons
from starters.context import Context, Data, run
from starters.showing import Json, show_json, show_rows

app = typer.Typer(help="Credentials: keys, certificates and accounts at providers.")
add = typer.Typer(help="Add a credential: it becomes the app's next lane.", no_args_is_help=True)
rotate = typer.Typer(help="Replace a secret.", no_args_is_help=True)
app.add_typer(add, name="add")
app.add_typer(rotate, name="rotate")

AppName = Annotated[str, typer.Argument(metavar="APP", help="The app.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The credential's name in the app.")]
NewName = Annotated[str | None, typer.Option("--name", help="Its name in the app, else a fitting one.")]
Endpoint = Annotated[str | None, typer.Option(help="Base URL in place of the provider's own.")]
Ceiling = Annotated[float | None, typer.Option(min=0.001, help="Sends per second at most.")]
Ca = Annotated[Path | None, typer.Option(help="Certificates (PEM) to trust in addition.")]
Key = Annotated[Path | None, typer.Option("--key", help="The .p8 file, or - for standard input.")]
KeyId = Annotated[str | None, typer.Option(help="The key's id at Apple (10 characters).")]
TeamId = Annotated[str | None, typer.Option(help="The team's id at Apple (10 characters).")]
Certificate = Annotated[Path | None, typer.Option(help="A .p12 or PEM file.")]
CertificateKey = Annotated[Path | None, typer.Option(help="The PEM file's key, if it is in another file.")]
Password = Annotated[
    str | None,
    typer.Option(envvar="CLARION_P12_PASSWORD", help="Of the .p12 or key file; better in the variable."),
]
Account = Annotated[Path, typer.Argument(help="The service account's JSON file, or - for standard input.")]
Subject = Annotated[str, typer.Option(help="Whom push services may write to: mailto:… or https://…")]
VendorFile = Annotated[Path, typer.Argument(metavar="FILE", help="A JSON file, or - for standard input.")]
VapidKey = Annotated[Path | None, typer.Option("--key", help="A file with the VAPID private key.")]


@add.command("apns")
def add_apns(
    app_name: AppName,
    topic: Annotated[str | None, typer.Option(help="The bundle id; a certificate says its own.")] = None,
    environment: Annotated[str | None, typer.Option(help="sandbox or production.")] = None,
    key: Key = None,
    key_id: KeyId = None,
    team_id: TeamId = None,
    certificate: Certificate = None,
    certificate_key: CertificateKey = None,
    password: Password = None,
    name: NewName = None,
    endpoint: Endpoint = None,
    ceiling: Ceiling = None,
    ca: Ca = None,
    data: Data = None,
) -> None:
    """A .p8 key with its key id and team id, or a certificate (.p12 or PEM)."""
    checked = _apns(key, key_id, team_id, certificate, certificate_key, password)
    topic, environment = credential_check.apns_place(checked, topic, environment)
    new = credentials.new_apns(
        name or f"apns-{environment}",
        checked,
        topic=topic,
        environment=environment,
        **_common(endpoint, ceiling, ca),
    )
    _add(app_name, new, data)


@add.command("fcm")
def add_fcm(
    app_name: AppName,
    account: Account,
    name: NewName = None,
    endpoint: Endpoint = None,
    ceiling: Ceiling = None,
    ca: Ca = None,
    data: Data = None,
) -> None:
    """A service account of Firebase, as its console gives it."""
    checked = credential_check.fcm(_read(account))
    _add(app_name, credentials.new_fcm(name or "fcm", checked, **_common(endpoint, ceiling, ca)), data)


@add.command("webpush")
def add_webpush(
    app_name: AppName,
    subject: Subject,
    key: VapidKey = None,
    allow: Annotated[list[str], typer.Option(help="A private network that endpoints may be in.")] = [],  # noqa: B006  # typer's way
    name: NewName = None,
    ceiling: Ceiling = None,
    ca: Ca = None,
    data: Data = None,
) -> None:
    """A VAPID key; one is made when none is given. Prints the public key that pages subscribe with."""
    checked = credential_check.webpush(subject=subject, private_key=_read_text(key))
    common = _common(None, ceiling, ca)
    settings = common.pop("settings") | ({"allow": list(allow)} if allow else {})
    _add(app_name, credentials.new_webpush(name or "webpush", checked, settings=settings, **common), data)
    typer.echo(f"public key: {checked.secret['public_key']}")


def _vendor_commands(provider: str, about: str) -> None:
    """`add` and `rotate` of a vendor, whose secret is one JSON file."""

    @add.command(provider, help=about)
    def add_vendor(
        app_name: AppName,
        file: VendorFile,
        name: NewName = None,
        endpoint: Endpoint = None,
        ceiling: Ceiling = None,
        ca: Ca = None,
        data: Data = None,
    ) -> None:
        checked = vendor_check.from_file(provider, _read(file))
        common = _common(endpoint, ceiling, ca)
        _add(app_name, credentials.new_vendor(provider, name or provider, checked, **common), data)

    @rotate.command(provider, help="Another secret of the same app there.")
    def rotate_vendor(app_name: AppName, name: Name, file: VendorFile, data: Data = None) -> None:
        _rotate(app_name, name, vendor_check.from_file(provider, _read(file)), data)


for _provider, _about in vendor_check.ABOUT.items():
    _vendor_commands(_provider, _about)


@app.command("list")
def list_(
    app_name: Annotated[str | None, typer.Argument(metavar="[APP]", help="One app, else all.")] = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """List credentials and how they are doing. Secrets are never shown."""

    async def work(context: Context) -> tuple[list[CredentialRow], Reasons]:
        db = await context.db()
        app_no = (await apps.get(db, app_name)).app_no if app_name else None
        return await credentials.list_credentials(db, app_no), await Reasons.load(db)

    rows, reasons = run(work, data)
    if json:
        show_json([{**dataclasses.asdict(row), "reason": reasons.name(row.reason) or None} for row in rows])
        return
    columns = (
        ("app", lambda row: row.app),
        ("lane", lambda row: row.lane),
        ("name", lambda row: row.name),
        ("provider", lambda row: row.provider),
        ("environment", lambda row: row.environment),
        ("topic", lambda row: row.topic),
        ("ceiling/s", lambda row: row.ceiling),
        ("version", lambda row: row.version),
        ("state", lambda row: _state(row, reasons)),
    )
    show_rows(rows, columns, json=False, none="no credentials yet: clarion credentials add --help")


@rotate.command("apns")
def rotate_apns(
    app_name: AppName,
    name: Name,
    key: Key = None,
    key_id: KeyId = None,
    team_id: TeamId = None,
    certificate: Certificate = None,
    certificate_key: CertificateKey = None,
    password: Password = None,
    data: Data = None,
) -> None:
    """Another key or certificate for the same topic and environment."""
    _rotate(app_name, name, _apns(key, key_id, team_id, certificate, certificate_key, password), data)


@rotate.command("fcm")
def rotate_fcm(app_name: AppName, name: Name, account: Account, data: Data = None) -> None:
    """Another key of the same project."""
    _rotate(app_name, name, credential_check.fcm(_read(account)), data)


@rotate.command("webpush")
def rotate_webpush(
    app_name: AppName,
    name: Name,
    subject: Subject,
    new_name: Annotated[str, typer.Option(help="The name of the lane with the new key.")],
    key: VapidKey = None,
    data: Data = None,
) -> None:
    """A new key as a lane of its own: subscriptions belong to the key they were made under."""
    checked = credential_check.webpush(subject=subject, private_key=_read_text(key))

    async def work(context: Context) -> int:
        db = await context.db()
        found = await apps.get(db, app_name)
        return await credentials.rotate_webpush_key(db, context.seal, found.app_no, name, checked, new_name)

    lane = run(work, data)
    typer.echo(
        f"{new_name} is lane {lane}; {name} goes on for its own subscriptions until you withdraw it\n"
        f"public key: {checked.secret['public_key']}"
    )


@app.command()
def unblock(app_name: AppName, name: Name, data: Data = None) -> None:
    """Open a blocked credential: it starts at a low rate, and its first send is the probe."""

    async def work(context: Context) -> bool:
        db = await context.db()
        row = await credentials.find(db, (await apps.get(db, app_name)).app_no, name)
        if row.withdrawn:
            raise BadInput(f"{name} was withdrawn: there is no secret to send with")
        return await credentials.unblock(db, row.app_no, row.lane, who=getpass.getuser())

    typer.echo(f"{name} is open" if run(work, data) else f"{name} was not blocked")


@app.command()
def withdraw(
    app_name: AppName,
    name: Name,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
) -> None:
    """Forget a secret for good: its lane is blocked and its registrations become inactive."""
    if not yes:
        typer.confirm(f"Forget the secret of {name} and stop sending to its registrations?", abort=True)

    async def work(context: Context) -> int:
        db = await context.db()
        return await credentials.withdraw(db, (await apps.get(db, app_name)).app_no, name)

    typer.echo(f"{name} withdrawn; {run(work, data)} registrations are inactive now")


@app.command()
def reseal(data: Data = None) -> None:
    """Seal every secret under the newest key of CLARION_KEY or the key file."""

    async def work(context: Context) -> int:
        return await credentials.reseal(await context.db(), context.seal)

    typer.echo(f"{run(work, data)} sealed again")


def _add(app_name: str, new: NewCredential, data: Path | None) -> None:
    async def work(context: Context) -> int:
        db = await context.db()
        return await credentials.add(db, context.seal, (await apps.get(db, app_name)).app_no, new)

    typer.echo(f"{new.name} is lane {run(work, data)} of {app_name}")


def _rotate(app_name: str, name: str, checked: Checked, data: Path | None) -> None:
    async def work(context: Context) -> int:
        db = await context.db()
        found = await apps.get(db, app_name)
        return await credentials.rotate(db, context.seal, found.app_no, name, checked)

    typer.echo(f"{name} is at version {run(work, data)}")


def _apns(
    key: Path | None,
    key_id: str | None,
    team_id: str | None,
    certificate: Path | None,
    certificate_key: Path | None,
    password: str | None,
) -> Checked:
    if (key is None) == (certificate is None):
        raise BadInput("give either --key with --key-id and --team-id, or --certificate")
    if certificate is not None:
        beside = _read(certificate_key) if certificate_key else None
        return credential_check.apns_certificate(_read(certificate), password=password, private_key=beside)
    assert key is not None
    return credential_check.apns_token(_read(key), key_id=key_id or "", team_id=team_id or "")


def _common(endpoint: str | None, ceiling: float | None, ca: Path | None) -> dict[str, Any]:
    return {
        "endpoint": endpoint,
        "ceiling": float("inf") if ceiling is None else ceiling,
        "settings": {"ca": _read_text(ca)} if ca else {},
    }


def _read(path: Path) -> bytes:
    if str(path) == "-":
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None


def _read_text(path: Path | None) -> str | None:
    return None if path is None else _read(path).decode("utf-8", "replace")


def _state(row: CredentialRow, reasons: Reasons) -> str:
    if row.withdrawn:
        return "withdrawn"
    return f"blocked: {reasons.name(row.reason)}" if row.blocked else "open"
