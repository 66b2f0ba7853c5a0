"""Which worker processes the stack on one machine has, and what each is given (design: Processes)."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from clarion import names
from clarion.settings import Stack
from clarion.store.credentials import PROVIDERS
from workers.embedded.child import Child
from workers.embedded.keeper import Process

ROOT: Final = Path(__file__).resolve().parents[2]

# A sender's buffers are large and short-lived: with malloc's own thresholds every one is mapped and given
# back, 18 to 24 microseconds a request instead of 8.
SENDER_MALLOC: Final = {"MALLOC_MMAP_THRESHOLD_": "4194304", "MALLOC_TRIM_THRESHOLD_": "16777216"}


def queues_of(senders: int) -> dict[str, list[str]]:
    """The processes by name, each with the queues that it serves.

    Few lanes in a process mean large statements: its window is shared by the lanes it serves, and a STEP of
    500 outcomes costs PostgreSQL and asyncpg a quarter less a row than one of 170. So providers are dealt to
    the processes, and a process serves several only when there are fewer processes than providers.
    """
    normal: list[list[str]] = [[] for _ in range(senders)]
    for turn in range(max(senders, len(PROVIDERS))):
        normal[turn % senders].append(names.send_queue(PROVIDERS[turn % len(PROVIDERS)]))
    high = [names.send_queue(provider, high=True) for provider in PROVIDERS]
    return {
        "control": [names.CONTROL_QUEUE, names.OPS_QUEUE, names.BULK_QUEUE],
        **{f"sender-{number}": queues for number, queues in enumerate(normal, start=1)},
        "sender-high": high,
    }


def base_environment() -> dict[str, str]:
    """What every child of ours inherits: our packages first, and no client configuration of the user's.

    A profile or an API key of another Temporal would send the workers there, or turn TLS on.
    """
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("TEMPORAL_", "CLARION_"))
    }
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return kept | {"PYTHONPATH": os.pathsep.join(path), "PYTHONUNBUFFERED": "1"}


def worker(name: str, queues: list[str], stack: Stack, key: Mapping[str, str], log: Path) -> Process:
    """One worker process. Secrets travel in the environment: a command line is for everybody to read."""
    environment = base_environment() | {
        "CLARION_DATABASE_URL": stack.database_url or "",
        "CLARION_METRICS_PORT": str(stack.metrics[name]),
        "CLARION_PROCESS": name,
        "TEMPORAL_ADDRESS": stack.temporal_address or "",
        "TEMPORAL_NAMESPACE": stack.namespace or "",
        **key,
    }
    if any(queue.startswith("send-") for queue in queues):
        environment |= SENDER_MALLOC
    return Process(Child(name, [sys.executable, "-P", "-m", "workers", *queues], log=log, env=environment))
