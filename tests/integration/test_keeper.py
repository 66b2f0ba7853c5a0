"""Children of ours: started, logged, restarted with patience, stopped in order, never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from clarion.errors import StackUnavailable
from tests.support.eventually import eventually, is_alive
from workers.embedded import keeper as keeping
from workers.embedded.child import Child
from workers.embedded.keeper import Backoff, Keeper, Process

SLEEP = "import time; print('here', flush=True); time.sleep(60)"
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('here', flush=True); time.sleep(60)"
)


SLOW = (
    "import signal, sys, time\n"
    "def end(*_):\n"
    "    time.sleep(0.5)\n"
    "    print('ended', flush=True)\n"
    "    sys.exit(0)\n"
    "signal.signal(signal.SIGTERM, end)\n"
    "print('here', flush=True)\n"
    "time.sleep(60)\n"
)


@pytest.fixture
def child(tmp_path: Path) -> Callable[..., Child]:
    """Makes children that run some Python."""

    def make(code: str, name: str = "child", **options: object) -> Child:
        command = [sys.executable, "-c", code]
        return Child(name, command, log=tmp_path / f"{name}.log", **options)  # type: ignore[arg-type]

    return make


class Notes:
    """A keeper and what it said."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.changes: list[str] = []
        self.keeper = Keeper(self.lines.append, self._changed)

    async def _changed(self, name: str) -> None:
        self.changes.append(name)


@pytest.fixture
async def notes() -> AsyncIterator[Notes]:
    """A keeper whose children are gone afterwards."""
    made = Notes()
    yield made
    await made.keeper.stop()


def has_said(child: Child, word: str) -> Callable[[], bool]:
    """Whether a word is in its log."""
    return lambda: child.log.exists() and word in child.log.read_text()


async def test_output_goes_to_the_log(child: Callable[..., Child]) -> None:
    """What a child says on either stream is in its log, and the last of it can be quoted."""
    one = child("import sys; print('first'); print('why', file=sys.stderr); sys.exit(3)")
    await one.start()

    assert await one.wait() == 3
    assert {"first", "why"} == set(one.last_words().split(" | "))


async def test_last_words_are_of_this_life(child: Callable[..., Child]) -> None:
    """A child that died silently is not given the words of an earlier life."""
    one = child("print('once')")
    await one.start()
    await one.wait()
    one.command = [sys.executable, "-c", "pass"]
    await one.start()
    await one.wait()

    assert one.last_words() == ""


async def test_large_logs_are_put_aside(child: Callable[..., Child], monkeypatch: pytest.MonkeyPatch) -> None:
    """A log does not grow for ever: the next start begins a new one and keeps one old."""
    monkeypatch.setattr("workers.embedded.child.LOG_BYTES", 10)
    one = child("print('a' * 20)")
    for _ in range(3):
        await one.start()
        await one.wait()

    assert one.log.read_text() == "a" * 20 + "\n"
    assert sorted(path.name for path in one.log.parent.glob("*.log")) == ["child.log", "child.old.log"]


async def test_stop_is_polite_then_firm(child: Callable[..., Child]) -> None:
    """A child that ignores SIGTERM is killed when its time is over."""
    one = child(STUBBORN, patience=0.3)
    await one.start()
    await eventually(has_said(one, "here"), "it runs")
    started = time.monotonic()
    await one.stop()

    assert await one.wait() == -signal.SIGKILL
    assert time.monotonic() - started < 5


async def test_an_interrupt_at_the_terminal_is_not_theirs(child: Callable[..., Child]) -> None:
    """A child has a session of its own, so that a Ctrl-C reaches it through us, in order."""
    one = child(SLEEP)
    await one.start()
    assert one.pid is not None
    await eventually(has_said(one, "here"), "it runs")
    try:
        assert os.getsid(one.pid) == one.pid
    finally:
        await one.stop()


