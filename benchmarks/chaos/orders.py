"""An operator's words to a push in flight, timed from their acknowledgement to the last request that came.

The sandbox's clock says when a request arrived. Where a proxy delays or drips, what it shows is the way and
not us, so there the last request that entered the transport counts instead.
"""

from __future__ import annotations

import asyncio
import time
from typing import Final

from benchmarks.chaos.scene import Scene, TooLate
from benchmarks.chaos.tally import MOVES_SECONDS, OBEYED_SECONDS
from clarion.model.message import Message
from tests.support.judge import content_hash

QUIET: Final = 3.0  # watched after a word: one second more than it has
PACE_SECONDS: Final = 5


async def pause(scene: Scene) -> None:
    """Pause: nothing comes later than two seconds; resume: it goes on."""
    async with scene.push.handle() as push:
        await push.pause("chaos")
        at = time.time()
        await asyncio.sleep(QUIET)
        late = _last(scene) - at
        left = (await scene.counts())["open"]
        if not left:
            raise TooLate("nothing was left to hold back")
        _obeyed(scene, "pause", late, f"{left:,} wait")
        await push.resume()
    seconds = await scene.moves("resume", MOVES_SECONDS)
    scene.say(f"  resumed: it goes on after {seconds:.1f} s")


async def cancel(scene: Scene) -> None:
    """Cancel: nothing comes later than two seconds, and the books are closed with exact counts."""
    async with scene.push.handle() as push:
        await push.cancel(reason="chaos")
        at = time.time()
    scene.cancelled = True
    await asyncio.sleep(QUIET)
    cancelled = (await scene.counts())["cancelled"]
    if not cancelled:
        raise TooLate("nothing was left to cancel")
    _obeyed(scene, "cancel", _last(scene) - at, f"{cancelled:,} are not sent")


async def edit(scene: Scene) -> None:
    """Edit: no request with the old content later than two seconds, and some with the new one."""
    number = scene.tally.orders["edit"] + 1
    title, body = f"Edited {number}", f"Chaos wrote this ({scene.push.id})"
    async with scene.push.handle() as push:
        texts = {"default": {"title": title, "body": body}}
        await push.edit_message(Message.model_validate({"texts": texts}))
        at = time.time()
    new = content_hash(title, body)
    deadline = at + MOVES_SECONDS
    await asyncio.sleep(QUIET)
    scene.requests.read()
    while new not in scene.requests.contents and time.time() < deadline:
        await asyncio.sleep(0.2)
        scene.requests.read()
    if new not in scene.requests.contents and not (await scene.counts())["open"]:
        raise TooLate("everything was sent already")
    scene.tally.hold(new in scene.requests.contents, "nothing was sent with the edited content")
    old = [last for content, last in scene.requests.contents.items() if content != new]
    _obeyed(scene, "edit", max(old) - at, "the rest has the new content")


async def slow_down(scene: Scene) -> None:
    """A third of the pace: from two seconds on, five seconds have no more than that."""
    before = scene.pace or await _rate(scene)
    pace = max(10.0, before / 3)
    async with scene.push.handle() as push:
        await push.set_pace(pace)
        since = time.time() + OBEYED_SECONDS
        await asyncio.sleep(OBEYED_SECONDS + PACE_SECONDS + 0.5)
        scene.requests.read()
        came = scene.requests.between(since, since + PACE_SECONDS) / PACE_SECONDS
        scene.tally.hold(came <= pace * 1.05 + 1, f"pace {pace:.0f}/s was set, {came:.0f}/s came")
        scene.tally.orders["pace"] += 1
        scene.say(f"pace {before:.0f}/s → {pace:.0f}/s: {came:.0f}/s came")
        await push.set_pace(scene.pace)


async def _rate(scene: Scene) -> float:
    """Requests a second now."""
    scene.requests.read()
    before = scene.requests.count
    await asyncio.sleep(1)
    scene.requests.read()
    return float(scene.requests.count - before)


def _last(scene: Scene) -> float:
    """When the last request came, or entered a line that is bad."""
    scene.requests.read()
    bad = {provider: line for provider, line in scene.lines.items() if not line.way.fair}
    return max(scene.requests.latest(but=frozenset(bad)), *(line.requested_at for line in bad.values()), 0.0)


def _obeyed(scene: Scene, word: str, late: float, more: str) -> None:
    late = max(late, 0.0)
    scene.tally.orders[word] += 1
    scene.tally.time(word, late, OBEYED_SECONDS)
    scene.say(f"{word}: the last request {late:.2f} s after the acknowledgement; {more}")
