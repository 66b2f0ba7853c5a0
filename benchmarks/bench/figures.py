"""The figures that `make bench` owes, their bars, and whether a run has kept them.

A bar is a bound of the design (docs/performance.md says where each comes from). A figure that is missing, or
whose bar is, fails the run; a bar that is missed is shown with its factor and fails nothing: it is what the
run is there to show. A peer whose toolchain is not on the machine is excused, with the reason.
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Bar:
    """A bound: at least, or at most, `bound` of the unit."""

    bound: float
    at_most: bool = False

    def holds(self, value: float) -> bool:
        """Whether the value keeps it."""
        return value <= self.bound if self.at_most else value >= self.bound

    def factor(self, value: float) -> float:
        """How many times over (at most) or short (at least) the value is: above 1 is missed."""
        over, under = (value, self.bound) if self.at_most else (self.bound, value)
        return over / under if under else math.inf

    def __str__(self) -> str:
        return f"{'≤' if self.at_most else '≥'} {self.bound:,.6g}"


def least(bound: float) -> Bar:
    """At least so much."""
    return Bar(bound)


def most(bound: float) -> Bar:
    """At most so much."""
    return Bar(bound, at_most=True)


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure that is owed by a part of the run."""

    part: str
    name: str
    unit: str
    bar: Bar | None  # none is a mistake that the run finds


VENDORS: Final = ("hms", "xiaomi", "oppo", "vivo", "jpush", "getui", "umeng", "honor", "meizu")

FIGURES: Final = (
    Figure("apns", "apns: clarion, one core", "requests/s", least(60_000)),
    Figure("apns", "apns: pushy / clarion", "× CPU", least(1)),
    Figure("apns", "apns: apns2 / clarion", "× CPU", least(1)),
    Figure("apns", "apns: node-apn / clarion", "× CPU", least(1)),
    Figure("apns", "apns: aioapns / clarion", "× CPU", least(1)),
    Figure("apns", "apns: httpx / clarion", "× CPU", least(1)),
    Figure("fcm", "fcm: firebase-admin / clarion", "× CPU", least(40)),
    Figure("fcm", "fcm: firebase-go / clarion", "× CPU", least(4)),
    Figure("webpush", "webpush: pywebpush / clarion", "× CPU", least(6)),
    Figure("webpush", "webpush: web-push / clarion", "× CPU", least(5.5)),
    Figure("webpush", "webpush: webpush-go / clarion", "× CPU", least(1)),
    *(Figure("vendors", f"{name}: clarion, one core", "deliveries/s", least(30_000)) for name in VENDORS),
    Figure("ledger", "ledger: freeze, two ranges at a time", "rows/s", least(200_000)),
    Figure("ledger", "ledger: PostgreSQL while sending", "CPU µs/delivery", most(12)),
    Figure("pipeline", "pipeline: two senders", "deliveries/s", least(20_000)),
    Figure("pipeline", "pipeline: one sender", "deliveries/s", least(20_000)),
    Figure("pipeline", "pipeline: APNs and FCM", "deliveries/s", least(30_000)),
    Figure("pipeline", "pipeline: CPU, all processes", "µs/delivery", most(70)),
    Figure("pipeline", "pipeline: CPU, APNs and FCM", "µs/delivery", most(45)),
    Figure("pipeline", "pipeline: CPU of senders, APNs", "µs/delivery", most(15)),
    Figure("pipeline", "temporal: actions a million", "actions", most(450)),
    Figure("pipeline", "temporal: actions a million, 3 % retried", "actions", most(600)),
    Figure("pipeline", "temporal: events a million", "events", most(4_096)),
    Figure("pipeline", "temporal: events a million, 3 % retried", "events", most(4_096)),
    Figure("pipeline", "temporal: longest history", "events", most(4_096)),
    Figure("pipeline", "memory: sender, 100 k", "MB", most(200)),
    Figure("pipeline", "memory: sender, 1 M", "MB", most(200)),
    Figure("pipeline", "memory: sender, 1 M / 100 k", "×", most(1.1)),
    Figure("pipeline", "memory: control, 100 k", "MB", most(200)),
    Figure("pipeline", "memory: control, 1 M", "MB", most(200)),
    Figure("pipeline", "memory: control, 1 M / 100 k", "×", most(1.1)),
    Figure("stop", "stop: full speed", "s", most(2)),
    Figure("stop", "stop: 10/s", "s", most(2)),
    Figure("stop", "stop: slow answers", "s", most(2)),
)


