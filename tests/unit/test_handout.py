"""The push loop's `decide` against a model of the ledger and a world that loses, repeats and interrupts."""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from activities.work import LaneWork, NextWorkResult
from clarion import limits
from clarion.model.ledger import Hold
from workflows.handout import Actions, Child, State, decide


@dataclass
class Batch:
    """A batch row of the model: planned and retry rows, and until when nobody else may take it."""

    lane: int
    planned: int
    retry: int = 0
    due_at: float = 0.0
    lease_until: float = 0.0
    opens_at: float = 0.0
    begun: bool = False

    @property
    def at(self) -> float:
        """When it may be taken."""
        due = self.due_at if not self.planned else 0.0
        return max(self.lease_until, self.opens_at, due)


@dataclass
class Ledger:
    """What NEXT_WORK promises, over a dictionary."""

    unfrozen: list[int]
    ranges: int = 0
    hold: Hold = Hold.NONE
    version: int = 0
    deadline: float | None = None
    blocked: set[int] = field(default_factory=set)
    batches: dict[int, Batch] = field(default_factory=dict)
    senders: int = 1
    refused: bool = False  # phones that may have another provider, and were not planned again

    def command(self, hold: Hold) -> None:
        """An operator's word; closing stays."""
        if self.hold != Hold.CLOSING and not (hold == Hold.PAUSED and self.hold == Hold.DRAINING):
            self.hold, self.version = hold, self.version + 1

    def look(self, live: list[int], now: float) -> NextWorkResult:
        """The answer of the activity."""
        lanes = tuple(self._lane(lane, live, now) for lane in sorted({b.lane for b in self.batches.values()}))
        return NextWorkResult(
            version=self.version,
            hold=self.hold,
            deadline_in=None if self.deadline is None else self.deadline - now,
            ranges=self.ranges,
            to_freeze=tuple(self.unfrozen) if self.ranges else (),
            falls_back=self.refused,
            lanes=lanes,
        )

    def _lane(self, lane: int, live: list[int], now: float) -> LaneWork:
        mine = {n: b for n, b in sorted(self.batches.items()) if b.lane == lane}
        todo = {
            n: b for n, b in mine.items() if b.planned + b.retry and (self.hold != Hold.DRAINING or b.begun)
        }
        go = {n: b for n, b in todo.items() if b.at <= now and n not in live}
        later = [b.at - now for b in todo.values() if b.at > now]
        return LaneWork(
            lane=lane,
            limit=limits.live_limit(self.senders),
            senders=self.senders,
            blocked=lane in self.blocked,
            work=tuple(n for n, b in go.items() if b.planned)[: limits.STOCK],
            due=tuple(n for n, b in go.items() if not b.planned)[: limits.STOCK],
            due_in=min(later, default=None),
            doing=len(todo),
            counts={
                "planned": sum(b.planned for b in mine.values()),
                "retry": sum(b.retry for b in mine.values()),
            },
        )


