"""Lives of campaigns under a virtual clock: they end well, a seed lives again, a broken rule is found.

`make simulate` lives as many as one likes.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

# Rules that are taken away: one of the first lives finds out. Which one changes with the product.
FOUND = (
    "what may have arrived counts as not sent",
    "edited content is not taken up",
    "maybe is retried at most once",
)
MOST = 40


def simulate(seed: int, lives: int, *more: str) -> subprocess.CompletedProcess[str]:
    """Run it as `make simulate` does."""
    command = [sys.executable, "-m", "benchmarks.simulation", "--seed", str(seed), "--lives", str(lives)]
    return subprocess.run([*command, *more], capture_output=True, text=True, timeout=240, check=False)


def digests(ran: subprocess.CompletedProcess[str]) -> dict[int, str]:
    """What happened in each life, in sixteen digits."""
    return {int(seed): digest for seed, digest in re.findall(r"^life (\d+): (\w+)", ran.stdout, re.M)}


def test_lives_end_as_they_must_and_a_seed_lives_again() -> None:
    """Nothing lost, every duplicate accounted for; and one life alone is what it was among others."""
    many = simulate(1, 8, "--each")
    one = simulate(8, 1, "--each")

    assert (many.returncode, one.returncode) == (0, 0), many.stdout + many.stderr
    assert "simulation: lives=8 seeds=1..8 lost=0" in many.stdout
    assert "amo_duplicates=0 failed=0" in many.stdout
    assert digests(one) == {8: digests(many)[8]}


@pytest.mark.slow
@pytest.mark.parametrize("rule", FOUND, ids=lambda rule: rule.replace(" ", "-"))
def test_a_broken_rule_is_found(rule: str) -> None:
    """With the rule lives are well (the test above, `make simulate`); without it, one fails and says so."""
    ran = simulate(1, MOST, "--mutant", rule)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    found = re.search(r"^seed (\d+): ", ran.stdout, re.M)
    assert found is not None
    assert f"--seed {found[1]} --lives 1 --mutant '{rule}'" in ran.stdout
