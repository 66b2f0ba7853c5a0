"""The environment, read once, and where the stack is that a command talks to.

A stack is PostgreSQL and Temporal together. `clarion dev` writes down where its own is, in `stack.json` in
its data directory, and holds a lock beside it for as long as it runs; elsewhere the environment says it.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit, urlunsplit

import platformdirs
from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from clarion.errors import StackUnavailable
from clarion.seal import Seal

STACK_FILE: Final = "stack.json"
LOCK_FILE: Final = "lock"
ROOT_DATA: Final = Path("/var/lib/clarion")


class Settings(BaseSettings):
    """What the environment says. Variables are CLARION_* but for Temporal's own."""

    model_config = SettingsConfigDict(
        env_prefix="CLARION_", extra="ignore", frozen=True, env_ignore_empty=True
    )

    database_url: SecretStr | None = None
    database_password_file: Path | None = None  # for a URL that holds no password
    key: SecretStr | None = None
    key_file: Path | None = None
    data: Path | None = None
    home: Path | None = None
    retention_days: int = Field(default=30, ge=1, le=36_500)  # how long the rows of closed pushes are kept
    unused_days: int = Field(default=400, ge=1, le=36_500)  # … and messages and lists that nobody uses
    metrics_port: int | None = None
    metrics_host: str = "127.0.0.1"
    temporal_address: str | None = Field(default=None, validation_alias="TEMPORAL_ADDRESS")
    temporal_namespace: str | None = Field(default=None, validation_alias="TEMPORAL_NAMESPACE")

    @model_validator(mode="before")
    @classmethod
    def _fill_in_password(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Secrets that come as files never stand in an environment that `docker inspect` shows."""
        url, file = values.get("database_url"), values.get("database_password_file")
        if not url or not file:
            return values
        try:
            password = Path(file).read_text().strip()
        except OSError as error:
            raise StackUnavailable(f"{file} cannot be read: {type(error).__name__}") from None
        parts = urlsplit(url)
        user, _, place = parts.netloc.rpartition("@")
        netloc = f"{user}:{quote(password, safe='')}@{place}"
        return values | {"database_url": urlunsplit(parts._replace(netloc=netloc))}

    @property
    def data_directory(self) -> Path:
        """Where `clarion dev` keeps everything unless told otherwise."""
        if self.data is not None:
            return self.data.expanduser().absolute()
        if os.geteuid() == 0:
            return ROOT_DATA
        return platformdirs.user_data_path("clarion")


class Stack(BaseModel):
    """Where PostgreSQL and Temporal are, and what is known of the processes around them.

    Without `temporal_address`, Temporal's own configuration decides (a profile, else the usual port).
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    database_url: str | None = Field(default=None, repr=False)  # it holds a password
    temporal_address: str | None = None
    temporal_ui: str | None = None
    temporal_http: str | None = None  # Temporal's HTTP API
    namespace: str | None = None
    key_file: Path | None = None
    sandbox: dict[str, Any] | None = None
    pids: dict[str, int] = {}
    metrics: dict[str, int] = {}

    @classmethod
    def read(cls, data: Path) -> Self:
        """The stack that `clarion dev` runs on this data directory. StackUnavailable if it does not."""
        try:
            stack = cls.model_validate_json((data / STACK_FILE).read_bytes())
        except FileNotFoundError:
            raise StackUnavailable(f"there is no stack in {data}: {_advice(data)}") from None
        except PermissionError:
            raise StackUnavailable(f"the stack in {data} belongs to another user") from None
        except ValidationError:
            raise StackUnavailable(f"{data / STACK_FILE} is damaged: {_advice(data)}") from None
        if not is_running(data):
            raise StackUnavailable(f"the stack in {data} is not running: {_advice(data)}")
        return stack

    def write(self, data: Path) -> None:
        """Write `stack.json`: whole or not at all, and for nobody else's eyes."""
        draft = data / f".{STACK_FILE}.{os.getpid()}"
        draft.unlink(missing_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(self.model_dump_json(indent=2, exclude_none=True) + "\n")
        draft.replace(data / STACK_FILE)

    def seal(self, settings: Settings) -> Seal:
        """What closes and opens this stack's credentials. Raises BadKey if there is no key."""
        if settings.key is not None:
            return Seal.load(settings.key.get_secret_value())
        return Seal.load(key_file=settings.key_file or self.key_file)


def find_stack(data: Path | None = None, settings: Settings | None = None) -> Stack:
    """The stack to talk to: of `data`, else the environment's, else of the default data directory.

    Raises StackUnavailable with what to do about it when there is none.
    """
    if data is not None:
        return Stack.read(data.expanduser().absolute())
    settings = settings or Settings()
    if settings.database_url is not None:
        return Stack(
            database_url=settings.database_url.get_secret_value(),
            temporal_address=settings.temporal_address,
            namespace=settings.temporal_namespace,
            key_file=settings.key_file,
        )
    return Stack.read(settings.data_directory)


def is_running(data: Path) -> bool:
    """Whether a supervisor runs on this data directory. Process ids are used again, a lock is not."""
    try:
        with (data / LOCK_FILE).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


@contextmanager
def running(data: Path) -> Iterator[None]:
    """Hold the data directory. Raises BlockingIOError while another process does."""
    with (data / LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _advice(data: Path) -> str:
    return f"start one with `clarion dev --data {data}`, or set CLARION_DATABASE_URL and TEMPORAL_ADDRESS"
