"""What a sender is: one per process and lane, shared by all attempts of that process.

A sender takes deliveries and tells, for each exactly once and from the event loop, an `Outcome`.
Nothing in here awaits per delivery: `post` frames a request, `flush` lets a turn's requests leave
in one write.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from clarion.model.message import Message
from clarion.senders.outcome import Outcome

Answered = Callable[[int, Outcome], None]
"""Called once per posted delivery with its key (its seq in the batch) and outcome. Must not raise."""


@dataclass(frozen=True, slots=True)
class PushFacts:
    """What a sender needs to know of a push, the same for all its deliveries."""

    push_no: int
    push_id: str
    app: str
    dedup_key: str  # stable for the push (a retry keeps its predecessor's): ≤ 32 URL-safe characters
    high: bool
    deadline: float | None  # epoch seconds


class Prepared(Protocol):
    """A message made ready for one provider: rendered once per (content version, locale, variant).

    A personalised message also yields bytes per user. `needs_values` says whether READ must bring the
    users' attributes, `needs_badge` whether it must bring the numbers of the devices.
    """

    needs_values: bool
    needs_badge: bool


class TooLarge(Exception):
    """This delivery's payload alone exceeds the provider's limit after rendering."""


class MissingValue(Exception):
    """A value that the message needs is missing for this user and has no default; names the value only."""


class Unsendable(Exception):
    """This delivery's token must not be framed or its endpoint not be called; the reason name says why."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Sender(Protocol):
    """One credential at one provider, in this process."""

    provider: str

    def prepare(self, push: PushFacts, message: Message) -> Prepared:
        """Compile the message into byte segments. Raises BadSpec when it cannot fit for anybody."""

    def post(
        self,
        prepared: Prepared,
        key: int,
        registration_no: int,
        token: str,
        locale: str,
        variant: int,
        values: dict[str, Any] | None,
        answered: Answered,
    ) -> None:
        """Frame one request; it leaves at the next `flush` (or earlier). Only when `room()` > 0.

        Raises TooLarge, MissingValue or Unsendable before anything was framed; `answered` is then not called.
        """

    def room(self) -> int:
        """Requests that may be posted now. 0 while connecting, warming up, cooling or at the stream limit."""

    def flush(self) -> None:
        """Let everything posted in this turn leave in one write."""

    def when_room(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` (from the loop, often) whenever `room()` may have grown. Returns how to stop it."""

    def waiting(self) -> str | None:
        """A short name of what it waits for (`connecting`, `warm-up`, `authorization`), or None."""

    async def close(self) -> None:
        """Give up connections; in-flight requests have been answered or timed out before."""


def locale_chain(locale: str) -> Sequence[str]:
    """A device's locale, lower case, from the most special to the general.

    zh_Hant_TW gives zh-hant-tw, zh-hant, zh.

    BCP 47 tags compare case-insensitively (RFC 5646 §2.1.1). Regions that write Traditional Chinese imply it:
    zh-TW, zh-HK and zh-MO get zh-hant before zh; other Chinese regions get zh-hans.
    """
    tag = locale.strip().replace("_", "-").lower()
    if not tag:
        return ()
    parts = tag.split("-")
    chain = ["-".join(parts[:n]) for n in range(len(parts), 0, -1)]
    if parts[0] == "zh" and "hant" not in parts and "hans" not in parts:
        script = "zh-hant" if {"tw", "hk", "mo"} & set(parts[1:]) else "zh-hans"
        chain.insert(len(chain) - 1, script)
    return chain
