"""Activities against the real store: the end of a send and of a push, the 30 % rule, the housekeeping."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from uuid import uuid4

import pytest
from temporalio import activity
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities import send
from activities.audience import Audiences, FreezeInput
from activities.close import CloseInput, Closing
from activities.faults import ours
from activities.quota import Quota, QuotaInput
from activities.registrations import Registrations, RetireInput
from activities.send import Sending, SendInput, SendResult
from clarion import limits
from clarion.attempt import AttemptResult, Stop
from clarion.errors import StoreFull
from clarion.model.audience import Audience
from clarion.model.spec import PushSpec
from clarion.senders.outcome import Outcome, OutcomeKind
from clarion.store import push as pushes
from clarion.store import running
from clarion.store.database import Database
from clarion.store.ledger import Outcomes
from tests.support.sending import MESSAGE, Bench, full_disk

INPUT = SendInput(push_no=1, batches=(0,), provider="apns")


class Slow:
    """A process whose attempts last until they are stopped, and then for a moment longer."""

    def __init__(self) -> None:
        self.started = asyncio.Event()
        self.drained = False
        self.beats = True

    async def send(
        self, push_no: int, batch: int, *, lease: float, beat: Callable[[], None], stop: Stop
    ) -> AttemptResult:
        """Drain for 50 ms once stopped."""
        asked = asyncio.Event()
        stop.when_set(asked.set)
        self.started.set()
        await asked.wait()
        await asyncio.sleep(0.05)
        self.drained = True
        return AttemptResult("stopped")

    async def resumed(self, push_no: int, *, beat: Callable[[], None], stop: Stop) -> bool:
        """Nobody pauses it."""
        return False


@pytest.mark.parametrize(
    ("details", "ending"),
    [
        (activity.ActivityCancellationDetails(cancel_requested=True), None),
        (activity.ActivityCancellationDetails(paused=True), asyncio.CancelledError),
        (activity.ActivityCancellationDetails(timed_out=True), asyncio.CancelledError),
        (activity.ActivityCancellationDetails(not_found=True), asyncio.CancelledError),
    ],
)
async def test_a_cancelled_send_drains_first(
    details: activity.ActivityCancellationDetails, ending: type[BaseException] | None
) -> None:
    """Cancelled it returns what became of it; paused or timed out it fails, so that another attempt comes."""
    process, environment = Slow(), ActivityEnvironment()
    task = asyncio.ensure_future(environment.run(Sending(process).send_batch, INPUT))
    await process.started.wait()

    environment.cancel(details)
    if ending is None:
        assert await task == SendResult(why="stopped")
    else:
        with pytest.raises(ending):
            await task

    assert process.drained


async def test_a_sender_that_leaves_hands_its_batch_back() -> None:
    """SIGTERM: drained, then a failure that another sender's attempt follows at once."""
    process = Slow()
    sending = Sending(process)
    task = asyncio.ensure_future(ActivityEnvironment().run(sending.send_batch, INPUT))
    await process.started.wait()

    sending.leave()
    with pytest.raises(ApplicationError) as failure:
        await task

    assert failure.value.type == "Shutdown"
    assert process.drained


