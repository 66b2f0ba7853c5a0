"""The library as a service gets it: the wheel in an environment of its own, with its base dependencies only.

Nothing is fetched: what the base dependencies are is read from their metadata, and their files are linked
from the environment of the tests.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]


def build(directory: Path) -> Path:
    """Build the wheel from the checkout."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(directory)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = directory.glob("clarion-*.whl")
    return wheel


def environment(directory: Path, wheel: Path) -> Path:
    """A fresh environment with the wheel installed; its directory of programs."""
    venv.create(directory, symlinks=True, with_pip=False)
    (site,) = directory.glob("lib/python*/site-packages")
    for name in _closure(_base_requirements()):
        _link(metadata.distribution(name), site)
    pip = [sys.executable, "-m", "pip", "--python", str(directory / "bin" / "python"), "install"]
    offline = ["--quiet", "--disable-pip-version-check", "--no-index", "--no-deps", str(wheel)]
    subprocess.run([*pip, *offline], check=True, capture_output=True)
    return directory / "bin"


def _base_requirements() -> set[str]:
    """What the wheel needs without any extra."""
    return _needs(metadata.distribution("clarion"))


def _needs(distribution: metadata.Distribution) -> set[str]:
    wanted = map(Requirement, distribution.requires or ())
    return {
        canonicalize_name(one.name)
        for one in wanted
        if one.marker is None or one.marker.evaluate({"extra": ""})
    }


def _closure(names: set[str]) -> set[str]:
    """These and all that they need."""
    known: set[str] = set()
    while names - known:
        name = (names - known).pop()
        known.add(name)
        names |= _needs(metadata.distribution(name))
    return known


def _link(distribution: metadata.Distribution, site: Path) -> None:
    """Link the top-level files and folders of an installed distribution."""
    tops = {Path(str(file)).parts[0] for file in distribution.files or ()} - {"..", "__pycache__"}
    for top in tops:
        target = site / top
        if not target.exists():
            target.symlink_to(Path(str(distribution.locate_file(top))))
