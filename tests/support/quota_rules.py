"""What the quota promises, each as a rule over a simulated world that raises when it is broken.

A rule takes a seed; the seed chooses sizes, delays and moments. `tests/unit/test_quota_rules.py` runs them,
and `test_quota_mutants.py` checks that they notice when the code is wrong.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final

from clarion.quota.ask import Terms, Totals
from clarion.quota.learn import Lane, News, learn
from tests.support.quota import Process, World, world
from tests.support.virtual import run

LANE: Final = "1.1"


def check(condition: object, *words: object) -> None:
    """A rule is broken unless `condition`."""
    if not condition:
        raise AssertionError(" ".join(map(str, words)))


def near(value: float, wanted: float, part: float, what: str) -> None:
    """Within so large a part of what is wanted."""
    check(abs(value - wanted) <= part * wanted, what, "is", value, "and should be", wanted)


def steady(w: World, since: float, until: float, pace: float, **where: object) -> None:
    """Every 5 s mean within 5 %, no second above 1.2 × (below 10/s: and two more)."""
    start = since
    while start + 5 <= until:
        slack = max(0.05 * pace, 0.4)  # two sends in five seconds
        mean = w.rate(start, start + 5, **where)
        check(abs(mean - pace) <= slack, "mean of 5 s from", start, "is", mean, "at a pace of", pace)
        start += 0.5
    start = since
    while start + 1 <= until:
        sent = w.count(start, start + 1, **where)
        check(sent <= 1.2 * pace + (2 if pace < 10 else 0), sent, "in a second at a pace of", pace)
        start += 0.1


def hungry(
    w: World, processes: int, *pushes: int, lane: str = LANE, speed: float = 20_000.0
) -> list[Process]:
    """Processes that would send for these pushes without end."""
    made = [w.process() for _ in range(processes)]
    for process in made:
        for push in pushes:
            process.work(lane, push, speed=speed)
    return made


async def pace_holds(seed: int) -> None:
    """A push's pace holds in sum over lanes and processes."""
    async with world(seed) as w:
        pace = w.rng.choice([4.0, 7.0, 12.0, 60.0, 500.0, 2000.0])
        w.warm(a1_1=inf, a1_2=4000.0)
        w.tables.ceilings["1.2"] = 4000.0
        w.tables.pushes[7] = Terms(pace=pace)
        for process in hungry(w, w.rng.randint(1, 5), 7):
            if w.rng.random() < 0.5:
                process.work("1.2", 7)
        await w.until(3 + 3 / pace + 12)
        steady(w, 3 + 3 / pace, w.now, pace, push=7)


async def pace_changes(seed: int) -> None:
    """A new pace is in force two seconds after it was written, upwards and downwards."""
    async with world(seed) as w:
        w.warm(a1_1=inf)
        w.tables.pushes[7] = Terms(pace=2000)
        hungry(w, w.rng.randint(1, 4), 7)
        await w.until(3 + w.rng.random())
        for pace in (500.0, 1500.0):
            w.tables.pushes[7] = Terms(pace=pace)
            changed = w.now
            await w.until(changed + 9)
            steady(w, changed + 2, w.now, pace, push=7)


async def pace_change_from_none(seed: int) -> None:
    """A pace for a push that had none reckons with processes which have not read it yet."""
    async with world(seed) as w:
        w.warm(a1_1=inf)
        (slow,) = hungry(w, 1, 7, speed=300)
        newcomers = [w.process() for _ in range(2)]
        await w.until(2 + w.rng.random())
        slow.line.late, slow.line.late_by = 1.0, 0.45
        w.tables.pushes[7] = Terms(pace=100)
        for newcomer in newcomers:
            newcomer.work(LANE, 7)
        while w.now < 6:
            granted = [newcomer.granted(LANE, 7) for newcomer in newcomers]
            check(slow.granted(LANE, 7) < 1000 or not sum(granted), "a newcomer was paid from what is in use")
            await asyncio.sleep(0.01)
        check(min(granted) > 20, "a newcomer never got its part", granted)


