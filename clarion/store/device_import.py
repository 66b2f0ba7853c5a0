"""Bulk import of devices from a file of any size, in bounded pieces and constant memory.

A piece is written in one transaction, and what is not plain in it in another, while the next one is read; two
pieces at once if they name different users, installations and tokens. The file may be given again after a
crash. Of several lines that mean the same address (the same token, or
the same installation, credential and kind) the last one counts, wherever they stand; each of the others is
a duplicate. Every line is counted once: inserted + updated + duplicate + rejected = lines.

A line that says when its device was last active registered it then, not now: it neither outdates what a
provider says later about an address that had died before, nor brings back one that was retired since.
"""

from __future__ import annotations

import asyncio
import csv
import gc
import io
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import orjson

from clarion.errors import BadInput, BadRegistration
from clarion.store.apps import App
from clarion.store.database import Database
from clarion.store.devices import REFUSED, Registered, take_in, without_duplicates, write
from clarion.store.intake import FIELDS, Intake, Row
from clarion.store.locales import Locales

PIECE: Final = 5_000  # lines a statement
SHOWN: Final = 100  # rejected lines that a report keeps; all of them go to `on_rejected`
COLLECT_AFTER: Final = 100_000  # new objects; a piece is rows without cycles, looking for some is a quarter
LINE_BYTES: Final = 256 * 1024
Format = Literal["jsonl", "csv"]
Lines = Iterator[tuple[int, dict[str, Any] | str]]
"""Line number, and the fields or why they cannot be read."""
Store = Callable[[Database, Locales, int, datetime, Sequence[Row]], Awaitable[tuple[Registered, list[Row]]]]
"""What writes rows; those that it has left come back."""


@dataclass(slots=True)
class ImportReport:
    """What became of a file's lines."""

    lines: int = 0
    inserted: int = 0
    updated: int = 0
    duplicate: int = 0
    rejected: int = 0
    bad_zones: int = 0  # stored without a zone
    bad_locales: int = 0  # stored without a locale
    seconds: float = 0.0
    share: float | None = None  # of the file's bytes that are stored; None: its size is not known
    reasons: dict[str, int] = field(default_factory=dict)  # of rejected lines
    shown: list[tuple[int, str]] = field(default_factory=list)  # the first of them: line number, reason
    ignored: set[str] = field(default_factory=set)  # names of fields that mean nothing here

    def reject(self, line: int, reason: str) -> None:
        """Count a rejected line."""
        self.rejected += 1
        if reason in self.reasons or len(self.reasons) < SHOWN:
            self.reasons[reason] = self.reasons.get(reason, 0) + 1
        if len(self.shown) < SHOWN:
            self.shown.append((line, reason))

    def add(self, done: Registered) -> None:
        """Count what was written."""
        self.inserted += done.inserted
        self.updated += done.updated
        self.duplicate += done.duplicate


async def import_devices(
    db: Database,
    app: App,
    source: Path | BinaryIO,
    *,
    format: Format | None = None,
    on_rejected: Callable[[int, str], None] = lambda line, reason: None,
    on_progress: Callable[[ImportReport], None] = lambda report: None,
    patience: float = 600.0,
) -> ImportReport:
    """Register every device of a file. The format is told by the name (.csv) or the first character.

    `patience`: seconds to wait for PostgreSQL when it goes away meanwhile. Raises BadInput when the file
    cannot be read at all, StoreUnavailable.
    """
    intake = await Intake.load(db, app)
    importing = _Import(db, await Locales.load(db), intake, on_rejected, patience)
    started = time.monotonic()
    with _rarely_collected(), source.open("rb") if isinstance(source, Path) else nullcontext(source) as file:
        size = os.fstat(file.fileno()).st_size if isinstance(source, Path) else 0
        lines = _lines(file, format or _format(source, file), importing.report)
        reading = asyncio.create_task(asyncio.to_thread(importing.read, lines))
        writing = _Writing(importing)
        try:
            while piece := await reading:
                read = file.tell() if size else 0  # nobody reads just now
                reading = asyncio.create_task(asyncio.to_thread(importing.read, lines))
                await writing.begin(piece)
                importing.report.seconds = time.monotonic() - started
                importing.report.share = min(read / size, 1.0) if size else None
                on_progress(importing.report)
            await writing.end()
        finally:
            await writing.abandon()
            await asyncio.wait([reading])  # a thread cannot be stopped, and the file is still its own
    return importing.done(time.monotonic() - started)


