"""Where a command finds the stack."""

from __future__ import annotations

from pathlib import Path

import pytest

from clarion.errors import StackUnavailable
from clarion.seal import BadKey, Seal
from clarion.settings import STACK_FILE, Settings, Stack, find_stack, is_running, running

VARIABLES = ("DATABASE_URL", "DATABASE_PASSWORD_FILE", "KEY", "KEY_FILE", "DATA", "HOME", "METRICS_PORT")
STACK = Stack(
    database_url="postgresql://clarion:secret@127.0.0.1:5433/clarion", temporal_address="127.0.0.1:7233"
)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the environment that the tests run in."""
    for name in VARIABLES:
        monkeypatch.delenv(f"CLARION_{name}", raising=False)
    monkeypatch.delenv("TEMPORAL_ADDRESS", raising=False)
    monkeypatch.delenv("TEMPORAL_NAMESPACE", raising=False)


def test_written_stack_is_found(tmp_path: Path) -> None:
    """What the supervisor wrote is what a command reads while the supervisor lives."""
    STACK.write(tmp_path)
    with running(tmp_path):
        assert find_stack(tmp_path) == STACK


def test_stack_file_is_private(tmp_path: Path) -> None:
    """The file holds a password: nobody else may read it, and no draft stays behind."""
    STACK.write(tmp_path)
    STACK.write(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == [STACK_FILE]
    assert (tmp_path / STACK_FILE).stat().st_mode & 0o777 == 0o600


def test_password_is_not_shown() -> None:
    """A stack that ends up in a log or a traceback keeps its password."""
    assert "secret" not in repr(STACK)


def test_settings_show_no_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor do the settings."""
    monkeypatch.setenv("CLARION_DATABASE_URL", STACK.database_url or "")
    monkeypatch.setenv("CLARION_KEY", Seal.new_key())

    assert "secret" not in repr(Settings())
    assert Settings().key is not None
    assert str(Settings().key) == "**********"


def test_password_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A password that comes as a file is put into the URL, whatever characters it has."""
    (tmp_path / "password").write_text("a/b+c=\n")
    monkeypatch.setenv("CLARION_DATABASE_URL", "postgresql://clarion@postgres:5432/clarion")
    monkeypatch.setenv("CLARION_DATABASE_PASSWORD_FILE", str(tmp_path / "password"))

    assert find_stack().database_url == "postgresql://clarion:a%2Fb%2Bc%3D@postgres:5432/clarion"


def test_password_file_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing secret is named."""
    monkeypatch.setenv("CLARION_DATABASE_URL", "postgresql://clarion@postgres:5432/clarion")
    monkeypatch.setenv("CLARION_DATABASE_PASSWORD_FILE", str(tmp_path / "password"))

    with pytest.raises(StackUnavailable, match="password cannot be read: FileNotFoundError"):
        find_stack()


def test_stale_stack_is_recognised(tmp_path: Path) -> None:
    """A file that a killed supervisor left is not a running stack."""
    STACK.write(tmp_path)
    with running(tmp_path):
        pass

    with pytest.raises(StackUnavailable, match="is not running: start one"):
        find_stack(tmp_path)


def test_damaged_stack_is_one_clear_error(tmp_path: Path) -> None:
    """Half a file is said to be that."""
    (tmp_path / STACK_FILE).write_text('{"database_url": 7')

    with pytest.raises(StackUnavailable, match="is damaged"):
        find_stack(tmp_path)


def test_the_option_goes_before_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--data` names one stack, whatever the environment says."""
    monkeypatch.setenv("CLARION_DATABASE_URL", "postgresql://elsewhere/clarion")

    with pytest.raises(StackUnavailable, match=str(tmp_path)):
        find_stack(tmp_path)


def test_the_environment_goes_before_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a database URL no data directory is looked at; Temporal's address may come from a profile."""
    monkeypatch.setenv("CLARION_DATABASE_URL", "postgresql://elsewhere/clarion")
    monkeypatch.setenv("TEMPORAL_NAMESPACE", "push-prod")

    assert find_stack() == Stack(database_url="postgresql://elsewhere/clarion", namespace="push-prod")


def test_data_moves_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CLARION_DATA is where commands look when nothing else is said."""
    monkeypatch.setenv("CLARION_DATA", str(tmp_path))
    STACK.write(tmp_path)
    with running(tmp_path):
        assert find_stack() == STACK


def test_nothing_anywhere_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any stack the error is one line with a way out."""
    monkeypatch.setenv("CLARION_DATA", str(tmp_path / "none"))

    with pytest.raises(StackUnavailable, match=r"`clarion dev --data .*CLARION_DATABASE_URL"):
        find_stack()


def test_one_supervisor_a_directory(tmp_path: Path) -> None:
    """The lock has one holder, and asking does not disturb it."""
    with running(tmp_path):
        assert is_running(tmp_path)
        with pytest.raises(BlockingIOError), running(tmp_path):
            pass
        assert is_running(tmp_path)
    assert not is_running(tmp_path)


def test_the_key_of_the_environment_seals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CLARION_KEY goes before the stack's file; without either, the error names both variables."""
    file = tmp_path / "key"
    file.write_text(Seal.new_key())
    sealed = Stack(key_file=file).seal(Settings()).seal(b"x", "c")
    monkeypatch.setenv("CLARION_KEY", Seal.new_key())

    with pytest.raises(BadKey):
        Stack(key_file=file).seal(Settings()).open(sealed, "c")
    monkeypatch.delenv("CLARION_KEY")
    assert Stack(key_file=file).seal(Settings()).open(sealed, "c") == b"x"
    with pytest.raises(BadKey, match="CLARION_KEY"):
        Stack().seal(Settings())
