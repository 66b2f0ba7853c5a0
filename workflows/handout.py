"""Which work of a push goes out next: the pure half of the push loop.

`decide` sees what the ledger said last (a `NextWorkResult`) and what happened since (noted in `State` by the
loop's small methods), and says what to do. No input or output, no clock: moments are seconds that the caller
gives. The ledger is the only memory: a `State` may be lost at any time and costs no more than one look.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from activities.work import LaneWork, NextWorkResult
from clarion import limits
from clarion.model.ledger import Hold

FINISHED = ("done", "more")  # how a child ends that leaves the stock as good as it was
STARTED_ALREADY = 5.0  # seconds until a batch whose child of an earlier run still works is tried again


class Child(NamedTuple):
    """The work of one BatchWorkflow: one batch, or a list of batches that have only retries due."""

    lane: int
    batches: tuple[int, ...]
    retries: bool = False

    @property
    def key(self) -> str:
        """The last part of its workflow id."""
        return f"{'r' if self.retries else 'b'}{self.batches[0]}"


@dataclass(slots=True)
class Actions:
    """What the loop has to do now. `look` means: ask the ledger, and do nothing else before it answered."""

    look: bool = False
    plan: bool = False
    fall_back: bool = False  # plan again, for the phones that were refused and have another provider
    move: bool = False  # plan again, for the phones that wait in blocked lanes and have another provider
    freeze: list[int] = field(default_factory=list)
    start: list[Child] = field(default_factory=list)
    close: str | None = None  # the verdict with which the books are closed
    pause: str | None = None  # why clarion pauses the push by itself
    until: float = 0.0  # when to decide again if nothing happens


@dataclass(slots=True)
class State:
    """What the loop knows between two looks."""

    live: dict[str, Child] = field(default_factory=dict)
    freezing: set[int] = field(default_factory=set)
    planning: bool = False
    stock: dict[int, deque[Child]] = field(default_factory=dict)
    barred: dict[int, float] = field(default_factory=dict)  # batches not to be started before
    ended: set[int] = field(default_factory=set)  # lanes in which a child ended since the last look
    last: NextWorkResult | None = None
    wanted: bool = True  # something happened that makes the last look worthless
    next_look: float = 0.0
    interval: float = limits.LOOK_AGAIN
    idle: int = 0  # looks in a row with nothing live, nothing changed and nothing to wait for
    fault: str | None = None  # a freeze or the plan cannot work: somebody has to mend something
    last_error: str | None = None

    def wake(self) -> None:
        """A command or a `wake` signal came."""
        self.wanted = True

    def child_ended(self, key: str, why: str, error: str | None = None) -> None:
        """A child is gone, whatever became of it: its open rows are in the ledger."""
        child = self.live.pop(key)
        self.ended.add(child.lane)
        self.last_error = error or self.last_error
        if why not in FINISHED or (why == "more" and not self.stock.get(child.lane)):
            self.wanted = True

    def child_refused(self, key: str, now: float) -> None:
        """Its workflow runs already: an earlier run of this push left it, or a reset did."""
        child = self.live.pop(key)
        self.barred.update(dict.fromkeys(child.batches, now + STARTED_ALREADY))
        self.next_look = min(self.next_look, now + STARTED_ALREADY)

    def planned(self, ranges: int) -> None:
        """The plan is made: its ranges can be frozen without asking for them. None: its time was moved."""
        self.planning = False
        if not ranges or (self.last is not None and self.last.ranges):
            self.wanted = True
        elif self.last is not None:
            first = tuple(range(min(ranges, limits.STOCK)))
            self.last = self.last.model_copy(update={"ranges": ranges, "to_freeze": first})

    def plan_failed(self, fault: str) -> None:
        """The plan cannot be made."""
        self.planning = False
        self.fault = fault
        self.wanted = True

    def range_frozen(self, range_no: int, fault: str | None = None) -> None:
        """A range is frozen, or cannot be."""
        self.freezing.discard(range_no)
        self.fault = fault or self.fault
        self.wanted = True

    @property
    def busy(self) -> bool:
        """Whether anything of ours is under way."""
        return bool(self.live or self.freezing or self.planning)

    @property
    def live_batches(self) -> list[int]:
        """The batches in live children, in order."""
        return sorted(batch for child in self.live.values() for batch in child.batches)


def decide(state: State, answer: NextWorkResult | None, now: float) -> Actions:
    """What to do now. `answer` is what the ledger said just now, None if it was not asked."""
    if answer is not None:
        _take_in(state, answer, now)
    last = state.last
    if last is None or state.wanted or (answer is None and _look_is_due(state, last, now)):
        return _look(state)
    actions = Actions(until=state.next_look)
    actions.close = _verdict(state, last)
    if actions.close is not None:
        return actions
    actions.pause = _trouble(state, last)
    if actions.pause is None and last.hold < Hold.PAUSED:
        _send_out(state, last, actions)
    return actions


def _take_in(state: State, answer: NextWorkResult, now: float) -> None:
    """Make the ledger's answer the base of what is decided, and fix the next absolute moment to look."""
    changed = state.last is None or _mark(state.last) != _mark(answer)
    state.interval = limits.LOOK_AGAIN if changed else min(state.interval * 2, limits.LOOK_AGAIN_MAX)
    stuck = not (changed or state.busy or _waits_for(answer))
    state.idle = state.idle + 1 if stuck else 0
    state.last = answer
    state.barred = {batch: until for batch, until in state.barred.items() if until > now}
    state.stock = {lane.lane: _stock(state, lane) for lane in answer.lanes if not lane.blocked}
    if answer.starts_in:
        state.interval = limits.LOOK_SCHEDULED  # nothing moves before, and every command wakes us
    moments = [lane.due_in for lane in answer.lanes if lane.due_in is not None and not lane.blocked]
    moments += [moment for moment in (answer.deadline_in, answer.starts_in) if moment]
    state.next_look = min([now + state.interval, *(now + max(m, 0.0) for m in moments)])
    state.next_look = min([state.next_look, *state.barred.values()])


