"""The cases, the same for every sender. Each is told once whatever happens, never "accepted" without a yes,
and the sender is as good as before when the trouble is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any, Final

import pytest

from clarion.errors import BadSpec
from clarion.sandbox.log import content_hash
from clarion.senders.lanes import KeptSender
from clarion.senders.link import LOOK_EVERY, PROBE_AFTER
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind
from clarion.senders.sender import Sender, TooLarge
from tests.integration.sender_conformance.ground import Ground, expect, large, send
from tests.support.senders import Clock

Case = Callable[[Ground], Awaitable[None]]
CASES: Final[dict[str, Case]] = {}

MANY: Final = 450  # more than two requests, wherever they are large
FEW: Final = 3
PROCESSES: Final = 4
HTML: Final = {"status": 200, "headers": {"content-type": "text/html"}, "body": "<html><body>Welcome"}
NOT_NOW: Final = {"kind": OutcomeKind.UNAVAILABLE, "retire": False, "suspect": False}


def case(name: str) -> Callable[[Case], Case]:
    """One more column of the table."""

    def add(play: Case) -> Case:
        CASES[name] = play
        return play

    return add


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────


@case("accepted")
async def accepted(on: Ground) -> None:
    """All accepted in as many requests as it takes; each device is shown once what was meant."""
    tokens = on.fresh(MANY)
    before = on.calls
    async with on.sender() as sender:
        await on.finish(sender, tokens, await send(sender, tokens), doubt=False)
    shown = [line for line in on.lines() if line["content"] is not None]

    assert on.shown(tokens) == [1] * MANY
    assert {line["content"] for line in shown} == {content_hash("Hello", "there")}
    assert on.calls - before <= -(-MANY // on.driver.group) + 2, "too many requests"


@case("dead")
async def dead(on: Ground) -> None:
    """A registration that has ended retires; nobody is shown anything."""
    (token,) = on.fresh(1)
    on.bury(token)
    with on.telling():
        async with on.sender() as sender:
            outcomes = await send(sender, [token])

    expect(outcomes, kind=OutcomeKind.REJECTED, retire=True, maybe=False)
    assert on.shown([token]) == [0]


@case("partial failure")
async def partial_failure(on: Ground) -> None:
    """One of a request is dead: it alone retires, the others are accepted and shown once."""
    tokens = on.fresh(6)
    on.bury(tokens[2])
    with on.telling():
        async with on.sender() as sender:
            outcomes = await send(sender, tokens)

    expect([outcomes[2]], kind=OutcomeKind.REJECTED, retire=True)
    expect(outcomes[:2] + outcomes[3:], kind=OutcomeKind.ACCEPTED)
    assert on.shown(tokens) == [1, 1, 0, 1, 1, 1]


@case("throttled")
async def throttled(on: Ground) -> None:
    """Too fast: no attempt, surely not sent, and it goes when the provider is ready."""
    await _faulted(on, on.driver.throttled, {"kind": OutcomeKind.THROTTLED, "attempt": False, "maybe": False})


@case("unavailable")
async def unavailable(on: Ground) -> None:
    """The provider is out of order: goes again."""
    await _faulted(on, {"status": 502}, NOT_NOW)


@case("auth expired")
async def auth_expired(on: Ground) -> None:
    """In the middle of a batch: one new authorization, what was refused goes again and is no attempt."""
    tokens = on.fresh(MANY)
    async with on.sender() as sender:
        await on.finish(sender, tokens[:FEW], await send(sender, tokens[:FEW]))
        made = on.made
        await on.expire()
        outcomes = await send(sender, tokens[FEW:])
        refused = [one for one in outcomes if one is not ACCEPTED]
        await on.finish(sender, tokens[FEW:], outcomes)

    assert refused, "nobody was refused"
    expect(refused, kind=OutcomeKind.UNAVAILABLE, attempt=False, maybe=False, retire=False)
    assert on.shown(tokens) == [1] * MANY
    assert on.made == made + (on.driver.auth is not None)


@case("one authorization")
async def one_authorization(on: Ground) -> None:
    """However many processes run: one call for all of them, and one more when its time is over."""
    await on.forget_authorization()
    before = on.made
    clock = Clock()
    async with AsyncExitStack() as stack:
        senders = [await stack.enter_async_context(on.sender(clock)) for _ in range(PROCESSES)]
        await _send_all(on, senders)
        first = on.made - before
        await on.age()
        clock.skipped += LOOK_EVERY + 1
        await asyncio.gather(*(_tended(sender) for sender in senders))
        while on.made - before == first:  # the first that shows the new one
            await _send_all(on, senders)
        await _send_all(on, senders)

    assert first == 1, f"{first} for {PROCESSES} processes"
    assert on.made - before == 2, f"{on.made - before - 1} when its time was over"


@case("blocked")
async def blocked(on: Ground) -> None:
    """The credential is refused: the lane is told so, nobody retires, and an unblocked one goes on."""
    tokens = on.fresh(FEW)
    clock = Clock()
    async with on.sender(clock) as sender:
        await on.warm(sender)
        async with on.fault({"reject_credential": True}):
            outcomes = await send(sender, tokens)
            if "auth expired" not in on.driver.without and {one.kind for one in outcomes} != {
                on.driver.blocks
            }:
                expect(outcomes, kind=OutcomeKind.UNAVAILABLE, attempt=False, maybe=False)
                outcomes = await send(sender, tokens)  # under another authorization
            expect(outcomes, kind=on.driver.blocks, retire=False, maybe=False)
        assert on.shown(tokens) == [0] * FEW
        clock.skipped += PROBE_AFTER + 1
        await on.finish(sender, tokens, [_planned()] * FEW)

    assert on.shown(tokens) == [1] * FEW


@case("oversize")
async def oversize(on: Ground) -> None:
    """Too large by our own count: refused before a request; by the provider's: nobody retires."""
    tokens = on.fresh(FEW)
    async with on.sender() as sender:
        if on.driver.own_limit:
            before = on.calls
            with pytest.raises((BadSpec, TooLarge)):
                await send(sender, tokens, large())
            assert on.calls == before, "it was sent although it is too large"
        await on.warm(sender)
        async with on.fault(on.driver.too_large):
            outcomes = await send(sender, tokens)

    expect(outcomes, kind=OutcomeKind.REJECTED, retire=False, maybe=False)


