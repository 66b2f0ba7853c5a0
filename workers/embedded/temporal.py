"""The Temporal server as our own child: the `temporal` program's development server, with UI and a file.

Its dynamic configuration is what the engine was measured with (docs/decisions): the default poll rate makes
every hop of a workflow wait 40 ms, and fairness between apps is off unless asked for.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from temporalio.client import Client
from temporalio.service import RPCError

from clarion.errors import StackUnavailable
from clarion.names import SEARCH_ATTRIBUTES
from workers.embedded import ports
from workers.embedded.binaries import beside_python
from workers.embedded.child import Child, until_gone

NAMESPACE: Final = "default"
READY_SECONDS: Final = 60.0
USUAL_PORT: Final = 7233  # where people and their tools look for Temporal and its UI
USUAL_UI_PORT: Final = 8233

DYNAMIC: Final[dict[str, str]] = {
    "matching.enableFairness": "true",
    "history.transferProcessorMaxPollRPS": "1000",
    "frontend.WorkflowPauseEnabled": "false",  # batches go on under it: decision 0021
}
# Without a write-ahead log every transition waits for the disk twice.
PRAGMAS: Final[dict[str, str]] = {"journal_mode": "WAL", "synchronous": "NORMAL"}
# Much garbage on a small heap: fewer collections than at Go's usual 100 %, for some memory.
COLLECT_AT: Final = "400"


class Temporal:
    """One development server. Without `file` it forgets everything when it ends."""

    def __init__(
        self,
        home: Path,
        *,
        file: Path | None = None,
        port: int | None = None,
        ui_port: int | None = None,
        usual_ports: tuple[int | None, int | None] = (None, None),
        ui: bool = True,
        dynamic: Mapping[str, str] | None = None,
    ) -> None:
        """`home` is where its log goes; `dynamic` adds to the dynamic configuration or changes it.

        `port` and `ui_port` must be free; `usual_ports` (both in one) are taken if they are free. Once
        started, a server keeps its ports.
        """
        self.home = home
        self.file = file
        self.ui = ui
        self.dynamic = DYNAMIC | dict(dynamic or {})
        self.wanted_port, self.wanted_ui_port = port, ui_port
        self.usual_ports = usual_ports
        self.port = self.ui_port = self.metrics_port = self.http_port = 0
        self._settled = False  # it has run on these ports, others know them
        self.log = home / "logs" / "temporal.log"
        self.child: Child | None = None

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"{ports.LOOPBACK}:{self.port}"

    @property
    def ui_url(self) -> str | None:
        """Where operators look."""
        return f"http://{ports.LOOPBACK}:{self.ui_port}" if self.ui else None

    @property
    def http_url(self) -> str:
        """Where its HTTP API is, for callers without an SDK."""
        return f"http://{ports.LOOPBACK}:{self.http_port}"

    async def start(self) -> None:
        """Start the server and wait until it answers."""
        await until_gone("Temporal", self.log)
        while not await self._started():
            pass

    async def _started(self) -> bool:
        """Start it. False: another server took a port in the moment after it was found to be free."""
        self._choose_ports()
        self.child = Child(
            "temporal",
            [beside_python("temporal"), *self._arguments()],
            log=self.log,
            # Nothing of TEMPORAL_*: that is for clients. The program looks for a profile below HOME.
            env={"PATH": os.defpath, "HOME": str(self.home), "GOGC": COLLECT_AT},
        )
        await self.child.start()
        try:
            await self._until_ready()
        except BaseException as error:
            await self.child.stop()
            if isinstance(error, StackUnavailable) and self._outrun():
                return False
            raise
        self._settled = True
        return True

    async def stop(self) -> None:
        """Stop it; with a file, the next start knows every workflow."""
        if self.child is not None:
            await self.child.stop()

    def _choose_ports(self) -> None:
        usual, usual_ui = self.usual_ports
        self.port = ports.choose("Temporal", self.port or self.wanted_port, usual)
        self.ui_port = ports.choose("Temporal's UI", self.ui_port or self.wanted_ui_port, usual_ui)
        self.http_port = self.http_port or ports.free_port()
        self.metrics_port = self.metrics_port or ports.free_port()

    def _outrun(self) -> bool:
        """Whether a port that nobody asked for is another's now; then others are chosen."""
        wanted = (self.wanted_port, self.wanted_ui_port)
        taken = [port for port in (self.port, self.ui_port) if port not in wanted and not ports.is_free(port)]
        if self._settled or not taken:
            return False
        self.port = self.ui_port = self.http_port = self.metrics_port = 0
        return True

    def _arguments(self) -> list[str]:
        return [
            *("server", "start-dev", "--ip", ports.LOOPBACK, "--log-level", "warn", "--namespace", NAMESPACE),
            *("--port", str(self.port), "--http-port", str(self.http_port)),
            *("--metrics-port", str(self.metrics_port)),
            *(("--ui-port", str(self.ui_port), "--ui-disable-news-fetch") if self.ui else ("--headless",)),
            *_options("--dynamic-config-value", self.dynamic),
            *_options("--search-attribute", SEARCH_ATTRIBUTES),
            *self._storage(),
        ]

    def _storage(self) -> list[str]:
        if self.file is None:
            return []
        return ["--db-filename", str(self.file), *_options("--sqlite-pragma", PRAGMAS)]

    async def _until_ready(self) -> None:
        """Wait for the first answer; a server that died meanwhile says why in its log."""
        assert self.child is not None
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            if not self.child.running:
                raise StackUnavailable(f"Temporal did not start: {self.child.last_words()}")
            try:
                await self._is_ours()
                client = await Client.connect(self.address, namespace=NAMESPACE)
                await client.count_workflows()
            except (OSError, RPCError, RuntimeError):
                await asyncio.sleep(0.05)
            else:
                return
        raise StackUnavailable(
            f"Temporal is not ready after {READY_SECONDS:.0f} s: {self.child.last_words()}"
        )

    async def _is_ours(self) -> None:
        """The port of its HTTP API is its alone. Raises OSError while nothing listens there.

        At the usual port another's server may answer, while ours is about to find it taken.
        """
        _, writer = await asyncio.open_connection(ports.LOOPBACK, self.http_port)
        writer.close()


def _options(flag: str, values: Mapping[str, str]) -> list[str]:
    return [part for name, value in values.items() for part in (flag, f"{name}={value}")]
