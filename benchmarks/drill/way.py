"""The three ways: our command line, the `temporal` program, the Temporal UI's forms in a browser.

A moment counts from when a word leaves for the servers: not from when a program or a page begins to load.
"""

from __future__ import annotations

import asyncio
import getpass
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Protocol
from urllib.parse import urlsplit, urlunsplit

from tests.support.browser import Said
from tests.support.plain import Browser, Door, Refused, TemporalCli, browser, temporal_cli
from tests.support.stack import CLARION, ROOT, Stack

TYPES: Final = {"push": "PushWorkflow", "campaign": "CampaignWorkflow"}
# What the audit calls the words of the updates.
WRITTEN: Final = {"set_pace": "set", "edit_message": "edit"}


@dataclass(frozen=True)
class Audit:
    """The one row that a word has to leave in the audit."""

    what: str
    way: str
    who: str

    def __str__(self) -> str:
        return f"{self.way}, {self.who}"


@dataclass(frozen=True)
class Spoken:
    """A word that was acknowledged, and the row that it should have left."""

    said: Said
    audit: Audit


def written(word: str, given: Mapping[str, Any]) -> str:
    """What the audit calls a word."""
    if word == "cancel":
        return "drain" if given.get("mode") == "drain" else "close"
    return WRITTEN.get(word, word)


class Way(Protocol):
    """One way to operate."""

    name: str

    async def start(self, noun: str, id: str, spec: dict[str, Any]) -> Spoken:
        """Start a push or campaign."""

    async def say(self, noun: str, id: str, word: str, given: dict[str, Any]) -> Spoken:
        """Say a word to it: the update's name and input."""

    async def retry(self, id: str, state: str, reason: str | None, spec: dict[str, Any]) -> Spoken:
        """Try a closed push again, as `{id}.r1`. `spec`: the rest of what a push needs."""

    async def accepted(self, id: str) -> tuple[Said, int]:
        """How many deliveries it says are accepted."""


# ── our command line ──────────────────────────────────────────────────────────────────────────────────────


