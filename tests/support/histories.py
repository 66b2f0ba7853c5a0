"""The recorded histories: where they are, how they are scrubbed, what replays them.

A file is one run of one workflow: `push~completed~b0.json` is `push/completed/b0`, and `push~long@2.json` the
second run of `push/long`. The JSON is Temporal's own, one event a line, so that a new recording can be read
as a difference.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from temporalio.client import WorkflowHistory
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.worker import Replayer

from workers import runtime
from workflows.payloads import Forgiving

PLACE: Final = Path(__file__).resolve().parents[1] / "histories"
# Who and where, which no decision depends on. What SDK wrote the history stays: its flags do matter.
ANONYMOUS: Final = {"identity": "worker", "buildId": "build", "binaryChecksum": "build", "stackTrace": ""}


def workflow_id(file: Path) -> str:
    """Whose history it is: the code that replays it asks for its id."""
    return file.stem.partition("@")[0].replace("~", "/")


def file_of(workflow_id: str, run: int = 1) -> Path:
    """Where the history of one run is kept."""
    suffix = "" if run == 1 else f"@{run}"
    return PLACE / f"{workflow_id.replace('/', '~')}{suffix}.json"


def scrub(value: Any) -> Any:
    """The same without hosts, process numbers and paths. It still replays."""
    if isinstance(value, list):
        return [scrub(item) for item in value]
    if not isinstance(value, dict):
        return value
    scrubbed = {key: scrub(item) for key, item in value.items()}
    scrubbed |= {key: word for key, word in ANONYMOUS.items() if key in value}
    if value.get("kind") == "TASK_QUEUE_KIND_STICKY":  # its name is a process
        scrubbed["name"] = "sticky"
    return scrubbed


def write(history: WorkflowHistory, file: Path) -> None:
    """Keep it, scrubbed, one event a line."""
    events = [json.dumps(scrub(event), ensure_ascii=False) for event in history.to_json_dict()["events"]]
    file.write_text('{"events": [\n' + ",\n".join(events) + "\n]}\n", encoding="utf-8")


def read(file: Path) -> WorkflowHistory:
    """One that was kept."""
    return WorkflowHistory.from_json(workflow_id(file), file.read_text(encoding="utf-8"))


def replayer(workflows: Sequence[type] = tuple(runtime.WORKFLOWS)) -> Replayer:
    """Replays as a control process does: its workflows, its converter, its sandbox."""
    return Replayer(
        workflows=workflows,
        workflow_runner=runtime.runner(),
        data_converter=replace(pydantic_data_converter, payload_converter_class=Forgiving),
    )
