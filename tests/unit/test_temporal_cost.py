"""What a push costs in Temporal is counted from its histories."""

from __future__ import annotations

from benchmarks.temporal_cost import TemporalCost
from tests.support import histories


def cost_of(*names: str) -> TemporalCost:
    """Of recorded runs, by the names of their files."""
    cost = TemporalCost()
    for name in names:
        cost.add(histories.read(histories.PLACE / f"{name}.json"))
    return cost


def test_events_and_actions_are_those_of_all_runs() -> None:
    """A push and its batch; the longest one counts as the longest."""
    push, batch = cost_of("push~completed"), cost_of("push~completed~b0")
    both = cost_of("push~completed", "push~completed~b0")

    assert (both.workflows, both.continued) == (2, 0)
    assert both.events == push.events + batch.events
    assert both.longest == push.longest > batch.longest
    assert 0 < batch.actions < push.actions < push.events


def test_a_run_that_continues_is_counted_apart() -> None:
    """Three runs of one push: the first two continued."""
    cost = cost_of("push~continued", "push~continued@2", "push~continued@3")

    assert (cost.workflows, cost.continued) == (3, 2)