async def weights_share(seed: int) -> None:
    """Hungry pushes share a lane by weight; what one does not want goes to the others."""
    async with world(seed) as w:
        w.warm(a1_1=3000.0)
        w.tables.ceilings[LANE] = 3000.0
        w.tables.pushes.update({1: Terms(1), 2: Terms(2), 3: Terms(5), 4: Terms(5, pace=100)})
        hungry(w, w.rng.randint(1, 3), 1, 2, 3, 4)
        await w.until(11)
        for push, part in ((1, 2900 / 8), (2, 2900 / 4), (3, 2900 * 5 / 8), (4, 100)):
            near(w.rate(3, 11, push=push), part, 0.05, f"push {push}")


async def never_over_limit(seed: int) -> None:
    """What all processes may be doing never adds up to more than a limit, whatever is late, lost or dead."""
    async with world(seed) as w:
        limits = {1: 600.0, 2: 150.0}
        w.warm(a1_1=1000.0)
        w.tables.ceilings[LANE] = 1000.0
        for push, pace in limits.items():
            w.tables.pushes[push] = Terms(pace=pace)
        for _ in range(5):
            _mishaps(_restless(w, w.process()))
        while w.now < 20:
            if w.rng.random() < 0.002:
                _mishaps(_restless(w, w.process()))
                await w.rng.choice(w.processes[:-1]).kill()
            for push, limit in limits.items():
                total = sum(p.granted(LANE, push) for p in w.processes)
                check(total <= limit * 1.001, "push", push, "may send", total, "of", limit, "at", w.now)
            total = sum(p.granted(LANE, push) for p in w.processes for push in (1, 2, 3))
            check(total <= 1000 * 1.001, "the lane may send", total, "at", w.now)
            await asyncio.sleep(0.01)
        check(w.rate(3, 20) > 100, "hardly anything was sent:", w.rate(3, 20))


def _mishaps(process: Process) -> None:
    process.line.late, process.line.late_by, process.line.lossy = 0.06, 1.6, 0.03


def _restless(w: World, process: Process) -> Process:
    """Attempts come and go."""

    async def live() -> None:
        while True:
            push = w.rng.choice([1, 2, 3])
            rows = w.rng.choice([3, 40, 400])
            work = process.work(LANE, push, rows=rows)
            await asyncio.wait([work], timeout=w.rng.random() * 3)
            if not work.done() and w.rng.random() < 0.3:
                work.cancel()
            await asyncio.sleep(w.rng.choice([0.0, 0.05, 0.4]))

    process.tasks.append(asyncio.create_task(live()))
    return process


async def raises_wait_for_readers(seed: int) -> None:
    """Who comes later is paid when the others have read that they have less, however late they read."""
    async with world(seed) as w:
        w.warm(a1_1=1000.0)
        w.tables.ceilings[LANE] = 1000.0
        w.process()  # which deals, and is not late
        await w.when(w.dealers)
        processes = hungry(w, 2, 1)
        await w.until(2 + w.rng.random())
        for process in processes:
            process.line.late, process.line.late_by = 1.0, 0.45
        processes += hungry(w, 2, 1)
        while w.now < 6:
            total = sum(p.granted(LANE, 1) for p in processes)
            check(total <= 1001, "processes may send", total, "at", w.now)
            await asyncio.sleep(0.01)
            if w.now > 4:
                processes[0].line.late = processes[1].line.late = 0.0
        check(min(p.granted(LANE, 1) for p in processes) > 200, "somebody never got his part")


