"""Whether a credential works: one request to an address that no phone has, by the sender that campaigns use.

The provider has to look at who is asking before it can say that the address is none. So "no such address" is
the good answer, "you are not allowed" the bad one; nobody is shown anything. Web Push has no such question:
an endpoint belongs to a browser, and its service sees our key for the first time in a message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Final

import httpx

from clarion.clock import SYSTEM_CLOCK, Clock
from clarion.errors import BadInput
from clarion.model.message import Classification, Message, Text
from clarion.senders import fcm, getui, hms, honor, jpush, meizu, oppo, umeng, vivo, xiaomi
from clarion.senders.lanes import Lanes
from clarion.senders.outcome import Outcome, OutcomeKind
from clarion.senders.sender import PushFacts, Sender
from clarion.senders.tls import client_tls
from clarion.store.credentials import CredentialRow

SECONDS: Final = 15.0  # for all of it: connecting, an authorization, the answer
CLOCK_SECONDS: Final = 5.0
SKEW: Final = 60.0  # seconds that a clock may be off before the times in signatures are doubted
NOBODY: Final = "0" * 64  # Apple's form
_NOBODY: Final[Mapping[str, str]] = {"fcm": "clarion-providers-check:APA91b" + "0" * 120}
# Who tells the time to a question without a body. Apple speaks HTTP/2 alone and names no date.
HOSTS: Final[Mapping[str, str]] = {
    "fcm": fcm.HOST,
    "hms": hms.HOST,
    "xiaomi": xiaomi.HOST,
    "oppo": oppo.HOST,
    "vivo": vivo.HOST,
    "jpush": jpush.HOST,
    "getui": getui.HOST,
    "umeng": umeng.HOST,
    "honor": honor.HOST,
    "meizu": meizu.HOST,
}
_PUSH: Final = PushFacts(1, "providers-check", "", "clarion-check", high=False, deadline=None)
# Not marketing: vivo's would wait for the morning, and the days' quotas are not to be met.
_MESSAGE: Final = Message(
    texts={"default": Text(title="Clarion", body="A check of the credential")},
    ttl=0,
    classification=Classification.SERVICE,
)


class Verdict(StrEnum):
    """What came of it."""

    WORKS = "works"
    REFUSED = "refused"  # the provider knows us not, or forbids it
    BUSY = "busy"  # it knows us, and takes nothing now
    AWAY = "no answer"
    UNUSABLE = "unusable"  # it never came to a request
    NOT_ASKED = "not asked"


@dataclass(frozen=True, slots=True)
class Trial:
    """A credential tried, and what was said."""

    verdict: Verdict
    said: str

    @property
    def good(self) -> bool:
        """Whether sending can work."""
        return self.verdict in (Verdict.WORKS, Verdict.BUSY, Verdict.NOT_ASKED)


async def try_lane(lanes: Lanes, app_no: int, lane: int, provider: str) -> Trial:
    """Try the credential of a lane. What is wrong with it is the answer, never an exception of ours."""
    if provider == "webpush":
        return Trial(Verdict.NOT_ASKED, "push services see a VAPID key in messages only")
    try:
        sender = await lanes.get(app_no, lane)
        outcome = await _one_request(sender, _NOBODY.get(provider, NOBODY))
    except BadInput as error:
        return Trial(Verdict.UNUSABLE, str(error))
    if outcome is None:
        return Trial(Verdict.AWAY, _waits_for(sender))
    return Trial(_verdict(outcome), outcome.reason or "taken")


async def clock_skew(row: CredentialRow, clock: Clock = SYSTEM_CLOCK) -> int | None:
    """Seconds that our clock is ahead of the provider's; None if it does not tell its own."""
    url = row.endpoint or HOSTS.get(row.provider)
    if url is None:
        return None
    tls = client_tls(row.settings.get("ca"), alpn=("http/1.1",))
    with suppress(httpx.HTTPError, ValueError, KeyError):
        async with httpx.AsyncClient(verify=tls, timeout=CLOCK_SECONDS) as client:
            answer = await client.head(url)
        return round(clock.time() - parsedate_to_datetime(answer.headers["date"]).timestamp())
    return None


async def _one_request(sender: Sender, token: str) -> Outcome | None:
    answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    room = asyncio.Event()

    def answered(key: int, outcome: Outcome) -> None:
        if not answer.done():
            answer.set_result(outcome)

    prepared = sender.prepare(_PUSH, _MESSAGE)
    stop = sender.when_room(room.set)
    try:
        async with asyncio.timeout(SECONDS):
            while not sender.room():
                room.clear()
                await room.wait()
            sender.post(prepared, 0, 1, token, "", 0, None, answered)
            sender.flush()
            return await answer
    except TimeoutError:
        return None
    finally:
        stop()


def _waits_for(sender: Sender) -> str:
    """Why there was no answer, as far as the sender knows."""
    failure = getattr(sender, "failure", None)
    return ": ".join(word for word in (sender.waiting() or "no answer in time", failure) if word)


def _verdict(outcome: Outcome) -> Verdict:
    match outcome.kind:
        case OutcomeKind.ACCEPTED | OutcomeKind.REJECTED:
            return Verdict.WORKS
        case OutcomeKind.BLOCKED:
            return Verdict.REFUSED
        case OutcomeKind.THROTTLED:
            return Verdict.BUSY
        case OutcomeKind.UNAVAILABLE:
            return Verdict.AWAY
