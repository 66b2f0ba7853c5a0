"""What must be true when a life is over: the provider's book against the rows, device by device."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from tests.support import judge as judges

if TYPE_CHECKING:
    from benchmarks.simulation.life import Life

ROWS: Final = """
select r.token, s.state, s.doubt
from delivery_now s join registration r using (registration_no) where s.push_no = $1
"""
SUMS: Final = """
select coalesce(sum(redo), 0)::int as redo, coalesce(sum(maybe), 0)::int as maybe,
  coalesce(sum(open), 0)::int as open
from batch where push_no = $1
"""
SENT: Final = ("accepted", "in_doubt")


@dataclass(slots=True)
class Verdict:
    """One life. `faults`: what is not as it must be, in words; none: it was a good life."""

    seed: int
    once: bool
    states: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    duplicates: int = 0
    bound: int = 0
    lost: int = 0
    seconds: float = 0.0
    faults: list[str] = field(default_factory=list)
    digest: str = ""


async def judge(life: Life, *, stuck: bool) -> Verdict:
    """Look at everything."""
    verdict = Verdict(life.seed, life.once, seconds=life.clock.monotonic(), faults=life.broken)
    if stuck:
        verdict.faults.append("the push never ended")
        return verdict
    db = life.calm()
    rows = {
        row["token"]: (judges.STATES[row["state"]], row["doubt"])
        for row in await db.fetch(ROWS, life.push_no)
    }
    sums = await db.fetchrow(SUMS, life.push_no)
    balance = await db.fetchrow(judges.BALANCE, life.push_no)
    assert sums is not None
    assert balance is not None
    accepted = life.provider.accepted
    reached = [sum(accepted[token] for token in tokens) for tokens in life.phones]
    verdict.states = dict(sorted(Counter(state for state, _ in rows.values()).items()))
    verdict.requests = len(life.provider.book)
    verdict.duplicates = sum(n - 1 for n in reached if n)
    verdict.bound = sums["redo"] + sums["maybe"]
    _devices(life, rows, accepted, verdict)
    _say(verdict, balance["bad"], "batches whose counters are not their rows")
    _say(verdict, sums["open"], "open rows in closed books")
    _say(verdict, max(0, verdict.duplicates - verdict.bound), "duplicates that nothing accounts for")
    if life.once:
        _say(verdict, sum(n > 1 for n in reached), "phones with two messages, at most once")
    _words(life, verdict)
    _contents(life, verdict)
    return verdict


def _devices(life: Life, rows: dict[str, tuple[str, bool]], accepted: Counter[str], verdict: Verdict) -> None:
    """Every phone there is, against its rows: two, where one provider took over from the other."""
    missing = phantom = unexplained = 0
    for tokens in life.phones:
        found = [(*rows.get(token, ("missing", False)), accepted[token]) for token in tokens]
        states, reached = {state for state, _, _ in found}, any(sent for _, _, sent in found)
        missing += states == {"missing"} and (reached or not life.ended_early)
        verdict.lost += not reached and not states.isdisjoint((*judges.OPEN, "accepted"))
        for state, doubt, sent in found:
            phantom += state == "accepted" and not sent
            unexplained += bool(sent) and state not in SENT and not doubt
    _say(verdict, missing, "phones without a row")
    _say(verdict, verdict.lost, "phones that are lost")
    _say(verdict, phantom, "rows accepted that never arrived")
    _say(verdict, unexplained, "phones reached whose row knows nothing of it")


def _words(life: Life, verdict: Verdict) -> None:
    """Nothing leaves while a word says so."""
    for word in life.words:
        late = [one for one in life.provider.book if word.since < one.left < word.until]
        _say(verdict, len(late), f"requests later than two seconds after {word.what}")


def _contents(life: Life, verdict: Verdict) -> None:
    """Edited content goes out from two seconds after the acknowledgement."""
    order = {title: number for number, title in enumerate(["one", *(title for title, _ in life.contents)])}
    late = 0
    for one in life.provider.book:
        least = max((order[title] for title, since in life.contents if since < one.left), default=0)
        late += order.get(one.content, least) < least
    _say(verdict, late, "requests with content that was edited")


def _say(verdict: Verdict, number: int, what: str) -> None:
    if number:
        verdict.faults.append(f"{number} {what}")
