"""The life of a campaign in the store: opened once, stage by stage, steered, closed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from clarion.errors import AlreadyExists, CommandRefused, NotFound
from clarion.model.campaign import CampaignProgress
from clarion.model.command import CommandAnswer
from clarion.model.spec import CampaignSpec
from clarion.store import campaign as campaigns
from clarion.store import push as pushes
from clarion.store import report
from clarion.store.database import Database
from clarion.store.ledger import Ledger
from tests.support.ground import MESSAGE, Ground
from tests.unit.test_campaign_spec import shares

OTHER = {"texts": {"default": {"title": "Tram 9 runs again"}}}
STAGES = [{"name": "pilot", "share": 20}, {"name": "rest"}]


class Row:
    """One campaign in the store. Use `await Row.open(ground, …)`."""

    def __init__(self, ground: Ground, id: str, spec: CampaignSpec) -> None:
        self.ground, self.db, self.id, self.spec = ground, ground.db, id, spec

    @classmethod
    async def open(cls, ground: Ground, id: str = "spring", **more: Any) -> Row:
        """A new campaign to everybody."""
        words = {"app": ground.app, "message": MESSAGE, "audience": {"everybody": True}} | more
        row = cls(ground, id, CampaignSpec.model_validate(words))
        assert await campaigns.open_campaign(ground.db, row.spec, id) == "new"
        return row

    async def advance(self) -> CampaignProgress:
        """Do what is due; how it stands."""
        return (await campaigns.advance(self.db, self.id)).progress

    async def say(self, what: str, *, command_id: UUID | None = None, **args: Any) -> CommandAnswer:
        """An operator's word."""
        said = await campaigns.command(self.db, self.id, command_id or uuid4(), "ann", what, args)
        return said.answer

    async def refused(self, what: str, said: str, **args: Any) -> None:
        """A word that is refused with these words, and changes nothing."""
        before = await self.row("control_version")
        with pytest.raises(CommandRefused, match=said):
            await self.say(what, **args)
        assert await self.row("control_version") == before

    async def row(self, column: str) -> Any:
        """A column of its row."""
        return await self.db.fetchval(f"select {column} from campaign where campaign_id = $1", self.id)

    async def push_no(self, push_id: str) -> int:
        """The number of a push."""
        return await pushes.find(self.db, push_id)

    async def frozen(self, push_id: str) -> set[int]:
        """Freeze a push; the numbers of its users."""
        push_no = await self.push_no(push_id)
        for range_no in range((await pushes.plan(self.db, push_no)).ranges):
            await pushes.freeze(self.db, push_no, range_no)
        rows = await self.db.fetch("select user_no from delivery where push_no = $1", push_no)
        assert len({row["user_no"] for row in rows}) == len(rows)
        return {row["user_no"] for row in rows}

    async def close(self, push_id: str, verdict: str = "completed") -> None:
        """Close the books of a push."""
        push_no = await self.push_no(push_id)
        await pushes.command(self.db, push_no, uuid4(), "clarion", "close", {"verdict": verdict})
        while (await Ledger(self.db).close(push_no)).left_open:
            pass
        assert await pushes.close_push(self.db, push_no) is not None


async def test_one_id_is_one_campaign(db: Database) -> None:
    """Twenty equal starts at once make one; the same again joins it; other content is refused."""
    ground = await Ground.lay(db, 3)
    words = {"app": ground.app, "message": MESSAGE, "audience": {"everybody": True}}
    spec = CampaignSpec.model_validate(words)

    opened = await asyncio.gather(*(campaigns.open_campaign(db, spec, "spring") for _ in range(20)))

    assert sorted(opened) == ["new", *["open"] * 19]
    with pytest.raises(AlreadyExists, match="choose another id"):
        await campaigns.open_campaign(db, spec.model_copy(update={"pace": 5.0}), "spring")
    assert await db.fetchval("select count(*) from campaign") == 1


