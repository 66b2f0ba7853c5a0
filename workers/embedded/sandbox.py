"""The provider simulators as our own child."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from clarion.errors import StackUnavailable
from workers.embedded.child import Child, until_gone
from workers.embedded.ports import is_free

READY_SECONDS: Final = 60.0


class Sandbox:
    """`python -m clarion.sandbox` on a directory of its own; `ports` is what it said when it was ready."""

    def __init__(
        self, home: Path, *, env: Mapping[str, str], before: Mapping[str, Any] | None = None
    ) -> None:
        """`before` is what the last run's sandbox said: it listens there again where that is free."""
        self.directory = home / "sandbox"
        self.log = home / "logs" / "sandbox.log"
        self.env = env
        self.ports: dict[str, Any] = dict(before or {})
        self.child: Child | None = None
        self._drain: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it and wait for its one line."""
        self.directory.mkdir(parents=True, exist_ok=True)
        await until_gone("sandbox", self.log)
        self.child = Child(
            "sandbox",
            [sys.executable, "-P", "-m", "clarion.sandbox", "--data", self.directory, *self._ports()],
            log=self.log,
            env=self.env,
            speaks=True,
        )
        await self.child.start()
        try:
            self.ports = await self._first_line(self.child)
        except BaseException:
            await self.child.stop()
            raise
        self._drain = asyncio.create_task(self.child.drain())

    async def stop(self) -> None:
        """Stop it."""
        if self.child is not None:
            await self.child.stop()

    def _ports(self) -> list[str]:
        """The control port as it was; the providers' ports it remembers by itself."""
        control = self.ports.get("control")
        return ["--control-port", str(control)] if control and is_free(control) else []

    async def _first_line(self, child: Child) -> dict[str, Any]:
        try:
            line = await asyncio.wait_for(child.line(), READY_SECONDS)
            said: dict[str, Any] = json.loads(line)
        except (TimeoutError, ValueError):
            raise StackUnavailable(f"the sandbox did not start: {child.last_words()}") from None
        return said
