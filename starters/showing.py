"""How commands show what they found: a table for people, JSON for programs."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]
Column = tuple[str, Callable[[Any], object]]


def show_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(orjson.dumps(value, default=_plain, option=orjson.OPT_INDENT_2).decode() + "\n")


def show_rows(rows: Sequence[DataclassInstance], columns: Sequence[Column], *, json: bool, none: str) -> None:
    """Rows as a table with these columns, or whole as JSON; `none` is said when there are no rows."""
    if json:
        show_json([dataclasses.asdict(row) for row in rows])
        return
    console = Console()
    if not rows:
        console.print(none)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for title, _ in columns:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(cell(value(row)) for _, value in columns))
    console.print(table)


def cell(value: object) -> str:
    """A value as people read it in a table."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case float():
            return "unlimited" if math.isinf(value) else f"{value:g}"
        case datetime():
            return f"{value.astimezone():%Y-%m-%d %H:%M:%S}"
        case tuple() | list() | set() | frozenset():
            return ", ".join(map(cell, value))
    return str(value)


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return sorted(value)
    raise TypeError
