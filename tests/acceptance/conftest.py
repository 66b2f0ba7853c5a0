"""One stack for all acceptance tests: a sender for each provider, control, the servers, the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.acceptance.field import Field
from tests.support.stack import running_stack


@pytest.fixture(scope="session")
async def whole_field() -> AsyncIterator[Field]:
    """The stack with its devices."""
    async with running_stack() as stack:
        yield await Field.make(stack)


@pytest.fixture
async def field(whole_field: Field) -> AsyncIterator[Field]:
    """The same, with a sandbox that has no faults before and after the test."""
    await whole_field.stack.sandbox("POST", "/clear")
    yield whole_field
    await whole_field.stack.sandbox("POST", "/clear")
