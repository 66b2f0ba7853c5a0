"""The three races: APNs, FCM and Web Push, each against the clients that people use for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from benchmarks.bench.clients import Client, go, java, node, python
from benchmarks.bench.figures import Results
from benchmarks.bench.race import FULL, OURS, Ground, Race

PUSHY_WARM_UP: Final = 600_000  # its code is compiled while it runs: before that it takes three times as much
PEERS: Final = "benchmarks.peers"
OURSELVES: Final = "benchmarks.bench.ours"

CLIENTS: Final[dict[str, Sequence[Client]]] = {
    "apns": (
        Client(OURS, python(OURSELVES, "apns"), 1.0, 1_000),
        Client("pushy", java("PushyPeer"), 1.0, 1_000, PUSHY_WARM_UP),
        Client("apns2", go("go", "./apns2"), 0.3, 200),
        Client("node-apn", node("node-apn.js"), 0.2, 500),
        Client("aioapns", python(f"{PEERS}.aioapns_peer"), 0.05, 500),
        Client("httpx", python(f"{PEERS}.httpx_peer"), 0.01, 100),
    ),
    "fcm": (
        Client(OURS, python(OURSELVES, "fcm"), 1.0, 400),
        Client("firebase-admin", python(f"{PEERS}.firebase_peer", "threads"), 0.01, 500),
        Client("firebase-admin async", python(f"{PEERS}.firebase_peer", "async"), 0.01, 500),
        Client("firebase-go", go("firebase-go", "."), 0.1, 100),
    ),
    "webpush": (
        Client(OURS, python(OURSELVES, "webpush"), 0.1, 100),
        Client("webpush-go", go("go", "./webpush"), 0.1, 100),
        Client("web-push", node("web-push.js"), 0.02, 100),
        Client("pywebpush", python(f"{PEERS}.pywebpush_peer"), 0.01, 1),
    ),
}


def run(
    kind: str,
    ground: Ground,
    results: Results,
    *,
    requests: int = FULL,
    rounds: int = 3,
    only: Collection[str] = (),
) -> None:
    """One race, of all clients or of ours and those named."""
    clients = [client for client in CLIENTS[kind] if not only or client.name in (OURS, *only)]
    race = Race(kind, requests, rounds, clients)
    race.run(ground.apns if kind == "apns" else ground.others)
    race.tell(results)
    if kind == "apns":
        results.values["apns: clarion, one core"] = 1e6 / race.median(OURS)
    if kind == "fcm":
        _cheaper(results)


def _cheaper(results: Results) -> None:
    """firebase-admin has two ways to send many: the one that costs less stands for it."""
    way = "fcm: firebase-admin async / clarion"
    other = results.values.pop(way, None)
    name = "fcm: firebase-admin / clarion"
    if other is not None and name in results.values:
        results.values[name] = min(results.values[name], other)