async def test_a_start_that_refers_to_nothing_makes_no_row(db: Database) -> None:
    """An unknown app or content, a push that somebody else has under this name."""
    ground = await Ground.lay(db, 3)
    await ground.open("autumn")
    cases: list[tuple[str, dict[str, Any], type[Exception]]] = [
        ("a", {"app": "nowhere"}, NotFound),
        ("b", {"message": None, "content": "content:" + "ab" * 32}, NotFound),
        ("autumn", {}, AlreadyExists),
    ]
    for id, changes, error in cases:
        words: dict[str, Any] = {"app": ground.app, "message": MESSAGE, "audience": {"everybody": True}}
        words |= changes
        with pytest.raises(error):
            await campaigns.open_campaign(db, CampaignSpec.model_validate(words), id)

    assert await db.fetchval("select count(*) from campaign") == 0
    with pytest.raises(NotFound):
        await campaigns.advance(db, "a")


async def test_without_stages_it_has_one_push(db: Database) -> None:
    """Opened at once under its own name; when that is closed, so is the campaign, and it stays so."""
    row = await Row.open(await Ground.lay(db, 3))

    first = await row.advance()
    again = await row.advance()
    await row.frozen("spring")
    await row.close("spring")
    ended = await row.advance()

    assert (first.waits_for, first.stages[0].push_id, again.stages) == ("push", "spring", first.stages)
    assert (ended.status, ended.waits_for, ended.words()) == ("completed", None, ())
    assert ended.result is not None
    assert ended.result["pushes"][0]["result"]["verdict"] == "completed"
    assert (await row.advance()).result == ended.result
    assert await campaigns.open_campaign(db, row.spec, "spring") == "closed"


async def test_stages_are_exact_slices(db: Database) -> None:
    """Every user in exactly one stage, the one that its number falls to; users who come late, too."""
    ground = await Ground.lay(db, 2_000)
    stages = [{"name": "one", "share": 5}, {"name": "two", "share": 20}, {"name": "rest"}]
    row = await Row.open(ground, stages=stages)
    found: dict[str, set[int]] = {}
    for name in ("one", "two", "rest"):
        await row.advance()
        if name == "rest":
            await ground.add_users(2_001, 2_100)
        found[name] = await row.frozen(f"spring.{name}")
        await row.close(f"spring.{name}")

    places = await db.fetch(
        "select user_no, slice_of(user_no, 'spring') as place, substr(user_id, 2)::int > 2000 as late"
        " from usr"
    )
    edges = {"one": (0, 50_000), "two": (50_000, 250_000), "rest": (250_000, 1_000_000)}
    for name, (start, end) in edges.items():
        assert found[name] == {
            user["user_no"]
            for user in places
            if start <= user["place"] < end and (name == "rest" or not user["late"])
        }
    assert not found["one"] & found["two"]
    assert not (found["one"] | found["two"]) & found["rest"]
    assert 60 <= len(found["one"]) <= 140
    assert 330 <= len(found["two"]) <= 470
    assert (await row.advance()).status == "completed"


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(stages=shares(), name=st.from_regex(r"[a-z][a-z0-9.-]{0,20}", fullmatch=True))
async def test_any_stages_cut_any_users_exactly(
    db: Database, stages: list[dict[str, Any]], name: str
) -> None:
    """In the database: every number from the smallest to the largest is in one slice of any campaign."""
    slices = CampaignSpec.model_validate(
        {"app": "a", "message": MESSAGE, "audience": {"everybody": True}, "stages": stages}
    ).slices()

    wrong = await db.fetchval(
        """
        with numbers as (
          select unnest(array[0, 1, 2, 9223372036854775807]) as n
          union all select n * 1000003 from generate_series(1, 400) n
        )
        select count(*) from numbers
        where 1 <> (
          select count(*) from unnest($2::int[], $3::int[]) s (a, b) where slice_of(n, $1) <@ int4range(a, b))
        """,
        name,
        [start for start, _ in slices],
        [end for _, end in slices],
    )

    assert wrong == 0


async def test_slices_are_even_and_differ_between_campaigns(db: Database) -> None:
    """Half of a hundred thousand users is half of them, and another campaign's half is another one."""
    row = await db.fetchrow(
        "select count(*) filter (where slice_of(n, 'a') < 500000) as half,"
        " count(*) filter (where slice_of(n, 'a') < 500000 and slice_of(n, 'b') < 500000) as both"
        " from generate_series(1, 100000) n"
    )

    assert row is not None
    assert 49_000 <= row["half"] <= 51_000
    assert 24_000 <= row["both"] <= 26_000