# ── no answers ────────────────────────────────────────────────────────────────────────────────────────


@case("timeout")
async def timeout(on: Ground) -> None:
    """Never answered: in doubt when its time is over."""
    await _faulted(on, {"black_hole": "request"}, _lost(on), impatient=True)


@case("slow drip")
async def slow_drip(on: Ground) -> None:
    """A byte now and then does not hold a delivery for ever."""
    await _faulted(on, {"drip": 0.5}, _lost(on), impatient=True)


@case("reset")
async def reset(on: Ground) -> None:
    """The connection is gone after the bytes have left: in doubt, and the next one is good."""
    await _faulted(on, {"reset": "connection"}, NOT_NOW)


# ── answers that are none ─────────────────────────────────────────────────────────────────────────────


@case("garbage")
async def garbage(on: Ground) -> None:
    """No JSON, then no HTTP."""
    await _faulted(on, {"garbage": "body"}, _lost(on))
    await _faulted(on, {"garbage": "frames"}, NOT_NOW)


@case("HTML, 200")
async def html(on: Ground) -> None:
    """What a proxy says in the provider's place is no yes."""
    await _faulted(on, HTML, _lost(on))


@case("empty body")
async def empty_body(on: Ground) -> None:
    """A 200 that says nothing is no yes."""
    await _faulted(on, {"status": 200, "body": ""}, _lost(on))


@case("error in a 200")
async def error_in_a_yes(on: Ground) -> None:
    """What the body says counts; its reason has a name."""
    outcomes = await _faulted(on, on.driver.error_in_yes, NOT_NOW)

    assert all(one.reason.startswith(f"{on.driver.provider}:") for one in outcomes), outcomes


def _lost(on: Ground) -> dict[str, Any]:
    """What is told of a delivery whose answer said nothing: it may have been shown."""
    return {**NOT_NOW, "maybe": on.driver.in_doubt}


async def _faulted(
    on: Ground, rule: Mapping[str, Any], wanted: Mapping[str, Any], *, impatient: bool = False
) -> list[Outcome]:
    """What a few are told while this is so; all are accepted when it is over."""
    tokens = on.fresh(FEW)
    async with on.impatient() if impatient else on.sender() as sender:
        await on.warm(sender)
        async with on.fault(rule):
            outcomes = await send(sender, tokens)
        expect(outcomes, **wanted)
        assert all(one.reason for one in outcomes), "an outcome without a reason"
        await on.finish(sender, tokens, outcomes)
    return outcomes


async def _send_all(on: Ground, senders: list[Sender]) -> None:
    await asyncio.gather(*(on.warm(sender) for sender in senders))


async def _tended(sender: Sender) -> None:
    kept: KeptSender = sender  # type: ignore[assignment]
    await kept.tend()


def _planned() -> Outcome:
    """Of who has yet to be sent to."""
    return Outcome(OutcomeKind.UNAVAILABLE)
