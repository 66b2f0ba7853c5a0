"""What a run of chaos has done and seen, and the bounds that it is held to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.support.judge import Account
from tests.support.victim import LEASE

RESUME_SECONDS: Final = max(LEASE.values()) + 3.0  # kill -> the killed rows go out again
OBEYED_SECONDS: Final = 2.0  # an operator's word, from its acknowledgement on
ROOM_SECONDS: Final = 15.0  # a full disk has room again and the push was resumed -> it sends
MOVES_SECONDS: Final = 60.0  # after anything else
WINDOW: Final = 1_000


@dataclass
class Caught:
    """A sender that was killed or slept too long: what it held, and what it may cost."""

    held: int
    rate: float  # of its process, in the second before

    @property
    def window(self) -> int:
        """Rows that may go out twice: half a second of its rate, never more than a window."""
        return min(WINDOW, round(self.rate / 2))


@dataclass
class Tally:
    """Counts and longest times over a whole run. `broken` says in words which bound did not hold."""

    kills: Counter[str] = field(default_factory=Counter)
    zombies: int = 0
    cuts: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    orders: Counter[str] = field(default_factory=Counter)
    longest: dict[str, float] = field(default_factory=dict)
    samples: int = 0
    full_disks: int = 0
    lost: int = 0
    duplicates: int = 0
    bound: int = 0
    redo: int = 0
    windows: int = 0  # what the senders that were killed or overslept may have cost, by their rates
    amo_duplicates: int = 0
    broken: list[str] = field(default_factory=list)

    def time(self, what: str, seconds: float, most: float) -> None:
        """A measured time; a bound is broken when it is longer than `most`."""
        self.longest[what] = max(self.longest.get(what, 0.0), seconds)
        if seconds > most:
            self.broken.append(f"{what} took {seconds:.1f} s, at most {most:g} are allowed")

    def hold(self, true: bool, words: str) -> None:
        """A bound, and what is wrong when it does not hold."""
        if not true:
            self.broken.append(words)

    def judged(self, account: Account, caught: Sequence[Caught], *, once: bool, all_answered: bool) -> None:
        """One push came to its end. `caught`: senders killed or overslept; `once`: its guarantee."""
        self.lost += account.lost
        self.redo += account.redo
        self.windows += sum(one.window for one in caught)
        self.hold(account.holds, f"file, ledger and log disagree: {account}")
        self.hold(account.audience == account.devices, f"audience {account.audience} of {account.devices}")
        allowed = WINDOW * len(caught)
        self.hold(account.redo <= allowed, f"redo {account.redo}, at most {allowed} are allowed")
        if once:
            self.amo_duplicates += account.duplicates
            self.hold(not account.duplicates, f"{account.duplicates} duplicates under at most once")
        else:
            self.duplicates += account.duplicates
            self.bound += account.redo + account.maybe
            self.hold(
                account.duplicates <= account.redo + account.maybe,
                f"{account.duplicates} duplicates, redo {account.redo} + maybe {account.maybe}",
            )
        answered = account.states.get("accepted", 0) + account.states.get("rejected", 0)
        if all_answered:
            self.hold(answered == account.audience, f"without an answer at the end: {account.states}")

    def line(self) -> str:
        """The last line of a run."""
        longest = {name: self.longest.get(name, 0.0) for name in ("resume", "pause", "cancel")}
        times = " ".join(f"{name}_max={seconds:.1f}s" for name, seconds in longest.items())
        return (
            f"chaos: kills={self.kills.total()} zombies={self.zombies} cuts={self.cuts.total()} "
            f"lost={self.lost} duplicates={self.duplicates} bound={self.bound} {times} "
            f"amo_duplicates={self.amo_duplicates}"
        )
