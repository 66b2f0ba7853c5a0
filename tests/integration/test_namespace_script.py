"""deploy/temporal/namespace.sh, on a real Temporal server."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from temporalio.api.operatorservice.v1 import ListSearchAttributesRequest
from temporalio.client import Client

from clarion.names import SEARCH_ATTRIBUTES

SCRIPT = Path(__file__).resolve().parents[2] / "deploy" / "temporal" / "namespace.sh"


async def test_makes_the_namespace_and_repeats(temporal_address: str) -> None:
    """The namespace and its search attributes are there after it ran, and a second run changes nothing."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.defpath}",
        "HOME": "/nonexistent",
        "TEMPORAL_ADDRESS": temporal_address,
        "TEMPORAL_NAMESPACE": "composed",
    }
    for _ in range(2):
        process = await asyncio.create_subprocess_exec(
            *("sh", str(SCRIPT)),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        printed, _ = await process.communicate()
        assert process.returncode == 0, printed.decode()

    client = await Client.connect(temporal_address, namespace="composed")
    answer = await client.operator_service.list_search_attributes(
        ListSearchAttributesRequest(namespace="composed")
    )
    assert set(SEARCH_ATTRIBUTES) <= set(answer.custom_attributes)
