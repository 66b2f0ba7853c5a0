"""A sender process takes as many batches as come, and leaves the next ones to emptier processes."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from workers.slots import NAP, PoliteSlots, fair_share


def context(*, used: bool = True) -> Any:
    """What Temporal tells: of a batch that came, or of a poll that ended without one."""
    return SimpleNamespace(slot_info=object() if used else None, permit=None)


async def wait(slots: PoliteSlots) -> float:
    """How long a reservation takes."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await slots.reserve_slot(context())
    return loop.time() - began


@pytest.mark.parametrize(("senders", "share"), [(0, 4), (1, 4), (2, 3), (3, 3), (10, 3), (40, 2)])
def test_the_share_is_a_part_of_the_limit_and_one_more(senders: int, share: int) -> None:
    """With one process all live batches of a push fit, with many each has few."""
    assert fair_share(senders) == share


async def test_the_fuller_the_later() -> None:
    """Within its share a process asks at once, beyond it later with every batch."""
    slots = PoliteSlots(2)
    waits = []
    for _ in range(4):
        waits.append(await wait(slots))
        slots.mark_slot_used(context())

    assert waits[0] < NAP / 2
    assert waits[1] < NAP / 2
    assert NAP <= waits[2] < waits[3]


async def test_a_full_process_waits_for_an_end() -> None:
    """The bound holds; a poll that ended without a batch frees nothing."""
    slots = PoliteSlots(8, most=1)
    slots.mark_slot_used(context())
    slots.release_slot(context(used=False))
    waiting = asyncio.ensure_future(wait(slots))
    await asyncio.sleep(3 * NAP)
    still_full = not waiting.done()

    slots.release_slot(context())
    await asyncio.wait_for(waiting, 1)

    assert still_full
    assert slots.used == 0
