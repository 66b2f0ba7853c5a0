"""Who deserves how much: weighted max-min sharing of lanes' rates and pushes' paces.

Everybody's rate rises together, in proportion to the weights, until a want is met or a limit is full; the
rest goes on rising. Urgent pairs come first, but take no more than half of a lane before the others had
their turn. What is left over, or a small reserve, stands ready for urgent sends that nobody asked for yet.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

from clarion.quota.ask import URGENT_ROOM, Ask, Limits, Pair, Share, Terms

RESERVE: Final = 0.02  # of a lane that urgent queues use
RESERVE_FROM: Final = 50.0  # sends/s: of a slower lane a reserve would be nothing

Key = TypeVar("Key", bound=Hashable)
Rooms = dict[str, list[int]]  # limited lane: the processes whose urgent queues use it


class Claim(NamedTuple):
    """One party's part in a sharing."""

    want: float
    weight: float
    limits: Sequence[str | int]


def share(asks: Iterable[Ask], limits: Limits, pushes: Mapping[int, Terms]) -> dict[Share, float]:
    """The rate that every process deserves for every pair which has a limit."""
    asks = list(asks)
    wants, urgent = _wants(asks, limits)
    rooms = _rooms(asks, limits)
    claims = {
        pair: Claim(sum(by_process.values()), pushes[pair[1]].weight, names_of(pair, limits))
        for pair, by_process in wants.items()
    }
    rates, left = _pairs(claims, urgent, rooms, limits)
    shares = {
        (*pair, process): part
        for pair, rate in rates.items()
        for process, part in split(wants[pair], rate).items()
    }
    for lane, processes in rooms.items():
        room = max(left[lane] / 2, limits[lane] - _beside_reserve(lane, rooms, limits[lane]))
        shares |= {(lane, URGENT_ROOM, process): room / len(processes) for process in processes}
    return shares


def names_of(pair: Sequence[str | int], limits: Limits) -> list[str | int]:
    """Which limits hold for a pair (or a share): its lane's, its push's, both or none."""
    return [name for name in pair[:2] if name in limits]


def _wants(asks: Iterable[Ask], limits: Limits) -> tuple[dict[Pair, dict[int, float]], set[Pair]]:
    """Wants by pair and process, of pairs that have a limit; and which pairs are urgent."""
    wants: dict[Pair, dict[int, float]] = {}
    urgent: set[Pair] = set()
    for ask in asks:
        for pair, want in ask.wants.items():
            if want.rate > 0 and (pair[0] in limits or pair[1] in limits):
                wants.setdefault(pair, {})[ask.process] = want.rate
                if want.urgent:
                    urgent.add(pair)
    return wants, urgent


def _rooms(asks: Iterable[Ask], limits: Limits) -> Rooms:
    rooms: Rooms = defaultdict(list)
    for ask in asks:
        if ask.urgent:
            for lane in ask.heard:
                if lane in limits:
                    rooms[lane].append(ask.process)
    return dict(rooms)


def _beside_reserve(name: str | int, rooms: Rooms, limit: float) -> float:
    return limit * (1 - RESERVE) if name in rooms and limit >= RESERVE_FROM else limit


def _pairs(
    claims: dict[Pair, Claim], urgent: set[Pair], rooms: Rooms, limits: Limits
) -> tuple[dict[Pair, float], Limits]:
    """The pairs' rates and what is left of the limits: urgent first for half a lane, others, urgent again."""
    full = {name: _beside_reserve(name, rooms, limit) for name, limit in limits.items()}
    half = {name: x / 2 if isinstance(name, str) else x for name, x in full.items()}
    left = dict(half)
    rates = fill({pair: claims[pair] for pair in claims if pair in urgent}, left)
    left = {name: full[name] - half[name] + left[name] for name in full}
    rates |= fill({pair: claim for pair, claim in claims.items() if pair not in urgent}, left)
    unmet = {p: claims[p]._replace(want=claims[p].want - rates[p]) for p in claims if p in urgent}
    for pair, more in fill(unmet, left).items():
        rates[pair] += more
    return rates, left


def split(wants: Mapping[int, float], rate: float) -> dict[int, float]:
    """One pair's rate over its processes: equal parts, none above its want."""
    parts: dict[int, float] = {}
    waiting = len(wants)
    for process in sorted(wants, key=wants.__getitem__):
        parts[process] = min(wants[process], rate / waiting)
        rate -= parts[process]
        waiting -= 1
    return parts


def fill(claims: Mapping[Key, Claim], left: Limits) -> dict[Key, float]:
    """Weighted max-min. What is given is taken from `left`. Every claim has a limit at least."""
    filling = _Filling(claims, left)
    for key in sorted(claims, key=lambda k: claims[k].want / claims[k].weight):
        while key not in filling.given:
            name, level = filling.lowest()
            if claims[key].want <= claims[key].weight * level:
                filling.give(key, claims[key].want)
            else:
                filling.close(name, level)
    return filling.given


class _Filling(Generic[Key]):
    """A sharing in progress. A limit's level is what is left of it per unit of weight that still waits."""

    def __init__(self, claims: Mapping[Key, Claim], left: Limits) -> None:
        self.claims, self.left = claims, left
        self.given: dict[Key, float] = {}
        self.members: dict[str | int, list[Key]] = defaultdict(list)
        self.weights: dict[str | int, float] = defaultdict(float)
        for key, claim in claims.items():
            for name in claim.limits:
                self.members[name].append(key)
                self.weights[name] += claim.weight
        self.waiting = {name: len(keys) for name, keys in self.members.items()}
        self.heap = [(self.level(name), i, name) for i, name in enumerate(self.members)]
        heapq.heapify(self.heap)

    def level(self, name: str | int) -> float:
        return self.left[name] / max(self.weights[name], 1e-9)

    def give(self, key: Key, rate: float) -> None:
        self.given[key] = rate
        _, weight, names = self.claims[key]
        for name in names:
            self.left[name] = max(0.0, self.left[name] - rate)
            self.weights[name] -= weight
            self.waiting[name] -= 1

    def lowest(self) -> tuple[str | int, float]:
        """The limit that fills first. Levels only rise, so an old entry of the heap is a lower bound."""
        while True:
            noted, i, name = self.heap[0]
            if not self.waiting[name]:
                heapq.heappop(self.heap)
            elif (level := self.level(name)) > noted:
                heapq.heapreplace(self.heap, (level, i, name))
            else:
                return name, level

    def close(self, name: str | int, level: float) -> None:
        """The limit is full: whoever waits at it gets his part of it."""
        for key in self.members[name]:
            if key not in self.given:
                self.give(key, self.claims[key].weight * level)
