"""Tests that wait more than they work, played at once on the one stack: each still passes or fails by itself.

    together = Together()

    @together
    async def test_one(field: Field) -> None: ...

The first of a group that is run begins all that are selected; each then waits for its own. What belongs in
a group keeps to pushes of its own: it sets no faults, and kills only what costs the others nothing.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable

import pytest

from tests.acceptance.field import Field

Test = Callable[[Field], Awaitable[None]]


class Together:
    """One group of tests; decorates them."""

    def __init__(self) -> None:
        self._selected: list[Test] = []
        self._begun: dict[Test, asyncio.Future[None]] = {}

    def __call__(self, test: Test) -> Test:
        """The same test, as one of the group."""

        @functools.wraps(test)
        async def played(field: Field) -> None:
            if test in self._selected:
                self._begin(field)
            # Run again after a failure it is played alone.
            await (self._begun.pop(test, None) or test(field))

        played.select = functools.partial(self._selected.append, test)  # type: ignore[attr-defined]
        return played

    def _begin(self, field: Field) -> None:
        for test in self._selected:
            self._begun[test] = asyncio.ensure_future(test(field))
            self._begun[test].add_done_callback(field.playing.discard)
            field.playing.add(self._begun[test])
        self._selected.clear()


def select(items: list[pytest.Item]) -> None:
    """These are going to be run: a group begins no others."""
    for item in items:
        if join := getattr(getattr(item, "function", None), "select", None):
            join()
