"""A request that is refused for the sake of some of its registrations: who they are is found by halving it.

Some providers refuse a whole list because one registration in it is unknown, and do not say which (C34). The
good ones must get the message all the same, and only who is refused alone is gone for certain. When every
quarter of a list is refused, a few of it are asked for alone. If none of those is taken, either, the provider
knows nobody of it: it is not taken to pieces, or a wrong credential would cost hundreds of requests a list.

A part is a request of its own, with a key of its own, so that a repeat after a crash is recognised part by
part.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Final

from clarion import limits
from clarion.senders.answers import NOT_SENT, UNANSWERED
from clarion.senders.grouped import Group, Verdict
from clarion.senders.line import Unanswered
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind

QUARTERS: Final = 4
PROBES: Final = 8
WIDEST: Final = 32  # parts of one list that are asked at once; the others wait for another turn
SHARE: Final = 0.5  # of a request's time; the last parts may begin then, and the lease outlives their answer
LATER: Final = replace(NOT_SENT, attempt=True)

Ask = Callable[[Group], Awaitable[Verdict]]
Blames = Callable[[Outcome], bool]


@dataclass
class _Search:
    """What is known so far of a list that was refused."""

    ask: Ask
    blames: Blames
    refusal: Outcome
    told: dict[str, Outcome] = field(default_factory=dict)

    async def level(self, parts: list[Group]) -> list[Group]:
        """Ask these; those that are refused again and have more than one registration."""
        verdicts = await asyncio.gather(*(self._asked(part) for part in parts))
        again = []
        for part, verdict in zip(parts, verdicts, strict=True):
            if self.blames(verdict.outcome) and len(part.rows) > 1:
                again.append(part)
            else:
                self.tell(part, verdict)
        return again

    async def probe(self, parts: list[Group]) -> list[Group]:
        """Ask for a few of these alone. What is left of them; nothing, if nobody of them is known."""
        few = max(1, PROBES // len(parts))
        alone = [replace(part, rows=[row]) for part in parts for row in part.rows[:few]]
        await self.level(alone)
        rest = [replace(part, rows=part.rows[few:]) for part in parts if len(part.rows) > few]
        told = {self.told[one.tokens[0]].kind for one in alone}
        if told != {OutcomeKind.REJECTED}:
            return rest
        self.tell_all(rest, Verdict(self.refusal))
        return []

    def tell_all(self, parts: list[Group], verdict: Verdict) -> None:
        """This is what became of all of these."""
        for part in parts:
            self.tell(part, verdict)

    def tell(self, part: Group, verdict: Verdict) -> None:
        """This is what became of them."""
        for token in part.tokens:
            self.told[token] = verdict.others.get(token, verdict.outcome)

    async def _asked(self, part: Group) -> Verdict:
        try:
            return await self.ask(part)
        except Unanswered as error:
            return Verdict(UNANSWERED[error.fate])

    def verdict(self) -> Verdict:
        """Of the whole list: what concerns the lane as a whole comes first."""
        outcomes = list(self.told.values())
        urgent = [one for one in outcomes if one.kind in (OutcomeKind.BLOCKED, OutcomeKind.THROTTLED)]
        urgent += [one for one in outcomes if not one.attempt]
        whole = next(iter(urgent), ACCEPTED if ACCEPTED in outcomes else outcomes[0])
        return Verdict(whole, {token: one for token, one in self.told.items() if one != whole})


async def ask_all(group: Group, ask: Ask, blames: Blames, provider: str) -> Verdict:
    """Ask for all of a group, and for its parts if it is refused for the sake of some. Raises Unanswered.

    `blames` says whether a refusal is of that kind. Those beyond what can be found out in time go again.
    """
    first = await ask(group)
    if not blames(first.outcome) or len(group.rows) < 2:
        return first
    loop = asyncio.get_running_loop()
    ends = loop.time() + limits.request_timeout(provider) * SHARE
    search = _Search(ask, blames, first.outcome)
    again = [group]
    while again:
        most = WIDEST // 2 if loop.time() < ends else 0
        search.tell_all(again[most:], Verdict(LATER))
        parts = [half for part in again[:most] for half in _halves(part)]
        again = await search.level(parts)
        if len(parts) == len(again) == QUARTERS:
            again = await search.probe(again)
    return search.verdict()


def _halves(group: Group) -> list[Group]:
    middle = (len(group.rows) + 1) // 2
    halves = (group.rows[:middle], group.rows[middle:])
    return [replace(group, rows=rows) for rows in halves if rows]
