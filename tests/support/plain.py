"""Ways to start and to steer without anything of Clarion's: the `temporal` program, HTTP, the UI."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from base64 import b64decode, b64encode
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote
from uuid import uuid4

import httpx

from tests.support.browser import Ui
from tests.support.stack import Stack

TEMPORAL = Path(sys.executable).parent / "temporal"


class Refused(Exception):
    """The way said no; its words."""


def payloads(value: Any) -> Any:
    """One argument as the API's JSON has it."""
    data = b64encode(json.dumps(value).encode()).decode()
    return {"payloads": [{"metadata": {"encoding": b64encode(b"json/plain").decode()}, "data": data}]}


class Way(Protocol):
    """Starts a push and says words to it; each returns when it has been acknowledged (epoch seconds)."""

    async def start(self, workflow: str, workflow_id: str, spec: Any) -> None:
        """Start it. Raises Refused."""

    async def update(self, workflow_id: str, name: str, value: Any) -> float:
        """Say a word and wait for its answer. Raises Refused."""


class TemporalCli:
    """`temporal workflow …`."""

    def __init__(self, stack: Stack) -> None:
        self.address: str = stack.facts["temporal_address"]

    async def run(self, *words: str) -> str:
        """One command; what it printed. Raises Refused with that when it fails."""
        process = await asyncio.create_subprocess_exec(
            TEMPORAL,
            *words,
            env={**os.environ, "TEMPORAL_ADDRESS": self.address},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(60):
            printed, _ = await process.communicate()
        if process.returncode:
            raise Refused(printed.decode())
        return printed.decode()

    async def start(self, workflow: str, workflow_id: str, spec: Any) -> None:
        """`--fail-existing`, so that a running workflow with other content is not taken for ours."""
        given = ("--type", workflow, "--task-queue", "control", "--workflow-id", workflow_id)
        await self.run("workflow", "start", *given, "--input", json.dumps(spec), "--fail-existing")

    async def result(self, workflow_id: str) -> Any:
        """Wait for its end. Raises Refused with its failure. (In short it prints an empty list as null.)"""
        words = ("workflow", "result", "-w", workflow_id, "-o", "json", "--no-json-shorthand-payloads")
        told = json.loads(await self.run(*words))
        if "result" not in told:
            raise Refused(json.dumps(told))
        value = told["result"]
        return json.loads(b64decode(value["data"])) if isinstance(value, dict) and "data" in value else value

    async def update(self, workflow_id: str, name: str, value: Any) -> float:
        """`temporal workflow update execute`."""
        words = ("-w", workflow_id, "--name", name, "--input", json.dumps(value))
        await self.run("workflow", "update", "execute", *words)
        return time.time()

    async def signal(self, workflow_id: str, name: str, *more: str) -> float:
        """`temporal workflow signal`: acknowledged by Temporal, not yet by the push."""
        await self.run("workflow", "signal", "-w", workflow_id, "--name", name, *more)
        return time.time()


class Http:
    """Temporal's HTTP API where it takes an id with a slash: at the UI's address, with the UI's token.

    (Temporal's own HTTP port answers such an id with 404, and takes `%252F` for a literal `%2F`.)
    """

    def __init__(self, stack: Stack) -> None:
        self.api = f"{stack.facts['temporal_ui']}/api/v1"
        self.base = f"{self.api}/namespaces/{stack.facts['namespace']}/workflows"

    async def call(self, path: str, body: Any) -> Any:
        """POST. Raises Refused."""
        async with httpx.AsyncClient(timeout=30) as client:
            await client.get(f"{self.api}/settings")
            token = client.cookies["_csrf"]
            answer = await client.post(f"{self.base}/{path}", json=body, headers={"X-CSRF-Token": token})
        if answer.status_code != 200:
            raise Refused(answer.text)
        return answer.json()

    async def start(self, workflow: str, workflow_id: str, spec: Any) -> None:
        """POST …/workflows/{id}."""
        body = {
            "workflowType": {"name": workflow},
            "taskQueue": {"name": "control"},
            "input": payloads(spec),
            "workflowIdConflictPolicy": "WORKFLOW_ID_CONFLICT_POLICY_FAIL",
        }
        await self.call(quote(workflow_id, safe=""), body)

    async def update(self, workflow_id: str, name: str, value: Any) -> float:
        """POST …/workflows/{id}/update/{name}, waiting for its completion."""
        body = {
            "request": {"meta": {"updateId": str(uuid4())}, "input": {"args": payloads(value)}},
            "waitPolicy": {"lifecycleStage": "UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED"},
        }
        outcome = (await self.call(f"{quote(workflow_id, safe='')}/update/{name}", body))["outcome"]
        if "failure" in outcome:
            raise Refused(outcome["failure"]["message"])
        return time.time()

    async def query(self, workflow_id: str, name: str) -> Any:
        """POST …/workflows/{id}/query/{name}."""
        told = await self.call(f"{quote(workflow_id, safe='')}/query/{name}", {"query": {}})
        return json.loads(b64decode(told["queryResult"]["payloads"][0]["data"]))


class Browser:
    """The Temporal UI."""

    def __init__(self, ui: Ui) -> None:
        self.ui = ui
        self._at: str | None = None

    async def start(self, workflow: str, workflow_id: str, spec: Any) -> None:
        """The form *Start Workflow*."""
        await self.ui.start(workflow, workflow_id, spec)

    async def update(self, workflow_id: str, name: str, value: Any) -> float:
        """*More Actions*, *Send an Update*."""
        if self._at != workflow_id:
            await self.ui.open(workflow_id)
            self._at = workflow_id
        acknowledged, refusal = await self.ui.update(name, value)
        if refusal is not None:
            self._at = None  # the form keeps what was typed: the next word gets a fresh one
            raise Refused(refusal)
        return acknowledged
