from __future__ import annotations

import asyncio
import logging
import time
from math import inf

import pytest

from clarion.quota.ask import Want
from clarion.quota.permits import Permits
from clarion.quota.purse import UNLIMITED, Bucket, Counted
from tests.support.quota import Line, world
from tests.support.virtual import run


def test_a_bucket_trickles() -> None:
    """It starts empty, gives whole permits, and saves one and a tenth of a second's worth."""
    bucket = Bucket(40.0, 0.0)

    assert bucket.take(5, 0.0) == 0
    assert bucket.wait(0.0) == pytest.approx(0.025)
    assert bucket.take(5, 0.025) == 1
    assert bucket.take(50, 9.0) == 5
    bucket.give_back(9)
    assert bucket.take(50, 9.0) == 5


def test_a_pace_a_minute_is_kept_to_the_fraction() -> None:
    """C54: 1,019 a minute are so many in ten minutes, not 960, however often somebody asks."""
    bucket, taken = Bucket(1_019 / 60, 0.0), 0
    for hundredth in range(60_000):
        taken += bucket.take(3, hundredth / 100)

    assert taken == pytest.approx(10_190, rel=0.02)


def test_a_new_rate_holds_from_now_on() -> None:
    """What trickled in before stays, up to what the new rate lets it hold."""
    bucket = Bucket(100.0, 0.0)
    bucket.set_rate(10.0, 0.05)

    assert bucket.take(10, 0.05) == 2
    assert bucket.wait(0.05) == pytest.approx(0.1)


def test_an_empty_rate_never_gives() -> None:
    """And says so."""
    assert Bucket(0.0, 0.0).wait(5.0) == inf
    assert Bucket(0.0, 0.0).take(1, 5.0) == 0


def test_many_small_takings_lose_nothing() -> None:
    """Asked a thousand times a second a bucket gives what its rate says, to one."""
    bucket = Bucket(333.3, 0.0)

    assert sum(bucket.take(1, i / 1000) for i in range(10_001)) in (3332, 3333)


def test_counted_sends_wait_for_their_moment() -> None:
    """A number that grows by two lets two go, when their time has come; given back, they may go later."""
    counted = Counted()
    counted.read(2, 5.0, 0.5)

    assert counted.take(3, 4.9) == 0
    assert counted.wait(4.9) == pytest.approx(0.1)
    assert counted.take(3, 5.0) == 2
    assert counted.wait(5.0) == inf
    counted.give_back(1)
    assert counted.taken == 1
    assert counted.take(3, 5.0) == 1


def test_a_new_dealer_counts_from_what_was_taken() -> None:
    """Its number is smaller; what the dealer before had given and nobody took is void."""
    counted = Counted()
    counted.read(5, 1.0, 0.5)
    assert counted.take(3, 1.0) == 3

    counted.read(3, 1.0, 0.5)
    assert counted.take(3, 2.0) == 0
    counted.read(4, 2.0, 0.5)
    assert counted.take(3, 2.0) == 1


def test_a_share_that_becomes_slow_again_has_no_old_credit() -> None:
    """In between it went by a rate."""
    counted = Counted()
    counted.read(4, 1.0, 0.5)
    assert counted.take(1, 1.0) == 1

    counted.begin()

    assert counted.take(5, 9.0) == 0


def test_an_attempt_asks_for_what_it_can_use() -> None:
    """Its speed, or to be done in half a second; two attempts ask for both; without rows it asks nothing."""

    async def main() -> None:
        async with world(0) as w:
            w.warm(a1_1=inf)
            process = w.process()
            one, two = (process.permits.open("1.1", 5, urgent) for urgent in (False, True))
            one.want(1000.0, 100_000)
            two.want(1000.0, 10)
            assert (one.wanted, two.wanted) == (1000.0, 40.0)
            (pair,) = process.permits._pairs()
            assert pair.want() == Want(1040.0, True, 0)
            two.want(1000.0, 0)
            assert pair.want().rate == 1000.0
            await w.until(1.5)
            assert one.pace() == UNLIMITED.rate / 2
            two.close()
            two.close()
            assert one.pace() == UNLIMITED.rate

    run(main())


def test_a_lost_database_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """Not four times a second; and once more when it is back."""

    async def main() -> None:
        async with world(0) as w:
            process = w.process()
            await w.until(1)
            w.tables.away = True
            await w.until(5)
            w.tables.away = False
            await w.until(6)
            assert process.permits.good_until > process.permits.now()

    with caplog.at_level(logging.INFO, logger="clarion.quota.permits"):
        run(main())
    told = [r.getMessage() for r in caplog.records if "exchange" in r.getMessage()]
    assert told == ["quota: exchange fails: ConnectionError", "quota: exchange works again"]


def test_a_wrong_ask_does_not_end_the_dealer(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever goes wrong in a deal, it is said, and the next one is tried from the beginning."""

    async def main() -> None:
        async with world(0) as w:
            w.warm(a1_1=50.0)
            process = w.process()
            process.work("1.1", 1)
            await w.until(2)
            good = Line.asks

            async def wrong(self: Line) -> object:
                raise KeyError("unheard of")

            process.line.asks = wrong.__get__(process.line)  # type: ignore[method-assign]
            await w.until(4)
            assert not w.dealers()
            process.line.asks = good.__get__(process.line)  # type: ignore[method-assign]
            await w.until(8)
            assert w.dealers() == [process]
            assert w.count(6, 8) > 50

    run(main())
    assert "quota: deal fails: KeyError" in [r.getMessage() for r in caplog.records]


def test_idle_lanes_are_forgotten() -> None:
    """A process does not ask for ever for lanes that it used once; it keeps their totals until then."""

    async def main() -> None:
        async with world(0) as w:
            w.warm(a1_1=50.0)
            process = w.process()
            process.work("1.1", 1, rows=5)
            await w.until(20)
            assert [lane.lane for lane in process.permits.report()] == ["1.1"]
            await w.until(120)
            assert not process.permits.report()

    run(main())


def test_asking_for_permits_costs_microseconds() -> None:
    """A million times a minute is nothing: far below what a request costs."""

    async def main() -> float:
        async with world(0) as w:
            w.warm(a1_1=1e6)
            tap = w.process().permits.open("1.1", 1, False)
            tap.want(1e6, 10**6)
            await w.until(3)
            began = time.process_time()
            for _ in range(20_000):
                tap.allowed(1)
            return (time.process_time() - began) / 20_000

    assert run(main()) < 20e-6


async def test_run_ends_when_it_is_cancelled() -> None:
    """And leaves no task behind."""

    class Nowhere(Line):
        def __init__(self) -> None:
            pass

    running = asyncio.create_task(Permits(Nowhere(), 1).run())
    before = asyncio.all_tasks()
    await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait([running])

    assert running.cancelled()
    assert not asyncio.all_tasks() - before