class World:
    """Runs a push: time, children, freezes, and (until `fair`) everything that can go wrong."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.now = 1_000.0
        self.ledger = Ledger(unfrozen=list(range(random.randint(1, 4))), refused=random.random() < 0.5)
        self.state = State()
        self.children: dict[str, tuple[Child, float]] = {}  # alive in Temporal, also those of a lost run
        self.freezes: dict[int, float] = {}
        self.fair = False
        self.closed: str | None = None
        self.paused_by_clarion: list[str] = []
        self.looks = 0

    def run(self, steps: int) -> None:
        """Let the loop turn, with trouble in the first 120 steps."""
        for step in range(steps):
            self.fair = self.fair or step > 120
            if self.closed is not None:
                return
            if self.fair:
                self._mend()
            elif self.random.random() < 0.3:
                self._trouble()
            self._turn()

    def _turn(self) -> None:
        actions = decide(self.state, None, self.now)
        while actions.look:
            self.looks += 1
            live = self.state.live_batches
            if not self.fair and self.random.random() < 0.1:  # something happens while it is asked
                self._finish_one()
            answer = self.ledger.look(live, self.now)
            actions = decide(self.state, answer, self.now)
            if not self.fair and self.random.random() < 0.1:  # the answer comes twice
                self._do(actions)
                actions = decide(self.state, answer, self.now)
        self._do(actions)
        if self.closed is None:
            self._pass_time(actions)

    def _do(self, actions: Actions) -> None:
        if actions.close:
            assert not (actions.close == "completed" and self._open())
            assert actions.close != "completed" or not (self.ledger.unfrozen or self.ledger.refused)
            self.closed = actions.close
        if actions.pause:
            self.paused_by_clarion.append(actions.pause)
            self.ledger.command(Hold.PAUSED)
            self.state.wake()
        if actions.plan:
            self.ledger.ranges = len(self.ledger.unfrozen)
            self.state.planned(self.ledger.ranges)
        if actions.fall_back:
            assert not (self._open() or self.ledger.unfrozen) or not self.fair
            self._plan_fallback()
        for number in actions.freeze:
            assert number not in self.freezes
            self.freezes[number] = self.now + self.random.uniform(0.1, 3)
        assert len(self.state.freezing) <= limits.FREEZES_AT_ONCE
        for child in actions.start:
            self._start(child)
        self._check(actions.start)

    def _plan_fallback(self) -> None:
        """As the ledger does it: once, and only when all is frozen and done."""
        added = int(self.ledger.refused and not self._open() and not self.ledger.unfrozen)
        if added and self.ledger.hold == Hold.NONE:
            self.ledger.unfrozen.append(self.ledger.ranges)
            self.ledger.ranges += 1
            self.ledger.refused = False
        self.state.planned(added)

    def _start(self, child: Child) -> None:
        assert len(child.batches) <= limits.RETRY_LIST
        assert child.retries or len(child.batches) == 1
        assert child.lane not in self.ledger.blocked or not self.fair
        if child.key in self.children:  # left by a lost run
            self.state.child_refused(child.key, self.now)
            return
        self.children[child.key] = (child, self.now + self.random.uniform(0.01, 4))

    def _check(self, started: list[Child]) -> None:
        assert self.state.last is not None
        live = self.state.live_batches
        assert len(live) == len(set(live)), "a batch is in two live children"
        for lane in {child.lane for child in started}:
            alive = sum(child.lane == lane for child in self.state.live.values())
            assert alive <= next(found.limit for found in self.state.last.lanes if found.lane == lane)

    def _open(self) -> int:
        return sum(b.planned + b.retry for b in self.ledger.batches.values())

    def _pass_time(self, actions: Actions) -> None:
        moments = [at for _, at in self.children.values()] + list(self.freezes.values())
        assert actions.until > self.now or self.state.wanted, "it would spin"
        self.now = max(self.now, min([*moments, actions.until]))
        for number in [n for n, at in self.freezes.items() if at <= self.now]:
            self._freeze(number)
        for key in [k for k, (_, at) in self.children.items() if at <= self.now]:
            self._finish(key)

    def _freeze(self, number: int) -> None:
        del self.freezes[number]
        if number in self.ledger.unfrozen:
            self.ledger.unfrozen.remove(number)
            for k in range(self.random.choice([0, 1, 5, 5, 20, 70])):
                batch = Batch(self.random.randint(1, 3), self.random.randint(1, 5))
                if self.random.random() < 0.1:
                    batch.opens_at = self.now + self.random.uniform(0, 30)
                self.ledger.batches[number * 10_000 + k] = batch
        if number in self.state.freezing:
            self.state.range_frozen(number)

    def _finish_one(self) -> None:
        if self.children:
            self._finish(self.random.choice(sorted(self.children)))

    def _finish(self, key: str) -> None:
        child, _ = self.children.pop(key)
        why = "done"
        for number in child.batches:
            why = self._attempt(self.ledger.batches[number]) if why == "done" else why
        if self.state.live.get(key) is child:
            self.state.child_ended(key, why, "it broke" if why == "failed" else None)

    def _attempt(self, batch: Batch) -> str:
        if self.ledger.hold >= Hold.PAUSED or (self.ledger.hold == Hold.DRAINING and not batch.begun):
            return "held"
        if batch.lane in self.ledger.blocked:
            return "blocked"
        if batch.lease_until > self.now:
            return "leased"
        luck = self.random.random()
        batch.begun = True
        if not self.fair and luck < 0.1:  # killed: its lease lives on
            batch.lease_until = self.now + 10
            return "failed"
        if luck < 0.2:
            batch.planned = max(1, batch.planned - 1)
            return "more"
        if luck < 0.4 and batch.planned:
            batch.planned, batch.retry, batch.due_at = 0, 1, self.now + self.random.choice([0.5, 5, 30])
            return "done"
        batch.planned = batch.retry = 0
        return "done"

    def _trouble(self) -> None:
        what = self.random.randrange(9)
        if what == 0:
            self.ledger.command(Hold.PAUSED)
        elif what == 1:
            self.ledger.command(Hold.NONE)
        elif what == 2:
            self.ledger.blocked ^= {self.random.randint(1, 3)}
        elif what == 3:  # reset, terminate and resume, continue-as-new: the loop forgets everything
            self.state = State()
            self.freezes.clear()
        elif what == 4 and self.children:  # a child is terminated, or its result lost
            key = self.random.choice(sorted(self.children))
            self.children.pop(key)
            if key in self.state.live:
                self.state.child_ended(key, "failed", "terminated")
        elif what == 5:
            self.ledger.senders = self.random.randint(0, 3)
        elif what == 6 and self.random.random() < 0.1:
            self.ledger.command(Hold.DRAINING)
        elif what == 7 and self.random.random() < 0.05:
            self.ledger.deadline = self.now + self.random.uniform(0, 60)
        if self.random.random() < 0.7:  # else nobody tells the loop: `--direct`
            self.state.wake()

    def _mend(self) -> None:
        self.ledger.blocked.clear()
        self.ledger.senders = 2
        if self.ledger.hold == Hold.PAUSED:
            self.ledger.command(Hold.NONE)
            self.state.wake()


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(0, 2**32))
def test_it_terminates_and_no_batch_is_in_two_live_children(seed: int) -> None:
    """Whatever happens in between, a push that is let be comes to its end with nothing open."""
    world = World(Random(seed))

    world.run(2_000)

    assert world.closed is not None, (world.ledger.hold, world.state)
    assert world.closed in ("cancelled", "expired") or not world._open()
    # Looks are paid for in history: never more than a few for each child, freeze and interruption.
    assert world.looks < 2_000


def _told(state: State, answer: NextWorkResult, now: float) -> Actions:
    """Look, and decide on what the ledger says."""
    state.wake()
    assert decide(state, None, now).look
    return decide(state, answer, now)


def _asked() -> State:
    """A loop that waits for the ledger's answer."""
    state = State()
    assert decide(state, None, 0.0) == Actions(look=True)
    return state


