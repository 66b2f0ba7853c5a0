from __future__ import annotations

import pytest

from tests.support import quota_rules
from tests.support.quota_mutants import MUTANTS, notices


@pytest.mark.parametrize("name", MUTANTS)
def test_a_mistake_is_noticed(name: str) -> None:
    """With this one mistake in the code, its rule does not hold."""
    mutant = MUTANTS[name]

    assert notices(mutant, mutant.rule, mutant.seed)


def test_the_right_code_is_back_afterwards() -> None:
    """The mistakes leave nothing behind: the rules of this process hold."""
    notices(MUTANTS["weights do not count"], "weights_share", 0)

    quota_rules.hold("weights_share", 0)
