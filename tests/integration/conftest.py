"""What integration tests can ask for beside the session's servers: one sandbox for all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import fields

import httpx
import pytest

from clarion.sandbox.sandbox import ORIGINS, Sandbox
from clarion.sandbox.service import Settings


@pytest.fixture(scope="session")
async def one_sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    """The session's sandbox: its keys take a moment to make."""
    async with Sandbox(tmp_path_factory.mktemp("sandbox")) as made:
        yield made


@pytest.fixture
async def sandbox(one_sandbox: Sandbox) -> AsyncIterator[Sandbox]:
    """It, with no faults, no dead, and every setting as it was."""
    yield one_sandbox
    await one_sandbox.clear()
    one_sandbox.revive()
    one_sandbox.reset_counts()
    for setting in fields(Settings):
        setattr(one_sandbox.shared.settings, setting.name, setting.default)
    one_sandbox.change({"dialects": list(ORIGINS)})


@pytest.fixture
async def http(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    """httpx over HTTP/2, trusting the sandbox; connections that a fault has broken end with the test."""
    async with httpx.AsyncClient(http2=True, verify=sandbox.authority.client_context()) as client:
        yield client
