"""The command line: `clarion NOUN VERB`. A module of this package per noun, imported when it is asked for.

Exit codes: 0 done, 1 refused or failed (one line says why), 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Final, NoReturn

import typer

import clarion
from clarion.errors import ClarionError

# In the order of `clarion --help`: first the stack, then what is in it. A module has an `app`, or is one
# command: the function of its name.
NOUNS: Final[tuple[str, ...]] = (
    "dev",
    "migrate",
    "apps",
    "credentials",
    "providers",
    "devices",
    "users",
    "campaign",
    "push",
    "fcm",
    "workers",
)


def build(arguments: Sequence[str]) -> typer.Typer:
    """The commands that these words can mean: importing all of them for each would be felt."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    noun = next((word for word in arguments if not word.startswith("-")), "")
    for name in [noun] if noun in NOUNS else NOUNS:
        _register(app, name)
    return app


def _register(app: typer.Typer, name: str) -> None:
    if importlib.util.find_spec(f"starters.{name}") is None:
        return
    module = importlib.import_module(f"starters.{name}")
    if hasattr(module, "app"):
        app.add_typer(module.app, name=name, no_args_is_help=True)
    else:
        app.command(name)(getattr(module, name))


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"clarion {clarion.__version__}")
        raise typer.Exit


def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Say which.")
    ] = False,
) -> None:
    """Clarion: a self-hosted push notification engine on Temporal and PostgreSQL."""


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line; the exit code."""
    try:
        build(arguments)(list(arguments), prog_name="clarion")
    except SystemExit as end:  # typer's last word, also after help and wrong usage
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        return 130
    except ClarionError as error:
        print(f"clarion: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        _report(error)
        return 1
    return 0


def _report(error: Exception) -> None:
    """A defect: type and place, but not the text, in which drivers quote rows, URLs and tokens."""
    if os.environ.get("CLARION_DEBUG"):
        traceback.print_exception(error)
        return
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{os.path.basename(frame.filename)}:{frame.lineno}"
    advice = "CLARION_DEBUG=1 shows everything, also secrets"
    print(f"clarion: unexpected {type(error).__name__} at {place}; {advice}", file=sys.stderr)


def main() -> NoReturn:
    """Run the process's command line and end the process.

    At once, after a flush: an interpreter that still winds down Temporal's threads sometimes aborts.
    """
    code = invoke(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:  # `clarion … | head` has seen enough
        code = code or 1
    os._exit(code)