async def test_a_slice_of_named_users_and_of_a_rule(db: Database) -> None:
    """Slices cut every kind of audience: the union of the stages is the audience without stages."""
    ground = await Ground.lay(db, 300, tags="case g % 2 when 0 then '{even}' end")
    for id, audience, size in [
        ("named", {"users": [f"u{n}" for n in range(1, 91)]}, 90),
        ("tagged", {"where": {"tags_any": ["even"]}}, 150),
    ]:
        row = await Row.open(ground, id, stages=STAGES, audience=audience)
        await row.advance()
        pilot = await row.frozen(f"{id}.pilot")
        await row.close(f"{id}.pilot")
        await row.advance()
        rest = await row.frozen(f"{id}.rest")

        assert len(pilot | rest) == len(pilot) + len(rest) == size


async def test_the_plan_of_a_slice_is_for_its_size(db: Database) -> None:
    """The estimate is the slice's, so that its batches are not cut for the whole audience."""
    row = await Row.open(await Ground.lay(db, 1_000), stages=STAGES)
    await row.advance()

    plan = await pushes.plan(db, await row.push_no("spring.pilot"))

    assert plan.estimated_rows == 200


async def test_explain_tells_of_the_other_stage(db: Database) -> None:
    """Who is not in a stage's push is told that another stage is theirs."""
    row = await Row.open(await Ground.lay(db, 200), stages=STAGES)
    await row.advance()
    pilot = await row.frozen("spring.pilot")
    other = await db.fetchval(
        "select user_id from usr where user_no <> all ($1::bigint[]) limit 1", list(pilot)
    )

    why = (await report.explain(db, row.ground.app, other, "spring.pilot")).why_none

    assert why == "the user falls to another slice of the audience: another stage of the campaign"


# ── approval ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_nothing_is_opened_before_approval(db: Database) -> None:
    """It waits; approved with the content it has, its push is opened; approved again, it was so before."""
    row = await Row.open(await Ground.lay(db, 3), approval={"within": "1h"})

    waiting = await row.advance()
    await row.refused("approve", "other content now", content="content:" + "00" * 32)
    answer = await row.say("approve", content=waiting.content)
    again = await row.say("approve", content=waiting.content)
    opened = await row.advance()

    assert (waiting.waits_for, waiting.status) == ("approval", "pending")
    assert waiting.until is not None
    assert 3_590 < (waiting.until - waiting.at).total_seconds() <= 3_600
    assert waiting.words()[:2] == ("approve", "reject")
    assert (answer.already, again.already) == (False, True)
    assert (opened.waits_for, opened.approved_by) == ("push", "ann")
    audit = await db.fetch(
        "select who, way, what, before, after from audit"
        " where campaign_id = 'spring' and way <> 'start' order by at"
    )
    assert [(a["who"], a["way"], a["what"]) for a in audit][1] == ("ann", "update", "approve")
    assert "content:" + audit[1]["after"]["approved"] == waiting.content


async def test_what_was_edited_since_is_not_approved(db: Database) -> None:
    """An approval is of a content: edited meanwhile, the old one is refused, and so is none at all."""
    row = await Row.open(await Ground.lay(db, 3), approval={})
    seen = (await row.advance()).content

    await row.say("edit", message=OTHER)
    await row.refused("approve", "other content now", content=seen)
    await row.refused("approve", "say which you approve")
    now = (await row.advance()).content
    await row.say("approve", content=now)
    await row.advance()

    assert now != seen
    message = await pushes.message(db, await row.push_no("spring"), 1)
    assert message.texts["default"].title == "Tram 9 runs again"


async def test_an_edit_voids_the_approval_and_says_so(db: Database) -> None:
    """Approved while paused, then edited: it waits for approval again."""
    row = await Row.open(await Ground.lay(db, 3), approval={})
    seen = (await row.advance()).content
    await row.say("pause")
    await row.say("approve", content=seen)

    edited = await row.say("edit", message=OTHER)
    await row.say("resume")

    assert edited.note is not None
    assert "void" in edited.note
    assert (await row.advance()).waits_for == "approval"
    assert await row.row("approved_by") is None


