"""The fourteen stories. Each says its word by one way, and sees by log and ledger when it was obeyed."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from benchmarks.drill import sight
from benchmarks.drill.ground import EDITED, TEXT, Ground, content, spec
from benchmarks.drill.table import BAR, Cell
from benchmarks.drill.way import ClarionCli, Spoken, Way
from clarion.model.ledger import Hold, State
from tests.acceptance.field import PHONES, Push

SEEN: Final = BAR + 0.5  # until when it is looked whether a word is still disobeyed
PACE, SLOWER = 400.0, 150.0
AHEAD: Final = 7.0  # seconds until a scheduled push is due: a program has to load first
ASYNCHRONOUS: Final = ("signal", "cancellation")  # Temporal answers these itself: the commit is the answer


@dataclass
class Scene:
    """One way's turn: what its stories share."""

    ground: Ground
    way: Way
    push: Push | None = None
    seen: list[str] = field(default_factory=list)

    @property
    def life(self) -> Push:
        """The push that was started by this way."""
        assert self.push is not None, "the push of this way was not started"
        return self.push

    @property
    def short(self) -> str:
        """The way in ids."""
        return self.way.name.lower().replace(" ", "-")

    async def cell(
        self, spoken: Spoken, obeyed: float | None, push: Push | None, campaign: str | None = None
    ) -> Cell:
        """With the row that the audit has to have."""
        assert obeyed is not None, "not obeyed as long as it was looked"
        number = None if push is None else push.push_no
        at = await self.ground.audited(number, campaign, spoken.audit, spoken.said.asked)
        answered = at if spoken.audit.way in ASYNCHRONOUS else spoken.said.answered
        return Cell(max(0.0, answered - spoken.said.asked), obeyed, str(spoken.audit))


async def start(scene: Scene) -> Cell:
    """Obeyed: the first request of a push to everybody."""
    id = f"drill-{scene.short}"
    scene.ground.mark()
    spoken = await scene.way.start("push", id, spec(pace=PACE))
    scene.push = await scene.ground.field.find(id)
    return await scene.cell(spoken, await scene.ground.first(scene.push, spoken.said.asked), scene.push)


async def see_progress(scene: Scene) -> Cell:
    """Obeyed: it tells at least what the ledger had when it was asked."""
    await scene.life.until(0.02)
    known = (await scene.life.counts())["accepted"]
    first, told = await scene.way.accepted(scene.life.id)
    said = first
    while told < known:
        assert said.answered < first.asked + 8.0, f"it tells {told}, the ledger had {known} 8 s ago"
        said, told = await scene.way.accepted(scene.life.id)
    return Cell(first.answered - first.asked, said.answered - first.asked)


async def pause(scene: Scene) -> Cell:
    """Obeyed: the last request."""
    spoken = await scene.way.say("push", scene.life.id, "pause", {"reason": "drill"})
    entries = await scene.ground.log(scene.life, spoken.said.asked + SEEN)
    assert await scene.ground.hold(scene.life) is Hold.PAUSED
    return await scene.cell(spoken, sight.last(entries, spoken.said.asked), scene.life)


async def resume(scene: Scene) -> Cell:
    """Obeyed: the next request."""
    spoken = await scene.way.say("push", scene.life.id, "resume", {})
    return await scene.cell(spoken, await scene.ground.first(scene.life, spoken.said.asked), scene.life)


async def change_pace(scene: Scene) -> Cell:
    """Obeyed: from when on every second has the new pace."""
    await scene.ground.flows(scene.life, 0.75 * PACE)
    spoken = await scene.way.say("push", scene.life.id, "set_pace", {"pace": SLOWER})
    until = spoken.said.asked + SEEN + 2.0
    entries = await scene.ground.log(scene.life, until)
    return await scene.cell(spoken, sight.slowed(entries, spoken.said.asked, SLOWER, until), scene.life)


async def edit_unsent(scene: Scene) -> Cell:
    """Obeyed: the last request with the old content; there are some with the new one."""
    given = {"message": {"texts": {"default": EDITED}}}
    spoken = await scene.way.say("push", scene.life.id, "edit_message", given)
    entries = await scene.ground.log(scene.life, spoken.said.asked + SEEN)
    assert sight.with_content(entries, content(EDITED)), "nothing has the new content"
    obeyed = sight.last(sight.with_content(entries, content(TEXT)), spoken.said.asked)
    return await scene.cell(spoken, obeyed, scene.life)


async def cancel_now(scene: Scene) -> Cell:
    """Obeyed: the last request; the books are exact."""
    spoken = await scene.way.say("push", scene.life.id, "cancel", {"mode": "now"})
    entries = await scene.ground.log(scene.life, spoken.said.asked + SEEN)
    account = await scene.life.finished()
    assert account.holds, account
    assert account.states["cancelled"]
    return await scene.cell(spoken, sight.last(entries, spoken.said.asked), scene.life)


async def schedule(scene: Scene) -> Cell:
    """Obeyed: seconds from its time to the first request; none before."""
    id, due = f"drill-later-{scene.short}", math.ceil(time.time() + AHEAD)
    scene.ground.mark()
    moment = datetime.fromtimestamp(due, UTC).isoformat()
    spoken = await scene.way.start("push", id, spec(pace=PACE, send_at=moment))
    push = await scene.ground.field.find(id)
    first = await scene.ground.first(push, spoken.said.asked, more=AHEAD)
    cell = await scene.cell(spoken, first, push)
    obeyed = spoken.said.asked + cell.obeyed - due
    assert obeyed >= 0, f"{-obeyed:.3f} s before its time"
    await scene.ground.end(push)
    return Cell(cell.acknowledged, obeyed, cell.audit)


