"""What the Chinese vendors' senders share: texts that fit, lifetimes, notification numbers, daily quotas.

Their limits count characters, each in its own way, and what is too long is refused by them. A text that is
over one vendor's limit is cut for that vendor alone, and `check` says so before anything is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, Final

import orjson

from clarion.clock import Clock
from clarion.errors import BadSpec
from clarion.model.message import Classification, Message
from clarion.render import Compiled, Rendering, Renderings, Template, compile_texts, plain
from clarion.senders.facts import dedup_key, grows_old, lifetime
from clarion.senders.outcome import Outcome
from clarion.senders.sender import PushFacts, TooLarge

CHINA: Final = timezone(timedelta(hours=8))  # where the vendors' days begin
HOUR: Final = 3_600
_FOREVER: Final = float("inf")


class VendorPrepared:
    """A message ready for one vendor.

    `kind` says what its daily quota is counted under, `refusal` is what every delivery is told if the message
    cannot be sent there at all. `mark` stands for the push and its content. No number of a device is read
    (`needs_badge`): a request has one content for many, and those vendors' phones count by themselves.
    """

    __slots__ = (
        "_clock",
        "_message",
        "_push",
        "_render",
        "fresh_until",
        "kind",
        "mark",
        "needs_badge",
        "needs_values",
        "refusal",
        "renderings",
    )

    renderings: Renderings

    def __init__(
        self,
        push: PushFacts,
        message: Message,
        clock: Clock,
        render: Callable[[int | None], Renderings],
        *,
        kind: str = "",
        refusal: Outcome | None = None,
    ) -> None:
        """`render` is given the seconds that the vendor may keep the message. Raises BadSpec."""
        self._push, self._message, self._clock, self._render = push, message, clock, render
        self.kind, self.refusal = kind, refusal
        self.mark = f"{push.dedup_key} {message.digest().hex()}"
        self._freshen(clock.time())
        self.needs_values, self.needs_badge = self.renderings.needs_values, False

    @property
    def push(self) -> PushFacts:
        """The push that it was made for."""
        return self._push

    @property
    def message(self) -> Message:
        """What it was made of."""
        return self._message

    @property
    def silent(self) -> bool:
        """Whether it shows nothing."""
        return self._message.silent

    def content(self, locale: str, values: Mapping[str, Any] | None) -> bytes:
        """The content for a device of this locale and user. Raises MissingValue and TooLarge."""
        if self.fresh_until < _FOREVER and self._clock.time() >= self.fresh_until:
            self._freshen(self._clock.time())
        return self.renderings.ready.get(locale) or self.renderings.body(locale, values)

    def _freshen(self, now: float) -> None:
        seconds, self.fresh_until = kept_for(self._push, self._message, now)
        self.renderings = self._render(seconds)


def kept_for(push: PushFacts, message: Message, now: float) -> tuple[int | None, float]:
    """Seconds that a vendor may keep the message, and until when that is good.

    What is left of a push's time is told in whole minutes, above an hour in tens of them: a content that
    changed each second could not be shared by requests. It is never told as longer than it is.
    """
    left = lifetime(push, message, now)
    if left is None or message.ttl is not None or not grows_old(push, message):
        return left, _FOREVER
    step = 600 if left > HOUR else 60 if left > 60 else 1
    return left // step * step, now + max(1, left % step)


def notification_number(push: PushFacts, message: Message) -> int:
    """1 … 2147483647: what replaces what on a device, for vendors that want a number."""
    digest = hashlib.sha256(dedup_key(push, message).encode()).digest()
    return int.from_bytes(digest[:4], "big") % 2_147_483_647 + 1


def is_service(message: Message) -> bool:
    """Whether it is a message that somebody waits for; what is not classified counts as marketing."""
    return message.classification is Classification.SERVICE


def quota_returns(now: float) -> float:
    """Seconds until the vendors' next day, and a minute more for their clocks.

    When exactly a counter is reset is UNCONFIRMED for all of them. One that still says no in the first hour
    of the day is asked again an hour later, so that a late reset does not cost the day.
    """
    moment = datetime.fromtimestamp(now, UTC).astimezone(CHINA)
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if moment - midnight < timedelta(hours=1):
        return float(HOUR)
    return (midnight + timedelta(days=1, minutes=1) - moment).total_seconds()


# ── texts ─────────────────────────────────────────────────────────────────────────────────────────────


def characters(text: str) -> int:
    """Every character is one, a Chinese one as well."""
    return len(text)


def widths(text: str) -> int:
    """What is beyond ASCII counts twice."""
    return sum(1 if letter.isascii() else 2 for letter in text)


def fit(text: str, most: int, size: Callable[[str], int] = characters) -> str:
    """The text, or as much of its beginning as fits with an ellipsis behind it."""
    if size(text) <= most:
        return text
    room = most - size("…")
    while size(text) > room:
        text = text[: min(len(text) - 1, room)]
    return text + "…"


def title_and_body(texts: Compiled) -> tuple[str | Template, str | Template]:
    """Vendors want both: where one is missing the other stands in for it."""
    title, body = texts.get("title"), texts.get("body")
    return title or body or "", body or title or ""


class Written(Rendering):
    """A content that `write` makes of title and body as a person reads them.

    Not made of segments: cutting a text to a vendor's limit needs the whole of it.
    """

    __slots__ = ("_texts", "_write")

    def __init__(self, texts: Compiled, write: Callable[[str, str], bytes]) -> None:
        super().__init__((), 0)
        self._texts, self._write = title_and_body(texts), write
        personal = any(isinstance(text, Template) for text in self._texts)
        self.constant = None if personal else self.fill({})

    def fill(self, values: Mapping[str, Any]) -> bytes:
        """The content for one user. Raises MissingValue and TooLarge."""
        title, body = (_filled(text, values) for text in self._texts)
        return self._write(title, body)


def written(message: Message, write: Callable[[str, str], bytes]) -> Renderings:
    """One content per language. Raises BadSpec when one cannot be sent to anybody."""
    by_language: dict[str, Rendering] = {}
    for language, texts in compile_texts(message).items():
        try:
            by_language[language] = Written(texts, write)
        except TooLarge as error:
            raise BadSpec(f"texts.{language}: {error}") from None
    return Renderings(by_language)


def _filled(text: str | Template, values: Mapping[str, Any]) -> str:
    if isinstance(text, str):
        return text
    return "".join(
        part if isinstance(part, str) else orjson.loads(b'"%b"' % part.inside(values)) for part in text.parts
    )


def data_text(message: Message) -> str:
    """The message's data as the JSON text that an app gets; "" when there is none. Raises BadSpec."""
    if not message.data:
        return ""
    try:
        return orjson.dumps(message.data).decode()
    except TypeError:
        raise BadSpec("data cannot be written as JSON") from None


def strings(values: Mapping[str, Any], where: str) -> dict[str, str]:
    """Values as texts, null left out. Raises BadSpec."""
    try:
        return {name: plain(value) for name, value in values.items() if value is not None}
    except TypeError:
        raise BadSpec(f"{where} cannot be written as JSON: give texts") from None


def too_long(message: Message, most: Mapping[str, int], size: Callable[[str], int], vendor: str) -> list[str]:
    """Warnings about constant texts that are cut for this vendor."""
    warnings = []
    for language, text in message.texts.items():
        for name, limit in most.items():
            words = getattr(text, name)
            if words and "{{" not in words and size(words) > limit:
                where = f"texts.{language}.{name}"
                warnings.append(f"{where} is {size(words)} long as {vendor} counts: cut to {limit} there")
    return warnings


def cut_lifetime(message: Message, most: int, vendor: str) -> list[str]:
    """A warning about a ttl that this vendor does not keep."""
    if message.ttl is None or message.ttl <= most:
        return []
    return [f"ttl: {vendor} keeps a message for {most} s at most, so {message.ttl} s are cut to that there"]
