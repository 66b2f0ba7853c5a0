"""The sender process's side of the quota: permits for its attempts, an exchange four times a second.

Rates are on loan. They are good for 1.25 s from the moment the exchange that brought them was *asked*; then
nothing starts until there was another. Everything that could make two processes use one rate is settled by
two rules: the process says which rates it goes by, and after a pause it goes by none until the dealer has
written new ones.

What a lane is told to do at once, without asking anybody: stop for its own Retry-After; stop when half of
its last 50 answers were bad, until the dealer has learned of it and dealt anew.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Iterator
from math import inf
from typing import Final, NamedTuple

from clarion import limits
from clarion.clock import SYSTEM_CLOCK, Clock
from clarion.quota.deal import Rates
from clarion.quota.dealer import Dealer
from clarion.quota.exchange import Answer, Board, ask_to_json, rates_from_json
from clarion.quota.tap import Pair, ProcessLane, Tap

log = logging.getLogger(__name__)

CALL_SECONDS: Final = 1.0  # an exchange that takes longer is given up and repeated
NO_DEALER_SECONDS: Final = 3.0  # after the last deal nothing starts
HURRY_SECONDS: Final = 0.1  # between exchanges while somebody waits for his first rate
AT_ONCE_SECONDS: Final = 0.05  # the least between two exchanges
ANSWER_SECONDS: Final = 0.005  # that an exchange usually takes
RIPE_SECONDS: Final = 0.31  # from the giving of a counted send to its start: one exchange and a little
DEALS_TO_LEARN: Final = 3  # one may be under way, one reads the ask, its rates are there
FORGET_PAIR_SECONDS: Final = 30.0  # after its last attempt
FORGET_LANE_SECONDS: Final = 60.0  # without a push or an answer
FORGET_URGENT_LANE_SECONDS: Final = 600.0  # urgent queues keep their room in a lane longer


class LaneReport(NamedTuple):
    """A lane as this process sees it, for operators."""

    lane: str
    rate: float | None  # over all processes; None: not known; infinity: unlimited
    cooling: bool
    stopped: float  # seconds that a Retry-After still lasts
    halted: bool  # half of the last answers were bad
    granted: dict[int, float]  # by push: sends per second of this process
    pushes: set[int]  # that it knows of


class Permits:
    """The permits of one sender process; `run` keeps them fresh.

    `process` is its number, `urgent` whether it serves an urgent queue: then every lane it uses keeps some
    room for it.
    """

    def __init__(
        self, board: Board, process: int, *, urgent: bool = False, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self.now = clock.monotonic
        self.good_until = -inf
        self.dealer = Dealer(board)
        self._board, self._process, self._urgent = board, process, urgent
        self._lanes: dict[str, ProcessLane] = {}
        self._read = 0  # number of the rates that we go by
        self._go_by_from = 0  # rates of earlier deals are not ours any more
        self._deal: int | None = None  # the last deal that we know of
        self._dealt_for = 0.0  # its age when we heard of it ...
        self._heard_at = -inf  # ... and when that was
        self._asked_at = -inf
        self._due = -inf
        self._wake = asyncio.Event()
        self._failing: set[str] = set()

    # ── for attempts ──────────────────────────────────────────────────────────────────────────────

    def open(self, lane_key: str, push_no: int, urgent: bool) -> Tap:
        """Access for one attempt; say at once what it wants."""
        lane = self._lane(lane_key)
        pair = lane.pairs.get(push_no)
        if pair is None:
            pair = lane.pairs[push_no] = Pair(lane, push_no, self.now())
        tap = Tap(self, pair, urgent)
        pair.taps.add(tap)
        if pair.purse is None:
            self._hurry(AT_ONCE_SECONDS)
        return tap

    def heard(self, lane_key: str, good: int, bad: int, throttled: int, retry_after: float) -> None:
        """Answers that came since the last call; `retry_after`: the lane must rest so many seconds."""
        lane, now = self._lane(lane_key), self.now()
        lane.last_used = now
        if lane.hear(good, bad, throttled):
            log.warning("lane %s: half of the last answers were bad, waiting for new rates", lane_key)
            self._hurry(AT_ONCE_SECONDS)
        if retry_after > 0:
            lane.stopped_until = max(lane.stopped_until, now + retry_after)
            self._hurry(AT_ONCE_SECONDS)

    def report(self) -> list[LaneReport]:
        """How the lanes of this process are doing."""
        now = self.now()
        fresh = now < self.good_until
        return [
            LaneReport(
                lane.key,
                lane.rate if fresh else None,
                lane.cooling,
                max(0.0, lane.stopped_until - now),
                lane.halted,
                {no: pair.purse.rate for no, pair in lane.pairs.items() if fresh and pair.purse is not None},
                set(lane.pairs),
            )
            for lane in self._lanes.values()
        ]

    def _lane(self, key: str) -> ProcessLane:
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = ProcessLane(key, self.now())
        return lane

    # ── the exchange ──────────────────────────────────────────────────────────────────────────────

    async def run(self) -> None:
        """Exchange, and deal when nobody else does, until cancelled. Outlives any loss of the database."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._exchange_forever())
            group.create_task(self._deal_forever())

    async def exchange(self) -> None:
        """One exchange. Raises what the database raises; the rates then last as long as they last."""
        asked = self._asked_at = self.now()
        if asked >= self.good_until:
            self._forget()
        self._tidy(asked)
        self._due = asked + limits.EXCHANGE_EVERY
        lanes = list(self._lanes.values())
        halted = [lane for lane in lanes if lane.halted and lane.resume_with is None]
        wants = {(pair.lane.key, pair.push_no): pair.want() for pair in self._pairs() if pair.taps}
        heard = {lane.key: (lane.totals, max(0.0, lane.stopped_until - asked)) for lane in lanes}
        answer = await self._board.exchange(
            self._process, self._read, ask_to_json(self._urgent, heard, wants)
        )
        self._take_in(answer, asked)
        self._note_deal(answer, halted)

    def _take_in(self, answer: Answer, asked: float) -> None:
        """Go by the rates of the answer, if they are ours."""
        now = self.now()
        age = max(0.0, answer.clock - answer.dealt_at)
        if now >= self.good_until or (self._read and not answer.number):
            # The dealer may have taken us for dead and given our rates to others; or PostgreSQL has crashed
            # and the next dealer will not know of them.
            self._forget()
            self._go_by_from = (answer.deal or 0) + 1
        elif answer.rates is not None and answer.number >= self._go_by_from:
            before = self._granted()
            self._read = answer.number
            self._go_by(rates_from_json(answer.rates), now, asked - answer.clock)
            if self._granted() < 0.9 * before:  # what we give up is somebody's once we have said so
                self._hurry(AT_ONCE_SECONDS)
        self.good_until = asked + min(limits.RATE_LEASE, NO_DEALER_SECONDS - age)

    def _go_by(self, rates: Rates, now: float, offset: float) -> None:
        """`offset` turns the database's clock into ours."""

        def ripe(given_at: float) -> float:
            return given_at + offset + RIPE_SECONDS

        for lane in self._lanes.values():
            lane.read(rates.get(lane.key), now, ripe)

    def _note_deal(self, answer: Answer, halted: list[ProcessLane]) -> None:
        """What follows from the number of the current deal."""
        self._deal = answer.deal
        self._heard_at, self._dealt_for = self.now(), max(0.0, answer.clock - answer.dealt_at)
        current = answer.deal or 0
        for lane in self._lanes.values():
            if lane in halted:
                lane.resume_with = current + DEALS_TO_LEARN
            elif lane.halted and lane.resume_with is not None and current >= lane.resume_with:
                lane.halted = False
        if any(pair.taps and pair.purse is None for pair in self._pairs()):
            self._hurry(HURRY_SECONDS)

    def _granted(self) -> float:
        return sum(pair.purse.rate for pair in self._pairs() if pair.purse is not None)

    def _pairs(self) -> Iterator[Pair]:
        for lane in self._lanes.values():
            yield from lane.pairs.values()

    def _forget(self) -> None:
        """Go by nothing: another may be using what was ours."""
        self._read = 0
        for lane in self._lanes.values():
            lane.forget()

    def _tidy(self, now: float) -> None:
        """Drop what nobody has used for long. Until then a pair knows how many counted sends it took."""
        keep = FORGET_URGENT_LANE_SECONDS if self._urgent else FORGET_LANE_SECONDS
        for lane in list(self._lanes.values()):
            for pair in list(lane.pairs.values()):
                if pair.taps:
                    pair.last_used = lane.last_used = now
                elif now - pair.last_used > FORGET_PAIR_SECONDS:
                    del lane.pairs[pair.push_no]
            if not lane.pairs and now - lane.last_used > keep:
                del self._lanes[lane.key]

    # ── the loops ─────────────────────────────────────────────────────────────────────────────────

    def next_exchange_in(self, now: float) -> float:
        """Seconds until there are new rates, if all goes well."""
        return min(max(0.0, self._due - now) + ANSWER_SECONDS, limits.EXCHANGE_EVERY)

    def _hurry(self, seconds: float) -> None:
        """Exchange so long after the last time, at the latest."""
        due = self._asked_at + seconds
        if due < self._due:
            self._due = due
            self._wake.set()

    async def _exchange_forever(self) -> None:
        await _own_moment()
        while True:
            if not await self._attempt("exchange", self.exchange):
                self._due = self.now() + AT_ONCE_SECONDS
            await self._until_due()

    async def _until_due(self) -> None:
        while (wait := self._due - self.now()) > 0:
            self._wake.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._wake.wait()
            except TimeoutError:
                pass

    async def _deal_forever(self) -> None:
        await _own_moment()
        while True:
            began = self.now()
            if self.dealer.dealing or self._nobody_deals(began):
                await self._attempt("deal", self.dealer.turn)
            await asyncio.sleep(max(AT_ONCE_SECONDS, began + limits.EXCHANGE_EVERY - self.now()))

    def _nobody_deals(self, now: float) -> bool:
        """As far as the last exchange told. Before the first nothing is known."""
        if self._heard_at == -inf:
            return False
        return self._deal is None or self._dealt_for + now - self._heard_at > 1.0

    async def _attempt(self, what: str, call: Callable[[], Awaitable[None]]) -> bool:
        """Whatever goes wrong, there is a next time: meanwhile rates run out, and that stops everything."""
        try:
            async with asyncio.timeout(CALL_SECONDS):
                await call()
        except Exception as error:
            if what not in self._failing:
                log.warning("quota: %s fails: %s", what, type(error).__name__)
            self._failing.add(what)
            return False
        if what in self._failing:
            log.info("quota: %s works again", what)
        self._failing.discard(what)
        return True


async def _own_moment() -> None:
    """Processes that start together shall not ask together for ever."""
    await asyncio.sleep(random.random() * limits.EXCHANGE_EVERY)