async def lane_is_used(seed: int) -> None:
    """While somebody wants it a lane is used, also when demand moves from process to process."""
    async with world(seed) as w:
        w.warm(a1_1=800.0)
        w.tables.ceilings[LANE] = 800.0
        processes = [w.process() for _ in range(4)]
        await w.until(1)
        while w.now < 16:
            process = w.rng.choice(processes)
            work = process.work(LANE, w.rng.choice([1, 2]), rows=w.rng.randint(200, 1500))
            await asyncio.wait([work], timeout=w.rng.random())
        near(w.rate(4, 16), 800, 0.1, "the lane")


async def cut_at_once(seed: int) -> None:
    """Everybody who has read a cut goes by it, before others are raised from it."""
    async with world(seed) as w:
        w.warm(a1_1=inf)
        w.tables.pushes[7] = Terms(pace=1000)
        processes = hungry(w, 4, 7)
        await w.until(3)
        w.tables.pushes[7] = Terms(pace=100)
        await w.until(3.8)
        total = sum(p.granted(LANE, 7) for p in processes)
        check(0 < total <= 100.1, "0.8 s after the cut processes may send", total)


async def outage_is_a_low_rate(seed: int) -> None:
    """A provider that is out gets one probe in ten seconds from all processes together."""
    async with world(seed) as w:
        w.warm(a1_1=400.0)
        w.tables.ceilings[LANE] = 400.0
        hungry(w, w.rng.randint(2, 5), 1, 2)
        await w.until(4)
        w.providers[LANE].out = True
        await w.until(10)
        check(w.count(4, 10) < 600, "an outage cost", w.count(4, 10), "requests")
        await w.until(62)
        probes = w.count(12, 62)
        check(4 <= probes <= 6, probes, "probes in 50 s")
        for start in range(12, 52):
            check(w.count(start, start + 9.0) <= 1, "more than a probe in 10 s")


async def recovery_by_tens(seed: int) -> None:
    """After an outage the rate grows tenfold with every good second, no faster, no slower."""
    async with world(seed) as w:
        w.warm(a1_1=2000.0)
        w.tables.ceilings[LANE] = 2000.0
        hungry(w, 3, 1)
        await w.until(3)
        w.providers[LANE].out = True
        await w.until(20 + w.rng.random())
        w.providers[LANE].out = False
        before = w.answers["good"]
        await w.when(lambda: w.answers["good"] > before, patience=11)
        first = w.now
        await w.until(first + 9)
        seconds = [w.count(first + s, first + s + 1) for s in range(9)]
        check(sum(seconds[:2]) <= 4, "at once after the probe:", seconds)
        check(sum(seconds[:4]) <= 40, "in four seconds after the probe:", seconds)
        check(seconds[5] >= 50, "later:", seconds)
        await w.until(first + 12)
        near(w.rate(first + 9, first + 12), 2000, 0.05, f"the recovered lane ({seconds})")


async def storm_cuts_once(seed: int) -> None:
    """One storm of throttled answers lowers the rate once, however many processes report it."""
    async with world(seed) as w:
        w.warm(a1_1=1000.0)
        w.tables.ceilings[LANE] = 1000.0
        hungry(w, w.rng.randint(3, 6), 1)
        await w.until(3)
        w.providers[LANE].limit = 1.0
        await w.until(3.4)
        w.providers[LANE].limit = inf
        await w.until(6)
        near(w.rate(4.5, 5.4), 700, 0.08, "the rate after a storm")
        await w.until(16)
        near(w.rate(15, 16), 700 + 20 * 10, 0.08, "the rate ten seconds later")


async def limit_is_found(seed: int) -> None:
    """A lane learns the provider's real limit and stays near it with few throttled answers."""
    async with world(seed) as w:
        w.warm(a1_1=inf)
        w.providers[LANE].limit = 600.0
        hungry(w, 3, 1, speed=1000)
        await w.until(40)
        good = w.rate(10, 40)
        check(good >= 0.75 * 600, "only", good, "of 600/s were used")
        check(w.answers["throttled"] < 0.2 * w.answers["good"], w.answers)