async def test_approved_content_is_not_edited_while_it_is_sent(db: Database) -> None:
    """Else what nobody approved would go out; between two stages an edit waits for approval again."""
    row = await Row.open(await Ground.lay(db, 30), approval={}, stages=STAGES)
    await row.say("approve", content=(await row.advance()).content)
    await row.advance()

    await row.refused("edit", "was approved and is being sent", message=OTHER)
    pilot = await row.push_no("spring.pilot")
    with pytest.raises(CommandRefused, match="was approved"):
        await pushes.command(db, pilot, uuid4(), "bob", "edit", {"message": OTHER})
    await row.close("spring.pilot")
    await row.say("pause")
    await row.advance()
    edited = await row.say("edit", message=OTHER)
    await row.say("resume")

    assert edited.note is not None
    assert (await row.advance()).waits_for == "approval"


async def test_rejected_it_ends_with_the_reason(db: Database) -> None:
    """No push was ever opened."""
    row = await Row.open(await Ground.lay(db, 3), approval={})
    await row.advance()

    await row.say("reject", reason="too loud")
    ended = await row.advance()

    assert ended.status == "rejected"
    assert ended.result == {
        "verdict": "rejected",
        "reason": "too loud",
        "pushes": [],
        "not_opened": ["spring"],
    }
    await row.refused("approve", "closed: rejected")
    assert await db.fetchval("select count(*) from push") == 0


@pytest.mark.parametrize("when", ["within", "until", "deadline"])
async def test_not_approved_in_time_it_expires(db: Database, when: str) -> None:
    """By its own clock, by a moment, or by the campaign's deadline; also while it is paused."""
    soon = datetime.now(UTC) + timedelta(seconds=1)
    kinds: dict[str, dict[str, Any]] = {
        "within": {"approval": {"within": "1s"}},
        "until": {"approval": {"until": soon}},
        "deadline": {"approval": {}, "deadline": soon},
    }
    row = await Row.open(await Ground.lay(db, 3), **kinds[when])
    await row.advance()
    await row.say("pause")
    wait = (await campaigns.advance(db, "spring")).wait
    assert wait is not None

    await asyncio.sleep(wait + 0.01)
    ended = await row.advance()

    assert ended.status == "expired"
    assert ended.result is not None
    assert ended.result["reason"] == "it was not approved in time"


async def test_nothing_waits_for_approval(db: Database) -> None:
    """approve and reject of a campaign that needs none, or that is being sent, are refused."""
    plain = await Row.open(await Ground.lay(db, 3), "plain")
    await plain.refused("approve", "nothing waits for approval")
    await plain.advance()
    await plain.refused("reject", "a push of it is open")


async def test_a_stage_waits_for_its_own_approval(db: Database) -> None:
    """`then: {approval}` is asked for when the stage before has ended, not earlier."""
    stages = [{"name": "pilot", "share": 20, "then": {"approval": {"within": "1h"}}}, {"name": "rest"}]
    row = await Row.open(await Ground.lay(db, 30), stages=stages)
    content = (await row.advance()).content
    await row.refused("approve", "a push of it is open", content=content)
    await row.close("spring.pilot")

    waiting = await row.advance()
    await row.say("approve", content=content)
    opened = await row.advance()

    assert (waiting.waits_for, waiting.waiting()[:36]) == ("approval", "waits for approval before stage rest")
    assert opened.stages[1].phase == "scheduled"


# ── between stages ────────────────────────────────────────────────────────────────────────────────────────


async def between(db: Database, **more: Any) -> Row:
    """A campaign whose pilot has ended and whose rest comes in an hour."""
    stages = [{"name": "pilot", "share": 20, "then": {"wait": "1h"}}, {"name": "rest"}]
    row = await Row.open(await Ground.lay(db, 30), stages=stages, **more)
    await row.advance()
    await row.frozen("spring.pilot")
    await row.close("spring.pilot")
    waiting = await row.advance()
    assert waiting.waits_for == "time"
    if not more:
        assert waiting.until is not None
        assert 3_500 < (waiting.until - waiting.at).total_seconds() <= 3_600
    return row


