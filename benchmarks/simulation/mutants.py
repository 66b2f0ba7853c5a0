"""Rules of the engine taken away one at a time, to see that a life finds out.

Of the ledger they are those of tests/support/ledger_mutants.py. The ones here belong to the loops of a sender
and of a push, which the model of the ledger alone does not run.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any, Final

from clarion.attempt import _Attempt
from tests.support import ledger_mutants
from workflows import handout

_OF_THE_LEDGER: Final = {mutant.name: mutant for mutant in ledger_mutants.MUTANTS}


def _change(owner: Any, name: str, change: Callable[[Any], Any]) -> None:
    setattr(owner, name, change(getattr(owner, name)))


def _start_what_was_refused() -> None:
    def change(after: Any) -> Any:
        return lambda self, step, *rest: after(self, replace(step, granted=True), *rest)

    _change(_Attempt, "_after", change)


def _forget_that_it_may_have_arrived() -> None:
    def change(verdict: Any) -> Any:
        return lambda self, seq, outcome: verdict(self, seq, replace(outcome, maybe=False))

    _change(_Attempt, "_verdict", change)


def _keep_the_content() -> None:
    def change(after: Any) -> Any:
        def mutant(self: Any, step: Any, *rest: Any) -> None:
            after(self, replace(step, content_version=self._version), *rest)

        return mutant

    _change(_Attempt, "_after", change)


def _keep_a_failed_child() -> None:
    def change(ended: Any) -> Any:
        def mutant(self: Any, key: str, why: str, error: str | None = None) -> None:
            if why in handout.FINISHED:
                ended(self, key, why, error)

        return mutant

    _change(handout.State, "child_ended", change)


BREAKS: Final[dict[str, Callable[[], None]]] = {
    "a refused claim starts": _start_what_was_refused,
    "what may have arrived counts as not sent": _forget_that_it_may_have_arrived,
    "edited content is not taken up": _keep_the_content,
    "a child that failed counts as alive": _keep_a_failed_child,
}
MUTANTS: Final = (*BREAKS, *_OF_THE_LEDGER)


async def install(name: str, db: Any, until: AsyncExitStack) -> None:
    """Break that rule, at that database or in this program (the latter until it ends)."""
    if name in BREAKS:
        BREAKS[name]()
    else:
        await until.enter_async_context(ledger_mutants.in_force(_OF_THE_LEDGER[name], db))