@contextmanager
def _rarely_collected() -> Iterator[None]:
    usual = gc.get_threshold()
    gc.set_threshold(COLLECT_AFTER, *usual[1:])
    try:
        yield
    finally:
        gc.set_threshold(*usual)


async def _write(
    db: Database, locales: Locales, app_no: int, stamp: datetime, rows: Sequence[Row]
) -> tuple[Registered, list[Row]]:
    return await write(db, locales, app_no, stamp, rows), []


@dataclass(slots=True)
class _Piece:
    lines: int
    rows: list[tuple[int, Row]]
    rejected: list[tuple[int, str]]
    places: set[object] | None  # installations, tokens and users; None: a line says no installation

    def minds(self, other: _Piece) -> bool:
        """Whether the order of the two may matter: then they are not written at the same time."""
        return self.places is None or other.places is None or not self.places.isdisjoint(other.places)


class _Import:
    """One import: reads pieces in a thread, writes them on the loop."""

    def __init__(
        self,
        db: Database,
        locales: Locales,
        intake: Intake,
        on_rejected: Callable[[int, str], None],
        patience: float,
    ) -> None:
        self.report = ImportReport()
        self._db, self._locales, self._intake = db, locales, intake
        self._stamp: datetime = intake.now
        self._on_rejected = on_rejected
        self._patience = patience

    def read(self, lines: Lines) -> _Piece | None:
        """The next piece, None at the end."""
        piece = _Piece(0, [], [], None)
        check = self._intake.check
        for number, fields in islice(lines, PIECE):
            piece.lines += 1
            if isinstance(fields, str):
                piece.rejected.append((number, fields))
                continue
            try:
                piece.rows.append((number, check(fields)))
            except BadRegistration as error:
                piece.rejected.append((number, str(error)))
        if all(row.installation for _, row in piece.rows):
            piece.places = {row.installation for _, row in piece.rows}
            piece.places.update(row.digest for _, row in piece.rows)
            piece.places.update((row.user_id for _, row in piece.rows))
        return piece if piece.lines else None

    async def write(self, piece: _Piece) -> None:
        """Store a piece and count its lines."""
        self.report.lines += piece.lines
        for number, reason in piece.rejected:
            self._reject(number, reason)
        await self._store(piece.rows)

    def done(self, seconds: float) -> ImportReport:
        """The report, complete."""
        self.report.seconds = seconds
        self.report.bad_zones = self._intake.bad_zones
        self.report.bad_locales = self._intake.bad_locales
        return self.report

    async def _store(self, numbered: Sequence[tuple[int, Row]], store: Store | None = None) -> None:
        """Write rows; what the database refuses is narrowed down to the one line that it is about."""
        store = store or take_in
        rows, dropped = without_duplicates([row for _, row in numbered])
        try:
            done, rest = await self._db.persist(
                lambda: store(self._db, self._locales, self._intake.app_no, self._stamp, rows),
                patience=self._patience,
            )
        except REFUSED as error:
            if len(numbered) == 1:
                self._reject(numbered[0][0], f"the database refuses it: {type(error).__name__}")
                return
            middle = len(numbered) // 2
            await self._store(numbered[:middle], store)
            await self._store(numbered[middle:], store)
        else:
            self.report.add(done)
            self.report.duplicate += dropped
            if rest:
                lines = {(row.lane, row.digest): number for number, row in numbered}
                await self._store([(lines[row.lane, row.digest], row) for row in rest], _write)

    def _reject(self, number: int, reason: str) -> None:
        self.report.reject(number, reason)
        self._on_rejected(number, reason)


