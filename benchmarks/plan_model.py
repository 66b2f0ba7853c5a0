"""What an audience of any size becomes: computed by the planning code, checked against sizes that ran."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil

from clarion import limits
from clarion.store.push import cut


@dataclass(frozen=True)
class Planned:
    """Ranges and batches of an audience with one lane and a phone a user."""

    deliveries: int
    ranges: int
    batches: int

    @classmethod
    def of(cls, deliveries: int) -> Planned:
        """As `plan` and `freeze` cut it."""
        size = limits.batch_size(deliveries, high=False)
        spans = cut(1, deliveries + 1, deliveries)
        return cls(deliveries, len(spans), sum(ceil((last - first) / size) for first, last in spans))


@dataclass(frozen=True)
class Seen:
    """One size that ran."""

    deliveries: int
    batches: int
    runs: int  # of workflows
    events: int
    ledger_bytes: float  # a delivery


@dataclass(frozen=True)
class Model:
    """What a batch costs, from the sizes that ran; the largest weighs most where the small ones differ."""

    seen: Sequence[Seen]

    def check(self) -> list[str]:
        """Planned and seen batches of every size, a line each."""
        return [
            f"{one.deliveries:,}: {Planned.of(one.deliveries).batches:,} batches planned, "
            f"{one.batches:,} seen"
            for one in self.seen
        ]

    @property
    def holds(self) -> bool:
        """Whether the plan told the batches of every size exactly."""
        return all(Planned.of(one.deliveries).batches == one.batches for one in self.seen)

    def forecast(self, deliveries: int) -> str:
        """One line about a size that did not run."""
        planned, largest = Planned.of(deliveries), max(self.seen, key=lambda one: one.deliveries)
        events = planned.batches * largest.events / largest.batches
        runs = planned.batches * largest.runs / largest.batches
        size = deliveries * statistics.median(one.ledger_bytes for one in self.seen)
        return (
            f"{deliveries:,}: {planned.ranges:,} ranges, {planned.batches:,} batches, about {runs:,.0f} "
            f"workflow runs, {events:,.0f} events, {size / 1e9:.1f} GB of ledger"
        )
