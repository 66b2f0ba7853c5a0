"""Where one sender is tried: its lane, its simulator's faults, its processes, what each device was shown."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final
from unittest.mock import patch

from clarion import limits
from clarion.model.message import Classification, Message
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind
from clarion.senders.sender import Sender
from clarion.store.database import Database
from tests.integration.sender_conformance.drivers import Driver
from tests.support import senders
from tests.support.senders import HELLO, Clock, process
from tests.support.vendors import calls

SHOWN: Final = (200, 201)
SHORT: Final = 1.5  # seconds of a request's time-out where it is waited for
AGAIN: Final = 0.1  # what was not accepted goes again after this
PATIENCE: Final = 30.0  # until a sender is well again
# A provider may keep marketing back: vivo from 23 to 7 o'clock in China.
AWAITED: Final = HELLO.model_copy(update={"classification": Classification.SERVICE})
LATER: Final = (OutcomeKind.UNAVAILABLE, OutcomeKind.THROTTLED)


class Ground:
    """One driver's sender among the cases, which are played one after the other here."""

    def __init__(
        self,
        sandbox: Sandbox,
        db: Database,
        place: tuple[int, int],
        driver: Driver,
        numbers: itertools.count[int],
    ) -> None:
        self.sandbox, self.db, self.driver = sandbox, db, driver
        self.app_no, self.lane = place
        self._numbers = numbers  # blocks of a thousand registrations that nobody else has
        # One JWT a key, whatever app uses it: Apple counts them by key (C03).
        self._authorization = (0, 0) if driver.provider == "apns" else place
        self._mark = 0

    # ── what is sent ──────────────────────────────────────────────────────────────────────────────

    def fresh(self, count: int) -> list[str]:
        """Registrations that nobody has met."""
        return self.driver.registrations(self.sandbox, count, next(self._numbers) * 1_000)

    @asynccontextmanager
    async def sender(self, clock: Clock | None = None) -> AsyncIterator[Sender]:
        """The lane's sender in a process of its own."""
        async with process(self.db, clock) as lanes:
            yield await lanes.get(self.app_no, self.lane)

    @asynccontextmanager
    async def impatient(self) -> AsyncIterator[Sender]:
        """One that waits for an answer only as long as a test may."""
        with patch.dict(limits.REQUEST_TIMEOUT_BY_PROVIDER, {self.driver.provider: SHORT}):
            async with self.sender() as made:
                yield made

    async def warm(self, sender: Sender) -> None:
        """It is connected, and has been of use."""
        tokens = self.fresh(1)
        await self.finish(sender, tokens, await send(sender, tokens), doubt=False)

    async def finish(
        self, sender: Sender, tokens: Sequence[str], outcomes: Sequence[Outcome], *, doubt: bool = True
    ) -> None:
        """Send again to those who may be sent to again, as the ledger does, until all are accepted.

        Without `doubt` nobody may be in it: it was only a matter of finding room.
        """
        left, told = list(tokens), list(outcomes)
        async with asyncio.timeout(PATIENCE):
            while True:
                assert {one.kind for one in told} <= {*LATER, OutcomeKind.ACCEPTED}, told
                assert doubt or not any(one.maybe for one in told), told
                left = [one for one, outcome in zip(left, told, strict=True) if outcome is not ACCEPTED]
                if not left:
                    return
                await asyncio.sleep(AGAIN)
                told = await send(sender, left)

    # ── what the simulator does ───────────────────────────────────────────────────────────────────

    @asynccontextmanager
    async def fault(self, rule: Mapping[str, Any]) -> AsyncIterator[None]:
        """This happens to the provider's requests meanwhile."""
        made = await self.sandbox.add_rule({"provider": self.driver.provider, **rule})
        try:
            yield
        finally:
            await self.sandbox.clear(made.number)
        assert made.hits > 0, "the fault has met nothing"

    @contextmanager
    def telling(self) -> Any:
        """The simulator tells of the dead, where that is a matter of its settings."""
        settings = self.driver.settings
        self.sandbox.change(settings)
        try:
            yield
        finally:
            self.sandbox.change({name: type(value)() for name, value in settings.items()})

    def bury(self, *tokens: str) -> None:
        """These die."""
        names = [self.driver.log_name(token) for token in tokens]
        self.sandbox.bury({"provider": self.driver.provider, "tokens": names})

    async def expire(self) -> None:
        """The authorization that is in use ends, or the next request is told so."""
        if self.driver.expire is not None:
            self.driver.expire(self.sandbox)
            return
        rule = {"provider": self.driver.provider, "reject_credential": self.driver.expired, "first": 1}
        await self.sandbox.add_rule(rule)

    async def age(self) -> None:
        """The authorization that all processes share is as old as one that has to be renewed."""
        await self.db.execute(
            "update provider_token set issued_at = issued_at - interval '21 hours'"
            " where (app_no, lane) = ($1, $2)",
            *self._authorization,
        )

    async def forget_authorization(self) -> None:
        """No process has ever asked for one."""
        await self.db.execute(
            "delete from provider_token where (app_no, lane) = ($1, $2)",
            *self._authorization,
        )

    # ── what became of it ─────────────────────────────────────────────────────────────────────────

    @property
    def made(self) -> int:
        """Authorizations that were made so far; 0 where nobody counts them."""
        return self.driver.auth(self.sandbox) if self.driver.auth is not None else 0

    @property
    def calls(self) -> int:
        """Requests that the provider got so far."""
        return calls(self.sandbox, self.driver.provider)

    def mark(self) -> None:
        """What was logged before is of no interest."""
        self.sandbox.log.flush()
        self._mark = self.sandbox.log.path.stat().st_size

    def lines(self) -> list[dict[str, Any]]:
        """What the log says of this provider since the mark."""
        self.sandbox.log.flush()
        with self.sandbox.log.path.open("rb") as file:
            file.seek(self._mark)
            read = file.read().splitlines()
        mine = f'"provider":"{self.driver.provider}"'.encode()
        return [json.loads(line) for line in read if mine in line]

    def shown(self, tokens: Sequence[str]) -> list[int]:
        """How often each of these was shown something since the mark."""
        screens = [line["token"] for line in self.lines() if line["status"] in SHOWN]
        return [screens.count(self.driver.log_name(token)) for token in tokens]


def expect(outcomes: Sequence[Outcome], **wanted: Any) -> None:
    """Every outcome says so."""
    for outcome in outcomes:
        said = {name: getattr(outcome, name) for name in wanted}
        assert said == wanted, f"wanted {wanted}, got {outcome}"


async def send(sender: Sender, tokens: Sequence[str], message: Message = AWAITED) -> list[Outcome]:
    """Send to these, one attempt each; the outcomes in the same order."""
    return await senders.send(sender, tokens, message)


def large() -> Message:
    """More than any provider takes."""
    return AWAITED.model_copy(update={"data": {"clarion": "x" * 20_000}})
