"""PostgreSQL 18 as our own child: made, started, checked, stopped.

It listens on the loopback interface only and asks for a password (SCRAM): a port is open to every user of
the machine, so trust would hand them the registry; and a socket in the file system would have to live in a
path short enough for one and open to both users. The password is random, in a file only we can read.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import asyncpg

from clarion.errors import StackUnavailable
from workers.embedded import ports
from workers.embedded.binaries import may_enter, postgres_programs, root_state, server_account
from workers.embedded.child import Child, until_gone

MAJOR: Final = "18"
ROLE: Final = "clarion"
DATABASE: Final = "clarion"
READY_SECONDS: Final = 60.0  # a recovery after a crash takes seconds at this max_wal_size
NOT_READY: Final = (OSError, TimeoutError, asyncpg.CannotConnectNowError, asyncpg.ConnectionDoesNotExistError)

SETTINGS: Final = {
    "listen_addresses": ports.LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "512MB",
    "max_wal_size": "1GB",
    "jit": "off",
    "random_page_cost": "1.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The text and the DETAIL of a failed statement carry tokens; neither belongs in a log.
    "log_min_error_statement": "panic",
    "log_error_verbosity": "terse",
}
THROW_AWAY: Final = {"fsync": "off", "full_page_writes": "off"}


class Postgres:
    """One PostgreSQL server on the data directory `{home}/postgres`.

    `port` must be free; `usual_port` is taken if it is free. Once started, a server keeps its port.
    `throw_away` is for tests: the data need not survive the machine, only the process.
    """

    def __init__(
        self, home: Path, *, port: int | None = None, usual_port: int | None = None, throw_away: bool = False
    ) -> None:
        self.home = home
        self.account = server_account()
        self.wanted_port = port
        self.usual_port = usual_port
        self.port = 0
        self.settings = SETTINGS | (THROW_AWAY if throw_away else {})
        self.throw_away = throw_away
        self.log = home / "logs" / "postgres.log"
        self.child: Child | None = None

    @property
    def data(self) -> Path:
        """The server's own directory, behind the link that root needs when `home` is closed to the server."""
        return (self.home / "postgres").resolve()

    @property
    def url(self) -> str:
        """Where clients connect."""
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The URL of another database of this server."""
        return f"postgresql://{ROLE}:{self._password()}@{ports.LOOPBACK}:{self.port}/{database}"

    def _password(self) -> str:
        try:
            return self._password_file.read_text().strip()
        except FileNotFoundError:
            raise StackUnavailable(
                f"the database in {self.data} is there but {self._password_file} is gone"
            ) from None

    @property
    def _password_file(self) -> Path:
        return self.home / "postgres.password"

    async def start(self) -> None:
        """Make the data directory if there is none, start the server and wait until it answers."""
        await until_gone("PostgreSQL", self.log)
        self.port = ports.choose("PostgreSQL", self.port or self.wanted_port, self.usual_port)
        if not (self.data / "PG_VERSION").exists():
            await self._create()
        self._check_version()
        self.child = self._server()
        await self.child.start()
        try:
            await self._until_ready()
        except BaseException:
            await self.child.stop()
            raise

    async def stop(self) -> None:
        """Fast shutdown: sessions are ended, everything is written, the next start needs no recovery."""
        if self.child is not None:
            await self.child.stop()

    def _server(self) -> Child:
        given = self.settings | {"port": str(self.port)}
        options = [part for name, value in given.items() for part in ("-c", f"{name}={value}")]
        return Child(
            "postgres",
            [postgres_programs(self.account) / "postgres", "-D", self.data, *options],
            log=self.log,
            env={"LC_ALL": "C", "PATH": os.defpath},  # no PGPORT or PGOPTIONS of whoever starts us
            account=self.account,
            stop_signals=(signal.SIGINT, signal.SIGQUIT),
        )

    def _check_version(self) -> None:
        found = (self.data / "PG_VERSION").read_text().strip()
        if found != MAJOR:
            raise StackUnavailable(
                f"{self.data} belongs to PostgreSQL {found}, this is {MAJOR}: "
                "dump it with its own version, or choose another --data"
            )

    async def _until_ready(self) -> None:
        """Wait for the first answer; a server that died meanwhile says why in its log."""
        assert self.child is not None
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if not self.child.running:
                raise StackUnavailable(f"PostgreSQL did not start: {self.child.last_words()}")
            try:
                await self._ensure_database()
            except NOT_READY:
                await asyncio.sleep(0.05)
            else:
                return
        raise StackUnavailable(
            f"PostgreSQL did not answer within {READY_SECONDS:.0f} s: {self.child.last_words()}"
        )

    async def _ensure_database(self) -> None:
        connection = await asyncpg.connect(self.url_of("postgres"), timeout=5)
        try:
            if not await connection.fetchval("select true from pg_database where datname = $1", DATABASE):
                await connection.execute(f"create database {DATABASE}")
        except asyncpg.DuplicateDatabaseError:
            pass
        finally:
            await connection.close()

    async def _create(self) -> None:
        """Make the data directory, complete or not at all."""
        place = self._place()
        draft = place.with_name(f"{place.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        self._make_owned(draft)
        password = secrets.token_urlsafe(24)
        await self._initdb(draft, password)
        write_private(self._password_file, password)
        place.parent.mkdir(parents=True, exist_ok=True)
        draft.rename(place)

    def _place(self) -> Path:
        """Where the data directory goes: below `home`, or where the server's user may enter."""
        self.home.mkdir(parents=True, exist_ok=True)
        link = self.home / "postgres"
        if link.is_symlink():
            return link.resolve()
        if self.account is None or may_enter(self.home.resolve(), self.account):
            return self.home.resolve() / "postgres"
        elsewhere = root_state(self.account) / f"postgres-{secrets.token_hex(8)}"
        link.symlink_to(elsewhere)
        return elsewhere

    def _make_owned(self, directory: Path) -> None:
        directory.mkdir(mode=0o700)
        if self.account is not None:
            os.chown(directory, self.account.uid, self.account.gid)

    async def _initdb(self, directory: Path, password: str) -> None:
        # Beside the directory, not in it: initdb wants it empty. The server's user must be able to read it.
        words = directory.with_name(f"{directory.name}.password")
        write_private(words, password)
        if self.account is not None:
            os.chown(words, self.account.uid, self.account.gid)
        options = _initdb_options(words, sync=not self.throw_away)
        maker = Child(
            "initdb",
            [postgres_programs(self.account) / "initdb", "-D", directory, *options],
            log=self.home / "logs" / "initdb.log",
            env={"LC_ALL": "C", "PATH": os.defpath},
            account=self.account,
        )
        try:
            await maker.start()
            if await maker.wait() != 0:
                raise StackUnavailable(f"PostgreSQL's data directory could not be made: {maker.last_words()}")
        finally:
            await maker.stop()
            words.unlink()


def _initdb_options(password_file: Path, *, sync: bool) -> Sequence[str]:
    return (
        *([] if sync else ["--no-sync"]),
        f"--username={ROLE}",
        f"--pwfile={password_file}",
        "--auth=scram-sha-256",
        "--encoding=UTF8",
        # Sorted by code point, the same on every machine, whatever its locales are.
        "--locale-provider=builtin",
        "--locale=C.UTF-8",
        "--no-instructions",
        # The password is random: rounds of hashing protect nothing and cost every connection.
        "--set=scram_iterations=1",
    )


def write_private(path: Path, text: str) -> None:
    """Write a file that nobody else can read."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
