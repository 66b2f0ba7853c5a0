from __future__ import annotations

from collections import defaultdict
from math import inf

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.quota import exchange
from clarion.quota.ask import Ask, Limits, Pair, Terms, Totals, Want
from clarion.quota.counted import Count, count
from clarion.quota.deal import LaneRates, PairRate, State, deal
from clarion.quota.learn import Lane, News, cooling, learn, reopened
from clarion.quota.payout import Dealt, both, in_use, pay
from clarion.quota.share import Claim, fill, share, split

RATES = st.floats(0.01, 1e5)
LANES = ["1.1", "1.2", "7.1"]
PUSHES = [1, 2, 3, 4]


def asks_of(rows: dict[tuple[int, str, int], float]) -> list[Ask]:
    """Asks from wants by (process, lane, push)."""
    wants: dict[int, dict[Pair, Want]] = defaultdict(dict)
    for (process, lane, push), rate in rows.items():
        wants[process][lane, push] = Want(rate, False, 0)
    return [
        Ask(p, 0.0, 0, False, {lane: (Totals(), 0.0) for lane, _ in pairs}, pairs)
        for p, pairs in wants.items()
    ]


WANTS = st.dictionaries(
    st.tuples(st.integers(1, 4), st.sampled_from(LANES), st.sampled_from(PUSHES)), RATES, min_size=1
)
LIMITS: st.SearchStrategy[Limits] = st.dictionaries(st.sampled_from([*LANES, *PUSHES]), st.floats(0, 1e4))
TERMS = st.fixed_dictionaries({push: st.builds(Terms, st.floats(0.1, 10)) for push in PUSHES})


@given(
    st.dictionaries(
        st.integers(0, 20),
        st.builds(
            Claim,
            RATES,
            st.floats(0.1, 10),
            st.lists(st.sampled_from([*LANES, *PUSHES]), min_size=1, max_size=2, unique=True),
        ),
    ),
    st.fixed_dictionaries({name: st.floats(0, 1e4) for name in [*LANES, *PUSHES]}),
)
def test_filling_is_weighted_max_min(claims: dict[int, Claim], limits: dict[str | int, float]) -> None:
    """Whoever gets less than he wants has a full limit, at which nobody has more for his weight."""
    given = fill(claims, dict(limits))

    used: dict[str | int, float] = defaultdict(float)
    for key, claim in claims.items():
        for name in claim.limits:
            used[name] += given[key]
    for name, rate in used.items():
        assert rate <= limits[name] * (1 + 1e-6) + 1e-6
    for key, claim in claims.items():
        assert given[key] <= claim.want * (1 + 1e-9)
        if given[key] < claim.want * (1 - 1e-6):
            level = given[key] / claim.weight
            assert any(
                used[name] >= limits[name] * (1 - 1e-6) - 1e-6
                and all(
                    given[k] / c.weight <= level * (1 + 1e-6) + 1e-6
                    for k, c in claims.items()
                    if name in c.limits
                )
                for name in claim.limits
            )


@given(st.dictionaries(st.integers(), RATES, min_size=1), RATES)
def test_a_pair_is_split_evenly_over_its_processes(wants: dict[int, float], rate: float) -> None:
    """All of the rate that is wanted is given, nobody gets more than he wants, the unmet get the same."""
    parts = split(wants, rate)

    assert sum(parts.values()) == pytest.approx(min(rate, sum(wants.values())))
    unmet = [parts[p] for p in wants if parts[p] < wants[p] * (1 - 1e-9)]
    assert all(part == pytest.approx(max(parts.values())) for part in unmet)


@given(WANTS, LIMITS, TERMS)
def test_shares_keep_every_limit(
    rows: dict[tuple[int, str, int], float], limits: Limits, pushes: dict[int, Terms]
) -> None:
    """Summed over lanes, pushes and processes, no limit is exceeded; pairs without one get no share."""
    shares = share(asks_of(rows), limits, pushes)

    for name, limit in limits.items():
        assert sum(rate for s, rate in shares.items() if name in s[:2]) <= limit * (1 + 1e-6) + 1e-6
    assert {(p, lane, push) for lane, push, p in shares} == {
        row for row in rows if row[1] in limits or row[2] in limits
    }


