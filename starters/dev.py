"""`clarion dev`: the whole stack on this machine, from nothing but pip."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

ROOT = Path(__file__).resolve().parent.parent


def dev(
    data: Annotated[Path | None, typer.Option(metavar="DIR", help="Where everything is kept.")] = None,
    senders: Annotated[int, typer.Option(min=1, max=64, help="Sender processes.")] = 3,
    postgres_port: Annotated[int | None, typer.Option(help="PostgreSQL's port, else a free one.")] = None,
    temporal_port: Annotated[int | None, typer.Option(help="Temporal's, else 7233 if it is free.")] = None,
    ui_port: Annotated[int | None, typer.Option(help="The UI's, else 8233 if it is free.")] = None,
) -> None:
    """Run PostgreSQL, Temporal with its UI, the sandbox and all workers, until Ctrl-C.

    With CLARION_DATABASE_URL, that PostgreSQL (18 or later) is used instead of an embedded one.
    """
    options: dict[str, object] = {
        "--data": data,
        "--senders": senders,
        "--postgres-port": postgres_port,
        "--temporal-port": temporal_port,
        "--ui-port": ui_port,
    }
    given = [part for name, value in options.items() if value is not None for part in (name, str(value))]
    # In place of this process, so that nobody stands between the terminal's signals and the supervisor.
    # -P: a `workers` package in the current directory is not ours.
    sys.stdout.flush()
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *_inherited_path()])}
    os.execve(sys.executable, [sys.executable, "-P", "-m", "workers.embedded", *given], environment)


def _inherited_path() -> list[str]:
    inherited = os.environ.get("PYTHONPATH", "")
    return [inherited] if inherited else []