def _ready(**lane: object) -> NextWorkResult:
    work = {"lane": 1, "limit": 3, "senders": 1, "work": (0, 1, 2, 3, 4), "doing": 5}
    return NextWorkResult(ranges=1, lanes=(LaneWork.model_validate(work | lane),))


def test_it_asks_before_it_does_anything() -> None:
    """A fresh loop knows nothing, so its first act is a look."""
    assert decide(State(), None, 0.0) == Actions(look=True)


def test_it_fills_free_places_and_keeps_the_rest() -> None:
    """Three places, five batches: three start, two wait for a place."""
    state = _asked()

    first = decide(state, _ready(), 0.0)
    state.child_ended("b0", "done")
    second = decide(state, None, 1.0)

    assert [child.batches for child in first.start] == [(0,), (1,), (2,)]
    assert [child.batches for child in second.start] == [(3,)]


def test_what_a_dead_attempt_left_waits_for_no_place() -> None:
    """All places are taken by slow batches: the two that a killed sender left start beside them, no other."""
    state = _asked()
    decide(state, _ready(), 0.0)
    state.wake()
    decide(state, None, 1.0)

    rescued = decide(state, _ready(work=(8, 9, 3, 4), left_over=2), 1.0)
    state.child_ended("b0", "done")
    later = decide(state, None, 2.0)

    assert [child.batches for child in rescued.start] == [(8,), (9,)]
    assert later.start == []