async def retry_after_stops(seed: int) -> None:
    """A Retry-After stops the lane in its own process at once, in the others with the next deal."""
    async with world(seed) as w:
        w.warm(a1_1=300.0)
        w.tables.ceilings[LANE] = 300.0
        processes = hungry(w, 3, 1)
        await w.until(3)
        processes[0].permits.heard(LANE, 0, 0, 1, 4.0)
        await asyncio.sleep(0)
        told = w.now
        await w.until(told + 6)
        check(not w.count(told, told + 4, process=processes[0].number), "the process itself went on")
        check(not w.count(told + 0.9, told + 4), "others went on")
        near(w.rate(told + 5, told + 6), 215, 0.1, "the lane after its rest and the cut")


async def dealer_dies(seed: int) -> None:
    """Rates stay while nobody deals; another takes over after a second and nothing is exceeded."""
    async with world(seed) as w:
        w.warm(a1_1=1000.0)
        w.tables.ceilings[LANE] = 1000.0
        hungry(w, 4, 1, 2)
        await w.until(4)
        await w.when(w.dealers)
        (dead,) = w.dealers()
        await dead.kill()
        died = w.now
        await w.until(12)
        check(len(w.dealers()) == 1, "nobody deals")
        for tenth in range(20, 110):
            sent = w.count(tenth / 10, tenth / 10 + 1)
            check(sent <= 1050, sent, "in the second from", tenth / 10)
        check(w.rate(died, died + 2) > 650, "the others stopped")
        near(w.rate(died + 3, died + 7), 1000, 0.05, "the lane afterwards")
        epochs = [epoch for _, epoch in w.tables.deals]
        check(epochs == sorted(epochs), "epochs went back")


async def process_dies(seed: int) -> None:
    """A dead process's share is the others' after its lease, and not before."""
    async with world(seed) as w:
        w.warm(a1_1=900.0)
        w.tables.ceilings[LANE] = 900.0
        processes = hungry(w, 3, 1)
        await w.until(4)
        victim = next(p for p in processes if not p.permits.dealer.dealing)
        await victim.kill()
        died = w.now
        await w.until(died + 5)
        check(w.count(died + 0.1, died + 1.1) <= 660, "its share was used while its lease lived")
        near(w.rate(died + 2.25, died + 5), 900, 0.05, "the lane without it")


async def sleeper_is_fenced(seed: int) -> None:
    """A dealer that slept before its write is refused, and knows that it is the dealer no more."""
    async with world(seed) as w:
        w.warm(a1_1=1000.0)
        w.tables.ceilings[LANE] = 1000.0
        processes = hungry(w, 4, 1)
        await w.until(2)
        await w.when(w.dealers)
        (sleeper,) = w.dealers()
        sleeper.line.pause_before_write = 0.95  # just under the time that a process gives a deal
        while w.now < 6:
            total = sum(p.granted(LANE, 1) for p in processes)
            check(total <= 1001, "processes may send", total, "at", w.now)
            await asyncio.sleep(0.01)
        check(w.tables.refused == 1, w.tables.refused, "refused")
        check(len(w.dealers()) == 1 and sleeper not in w.dealers(), "the sleeper still thinks that it deals")
        check(len({epoch for _, epoch in w.tables.deals}) == 2, "the post went to and fro")


async def nothing_without_exchange(seed: int) -> None:
    """1.25 s after its last exchange a process starts nothing; with the exchange back it goes on."""
    async with world(seed) as w:
        w.warm(a1_1=500.0, a1_2=inf)
        w.tables.ceilings[LANE] = 500.0
        for process in hungry(w, 2, 1):
            process.work("1.2", 2, speed=200)
        await w.until(3 + w.rng.random())
        w.tables.away = True
        gone = w.now
        await w.until(gone + 4)
        check(w.count(gone, gone + 0.9) > 200, "it stopped before its lease was over")
        check(not w.count(gone + 1.26, gone + 4), "it went on without an exchange")
        w.tables.away = False
        await w.until(gone + 9)
        for lane, rate in ((LANE, 500), ("1.2", 400)):
            near(w.rate(gone + 6.5, gone + 9, lane=lane), rate, 0.05, f"lane {lane} afterwards")
        check(w.count(gone + 4, gone + 5) < 1200, "a burst when it came back")


