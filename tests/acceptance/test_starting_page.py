"""docs/starting.md: every block of shell commands runs as it stands."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

import pytest

from tests.acceptance.field import Field

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

ROOT = Path(__file__).resolve().parents[2]


async def test_the_commands_of_the_page(field: Field) -> None:
    """One shell, from top to bottom; the first that fails ends it."""
    text = (ROOT / "docs" / "starting.md").read_text()
    blocks = re.findall(r"```bash\n(.*?)```", text, re.DOTALL)
    facts = field.stack.facts
    env = field.stack.environment | {
        "TEMPORAL_ADDRESS": facts["temporal_address"],
        "UI": facts["temporal_ui"],
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }
    process = await asyncio.create_subprocess_exec(
        "bash", "-exuo", "pipefail", "-c", "\n".join(blocks),
        cwd=ROOT, env=env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(200):
        printed, _ = await process.communicate()

    assert process.returncode == 0, printed.decode()[-3_000:]
    assert len(blocks) >= 5
    for id in ("spring-1", "spring-3", "scores-1"):
        push = await field.find(id)
        account = await push.finished()
        assert (await push.counts())["open"] == 0
        assert id == "scores-1" or account.phantom == 0, account  # that one has a key of its own in the log
