"""How many batches a sender process takes at once: as many as come, but politely.

Polling is a race, and the winner of a fixed number of slots would leave other processes idle; few slots, on
the other hand, would be held for a minute each by slow pushes, and a fast one would have to wait. So there
are many slots, and a process that has its fair share asks for more the later the fuller it is.
"""

from __future__ import annotations

import asyncio
from typing import Final

from temporalio.worker import (
    CustomSlotSupplier,
    FixedSizeSlotSupplier,
    SlotMarkUsedContext,
    SlotPermit,
    SlotReleaseContext,
    SlotReserveContext,
    WorkerTuner,
)

from clarion import limits

MOST: Final = 4 * limits.LIVE_MAX  # batches of one queue in one process, whatever happens
NAP: Final = 0.05  # seconds later for each batch beyond the fair share
LONGEST_NAP: Final = 1.0


def fair_share(senders: int) -> int:
    """Of one push's batches on one lane, with so many processes on its queue: its part and one more."""
    return limits.live_limit(senders) // max(senders, 1) + 1


class PoliteSlots(CustomSlotSupplier):
    """Slots of one send queue. `share` may change at any time."""

    def __init__(self, share: int, *, most: int = MOST) -> None:
        self.share, self._most = share, most
        self.used = 0

    async def reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit:
        """Wait for a free slot, and longer the more of them are taken beyond the share."""
        while self.used >= self._most:  # noqa: ASYNC110  # a full process is rare and in no hurry
            await asyncio.sleep(NAP)
        over = self.used + 1 - self.share
        if over > 0:
            await asyncio.sleep(min(over * NAP, LONGEST_NAP))
        return SlotPermit()

    def try_reserve_slot(self, ctx: SlotReserveContext) -> SlotPermit | None:
        """Eager tasks would pass by the queue's own limits."""
        return None

    def mark_slot_used(self, ctx: SlotMarkUsedContext) -> None:
        """A batch came."""
        self.used += 1

    def release_slot(self, ctx: SlotReleaseContext) -> None:
        """A batch ended, or a poll did without one."""
        if ctx.slot_info is not None:
            self.used -= 1

    def tuner(self) -> WorkerTuner:
        """For a worker that has activities only."""
        other = FixedSizeSlotSupplier(1)
        return WorkerTuner.create_composite(
            workflow_supplier=other,
            activity_supplier=self,
            local_activity_supplier=other,
            nexus_supplier=other,
        )