async def nobody_deals(seed: int) -> None:
    """Three seconds after the last deal nothing starts, although the exchange works."""
    async with world(seed) as w:
        w.warm(a1_1=500.0)
        processes = hungry(w, 2, 1)
        await w.until(3)
        for process in processes:
            process.line.pause_before_write = 100.0
        last = w.tables.deals[-1][0] - w.began
        await w.until(8)
        check(w.count(last + 1.5, last + 2.5) > 300, "it stopped too early")
        check(not w.count(last + 3.3, 8), "it went on without a dealer")


async def crash_of_the_board(seed: int) -> None:
    """When PostgreSQL lost the tables a new dealer waits until no old rate can be in use."""
    async with world(seed) as w:
        w.warm(a1_1=inf)
        w.tables.pushes[7] = Terms(pace=90)
        processes = hungry(w, 3, 7)
        await w.until(4 + w.rng.random())
        processes[0].line.late, processes[0].line.late_by = 1.0, 5.0
        w.tables.crash()
        crashed = w.now
        processes += hungry(w, 2, 7)
        while w.now < crashed + 4:
            total = sum(p.granted(LANE, 7) for p in processes)
            check(total <= 90.1, "processes may send", total, "at", w.now - crashed)
            await asyncio.sleep(0.01)
        processes[0].line.late = 0.0
        await w.until(crashed + 13)
        steady(w, crashed + 7, crashed + 13, 90, push=7)


async def urgent_first(seed: int) -> None:
    """Urgent pushes get up to half of a lane before others, and everything that is left."""
    async with world(seed) as w:
        w.warm(a1_1=1000.0)
        w.tables.ceilings[LANE] = 1000.0
        hungry(w, 2, 1, 2, 3)
        high = w.process(urgent=True)
        await w.until(3)
        high.work(LANE, 9, urgent=True)
        await w.until(9)
        near(w.rate(5, 9, push=9), 490, 0.05, "the urgent push")
        near(w.rate(5, 9, push=1), 490 / 3, 0.06, "each of the others")


async def urgent_at_once(seed: int) -> None:
    """A process of an urgent queue has room on a busy lane before it asks, and the lane is not exceeded."""
    async with world(seed) as w:
        w.warm(a1_1=1000.0)
        w.tables.ceilings[LANE] = 1000.0
        hungry(w, 3, 1)
        high = w.process(urgent=True)
        high.work(LANE, 8, urgent=True, rows=1)  # so that it knows the lane
        await w.until(4 + w.rng.random())
        began = w.now
        high.work(LANE, 9, urgent=True, rows=3)
        await w.until(began + 1.5)
        check(w.count(began, began + 0.03, push=9) >= 1, "an urgent send waited")
        check(w.count(began, began + 0.8, push=9) == 3, "three urgent sends took too long")
        check(w.count(3, 4) <= 985, "no room was kept")


async def slow_shares(seed: int) -> None:
    """A pace of less than a send a second over many processes: exactly that many, evenly."""
    async with world(seed) as w:
        pace = w.rng.choice([0.5, 0.8, 2.0, 5.0])
        w.warm(a1_1=inf)
        w.tables.pushes[7] = Terms(pace=pace)
        hungry(w, w.rng.choice([3, 6]), 7, speed=1000)
        await w.until(44)
        sent = w.count(4, 44, push=7)
        check(abs(sent - 40 * pace) <= 2 + 0.02 * 40 * pace, sent, "in 40 s at a pace of", pace)
        for tenth in range(40, 430, 2):
            in_a_second = w.count(tenth / 10, tenth / 10 + 1, push=7)
            check(in_a_second <= 1.2 * pace + 2, in_a_second, "in a second at a pace of", pace)


