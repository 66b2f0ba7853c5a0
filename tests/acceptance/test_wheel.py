"""The wheel in somebody else's project, whose own packages have the same generic names as ours."""

from __future__ import annotations

import asyncio
import json
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests.acceptance.field import Field
from tests.support import wheel

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

# Half of all users of Temporal have a `workflows` package; this one even calls its workflow as we call ours.
THEIR_WORKFLOW = """
from datetime import timedelta
from temporalio import activity, workflow

@activity.defn
async def announce(user: str) -> dict:
    import os
    from clarion.client import Clarion
    from clarion.model.audience import Audience
    from clarion.model.message import Message, Text
    from clarion.model.spec import PushSpec
    clarion = await Clarion.connect(os.environ["ADDRESS"], database_url=os.environ["DATABASE"])
    async with clarion:
        message = Message(texts={"default": Text(title="Hello", body="From another project")})
        spec = PushSpec(app="demo", audience=Audience(users=(user,)), message=message)
        push = await clarion.schedule_push(spec, id="from-the-wheel")
        return await push.result()

@workflow.defn(name="PushWorkflow")
class PushWorkflow:
    @workflow.run
    async def run(self, user: str) -> dict:
        return await workflow.execute_activity(announce, user, start_to_close_timeout=timedelta(seconds=90))
"""
THEIR_STARTER = """
import asyncio, json, os
from temporalio.client import Client
from temporalio.worker import Worker
import clarion.client
from workflows.push import PushWorkflow, announce

async def main():
    client = await Client.connect(os.environ["ADDRESS"])
    async with Worker(client, task_queue="theirs", workflows=[PushWorkflow], activities=[announce]):
        result = await client.execute_workflow(
            PushWorkflow.run, os.environ["RECIPIENT"], id="theirs", task_queue="theirs"
        )
    print(json.dumps(result), flush=True)
    await asyncio.sleep(0.1)

asyncio.run(main())
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel."""
    return wheel.build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def programs(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs of a fresh environment with the wheel are."""
    return wheel.environment(tmp_path_factory.mktemp("environment") / "venv", built)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Somebody's project."""
    for name, text in (("workflows/push.py", THEIR_WORKFLOW), ("starters/cli.py", THEIR_STARTER)):
        path = tmp_path / name
        path.parent.mkdir()
        (path.parent / "__init__.py").touch()
        path.write_text(text)
    return tmp_path


def run(programs: Path, *command: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the fresh environment, with nothing of ours around it."""
    return subprocess.run(
        [programs / command[0], *command[1:]],
        cwd=cwd,
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_holds_the_library_only(built: Path) -> None:
    """The wheel has one package of ours, with its statements and migrations, and no generic name."""
    names = zipfile.ZipFile(built).namelist()

    assert {name.split("/")[0].split("-")[0] for name in names} == {"clarion"}
    assert "clarion/store/migrations/0001_registry.sql" in names
    assert "clarion/store/ledger.sql" in names


def test_the_client_needs_the_base_only(programs: Path, project: Path) -> None:
    """The client and the model are imported without any extra, and bring no generic package with them."""
    code = (
        "import sys, clarion.client, clarion.model.spec\n"
        "heavy = {'workflows', 'activities', 'workers', 'starters', 'orjson', 'httpx', 'sqlalchemy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    ended = run(programs, "python", "-c", code, cwd=project)

    assert (ended.returncode, ended.stdout) == (0, "[]\n"), ended.stderr


def test_the_script_says_what_it_is(programs: Path, project: Path) -> None:
    """Beside somebody's own `starters`, the console script is a library's: it says so and exits 2."""
    ended = run(programs, "clarion", "dev", cwd=project)

    assert ended.returncode == 2
    assert "this is the client library" in ended.stderr


async def test_their_workflow_and_ours(programs: Path, project: Path, field: Field) -> None:
    """A worker with a PushWorkflow of its own starts one of our pushes, which completes."""
    first = json.loads(field.file.read_text().partition("\n")[0])
    facts = field.stack.facts
    ended = await asyncio.to_thread(
        run,
        programs,
        "python",
        "-m",
        "starters.cli",
        cwd=project,
        ADDRESS=facts["temporal_address"],
        DATABASE=facts["database_url"],
        RECIPIENT=first["user_id"],
    )

    assert ended.returncode == 0, ended.stderr
    result = json.loads(ended.stdout)
    assert result["verdict"] == "completed"
    assert result["counts"]["accepted"] == result["counts"]["audience"] >= 1
