"""The dealer, pure: asks in, rates out, four times a second.

    learn.py    how fast can each lane go?           from the answers in all asks
    share.py    who deserves how much of it?         weighted max-min over lanes, pushes and processes
    payout.py   how much of that can be paid now?    cuts at once, raises from what nobody may be using
    counted.py  whom to give the next single send?   where a share is too slow to be a rate

`deal` puts them together. Its state lives in the dealer's memory; only the lanes survive a dealer, in its
row, and the next one reads what was dealt from the processes' rates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Final, NamedTuple, TypeAlias

from clarion.quota.ask import DEAD_SECONDS, Ask, Limits, Pair, Share, Terms
from clarion.quota.counted import Count, count
from clarion.quota.learn import Heard, Lane, cooling, listen
from clarion.quota.payout import Dealt, both, in_use, pay
from clarion.quota.share import share

LONGEST_STEP: Final = 1.0  # s: after a longer pause nothing is owed for the rest of it
MOST_UNREAD: Final = 16  # deals remembered for a process that asks and never hears the answer


@dataclass(frozen=True, slots=True)
class State:
    """What one deal leaves to the next."""

    number: int
    at: float
    lanes: dict[str, Lane] = field(default_factory=dict)
    heard: Heard = field(default_factory=dict)
    dealt: dict[int, list[Dealt]] = field(default_factory=dict)  # by process, oldest first
    counts: dict[Share, Count] = field(default_factory=dict)
    ready: Limits = field(default_factory=dict)


class PairRate(NamedTuple):
    """What a process may do for a pair."""

    rate: float  # sends per second; infinity: as many as it likes
    counted: int | None = None  # set: not by the rate, but so many since it started
    given_at: float = 0.0  # when that number last grew (database clock)


class LaneRates(NamedTuple):
    """A process's rates on one lane."""

    rate: float  # of the lane, over all processes
    cooling: bool
    pushes: dict[int, PairRate]


Rates: TypeAlias = dict[str, LaneRates]


def deal(
    state: State, asks: Iterable[Ask], ceilings: Mapping[str, float], pushes: Mapping[int, Terms], now: float
) -> tuple[State, dict[int, Rates]]:
    """The next state and, for every living process, its rates.

    `ceilings` knows every lane, `pushes` every push that the asks name.
    """
    asks = [ask for ask in asks if now - ask.at < DEAD_SECONDS]
    dt = min(LONGEST_STEP, max(0.0, now - state.at))
    lanes, heard = listen(state.lanes, state.heard, asks, ceilings, now, dt)
    limits = _limits({key: lanes[key] for ask in asks for key in ask.heard}, pushes, now)
    dealt = {ask.process: in_use(state.dealt.get(ask.process, ()), ask.read) for ask in asks}
    rates = pay(share(asks, limits, pushes), dealt, limits)
    counts, ready = count(rates, state.counts, state.ready, limits, asks, now, dt)
    rates |= _unlimited(asks, limits)
    _note(dealt, rates, state.number + 1)
    answer = {
        ask.process: {
            key: LaneRates(limits.get(key, inf), cooling(lanes[key], ceilings[key]), {}) for key in ask.heard
        }
        for ask in asks
    }
    for (key, push, process), rate in rates.items():
        account = counts.get((key, push, process))
        answer[process][key].pushes[push] = (
            PairRate(rate, account.number, account.given_at) if account else PairRate(rate)
        )
    return State(state.number + 1, now, lanes, heard, dealt, counts, ready), answer


def _limits(lanes: Mapping[str, Lane], pushes: Mapping[int, Terms], now: float) -> Limits:
    limits: Limits = {}
    for key, lane in lanes.items():
        if lane.closed > now:
            limits[key] = 0.0
        elif lane.rate < inf:
            limits[key] = lane.rate
    return limits | {push: terms.pace for push, terms in pushes.items() if terms.pace < inf}


def _unlimited(asks: Iterable[Ask], limits: Limits) -> dict[Share, float]:
    """Pairs that nothing limits. They are dealt, too: a limit that comes later must reckon with them."""
    return {
        (*pair, ask.process): inf
        for ask in asks
        for pair, want in ask.wants.items()
        if want.rate > 0 and pair[0] not in limits and pair[1] not in limits
    }


def _note(dealt: Mapping[int, list[Dealt]], rates: Mapping[Share, float], number: int) -> None:
    """Add what is dealt now to what each process may be using, if it is something else."""
    mine: dict[int, dict[Pair, float]] = {process: {} for process in dealt}
    for (key, push, process), rate in rates.items():
        mine[process][key, push] = rate
    for process, deals in dealt.items():
        if not deals or deals[-1].rates != mine[process]:
            deals.append(Dealt(number, mine[process]))
        if len(deals) > MOST_UNREAD:
            deals[:2] = [both(*deals[:2])]
