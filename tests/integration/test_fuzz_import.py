"""Files of devices that nobody wrote like this: whatever the lines hold, the database takes the good ones."""

from __future__ import annotations

import io
import random
from functools import partial
from typing import Literal

import pytest

from clarion.errors import BadInput
from clarion.seal import Seal
from clarion.store.database import Database
from clarion.store.device_import import import_devices
from tests.support.fuzz_targets import TARGETS
from tests.support.fuzzing import mutant
from tests.support.keys import stocked_app


def _say(said: dict[str, int], line: int, reason: str) -> None:
    assert line > 0
    said[reason] = said.get(reason, 0) + 1


@pytest.mark.parametrize("format", ["jsonl", "csv"])
async def test_every_line_is_counted_once(db: Database, format: Literal["jsonl", "csv"]) -> None:
    """The corpus and mutants of it: inserted + updated + duplicate + rejected = lines, a reason for each."""
    app = await stocked_app(db, Seal.load(Seal.new_key()))
    target = next(target for target in TARGETS if target.name == f"import-{format}")
    corpus, chance = target.corpus(), random.Random(2026)
    stored = 0
    for data in [*corpus, *(mutant(chance, target, corpus) for _ in range(60))]:
        said: dict[str, int] = {}
        try:
            report = await import_devices(
                db, app, io.BytesIO(data), format=format, on_rejected=partial(_say, said)
            )
        except BadInput:
            continue
        assert report.inserted + report.updated + report.duplicate + report.rejected == report.lines
        assert said == report.reasons
        assert sum(said.values()) == report.rejected
        stored += report.inserted

    assert stored > 3
