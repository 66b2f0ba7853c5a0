"""Whatever others send: first what the corpus has (also all that once broke something), then mutants of it.

`make fuzz` does the same for minutes. An input that breaks a target belongs into its folder of tests/corpus.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.support import fuzz_http2
from tests.support.fuzz_targets import TARGETS
from tests.support.fuzzing import CORPUS, Target, mutant

MUTANTS = 60
every_target = pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)


@pytest.fixture(scope="module", autouse=True)
def _one_loop() -> Iterator[None]:
    """The conversations' loop is closed behind them."""
    yield
    fuzz_http2.close_loop()


@every_target
def test_the_corpus_is_borne(target: Target) -> None:
    """Real answers, conversations and files, and every input that a fault was found with."""
    corpus = target.corpus()
    for data in corpus:
        target.check(data)

    assert corpus


@every_target
@settings(
    max_examples=MUTANTS, phases=[Phase.generate], suppress_health_check=list(HealthCheck), database=None
)
@given(chance=st.randoms(use_true_random=True))
def test_mutants_are_borne(target: Target, chance: random.Random) -> None:
    """Cut, spliced, repeated, flipped, and with a strange value or frame in the right place."""
    target.check(mutant(chance, target, target.corpus()))


def test_every_folder_has_a_target() -> None:
    """No seed is left lying about."""
    assert {path.name for path in CORPUS.iterdir()} == {target.name for target in TARGETS}
