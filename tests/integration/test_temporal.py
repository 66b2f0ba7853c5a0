"""The embedded Temporal server."""

from __future__ import annotations

import asyncio
import signal
import socket
from pathlib import Path

import httpx
import pytest
from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest, PauseWorkflowExecutionRequest
from temporalio.client import Client
from temporalio.service import RPCError

from clarion.errors import StackUnavailable
from clarion.names import SEARCH_ATTRIBUTES
from tests.support.temporal import running_temporal
from workers.embedded import ports
from workers.embedded.temporal import NAMESPACE, Temporal

KINDS = {
    "Keyword": "INDEXED_VALUE_TYPE_KEYWORD",
    "KeywordList": "INDEXED_VALUE_TYPE_KEYWORD_LIST",
    "Datetime": "INDEXED_VALUE_TYPE_DATETIME",
    "Int": "INDEXED_VALUE_TYPE_INT",
}


async def start_something(address: str, workflow_id: str) -> None:
    """A workflow that no worker will ever pick up."""
    client = await Client.connect(address)
    await client.start_workflow("Nothing", id=workflow_id, task_queue="nobody")


async def test_search_attributes_are_registered(temporal_address: str) -> None:
    """Every name that our workflows set is known to the server, with its type."""
    client = await Client.connect(temporal_address)
    answer = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace=NAMESPACE)
    )
    found = {name: IndexedValueType.Name(kind) for name, kind in answer.custom_attributes.items()}
    wanted = {name: KINDS[kind] for name, kind in SEARCH_ATTRIBUTES.items()}

    assert wanted.items() <= found.items()


async def test_temporals_own_pause_is_refused(temporal_address: str) -> None:
    """Its button is not offered and its call is refused: nobody takes it for the push's pause."""
    await start_something(temporal_address, "not-paused")
    service = (await Client.connect(temporal_address)).workflow_service
    asked = DescribeNamespaceRequest(namespace=NAMESPACE)
    described = await service.describe_namespace(asked)
    assert not described.namespace_info.capabilities.workflow_pause

    pause = PauseWorkflowExecutionRequest(namespace=NAMESPACE, workflow_id="not-paused", reason="by hand")
    with pytest.raises(RPCError, match="workflow pause is not enabled"):
        await service.pause_workflow_execution(pause)


async def test_workflows_survive_a_restart() -> None:
    """With a file, a second start on the same ports knows the workflows of the first, also after kill -9."""
    async with running_temporal(file=True) as server:
        address = server.address
        await start_something(address, "kept")
        assert server.child is not None
        server.child.signal(signal.SIGKILL)
        assert await server.child.wait() == -signal.SIGKILL
        await server.start()

        assert server.address == address
        client = await Client.connect(address)
        assert (await client.get_workflow_handle("kept").describe()).id == "kept"


async def test_ui_answers() -> None:
    """The UI listens where we say it does."""
    async with running_temporal(ui=True) as server, httpx.AsyncClient() as http:
        assert server.ui_url is not None
        for _ in range(100):
            try:
                answer = await http.get(server.ui_url, follow_redirects=True)
            except httpx.ConnectError:
                await asyncio.sleep(0.05)
            else:
                break
        assert answer.status_code == 200


async def test_taken_port_is_one_clear_error(tmp_path: Path) -> None:
    """A port that somebody asked for and that is taken is named."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        with pytest.raises(StackUnavailable, match=f"port {port} for Temporal is taken"):
            await Temporal(tmp_path, port=port).start()


async def test_two_that_start_at_once_do_not_take_each_other_for_themselves(tmp_path: Path) -> None:
    """Both find the usual port free; one gets it, the other goes elsewhere: each knows its own workflows."""
    usual = (ports.free_port(), ports.free_port())
    servers = [Temporal(tmp_path / name, usual_ports=usual) for name in ("one", "other")]
    for server in servers:
        server.home.mkdir()
    try:
        await asyncio.gather(*(server.start() for server in servers))
        await start_something(servers[0].address, "of the one")

        assert len({server.port for server in servers}) == 2
        assert usual[0] in {server.port for server in servers}
        client = await Client.connect(servers[1].address)
        with pytest.raises(RPCError, match="not found"):
            await client.get_workflow_handle("of the one").describe()
    finally:
        for server in servers:
            await server.stop()


async def test_unusable_file_is_one_clear_error(tmp_path: Path) -> None:
    """A server that cannot start says why, in one line."""
    (tmp_path / "broken.db").write_text("this is no database\n" * 1000)

    with pytest.raises(StackUnavailable, match=r"Temporal did not start: .*not a database"):
        await Temporal(tmp_path, file=tmp_path / "broken.db").start()