class _Writing:
    """Pieces on their way into the database: two at once, if they have nothing in common."""

    def __init__(self, importing: _Import) -> None:
        self._importing = importing
        self._now: tuple[_Piece, asyncio.Task[None]] | None = None

    async def begin(self, piece: _Piece) -> None:
        """Begin to write it; whatever was begun before is written when this returns."""
        before = self._now
        if before is not None and piece.minds(before[0]):
            await before[1]
            before = None
        self._now = piece, asyncio.create_task(self._importing.write(piece))
        if before is not None:
            try:
                await before[1]
            except BaseException:
                await _stop(before[1])
                raise

    async def end(self) -> None:
        """The last piece is written when this returns."""
        if self._now is not None:
            await self._now[1]

    async def abandon(self) -> None:
        """Stop what still runs: something went wrong."""
        if self._now is not None:
            await _stop(self._now[1])


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])


def _format(source: Path | BinaryIO, file: BinaryIO) -> Format:
    if isinstance(source, Path) and source.suffix.lower() == ".csv":
        return "csv"
    if isinstance(source, Path) and source.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        return "jsonl"
    head = file.peek(512)[:512] if isinstance(file, io.BufferedReader) else b"{"
    return "jsonl" if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] in (b"{", b"[", b"") else "csv"


def _lines(file: BinaryIO, format: Format, report: ImportReport) -> Lines:
    return _csv_lines(file, report) if format == "csv" else _json_lines(file, report)


def _json_lines(file: BinaryIO, report: ImportReport) -> Lines:
    number = 0
    while line := file.readline(LINE_BYTES):
        number += 1
        if len(line) == LINE_BYTES and not line.endswith(b"\n"):
            while (rest := file.readline(LINE_BYTES)) and not rest.endswith(b"\n"):
                pass
            yield number, f"the line is longer than {LINE_BYTES} bytes"
            continue
        if number == 1:
            line = line.removeprefix(b"\xef\xbb\xbf")
        try:
            fields = orjson.loads(line)
        except ValueError:
            if line.strip():
                yield number, "the line is not JSON"
            continue
        if not isinstance(fields, dict):
            yield number, "the line is not a JSON object: one device a line, and no list around them"
            continue
        if not fields.keys() <= FIELDS:
            _note_ignored(report, fields.keys() - FIELDS)
        yield number, fields


def _csv_lines(file: BinaryIO, report: ImportReport) -> Lines:
    """A header with the names of fields, then a device a record; empty cells are absent fields.

    `attributes.city` is the attribute city. The number of a record is that of its last line.
    """
    text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
    try:
        head = text.readline()
        delimiter = max(",;\t", key=head.count)
        names = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
        if "user_id" not in names:
            raise BadInput("the first line of a CSV file must name its columns, user_id among them")
        _note_ignored(report, {n for n in names if not n.startswith("attributes.")} - FIELDS - {""})
        records = csv.reader(text, delimiter=delimiter)
        while True:
            try:
                record = next(records)
            except StopIteration:
                return
            except csv.Error as error:
                yield records.line_num + 1, f"the line is no CSV: {error}"
                continue
            if record:
                yield records.line_num + 1, _csv_fields(names, record)
    finally:
        text.detach()


def _csv_fields(names: Sequence[str], record: Sequence[str]) -> dict[str, Any] | str:
    if len(record) != len(names):
        return f"the line has {len(record)} columns, the header has {len(names)}"
    if not all(map(str.isascii, record)) and not _is_utf8(record):
        return "the line is not UTF-8"
    fields: dict[str, Any] = {name: cell for name, cell in zip(names, record, strict=True) if cell}
    for name in [name for name in fields if name.startswith("attributes.")]:
        fields.setdefault("attributes", {})
        if isinstance(fields["attributes"], dict):
            fields["attributes"][name.removeprefix("attributes.")] = fields[name]
    return fields


def _is_utf8(record: Sequence[str]) -> bool:
    try:
        "".join(record).encode()
    except UnicodeEncodeError:  # a byte that was none of a character stands there as a lone surrogate
        return False
    return True


def _note_ignored(report: ImportReport, names: set[str]) -> None:
    if len(report.ignored) < SHOWN:
        report.ignored |= {name[:64] for name in names}
