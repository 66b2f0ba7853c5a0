"""The dealer at work: read the asks, deal, write what changed, four times a second.

Any process may be it. Who deals holds the epoch of the one row `dealer`; when it has not dealt for a second
another takes over with a new epoch, and a sleeper's write is refused. Then it has to forget all it knew.

A new dealer does not know what its predecessor dealt last but one, which a process that has not read since
may still be going by. So it only keeps the post warm until every such lease is over.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace

from clarion.quota.ask import DEAD_SECONDS, Ask
from clarion.quota.deal import Rates, State, deal
from clarion.quota.exchange import Board, Json, Post, Terrain, rates_to_json
from clarion.quota.learn import Lane, reopened

log = logging.getLogger(__name__)


class Dealer:
    """One process's readiness to deal."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._post: Post | None = None
        self._state: State | None = None
        self._written: dict[int, Json] = {}

    @property
    def dealing(self) -> bool:
        """Whether this process is the dealer, as far as it knows."""
        return self._post is not None

    async def turn(self) -> None:
        """Deal once; take over first if nobody deals."""
        try:
            if self._post is None:
                self._post = await self._take_over()
            if self._post is not None and not await self._deal(self._post):
                self._post = None
        except BaseException:
            self._post = None  # was it written? Forget all, begin again
            raise

    async def _take_over(self) -> Post | None:
        post = await self._board.take_over()
        if post is not None:
            log.info("this process deals the permits from now on (epoch %d)", post.epoch)
            self._state = State(post.number, post.clock, post.lanes, dealt=post.dealt)
            self._written = {}
        return post

    async def _deal(self, post: Post) -> bool:
        now, asks = await self._board.asks()
        assert self._state is not None
        if now < post.dealt_at + DEAD_SECONDS and now >= post.dealt_at:
            state = replace(self._state, number=self._state.number + 1, at=now)
            rates: dict[int, Rates] = {}
        else:
            state, rates = await self._next(self._state, asks, now)
        changed = self._changed(asks, rates)
        if not await self._board.write(post.epoch, state.number, state.lanes, changed):
            log.info("another process deals the permits now")
            return False
        self._state = state
        self._written = {process: self._written[process] for process in rates if process in self._written}
        self._written |= changed
        return True

    async def _next(self, state: State, asks: list[Ask], now: float) -> tuple[State, dict[int, Rates]]:
        terrain = await self._board.terrain(
            {lane for ask in asks for lane in ask.heard}, {push for ask in asks for _, push in ask.wants}
        )
        lanes = _reopen(state.lanes, terrain.reopened, state.at, now)
        asks = [_known(ask, terrain) for ask in asks]
        return deal(replace(state, lanes=lanes), asks, terrain.ceilings, terrain.pushes, now)

    def _changed(self, asks: list[Ask], rates: Mapping[int, Rates]) -> dict[int, Json]:
        """What must be written: what is new, and everything for a process that goes by nothing."""
        nothing = {ask.process for ask in asks if not ask.read}
        texts = {process: rates_to_json(mine) for process, mine in rates.items()}
        return {p: text for p, text in texts.items() if p in nothing or self._written.get(p) != text}


def _known(ask: Ask, terrain: Terrain) -> Ask:
    """The ask without credentials and pushes that are gone."""
    heard = {lane: x for lane, x in ask.heard.items() if lane in terrain.ceilings}
    wants = {(lane, p): w for (lane, p), w in ask.wants.items() if lane in heard and p in terrain.pushes}
    return replace(ask, heard=heard, wants=wants)


def _reopen(
    lanes: Mapping[str, Lane], times: Mapping[str, float], since: float, now: float
) -> dict[str, Lane]:
    """Lanes that were unblocked since the last deal begin slowly: the first permit is the probe."""
    return {key: reopened(lane, now) if times.get(key, 0.0) > since else lane for key, lane in lanes.items()}
