"""How fast a lane can go: learned from answers, whoever reported them.

    unknown      100/s
    throttled    × 0.7, once in two seconds however many say so; then + 2 % of the top a second. The rate
                 that was too much is the top until it is forgotten, by climbing, a minute later
    outage       0.1/s: one probe in ten seconds; half of the last 200 answers were bad, or 20 in a row and
                 none good for two seconds
    recovering   below half of its top a lane moves by tens: × 10 with every good second
    Retry-After  closed until then

A lane whose credential has no ceiling and that never met a limit has no rate at all (infinity).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Final, NamedTuple, TypeAlias

from clarion.quota.ask import Ask, Totals

FLOOR: Final = 0.1  # sends/s during an outage
PROBE: Final = 4.0  # sends/s of a lane that was unblocked just now: at 1/s the probe itself took a second
START: Final = 100.0  # sends/s of a lane that nobody knows
PRACTICALLY_UNLIMITED: Final = 1e6  # sends/s
CUT: Final = 0.7  # of the rate that was too much
CUT_EVERY: Final = 2.0  # s: the answers of one storm arrive together
CLIMB: Final = 0.02  # of the top, per second
FORGET_AFTER: Final = 60.0  # s without a throttled answer
FORGET_BY: Final = 1.1  # a second
MEMORY: Final = 200  # answers that the outage rule looks back at
BAD_IN_A_ROW: Final = 20
NONE_GOOD_FOR: Final = 2.0  # s
LONGEST_RETRY_AFTER: Final = 3600.0  # s

NO_ANSWERS: Final = Totals()

Heard: TypeAlias = dict[tuple[int, str], Totals]  # (process, lane): its totals at its last ask


@dataclass(frozen=True, slots=True)
class Lane:
    """What is known of one lane. Times are the database's clock."""

    rate: float
    learned: float = inf  # the rate that was too much
    cut_at: float = 0.0
    closed: float = 0.0  # until then: Retry-After
    used: float = 0.0  # answers per second, lately
    seen: float = 0.0  # of the last ~200 answers ...
    failed: float = 0.0  # ... so many were bad
    run: int = 0  # bad ones in a row
    good_at: float = 0.0
    second_at: float = 0.0  # start of the current second
    second: Totals = NO_ANSWERS  # what was answered in it

    def top(self, ceiling: float) -> float:
        """The fastest that it may become: what the credential allows and what was not yet too much."""
        return min(ceiling, self.learned)


class News(NamedTuple):
    """What all processes together heard of a lane since the last deal."""

    answers: Totals = NO_ANSWERS
    closed: float = 0.0  # until then, by the longest Retry-After


def cooling(lane: Lane, ceiling: float) -> bool:
    """Whether the lane is recovering: at or below half of its top, where it moves by tens."""
    return _recovering(lane.rate, lane.top(ceiling))


def starting(lane: Lane) -> bool:
    """Whether the lane is merely new: it moves as one that recovers, and nothing bad was ever heard of it."""
    return lane.rate >= START and not lane.failed and lane.learned == inf


def _recovering(rate: float, top: float) -> bool:
    return rate < inf and rate <= top / 2


def listen(
    lanes: Mapping[str, Lane],
    heard: Heard,
    asks: Sequence[Ask],
    ceilings: Mapping[str, float],
    now: float,
    dt: float,
) -> tuple[dict[str, Lane], Heard]:
    """Learn from the asks: the lanes as they are now, and the totals to compare the next asks with."""
    learned = dict(lanes)
    for key, news in _news(heard, asks).items():
        lane = learned.get(key) or Lane(min(START, ceilings[key]), good_at=now, second_at=now)
        learned[key] = learn(lane, news, ceilings[key], now, dt)
    return learned, {(ask.process, key): totals for ask in asks for key, (totals, _) in ask.heard.items()}


def _news(heard: Heard, asks: Sequence[Ask]) -> dict[str, News]:
    news: dict[str, News] = {}
    for ask in asks:
        for key, (totals, stop) in ask.heard.items():
            answers, closed = news.get(key, News())
            before = heard.get((ask.process, key), totals)  # a stranger's totals are only a start
            grown = Totals(*(x + max(0, t - b) for x, t, b in zip(answers, totals, before, strict=True)))
            until = ask.at + min(stop, LONGEST_RETRY_AFTER) if stop else 0.0
            news[key] = News(grown, max(closed, until))
    return news


