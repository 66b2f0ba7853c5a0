"""Makes a file of devices for demos, tests and measurements, as `clarion devices import` reads it.

45 % APNs, 45 % FCM, 10 % Web Push over the sandbox's three origins; a share of them is dead. The same seed
gives the same file. Beside it stands `<file>.dead`, one address a line, for the sandbox to know.

    python -m benchmarks.devices 100000 devices.jsonl

The Web Push addresses are those of the running `clarion dev`, or of the origins given with --webpush.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from clarion.sandbox.webpush import subscription
from clarion.settings import find_stack

SHARES = {"apns": 0.45, "fcm": 0.45, "webpush": 0.10}
LOCALES = ("en-US", "en-GB", "zh-Hant-TW", "zh-Hant-HK", "zh-Hans-CN", "de-DE", "fr-FR", "ja-JP")
ZONES = ("Asia/Taipei", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "UTC")
PHONES = {"apns": ("iPhone17,1", "19.1"), "fcm": ("Pixel 10", "17"), "webpush": ("Chrome", "156")}
PLATFORMS = {"apns": "ios", "fcm": "android", "webpush": "web"}


def provider_of(n: int) -> str:
    """The provider of device n: in every hundred 45, 45 and 10, well mixed."""
    place = n * 37 % 100
    return "apns" if place < 45 else "fcm" if place < 90 else "webpush"


def device(n: int, origins: Sequence[str], seed: int) -> dict[str, Any]:
    """Device n: the fields of an import line."""
    digest = hashlib.sha256(f"{seed}:{n}".encode()).hexdigest()
    provider = provider_of(n)
    model, os_version = PHONES[provider]
    fields: dict[str, Any] = {
        "user_id": f"u{n:08d}",
        "installation": str(UUID(digest[:32])),
        "platform": PLATFORMS[provider],
        "provider": provider,
        "app_version": f"{1 + n % 4}.{n % 10}.0",
        "model": model,
        "os_version": os_version,
        "locale": LOCALES[n % len(LOCALES)],
        "zone": ZONES[n % len(ZONES)],
    }
    if provider == "apns":
        fields["token"] = digest
    elif provider == "fcm":
        fields["token"] = f"{digest[:22]}:APA91b{digest}{digest[:60]}"
    else:
        fields["subscription"] = subscription(n, origins[n % len(origins)])
    return fields


def address(fields: dict[str, Any]) -> str:
    """What the sandbox calls the device: its token, or the last segment of its endpoint."""
    if "subscription" in fields:
        return str(fields["subscription"]["endpoint"]).rsplit("/", 1)[1]
    return str(fields["token"])


def dead_numbers(count: int, share: float, seed: int) -> set[int]:
    """Which devices are dead: exactly `share` of them."""
    return set(random.Random(seed).sample(range(count), round(count * share)))


def lines(count: int, origins: Sequence[str], seed: int) -> Iterator[dict[str, Any]]:
    """All devices, one after another: memory does not grow with the count."""
    for n in range(count):
        yield device(n, origins, seed)


def write(path: Path, count: int, origins: Sequence[str], *, dead: float = 0.02, seed: int = 1) -> int:
    """Write the file and the list of dead addresses beside it. Returns how many are dead."""
    gone = dead_numbers(count, dead, seed)
    with path.open("w", encoding="utf-8") as out, Path(f"{path}.dead").open("w", encoding="utf-8") as graves:
        for n, fields in enumerate(lines(count, origins, seed)):
            out.write(json.dumps(fields, separators=(",", ":")) + "\n")
            if n in gone:
                graves.write(address(fields) + "\n")
    return len(gone)


def main() -> None:
    """Run as a command."""
    words = argparse.ArgumentParser(description="Make a file of devices for the sandbox.")
    words.add_argument("count", type=int)
    words.add_argument("path", type=Path)
    words.add_argument("--webpush", nargs="+", metavar="ORIGIN")
    words.add_argument("--dead", type=float, default=0.02)
    words.add_argument("--seed", type=int, default=1)
    given = words.parse_args()
    sandbox = {} if given.webpush else find_stack().sandbox or {}
    origins = given.webpush or [f"https://127.0.0.1:{port}" for port in sandbox.get("webpush", ())]
    if not origins:
        words.error("this stack has no sandbox: name Web Push origins with --webpush")
    dead = write(given.path, given.count, origins, dead=given.dead, seed=given.seed)
    if sandbox and dead:
        graves = Path(f"{given.path}.dead").read_bytes()
        url = f"http://127.0.0.1:{sandbox['control']}/dead"
        httpx.post(url, content=graves, headers={"content-type": "text/plain"}, timeout=60).raise_for_status()
    print(f"{given.count} devices, {dead} of them dead: {given.path}")


if __name__ == "__main__":
    main()
