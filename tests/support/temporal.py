"""A Temporal server for the session, on free ports and without a file."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from workers.embedded.temporal import Temporal

# A search attribute that was just registered is usable at once.
FRESH_ATTRIBUTES: Final = {"system.forceSearchAttributesCacheRefreshOnRead": "true"}


@asynccontextmanager
async def running_temporal(
    *, suggest_continue_as_new: int | None = None, file: bool = False, ui: bool = False
) -> AsyncIterator[Temporal]:
    """A server that is gone afterwards.

    `suggest_continue_as_new` makes it suggest that after so many history events, to see continuations in
    tests of short workflows.
    """
    dynamic = dict(FRESH_ATTRIBUTES)
    if suggest_continue_as_new is not None:
        dynamic["limit.historyCount.suggestContinueAsNew"] = str(suggest_continue_as_new)
    home = Path(tempfile.mkdtemp(prefix="clarion-test-"))
    server = Temporal(home, file=home / "temporal.db" if file else None, ui=ui, dynamic=dynamic)
    try:
        await server.start()
        yield server
    finally:
        await server.stop()
        shutil.rmtree(home)
