from __future__ import annotations

import pytest

from tests.support.quota_rules import RULES, hold

SEEDS = range(2)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", RULES)
def test_rule_holds(name: str, seed: int) -> None:
    """What the quota promises (the rule's own docstring says it) holds in a simulated world."""
    hold(name, seed)


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_rule_holds_in_many_worlds(name: str) -> None:
    """And in many more of them."""
    for seed in range(100, 130):
        hold(name, seed)
