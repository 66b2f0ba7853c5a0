"""What the processes of a running stack use: CPU time, and memory at its most."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.stack import Stack


class Meter:
    """CPU seconds that the stack's processes use between two moments."""

    def __init__(self, stack: Stack) -> None:
        self._stack = stack
        self._before = self._read()
        self._began = time.monotonic()

    def _read(self) -> dict[str, float]:
        used: dict[str, float] = {}
        for name, pid in self._stack.facts["pids"].items():
            family = _family(name)
            processes = _tree(pid) if name == "postgres" else (pid,)
            used[family] = used.get(family, 0.0) + sum(_cpu_seconds(process) for process in processes)
        return used

    def read(self) -> dict[str, float]:
        """CPU seconds since then, by kind of process."""
        now = self._read()
        return {name: now[name] - before for name, before in self._before.items() if name in now}

    def microseconds_each(self, deliveries: int) -> dict[str, float]:
        """CPU µs for each delivery, by kind of process."""
        return {name: seconds * 1e6 / deliveries for name, seconds in self.read().items()}

    def peaks(self) -> dict[str, float]:
        """The most memory that a process of each kind ever held, in MB."""
        most: dict[str, float] = {}
        for name, pid in self._stack.facts["pids"].items():
            family = _family(name)
            most[family] = max(most.get(family, 0.0), peak_of(pid))
        return most

    def idle(self, kind: str, processes: int) -> float:
        """Which share of the time so many processes of a kind did not run."""
        return max(0.0, 1 - self.read()[kind] / ((time.monotonic() - self._began) * processes))


def _family(name: str) -> str:
    """What processes that do the same are called: their name without its number."""
    return name.rstrip("0123456789").rstrip("-")


def peak_of(pid: int) -> float:
    """The most memory that a process ever held, in MB; 0 of one that is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) / 1e3 for line in status.splitlines() if line.startswith("VmHWM"))


def _cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _tree(pid: int) -> Iterator[int]:
    """The process and its children: PostgreSQL is many."""
    yield pid
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in children:
        yield int(child)
