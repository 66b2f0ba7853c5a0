"""CPU per Web Push delivery: encryption alone, and the whole sender against the sandbox, beside pywebpush.

    python -m benchmarks.webpush [--messages 20000] [--rounds 5] [--origins 3] [--bytes 200]

Encryption is measured in this process, a few hundred messages of each kind in turn. The sender and
pywebpush (one session, so that it keeps its connections) are processes of their own on one core, the sandbox
is on another where there are two. Figures are CPU seconds (user and system) per message after a warm-up,
medians of interleaved rounds; never the wall clock.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast
from urllib.request import Request, urlopen

import http_ece
import pywebpush
import requests
import uvloop
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from clarion.model.message import Message, Text
from clarion.sandbox.webpush import subscription
from clarion.seal import Seal
from clarion.senders.link import Surroundings
from clarion.senders.outcome import ACCEPTED, Outcome
from clarion.senders.sender import PushFacts, Sender
from clarion.senders.webpush import WebPushSender
from clarion.senders.webpush_crypto import encrypt
from clarion.store import address, credential_check
from clarion.store.base64url import decode_base64
from clarion.store.credentials import Credential
from clarion.store.database import Database

MALLOC: Final = {"MALLOC_MMAP_THRESHOLD_": "4194304", "MALLOC_TRIM_THRESHOLD_": "16777216"}
SLOW: Final = 20  # the peer sends so many times fewer messages: a figure per message needs no more
SUBJECT: Final = "mailto:push@clarion.example"
STREAMS: Final = 100  # what the large services allow on a connection


def cpu(what: Callable[[], object], times: int) -> float:
    """Microseconds of CPU that one call takes."""
    began = time.process_time()
    for _ in range(times):
        what()
    return (time.process_time() - began) / times * 1e6


def encryption(size: int, rounds: int) -> dict[str, float]:
    """One message of `size` bytes for one browser, by each of the three."""
    browser = subscription(1, "https://push.example")
    keys = {name: cast(bytes, decode_base64(text)) for name, text in browser["keys"].items()}
    text = os.urandom(size)
    peer = pywebpush.WebPusher(browser)

    def ece() -> object:
        return http_ece.encrypt(
            text,
            private_key=generate_private_key(SECP256R1()),
            dh=keys["p256dh"],
            auth_secret=keys["auth"],
        )

    kinds: dict[str, Callable[[], object]] = {
        "clarion": lambda: encrypt(text, keys["p256dh"], keys["auth"]),
        "http_ece.encrypt": ece,
        "pywebpush.encode": lambda: peer.encode(text),
    }
    taken: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(4 * rounds):
        for name, kind in kinds.items():
            taken[name].append(cpu(kind, 200))
    return {name: statistics.median(values) for name, values in taken.items()}


# ── whole senders: each in a process of its own ───────────────────────────────────────────────────────


class Run:
    """One sender that hands a list of deliveries to the sandbox."""

    def __init__(self, sender: Sender, tokens: Sequence[str], message: Message) -> None:
        self._sender, self._tokens = sender, tokens
        self._prepared = sender.prepare(PushFacts(1, "p", "app", "bench", high=False, deadline=None), message)
        self._posted = self._told = self._refused = 0
        self._done = asyncio.Event()

    async def all(self) -> int:
        """Send to all; how many were not accepted."""
        stop = self._sender.when_room(self._pump)
        self._pump()
        await self._done.wait()
        stop()
        return self._refused

    def _pump(self) -> None:
        sender, posted = self._sender, self._posted
        self._posted += min(sender.room(), len(self._tokens) - posted)
        for key in range(posted, self._posted):
            sender.post(self._prepared, key, key, self._tokens[key], "", 0, None, self._answered)
        sender.flush()

    def _answered(self, key: int, outcome: Outcome) -> None:
        self._told += 1
        self._refused += outcome is not ACCEPTED
        if self._told == len(self._tokens):
            self._done.set()


async def send_ours(task: dict[str, Any]) -> dict[str, float]:
    """The sender as it is."""
    secret = credential_check.webpush(subject=SUBJECT).secret
    settings = {"ca": task["ca"], "allow": ["127.0.0.0/8"]}
    credential = Credential(1, 1, "web", "webpush", None, None, None, settings, float("inf"), 1, dict(secret))
    sender = WebPushSender(credential, Surroundings(cast(Database, None), Seal([b"k" * 32])))
    message = Message(texts={"default": Text(title="Hello", body="x" * task["bytes"])})
    tokens = [address.from_subscription(one) for one in browsers(task)]
    warm = len(tokens) // 10
    await Run(sender, tokens[:warm], message).all()
    began, wall = time.process_time(), time.monotonic()
    refused = await Run(sender, tokens[warm:], message).all()
    result = figures(began, wall, len(tokens) - warm, refused)
    await sender.close()
    return result


def send_pywebpush(task: dict[str, Any]) -> dict[str, float]:
    """pywebpush, as its documentation shows it, with a session."""
    key = credential_check.webpush(subject=SUBJECT).secret["private_key"]
    session = requests.Session()
    session.trust_env, session.verify = False, task["ca_path"]
    text = json.dumps({"title": "Hello", "body": "x" * task["bytes"]})
    everybody = browsers(task)
    everybody = everybody[: max(len(everybody) // SLOW, 20)]
    warm, refused = len(everybody) // 10, 0
    for place, one in enumerate(everybody):
        if place == warm:
            began, wall = time.process_time(), time.monotonic()
        answer = pywebpush.webpush(
            one, text, key, {"sub": SUBJECT}, ttl=60, requests_session=session, timeout=10
        )
        refused += cast(requests.Response, answer).status_code != 201
    return figures(began, wall, len(everybody) - warm, refused)


def browsers(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The subscriptions of a task, over its origins in turn."""
    origins = [f"https://127.0.0.1:{port}" for port in task["origins"]]
    return [subscription(n, origins[n % len(origins)]) for n in range(task["messages"])]


