"""A folder for a server's files, removed afterwards."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def home() -> Iterator[Path]:
    """A new folder that PostgreSQL gets through: it does not run as root, but as a user of its own."""
    with tempfile.TemporaryDirectory(prefix="clarion-", ignore_cleanup_errors=True) as made:
        place = Path(made)
        place.chmod(0o755)
        yield place
