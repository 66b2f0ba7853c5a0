"""One stack for all acceptance tests: a sender for each provider, control, the servers, the sandbox."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.acceptance import together
from tests.acceptance.field import Field
from tests.support.stack import running_stack

OWN_STACK = {"test_canary.py", "test_every_provider.py"}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """First the modules that have a stack of their own: there are never two at once."""
    items.sort(key=lambda item: item.path.name not in OWN_STACK)


def pytest_collection_finish(session: pytest.Session) -> None:
    """What is deselected is not played either."""
    together.select(session.items)


@pytest.fixture(scope="session")
async def whole_field() -> AsyncIterator[Field]:
    """The stack with its devices."""
    async with running_stack() as stack:
        yield await Field.make(stack)


@pytest.fixture
async def field(whole_field: Field) -> AsyncIterator[Field]:
    """The same, quiet before and after the test: no faults, nothing blocked, nothing running."""
    await whole_field.quiet()
    yield whole_field
    await whole_field.quiet()