async def test_heartbeats_stop_when_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stalled attempt must look dead, or nobody else would get its batch."""
    monkeypatch.setattr(limits, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(limits, "HEARTBEAT_EVERY", 0.02)
    process, environment = Slow(), ActivityEnvironment()
    beats: list[float] = []
    environment.on_heartbeat = lambda *_: beats.append(asyncio.get_running_loop().time())
    sending = Sending(process)
    task = asyncio.ensure_future(environment.run(sending.send_batch, INPUT))
    await asyncio.sleep(0.6)
    last, now = beats[-1], asyncio.get_running_loop().time()
    environment.cancel(activity.ActivityCancellationDetails(timed_out=True))
    with pytest.raises(asyncio.CancelledError):
        await task

    assert len(beats) > 3
    assert now - last > 0.2


async def test_a_list_goes_on_over_what_is_done_and_stops_at_a_hold() -> None:
    """The first result that is not `done` is the list's; a long pause ends it, a short one does not."""

    class Scripted:
        def __init__(self, *whys: str) -> None:
            self.whys, self.asked = list(whys), 0
            self.holds = [True, False]  # the first pause is soon over, the next one is not

        async def send(
            self, push_no: int, batch: int, *, lease: float, beat: Callable[[], None], stop: Stop
        ) -> AttemptResult:
            self.asked += 1
            return AttemptResult(self.whys.pop(0))

        async def resumed(self, push_no: int, *, beat: Callable[[], None], stop: Stop) -> bool:
            return self.holds.pop(0)

    async def ends(*whys: str) -> tuple[str, int]:
        process = Scripted(*whys)
        batches = tuple(range(len(whys)))
        input = SendInput(push_no=1, batches=batches, provider="apns")
        return (await ActivityEnvironment().run(Sending(process).send_batch, input)).why, process.asked

    assert await ends("done", "done") == ("done", 2)
    assert await ends("done", "leased", "done") == ("leased", 3)
    assert await ends("done", "hold", "hold", "done") == ("held", 3)
    assert await ends("hold", "done", "hold", "done") == ("held", 3)
    assert await ends("blocked", "done") == ("blocked", 1)
    assert await ends("more", "done") == ("more", 1)


async def test_an_input_of_another_release_is_left_to_others() -> None:
    """A sender takes this schema and the one before, and fails retryably on a later one."""
    later = INPUT.model_copy(update={"schema_number": send.SCHEMA + 1})

    with pytest.raises(ApplicationError) as failure:
        await ActivityEnvironment().run(Sending(Slow()).send_batch, later)

    assert not failure.value.non_retryable


async def attempt(bench: Bench, push_no: int, batch: int) -> None:
    """One whole attempt at a batch."""
    await bench.process.send(push_no, batch, lease=10, beat=lambda: None, stop=Stop())


@pytest.mark.parametrize(("share", "blocked"), [(0.5, True), (0.1, False)])
async def test_the_thirty_percent_rule(db: Database, share: float, blocked: bool) -> None:
    """Too many wrong devices mean a wrong credential: the lane is blocked and nobody is retired for it."""
    bench = await Bench.make(db, 400)
    wrong = Outcome(OutcomeKind.REJECTED, "apns:BadDeviceToken", retire=True)
    good = bench.sender.script
    bench.sender.script = lambda number, times: wrong if number <= 400 * share else good(number, times)
    push_no, batches = await bench.push()
    for batch in batches:
        await attempt(bench, push_no, batch)

    result = await ActivityEnvironment().run(
        Registrations(db).retire_registrations, RetireInput(push_no=push_no)
    )

    retired = await db.fetchval("select count(*) from registration where status = 3")
    state = await db.fetchrow("select blocked, reason from credential_state")
    assert (bool(result.blocked), retired) == (blocked, 0 if blocked else 40)
    assert (state is not None and state["blocked"]) == blocked
    if state is not None:
        assert bench.process.reasons.name(state["reason"]) == "apns:BadDeviceToken"
        assert await db.fetchval("select count(*) from retire") == 0


async def test_admission_says_why_not(db: Database) -> None:
    """Held, past its deadline, blocked, closing: a result; too early by seconds: a retryable Throttled."""
    bench = await Bench.make(db, 10)
    push_no, (batch,) = await bench.push()
    ask = QuotaInput(push_no=push_no, batches=(batch,))

    async def why() -> str | None:
        return (await ActivityEnvironment().run(Quota(db).acquire_quota, ask)).why

    assert await why() is None
    await db.execute("update batch set opens_at = now() + interval '5 s'")
    with pytest.raises(ApplicationError) as failure:
        await why()
    assert failure.value.type == "Throttled"
    assert failure.value.next_retry_delay is not None
    assert 4 < failure.value.next_retry_delay.total_seconds() <= 5
    await db.execute("update batch set opens_at = now() + interval '1 h'")
    assert await why() == "early"
    await db.execute("update batch set opens_at = '-infinity'")
    await db.execute("insert into credential_state (app_no, lane, blocked) select app_no, 1, true from app")
    assert await why() == "blocked"
    await pushes.command(db, push_no, uuid4(), "ada", "pause", {})
    assert await why() == "held"


