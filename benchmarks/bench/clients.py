"""The clients of the races: how each is started, and what has to be there for it.

A client is a program that reads its task (JSON) on standard input, warms up, sends, and prints a line of
JSON: CPU µs a request (whole process, user and system), requests a second, failures. Those of other
languages lie in benchmarks/peers/ and are built once, below build/peers.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PEERS: Final = ROOT / "benchmarks" / "peers"
BUILT: Final = ROOT / "build" / "peers"
BUILD_SECONDS: Final = 900.0


class NotThere(Exception):
    """The toolchain or the packages of a peer are not to be had on this machine; says which."""


@dataclass(frozen=True, slots=True)
class Client:
    """One program. `share`: of the requests of a race it sends so many, which is enough for a figure."""

    name: str
    command: Callable[[], Sequence[str]]  # raises NotThere
    share: float
    at_once: int
    warm: int | None = None  # requests before the clock starts; else a fifth of them


def python(module: str, *words: str) -> Callable[[], Sequence[str]]:
    """A Python program of this environment: always there."""
    return lambda: [sys.executable, "-m", module, *words]


def go(module: str, package: str) -> Callable[[], Sequence[str]]:
    """A Go program of a module below benchmarks/peers."""

    def build() -> Sequence[str]:
        program = BUILT / module / Path(package).name
        sources = PEERS / module
        if _stale(program, sources):
            _need("go")
            program.parent.mkdir(parents=True, exist_ok=True)
            _run(["go", "build", "-o", str(program), package], sources)
        return [str(program)]

    return build


def node(script: str) -> Callable[[], Sequence[str]]:
    """A script of benchmarks/peers/node, with the packages of its package.json beside a copy of it."""

    def build() -> Sequence[str]:
        place, sources = BUILT / "node", PEERS / "node"
        _need("node")
        if _stale(place / ".ready", sources):
            _need("npm")
            shutil.copytree(sources, place, dirs_exist_ok=True)
            _run(["npm", "install", "--silent", "--no-package-lock", "--no-audit", "--no-fund"], place)
            (place / ".ready").touch()
        return ["node", str(place / script)]

    return build


def java(main: str) -> Callable[[], Sequence[str]]:
    """A class of benchmarks/peers/java."""

    def build() -> Sequence[str]:
        place, sources = BUILT / "java", PEERS / "java"
        _need("java")
        if _stale(place / ".ready", sources):
            _need("mvn")
            _run(["mvn", "-q", "-B", "package", f"-Dpeers.build={place}"], sources)
            (place / ".ready").touch()
        return ["java", "-cp", f"{place / 'classes'}{os.pathsep}{place / 'lib' / '*'}", main]

    return build


def _need(tool: str) -> None:
    if shutil.which(tool) is None:
        raise NotThere(f"no {tool} on this machine")


def _stale(made: Path, sources: Path) -> bool:
    """Whether something must be built: it is not there, or a source is younger."""
    if not made.exists():
        return True
    newest = max(path.stat().st_mtime for path in sources.rglob("*") if path.is_file())
    return newest > made.stat().st_mtime


def _run(command: Sequence[str], place: Path) -> None:
    """A build step. Without its packages a peer is not there: an answer of the network, not of ours."""
    print(f"building a peer, once: {' '.join(command[:2])} in {place.name}", file=sys.stderr, flush=True)
    try:
        ended = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=BUILD_SECONDS)
    except subprocess.TimeoutExpired:
        raise NotThere(f"{command[0]} did not end within {BUILD_SECONDS:.0f} s") from None
    if ended.returncode:
        print((ended.stderr or ended.stdout)[-2_000:], file=sys.stderr)
        raise NotThere(f"{command[0]} could not build it")
