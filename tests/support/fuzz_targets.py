"""All fuzz targets."""

from __future__ import annotations

from typing import Final

from tests.support import fuzz_answers, fuzz_files, fuzz_http2
from tests.support.fuzzing import Target

TARGETS: Final[tuple[Target, ...]] = fuzz_http2.TARGETS + fuzz_answers.TARGETS + fuzz_files.TARGETS
