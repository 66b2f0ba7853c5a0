"""What the peers in Python have in common: the task, the clock, the line that is printed."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any


def read_task() -> dict[str, Any]:
    """The task, from standard input."""
    return dict(json.load(sys.stdin))


async def measure(task: dict[str, Any], send: Callable[[int], Awaitable[int]]) -> None:
    """Warm up, send, print. `send` takes how many and returns how many failed."""
    await send(task["warm"])
    began, used = time.monotonic(), time.process_time()
    failures = await send(task["requests"])
    _print(task["requests"], time.process_time() - used, time.monotonic() - began, failures)


def measure_blocking(task: dict[str, Any], send: Callable[[int], int]) -> None:
    """The same for a client that blocks."""
    send(task["warm"])
    began, used = time.monotonic(), time.process_time()
    failures = send(task["requests"])
    _print(task["requests"], time.process_time() - used, time.monotonic() - began, failures)


def _print(count: int, used: float, seconds: float, failures: int) -> None:
    print(json.dumps({"cpu_us": used / count * 1e6, "rate": count / seconds, "failures": failures}))