def reopened(lane: Lane, now: float) -> Lane:
    """The lane after its credential was unblocked: one probe, then by tens as after an outage."""
    return Lane(min(PROBE, lane.rate), lane.learned, good_at=now, second_at=now)


def learn(lane: Lane, news: News, ceiling: float, now: float, dt: float) -> Lane:
    """The lane after `dt` more seconds with these news."""
    lane = replace(  # times that lie ahead come from a clock that was set back
        lane,
        cut_at=min(lane.cut_at, now),
        closed=max(min(lane.closed, now + LONGEST_RETRY_AFTER), news.closed),
    )
    top = lane.top(ceiling)
    if not 0 <= now - lane.second_at < 1:
        lane = _end_second(lane, top, now)
    lane = _remember(lane, news.answers, now)
    if news.answers.bad and _is_out(lane, now):
        return Lane(
            min(FLOOR, top), lane.learned, lane.cut_at, lane.closed, good_at=lane.good_at, second_at=now
        )
    lane = _cut_or_climb(lane, news, top, now, dt)
    lane = _forget(lane, ceiling, now, dt)
    return replace(lane, rate=min(lane.rate, lane.top(ceiling)))


def _end_second(lane: Lane, top: float, now: float) -> Lane:
    """Sum up the second that is over; up to half of its top the lane moves by tens."""
    good, bad, _ = lane.second
    answers, length = sum(lane.second), now - lane.second_at
    used = max(answers / length, lane.used * 0.8) if 0 < length < 5 else 0.0
    rate = lane.rate
    if answers and _recovering(rate, top):
        if good >= 0.9 * answers:
            rate *= 10
        elif good >= 0.5 * answers:
            rate *= 1.5
        elif bad >= 0.5 * answers:
            rate = FLOOR
        if rate >= PRACTICALLY_UNLIMITED:
            rate = inf
    return replace(lane, rate=rate, used=used, second_at=now, second=NO_ANSWERS)


def _remember(lane: Lane, answers: Totals, now: float) -> Lane:
    """Add the answers to the current second and to the memory of the last ~200."""
    good, bad, _ = answers
    fade = 1.0
    if lane.seen and lane.seen + good + bad > MEMORY:
        fade = max(0, MEMORY - good - bad) / lane.seen
    return replace(
        lane,
        seen=lane.seen * fade + good + bad,
        failed=lane.failed * fade + bad,
        run=0 if good else lane.run + bad,
        good_at=now if good else lane.good_at,
        second=Totals(*(x + y for x, y in zip(lane.second, answers, strict=True))),
    )


def _is_out(lane: Lane, now: float) -> bool:
    """An outage; the 0.1 is for what rounding leaves of 200."""
    half_bad = lane.seen > MEMORY - 0.1 and lane.failed >= lane.seen / 2
    return half_bad or (lane.run >= BAD_IN_A_ROW and now - lane.good_at >= NONE_GOOD_FOR)


def _cut_or_climb(lane: Lane, news: News, top: float, now: float, dt: float) -> Lane:
    quiet = now - lane.cut_at
    if news.answers.throttled and quiet >= CUT_EVERY:
        too_much = max(FLOOR, lane.rate if lane.rate < inf else _measured(lane, now))
        return replace(lane, learned=too_much, rate=max(FLOOR, too_much * CUT), cut_at=now)
    if lane.rate > top / 2 and quiet > CUT_EVERY and top < inf:
        return replace(lane, rate=lane.rate + CLIMB * top * dt)
    return lane


def _measured(lane: Lane, now: float) -> float:
    """What a lane without a rate was doing when it met its limit."""
    return lane.used or sum(lane.second) / max(0.25, now - lane.second_at)


def _forget(lane: Lane, ceiling: float, now: float, dt: float) -> Lane:
    """A minute after its last cut a lane tries what was too much once."""
    if now - lane.cut_at <= FORGET_AFTER or lane.learned == inf:
        return lane
    if lane.learned < min(PRACTICALLY_UNLIMITED, ceiling):
        return replace(lane, learned=lane.learned * FORGET_BY**dt)
    return replace(lane, learned=inf)
