"""The Temporal UI as an operator has it: in headless Chromium, by what stands on its buttons."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from playwright.async_api import Error, Locator, Page, Response, async_playwright

SECONDS = 30.0
CHROMIUM = ("chromium", "chromium-browser")


def chromium() -> str | None:
    """The system's Chromium, wherever its package put it."""
    return next((found for name in CHROMIUM if (found := shutil.which(name))), None)


@asynccontextmanager
async def browsing(*, width: int = 1440, height: int = 1000) -> AsyncIterator[Page]:
    """A page of a browser of our own. Fails, saying what is missing, when there is no Chromium."""
    program = chromium()
    assert program is not None, "no Chromium: `make chromium` installs it (Debian: apt-get install chromium)"
    sandboxless = ["--no-sandbox"] if os.geteuid() == 0 else []
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=sandboxless)
        page = await browser.new_page(
            viewport={"width": width, "height": height}, reduced_motion="reduce", timezone_id="UTC"
        )
        page.set_default_timeout(SECONDS * 1_000)
        yield page
        await browser.close()


@dataclass(frozen=True)
class Said:
    """A word that Temporal has answered: when it was sent there, when the answer was here (epoch seconds)."""

    asked: float
    answered: float


class Ui:
    """What an operator does there."""

    def __init__(self, page: Page, url: str, namespace: str = "default") -> None:
        self.page = page
        self.workflows = f"{url}/namespaces/{namespace}/workflows"
        self.api = f"{url}/api/v1/namespaces/{namespace}"

    async def start(self, workflow: str, workflow_id: str, spec: Any) -> Said:
        """Fill the form *Start Workflow* and send it."""
        page = self.page
        await page.goto(f"{self.workflows}/start-workflow")
        for name, text in (("workflowId", workflow_id), ("taskQueue", "control"), ("workflowType", workflow)):
            await page.get_by_test_id(name).fill(text)
        await page.get_by_role("textbox", name="Data").fill(json.dumps(spec))
        # The form grows when a field is left: a click meant for the button would miss it.
        await page.get_by_role("heading", name="Start Workflow").click()
        started = await self._posted("/workflows/", page.get_by_role("button", name="Start Workflow"))
        assert started.status == 200, await started.text()
        return said(started)

    async def open(self, workflow_id: str, tab: str = "user-metadata") -> None:
        """A page of its latest run. (The timeline moves all the time: a small machine has no rest by it.)"""
        place = quote(workflow_id, safe="")
        known = await self.page.request.get(f"{self.api}/workflows/{place}")
        run = (await known.json())["workflowExecutionInfo"]["execution"]["runId"]
        await self.page.goto(f"{self.workflows}/{place}/{run}/{tab}")
        await self.page.get_by_role("button", name="More Actions").filter(visible=True).wait_for()

    async def update(self, name: str, value: Any = None) -> tuple[Said, str | None]:
        """*Send an Update*: pick it from the list, give JSON. The refusal, if it was one."""
        answer = await self._send("Send an Update", "update", name, value)
        told = json.loads(await answer.text() or "{}")
        refusal: str | None = told.get("outcome", {}).get("failure", {}).get("message")
        dialog = self.page.get_by_role("dialog").filter(visible=True)
        if refusal is not None:
            await self.page.get_by_text(refusal).filter(visible=True).first.wait_for()
            await dialog.get_by_test_id("cancel-modal-button").click()
        await dialog.wait_for(state="hidden")
        return said(answer), refusal

    async def signal(self, name: str) -> Said:
        """*Send a Signal*: likewise, without arguments."""
        answer = await self._send("Send a Signal", "signal", name, None)
        await self.page.get_by_role("dialog").filter(visible=True).wait_for(state="hidden")
        return said(answer)

    async def request_cancellation(self) -> Said:
        """*Request Cancellation*, the large button, and yes to its question."""
        await self.page.get_by_role("button", name="Request Cancellation").filter(visible=True).click()
        dialog = self.page.get_by_role("dialog").filter(visible=True)
        return said(await self._posted("/cancel", dialog.get_by_role("button", name="Confirm")))

    async def terminate(self) -> Said:
        """*More Actions*, *Terminate*, and yes to its question."""
        await self._choose("Terminate")
        dialog = self.page.get_by_role("dialog").filter(visible=True)
        return said(await self._posted("/terminate", dialog.get_by_role("button", name="Terminate")))

    async def reset(self) -> Said:
        """*More Actions*, *Reset*, to the first event that it offers."""
        await self._choose("Reset")
        dialog = self.page.get_by_role("dialog").filter(visible=True)
        await dialog.get_by_test_id("workflow-reset-event-id-select-button").click()
        await self.page.locator("[role=option]:visible").first.click()
        return said(await self._posted("/reset", dialog.get_by_role("button", name="Confirm")))

    async def text(self) -> str:
        """All that stands on the page. Fresh details come in a new frame: one that goes away says nothing."""
        texts = []
        for frame in self.page.frames:
            with suppress(Error):
                texts.append(await frame.locator("body").inner_text(timeout=5_000))
        return "\n".join(texts)

    async def _posted(self, part: str, button: Locator) -> Response:
        """Click; the answer to what that posts. (The page asks queries all the time: posts as well.)"""

        def ours(answer: Response) -> bool:
            return answer.request.method == "POST" and part in answer.url and "/query/" not in answer.url

        async with self.page.expect_response(ours) as posted:
            await button.click()
        return await posted.value

    async def _choose(self, action: str) -> None:
        await self.page.get_by_role("button", name="More Actions").filter(visible=True).click()
        await self.page.locator("[role=menuitem]:visible", has_text=action).click()

    async def _send(self, action: str, noun: str, name: str, value: Any) -> Response:
        page = self.page
        await self._choose(action)
        dialog = page.get_by_role("dialog").filter(visible=True)
        await dialog.get_by_test_id(f"{noun}-select-button").click()
        await page.locator("[role=option]:visible").filter(has=page.get_by_text(name, exact=True)).click()
        if value is not None:
            await dialog.get_by_role("textbox", name="Data").fill(json.dumps(value))
            await dialog.get_by_text("Single JSON payload supported").click()  # leave the field, as above
        return await self._posted(f"/{noun}/", dialog.get_by_role("button", name="Submit"))


def said(answer: Response) -> Said:
    """By the browser's own clock of the network, which no rendering delays."""
    timing = answer.request.timing
    asked = timing["startTime"] / 1_000
    return Said(asked, asked + timing["responseStart"] / 1_000)
