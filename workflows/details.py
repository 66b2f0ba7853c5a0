"""What an operator reads in the Temporal UI: Markdown, in which only fenced blocks keep their columns."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from clarion.model.campaign import CampaignProgress
from clarion.model.command import LaneProgress, PushProgress

COUNTS = (
    "audience", "fell_back", "accepted", "rejected", "suppressed", "expired", "cancelled", "dead", "in_doubt",
    "planned", "retry",
)  # fmt: skip

UPDATES = {"edit": "edit_message", "pace": "set_pace"}  # words by the names of their updates


def details(progress: PushProgress, *, rate: float | None = None, error: str | None = None) -> str:
    """State, counts by lane, pace, when it will be done, the last error, and what can be done next."""
    parts = [f"**{label(progress)}**" + _because(progress)]
    if progress.lanes:
        parts.append("```\n" + "\n".join(_table(progress.lanes)) + "\n```")
    parts.append(_speed(progress, rate))
    parts += [f"Lane {lane.lane} ({lane.provider}): {_lane(lane)}" for lane in progress.lanes if _lane(lane)]
    if error:
        parts.append(f"Last error: {error}")
    parts.append(f"Next: {_next(progress)}")
    return "\n\n".join(part for part in parts if part)


def label(progress: PushProgress) -> str:
    """One word or two for where it stands, computed from phase, hold and counts."""
    if progress.phase != "running":
        return (progress.verdict or progress.phase) if progress.phase == "closed" else progress.phase
    if progress.hold != "none":
        return progress.hold
    if progress.ranges_to_freeze and not progress.total("accepted"):
        return "preparing"
    if progress.total("retry") and not progress.total("planned"):
        return "waiting for retries"
    return "sending"


def status(progress: PushProgress) -> str:
    """The search attribute PushStatus: scheduled, running, paused, draining, closing, completed, …"""
    if progress.phase == "closed":
        return progress.verdict or "closed"
    if progress.phase == "closing":
        return "closing"
    return progress.phase if progress.hold == "none" else progress.hold


def _because(progress: PushProgress) -> str:
    by = f" by {progress.hold_by}" if progress.hold_by else ""
    reason = f": {progress.hold_reason}" if progress.hold_reason else ""
    return by + reason


def _table(lanes: Sequence[LaneProgress]) -> list[str]:
    columns = [f"{lane.provider} {lane.lane}" for lane in lanes]
    width = max(12, *(len(column) + 2 for column in columns))
    head = f"{'':<12}" + "".join(f"{column:>{width}}" for column in [*columns, "all"])
    rows = [head]
    for name in COUNTS:
        numbers = [getattr(lane, name) for lane in lanes]
        if any(numbers) or name in ("audience", "accepted"):
            rows.append(f"{name:<12}" + "".join(f"{n:>{width},}" for n in [*numbers, sum(numbers)]))
    return rows


def _speed(progress: PushProgress, rate: float | None) -> str:
    words = [f"Pace {progress.pace:g}/s" if progress.pace else "Pace: as fast as it goes"]
    left = progress.total("planned") + progress.total("retry")
    if rate and left and progress.hold == "none":
        words.append(f"now {rate:,.0f}/s")
        words.append(f"done at about {_clock(progress.at + timedelta(seconds=left / rate))}")
    if progress.phase == "scheduled" and progress.send_at:
        words.append(f"starts at {_clock(progress.send_at)}")
    if progress.deadline:
        words.append(f"deadline {_clock(progress.deadline)}")
    return " · ".join(words)


def _clock(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _lane(lane: LaneProgress) -> str | None:
    if lane.blocked:
        return f"**blocked** ({lane.blocked}): mend the credential, then update `unblock`"
    if not lane.senders and lane.planned + lane.retry:
        return "**no sender**: start a worker for its queue"
    return None


def _next(progress: PushProgress) -> str:
    if progress.phase == "closed":
        return (
            f"`clarion push show {progress.push_id}`; `clarion push retry {progress.push_id}` for what failed"
        )
    if progress.phase == "closing":
        return "nothing: its books are being closed"
    if progress.hold == "paused":
        return "update `resume` or `cancel`"
    if progress.hold == "draining":
        return "update `resume` to go on after all, or `cancel` to stop now"
    return "update `pause`, `cancel` or `set_pace`"


def campaign_details(progress: CampaignProgress) -> str:
    """State of a campaign, its stages, and what can be done next."""
    parts = [f"**{progress.headline()}**"]
    rows = [f"{'stage':<32} {'share':>8}  state"]
    for stage in progress.stages:
        share = "the rest" if stage.share is None else f"{stage.share:g} %"
        state = stage.verdict or (stage.phase if stage.hold == "none" else stage.hold)
        rows.append(f"{stage.name:<32} {share:>8}  {state}")
    parts.append("```\n" + "\n".join(rows) + "\n```")
    opened = [f"`push/{stage.push_id}`" for stage in progress.stages if stage.phase != "to come"]
    parts += [f"Counts and pace are with its pushes: {', '.join(opened)}"] if opened else []
    parts.append(f"Content: `{progress.content}` (version {progress.content_version})")
    words = [f"`{UPDATES.get(word, word)}`" for word in progress.words()]
    parts.append(f"Next: {'update ' + ', '.join(words) if words else 'nothing'}")
    return "\n\n".join(parts)


def campaign_status(progress: CampaignProgress) -> str:
    """The search attribute PushStatus of a campaign: running, paused, approval, waiting, completed, …"""
    if progress.closed_at is not None:
        return progress.status
    if progress.hold != "none":
        return progress.hold
    return {"approval": "approval", "time": "waiting"}.get(progress.waits_for or "", "running")