@given(
    st.dictionaries(st.tuples(st.sampled_from(LANES), st.sampled_from(PUSHES), st.integers(1, 3)), RATES),
    st.dictionaries(
        st.integers(1, 3),
        st.lists(
            st.dictionaries(st.tuples(st.sampled_from(LANES), st.sampled_from(PUSHES)), st.floats(0, 10)),
            max_size=3,
        ),
    ),
)
def test_pay_raises_only_from_what_is_free(
    deserved: dict[tuple[str, int, int], float], rates: dict[int, list[dict[Pair, float]]]
) -> None:
    """Old or new rates, whichever a process goes by: their sum keeps the limit. Cuts are paid in full."""
    limits: Limits = {"1.1": 400.0, 2: 400.0}  # more than is held, so that something is free
    factor = 400.0 / (1 + max((sum(r for s, r in deserved.items() if n in s[:2]) for n in limits), default=1))
    deserved = {s: rate * min(1.0, factor) for s, rate in deserved.items()}
    dealt = {p: [Dealt(i, r) for i, r in enumerate(deals)] for p, deals in rates.items()}

    paid = pay(deserved, dealt, limits)

    held: dict[tuple[str, int, int], float] = defaultdict(float)
    for process, deals in dealt.items():
        for _, old in deals:
            for pair, rate in old.items():
                held[*pair, process] = max(held[*pair, process], rate)
    for name, limit in limits.items():
        worst = sum(max(held[s], paid.get(s, 0.0)) for s in held.keys() | paid.keys() if name in s[:2])
        assert worst <= max(limit, sum(h for s, h in held.items() if name in s[:2])) * (1 + 1e-9)
    for s, rate in deserved.items():
        assert paid[s] == rate if rate <= held[s] else held[s] <= paid[s] <= rate


def test_what_a_process_has_not_read_is_in_use() -> None:
    """Every deal from the one that it goes by on may be in use."""
    pair = ("1.1", 1)
    deals = [Dealt(3, {pair: 9.0}), Dealt(5, {pair: 5.0}), Dealt(8, {pair: 1.0})]

    assert in_use(deals, 6) == deals[1:]
    assert in_use(deals, 0) == deals
    assert in_use([], 6) == []


def test_two_deals_as_one() -> None:
    """The larger rate of each pair, until the newer is read."""
    assert both(Dealt(1, {("a", 1): 5.0, ("a", 2): 1.0}), Dealt(2, {("a", 1): 3.0, ("a", 3): 2.0})) == Dealt(
        2, {("a", 1): 5.0, ("a", 2): 1.0, ("a", 3): 2.0}
    )


def test_a_process_that_never_hears_costs_no_memory() -> None:
    """Its unread deals are put together; the rates that count are the largest."""
    state = State(0, 0.0, {"1.1": Lane(1000.0)})
    for i in range(100):
        now = i * 0.25
        ask = Ask(1, now, 0, False, {"1.1": (Totals(), 0.0)}, {("1.1", 1): Want(500.0 - i, False, 0)})
        state, _ = deal(state, [ask], {"1.1": 1000.0}, {1: Terms()}, now)

    assert len(state.dealt[1]) <= 17
    assert state.dealt[1][0].rates["1.1", 1] == 500.0


