"""What the providers' log says of a word: pure functions over its lines.

All times are seconds since the word was asked. The log is the sandbox's: nothing of the engine is in it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

SLOW_ENOUGH = 1.25  # times the pace that a second may have: permits come in pieces
STEP = 0.1

Entries = Sequence[Mapping[str, Any]]


def last(entries: Iterable[Mapping[str, Any]], asked: float) -> float:
    """When the last of these requests came; 0 when none came later than the word."""
    return max((entry["t"] - asked for entry in entries if entry["t"] > asked), default=0.0)


def first(entries: Iterable[Mapping[str, Any]], asked: float) -> float | None:
    """When the first request after the word came; None: none did."""
    return min((entry["t"] - asked for entry in entries if entry["t"] >= asked), default=None)


def with_content(entries: Entries, content: str) -> list[Mapping[str, Any]]:
    """Those that carry this content, as the log names it."""
    return [entry for entry in entries if entry["content"] == content]


def slowed(entries: Entries, asked: float, pace: float, until: float) -> float | None:
    """From when on no second has more requests than the pace allows, and each about as many.

    `until`: up to when the log is complete. None: the last whole second still has another rate.
    """
    moments = [entry["t"] - asked for entry in entries]
    settled: float | None = None
    for step in range(int((until - asked - 1.0) / STEP + 1e-6) + 1):
        start = step * STEP
        count = sum(start <= moment < start + 1.0 for moment in moments)
        if not 0.5 * pace <= count <= SLOW_ENOUGH * pace:
            settled = None
        elif settled is None:
            settled = start
    return settled


def begun(entries: Entries, batches: Mapping[str, int], asked: float) -> float:
    """When the last batch began that had no request before the word; 0 when none did."""
    began: dict[int, float] = {}
    for entry in entries:
        batch = batches[entry["token"]]
        began[batch] = min(began.get(batch, entry["t"]), entry["t"])
    return max((moment - asked for moment in began.values() if moment > asked), default=0.0)