def test_it_falls_back_once_when_all_is_done() -> None:
    """Not before, not while it is held, and the books stay open until that is done, too."""
    state = _asked()
    done = NextWorkResult(ranges=1, lanes=(LaneWork(lane=1),), falls_back=True)

    early = _told(state, done.model_copy(update={"to_freeze": (0,)}), 1.0)
    state.range_frozen(0)
    held = _told(state, done.model_copy(update={"hold": Hold.PAUSED}), 2.0)
    due = _told(state, done, 3.0)
    again = decide(state, None, 3.1)
    state.planned(1)
    after = _told(state, done.model_copy(update={"falls_back": False}), 4.0)

    assert [(one.fall_back, one.close) for one in (early, held, due, again)] == [
        (False, None), (False, None), (True, None), (False, None),
    ]  # fmt: skip
    assert after.close == "completed"


def test_phones_of_blocked_lanes_move_when_all_else_is_done() -> None:
    """Not while anything is under way or held; the books stay open, and the look after it finds new work."""
    state = _asked()
    waits = NextWorkResult(ranges=1, lanes=(LaneWork(lane=1, blocked=True, doing=2),), moves=True)

    early = _told(state, waits.model_copy(update={"to_freeze": (0,)}), 1.0)
    state.range_frozen(0)
    held = _told(state, waits.model_copy(update={"hold": Hold.PAUSED}), 2.0)
    due = _told(state, waits, 3.0)
    again = decide(state, None, 3.1)
    state.planned(1)
    after = decide(state, None, 3.2)

    assert [(one.move, one.fall_back, one.close) for one in (early, held, due, again)] == [
        (False, False, None), (False, False, None), (True, False, None), (False, False, None),
    ]  # fmt: skip
    assert after.look


def test_a_held_child_empties_the_stock() -> None:
    """A child that was refused says that the stock is out of date: the ledger is asked before more starts."""
    state = _asked()
    decide(state, _ready(), 0.0)

    state.child_ended("b0", "held")

    assert decide(state, None, 0.1) == Actions(look=True)


def test_the_due_moment_is_absolute() -> None:
    """Ended children do not push the next look away from the moment at which more falls due."""
    state = _asked()
    decide(state, _ready(due_in=4.0), 0.0)
    for at in (1.0, 2.0):
        state.child_ended(f"b{int(at) - 1}", "done")
        assert decide(state, None, at).until == 4.0

    assert decide(state, None, 4.0).look


def test_retries_go_out_as_lists() -> None:
    """Batches that have only retries due share a child, fifty at most."""
    due = tuple(range(100, 150))
    actions = decide(_asked(), _ready(work=(7,), due=due), 0.0)

    assert [child.key for child in actions.start] == ["b7", "r100"]
    assert actions.start[1].batches == due


def test_a_child_that_runs_already_is_left_alone_for_five_seconds() -> None:
    """AlreadyStarted: the batch is not offered again before, and then it is."""
    state = _asked()
    decide(state, _ready(work=(7,), doing=1), 0.0)
    state.child_refused("b7", 0.0)

    again = decide(state, _ready(work=(7,), doing=1), 1.0)

    assert not again.start
    assert again.until == 5.0
    assert decide(state, None, 5.0).look
    assert [child.key for child in decide(state, _ready(work=(7,), doing=1), 5.0).start] == ["b7"]