async def test_a_shut_lane_is_waited_for(db: Database) -> None:
    """Retry-After, as the dealer knows it, holds batches back before they take a slot."""
    bench = await Bench.make(db, 10)
    push_no, (batch,) = await bench.push()
    await db.execute(
        "insert into dealer (epoch, number, taken_at, dealt_at, lanes)"
        " select 1, 1, clock(), clock(),"
        " json_build_object(app_no || '.1', json_build_object('closed', clock() + 20)) from app"
    )
    ask = QuotaInput(push_no=push_no, batches=(batch,))

    with pytest.raises(ApplicationError) as failure:
        await ActivityEnvironment().run(Quota(db).acquire_quota, ask)

    assert failure.value.next_retry_delay is not None
    assert 19 < failure.value.next_retry_delay.total_seconds() <= 20


async def test_a_full_disk_ends_a_freeze_with_words_and_half_writes_nothing(db: Database) -> None:
    """No room for its rows: it fails for good with what a person is to do; with room it is done once."""
    await Bench.make(db, 100)
    spec = PushSpec(app="bench", message=MESSAGE, audience=Audience(everybody=True))
    push_no = (await pushes.open_push(db, spec, "full")).push_no
    await pushes.plan(db, push_no)
    await db.execute(full_disk("batch"))
    freeze, input = Audiences(db).freeze, FreezeInput(push_no=push_no, range_no=0)

    with pytest.raises(StoreFull, match="Make room, then resume") as refused:
        await ActivityEnvironment().run(freeze, input)
    rows = await db.fetchval("select count(*) from delivery where push_no = $1", push_no)
    await db.execute("drop trigger full_disk on batch")
    frozen = await ActivityEnvironment().run(freeze, input)

    assert ours(refused.value).non_retryable
    assert (rows, frozen.rows) == (0, 100)


async def test_closing_books_what_is_open_and_is_repeatable(db: Database) -> None:
    """Never claimed rows are cancelled; a second call, with any word, gives the stored result."""
    bench = await Bench.make(db, 1_500)
    push_no, batches = await bench.push()
    await attempt(bench, push_no, batches[0])

    first = await ActivityEnvironment().run(
        Closing(db).close, CloseInput(push_no=push_no, verdict="cancelled")
    )
    again = await ActivityEnvironment().run(Closing(db).close, CloseInput(push_no=push_no, verdict="expired"))

    assert first == again
    assert first.result["verdict"] == "cancelled"
    assert await bench.counts(push_no) == {"audience": 1_500, "accepted": 1_000, "cancelled": 500}


async def test_closing_waits_for_leases(db: Database) -> None:
    """A dead attempt may have sent what it claimed: that is in doubt, not cancelled."""
    bench = await Bench.make(db, 100)
    push_no, (batch,) = await bench.push()
    take = await bench.process.ledger.take(push_no, batch, uuid4(), 1, 0.8)
    assert take.epoch is not None
    await bench.process.ledger.step(
        push_no, batch, take.epoch, outcomes=Outcomes(take.at), content_version=1, claim=9, lease=0.8
    )
    began = asyncio.get_running_loop().time()

    await ActivityEnvironment().run(Closing(db).close, CloseInput(push_no=push_no, verdict="cancelled"))

    assert asyncio.get_running_loop().time() - began >= 0.5
    assert await bench.counts(push_no) == {"audience": 100, "in_doubt": 10, "cancelled": 90}


async def test_one_process_keeps_house(db: Database, database_url: str) -> None:
    """The lock belongs to one at a time; partitions are there for a week."""
    other = await Database.connect(database_url)
    async with running.housekeeper(db) as mine, running.housekeeper(other) as others:
        await running.make_days(db, 7)
        assert (mine, others) == (True, False)
    async with running.housekeeper(other) as now_mine:
        assert now_mine
    await other.close()

    days = await db.fetchval(
        "select count(*) from pg_inherits where inhparent = 'clarion.delivery'::regclass"
    )
    assert days == 9
