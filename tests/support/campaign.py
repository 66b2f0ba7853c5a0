"""A campaign on the engine of tests/support/engine.py."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from clarion.client import CampaignHandle
from clarion.errors import NotFound
from clarion.model.audience import Audience
from clarion.model.campaign import CampaignProgress
from clarion.model.spec import CampaignSpec
from clarion.store import campaign as campaigns
from tests.support.engine import MESSAGE, App, Engine, Push

OTHER = {"texts": {"default": {"title": "Other words"}}}
PILOT = [{"name": "pilot", "share": 20}, {"name": "rest"}]


class Campaign:
    """A running campaign: its handle and its row."""

    def __init__(self, engine: Engine, handle: CampaignHandle) -> None:
        self.engine, self.handle, self.id = engine, handle, handle.id

    @classmethod
    async def start(cls, app: App, id: str, **more: Any) -> Campaign:
        """Start one to everybody. Its id ends in the app's: a test that is tried again meets nothing old."""
        spec = CampaignSpec.model_validate(
            {"app": app.name, "message": MESSAGE, "audience": Audience(everybody=True), **more}
        )
        return cls(app.engine, await app.engine.clarion.start_campaign(spec, id=f"{id}.{app.name}"))

    async def stands(self) -> CampaignProgress:
        """Its row."""
        return await campaigns.progress(self.engine.db, self.id)

    async def asked(self) -> CampaignProgress:
        """What its workflow says, as soon as it has looked at its row."""
        async with asyncio.timeout(10):
            while True:
                with contextlib.suppress(NotFound):
                    return await self.handle.progress()
                await asyncio.sleep(0.02)

    async def waits(self, what: str, *, stage: str | None = None, seconds: float = 15.0) -> CampaignProgress:
        """Wait until it waits for this (before this stage)."""
        async with asyncio.timeout(seconds):
            while True:
                found = await campaigns.list_campaigns(self.engine.db, limit=1_000)
                for one in found:
                    upcoming = one.next_stage.name if one.next_stage else None
                    if one.campaign_id == self.id and one.waits_for == what and stage in (None, upcoming):
                        return one
                await asyncio.sleep(0.02)

    async def result(self, seconds: float = 30.0) -> dict[str, Any]:
        """Its workflow's result."""
        async with asyncio.timeout(seconds):
            return await self.handle.result()

    def push(self, stage: str | None = None) -> Push:
        """Its push, or that of a stage."""
        return Push(self.engine, self.engine.clarion.push(f"{self.id}.{stage}" if stage else self.id))


def accepted(result: dict[str, Any]) -> list[int]:
    """How many each push's provider took."""
    return [push["counts"].get("accepted", 0) for push in result["pushes"]]
