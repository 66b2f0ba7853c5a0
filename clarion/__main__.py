"""The console script: finds the application around this library and runs its command line.

The library is installed alone beside services whose own packages may be called `workflows` or `starters`;
the application lives in a directory of its own, which is CLARION_HOME or the checkout this was installed
from. Only with such a root is there anything to run.
"""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

NO_APPLICATION = (
    "clarion: this is the client library (import clarion.client); for the server and its commands, "
    "set CLARION_HOME to Clarion's own directory"
)


def find_root() -> Path | None:
    """The application's root, or None when only the library is here."""
    given = os.environ.get("CLARION_HOME")
    root = Path(given).expanduser().absolute() if given else Path(__file__).resolve().parent.parent
    # site-packages has no project file, even where somebody's own `starters` is installed beside us.
    return root if (root / "starters" / "cli.py").is_file() and (root / "pyproject.toml").is_file() else None


def main() -> None:
    """Run the command line; never returns."""
    root = find_root()
    if root is None:
        print(NO_APPLICATION, file=sys.stderr)
        sys.exit(2)
    sys.path.insert(0, str(root))
    importlib.import_module("starters.cli").main()


if __name__ == "__main__":
    main()
