"""`make fuzz MINUTES=5`: mutants of the corpus against everything that parses what others send.

Each target has its part of the time. An input that breaks one is made smaller as far as that goes, and kept
under build/fuzz; the line that replays it is printed. When the fault is mended, the input goes into the
target's folder of tests/corpus, which every run of the tests replays first.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import sys
import time
import traceback
from pathlib import Path
from typing import Final

from tests.support.fuzz_targets import TARGETS
from tests.support.fuzzing import Target, mutant

FAILURES: Final = Path("build/fuzz")
SHRINKS: Final = 2_000  # attempts to make a failing input smaller


def main() -> int:
    """Fuzz, or replay one input. 0 when nothing broke."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--only", default="", help="targets whose name begins so")
    parser.add_argument("--replay", type=Path, help="an input kept by an earlier run: TARGET~HASH")
    given = parser.parse_args()
    if given.replay is not None:
        return _replay(given.replay)
    seed = given.seed if given.seed is not None else time.time_ns() % 1_000_000_000
    targets = [target for target in TARGETS if target.name.startswith(given.only)]
    print(f"seed={seed} targets={len(targets)} minutes={given.minutes:g}", flush=True)
    inputs = failed = 0
    for target in targets:
        seconds = given.minutes * 60 / len(targets)
        tried, broken = _campaign(target, random.Random(f"{seed}/{target.name}"), seconds)
        inputs += tried
        failed += broken is not None
        print(f"{target.name:18} inputs={tried:8} {'BROKEN' if broken else 'held'}", flush=True)
    print(f"fuzz: targets={len(targets)} inputs={inputs} failed={failed}")
    return int(failed > 0)


def _campaign(target: Target, chance: random.Random, seconds: float) -> tuple[int, Path | None]:
    """Inputs tried, and where the one is that broke it."""
    corpus = target.corpus()
    ends, tried = time.monotonic() + seconds, 0
    waiting = list(corpus)
    while time.monotonic() < ends:
        data = waiting.pop() if waiting else mutant(chance, target, corpus)
        tried += 1
        if (fault := _fault(target, data)) is not None:
            return tried, _keep(target, _smaller(target, data, fault, chance), fault)
    return tried, None


def _fault(target: Target, data: bytes) -> str | None:
    """What the target broke with: the exception's type and where it came from."""
    try:
        target.check(data)
    except Exception as error:  # the very thing that is looked for
        last = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__} in {Path(last.filename).name}:{last.lineno}"
    return None


def _smaller(target: Target, data: bytes, fault: str, chance: random.Random) -> bytes:
    """The same fault with fewer bytes."""
    for _ in range(SHRINKS):
        if len(data) < 2:
            break
        size = max(1, int(len(data) * chance.random() ** 3))
        at = chance.randrange(len(data) - size + 1)
        less = data[:at] + data[at + size :]
        if _fault(target, less) == fault:
            data = less
    return data


def _keep(target: Target, data: bytes, fault: str) -> Path:
    FAILURES.mkdir(parents=True, exist_ok=True)
    path = FAILURES / f"{target.name}~{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    print(f"{target.name}: {fault}, {len(data)} bytes\n  replay: make fuzz REPLAY={path}", flush=True)
    return path


def _replay(path: Path) -> int:
    """One input again, with the whole traceback."""
    name = path.name.partition("~")[0] if "~" in path.name else path.parent.name
    target = next(target for target in TARGETS if target.name == name)
    target.check(path.read_bytes())
    print(f"{name}: held")
    return 0


if __name__ == "__main__":
    sys.exit(main())