async def test_words_between_stages_hold_for_the_next_push(db: Database) -> None:
    """Pace, deadline, content and time are the row's, and the next push is opened with them."""
    row = await between(db)
    deadline = datetime.now(UTC) + timedelta(hours=5)

    await row.say("set", pace=40)
    await row.say("extend", deadline=deadline)
    await row.say("edit", message=OTHER)
    await row.say("reschedule", send_at=datetime.now(UTC) + timedelta(seconds=0.4))
    await asyncio.sleep(0.41)
    opened = await row.advance()

    assert opened.stages[1].phase == "scheduled"
    rest = await db.fetchrow("select push_no, pace, deadline from push where push_id = 'spring.rest'")
    assert rest is not None
    assert (rest["pace"], rest["deadline"]) == (40, deadline)
    assert (await pushes.message(db, rest["push_no"], 1)).texts["default"].title == "Tram 9 runs again"


async def test_paused_it_opens_no_push(db: Database) -> None:
    """Its time has come, but it is held; resumed, the next stage is opened."""
    row = await between(db)
    await row.say("pause", reason="look first")
    await row.say("reschedule", send_at=datetime.now(UTC) + timedelta(seconds=0.2))
    await asyncio.sleep(0.21)

    held = await row.advance()
    await row.say("resume")
    opened = await row.advance()

    assert (held.waits_for, held.waiting()) == ("resume", "paused by ann: look first")
    assert opened.waits_for == "push"


@pytest.mark.parametrize("word", ["close", "drain"])
async def test_cancelled_between_stages_it_ends(db: Database, word: str) -> None:
    """With the pilot's counts, and the rest named as not opened."""
    row = await between(db)

    args: dict[str, Any] = {"verdict": "cancelled"} if word == "close" else {}
    await row.say(word, **args)
    ended = await row.advance()

    assert ended.status == "cancelled"
    assert ended.result is not None
    assert [push["id"] for push in ended.result["pushes"]] == ["spring.pilot"]
    assert ended.result["not_opened"] == ["spring.rest"]


async def test_a_stage_that_did_not_complete_has_no_successor(db: Database) -> None:
    """Who cancels the pilot does not want the rest."""
    row = await Row.open(await Ground.lay(db, 30), stages=STAGES)
    await row.advance()
    await row.close("spring.pilot", "cancelled")

    assert (await row.advance()).status == "cancelled"


async def test_a_deadline_between_stages_ends_it(db: Database) -> None:
    """The deadline is the campaign's, so it does not open a push that could send nothing."""
    row = await between(db, deadline=datetime.now(UTC) + timedelta(seconds=1))
    await asyncio.sleep((await campaigns.advance(db, "spring")).wait or 0)

    assert (await row.advance()).status == "expired"


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_word_reaches_the_open_push(db: Database) -> None:
    """One transaction: the campaign's row and its push; the push's audit says so, too."""
    row = await Row.open(await Ground.lay(db, 3), send_at=datetime.now(UTC) + timedelta(hours=1))
    await row.advance()
    later = datetime.now(UTC) + timedelta(hours=2)

    await row.say("pause", reason="wait")
    await row.say("set", pace=None)
    await row.say("edit", message=OTHER)
    await row.say("reschedule", send_at=later)
    push = await db.fetchrow(
        "select hold, hold_reason, content_version, send_at from push where push_id = 'spring'"
    )

    assert push is not None
    assert tuple(push) == (2, "wait", 2, later)
    assert await db.fetchval("select count(*) from audit where push_no is not null") == 4
    assert (
        await db.fetchval("select count(*) from audit where campaign_id = 'spring' and way <> 'start'") == 4
    )


async def test_a_campaign_is_one_word(db: Database) -> None:
    """It reaches every open push that bears the campaign's name, a retry of a stage too; each answers."""
    row = await Row.open(await Ground.lay(db, 3))
    await row.advance()
    drained = await row.ground.open("spring.extra", campaign="spring")
    other = await row.ground.open("other")
    await row.ground.say(drained, "drain")

    said = await campaigns.command(db, "spring", uuid4(), "ann", "pause", {})

    assert (said.answer.hold, set(said.pushes)) == ("paused", {"spring", "spring.extra"})
    holds = await db.fetch("select push_id, hold from push order by push_no")
    assert {one["push_id"]: one["hold"] for one in holds} == {"spring": 2, "spring.extra": 1, "other": 0}
    assert other


