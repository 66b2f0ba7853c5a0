"""Ways to start and to steer without anything of Clarion's: the `temporal` program, HTTP, the UI."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote
from uuid import uuid4

import httpx

from tests.support.browser import Said, Ui, browsing
from tests.support.stack import Stack

TEMPORAL = Path(sys.executable).parent / "temporal"


class Refused(Exception):
    """The way said no; its words."""


def payloads(value: Any) -> Any:
    """One argument as the API's JSON has it."""
    data = b64encode(json.dumps(value).encode()).decode()
    return {"payloads": [{"metadata": {"encoding": b64encode(b"json/plain").decode()}, "data": data}]}


class Way(Protocol):
    """Starts a workflow and says words to it."""

    async def start(self, workflow: str, workflow_id: str, spec: Any) -> Said:
        """Start it. Raises Refused."""

    async def update(self, workflow_id: str, name: str, value: Any) -> Said:
        """Say a word and wait for its answer. Raises Refused."""

    async def cancel(self, workflow_id: str) -> Said:
        """End it now, as one does that here."""


class Door:
    """A way through to a server that knows when somebody came: a program's start-up ends there."""

    def __init__(self, address: str) -> None:
        self.host, _, port = address.partition(":")
        self.port = int(port)
        self.came = 0.0  # when the first of the latest callers came: a program may open several connections
        self._inside = 0

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[str]:
        """Its address."""
        server = await asyncio.start_server(self._through, "127.0.0.1", 0)
        async with server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"

    async def _through(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self._inside:
            self.came = time.time()
        self._inside += 1
        try:
            there, to_there = await asyncio.open_connection(self.host, self.port)
            await asyncio.gather(self._pump(reader, to_there), self._pump(there, writer))
        finally:
            self._inside -= 1

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()


class TemporalCli:
    """`temporal workflow …`."""

    def __init__(self, address: str, door: Door) -> None:
        self.address, self.door = address, door

    async def run(self, *words: str) -> str:
        """One command; what it printed. Raises Refused with that when it fails.

        Said again while Temporal says that the workflow is busy, as a person would: a loaded machine.
        """
        while True:
            try:
                return await self._once(*words)
            except Refused as refused:
                if "Workflow is busy" not in str(refused):
                    raise

    async def _once(self, *words: str) -> str:
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

    async def start(self, workflow: str, workflow_id: str, spec: Any, *more: str) -> Said:
        """`--fail-existing`, so that a running workflow with other content is not taken for ours."""
        given = ("--type", workflow, "--task-queue", "control", "--workflow-id", workflow_id)
        await self.run("workflow", "start", *given, "--input", json.dumps(spec), "--fail-existing", *more)
        return Said(self.door.came, time.time())

    async def result(self, workflow_id: str) -> Any:
        """Wait for its end. Raises Refused with its failure. (In short it prints an empty list as null.)"""
        words = ("workflow", "result", "-w", workflow_id, "-o", "json", "--no-json-shorthand-payloads")
        told = json.loads(await self.run(*words))
        if "result" not in told:
            raise Refused(json.dumps(told))
        value = told["result"]
        return json.loads(b64decode(value["data"])) if isinstance(value, dict) and "data" in value else value

    async def update(self, workflow_id: str, name: str, value: Any) -> Said:
        """`temporal workflow update execute`."""
        words = ("-w", workflow_id, "--name", name, "--input", json.dumps(value))
        await self.run("workflow", "update", "execute", *words)
        return Said(self.door.came, time.time())

    async def cancel(self, workflow_id: str) -> Said:
        """The update; its mode is a word that a person types."""
        return await self.update(workflow_id, "cancel", "now")

    async def signal(self, workflow_id: str, name: str, *more: str) -> Said:
        """`temporal workflow signal`: answered by Temporal, not yet by the push."""
        await self.run("workflow", "signal", "-w", workflow_id, "--name", name, *more)
        return Said(self.door.came, time.time())


@asynccontextmanager
async def temporal_cli(stack: Stack) -> AsyncIterator[TemporalCli]:
    """The program on this stack. One word at a time."""
    door = Door(stack.facts["temporal_address"])
    async with door.opened() as address:
        yield TemporalCli(address, door)


class Http:
    """Temporal's HTTP API where it takes an id with a slash: at the UI's address, with the UI's token.

    (Temporal's own HTTP port answers such an id with 404, and takes `%252F` for a literal `%2F`.)
    """

    def __init__(self, stack: Stack, client: httpx.AsyncClient) -> None:
        self.api = f"{stack.facts['temporal_ui']}/api/v1"
        self.base = f"{self.api}/namespaces/{stack.facts['namespace']}/workflows"
        self.client = client

    async def call(self, path: str, body: Any) -> Any:
        """POST. Raises Refused."""
        if "_csrf" not in self.client.cookies:
            await self.client.get(f"{self.api}/settings")
        headers = {"X-CSRF-Token": self.client.cookies["_csrf"]}
        answer = await self.client.post(f"{self.base}/{path}", json=body, headers=headers)
        if answer.status_code != 200:
            raise Refused(answer.text)
        return answer.json()

    async def start(self, workflow: str, workflow_id: str, spec: Any) -> Said:
        """POST …/workflows/{id}."""
        body = {
            "workflowType": {"name": workflow},
            "taskQueue": {"name": "control"},
            "input": payloads(spec),
            "workflowIdConflictPolicy": "WORKFLOW_ID_CONFLICT_POLICY_FAIL",
        }
        asked = time.time()
        await self.call(quote(workflow_id, safe=""), body)
        return Said(asked, time.time())

    async def update(self, workflow_id: str, name: str, value: Any) -> Said:
        """POST …/workflows/{id}/update/{name}, waiting for its completion."""
        body = {
            "request": {"meta": {"updateId": str(uuid4())}, "input": {"args": payloads(value)}},
            "waitPolicy": {"lifecycleStage": "UPDATE_WORKFLOW_EXECUTION_LIFECYCLE_STAGE_COMPLETED"},
        }
        asked = time.time()
        outcome = (await self.call(f"{quote(workflow_id, safe='')}/update/{name}", body))["outcome"]
        if "failure" in outcome:
            raise Refused(outcome["failure"]["message"])
        return Said(asked, time.time())

    async def cancel(self, workflow_id: str) -> Said:
        """The update."""
        return await self.update(workflow_id, "cancel", {"mode": "now", "reason": "enough"})

    async def query(self, workflow_id: str, name: str) -> Any:
        """POST …/workflows/{id}/query/{name}."""
        told = await self.call(f"{quote(workflow_id, safe='')}/query/{name}", {"query": {}})
        return json.loads(b64decode(told["queryResult"]["payloads"][0]["data"]))


class Browser:
    """The Temporal UI."""

    def __init__(self, ui: Ui) -> None:
        self.ui = ui
        self._at: str | None = None

    async def start(self, workflow: str, workflow_id: str, spec: Any) -> Said:
        """The form *Start Workflow*."""
        self._at = None
        return await self.ui.start(workflow, workflow_id, spec)

    async def update(self, workflow_id: str, name: str, value: Any) -> Said:
        """*More Actions*, *Send an Update*."""
        await self._open(workflow_id)
        answered, refusal = await self.ui.update(name, value)
        if refusal is not None:
            self._at = None  # the form keeps what was typed: the next word gets a fresh one
            raise Refused(refusal)
        return answered

    async def signal(self, workflow_id: str, name: str) -> Said:
        """*More Actions*, *Send a Signal*: answered by Temporal, not yet by the push."""
        await self._open(workflow_id)
        return await self.ui.signal(name)

    async def cancel(self, workflow_id: str) -> Said:
        """*Request Cancellation*."""
        await self._open(workflow_id)
        return await self.ui.request_cancellation()

    async def _open(self, workflow_id: str) -> None:
        if self._at != workflow_id:
            await self.ui.open(workflow_id)
            self._at = workflow_id


@asynccontextmanager
async def http_api(stack: Stack) -> AsyncIterator[Http]:
    """The API on this stack."""
    async with httpx.AsyncClient(timeout=30) as client:
        yield Http(stack, client)


@asynccontextmanager
async def browser(stack: Stack) -> AsyncIterator[Browser]:
    """The UI of this stack, in a browser of its own."""
    async with browsing() as page:
        yield Browser(Ui(page, stack.facts["temporal_ui"], stack.facts["namespace"]))
