"""One child process: started tethered to us, logged to a file, always reaped, stopped in an orderly way."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pwd
import signal
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from clarion.errors import StackUnavailable

LOG_BYTES: Final = 16 * 1024 * 1024  # a log beyond this is put aside (one generation) at the next start
GONE_SECONDS = 20.0  # a server that lost its supervisor ends by itself within seconds
TETHER: Final = Path(__file__).with_name("tether.py")


@dataclass(frozen=True)
class Account:
    """The user as whom a server runs that refuses root."""

    name: str
    uid: int
    gid: int

    @classmethod
    def named(cls, name: str) -> Account:
        """The user of this name; KeyError if there is none."""
        entry = pwd.getpwnam(name)
        return cls(name, entry.pw_uid, entry.pw_gid)


class Child:
    """A process of the stack. `start` may be called again after it ended.

    `stop_signals` are sent one after the other, each given `patience` seconds, before SIGKILL; the first one
    is also what the kernel sends when this process dies without stopping its children.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        account: Account | None = None,
        stop_signals: Sequence[signal.Signals] = (signal.SIGTERM,),
        patience: float = 30.0,
        speaks: bool = False,
    ) -> None:
        """`speaks`: its standard output is read line by line with `line()`, not logged."""
        self.name = name
        self.command = [str(part) for part in command]
        self.log = log
        self.env = dict(env) if env is not None else None
        self.account = account
        self.stop_signals = tuple(stop_signals)
        self.patience = patience
        self.speaks = speaks
        self.process: asyncio.subprocess.Process | None = None
        self._log_start = 0

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self.process.pid if self.process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self.process is not None and self.process.returncode is None

    async def start(self) -> None:
        """Start it, in a session of its own: a Ctrl-C at the terminal is ours to pass on, in order.

        Raises StackUnavailable while an earlier one of the same log is still alive.
        """
        await until_gone(self.name, self.log)
        with _locked_log(self.log) as log:
            self._log_start = log.tell()
            self.process = await asyncio.create_subprocess_exec(
                *self._tethered(),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if self.speaks else log,
                stderr=log,
                env=self.env,
                cwd="/",
                umask=0o077,  # logs and databases are for our eyes, wherever the data directory is
                start_new_session=True,
            )

    def _tethered(self) -> list[str]:
        account = f"{self.account.uid}:{self.account.gid}" if self.account else ""
        parent, ending = str(os.getpid()), str(int(self.stop_signals[0]))
        return [sys.executable, "-I", "-S", str(TETHER), parent, ending, account, *self.command]

    async def line(self) -> bytes:
        """The next line of its standard output; empty when it closed it."""
        if self.process is None or self.process.stdout is None:
            raise RuntimeError(f"{self.name} does not speak")
        return await self.process.stdout.readline()

    async def drain(self) -> None:
        """Read and forget whatever else it says, so that it never waits for a reader."""
        while await self.line():
            pass

    async def wait(self) -> int:
        """Wait for its end; the exit code, negative for a signal."""
        if self.process is None:
            raise RuntimeError(f"{self.name} was never started")
        return await self.process.wait()

    async def stop(self) -> None:
        """End it: politely, then firmly, then by SIGKILL. Does nothing when it does not run."""
        for number in (*self.stop_signals, signal.SIGKILL):
            if not self.running:
                break
            self.signal(number)
            try:
                await asyncio.wait_for(self.wait(), self.patience)
            except TimeoutError:
                continue

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal if it runs."""
        if self.process is not None and self.running:
            self.process.send_signal(number)

    def last_words(self, limit: int = 5) -> str:
        """The last lines that it logged since its last start: for the one line that says why it died."""
        if not self.log.exists():
            return ""
        with self.log.open("rb") as log:
            log.seek(max(self._log_start, log.seek(0, os.SEEK_END) - 8_192))
            lines = log.read().decode("utf-8", "replace").strip().splitlines()
        return " | ".join(line.strip() for line in lines[-limit:])


async def until_gone(name: str, log: Path) -> None:
    """Wait for the process that writes to this log: a supervisor that was killed left it, and it is ending.

    Every child holds a lock on its log, with the file itself, until the last of its processes is gone.
    Raises StackUnavailable when it stays.
    """
    deadline = asyncio.get_running_loop().time() + GONE_SECONDS
    while _is_locked(log):
        if asyncio.get_running_loop().time() > deadline:
            raise StackUnavailable(f"another {name} is running: it writes to {log}")
        await asyncio.sleep(0.05)


def _is_locked(log: Path) -> bool:
    try:
        with log.open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _locked_log(log: Path) -> IO[bytes]:
    """The log, opened to be handed over together with its lock."""
    log.parent.mkdir(parents=True, exist_ok=True)
    if log.exists() and log.stat().st_size > LOG_BYTES:
        log.replace(log.with_suffix(".old.log"))
    file = open(log, "ab", opener=_private)  # noqa: SIM115 - the caller closes it
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