async def nobody_starves(seed: int) -> None:
    """On a slow lane with many pushes everybody gets his turn."""
    async with world(seed) as w:
        w.warm(a1_1=6.0)
        w.tables.ceilings[LANE] = 6.0
        pushes = range(1, 9)
        hungry(w, 2, *pushes, speed=1000)
        await w.until(34)
        counts = [w.count(4, 34, push=push) for push in pushes]
        check(min(counts) >= 15 and max(counts) <= 30, counts)
        near(sum(counts), 180, 0.05, "the lane")


async def half_bad_halts(seed: int) -> None:
    """A process stops a lane by itself when half of its last 50 answers were bad, until the dealer knows."""
    async with world(seed) as w:
        w.warm(a1_1=inf)
        one, other = hungry(w, 2, 1, speed=100)
        await w.until(3)
        one.permits.heard(LANE, 0, 49, 0, 0.0)
        check(not one.granted(LANE, 1), "it did not stop")
        halted, deal = w.now, w.tables.dealer["number"] if w.tables.dealer else 0
        await w.until(halted + 0.02)
        while w.tables.dealer is not None and w.tables.dealer["number"] < deal + 3:
            check(not one.granted(LANE, 1), "it did not wait for the dealer")
            await asyncio.sleep(0.01)
        await w.until(halted + 3)
        check(w.count(halted + 2, halted + 3, process=one.number) > 0, "it never went on")
        check(w.count(halted, halted + 1, process=other.number) > 50, "others stopped, too")


async def cooling_empties(seed: int) -> None:
    """When a lane begins to cool nothing that was saved up is spent."""
    async with world(seed) as w:
        w.warm(a1_1=1000.0)
        w.tables.ceilings[LANE] = 1000.0
        reporter = w.process()
        reporter.permits.heard(LANE, 1, 0, 0, 0.0)
        taps = [w.process(urgent=True).permits.open(LANE, 9, True) for _ in range(3)]
        await w.until(3)
        check(all(tap.next_in() == 0 for tap in taps), "no room for urgent sends")
        for _ in range(4):
            reporter.permits.heard(LANE, 0, 60, 0, 0.0)
        await w.when(lambda: all(tap.cooling for tap in taps), patience=2)
        check(not sum(tap.allowed(1) for tap in taps), "saved permits were spent on a lane at its floor")


async def idle_is_no_credit(seed: int) -> None:
    """After idling a process may start one send and a tenth of a second's worth, no more."""
    async with world(seed) as w:
        rate = w.rng.choice([50.0, 400.0, 3000.0])
        w.warm(a1_1=rate)
        w.tables.ceilings[LANE] = rate
        tap = w.process().permits.open(LANE, 1, False)
        tap.want(100_000, 100_000)
        await w.until(4 + w.rng.random())
        burst = tap.allowed(100_000)
        check(burst <= 1 + 0.1 * rate, "a burst of", burst, "at", rate)
        check(burst >= 0.09 * rate, "a burst of", burst, "at", rate)
        check(not tap.allowed(1), "and then one more")
        tap.give_back(2)
        check(tap.allowed(5) == 2, "what was given back was lost")
        tap.close()


async def unlimited_costs_nothing(seed: int) -> None:
    """On a lane without a limit everything may go; an urgent push does not even wait for an exchange."""
    async with world(seed) as w:
        w.warm(a1_1=inf)
        normal, high = w.process(), w.process(urgent=True)
        tap = normal.permits.open(LANE, 1, False)
        tap.want(1e5, 1000)
        high.permits.open(LANE, 2, True).want(10, 10)
        await w.until(2)
        check(tap.allowed(123_456) == 123_456, "not all were allowed")
        check(tap.next_in() == 0 and 1000 < tap.pace() < inf, "pace", tap.pace())
        check(high.permits.open(LANE, 3, True).allowed(7) == 7, "an urgent push waited")


