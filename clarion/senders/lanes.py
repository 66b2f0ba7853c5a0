"""The senders of this process, one per lane, made of credentials as they are now.

A rotated credential is taken up within seconds by the sender that is there: its connections are replaced,
and attempts that use it do not notice. What a credential says (endpoint, trusted certificates) is checked
again before it is used, because rows can be written by other hands.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

from clarion import limits
from clarion.clock import SYSTEM_CLOCK, Clock
from clarion.errors import BadCredential, BadInput, NotFound
from clarion.seal import Seal
from clarion.senders import apns, fcm, getui, hms, honor, jpush, meizu, oppo, umeng, vivo, webpush, xiaomi
from clarion.senders.link import Surroundings
from clarion.senders.sender import Sender
from clarion.store import credentials
from clarion.store.credential_check import check_endpoint, check_settings
from clarion.store.credentials import Credential
from clarion.store.database import Database, is_away

log = logging.getLogger(__name__)

TEND_EVERY: Final = 1.0
WATCH_EVERY: Final = 2.0


class KeptSender(Sender, Protocol):
    """A sender as lanes keep it."""

    @property
    def refused(self) -> bool:
        """Whether the provider has refused this credential since it was taken up."""

    def start(self) -> None:
        """Begin to connect."""

    def adopt(self, credential: Credential) -> None:
        """Go over to a rotated credential while sending. Raises BadCredential."""

    async def tend(self) -> None:
        """Called about once a second: renew what grows old, close what has drained."""


Make = Callable[[Credential, Surroundings], KeptSender]

MAKERS: Final[dict[str, Make]] = {
    "apns": apns.ApnsSender,
    "fcm": fcm.FcmSender,
    "webpush": webpush.WebPushSender,
    "hms": hms.HmsSender,
    "xiaomi": xiaomi.XiaomiSender,
    "oppo": oppo.OppoSender,
    "vivo": vivo.VivoSender,
    "jpush": jpush.JPushSender,
    "getui": getui.GetuiSender,
    "umeng": umeng.UmengSender,
    "honor": honor.HonorSender,
    "meizu": meizu.MeizuSender,
}
"""A sender, not yet started, by provider. Raises BadCredential."""


@dataclass
class _Lane:
    sender: KeptSender
    version: int


class Lanes:
    """Builds and keeps the senders of this process. The first `get` begins to look after them."""

    def __init__(self, db: Database, seal: Seal, clock: Clock = SYSTEM_CLOCK) -> None:
        self._db, self._seal, self._clock = db, seal, clock
        self._lanes: dict[tuple[int, int], _Lane] = {}
        self._making: dict[tuple[int, int], asyncio.Lock] = {}
        self._keeper: asyncio.Task[None] | None = None

    async def get(self, app_no: int, lane: int) -> Sender:
        """The sender of a lane, with its credential as it is now.

        Raises NotFound, BadCredential (withdrawn or unusable), BadKey, StoreUnavailable.
        """
        known = self._lanes.get((app_no, lane))
        if known is not None and known.sender.refused:
            # A rotation unblocks the lane at once: nothing must be posted under the old credential any more,
            # or the new one would be blocked for it.
            await self._watch()
            known = self._lanes.get((app_no, lane))
        if known is None:
            async with self._making.setdefault((app_no, lane), asyncio.Lock()):
                known = self._lanes.get((app_no, lane)) or await self._make(app_no, lane)
        return known.sender

    async def close(self) -> None:
        """Close all senders."""
        if self._keeper is not None:
            self._keeper.cancel()
            with suppress(asyncio.CancelledError):
                await self._keeper
            self._keeper = None
        lanes, self._lanes = list(self._lanes.values()), {}
        await asyncio.gather(*(lane.sender.close() for lane in lanes))

    async def _make(self, app_no: int, lane: int) -> _Lane:
        credential = await self._db.persist(
            lambda: credentials.load(self._db, self._seal, app_no, lane), patience=limits.COMMAND_TIMEOUT
        )
        make = MAKERS.get(credential.provider)
        if make is None:
            raise BadCredential(f"{credential.name}: there is no sender for {credential.provider}")
        _check(credential)
        # Keys and the system's certificates take long to read: not while others send.
        around = Surroundings(self._db, self._seal, self._clock)
        sender = await asyncio.to_thread(make, credential, around)
        sender.start()
        made = self._lanes[app_no, lane] = _Lane(sender, credential.version)
        if self._keeper is None:
            self._keeper = asyncio.get_running_loop().create_task(self._keep(), name="lanes")
        return made

    # ── keeping ───────────────────────────────────────────────────────────────────────────────────

    async def _keep(self) -> None:
        watched_at = self._clock.monotonic()
        while True:
            await asyncio.sleep(TEND_EVERY)
            for lane in list(self._lanes.values()):
                try:
                    await lane.sender.tend()
                except Exception as error:  # one sender's trouble is not the others'
                    log.error("a sender cannot be looked after: %s", type(error).__name__)
            if self._clock.monotonic() - watched_at >= WATCH_EVERY:
                watched_at = self._clock.monotonic()
                await self._watch()

    async def _watch(self) -> None:
        """Take up what was rotated, let go of what was withdrawn."""
        try:
            versions = await credentials.versions(self._db)
            for place, lane in list(self._lanes.items()):
                if versions.get(place) != lane.version:
                    await self._change(place, lane)
        except Exception as error:
            if not is_away(error):  # else the store will be back, and nothing rotates meanwhile
                log.error("credentials cannot be looked at: %s", type(error).__name__)

    async def _change(self, place: tuple[int, int], lane: _Lane) -> None:
        try:
            credential = await credentials.load(self._db, self._seal, *place)
            _check(credential)
            lane.sender.adopt(credential)
            lane.version = credential.version
        except (BadInput, NotFound) as error:
            # Withdrawn or unusable: nothing more goes out under what it was before.
            log.warning("lane %s.%s has no usable credential any more: %s", *place, error)
            del self._lanes[place]
            await lane.sender.close()


def _check(credential: Credential) -> None:
    check_settings(credential.settings)
    if credential.endpoint is not None:
        check_endpoint(credential.endpoint)
    if not credential.topic and credential.provider != "webpush":
        raise BadCredential(f"{credential.name}: a credential for {credential.provider} needs a topic")
