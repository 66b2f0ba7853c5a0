"""Who runs the embedded PostgreSQL, and from where."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from clarion.errors import StackUnavailable
from tests.support.postgres import public_home
from workers.embedded import binaries, ports
from workers.embedded.child import Account

STRANGER = Account("stranger", 4_000_001, 4_000_001)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that everybody may enter."""
    made = public_home()
    yield made
    shutil.rmtree(made)


@pytest.fixture
def private_umask() -> Iterator[None]:
    """What is made is for its owner only, unless somebody says otherwise."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_a_private_parent_closes_all_below(place: Path) -> None:
    """Whoever may not enter a directory reaches nothing in it, however open that is."""
    inner = place / "private" / "open"
    inner.mkdir(parents=True)
    inner.chmod(0o755)
    assert binaries.may_enter(inner, STRANGER)
    inner.parent.chmod(0o700)

    assert not binaries.may_enter(inner, STRANGER)


@pytest.mark.parametrize(
    ("mode", "owner", "group", "allowed"),
    [
        (0o700, True, False, True),
        (0o055, True, True, False),
        (0o710, False, True, True),
        (0o701, False, True, False),
        (0o701, False, False, True),
        (0o770, False, False, False),
    ],
)
def test_permissions_as_the_kernel_reads_them(
    place: Path, mode: int, owner: bool, group: bool, allowed: bool
) -> None:
    """The owner's bits count for the owner, the group's for the group, the last for all others."""
    status = place.stat()
    account = Account("x", status.st_uid if owner else 4_000_001, status.st_gid if group else 4_000_001)
    place.chmod(mode)
    try:
        assert binaries._may_pass(place, account) is allowed
    finally:
        place.chmod(0o755)


def test_state_directory_is_made_open(
    place: Path, private_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Our own directory is open to the server's user also under a private umask."""
    monkeypatch.setattr(binaries, "ROOT_STATE", place / "clarion")

    assert binaries.root_state(STRANGER).stat().st_mode & 0o777 == 0o755


def test_state_directory_of_others_is_left_alone(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory that was there keeps its mode; what to do about it is said."""
    (place / "clarion").mkdir(mode=0o700)
    monkeypatch.setattr(binaries, "ROOT_STATE", place / "clarion")

    with pytest.raises(StackUnavailable, match=r"stranger, who runs .* may not enter .*: give it mode 0755"):
        binaries.root_state(STRANGER)
    assert (place / "clarion").stat().st_mode & 0o777 == 0o700


def test_programs_are_copied_and_run(
    place: Path, private_umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy is complete and open to all, its libraries beside it, and a second look takes the same one."""
    monkeypatch.setattr(binaries, "ROOT_STATE", place / "clarion")
    programs = binaries.postgres_programs(STRANGER)
    closed = [path for path in (place / "clarion").rglob("*") if path.stat().st_mode & 0o444 != 0o444]

    assert closed == []
    # As a stranger where we may become one; a copy below a directory that is closed to it would not start.
    user = STRANGER.uid if os.geteuid() == 0 else None
    said = subprocess.run(
        [programs / "postgres", "--version"], capture_output=True, text=True, user=user, cwd="/"
    )
    assert said.stdout.startswith("postgres (PostgreSQL) 18."), said.stderr
    made = programs.stat().st_ino
    assert binaries.postgres_programs(STRANGER).stat().st_ino == made
    assert [path.name for path in (place / "clarion").iterdir()] == [programs.parents[2].name]


def test_everybody_else_runs_the_wheel_itself() -> None:
    """Without root nothing is copied."""
    programs = binaries.postgres_programs(None)

    assert "site-packages" in str(programs)
    assert (programs / "initdb").exists()


@pytest.mark.parametrize(("name", "said"), [("root", "must not be root"), ("nobody-like-that", "no user")])
def test_unusable_server_user(monkeypatch: pytest.MonkeyPatch, name: str, said: str) -> None:
    """CLARION_PG_USER must be a user, and not root."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("CLARION_PG_USER", name)

    with pytest.raises(StackUnavailable, match=said):
        binaries.server_account()


def test_only_root_needs_another_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root has PostgreSQL run as nobody, everybody else as themselves."""
    monkeypatch.delenv("CLARION_PG_USER", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert binaries.server_account() is None
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    account = binaries.server_account()
    assert account is not None
    assert account.name == "nobody"


def test_missing_program_says_what_to_install() -> None:
    """A program that is not there is named with its cure."""
    with pytest.raises(StackUnavailable, match="no-such-program is not installed: pip install"):
        binaries.beside_python("no-such-program")


def test_ports() -> None:
    """A wanted port must be free, a usual one is taken if it is, else any."""
    free = ports.free_port()

    assert ports.choose("x", None, free) == free
    assert ports.choose("x", free) == free
    assert ports.is_free(ports.choose("x", None))
