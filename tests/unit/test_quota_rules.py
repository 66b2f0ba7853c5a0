from __future__ import annotations

import pytest

from tests.support.quota_rules import RULES, hold


@pytest.mark.parametrize("name", RULES)
def test_rule_holds(name: str) -> None:
    """What the quota promises (the rule's own docstring says it) holds in a simulated world."""
    hold(name, 0)


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
def test_rule_holds_in_many_worlds(name: str) -> None:
    """And in more of them."""
    for seed in range(1, 4):
        hold(name, seed)
