"""The window: slots of one process, shared by lanes, pushes and batches."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from clarion.window import Seat, Window


def nothing() -> None:
    """A wake that nobody waits for."""


def test_one_attempt_may_have_the_whole_window() -> None:
    """Alone, an attempt borrows everything."""
    window = Window(100)
    seat = window.sit("1.1", 1, nothing)

    assert window.offer(seat, 500) == 100


def test_a_second_lane_keeps_its_half() -> None:
    """What another lane wants and is entitled to is not lent."""
    window = Window(100)
    first, second = window.sit("1.1", 1, nothing), window.sit("1.2", 1, nothing)
    window.offer(second, 500)

    assert window.offer(first, 500) == 50


def test_a_lane_borrows_what_the_other_leaves() -> None:
    """A slow lane that wants three slots leaves the rest."""
    window = Window(100)
    fast, slow = window.sit("1.1", 1, nothing), window.sit("1.2", 1, nothing)
    window.offer(slow, 3)

    assert window.offer(fast, 500) == 97


def test_the_batch_taken_first_is_served_first() -> None:
    """Within a push one batch gets the slots, so that its statements carry many answers."""
    window = Window(100)
    first, second = window.sit("1.1", 1, nothing), window.sit("1.1", 1, nothing)
    window.offer(first, 80)

    assert window.offer(second, 80) == 20
    window.take(first, window.offer(first, 80))
    assert window.offer(second, 80) == 20


def test_pushes_of_a_lane_share_it() -> None:
    """A large push that came first does not shut out a later one."""
    window = Window(100)
    first, second = window.sit("1.1", 1, nothing), window.sit("1.1", 2, nothing)
    window.offer(second, 80)

    assert window.offer(first, 80) == 50


def test_outcomes_of_the_same_statement_count_as_free() -> None:
    """A full window claims as much as the statement commits."""
    window = Window(100)
    seat = window.sit("1.1", 1, nothing)
    window.take(seat, window.offer(seat, 100))

    assert window.offer(seat, 100) == 0
    assert window.offer(seat, 100, returning=40) == 40


def test_who_wanted_more_is_woken_when_slots_come_back() -> None:
    """Starved attempts look again when another one commits or leaves."""
    window = Window(10)
    woken: list[str] = []
    first = window.sit("1.1", 1, lambda: woken.append("first"))
    second = window.sit("1.1", 2, lambda: woken.append("second"))
    window.take(first, window.offer(first, 10))
    window.offer(second, 5)
    window.give(first, 4)

    assert "second" in woken


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=200)
)
def test_never_more_than_the_window(turns: list[tuple[int, int, int]]) -> None:
    """Whatever six attempts of three lanes and two pushes do, claimed rows never exceed the window.

    A statement is asked in one turn (its claim and its outcomes) and acknowledged in the seat's next one.
    """
    window = Window(60)
    seats = [window.sit(f"1.{n % 3}", n % 2, nothing) for n in range(6)]
    running = [0] * 6
    in_ledger = 0
    for who, want, back in turns:
        seat = seats[who]
        window.give(seat, running[who])
        returning = running[who] = min(back, seat.held)
        claim = window.offer(seat, want, returning=returning)
        window.take(seat, claim, returning=returning)
        in_ledger += claim - returning  # at the earliest the ledger has written both
        assert in_ledger <= window.size

    assert window.used == sum(seat.held for seat in seats)
    assert window.fullest <= window.size


@given(st.lists(st.integers(1, 50), min_size=2, max_size=6))
def test_nobody_starves(wants: list[int]) -> None:
    """With everything free and everybody wanting, each lane is offered at least its equal part."""
    window = Window(60)
    seats: list[tuple[Seat, int]] = [(window.sit(f"1.{n}", 1, nothing), want) for n, want in enumerate(wants)]
    for seat, want in seats:
        window.offer(seat, want)

    assert all(window.offer(seat, want) >= min(want, 60 // len(seats)) for seat, want in seats)
