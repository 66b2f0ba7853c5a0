"""What hands do to workflows by the UI's buttons in mid run, and how that ends (docs/operations.md).

A batch that is reset, terminated or cancelled, and a push that is reset, end as if nothing had been:
everybody once. A cancelled push closes its books. A terminated one is paused by clarion; `resume` goes on.
"""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from benchmarks.drill.ground import Ground
from benchmarks.drill.table import BAR
from clarion import limits
from clarion.errors import CommandRefused
from clarion.model.ledger import Hold
from tests.acceptance.field import PHONES, Push
from tests.support.browser import Said, Ui

AUDIENCE: Final = {"where": {"platform": ["web"]}}  # small, and in three batches
PACE: Final = 40.0  # slow enough for the last button to be pressed before the first push is done
BEGUN: Final = 60 / PHONES  # the share of all phones that is sent when the button is pressed
BUTTONS: Final[dict[str, Callable[[Ui], Awaitable[Said]]]] = {
    "reset": Ui.reset,
    "terminate": Ui.terminate,
    "cancel": Ui.request_cancellation,
}
TERMINATED: Final = "its workflow has ended (terminated): resume starts it again"
REASON: Final = "select hold_by, hold_reason from push where push_no = $1"


@dataclass(frozen=True)
class Fate:
    """What was done to what, and how it ended."""

    what: str
    ended: str
    holds: bool


@dataclass(frozen=True)
class Pressed:
    """A button that was pressed on a push, or on its first batch."""

    button: str
    noun: str
    push: Push
    said: Said


async def all_fates(ground: Ground, ui: Ui) -> list[Fate]:
    """Each button on a push and on a batch, one after another; then how all of them end."""
    pressed = [await press(ground, ui, button, noun) for noun in ("batch", "push") for button in BUTTONS]
    return list(await asyncio.gather(*(told(ground, one) for one in pressed)))


async def press(ground: Ground, ui: Ui, button: str, noun: str) -> Pressed:
    """Start a push, and press the button once it sends."""
    push = await ground.begin(audience=AUDIENCE, pace=PACE)
    await push.until(BEGUN)
    await ui.open(f"push/{push.id}" + ("/b0" if noun == "batch" else ""))
    return Pressed(button, noun, push, await BUTTONS[button](ui))


async def told(ground: Ground, pressed: Pressed) -> Fate:
    """How it ends; a failure is an end, too."""
    what = f"{pressed.button} of a {pressed.noun}"
    endings = {"terminate of a push": _resumed, "cancel of a push": _cancelled}
    try:
        async with asyncio.timeout(150):
            return Fate(what, await endings.get(what, _exact)(ground, pressed), True)
    except Exception as error:
        return Fate(what, f"FAILED: {type(error).__name__}: {error}"[:600], False)


async def _exact(ground: Ground, pressed: Pressed) -> str:
    with suppress(CommandRefused):  # it may be done
        await pressed.push.hurry()
    account = await pressed.push.finished()
    assert set(account.states) == {"accepted"}, account
    assert (account.phantom, account.unexplained, account.redo, account.duplicates) == (0, 0, 0, 0), account
    return f"{account.audience:,} devices, each once"


async def _cancelled(ground: Ground, pressed: Pressed) -> str:
    account = await pressed.push.finished()
    late = account.last_request - pressed.said.asked
    assert late <= BAR, f"a request {late:.2f} s after it"
    assert set(account.states) == {"accepted", "cancelled"}, account
    assert account.states["accepted"] == account.accepted_requests, account
    return f"books closed: {account.states['accepted']:,} accepted, the others cancelled"


async def _resumed(ground: Ground, pressed: Pressed) -> str:
    push = pressed.push
    await asyncio.sleep(limits.WATCH_GRACE + 1.0)
    # The watch looks once a minute, and when a control process begins: not to wait for the minute.
    ground.stack.kill(ground.stack.pids("control")["control"], signal.SIGTERM)
    while await ground.hold(push) is not Hold.PAUSED:  # noqa: ASYNC110  # a row
        await asyncio.sleep(0.2)
    async with ground.stack.database() as db:
        found = await db.fetchrow(REASON, push.push_no)
    assert found is not None
    assert tuple(found) == ("clarion", TERMINATED), found
    late = max(entry["t"] for entry in push.requests()) - pressed.said.asked
    assert late <= BAR, f"a request {late:.2f} s after it"
    resumed = time.time()
    await push.command("resume")
    await ground.first(push, resumed)
    return f"paused by clarion; after resume {await _exact(ground, pressed)}"
