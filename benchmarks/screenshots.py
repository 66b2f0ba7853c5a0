"""`make screenshot`: pictures of what an operator sees in Temporal's UI, for docs/images, their text checked.

A stack of its own, a few pushes in different states, headless Chromium. Fails when a page does not say what
it should.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any
from urllib.parse import quote

from playwright.async_api import Page

from benchmarks import devices
from clarion.client import Clarion
from clarion.model.spec import CampaignSpec, PushSpec
from tests.support.browser import Ui, browsing
from tests.support.stack import Stack, running_stack

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
PHONES = 60_000
# What an operator looks at: campaigns and pushes without their batches. Also a link in docs/starting.md.
VIEW = "PushStatus IS NOT NULL AND ExecutionStatus = 'Running'"


def spec(title: str, **more: Any) -> dict[str, Any]:
    """A push of the demo app."""
    message = {"texts": {"default": {"title": title}}}
    return {"app": "demo", "title": title, "audience": {"everybody": True}, "message": message, **more}


async def main() -> None:
    """Start everything, take the three pictures."""
    IMAGES.mkdir(exist_ok=True)
    async with running_stack() as stack, browsing() as page:
        facts = stack.facts
        await _devices(stack)
        async with await Clarion.connect(
            facts["temporal_address"], database_url=facts["database_url"]
        ) as clarion:
            await _pictures(clarion, Ui(page, facts["temporal_ui"]), page)


async def _pictures(clarion: Clarion, ui: Ui, page: Page) -> None:
    running = await clarion.schedule_push(
        PushSpec.model_validate(spec("Spring sale", pace=600, tags=["spring"])), id="spring-sale"
    )
    paused = await clarion.schedule_push(
        PushSpec.model_validate(spec("Scores at half-time", pace=400, campaign_kind="social")), id="half-time"
    )
    await clarion.schedule_push(
        PushSpec.model_validate(spec("New terms", send_at="2099-03-01T09:00:00+01:00")), id="new-terms"
    )
    await clarion.start_campaign(CampaignSpec.model_validate(spec("Easter", pace=100)), id="easter")
    await asyncio.sleep(15)  # until the audience is frozen and batches are on their way
    await paused.pause("the score is wrong", by="alice")
    await asyncio.sleep(3)

    await ui.open(running.workflow_id)
    await _take(ui, "push-running", "Spring sale", "sending", "accepted", "Pace 600/s", "Next:")
    await ui.open(paused.workflow_id)
    await _take(ui, "push-paused", "Scores at half-time", "paused by alice: the score is wrong", "resume")
    await page.goto(f"{ui.workflows}?query={quote(VIEW)}")
    await page.get_by_role("link", name=running.workflow_id, exact=True).first.wait_for()
    await page.get_by_text("Save as New").filter(visible=True).click()
    dialog = page.get_by_role("dialog").filter(visible=True)
    await dialog.get_by_role("textbox").first.fill("Campaigns and pushes")
    await dialog.get_by_role("button", name="Save").last.click()
    await dialog.wait_for(state="hidden")
    rows = ("push/spring-sale", "push/half-time", "push/new-terms", "campaign/easter", "push/easter")
    await _take(ui, "workflow-list", "Campaigns and pushes", *rows)
    assert "BatchWorkflow" not in await ui.text()


async def _take(ui: Ui, name: str, *words: str) -> None:
    """The picture, once the page says all of it (also inside the frame that shows Markdown)."""
    for word in words:
        await _says(ui, word)
    await ui.page.wait_for_timeout(500)
    await ui.page.screenshot(path=IMAGES / f"{name}.png")
    print(f"docs/images/{name}.png")


async def _says(ui: Ui, word: str) -> None:
    async with asyncio.timeout(40):
        while word not in await ui.text():
            await ui.page.keyboard.press("r")  # fresh details
            await ui.page.wait_for_timeout(1_500)


async def _devices(stack: Stack) -> None:
    file = stack.data.parent / "devices.jsonl"
    origins = [f"https://127.0.0.1:{port}" for port in stack.facts["sandbox"]["webpush"]]
    await asyncio.to_thread(devices.write, file, PHONES, origins, dead=0.02)
    await stack.cli("devices", "import", "demo", file)


if __name__ == "__main__":
    asyncio.run(main())
