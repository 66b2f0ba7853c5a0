"""Makes a file of devices for demos, tests and measurements, as `clarion devices import` reads it.

45 % APNs, 45 % FCM, 10 % Web Push over the sandbox's three origins, or half of that and half vendors (`all`);
a share of them is dead. The same seed gives the same file. Beside it stands `<file>.dead`, an address a line,
for the sandbox to know.

    python -m benchmarks.devices 100000 devices.jsonl

The Web Push addresses are those of the running `clarion dev`, or of the origins given with --webpush.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from clarion.sandbox.webpush import subscription
from clarion.settings import find_stack

THREE = {"apns": 45, "fcm": 45, "webpush": 10}
EVERY = {
    "apns": 20,
    "fcm": 20,
    "webpush": 5,
    "hms": 10,
    "xiaomi": 10,
    "oppo": 9,
    "vivo": 8,
    "jpush": 4,
    "getui": 4,
    "umeng": 4,
    "honor": 3,
    "meizu": 3,
}
MIXES = {"three": THREE, "all": EVERY}  # devices in every hundred
LOCALES = ("en-US", "en-GB", "zh-Hant-TW", "zh-Hant-HK", "zh-Hans-CN", "de-DE", "fr-FR", "ja-JP")
ZONES = ("Asia/Taipei", "Europe/Berlin", "America/New_York", "Asia/Tokyo", "UTC")
PHONES = {
    "apns": ("iPhone17,1", "19.1"),
    "fcm": ("Pixel 10", "17"),
    "webpush": ("Chrome", "156"),
    "hms": ("HUAWEI Mate 80", "6.0"),
    "xiaomi": ("Xiaomi 17", "3"),
    "oppo": ("OPPO Find X9", "16"),
    "vivo": ("vivo X300", "6"),
    "jpush": ("realme GT8", "16"),
    "getui": ("OnePlus 15", "16"),
    "umeng": ("nubia Z80", "16"),
    "honor": ("HONOR Magic8", "10"),
    "meizu": ("MEIZU 22", "12"),
}
PLATFORMS = {"apns": "ios", "webpush": "web"}  # the others are Android


def deal(mix: Mapping[str, int]) -> list[str]:
    """The providers of a hundred devices in a row, well mixed."""
    places = [provider for provider, share in mix.items() for _ in range(share)]
    return [places[n * 37 % 100] for n in range(100)]


def device(n: int, origins: Sequence[str], seed: int, provider: str) -> dict[str, Any]:
    """Device n: the fields of an import line."""
    digest = hashlib.sha256(f"{seed}:{n}".encode()).hexdigest()
    model, os_version = PHONES[provider]
    fields: dict[str, Any] = {
        "user_id": f"u{n:08d}",
        "installation": str(UUID(digest[:32])),
        "platform": PLATFORMS.get(provider, "android"),
        "provider": provider,
        "app_version": f"{1 + n % 4}.{n % 10}.0",
        "model": model,
        "os_version": os_version,
        "locale": LOCALES[n % len(LOCALES)],
        "zone": ZONES[n % len(ZONES)],
    }
    if provider == "webpush":
        fields["subscription"] = subscription(n, origins[n % len(origins)])
    else:
        fields["token"] = registration(provider, n, digest)
    return fields


def registration(provider: str, n: int, digest: str) -> str:
    """An address as this provider's phones get them."""
    match provider:
        case "apns":
            return digest
        case "fcm":
            return f"{digest[:22]}:APA91b{digest}{digest[:60]}"
        case "hms":
            return f"IQAAAA{digest}{digest[:56]}"
        case "xiaomi":
            return f"{digest[:32]}+aZ/{digest[32:56]}=="
        case "oppo":
            return f"OPPO_CN_{digest[:32]}"
        case "vivo":
            return f"{n:023d}"
        case "jpush":
            return f"1a0018970a{n:09d}"
        case "getui":
            return digest[:32]
        case "umeng":
            return f"Ak{n:042d}"
        case "honor":
            return f"{n:020d}-BAEN_{digest[:60]}"
        case "meizu":
            return f"S5Q{n:029d}"
    raise ValueError(f"no addresses are known of {provider}")


def address(fields: dict[str, Any]) -> str:
    """What the sandbox calls the device: its token, or the last segment of its endpoint."""
    if "subscription" in fields:
        return str(fields["subscription"]["endpoint"]).rsplit("/", 1)[1]
    return str(fields["token"])


def dead_numbers(count: int, share: float, seed: int) -> set[int]:
    """Which devices are dead: exactly `share` of them."""
    return set(random.Random(seed).sample(range(count), round(count * share)))


def lines(
    count: int, origins: Sequence[str], seed: int, mix: Mapping[str, int] = THREE
) -> Iterator[dict[str, Any]]:
    """All devices, one after another: memory does not grow with the count."""
    providers = deal(mix)
    for n in range(count):
        yield device(n, origins, seed, providers[n % 100])


def write(
    path: Path,
    count: int,
    origins: Sequence[str],
    *,
    dead: float = 0.02,
    seed: int = 1,
    mix: Mapping[str, int] = THREE,
) -> int:
    """Write the file and the list of dead addresses beside it. Returns how many are dead."""
    gone = dead_numbers(count, dead, seed)
    with path.open("w", encoding="utf-8") as out, Path(f"{path}.dead").open("w", encoding="utf-8") as graves:
        for n, fields in enumerate(lines(count, origins, seed, mix)):
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
