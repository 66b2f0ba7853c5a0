"""`make simulate`: lives of campaigns from a seed on, under a virtual clock, each judged phone by phone.

A life that is not as it must be prints what is wrong, its last events, and the command that lives it again.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import logging
import os
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from benchmarks.simulation import mutants, runtime
from benchmarks.simulation.clock import VirtualClock
from benchmarks.simulation.life import SMALL, Life
from benchmarks.simulation.loop import VirtualLoop
from benchmarks.simulation.store import Server
from benchmarks.simulation.temporal import Temporal
from benchmarks.simulation.verdict import Verdict
from clarion import limits
from tests.support.postgres import running_server

LAST = 40  # events of a failing life that are shown


@dataclass(slots=True)
class Sum:
    """All lives so far."""

    lives: int = 0
    requests: int = 0
    lost: int = 0
    duplicates: int = 0
    bound: int = 0
    twice: int = 0  # phones reached more often than once, at most once
    seconds: float = 0.0
    failed: list[int] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    def add(self, verdict: Verdict) -> None:
        """One more."""
        self.lives += 1
        self.requests += verdict.requests
        self.lost += verdict.lost
        self.seconds += verdict.seconds
        self.digests.append(verdict.digest)
        if verdict.once:
            self.twice += verdict.duplicates
        else:
            self.duplicates += verdict.duplicates
            self.bound += verdict.bound
        if verdict.faults:
            self.failed.append(verdict.seed)


class Theatre:
    """The loop, the clock, the servers: made once, for all lives."""

    def __init__(self, console: Console, mutant: str | None, *, each: bool) -> None:
        self._console, self._mutant, self._each = console, mutant, each
        self._broken = AsyncExitStack()  # never left: the program ends with the mutant in it
        self._loop = VirtualLoop()
        self._clock = VirtualClock(self._loop)
        self._server = Server(self._loop, self._clock)
        self._temporal = Temporal(self._loop, self._clock)
        runtime.install(self._loop, self._temporal)

    def open(self, url: str) -> None:
        """Our clock rules, the schema stands, sizes are those of small audiences."""
        logging.disable(logging.CRITICAL)  # what goes wrong on purpose
        structlog.configure(processors=[_quiet])
        self._clock.install()
        for name, value in SMALL.items():
            setattr(limits, name, value)
        with self._server.really():
            self._loop.run_until_complete(self._server.connect(url))
            if self._mutant is not None:
                self._loop.run_until_complete(
                    mutants.install(self._mutant, self._server.connection, self._broken)
                )

    def live(self, seed: int) -> Verdict:
        """One life."""
        self._forget()
        gc.disable()
        life = Life(seed, self._loop, self._clock, self._server, self._temporal)
        verdict = self._loop.run_until_complete(life.live())
        if self._each:
            self._console.print(
                f"life {seed}: {verdict.digest} {verdict.states}", highlight=False, soft_wrap=True
            )
        if verdict.faults:
            rule = f" --mutant '{self._mutant}'" if self._mutant else ""
            again = f"again: python -m benchmarks.simulation --seed {seed} --lives 1{rule}"
            self._console.print(f"seed {seed}: {'; '.join(verdict.faults)}", style="red", soft_wrap=True)
            for line in (*life.events[-LAST:], again):
                self._console.print(f"    {line}", markup=False, highlight=False, soft_wrap=True)
        return verdict

    def close(self) -> None:
        """The last one is over."""
        self._server.connection.terminate()
        self._forget()
        self._loop.close()

    def _forget(self) -> None:
        """Nothing of one life reaches the next one."""
        self._temporal.clear()
        self._server.forget()
        self._loop.forget()


def _quiet(logger: Any, name: str, event: Any) -> Any:
    raise structlog.DropEvent


def play(url: str, console: Console, words: argparse.Namespace) -> Sum:
    """Live them all; with a mutant only until one fails."""
    theatre, total, began = Theatre(console, words.mutant, each=words.each), Sum(), time.perf_counter()
    theatre.open(url)
    columns = (TextColumn("lives"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("lives", total=words.lives)
        for seed in range(words.seed, words.seed + words.lives):
            total.add(theatre.live(seed))
            progress.advance(task)
            over = words.minutes is not None and time.perf_counter() - began > words.minutes * 60
            if over or (words.mutant is not None and total.failed):
                break
    theatre.close()
    per_hour = total.lives / (time.perf_counter() - began) * 3600
    whole = hashlib.sha256("".join(total.digests).encode()).hexdigest()[:16]
    hours, last = total.seconds / 3600, words.seed + total.lives - 1
    console.print(f"{total.requests:,} requests in {hours:,.1f} virtual hours, {per_hour:,.0f} lives an hour")
    console.print(
        f"simulation: lives={total.lives} seeds={words.seed}..{last} lost={total.lost} "
        f"duplicates={total.duplicates} bound={total.bound} amo_duplicates={total.twice} "
        f"failed={len(total.failed)} digest={whole}",
        highlight=False,
        soft_wrap=True,
    )
    return total


def run(words: argparse.Namespace) -> int:
    """Start PostgreSQL, play beside it; the exit code."""
    with asyncio.Runner() as runner:
        starting = running_server(throw_away=True)
        server = runner.run(starting.__aenter__())
        try:
            total = play(server.url, Console(), words)
        finally:
            runner.run(starting.__aexit__(None, None, None))
    found = bool(total.failed)
    return int(found if words.mutant is None else not found)


def main() -> int:
    """Run as a command."""
    words = argparse.ArgumentParser(prog="make simulate", description=__doc__)
    words.add_argument("--seed", type=int, default=1, help="of the first life; the next ones follow it")
    words.add_argument("--lives", type=int, default=200)
    words.add_argument("--minutes", type=float, help="end after so many minutes")
    words.add_argument("--each", action="store_true", help="a line for each life: its digest, its states")
    words.add_argument(
        "--mutant", choices=mutants.MUTANTS, metavar="RULE", help="break a rule: a life must find it"
    )
    given = words.parse_args()
    if os.environ.get("PYTHONHASHSEED") != "0":  # the order of sets of names, too, follows from the seed
        command = [sys.executable, "-m", "benchmarks.simulation", *sys.argv[1:]]
        os.execve(sys.executable, command, {**os.environ, "PYTHONHASHSEED": "0"})
    return run(given)


if __name__ == "__main__":
    sys.exit(main())