async def drain(scene: Scene) -> Cell:
    """Obeyed: when the last batch began. Batches that have begun finish, the others are cancelled."""
    push = await scene.ground.begin(pace=2 * PACE)
    await push.until(0.05)
    spoken = await scene.way.say("push", push.id, "cancel", {"mode": "drain"})
    await asyncio.sleep(max(0.0, spoken.said.asked + SEEN - time.time()))
    await push.hurry()
    account = await push.finished()
    assert account.holds, account
    batches, entries = await scene.ground.batches(push), await asyncio.to_thread(push.requests)
    finished = {batches[entry["token"]] for entry in entries}
    assert account.states["cancelled"]
    assert len(entries) == sum(batch in finished for batch in batches.values())
    return await scene.cell(spoken, sight.begun(entries, batches, spoken.said.asked), push)


async def approve(scene: Scene) -> Cell:
    """Obeyed: the first request of the campaign; none before."""
    id = f"drill-approval-{scene.short}"
    await scene.ground.begin_campaign(id, pace=PACE)
    spoken = await scene.way.say("campaign", id, "approve", {})
    push = await scene.ground.field.find(id)
    obeyed = await scene.ground.first(push, spoken.said.asked)
    cell = await scene.cell(spoken, obeyed, None, id)
    await scene.ground.end(push)
    assert sight.first(push.requests(), 0.0) >= spoken.said.asked  # type: ignore[operator]
    return cell


async def _again(scene: Scene, what: str, state: State, reason: str | None) -> Cell:
    old = await scene.ground.closed(what, scene.way.name)
    wanted = await scene.ground.ended(old, state, reason)
    assert wanted, f"nothing ended {state.name.lower()}"
    scene.ground.mark()
    more = spec(fallback=False)
    spoken = await scene.way.retry(old.id, state.name.lower(), reason, more)
    push = await scene.ground.field.find(f"{old.id}.r1")
    obeyed = await scene.ground.first(push, spoken.said.asked)
    account = await push.finished()
    assert account.states == {"accepted": len(wanted)}, account
    tokens = [entry["token"] for entry in push.requests()]
    assert sorted(tokens) == sorted(wanted), "not exactly those that ended so"
    return await scene.cell(spoken, obeyed, old if spoken.audit.what == "retry" else push)


async def retry_one_reason(scene: Scene) -> Cell:
    """Obeyed: the first request; in the end exactly those that ended for it."""
    return await _again(scene, "rejected", State.REJECTED, "apns:BadExpirationDate")


async def redrive_dead_letters(scene: Scene) -> Cell:
    """Likewise, of what ended dead."""
    return await _again(scene, "dead", State.DEAD, None)


async def explain_a_user(scene: Scene) -> Cell:
    """Obeyed: the answer says what the log says of that user's request."""
    assert isinstance(scene.way, ClarionCli)
    entry = next(e for e in scene.life.requests() if e["provider"] == "apns" and e["status"] == 200)
    user = await scene.ground.user(entry["token"])
    said, printed = await scene.way.run("push", "explain", scene.life.id, user, "--json")
    fates = json.loads(printed)[0]["fates"]
    assert [(fate["provider"], fate["state"]) for fate in fates] == [("apns", "accepted")], fates
    seconds = said.answered - said.asked
    return Cell(seconds, seconds)


async def unblock_a_credential(scene: Scene) -> Cell:
    """Obeyed: the lane's next request."""
    await scene.ground.stack.sandbox("POST", "/faults", {"provider": "apns", "reject_credential": True})
    push = await scene.ground.begin(pace=PACE)
    async with asyncio.timeout(20):
        while not await scene.ground.is_blocked():  # noqa: ASYNC110  # a row
            await asyncio.sleep(0.1)
    while (await push.counts())["audience"] < PHONES:  # noqa: ASYNC110  # likewise
        await asyncio.sleep(0.1)
    await scene.ground.stack.sandbox("POST", "/clear")
    spoken = await scene.way.say("push", push.id, "unblock", {})
    obeyed = await scene.ground.first(push, spoken.said.asked, "apns")
    cell = await scene.cell(spoken, obeyed, None)
    await scene.ground.end(push)
    return cell


Play = Callable[[Scene], Awaitable[Cell]]

# As the table has them.
STORIES: Final[dict[str, Play]] = {
    "start": start,
    "schedule": schedule,
    "see progress": see_progress,
    "pause": pause,
    "resume": resume,
    "change pace": change_pace,
    "edit unsent": edit_unsent,
    "cancel now": cancel_now,
    "drain": drain,
    "approve": approve,
    "retry one reason": retry_one_reason,
    "explain a user": explain_a_user,
    "unblock a credential": unblock_a_credential,
    "redrive dead letters": redrive_dead_letters,
}
# As they are played: the life of a push, then what needs the pushes that are closed by then. A drain waits
# for rows that are tried again, so it comes when there are no faults any more.
PLAYED: Final = (
    "start", "see progress", "pause", "resume", "change pace", "edit unsent", "cancel now", "explain a user",
    "schedule", "approve", "retry one reason", "redrive dead letters", "drain", "unblock a credential",
)  # fmt: skip
NOT_THERE: Final = "rows stand in PostgreSQL alone: an answer would keep a user's addresses in a history"
EMPTY: Final = {("explain a user", name): NOT_THERE for name in ("temporal", "Temporal UI")}


async def play(scene: Scene, story: str) -> Cell:
    """One story by one way; a failure is a cell, too."""
    if reason := EMPTY.get((story, scene.way.name)):
        return Cell(reason=reason)
    try:
        async with asyncio.timeout(90):
            return await STORIES[story](scene)
    except Exception as error:
        return Cell(fault=f"{type(error).__name__}: {error}"[:600])
