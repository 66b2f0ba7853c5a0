"""A sender process as on another machine: it reaches Temporal only over a line that can be cut.

The stack's own processes are neighbours of everything. This one serves all providers beside them, is kept
alive as they are, and has a proxy between itself and Temporal: what partitions do is seen in it alone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from benchmarks.chaos.proxy import Proxy
from clarion import names
from clarion.settings import Stack as Facts
from clarion.store.credentials import PROVIDERS
from tests.support.stack import Stack
from workers.embedded import ports, processes
from workers.embedded.keeper import Keeper

NAME = "outpost"


class Outpost:
    """One such process, and its line to Temporal."""

    def __init__(self, keeper: Keeper, line: Proxy, metrics_port: int) -> None:
        self._keeper = keeper
        self.line = line
        self.metrics_port = metrics_port

    @property
    def pid(self) -> int | None:
        """The process, while it runs."""
        return self._keeper.pids.get(NAME)


@asynccontextmanager
async def running_outpost(stack: Stack, say: Callable[[str], None]) -> AsyncIterator[Outpost]:
    """Start one beside a stack; stop it at the end."""
    facts = Facts.read(stack.data)
    temporal = urlsplit(f"//{facts.temporal_address}").port
    assert temporal is not None
    async with Proxy(temporal) as line:
        port = ports.free_port()
        theirs = facts.model_copy(
            update={"temporal_address": f"127.0.0.1:{line.port}", "metrics": {NAME: port}}
        )
        queues = [names.send_queue(provider) for provider in PROVIDERS]
        key = {"CLARION_KEY_FILE": str(facts.key_file)}
        log = stack.data / "logs" / f"{NAME}.log"
        keeper = Keeper(lambda words: say(words.split(" (")[0]), _unchanged)
        await keeper.start(NAME, processes.worker(NAME, queues, theirs, key, log), stage=0)
        try:
            yield Outpost(keeper, line, port)
        finally:
            await keeper.stop()


async def _unchanged(name: str) -> None:
    """Nothing is written down about it."""
