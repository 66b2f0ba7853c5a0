"""The starters in Go and TypeScript, each with its own Temporal SDK.

A case for each language whose toolchain is on PATH: a machine without one has fewer cases, and with neither
there is nothing here to collect.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.field import PHONES, Field

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

TOOLCHAINS = {"go": ("go",), "typescript": ("node", "npm")}
LANGUAGES = [language for language, programs in TOOLCHAINS.items() if all(map(shutil.which, programs))]
__test__ = bool(LANGUAGES)  # an empty list of cases would count as one that is skipped

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
SPEC = {
    "app": "demo",
    "title": "From elsewhere",
    "audience": {"everybody": True},
    "message": {"texts": {"default": {"title": "From elsewhere"}}},
    "pace": 600,
}


async def run(*command: str | Path, place: Path, env: dict[str, str] | None = None) -> tuple[int, str]:
    """The exit code and what was printed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=place,
        env=os.environ | (env or {}),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(150):
        printed, _ = await process.communicate()
    return process.returncode or 0, printed.decode()


async def built(language: str, made: Path) -> list[str | Path]:
    """Build it as its README says, beside the checkout; the command that runs it."""
    place = made / language
    left = shutil.ignore_patterns("node_modules", "dist", "clarion-go")
    shutil.copytree(EXAMPLES / language, place, ignore=left)
    if language == "go":
        steps: tuple[tuple[str, ...], ...] = (
            ("go", "vet", "./..."),
            ("go", "build", "-o", "clarion-go", "."),
        )
        command: list[str | Path] = [place / "clarion-go"]
    else:
        steps = (("npm", "ci", "--ignore-scripts", "--prefer-offline"), ("npx", "tsc"))
        command = ["node", place / "dist" / "campaign.js"]
    for step in steps:
        code, printed = await run(*step, place=place)
        assert code == 0, f"{' '.join(step)}: {printed}"
    return command


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_campaign_from_another_language(field: Field, tmp_path: Path, language: str) -> None:
    """Start, start again, pause, resume, watch to the end; other content under the same id is refused."""
    command = await built(language, tmp_path)
    id, file, other = f"{language}-{os.getpid()}", tmp_path / "spec.json", tmp_path / "other.json"
    file.write_text(json.dumps(SPEC))
    other.write_text(json.dumps(SPEC | {"pace": 1}))
    env = {
        "TEMPORAL_ADDRESS": field.stack.facts["temporal_address"],
        "TEMPORAL_NAMESPACE": field.stack.facts["namespace"],
    }

    async def say(*words: Any, fails: bool = False) -> str:
        code, printed = await run(*command, *map(str, words), place=tmp_path, env=env)
        assert (code != 0) is fails, printed
        return printed

    assert f"started campaign/{id}" in await say("start", id, file)
    assert "running already" in await say("start", id, file)
    assert "running with other content" in await say("start", id, other, fails=True)
    await field.find(id)  # its push is open: until then the campaign alone is held
    assert "hold paused" in await say("pause", id, "a typo")
    shown = await field.stack.show("push", id)
    assert (shown["hold"], shown["hold_by"], shown["hold_reason"]) == ("paused", language, "a typo")
    assert "hold none" in await say("resume", id)

    await field.stack.cli("push", "pace", id, "none")
    watched = await say("watch", id)

    assert f"{id}: completed" in watched
    assert re.search(rf"push {id}: .*{PHONES} accepted, 0 rejected of {PHONES}", watched), watched
    assert "completed" in await say("pause", id, fails=True)
    account = await (await field.find(id)).finished()
    assert account.holds, account
    assert account.states == {"accepted": PHONES}