async def given_back_is_the_others(seed: int) -> None:
    """What an attempt that ended was using is with the others within a second."""
    async with world(seed) as w:
        w.warm(a1_1=1000.0)
        w.tables.ceilings[LANE] = 1000.0
        first, second = w.process(), w.process()
        for process in (first, second):
            process.work(LANE, 1)
        await w.until(3)
        tap = first.taps[0]
        tap.close()
        first.tasks[-1].cancel()
        ended = w.now
        await w.until(ended + 4)
        near(w.rate(ended + 1, ended + 4), 1000, 0.05, "the lane")
        check(b'"wants":[]' in w.tables.asks[first.number][2], "it is asked for still")
        check(b'"pushes":{}' not in w.tables.rates[first.number][1], "and dealt")
        await w.until(40)
        check(not first.permits.report()[0].pushes, "nothing is forgotten")


async def first_permits_come_soon(seed: int) -> None:
    """A new push has its first permits within half a second, on average within a quarter."""
    async with world(seed) as w:
        w.warm(a1_1=1000.0)
        processes = [w.process() for _ in range(3)]
        waits = []
        for push in range(5, 25):
            await w.until(w.now + 2 + w.rng.random())
            began = w.now
            work = w.rng.choice(processes).work(LANE, push, rows=1)
            await work
            waits.append(w.now - began)
        check(max(waits) < 0.5, "the first send came after", max(waits))
        check(sum(waits) < 0.27 * len(waits), "on average after", sum(waits) / len(waits))


async def new_pushes_bring_nothing(seed: int) -> None:
    """A first rate is no first burst: permits begin to trickle in."""
    async with world(seed) as w:
        w.warm(a1_1=3000.0)
        w.tables.ceilings[LANE] = 3000.0
        tap = w.process().permits.open(LANE, 1, False)
        tap.want(100_000, 100_000)
        await w.when(lambda: tap.pace() > 0)
        first = tap.allowed(1000)
        check(first <= 3000 * 0.011 + 1, first, "at once")


async def outage_of_a_quiet_lane(seed: int) -> None:
    """Twenty bad answers in a row and none good for two seconds are an outage, too."""
    async with world(seed) as w:
        w.warm(a1_1=20.0)
        w.tables.ceilings[LANE] = 20.0
        hungry(w, 2, 1)
        await w.until(5)
        w.providers[LANE].out = True
        await w.until(31)
        check(w.count(5, 10) < 70, "an outage of a quiet lane cost", w.count(5, 10))
        check(w.count(11, 31) <= 2, w.count(11, 31), "probes in 20 s")


async def few_rows_want_little(seed: int) -> None:
    """Who has a few rows left holds no large share, whatever speed he asks for."""
    async with world(seed) as w:
        w.warm(a1_1=1000.0)
        w.tables.ceilings[LANE] = 1000.0
        hungry(w, 1, 1)
        for _ in range(4):
            w.process().permits.open(LANE, 2, False).want(100_000, 5)
        await w.until(7)
        check(w.rate(4, 7) > 850, "rows that nobody sends hold", 1000 - w.rate(4, 7))


async def counted_sends_keep_step(seed: int) -> None:
    """Counted sends leave in the dealer's rhythm, whatever the rhythm of the exchange."""
    async with world(seed) as w:
        w.warm(a1_1=inf)
        w.tables.pushes[7] = Terms(pace=2.0)
        hungry(w, 3, 7, speed=1000)
        await w.until(34)
        deals = [at - w.began for at, _ in w.tables.deals]
        for moment in [row[0] for row in w.sent if row[0] > 4]:
            late = min(abs(moment - deal - 0.32) for deal in deals)
            check(late < 0.03, "a counted send left", late, "s beside the step")


