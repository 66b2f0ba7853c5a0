"""Waiting for something that happens elsewhere, in another process."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable


async def eventually(
    condition: Callable[[], bool], what: str = "the condition holds", *, seconds: float = 20.0
) -> None:
    """Wait until the condition holds; AssertionError, naming it, when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {what}")
        await asyncio.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether a process of this number is there (also as a zombie)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
