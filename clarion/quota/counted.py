"""Slow shares: below three sends a second a rate in every process would say little, so sends are counted out.

Every slow share gathers what it is owed; every limit gathers what its slow shares may start. When a limit
has a whole send ready, the pair that is owed most gets it, and of its processes the one that is owed most.
A process sees its number grow and may start that many since its own start.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from clarion.quota.ask import URGENT_ROOM, Ask, Limits, Pair, Share
from clarion.quota.share import names_of

SLOW: Final = 3.0  # sends/s: shares below are counted
MOST_OWED: Final = 2.0  # sends: a share that cannot use them gathers no more
UNUSED: Final = 2  # sends in a process's hand; it gets no third


class Count(NamedTuple):
    """A slow share's account."""

    owed: float  # may be below 0: it was given one in advance
    number: int  # counted sends it may have started since its process began
    given_at: float  # when the last one was added


def count(
    rates: Mapping[Share, float],
    counts: Mapping[Share, Count],
    ready: Limits,
    limits: Limits,
    asks: Iterable[Ask],
    now: float,
    dt: float,
) -> tuple[dict[Share, Count], Limits]:
    """The accounts of the slow shares and what is ready at the limits, after handing out whole sends."""
    taken: dict[Share, int] = {(*p, ask.process): w.taken for ask in asks for p, w in ask.wants.items()}
    accounts: dict[Share, Count] = {}
    owing: dict[Pair, float] = defaultdict(float)
    slow: Limits = defaultdict(float)
    for share, rate in rates.items():
        if rate < SLOW and share[1] != URGENT_ROOM:
            old = counts.get(share) or Count(0.0, taken[share], 0.0)
            accounts[share] = old._replace(owed=min(MOST_OWED, old.owed + rate * dt))
            owing[share[:2]] += accounts[share].owed
            for name in names_of(share, limits):
                slow[name] += rate
    ready = {name: min(ready.get(name, 0.0) + x * dt, 1 + 0.3 * x) for name, x in slow.items()}
    able = [s for s, account in accounts.items() if rates[s] and account.number - taken[s] < UNUSED]
    _hand_out(able, accounts, owing, ready, now)
    return accounts, ready


def _hand_out(
    able: list[Share], accounts: dict[Share, Count], owing: dict[Pair, float], ready: Limits, now: float
) -> None:
    """Whole sends to the most owed, one to a share at most. What is ready only falls."""
    queues: dict[Pair, list[Share]] = defaultdict(list)  # the most owed last
    for share in sorted(able, key=lambda s: accounts[s].owed):
        queues[share[:2]].append(share)
    heap = [(-owing[pair], i, pair) for i, pair in enumerate(queues)]
    heapq.heapify(heap)
    while heap:
        _, i, pair = heapq.heappop(heap)
        names = names_of(pair, ready)
        if any(ready[name] < 1 for name in names):
            continue
        share = queues[pair].pop()
        owed, number, _ = accounts[share]
        accounts[share] = Count(owed - 1, number + 1, now)
        for name in names:
            ready[name] -= 1
        if queues[pair]:
            owing[pair] -= 1
            heapq.heappush(heap, (-owing[pair], i, pair))
