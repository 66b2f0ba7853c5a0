"""One of the senders whose requests carry many, against its simulator: what a delivery costs.

    python -m benchmarks.bench.vendor PROVIDER    (the task on standard input)

The product's lane as a worker process has it: its authorization is in PostgreSQL, its answers are read, each
delivery gets its outcome. The simulator is strict, and another process on the other core.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.devices import registration
from benchmarks.webpush import Run
from clarion.model.message import Classification, Message, Text
from clarion.seal import Seal
from clarion.senders.lanes import Lanes
from clarion.store import apps, credentials
from clarion.store.database import Database
from tests.support.vendors import CHECKS

SEAL = Seal([b"k" * 32])


async def lane_of(db: Database, provider: str, task: dict[str, Any]) -> tuple[int, int]:
    """An app with this one credential: its number, and the lane's."""
    said = json.loads((Path(task["credentials"]) / f"{provider}.json").read_text())
    new = credentials.new_vendor(
        provider,
        provider,
        CHECKS[provider](**said),
        endpoint=f"https://127.0.0.1:{task['ports'][provider]}",
        settings={"ca": Path(task["ca"]).read_text()},
    )
    app = await apps.create(db, f"{provider}-{time.time_ns()}")
    return app.app_no, await credentials.add(db, SEAL, app.app_no, new)


def addresses(provider: str, count: int) -> list[str]:
    """Registrations as this provider's phones get them."""
    digests = (hashlib.sha256(f"{n}".encode()).hexdigest() for n in range(count))
    return [registration(provider, n, digest) for n, digest in enumerate(digests)]


async def race(provider: str, task: dict[str, Any]) -> dict[str, float]:
    """Warm up, send, and say what it cost."""
    db = await Database.connect(task["database"], max_size=4)
    lanes = Lanes(db, SEAL)
    sender = await lanes.get(*await lane_of(db, provider, task))
    texts = {"default": Text(title=task["title"], body=task["body"])}
    message = Message(texts=texts, classification=Classification.SERVICE)  # marketing waits for the morning
    everybody = addresses(provider, task["requests"])
    await Run(sender, everybody[: task["warm"]], message).all()
    began, used = time.monotonic(), time.process_time()
    refused = await Run(sender, everybody, message).all()
    used, seconds = time.process_time() - used, time.monotonic() - began
    await lanes.close()
    await db.close()
    count = task["requests"]
    return {"cpu_us": used / count * 1e6, "rate": count / seconds, "failures": refused}


if __name__ == "__main__":
    print(json.dumps(uvloop.run(race(sys.argv[1], json.load(sys.stdin)))))