@given(
    st.lists(st.floats(0.05, 2.9), min_size=1, max_size=12),
    st.floats(0.3, 20),
    st.lists(st.floats(0.01, 1.0), min_size=20, max_size=80),
)
def test_counted_sends_keep_the_limit(wants: list[float], limit: float, steps: list[float]) -> None:
    """In any time no more whole sends than the limit allows, and one; no share has three in hand."""
    rates = {("1.1", push, 1): want for push, want in enumerate(wants, 1)}
    limit = min(limit, sum(wants))
    rates = {s: rate * limit / sum(wants) for s, rate in rates.items()}
    limits: Limits = {"1.1": limit}
    counts: dict[tuple[str, int, int], Count] = {}
    ready: Limits = {}
    taken = dict.fromkeys(rates, 0)
    now = given = 0.0
    for dt in steps:
        now += dt
        ask = Ask(1, now, 0, False, {}, {s[:2]: Want(1, False, taken[s]) for s in rates})
        counts, ready = count(rates, counts, ready, limits, [ask], now, dt)
        assert all(counts[s].number - taken[s] <= 2 for s in rates)
        given = sum(account.number for account in counts.values())
        assert given <= limit * now + 1
        for s in rates:
            if s[1] % 2:
                taken[s] = counts[s].number


def test_an_unknown_lane_starts_at_a_hundred() -> None:
    """Or at its ceiling, if that is lower."""
    asks = asks_of({(1, "1.1", 1): 1e5, (1, "1.2", 1): 1e5})

    state, answer = deal(State(0, 0.0), asks, {"1.1": inf, "1.2": 30.0}, {1: Terms()}, 0.1)

    assert {key: lane.rate for key, lane in state.lanes.items()} == {"1.1": 100.0, "1.2": 30.0}
    assert answer[1]["1.1"] == LaneRates(100.0, True, {1: PairRate(100.0)})


def test_a_ceiling_holds_at_once() -> None:
    """An operator's new ceiling is the rate of the next deal."""
    lane = learn(Lane(900.0), News(), 50.0, 10.0, 0.25)

    assert lane.rate == 50.0


def test_an_unblocked_lane_begins_with_a_probe() -> None:
    """A few a second, whatever it did before, and what was too much stays known."""
    lane = reopened(Lane(inf, learned=500.0), 10.0)

    assert (lane.rate, lane.learned) == (4.0, 500.0)
    assert cooling(lane, inf)


def test_a_clock_that_was_set_back_closes_no_lane_for_ever() -> None:
    """Times that lie ahead are brought near."""
    lane = learn(Lane(100.0, cut_at=1e9, closed=1e9, second_at=1e9), News(), 100.0, 1000.0, 0.25)

    assert lane.closed <= 1000.0 + 3600
    assert lane.cut_at <= 1000.0


def test_asks_and_rates_survive_their_journey() -> None:
    """What is read from the board is what was left on it; infinity becomes null and back."""
    heard = {"1.1": (Totals(5, 1, 2), 0.5)}
    wants = {("1.1", 7): Want(20.0, True, 3), ("1.1", 8): Want(1e5, False, 0)}
    ask = orjson.loads(orjson.dumps(exchange.ask_to_json(True, heard, wants)))
    assert exchange.ask_from_json(4, 9.0, 2, ask) == Ask(4, 9.0, 2, True, heard, wants)

    rates = {"1.1": LaneRates(inf, False, {7: PairRate(inf), 0: PairRate(2.5), 8: PairRate(0.5, 4, 17.25)})}
    assert exchange.rates_from_json(orjson.loads(orjson.dumps(exchange.rates_to_json(rates)))) == rates

    lanes = {"1.1": Lane(inf, second=Totals(1, 2, 3)), "1.2": Lane(70.0, 100.0, 5.0, run=3)}
    assert exchange.lanes_from_json(orjson.loads(orjson.dumps(exchange.lanes_to_json(lanes)))) == lanes


def test_rates_are_rounded_down() -> None:
    """So that no sum grows on the way."""
    assert exchange.rates_to_json({"1.1": LaneRates(1.99999, False, {})}) == {"1.1": [1.9999, False, {}]}


def test_fields_of_a_newer_release_do_not_stop_the_dealer() -> None:
    """After a roll back the older dealer finds lanes that say more than it knows."""
    lanes = exchange.lanes_to_json({"1.1": Lane(5.0)})
    lanes["1.1"]["mood"] = "good"

    assert exchange.lanes_from_json(lanes) == {"1.1": Lane(5.0)}
