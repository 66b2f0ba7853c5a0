"""Lists that are refused for the sake of some: the good ones get the message, and it costs what it must."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.http2.client import Fate
from clarion.senders import halving
from clarion.senders.answers import UNANSWERED
from clarion.senders.grouped import Group, Row, Verdict
from clarion.senders.line import Unanswered
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind

LIST = Outcome(OutcomeKind.REJECTED, "p:list", suspect=True)
ALONE = Outcome(OutcomeKind.REJECTED, "p:alone", retire=True)


class Provider:
    """Refuses every list with somebody unknown in it."""

    def __init__(self, unknown: set[int]) -> None:
        self.unknown = {str(number) for number in unknown}
        self.asked: list[list[str]] = []
        self.got: list[str] = []

    async def ask(self, group: Group) -> Verdict:
        """One request."""
        self.asked.append(group.tokens)
        if self.unknown & set(group.tokens):
            return Verdict(LIST if len(group.rows) > 1 else ALONE)
        self.got += group.tokens
        return Verdict(ACCEPTED)


def group_of(count: int) -> Group:
    """Registrations 0, 1, 2 …"""
    rows = [Row(n, n, str(n), b"", cast(Any, None)) for n in range(count)]
    return Group(cast(Any, None), b"", rows)


async def outcomes(provider: Provider, count: int) -> list[Outcome]:
    """What each is told."""
    verdict = await halving.ask_all(group_of(count), provider.ask, lambda one: one is LIST, "jpush")
    return [verdict.others.get(str(n), verdict.outcome) for n in range(count)]


async def test_one_gone_of_two_hundred() -> None:
    """C34: the others get it once, the one retires, and that took a request for each half on the way."""
    provider = Provider({77})
    told = await outcomes(provider, 200)

    assert [n for n, one in enumerate(told) if one is ALONE] == [77]
    assert [n for n, one in enumerate(told) if one is ACCEPTED] == [n for n in range(200) if n != 77]
    assert sorted(provider.got, key=int) == [str(n) for n in range(200) if n != 77]
    assert len(provider.asked) <= 17


async def test_nobody_known() -> None:
    """A wrong credential costs fifteen requests a list; only who was asked for alone can be called gone."""
    provider = Provider(set(range(200)))
    told = await outcomes(provider, 200)

    assert (told.count(LIST), told.count(ALONE)) == (192, 8)
    assert len(provider.asked) == 15


async def test_too_many_gone_wait_for_another_turn() -> None:
    """Every fifth is gone, in every quarter: good ones get it, what is not found out now goes again."""
    provider = Provider(set(range(4, 200, 5)))
    told = await outcomes(provider, 200)

    assert LIST not in told
    assert 0 < told.count(halving.LATER) < 150
    assert halving.LATER.attempt
    assert told.count(ACCEPTED) == len(set(provider.got)) == len(provider.got) > 20
    assert len(provider.asked) < 200


async def test_what_takes_too_long_waits_for_another_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No part begins so late that its answer would come after the lease."""
    monkeypatch.setattr(halving, "SHARE", 0.0)
    provider = Provider({1})

    assert await outcomes(provider, 4) == [halving.LATER] * 4
    assert len(provider.asked) == 1


@given(count=st.integers(1, 60), data=st.data())
async def test_whoever_is_known_gets_it_once(count: int, data: st.DataObject) -> None:
    """Accepted is who got it; retired is only who was refused alone."""
    unknown = data.draw(st.sets(st.integers(0, count - 1)))
    provider = Provider(unknown)
    told = await outcomes(provider, count)

    assert sorted(provider.got) == sorted(str(n) for n, one in enumerate(told) if one is ACCEPTED)
    assert len(set(provider.got)) == len(provider.got)
    assert all(n in unknown for n, one in enumerate(told) if one is ALONE)
    assert all(n not in unknown for n, one in enumerate(told) if one is ACCEPTED)


async def test_a_part_without_an_answer_is_told_so() -> None:
    """The other parts' answers stand; a lane that is blocked meanwhile is told for all of it."""
    provider = Provider({0})
    blocked = Outcome(OutcomeKind.BLOCKED, "p:blocked")

    async def ask(group: Group) -> Verdict:
        if group.tokens == ["2", "3"]:
            raise Unanswered(Fate.TIMEOUT)
        if group.tokens == ["1"]:
            return Verdict(blocked)
        return await provider.ask(group)

    verdict = await halving.ask_all(group_of(4), ask, lambda one: one is LIST, "jpush")

    assert verdict.outcome is blocked
    assert verdict.others == {"0": ALONE, **dict.fromkeys(("2", "3"), UNANSWERED[Fate.TIMEOUT])}