class ClarionCli:
    """`clarion …`, through doors that know when it came to the servers."""

    name = "clarion"

    def __init__(self, stack: Stack, doors: list[Door], environment: dict[str, str]) -> None:
        self.files = stack.data.parent
        self.doors, self.environment = doors, environment
        self.loading: list[float] = []  # seconds until it came to a server

    async def run(self, *words: str) -> tuple[Said, str]:
        """One command; what it printed. Raises Refused with that when it fails."""
        began = time.time()
        process = await asyncio.create_subprocess_exec(
            CLARION, *words, env=self.environment, cwd=ROOT,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(60):
            printed, _ = await process.communicate()
        if process.returncode:
            raise Refused(printed.decode())
        asked = min(door.came for door in self.doors if door.came >= began)
        self.loading.append(asked - began)
        return Said(asked, time.time()), printed.decode()

    async def start(self, noun: str, id: str, spec: dict[str, Any]) -> Spoken:
        """`clarion push start FILE --id ID`."""
        said, _ = await self.run(noun, "start", self._file(spec), "--id", id)
        return Spoken(said, Audit("start", "start", getpass.getuser()))

    async def say(self, noun: str, id: str, word: str, given: dict[str, Any]) -> Spoken:
        """`clarion push VERB ID`."""
        said, _ = await self.run(noun, *self._words(id, word, given))
        way = "direct" if word == "unblock" else "update"
        return Spoken(said, Audit(written(word, given), way, getpass.getuser()))

    async def retry(self, id: str, state: str, reason: str | None, spec: dict[str, Any]) -> Spoken:
        """`clarion push retry`: the ledger knows the rest."""
        named = () if reason is None else ("--reason", reason)
        said, _ = await self.run("push", "retry", id, "--state", state, *named)
        return Spoken(said, Audit("retry", "direct", getpass.getuser()))

    async def accepted(self, id: str) -> tuple[Said, int]:
        """`clarion push show --json`."""
        said, printed = await self.run("push", "show", id, "--json")
        return said, json.loads(printed)[0]["success"]

    def _words(self, id: str, word: str, given: dict[str, Any]) -> tuple[str, ...]:
        shapes: dict[str, Callable[[], tuple[str, ...]]] = {
            "pause": lambda: ("pause", id, "--reason", given["reason"]),
            "set_pace": lambda: ("pace", id, f"{given['pace']:g}"),
            "edit_message": lambda: ("edit", id, self._file(given["message"])),
            "cancel": lambda: ("cancel", id, "--mode", given["mode"]),
        }
        return shapes.get(word, lambda: (word, id))()

    def _file(self, value: Any) -> str:
        file = self.files / f"drill-{time.time_ns()}.json"
        file.write_text(json.dumps(value))
        return str(file)


@asynccontextmanager
async def clarion_cli(stack: Stack) -> AsyncIterator[ClarionCli]:
    """Our program on this stack."""
    facts = stack.facts
    url = urlsplit(facts["database_url"])
    temporal, database = Door(facts["temporal_address"]), Door(f"{url.hostname}:{url.port}")
    async with temporal.opened() as temporal_address, database.opened() as database_address:
        account, _, _ = url.netloc.rpartition("@")
        through = urlunsplit(url._replace(netloc=f"{account}@{database_address}"))
        yield ClarionCli(stack, [temporal, database], {
            **os.environ,
            "CLARION_DATABASE_URL": through,
            "CLARION_KEY_FILE": str(facts["key_file"]),
            "TEMPORAL_ADDRESS": temporal_address,
            "TEMPORAL_NAMESPACE": facts["namespace"],
            "COLUMNS": "160",
        })  # fmt: skip


# ── Temporal's own ────────────────────────────────────────────────────────────────────────────────────────


def again(id: str, state: str, reason: str | None, spec: dict[str, Any]) -> dict[str, Any]:
    """A push over what ended so in a closed one, as anybody can start it."""
    rows = {"push": id, "states": [state]} | ({} if reason is None else {"reasons": [reason]})
    return spec | {"audience": {"retry": rows}}


class Program:
    """`temporal workflow …`, by somebody called tess."""

    name = "temporal"
    who = "tess"

    def __init__(self, temporal: TemporalCli) -> None:
        self.temporal = temporal

    async def start(self, noun: str, id: str, spec: dict[str, Any]) -> Spoken:
        """`temporal workflow start`; who it is goes as a memo."""
        memo = ("--memo", f"by={json.dumps(self.who)}")
        said = await self.temporal.start(TYPES[noun], f"{noun}/{id}", spec, *memo)
        return Spoken(said, Audit("start", "start", self.who))

    async def say(self, noun: str, id: str, word: str, given: dict[str, Any]) -> Spoken:
        """`temporal workflow update execute`."""
        said = await self.temporal.update(f"{noun}/{id}", word, given | {"by": self.who})
        return Spoken(said, Audit(written(word, given), "update", self.who))

    async def retry(self, id: str, state: str, reason: str | None, spec: dict[str, Any]) -> Spoken:
        """Another push, whose audience is the old one's rows."""
        return await self.start("push", f"{id}.r1", again(id, state, reason, spec))

    async def accepted(self, id: str) -> tuple[Said, int]:
        """`temporal workflow signal --name wake`, then the query: it tells of the last look."""
        woken = await self.temporal.signal(f"push/{id}", "wake")
        words = ("-w", f"push/{id}", "--type", "progress", "-o", "json")
        told = json.loads(await self.temporal.run("workflow", "query", *words))
        progress = told["queryResult"][0]
        return Said(woken.asked, time.time()), sum(lane["accepted"] for lane in progress["lanes"])


class Forms:
    """The UI's own forms and buttons, by somebody called ulla where a form asks for words.

    *Request Cancellation* and a signal carry no name: the audit says `operator`.
    """

    name = "Temporal UI"
    who = "ulla"
    unnamed = "operator"

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    async def start(self, noun: str, id: str, spec: dict[str, Any]) -> Spoken:
        """*Start Workflow*."""
        said = await self.browser.start(TYPES[noun], f"{noun}/{id}", spec)
        return Spoken(said, Audit("start", "start", self.unnamed))

    async def say(self, noun: str, id: str, word: str, given: dict[str, Any]) -> Spoken:
        """*Send an Update*; resume by *Send a Signal*, cancel now by *Request Cancellation*."""
        what, workflow_id = written(word, given), f"{noun}/{id}"
        if word == "resume":
            return Spoken(await self.browser.signal(workflow_id, word), Audit(what, "signal", self.unnamed))
        if what == "close":
            return Spoken(await self.browser.cancel(workflow_id), Audit(what, "cancellation", self.unnamed))
        said = await self.browser.update(workflow_id, word, given | {"by": self.who})
        return Spoken(said, Audit(what, "update", self.who))

    async def retry(self, id: str, state: str, reason: str | None, spec: dict[str, Any]) -> Spoken:
        """*Start Workflow*: another push, whose audience is the old one's rows."""
        return await self.start("push", f"{id}.r1", again(id, state, reason, spec))

    async def accepted(self, id: str) -> tuple[Said, int]:
        """*Send a Signal*: wake; then *User Metadata*, fresh."""
        woken = await self.browser.signal(f"push/{id}", "wake")
        await self.browser.ui.page.keyboard.press("r")
        await asyncio.sleep(0.3)
        row = re.search(r"^accepted\s.*?([\d,]+)\s*$", await self.browser.ui.text(), re.MULTILINE)
        return Said(woken.asked, time.time()), int(row[1].replace(",", "")) if row else -1


@asynccontextmanager
async def all_ways(stack: Stack) -> AsyncIterator[list[Way]]:
    """The three, on this stack."""
    async with AsyncExitStack() as held:
        cli = await held.enter_async_context(clarion_cli(stack))
        temporal = await held.enter_async_context(temporal_cli(stack))
        ui = await held.enter_async_context(browser(stack))
        yield [cli, Program(temporal), Forms(ui)]
