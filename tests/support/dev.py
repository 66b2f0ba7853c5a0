"""`clarion dev` as a process, seen as its user sees it: what it prints, how it ends, what it leaves."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

from clarion.settings import STACK_FILE, Stack, is_running
from tests.support.eventually import eventually

CLARION = Path(sys.executable).parent / "clarion"
START_SECONDS = 90.0


class Dev:
    """One data directory and the `clarion dev` processes that run on it, one after the other."""

    def __init__(self, data: Path) -> None:
        self.data = data
        self.output = data.with_name(f"{data.name}.out")
        self.process: subprocess.Popen[bytes] | None = None

    def spawn(self, *options: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start it; what it prints goes to `output`, which begins anew."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("CLARION_")}
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [CLARION, "dev", "--data", self.data, "--senders", "1", *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd="/",
                env=inherited | environment,
            )
        return self.process

    async def start(self, *options: str, **environment: str) -> Stack:
        """Start it and wait until it says that it runs."""
        process = self.spawn(*options, **environment)
        await eventually(
            lambda: "is running" in self.printed() or process.poll() is not None,
            "it runs",
            seconds=START_SECONDS,
        )
        assert process.poll() is None, self.printed()
        return self.stack()

    async def ended(self, *, seconds: float = 60.0) -> int:
        """Wait for its end; the exit code."""
        assert self.process is not None
        return await asyncio.to_thread(self.process.wait, seconds)

    async def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """End it with a signal; the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(number)
        return await self.ended()

    def printed(self) -> str:
        """What it has printed since its last start."""
        return self.output.read_text()

    def stack(self) -> Stack:
        """What stack.json says, whether it runs or not."""
        return Stack.model_validate_json((self.data / STACK_FILE).read_bytes())

    @property
    def runs(self) -> bool:
        """Whether the data directory is held."""
        return is_running(self.data)

    def left(self) -> list[str]:
        """Command lines of processes that still work for this data directory (zombies are nobody's)."""
        return [command for command in map(_about, _process_ids()) if str(self.data) in command]


def _process_ids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit() and int(name) != os.getpid()]


def _about(pid: int) -> str:
    """Command line and log of a process: a worker names the directory only by where it writes."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return f"{command} > {os.readlink(f'/proc/{pid}/fd/2')}"
    except OSError:
        return ""


def environment_of(pid: int) -> dict[str, str]:
    """The environment that a process was started with."""
    parts = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    return dict(part.split("=", 1) for part in parts if "=" in part)