async def attempts_come_and_go(seed: int) -> None:
    """What counted sends a push took is remembered from attempt to attempt."""
    async with world(seed) as w:
        w.warm(a1_1=inf)
        w.tables.pushes[7] = Terms(pace=2.0)
        processes = [w.process() for _ in range(2)]
        while w.now < 40:
            for process in processes:
                await asyncio.wait([process.work(LANE, 7, rows=w.rng.randint(1, 2))], timeout=1)
            await asyncio.sleep(w.rng.random() * 0.2)
        check(20 < w.count(0, 40) <= 80, w.count(0, 40), "in 40 s at a pace of 2")
        for tenth in range(390):
            in_a_second = w.count(tenth / 10, tenth / 10 + 1)
            check(in_a_second <= 5, in_a_second, "in the second from", tenth / 10)


async def limit_is_forgotten(seed: int) -> None:
    """What was too much is the top for a minute, then it is forgotten by climbing."""
    lane = Lane(1000.0)
    rng = random.Random(seed)
    rates = {}
    now = cut_at = 100.0
    lane = learn(lane, News(Totals(100, 0, 5)), 2000.0, now, 0.25)
    check(lane.rate == 700 and lane.learned == 1000, lane)
    while now < cut_at + 120:
        dt = rng.uniform(0.2, 0.3)
        now += dt
        lane = learn(lane, News(Totals(int(lane.rate * dt), 0, 0)), 2000.0, now, dt)
        rates[int(now - cut_at)] = lane.rate
    check(rates[1] == 700, "it climbed at once")
    near(rates[12], 920, 0.02, "eleven seconds of climbing")
    check(rates[59] == 1000, "the top after a minute", rates[59])
    check(rates[62] > 1010, "nothing is forgotten", rates[62])
    near(rates[115], 2000, 0.01, "two minutes later")


async def few_bad_answers_are_no_outage(seed: int) -> None:
    """Less than half of 200 bad, or 19 bad in a row, leave a lane as it was, limited or not."""
    rng = random.Random(seed)
    for rate in (inf, 1000.0):
        lane, now = Lane(rate, good_at=100.0, second_at=100.0), 100.0
        for _ in range(100):
            now += 0.25
            bad = rng.randint(0, 49)
            lane = learn(lane, News(Totals(100 - bad, bad, 0)), rate, now, 0.25)
        for _ in range(19):
            now += 0.25
            lane = learn(lane, News(Totals(0, 1, 0)), rate, now, 0.25)
        check(lane.rate == rate, "the lane", lane)
        lane = learn(lane, News(Totals(80, 120, 0)), rate, now + 0.25, 0.25)
        check(lane.rate == 0.1, "120 bad of 200", lane)


Rule = Callable[[int], Awaitable[None]]

RULES: Final[dict[str, Rule]] = {
    rule.__name__: rule
    for rule in (
        pace_holds,
        pace_changes,
        pace_change_from_none,
        weights_share,
        never_over_limit,
        raises_wait_for_readers,
        lane_is_used,
        cut_at_once,
        outage_is_a_low_rate,
        recovery_by_tens,
        storm_cuts_once,
        limit_is_found,
        retry_after_stops,
        dealer_dies,
        process_dies,
        sleeper_is_fenced,
        nothing_without_exchange,
        nobody_deals,
        crash_of_the_board,
        urgent_first,
        urgent_at_once,
        slow_shares,
        nobody_starves,
        half_bad_halts,
        cooling_empties,
        idle_is_no_credit,
        unlimited_costs_nothing,
        given_back_is_the_others,
        first_permits_come_soon,
        new_pushes_bring_nothing,
        outage_of_a_quiet_lane,
        few_rows_want_little,
        counted_sends_keep_step,
        attempts_come_and_go,
        limit_is_forgotten,
        few_bad_answers_are_no_outage,
    )
}


def hold(name: str, seed: int) -> None:
    """Run one rule in virtual time. Raises AssertionError if it is broken."""

    async def main() -> None:
        await RULES[name](seed)

    random.seed(seed)
    run(main())
