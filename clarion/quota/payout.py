"""From rates deserved to rates paid out: cuts act at once, raises come from what nobody may be using.

A process goes by its old rates until it has read new ones, and says with its next ask which it goes by.
Until then the dealer reckons with the larger of the two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from math import inf
from typing import NamedTuple

from clarion.quota.ask import Limits, Pair, Share
from clarion.quota.share import names_of


class Dealt(NamedTuple):
    """Rates that were written for a process, and the number of that deal."""

    number: int
    rates: dict[Pair, float]


def in_use(deals: Iterable[Dealt], read: int) -> list[Dealt]:
    """The deals that a process may be going by: those whose successor it does not go by yet."""
    deals = list(deals)
    followers = [deal.number for deal in deals[1:]] + [inf]
    return [deal for deal, follower in zip(deals, followers, strict=False) if follower > read]


def both(older: Dealt, newer: Dealt) -> Dealt:
    """The two as one that is in use as long as either might be, at the larger rates."""
    pairs = older.rates.keys() | newer.rates.keys()
    larger = {p: max(older.rates.get(p, 0.0), newer.rates.get(p, 0.0)) for p in pairs}
    return Dealt(newer.number, larger)


def pay(
    deserved: Mapping[Share, float], dealt: Mapping[int, Iterable[Dealt]], limits: Limits
) -> dict[Share, float]:
    """The rates to write, so that no limit is exceeded whoever has read what."""
    held = _held(dealt)
    free: Limits = dict(limits)
    raises: Limits = defaultdict(float)
    for share in deserved.keys() | held.keys():
        mine = held.get(share, 0.0)
        for name in names_of(share, limits):
            free[name] -= mine
            raises[name] += max(0.0, deserved.get(share, 0.0) - mine)
    part = {name: min(1.0, max(0.0, free[name] / x)) for name, x in raises.items() if x}
    return {share: _paid(share, rate, held.get(share, 0.0), part) for share, rate in deserved.items()}


def _held(dealt: Mapping[int, Iterable[Dealt]]) -> dict[Share, float]:
    """The most that every process may be using of every pair."""
    held: dict[Share, float] = defaultdict(float)
    for process, deals in dealt.items():
        for _, rates in deals:
            for pair, rate in rates.items():
                held[*pair, process] = max(held[*pair, process], rate)
    return held


def _paid(share: Share, deserved: float, held: float, part: Mapping[str | int, float]) -> float:
    if deserved <= held:
        return deserved
    return min(deserved, held + (deserved - held) * min(part.get(name, 1.0) for name in share[:2]))
