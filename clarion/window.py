"""The window: deliveries that this process has claimed and not yet committed, over all its attempts.

A crash may repeat what is in the window and nothing else, so the window is the promise's unit. A row takes
a slot when a claim for it is asked and gives it back with the commit of its outcome (or the release of its
batch). Slots are shared so that nobody starves: a lane with work is entitled to an equal part and borrows
what others leave; in a lane turns go round the pushes; in a push the batch taken first is served first, so
that one ledger statement carries hundreds of answers instead of a few from everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import count

from clarion.limits import WINDOW


class Seat:
    """One attempt's place at the window."""

    __slots__ = ("held", "lane", "number", "push_no", "returning", "wake", "want")

    def __init__(self, lane: str, push_no: int, number: int, wake: Callable[[], None]) -> None:
        self.lane = lane
        self.push_no = push_no
        self.number = number  # order of taking
        self.wake = wake
        self.held = 0  # slots taken
        self.want = 0  # slots it would take now if it could
        self.returning = 0  # of those held: given back by the statement that is running


class Window:
    """`size` slots, shared by the attempts of one process."""

    def __init__(self, size: int = WINDOW) -> None:
        self.size = size
        self.used = 0
        self.fullest = 0  # most slots ever held at once, those that a running statement gives back aside
        self._seats: list[Seat] = []
        self._numbers = count()

    def sit(self, lane: str, push_no: int, wake: Callable[[], None]) -> Seat:
        """A place for a new attempt; `wake` is called when it may find free slots again."""
        seat = Seat(lane, push_no, next(self._numbers), wake)
        self._seats.append(seat)
        return seat

    def leave(self, seat: Seat) -> None:
        """The attempt ended: whatever it still holds is free (its batch was released or is fenced)."""
        self._seats.remove(seat)
        self.used -= seat.held
        seat.held = seat.want = seat.returning = 0
        self._wake()

    def offer(self, seat: Seat, want: int, *, returning: int = 0) -> int:
        """How many slots `seat` may take now, at most `want`.

        `returning`: slots that the same statement gives back; they count as free for this seat.
        """
        seat.want = want
        lanes = _grouped(self._seats, lambda s: s.lane)
        free = self.size - self.used + returning
        free -= _reserved(lanes, seat.lane, self.size // len(lanes))
        lane = lanes[seat.lane]
        pushes = _grouped(lane, lambda s: s.push_no)
        share = (sum(s.held for s in lane) + max(free, 0)) // len(pushes)
        free -= _reserved(pushes, seat.push_no, share)
        free -= sum(s.want for s in pushes[seat.push_no] if s.number < seat.number)
        return max(0, min(want, free))

    def take(self, seat: Seat, slots: int, *, returning: int = 0) -> None:
        """Slots taken: a claim for as many rows is being asked.

        `returning`: slots of outcomes that the same statement writes. The claim stands in the ledger only
        together with them, so they do not count twice; for everybody else they are taken until `give`.
        """
        seat.held += slots
        seat.want = max(0, seat.want - slots)
        self.used += slots
        seat.returning += returning
        self.fullest = max(self.fullest, self.used - sum(s.returning for s in self._seats))

    def give(self, seat: Seat, slots: int) -> None:
        """Slots back: the outcomes that `take` was told of were committed."""
        seat.held -= slots
        self.used -= slots
        seat.returning -= slots
        self._wake()

    def _wake(self) -> None:
        for seat in self._seats:
            if seat.want:
                seat.wake()


def _grouped(seats: Iterable[Seat], key: Callable[[Seat], object]) -> dict[object, list[Seat]]:
    groups: dict[object, list[Seat]] = {}
    for seat in seats:
        groups.setdefault(key(seat), []).append(seat)
    return groups


def _reserved(groups: dict[object, list[Seat]], mine: object, share: int) -> int:
    """Free slots that the other groups want and are entitled to."""
    total = 0
    for name, seats in groups.items():
        if name != mine:
            held = sum(s.held for s in seats)
            total += max(0, min(sum(s.want for s in seats), share - held))
    return total