@dataclass(slots=True)
class Results:
    """What a run has seen so far: values, excuses, and lines for whoever wants to know more."""

    values: dict[str, float] = field(default_factory=dict)
    excuses: dict[str, str] = field(default_factory=dict)
    details: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Row:
    """A figure with what became of it."""

    figure: Figure
    value: float | None
    excuse: str | None

    @property
    def holds(self) -> bool | None:
        """Whether the bar is kept; None when that cannot be said."""
        if self.value is None or self.figure.bar is None:
            return None
        return self.figure.bar.holds(self.value)

    @property
    def verdict(self) -> str:
        """The last column of the table."""
        if self.figure.bar is None:
            return "NO BAR"
        if self.value is None:
            return f"not there: {self.excuse}" if self.excuse else "MISSING"
        if self.holds:
            return "holds"
        return f"missed, by a factor of {self.figure.bar.factor(self.value):.2f}"

    @property
    def fault(self) -> str | None:
        """Why this row fails the run, if it does."""
        if self.figure.bar is None:
            return f"{self.figure.name}: there is no bar"
        if self.value is None and not self.excuse:
            return f"{self.figure.name}: the figure is missing"
        return None

    def as_json(self) -> dict[str, Any]:
        """As it stands in results.json; the bar is its bound, the words say in which direction."""
        bar = self.figure.bar
        return {
            "name": self.figure.name,
            "value": self.value,
            "unit": self.figure.unit,
            "bar": None if bar is None else str(bar),
            "holds": self.holds,
        }


def rows(results: Results, parts: Collection[str], figures: Sequence[Figure] = FIGURES) -> list[Row]:
    """The rows of the chosen parts; a value that is no finite number is missing."""
    return [
        Row(figure, _finite(results.values, figure.name), results.excuses.get(figure.name))
        for figure in figures
        if figure.part in parts
    ]


def _finite(values: Mapping[str, float], name: str) -> float | None:
    value = values.get(name)
    return value if value is not None and math.isfinite(value) else None


def unknown(results: Results, figures: Sequence[Figure] = FIGURES) -> list[str]:
    """Values that nobody asked for: a figure whose name was changed in one place only."""
    names = {figure.name for figure in figures}
    return sorted(name for name in (*results.values, *results.excuses) if name not in names)


def table(rows: Iterable[Row]) -> str:
    """The rows as text, a line each."""
    lines = [("figure", "value", "unit", "bar", "")]
    for row in rows:
        value = (
            "–" if row.value is None else f"{row.value:,.4g}" if row.value < 1_000 else f"{row.value:,.0f}"
        )
        bar = "–" if row.figure.bar is None else str(row.figure.bar)
        lines.append((row.figure.name, value, row.figure.unit, bar, row.verdict))
    widths = [max(len(line[column]) for line in lines) for column in range(4)]
    return "\n".join(
        f"{name:{widths[0]}}  {value:>{widths[1]}}  {unit:{widths[2]}}  {bar:{widths[3]}}  {verdict}".rstrip()
        for name, value, unit, bar, verdict in lines
    )


def write(path: Path, rows: Iterable[Row]) -> None:
    """results.json."""
    path.write_text(json.dumps([row.as_json() for row in rows], indent=1, ensure_ascii=False) + "\n")
