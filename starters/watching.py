"""The live view of pushes: a bar, a rate, an ETA, and what became of the deliveries so far."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from rich.table import Table
from rich.text import Text

from clarion.model.campaign import CampaignProgress
from clarion.model.command import PushProgress

LOOK_EVERY = 0.5  # seconds between two looks at the ledger
PLAIN_EVERY = 5.0  # without a terminal: a line so often
RATE_SECONDS = 5.0
COUNTS = ("accepted", "rejected", "suppressed", "retry", "expired", "cancelled", "dead", "in_doubt")
STYLES = {"accepted": "green", "rejected": "yellow", "dead": "red", "in_doubt": "red", "retry": "cyan"}

Look = Callable[[], Awaitable[Sequence[PushProgress]]]
LookAtCampaign = Callable[[], Awaitable[CampaignProgress]]


class Speed:
    """Deliveries a second over the last few seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, int]] = deque()

    def note(self, at: float, done: int) -> float:
        """So many were done at this moment: the rate."""
        self._seen.append((at, done))
        while self._seen[-1][0] - self._seen[0][0] > RATE_SECONDS and len(self._seen) > 2:
            self._seen.popleft()
        (first_at, first), (last_at, last) = self._seen[0], self._seen[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else 0.0


def done(push: PushProgress) -> int:
    """Phones whose deliveries have ended."""
    return push.audience - push.total("planned") - push.total("retry")


def expected(push: PushProgress) -> int:
    """The size of the audience; while it is still being frozen, as estimated."""
    if push.ranges_to_freeze and not push.total("fell_back"):
        return max(push.audience, push.estimated_audience or 0)
    return push.audience


def status(push: PushProgress) -> str:
    """What it is doing, in a few words, with the reason where there is one."""
    if push.phase == "closed":
        nobody = "" if push.audience else ": the audience was empty"
        return f"{push.verdict or 'closed'}{nobody}"
    waits = []
    for lane in push.lanes:
        if lane.planned + lane.retry == 0:
            continue
        if lane.blocked:
            waits.append(f"{lane.provider} blocked: {lane.blocked}")
        elif not lane.senders:
            waits.append(f"no {lane.provider} sender")
        elif lane.cooling:
            waits.append(f"{lane.provider} cooling")
    if push.hold == "paused":
        who = f" by {push.hold_by}" if push.hold_by else ""
        why = f": {push.hold_reason}" if push.hold_reason else ""
        return f"paused{who}{why}"
    if push.hold != "none":
        return push.hold
    if push.phase == "running" and push.ranges_to_freeze:
        waits.append("freezing the audience")
    return ", ".join([push.phase, *waits])


def eta(push: PushProgress, rate: float) -> str:
    """How long the rest takes at this rate."""
    left = expected(push) - done(push)
    if push.phase != "running" or push.hold == "paused" or not left or rate <= 0:
        return ""
    seconds = round(left / rate)
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


async def watch(console: Console, look: Look, campaign: LookAtCampaign | None = None) -> list[PushProgress]:
    """Show until every push is closed, and the campaign if it is one's; the last look."""
    speeds: dict[str, Speed] = {}
    if not console.is_terminal:
        return await _plainly(console, look, speeds, campaign)
    with Live(console=console, refresh_per_second=8, transient=False) as live:
        while True:
            pushes, above, closed = await _seen(look, campaign)
            live.update(Group(*map(Text, above), *(_drawn(push, speeds) for push in pushes)))
            if closed:
                return pushes
            await asyncio.sleep(LOOK_EVERY)


async def _seen(look: Look, campaign: LookAtCampaign | None) -> tuple[list[PushProgress], list[str], bool]:
    """The pushes, what stands above them, and whether all is over."""
    if campaign is None:
        pushes = list(await look())
        return pushes, [], bool(pushes) and all(push.phase == "closed" for push in pushes)
    whole = await campaign()
    pushes = list(await look()) if any(stage.phase != "to come" for stage in whole.stages) else []
    # Of a campaign of one push that is sent or was, the push says it all.
    alone = len(whole.stages) == 1 and pushes
    above = [] if alone else [f"{whole.campaign_id}: {whole.headline()}"]
    return pushes, above, whole.closed_at is not None


async def _plainly(
    console: Console, look: Look, speeds: dict[str, Speed], campaign: LookAtCampaign | None
) -> list[PushProgress]:
    said_at, said = 0.0, ""
    while True:
        pushes, above, closed = await _seen(look, campaign)
        words = " · ".join([*above, *(status(push) for push in pushes)])
        lines = [*above, *(_line(push, speeds) for push in pushes)]
        if closed or words != said or time.monotonic() - said_at >= PLAIN_EVERY:
            for line in lines:
                console.print(line, highlight=False, soft_wrap=True)
            said_at, said = time.monotonic(), words
        if closed:
            return pushes
        await asyncio.sleep(LOOK_EVERY)


def _rate(push: PushProgress, speeds: dict[str, Speed]) -> float:
    return speeds.setdefault(push.push_id, Speed()).note(time.monotonic(), done(push))


def _line(push: PushProgress, speeds: dict[str, Speed]) -> str:
    rate, total = _rate(push, speeds), expected(push)
    parts = [f"{push.push_id}: {status(push)}", f"{done(push):,} of {total:,}"]
    if rate >= 0.5 and push.phase != "closed":
        parts.append(f"{rate:,.0f}/s")
    left = eta(push, rate)
    parts += [f"{left} left"] if left else []
    parts += [f"{name.replace('_', ' ')} {push.total(name):,}" for name in COUNTS if push.total(name)]
    return " · ".join(parts)


def _drawn(push: PushProgress, speeds: dict[str, Speed]) -> Group:
    rate, total = _rate(push, speeds), expected(push)
    bar = Progress(
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=None),
        TaskProgressColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[eta]}"),
        expand=True,
    )
    bar.add_task(
        push.push_id,
        total=total or 1,
        completed=done(push),
        rate=f"{rate:,.0f}/s" if push.phase != "closed" else "",
        eta=eta(push, rate),
    )
    return Group(bar, Text(f"  {status(push)}"), _outcomes(push))


def _outcomes(push: PushProgress) -> Table:
    table = Table.grid(padding=(0, 3))
    cells = [
        Text(f"  {name.replace('_', ' ')} {push.total(name):,}", style=STYLES.get(name, ""))
        for name in COUNTS
        if push.total(name)
    ]
    if cells:
        table.add_row(*cells)
    return table
