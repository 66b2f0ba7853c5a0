"""A race: our sender and its peers against one local server, in interleaved rounds, one core a client.

What counts is CPU µs a request. The ratio to a peer is the median of the ratios within the rounds, so that a
machine that grows busy in between spoils no comparison.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks.bench.clients import Client, NotThere
from benchmarks.bench.figures import Results
from benchmarks.transport import MALLOC, WARM_UP, pin
from clarion.sandbox.certificates import Authority
from clarion.sandbox.credentials import demo_credentials
from clarion.sandbox.webpush import subscription
from clarion.store.credentials import PROVIDERS

OURS: Final = "clarion"
BROWSERS: Final = 1_000
CLIENT_SECONDS: Final = 900.0
TEXT: Final = {"title": "A title", "body": "A body of about the usual length, with a name in it"}


@dataclass(frozen=True, slots=True)
class Ground:
    """The running server, and the files that clients are given: what a task begins with, per kind."""

    apns: dict[str, Any]
    others: dict[str, Any]


@dataclass(slots=True)
class Race:
    """One kind of sender and its peers."""

    kind: str
    requests: int
    rounds: int
    clients: Sequence[Client]
    seen: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)

    def run(self, task: dict[str, Any]) -> None:
        """All rounds."""
        commands = self._commands()
        for _ in range(self.rounds):
            for client in self.clients:
                if client.name in commands and client.name not in self.broken:
                    self._measure(client, commands[client.name], task)

    def _measure(self, client: Client, command: Sequence[str], task: dict[str, Any]) -> None:
        """One client, once. One that breaks has no figure, which fails the run; the others go on."""
        try:
            result = measure(command, self._task(client, task))
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            self.broken[client.name] = str(error).strip().splitlines()[-1]
        else:
            self.seen.setdefault(client.name, []).append(result)

    def _commands(self) -> dict[str, Sequence[str]]:
        commands = {}
        for client in self.clients:
            try:
                commands[client.name] = client.command()
            except NotThere as absent:
                self.absent[client.name] = str(absent)
        return commands

    def _task(self, client: Client, task: dict[str, Any]) -> dict[str, Any]:
        count = max(round(self.requests * client.share), client.at_once)
        warm = round(count * WARM_UP) if client.warm is None else round(client.warm * self.requests / FULL)
        return task | {"requests": count, "warm": max(warm, 20), "at_once": client.at_once}

    def ratio(self, peer: str) -> float:
        """How many times our CPU a request the peer takes."""
        pairs = zip(self.seen[peer], self.seen[OURS], strict=True)
        return statistics.median(theirs["cpu_us"] / ours["cpu_us"] for theirs, ours in pairs)

    def median(self, client: str, what: str = "cpu_us") -> float:
        """The median of a client's rounds."""
        return statistics.median(round[what] for round in self.seen[client])

    def tell(self, results: Results) -> None:
        """The ratios, the excuses, and a line a client."""
        for client in self.clients:
            name = f"{self.kind}: {client.name} / {OURS}"
            if client.name in self.absent:
                results.excuses[name] = self.absent[client.name]
                continue
            if client.name in self.broken:
                results.details.append(f"{self.kind:8} {client.name:16} BROKEN: {self.broken[client.name]}")
                continue
            if client.name != OURS and not self._refused(client.name) and not self._refused(OURS):
                results.values[name] = self.ratio(client.name)
            results.details.append(self._line(client.name))

    def _refused(self, client: str) -> float:
        return sum(round["failures"] for round in self.seen[client])

    def _line(self, client: str) -> str:
        cost, rate, refused = self.median(client), self.median(client, "rate"), self._refused(client)
        spread = "–".join(f"{pick(r['cpu_us'] for r in self.seen[client]):.1f}" for pick in (min, max))
        failed = f"  FAILED REQUESTS: {refused:.0f}" if refused else ""
        return (
            f"{self.kind:8} {client:16}{cost:10.1f} CPU µs a request ({spread}), {1e6 / cost:10,.0f}/s if "
            f"one core is full, {rate:10,.0f}/s seen{failed}"
        )


FULL: Final = 100_000  # requests of a race as it is meant; in a shorter one warm-ups are shorter, too


def measure(command: Sequence[str], task: dict[str, Any]) -> dict[str, float]:
    """One client, a process of its own on the first core."""
    ended = subprocess.run(
        command,
        input=json.dumps(task),
        capture_output=True,
        text=True,
        timeout=CLIENT_SECONDS,
        env=os.environ | MALLOC,
        preexec_fn=lambda: pin(0),
    )
    if ended.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{ended.stderr[-2_000:]}")
    return dict(json.loads(ended.stdout.splitlines()[-1]))


@contextmanager
def ground() -> Iterator[Ground]:
    """The local server on the second core, with an authority and credentials made for this run."""
    with tempfile.TemporaryDirectory(prefix="clarion-bench-") as place:
        folder = Path(place)
        server = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.bench.server", str(folder / "tls")],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | MALLOC,
        )
        try:
            assert server.stdout is not None
            yield _ground(folder, json.loads(server.stdout.readline()))
        finally:
            server.terminate()
            server.wait()


def _ground(folder: Path, ports: dict[str, int]) -> Ground:
    authority = Authority(folder / "tls")
    ports = dict.fromkeys(PROVIDERS, ports["others"]) | ports
    known = demo_credentials(folder / "keys", authority, ports)
    others = f"https://127.0.0.1:{ports['others']}"
    (folder / "key.p8").write_text(known.apns["private_key"])
    browsers = [subscription(n, others) for n in range(BROWSERS)]
    (folder / "browsers.json").write_text(json.dumps(browsers))
    common = TEXT | {"ca": str(authority.ca_path)}
    key = {name: known.apns[name] for name in ("key_id", "team_id", "topic")}
    web = {f"vapid_{half}": known.webpush[f"{half}_key"] for half in ("private", "public")}
    return Ground(
        common | key | {"url": f"https://127.0.0.1:{ports['apns']}", "key_file": str(folder / "key.p8")},
        common
        | web
        | {
            "url": others,
            "account": str(folder / "keys" / "fcm.json"),
            "project": known.fcm["project_id"],
            "subject": known.webpush["subject"],
            "subscriptions": str(folder / "browsers.json"),
        },
    )