def _mark(look: NextWorkResult) -> tuple[object, ...]:
    """What is different when something moved."""
    lanes = tuple(
        (lane.lane, lane.blocked, lane.doing, lane.dues, sorted(lane.counts.items())) for lane in look.lanes
    )
    return look.version, look.hold, look.ranges, look.to_freeze, not look.starts_in, lanes


def _waits_for(look: NextWorkResult) -> str | None:
    """The named wait, if the push rightly stands still."""
    if look.hold >= Hold.PAUSED:
        return "hold"
    if look.starts_in:
        return "send time"
    doing = [lane for lane in look.lanes if lane.doing]
    if any(lane.due_in is not None for lane in doing):
        return "due later"
    if doing and all(lane.blocked for lane in doing):
        return "blocked"
    if doing and all(lane.blocked or not lane.senders for lane in doing):
        return "no sender"
    return None


def _stock(state: State, lane: LaneWork) -> deque[Child]:
    """A lane's work that may go out, less what is on its way; retries go as lists."""
    away = {*state.live_batches, *state.barred}
    again = [batch for batch in lane.due if batch not in away]
    lists = (again[at : at + limits.RETRY_LIST] for at in range(0, len(again), limits.RETRY_LIST))
    return deque(
        [
            *(Child(lane.lane, (batch,)) for batch in lane.work if batch not in away),
            *(Child(lane.lane, tuple(batches), retries=True) for batches in lists),
        ]
    )


def _look_is_due(state: State, last: NextWorkResult, now: float) -> bool:
    if now >= state.next_look:
        return True
    return last.hold < Hold.PAUSED and any(_hungry(state, lane) for lane in last.lanes)


def _hungry(state: State, lane: LaneWork) -> bool:
    """A place became free and nothing is left to put there, though the ledger may have more by now."""
    if lane.lane not in state.ended or state.stock.get(lane.lane):
        return False
    cut = max(len(lane.work), len(lane.due)) >= limits.STOCK
    return cut or not any(child.lane == lane.lane for child in state.live.values())


def _look(state: State) -> Actions:
    """Ask the ledger. The old stock goes: while it is asked nothing may start that it could offer again."""
    state.wanted = False
    state.ended.clear()
    state.stock = {}
    return Actions(look=True)


def _verdict(state: State, last: NextWorkResult) -> str | None:
    """Whether the books are to be closed, and with which word."""
    if last.hold == Hold.CLOSING:
        return last.verdict or "cancelled"
    if last.deadline_in is not None and last.deadline_in <= 0:
        return "expired"
    if state.busy or any(lane.doing for lane in last.lanes):
        return None
    if last.hold == Hold.DRAINING:
        return "cancelled"  # what was never begun is not going to be
    if not last.ranges or last.to_freeze or last.falls_back:
        return None
    return "completed"


def _trouble(state: State, last: NextWorkResult) -> str | None:
    """Why the push cannot go on without a person."""
    if last.hold != Hold.NONE:
        state.fault = None  # a person is at it; `resume` tries again
        return None
    if state.fault is not None:
        return state.fault
    if state.idle >= limits.IDLE_LOOKS:
        return "no progress" + (f": {state.last_error}" if state.last_error else "")
    return None


def _send_out(state: State, last: NextWorkResult, actions: Actions) -> None:
    """Fill what is free: the plan, two freezes, and each lane's places in turn."""
    if last.hold == Hold.NONE:
        actions.plan = not last.ranges and not last.starts_in and not state.planning
        quiet = bool(last.ranges) and not (state.busy or last.to_freeze)
        actions.fall_back = quiet and last.falls_back and not any(lane.doing for lane in last.lanes)
        actions.move = quiet and last.moves
        state.planning = state.planning or actions.plan or actions.fall_back or actions.move
        waiting = [number for number in last.to_freeze if number not in state.freezing]
        actions.freeze = waiting[: max(0, limits.FREEZES_AT_ONCE - len(state.freezing))]
        state.freezing.update(actions.freeze)
    for lane in last.lanes:
        free = lane.limit - sum(child.lane == lane.lane for child in state.live.values())
        stock = state.stock.get(lane.lane, deque())
        # What a dead attempt left does not wait for a place: those in their places may be slow, and its rows
        # are overdue. Batches of one look, so at most the places that the dead had.
        at_once = {*lane.work[: lane.left_over]}
        while stock and (free > 0 or at_once.intersection(stock[0].batches)):
            child = stock.popleft()
            free -= 1
            state.live[child.key] = child
            actions.start.append(child)