def figures(began: float, wall: float, messages: int, refused: int) -> dict[str, float]:
    """What a run says of itself."""
    return {
        "cpu_us": (time.process_time() - began) / messages * 1e6,
        "rate": messages / (time.monotonic() - wall),
        "refused": refused,
    }


def in_a_process(kind: str, task: dict[str, Any]) -> dict[str, float]:
    """One run in a process of its own, on the first core."""
    command = [sys.executable, "-m", "benchmarks.webpush", "--child", kind]
    child = subprocess.run(
        command, input=json.dumps(task), capture_output=True, text=True, check=True, env=os.environ | MALLOC
    )
    return dict(json.loads(child.stdout))


def child(kind: str) -> None:
    """What such a process does."""
    pin(0)
    task = json.load(sys.stdin)
    print(json.dumps(uvloop.run(send_ours(task)) if kind == "clarion" else send_pywebpush(task)))


def pin(core: int) -> None:
    """Stay on one core, where that can be asked for and there is another one for the rest."""
    with suppress(AttributeError, OSError):
        if len(os.sched_getaffinity(0)) > 1:
            os.sched_setaffinity(0, {sorted(os.sched_getaffinity(0))[core]})


def senders(arguments: argparse.Namespace, home: str) -> dict[str, dict[str, float]]:
    """Both senders against a sandbox that does not decrypt, so that it is not what is measured."""
    sandbox = subprocess.Popen(
        [sys.executable, "-m", "clarion.sandbox", "--data", home],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | MALLOC,
        preexec_fn=lambda: pin(1),
    )
    try:
        assert sandbox.stdout is not None
        facts = json.loads(sandbox.stdout.readline())
        wanted = json.dumps({"decrypt": 0.0, "webpush_streams": STREAMS}).encode()
        urlopen(Request(f"http://127.0.0.1:{facts['control']}/settings", wanted)).close()
        task = {
            "origins": facts["webpush"][: arguments.origins],
            "ca": Path(facts["ca"]).read_text(),
            "ca_path": facts["ca"],
            "messages": arguments.messages,
            "bytes": arguments.bytes,
        }
        runs: dict[str, list[dict[str, float]]] = {"clarion": [], "pywebpush": []}
        for _ in range(arguments.rounds):
            for kind, taken in runs.items():
                taken.append(in_a_process(kind, task))
    finally:
        sandbox.terminate()
        sandbox.wait()
    return {
        kind: {name: statistics.median(r[name] for r in taken) for name in taken[0]}
        for kind, taken in runs.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--messages", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--origins", type=int, default=3)
    parser.add_argument("--bytes", type=int, default=200)
    parser.add_argument("--child", choices=("clarion", "pywebpush"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        child(arguments.child)
        return
    print("encryption alone, µs of CPU a message")
    for name, value in encryption(arguments.bytes, arguments.rounds).items():
        print(f"  {name:20}{value:10.1f}")
    print("a delivery, µs of CPU and deliveries a second of one process")
    with tempfile.TemporaryDirectory() as home:
        for name, run in senders(arguments, home).items():
            print(f"  {name:20}{run['cpu_us']:10.1f}{run['rate']:12.0f}   not accepted: {run['refused']:.0f}")


if __name__ == "__main__":
    main()
