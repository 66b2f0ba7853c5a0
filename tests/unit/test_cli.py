"""The root of the command line: how it is found, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import clarion
from clarion import __main__ as script
from clarion.errors import NotFound
from starters import cli
from starters.context import run

ROOT = Path(clarion.__file__).parent.parent


def clarion_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The console script as a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "clarion", *arguments],
        cwd="/",
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_version() -> None:
    """The script finds the application from anywhere and runs its command line."""
    ended = clarion_process("--version")

    assert (ended.returncode, ended.stdout) == (0, f"clarion {clarion.__version__}\n")


def test_no_stack_is_one_line(tmp_path: Path) -> None:
    """An error of ours is one line on stderr and exit code 1."""
    ended = clarion_process("migrate", "--data", str(tmp_path))

    assert ended.returncode == 1
    assert ended.stderr.startswith("clarion: there is no stack in ")
    assert ended.stderr.count("\n") == 1
    assert ended.stdout == ""


@pytest.mark.parametrize("arguments", [("bogus",), ("migrate", "--bogus"), ()])
def test_wrong_usage(arguments: tuple[str, ...]) -> None:
    """Wrong usage is 2, as everywhere."""
    assert cli.invoke(arguments) == 2


def test_without_an_application(tmp_path: Path) -> None:
    """Where only the library is, the script says what it is and exits 2."""
    ended = clarion_process("--version", CLARION_HOME=str(tmp_path))

    assert ended.returncode == 2
    assert "this is the client library" in ended.stderr


def test_root_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CLARION_HOME is the application's root if there is one."""
    monkeypatch.setenv("CLARION_HOME", str(tmp_path))
    assert script.find_root() is None
    (tmp_path / "starters").mkdir()
    (tmp_path / "starters" / "cli.py").touch()
    (tmp_path / "pyproject.toml").touch()
    assert script.find_root() == tmp_path


def test_foreign_packages_are_not_the_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In site-packages, somebody else's `starters` beside the library is not ours."""
    monkeypatch.delenv("CLARION_HOME", raising=False)
    (tmp_path / "starters").mkdir()
    (tmp_path / "starters" / "cli.py").touch()
    monkeypatch.setattr(script, "__file__", str(tmp_path / "clarion" / "__main__.py"))

    assert script.find_root() is None


def test_every_noun_can_be_described(capsys: pytest.CaptureFixture[str]) -> None:
    """The help of every command and group that is there can be shown."""
    assert cli.invoke(["--help"]) == 0
    for noun in (name for name in cli.NOUNS if (ROOT / "starters" / f"{name}.py").exists()):
        assert noun in capsys.readouterr().out
        assert cli.invoke([noun, "--help"]) == 0
        assert cli.invoke(["--help"]) == 0


def failing(error: BaseException) -> None:
    """Make `clarion migrate` end with this error."""
    raise error


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (NotFound("no app called x"), 1, "clarion: no app called x\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_exit_codes(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    said: str,
) -> None:
    """What ends a command decides its exit code, and only our own errors speak."""
    monkeypatch.setattr("starters.migrate.run", lambda *_: failing(error))

    assert cli.invoke(["migrate"]) == code
    assert capsys.readouterr().err == said


def test_defects_keep_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An unexpected error says its type and place; its text may quote a token."""
    monkeypatch.delenv("CLARION_DEBUG", raising=False)
    monkeypatch.setattr("starters.migrate.run", lambda *_: failing(ValueError("token abc")))

    assert cli.invoke(["migrate"]) == 1
    said = capsys.readouterr().err
    assert "unexpected ValueError at test_cli.py:" in said
    assert "abc" not in said


def test_context_is_closed_after_an_error(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that fails gives its connections back."""
    monkeypatch.setenv("CLARION_DATABASE_URL", database_url)
    opened = []

    async def work(context: object) -> None:
        opened.append(await context.db())  # type: ignore[attr-defined]
        raise NotFound("nothing")

    with pytest.raises(NotFound):
        run(work)
    assert opened[0].pool.is_closing()
