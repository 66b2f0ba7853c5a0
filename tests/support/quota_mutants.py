"""Small mistakes in the quota, and the rule that notices each: edits of the source as it stands.

`wrong(mutant)` loads the quota and its rules anew with one edit, beside the right ones, in this process.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Final, NamedTuple

RELOADED: Final = ("clarion.quota", "tests.support.quota")
SOURCES: Final = Path(importlib.import_module("clarion.quota").__path__[0])


class Mutant(NamedTuple):
    """One edit, and the rule and seed that were seen to notice it."""

    module: str
    right: str
    wrong: str
    rule: str
    seed: int = 0


MUTANTS: Final[dict[str, Mutant]] = {
    # What a lane learns.
    "every report of a storm cuts": Mutant(
        "learn", "CUT_EVERY: Final = 2.0", "CUT_EVERY: Final = 0.0", "storm_cuts_once"
    ),
    "a lane climbs ten times too fast": Mutant(
        "learn", "CLIMB: Final = 0.02", "CLIMB: Final = 0.2", "storm_cuts_once"
    ),
    "what was too much is not noted": Mutant(
        "learn", "learned=too_much, rate=max", "rate=max", "limit_is_forgotten"
    ),
    "what was too much is forgotten soon": Mutant(
        "learn", "FORGET_AFTER: Final = 60.0", "FORGET_AFTER: Final = 10.0", "limit_is_forgotten"
    ),
    "an outage leaves the starting rate": Mutant(
        "learn", "min(FLOOR, top), lane.learned", "min(START, top), lane.learned", "outage_is_a_low_rate"
    ),
    "a run of bad answers is no outage": Mutant(
        "learn", "lane.run >= BAD_IN_A_ROW", "False", "outage_of_a_quiet_lane"
    ),
    "a fifth of bad answers is an outage": Mutant(
        "learn",
        "lane.failed >= lane.seen / 2",
        "lane.failed >= lane.seen / 5",
        "few_bad_answers_are_no_outage",
    ),
    "recovery by hundreds": Mutant("learn", "rate *= 10\n", "rate *= 100\n", "recovery_by_tens"),
    "a Retry-After is not passed on": Mutant(
        "learn", "LONGEST_RETRY_AFTER), news.closed)", "LONGEST_RETRY_AFTER), 0.0)", "retry_after_stops"
    ),
    "an unlimited lane recovers with every second": Mutant(
        "learn", "rate < inf and rate <= top / 2", "rate <= top / 2", "few_bad_answers_are_no_outage"
    ),
    # Who deserves what.
    "weights do not count": Mutant("share", "pushes[pair[1]].weight", "1.0", "weights_share"),
    "urgent pairs are like others": Mutant("share", "if want.urgent:", "if False:", "urgent_first"),
    "urgent pairs take all": Mutant("share", "x / 2 if isinstance", "x if isinstance", "urgent_first"),
    "no room for urgent sends": Mutant(
        "share", "RESERVE: Final = 0.02", "RESERVE: Final = 0.0", "urgent_at_once"
    ),
    # What is paid.
    "unread rates are forgotten": Mutant(
        "payout", "if follower > read", "if follower == inf", "raises_wait_for_readers"
    ),
    "a pace is not paid for": Mutant(
        "payout",
        "for name in names_of(share, limits):\n            free",
        "for name in names_of(share[:1], limits):\n            free",
        "never_over_limit",
    ),
    "cuts wait": Mutant("payout", "return deserved\n    return", "return held\n    return", "cut_at_once"),
    "unlimited pairs are not reckoned with": Mutant(
        "deal", "rates |= _unlimited(asks, limits)", "", "unlimited_costs_nothing"
    ),
    "a pace that comes later reckons with nobody": Mutant(
        "deal",
        "rates |= _unlimited(asks, limits)\n    _note(dealt, rates, state.number + 1)",
        "_note(dealt, rates, state.number + 1)\n    rates |= _unlimited(asks, limits)",
        "pace_change_from_none",
    ),
    "the dead keep their share": Mutant(
        "ask", "DEAD_SECONDS: Final = 1.4", "DEAD_SECONDS: Final = 14.0", "process_dies"
    ),
    "the living are thought dead": Mutant(
        "ask", "DEAD_SECONDS: Final = 1.4", "DEAD_SECONDS: Final = 0.3", "never_over_limit"
    ),
    # Counted sends.
    "counted sends cost the limit nothing": Mutant(
        "counted", "ready[name] -= 1", "ready[name] -= 0", "slow_shares"
    ),
    "the least owed is served": Mutant(
        "counted", "(-owing[pair], i, pair) for", "(owing[pair], i, pair) for", "nobody_starves"
    ),
    # The dealer at work.
    "a new dealer deals at once": Mutant(
        "dealer", "now < post.dealt_at + DEAD_SECONDS", "now < post.dealt_at", "crash_of_the_board"
    ),
    "a refused dealer goes on": Mutant(
        "dealer",
        "self._post is not None and not await self._deal(self._post)",
        "self._post is not None and await self._deal(self._post) is None",
        "sleeper_is_fenced",
    ),
    "who goes by nothing waits for a change": Mutant(
        "dealer", "p in nothing or ", "", "nothing_without_exchange"
    ),
    # The process.
    "rates never run out": Mutant(
        "permits", "asked + min(limits.RATE_LEASE", "asked + max(100.0", "nothing_without_exchange"
    ),
    "a lost dealer is not noticed": Mutant(
        "permits", "NO_DEALER_SECONDS: Final = 3.0", "NO_DEALER_SECONDS: Final = 300.0", "nobody_deals"
    ),
    "old rates are good after a pause": Mutant(
        "permits", "self._go_by_from = (answer.deal or 0) + 1", "self._go_by_from = 0", "never_over_limit"
    ),
    "a lost row is no loss": Mutant(
        "permits",
        " or (self._read and not answer.number)",
        "",
        "crash_of_the_board",
        7,
    ),
    "counted sends are forgotten with the attempt": Mutant(
        "permits",
        "FORGET_PAIR_SECONDS: Final = 30.0",
        "FORGET_PAIR_SECONDS: Final = -1.0",
        "attempts_come_and_go",
        3,
    ),
    "what nobody sends is asked for": Mutant(
        "permits",
        "for pair in self._pairs() if pair.taps}",
        "for pair in self._pairs()}",
        "given_back_is_the_others",
    ),
    "a pair is never dropped": Mutant(
        "permits", "del lane.pairs[pair.push_no]", "pass", "given_back_is_the_others"
    ),
    "half of the last answers bad and on it goes": Mutant(
        "tap", "self.halted, self.resume_with = True, None", "pass", "half_bad_halts"
    ),
    "a halt does not wait for the dealer": Mutant(
        "permits", "DEALS_TO_LEARN: Final = 3", "DEALS_TO_LEARN: Final = 0", "half_bad_halts"
    ),
    "its own Retry-After waits for the dealer": Mutant(
        "tap", "now < lane.stopped_until", "False", "retry_after_stops"
    ),
    "a cooling lane spends its savings": Mutant(
        "tap", "if rates.cooling and not self.cooling:", "if False:", "cooling_empties"
    ),
    "an urgent push waits for its share": Mutant(
        "tap", "is not None or not self.urgent:", "is not None or True:", "urgent_at_once"
    ),
    "the last rows hold a lane": Mutant(
        "tap",
        "min(self._rate, 2.0 * self._rows_left + AT_LEAST)",
        "self._rate",
        "few_rows_want_little",
    ),
    "counted sends go when they are read": Mutant(
        "permits", "RIPE_SECONDS: Final = 0.31", "RIPE_SECONDS: Final = 0.0", "counted_sends_keep_step"
    ),
    "a new push waits its turn": Mutant(
        "permits", "HURRY_SECONDS: Final = 0.1", "HURRY_SECONDS: Final = 0.5", "first_permits_come_soon"
    ),
    "a bucket saves a second": Mutant(
        "purse", "BURST_SECONDS: Final = 0.1", "BURST_SECONDS: Final = 1.0", "idle_is_no_credit"
    ),
    "what is given back is lost": Mutant("purse", "self._held + n)", "self._held)", "idle_is_no_credit"),
    "a new bucket is full": Mutant(
        "purse",
        "self._held = 0.0\n        self._at = now\n\n    def set",
        "self._held = 1 + BURST_SECONDS * rate\n        self._at = now\n\n    def set",
        "new_pushes_bring_nothing",
    ),
}


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Loads one module from edited text."""

    def __init__(self, name: str, text: str) -> None:
        self.name, self.text = name, text

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Only for that module. It keeps its place: files beside it are found."""
        if fullname != self.name:
            return None
        origin = str(SOURCES / f"{fullname.rsplit('.', 1)[1]}.py")
        return importlib.util.spec_from_file_location(fullname, origin, loader=self)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """As usual."""

    def exec_module(self, module: ModuleType) -> None:
        """Run the edited text."""
        exec(compile(self.text, f"mutant of {self.name}", "exec"), module.__dict__)


def edited(mutant: Mutant) -> str:
    """The module's text with the mistake in it. ValueError: the edit does not fit (any more)."""
    text = (SOURCES / f"{mutant.module}.py").read_text()
    if text.count(mutant.right) != 1:
        raise ValueError(f"{mutant.module}.py has {text.count(mutant.right)} × {mutant.right!r}")
    return text.replace(mutant.right, mutant.wrong)


@contextmanager
def wrong(mutant: Mutant) -> Iterator[ModuleType]:
    """The module of rules, over a quota with the mistake."""
    finder = _Finder(f"clarion.quota.{mutant.module}", edited(mutant))
    kept = {name: m for name, m in sys.modules.items() if name.startswith(RELOADED)}
    attributes = [
        (sys.modules[name.rpartition(".")[0]], name.rpartition(".")[2], m) for name, m in kept.items()
    ]
    for name in kept:
        del sys.modules[name]
    sys.meta_path.insert(0, finder)
    try:
        yield importlib.import_module("tests.support.quota_rules")
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name.startswith(RELOADED)]:
            del sys.modules[name]
        sys.modules.update(kept)
        for package, name, module in attributes:
            setattr(package, name, module)


def notices(mutant: Mutant, rule: str, seed: int) -> bool:
    """Whether the rule is broken by the mistake."""
    with wrong(mutant) as rules:
        try:
            rules.hold(rule, seed)
        except AssertionError:
            return True
    return False