async def test_a_word_is_said_once(db: Database) -> None:
    """The same command id again gives the same answer and changes nothing."""
    row = await Row.open(await Ground.lay(db, 3))
    await row.advance()
    command_id = uuid4()

    first = await row.say("pause", command_id=command_id)
    await row.say("resume")
    again = await row.say("pause", command_id=command_id)

    assert first == again
    assert await row.row("hold") == 0


@pytest.mark.parametrize(
    ("what", "args", "said"),
    [
        ("set", {"pace": -1.0}, "positive"),
        ("extend", {"deadline": datetime(2020, 1, 1, tzinfo=UTC)}, "the deadline is past"),
        ("reschedule", {"send_at": datetime(2020, 1, 1, tzinfo=UTC)}, "the time is past"),
        ("close", {"verdict": "won"}, "verdict"),
        ("dance", {}, "unknown command"),
        ("pause", {"if_version": 7}, "a newer command holds"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_word_that_makes_no_sense_is_refused(
    db: Database, what: str, args: dict[str, Any], said: str
) -> None:
    """With the reason, and nothing is half applied."""
    row = await Row.open(await Ground.lay(db, 3))
    await row.advance()

    await row.refused(what, said, **args)
    assert (
        await db.fetchval("select count(*) from audit where push_no is not null and (answer->>'ok')::bool")
        == 0
    )


async def test_a_started_campaign_is_not_rescheduled(db: Database) -> None:
    """Its push has started: said so, and neither row is changed."""
    row = await Row.open(await Ground.lay(db, 3))
    await row.advance()
    await row.frozen("spring")

    await row.refused("reschedule", "it has started", send_at=datetime.now(UTC) + timedelta(hours=1))


async def test_a_closed_campaign_takes_no_words(db: Database) -> None:
    """Nor one that closes; pause while it drains is refused, since resume would forget the drain."""
    row = await Row.open(await Ground.lay(db, 3))
    await row.advance()
    await row.say("drain")
    await row.refused("pause", "draining")
    await row.say("resume")
    await row.say("close", verdict="cancelled")
    await row.refused("resume", "closing: cancelled")
    assert (await row.say("close", verdict="cancelled")).already
    await row.close("spring", "cancelled")
    await row.advance()
    await row.refused("pause", "closed: cancelled")


async def test_a_word_while_a_push_is_opened_reaches_it(db: Database) -> None:
    """Pause and opening meet: whoever is first, the push ends held or is not there. Tried many times."""
    ground = await Ground.lay(db, 3)
    for number in range(25):
        row = await Row.open(ground, f"race-{number}")

        await asyncio.gather(row.advance(), row.say("pause"))

        hold = await db.fetchval("select hold from push where push_id = $1", row.id)
        assert hold in (2, None)
        assert (await row.advance()).hold == "paused"


async def test_many_who_advance_open_one_push(db: Database) -> None:
    """Twenty control processes ask at once: every stage is opened once."""
    row = await Row.open(await Ground.lay(db, 3), stages=STAGES)

    stood = await asyncio.gather(*(row.advance() for _ in range(20)))

    assert {one.waits_for for one in stood} == {"push"}
    assert await db.fetchval("select count(*) from push") == 1


async def test_a_push_that_took_the_name_of_a_stage_stops_it(db: Database) -> None:
    """The campaign cannot go on; its row is not moved."""
    row = await Row.open(await Ground.lay(db, 30), stages=STAGES)
    await row.advance()
    await row.ground.open("spring.rest")
    await row.close("spring.pilot")

    with pytest.raises(AlreadyExists, match=r"spring\.rest"):
        await row.advance()
    assert await row.row("stage") == 1


async def test_the_list_has_the_latest_first(db: Database) -> None:
    """All of an app, or only those not closed."""
    ground = await Ground.lay(db, 3)
    first = await Row.open(ground, "first", approval={})
    await Row.open(ground, "second", title="The second")
    await first.advance()
    await first.say("reject")
    await first.advance()

    listed = await campaigns.list_campaigns(db, app=ground.app)
    still = await campaigns.list_campaigns(db, open_only=True)

    assert [(one.campaign_id, one.status, one.title) for one in listed] == [
        ("second", "pending", "The second"),
        ("first", "rejected", None),
    ]
    assert [one.campaign_id for one in still] == ["second"]
    with pytest.raises(NotFound, match="campaign list"):
        await campaigns.progress(db, "nowhere")
