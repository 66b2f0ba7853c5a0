"""`clarion devices`: register, import and look up where pushes go."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.progress import Progress, TextColumn, TimeElapsedColumn

from clarion.errors import BadInput
from clarion.store import apps, devices
from clarion.store.device_import import ImportReport, import_devices
from clarion.store.devices import Registered, Registration
from clarion.store.intake import Intake
from clarion.store.locales import Locales
from starters.context import Context, Data, run
from starters.showing import Json, show_json, show_rows

app = typer.Typer(help="Devices: where pushes go.")
AppName = Annotated[str, typer.Argument(metavar="APP", help="The app.")]


@app.command("import")
def import_(
    app_name: AppName,
    file: Annotated[Path, typer.Argument(help="JSON Lines or CSV, or - for standard input.")],
    format: Annotated[str | None, typer.Option(help="jsonl or csv, else told by name or content.")] = None,
    rejected: Annotated[Path | None, typer.Option(help="Write every rejected line's number here.")] = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """Register every device of a file. May be repeated: what is known is updated.

    Of several lines that mean the same address the last one counts. Exits with 1 when lines were rejected.
    """
    if format not in (None, "jsonl", "csv"):
        raise BadInput("--format must be jsonl or csv")
    if str(file) != "-" and not file.is_file():
        raise BadInput(f"there is no file {file}")

    async def work(context: Context) -> ImportReport:
        db = await context.db()
        with _written(rejected) as on_rejected, _progress(json) as on_progress:
            return await import_devices(
                db,
                await apps.get(db, app_name),
                sys.stdin.buffer if str(file) == "-" else file,
                format=format,  # type: ignore[arg-type]  # checked above
                on_rejected=on_rejected,
                on_progress=on_progress,
            )

    report = run(work, data)
    show_json(dataclasses.asdict(report)) if json else _show_report(report)
    if not report.lines:
        raise BadInput(f"{file} has no lines: nothing was imported")
    if report.rejected:
        raise typer.Exit(1)


@app.command()
def register(
    app_name: AppName,
    device: Annotated[str, typer.Argument(help="The device as JSON, or - to read it from standard input.")],
    badge: Annotated[
        int | None, typer.Option(min=0, help="What its icon shows now; 0 when the app was opened.")
    ] = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """Register one device, with the fields of an import's line."""

    async def work(context: Context) -> Registered:
        db = await context.db()
        intake = await Intake.load(db, await apps.get(db, app_name))
        done = await devices.register(db, await Locales.load(db), intake, [_object(device)])
        if badge is not None:
            await devices.set_badge(db, done.numbers, badge)
        return done

    done = run(work, data)
    if json:
        show_json(done)
    else:
        typer.echo(f"registration {done.numbers[0]} {'made' if done.inserted else 'updated'}")


@app.command("list")
def list_(
    app_name: AppName,
    user: Annotated[str | None, typer.Option(help="Only this user's.")] = None,
    platform: Annotated[str | None, typer.Option(help="Only ios, android or web.")] = None,
    active: Annotated[bool, typer.Option("--active", help="Only those that are sent to.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=10_000)] = 100,
    after: Annotated[int, typer.Option(help="Go on after this registration.")] = 0,
    json: Json = False,
    data: Data = None,
) -> None:
    """List addresses. Tokens are not shown: their fingerprints tell them apart."""

    async def work(context: Context) -> list[Registration]:
        db = await context.db()
        found = await apps.get(db, app_name)
        return await devices.list_registrations(
            db,
            await Locales.load(db),
            found.app_no,
            user_id=user,
            platform=platform,
            active=active,
            after=after,
            limit=limit,
        )

    columns = (
        ("registration", lambda row: row.registration_no),
        ("user", lambda row: row.user_id),
        ("platform", lambda row: row.platform),
        ("credential", lambda row: row.lane),
        ("kind", lambda row: row.kind),
        ("status", lambda row: row.status),
        ("token", lambda row: row.fingerprint),
        ("app", lambda row: row.app_version),
        ("maker", lambda row: row.manufacturer),
        ("model", lambda row: row.model),
        ("locale", lambda row: row.locale),
        ("zone", lambda row: row.zone),
        ("registered", lambda row: row.registered_at),
        ("last active", lambda row: row.last_active),
    )
    show_rows(run(work, data), columns, json=json, none="no devices: clarion devices import --help")


def _object(text: str) -> dict[str, Any]:
    try:
        value = orjson.loads(sys.stdin.buffer.read() if text == "-" else text)
    except ValueError:
        raise BadInput("the device is not JSON") from None
    if not isinstance(value, dict):
        raise BadInput("the device must be a JSON object")
    return value


@contextmanager
def _written(path: Path | None) -> Iterator[Callable[[int, str], None]]:
    if path is None:
        yield lambda line, reason: None
        return
    with path.open("wb") as file:
        yield lambda line, reason: _write_line(file.write, line, reason)


def _write_line(write: Callable[[bytes], object], line: int, reason: str) -> None:
    write(orjson.dumps({"line": line, "reason": reason}) + b"\n")


@contextmanager
def _progress(quiet: bool) -> Iterator[Callable[[ImportReport], None]]:
    console = Console(stderr=True)
    if quiet or not console.is_terminal:
        yield lambda report: None
        return
    columns = (TextColumn("{task.fields[words]}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("import", total=None, words="reading")
        yield lambda report: progress.update(task, words=_pace(report))


def _pace(report: ImportReport) -> str:
    """How far it is, how fast it goes, and how long it will take at that."""
    words = f"{report.lines:,} lines, {report.lines / max(report.seconds, 0.001):,.0f}/s"
    if not report.share:
        return words
    left = timedelta(seconds=round(report.seconds * (1 / report.share - 1)))
    return f"{words}, {report.share:.0%}, {left} left"


def _show_report(report: ImportReport) -> None:
    rate = report.lines / max(report.seconds, 0.001)
    typer.echo(f"{report.lines:,} lines in {report.seconds:.1f} s ({rate:,.0f}/s)")
    for name in ("inserted", "updated", "duplicate", "rejected"):
        typer.echo(f"  {name:<10} {getattr(report, name):>12,}")
    if report.bad_zones or report.bad_locales:
        typer.echo(f"stored without: a time zone {report.bad_zones:,}, a locale {report.bad_locales:,}")
    if report.ignored:
        typer.echo(f"ignored fields: {', '.join(sorted(report.ignored))}")
    for line, reason in report.shown[:20]:
        typer.echo(f"  line {line}: {reason}", err=True)
    if report.rejected > 20:
        typer.echo("  … --rejected FILE writes them all", err=True)
