"""The table of the drill, and its last line: what each way took, or why it has nothing to take."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

BAR = 2.0  # seconds, for the answer and for the obedience alike
WIDTH = 26


@dataclass(frozen=True)
class Cell:
    """One story by one way: seconds until it was acknowledged and until it was obeyed, or words.

    `fault`: it failed, and how. `reason`: this way has no such word, and why.
    """

    acknowledged: float = 0.0
    obeyed: float = 0.0
    audit: str = ""  # way and actor of its one row
    fault: str | None = None
    reason: str | None = None

    @property
    def tried(self) -> bool:
        """Whether this way has such a word."""
        return self.reason is None

    @property
    def holds(self) -> bool:
        """Acknowledged and obeyed within the bar."""
        return self.fault is None and max(self.acknowledged, self.obeyed) <= BAR

    def lines(self) -> list[str]:
        """As it stands in the table."""
        if self.reason is not None:
            return textwrap.wrap(f"– {self.reason}", WIDTH)
        if self.fault is not None:
            return ["FAILED (see below)"]
        slow = "" if self.holds else "  SLOW"
        return [f"{self.acknowledged:.2f} / {self.obeyed:.2f} s{slow}", *([self.audit] if self.audit else [])]


Row = tuple[str, Sequence[Cell]]


def table(ways: Sequence[str], rows: Sequence[Row]) -> str:
    """A row for each story: acknowledged / obeyed, and under it what the audit says."""
    lines = [
        _line("", ways),
        _line("", ["acknowledged / obeyed"] * len(ways)),
        "─" * (22 + WIDTH * len(ways)),
    ]
    for story, cells in rows:
        columns = [cell.lines() for cell in cells]
        for n in range(max(len(column) for column in columns)):
            parts = [column[n] if n < len(column) else "" for column in columns]
            lines.append(_line(story if n == 0 else "", parts))
    return "\n".join(lines)


def _line(story: str, parts: Sequence[str]) -> str:
    return (f"{story:<22}" + "".join(f"{part:<{WIDTH + 2}}" for part in parts)).rstrip()


def faults(ways: Sequence[str], rows: Sequence[Row]) -> list[str]:
    """What failed, in words."""
    return [
        f"{story}, {way}: {cell.fault}"
        for story, cells in rows
        for way, cell in zip(ways, cells, strict=True)
        if cell.fault is not None
    ]


def verdict(rows: Sequence[Row], others_failed: int = 0) -> tuple[str, bool]:
    """The last line, and whether all held. `others_failed`: of what is no story."""
    tried = [cell for _, cells in rows for cell in cells if cell.tried]
    failed = sum(not cell.holds for cell in tried) + others_failed
    slowest = max((max(cell.acknowledged, cell.obeyed) for cell in tried if cell.fault is None), default=0.0)
    line = f"drill: stories={len(rows)} ways={len(tried)} failed={failed} slowest={slowest:.2f}s"
    return line, failed == 0