async def orphan(log: Path, code: str) -> int:
    """The process id of a child whose parent was killed when it had said "here"."""
    script = f"""
import asyncio, pathlib, sys
from workers.embedded.child import Child
async def main():
    child = Child("c", [sys.executable, "-c", {code!r}], log=pathlib.Path({str(log)!r}))
    await child.start()
    print(child.pid, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.readline())
    await eventually(lambda: log.read_text() == "here\n", "it runs")
    parent.kill()
    await parent.wait()
    return pid


async def test_children_end_with_their_parent(tmp_path: Path) -> None:
    """kill -9 of the parent: the kernel tells the child."""
    pid = await orphan(tmp_path / "log", SLEEP)

    await eventually(lambda: not is_alive(pid), "the child ends")


async def test_a_start_waits_for_an_orphan(child: Callable[..., Child], tmp_path: Path) -> None:
    """Whoever a killed supervisor left is waited for while it ends: no two write to one database."""
    await orphan(tmp_path / "child.log", SLOW)
    one = child(SLEEP)
    await one.start()
    try:
        assert one.log.read_text().startswith("here\nended\n")
    finally:
        await one.stop()


async def test_an_orphan_that_stays_is_named(
    child: Callable[..., Child], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever does not end is named in one error."""
    monkeypatch.setattr("workers.embedded.child.GONE_SECONDS", 0.2)
    pid = await orphan(tmp_path / "child.log", STUBBORN)
    try:
        with pytest.raises(StackUnavailable, match="another child is running"):
            await child(SLEEP).start()
    finally:
        os.kill(pid, signal.SIGKILL)


async def test_ended_children_are_started_again(child: Callable[..., Child], notes: Notes) -> None:
    """A killed child is reaped and comes back, and one line says what happened."""
    one = child(SLEEP, "worker")
    await notes.keeper.start("worker", Process(one), stage=0)
    first = notes.keeper.pids["worker"]
    await eventually(has_said(one, "here"), "it runs")
    one.signal(signal.SIGKILL)

    await eventually(lambda: notes.keeper.pids.get("worker", first) != first, "it is back")
    await eventually(lambda: notes.changes == ["worker"], "the restart was announced")
    assert not is_alive(first)
    assert notes.lines == ["worker was killed by signal 9 (here); starting it again in 0.5 s"]


async def test_a_start_that_fails_is_tried_again(
    child: Callable[..., Child], notes: Notes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that keeps ending is started ever more slowly, with its last words each time."""
    monkeypatch.setattr(keeping, "FIRST_PAUSE", 0.01)
    one = child("print('no disk'); raise SystemExit(1)", "worker")
    await notes.keeper.start("worker", Process(one), stage=0)

    await eventually(lambda: len(notes.lines) >= 3, "three ends")
    assert [line.rsplit("in ", 1)[1] for line in notes.lines[:3]] == ["0.01 s", "0.02 s", "0.04 s"]
    assert "worker ended with exit code 1 (no disk)" in notes.lines[0]


def test_backoff_resets_after_a_life() -> None:
    """Short lives make the pause grow up to its bound; ten seconds of life make it short again."""
    backoff = Backoff()

    assert [backoff.after(0.1) for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
    assert backoff.after(keeping.LIFE_SECONDS) == 0.5
    assert backoff.after(0.1) == 1


async def test_stages_stop_in_reverse(child: Callable[..., Child], notes: Notes, tmp_path: Path) -> None:
    """What was built upon is stopped last, and nothing is restarted meanwhile."""
    code = (
        "import pathlib, signal, sys, time\n"
        "def end(*_):\n"
        f"    pathlib.Path({str(tmp_path / 'ends')!r}).open('a').write(NAME + ' ')\n"
        "    time.sleep(0.1)\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('here', flush=True)\n"
        "time.sleep(60)\n"
    )
    children = {name: child(f"NAME = {name!r}\n{code}", name) for name in ("store", "one", "two")}
    for name, one in children.items():
        await notes.keeper.start(name, Process(one), stage=0 if name == "store" else 1)
        await eventually(has_said(one, "here"), "it runs")
    await notes.keeper.stop()

    ends = (tmp_path / "ends").read_text().split()
    assert ends[-1] == "store"
    assert sorted(ends) == ["one", "store", "two"]
    assert not any(one.running for one in children.values())
    assert notes.lines == []