def test_a_blocked_lane_stands_and_the_others_go_on() -> None:
    """`blocked` belongs to one credential."""
    blocked = LaneWork(lane=1, limit=3, blocked=True, work=(0,), doing=1)
    fine = LaneWork(lane=2, limit=3, work=(1,), doing=1)

    actions = decide(_asked(), NextWorkResult(ranges=1, lanes=(blocked, fine)), 0.0)

    assert [child.lane for child in actions.start] == [2]


def test_three_looks_without_progress_pause_the_push() -> None:
    """Children that end at once without moving a row are not started for ever."""
    state, pauses = _asked(), []
    for turn in range(6):
        actions = _told(state, _ready(work=(7,), doing=1), float(turn))
        pauses.append(actions.pause)
        for child in actions.start:
            state.child_ended(child.key, "failed", "it broke")

    assert pauses[:3] == [None, None, None]
    assert pauses[3] == "no progress: it broke"


def test_retries_that_fail_again_are_progress() -> None:
    """A few rows that fall due one after the other, and fail: they are on their way to an end, not stuck."""
    state = _asked()
    for turn in range(12):
        actions = _told(state, _ready(due=(7,), doing=1, dues=100.0 + turn), float(turn))
        assert actions.pause is None
        for child in actions.start:
            state.child_ended(child.key, "done")


def test_named_waits_are_no_idleness() -> None:
    """A push that is held, blocked, without senders or not yet due is left as it is."""
    waits = [
        _ready(work=(), blocked=True),
        _ready(work=(), due_in=1000.0),
        _ready(work=(), senders=0),
        _ready().model_copy(update={"hold": Hold.PAUSED}),
    ]
    for look in waits:
        state = _asked()
        assert all(decide(state, look, turn * 300.0).pause is None for turn in range(9))


def test_the_deadline_closes_a_paused_push() -> None:
    """The deadline runs on during a pause."""
    paused = _ready().model_copy(update={"hold": Hold.PAUSED, "deadline_in": 30.0})
    state = _asked()

    assert decide(state, paused, 0.0).until <= 30.0
    assert decide(state, paused.model_copy(update={"deadline_in": 0.0}), 30.0).close == "expired"


def test_a_drained_push_ends_without_what_was_not_begun() -> None:
    """Draining freezes nothing and starts only what the ledger offers; then the books are closed."""
    draining = NextWorkResult(hold=Hold.DRAINING, ranges=2, to_freeze=(1,))

    actions = decide(_asked(), draining, 0.0)

    assert actions.close == "cancelled"
    assert not actions.freeze


def test_nothing_is_planned_before_its_time() -> None:
    """A scheduled push waits for its absolute moment, then its audience is planned as it is then."""
    state = _asked()
    early = decide(state, NextWorkResult(starts_in=90.0), 0.0)

    assert (early.plan, early.until) == (False, 90.0)
    assert _told(state, NextWorkResult(starts_in=0.0), 90.0).plan


def test_an_empty_audience_completes() -> None:
    """All ranges frozen and no row: nothing to do is done."""
    assert decide(_asked(), NextWorkResult(ranges=1), 0.0).close == "completed"


def test_what_cannot_be_frozen_pauses_with_its_reason_and_resume_tries_again() -> None:
    """Somebody has to mend the audience; the push waits for that and forgets the fault at the pause."""
    state = _asked()
    unfrozen = NextWorkResult(ranges=1, to_freeze=(0,))
    assert decide(state, unfrozen, 0.0).freeze == [0]
    state.range_frozen(0, "no lane has a credential")

    assert _told(state, unfrozen, 1.0).pause == "no lane has a credential"
    _told(state, unfrozen.model_copy(update={"hold": Hold.PAUSED, "version": 1}), 2.0)
    assert _told(state, unfrozen.model_copy(update={"version": 2}), 3.0).freeze == [0]


def test_looks_grow_rare_while_nothing_moves() -> None:
    """Ten seconds at first, five minutes at most."""
    state, look = _asked(), _ready(work=(), due_in=10_000.0)

    gaps = [decide(state, look, 0.0).until for _ in range(8)]

    assert gaps == [10.0, 20.0, 40.0, 80.0, 160.0, 300.0, 300.0, 300.0]
