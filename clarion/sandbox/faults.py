"""Faults on demand: a small language of rules, and registrations that have died.

A rule is one JSON object: which requests, how many of them, and what happens.

    which       provider           apns | fcm | webpush | oauth (FCM's token endpoint) | hms | xiaomi | oppo |
                                   vivo | jpush | getui | umeng | honor | meizu; hms-auth |
                                   oppo-auth | vivo-auth | honor-auth | getui-auth (where tokens come from)
                origin             number of a Web Push origin (0, 1, 2)
                token              a pattern with * and ? over the registration as the log calls it
    how many    share              of the requests, 0 to 1 (the same ones in every run with the same `seed`)
                first              the first n
                for                seconds from now on
    what        status, reason     an error in the provider's own words; `headers` are added, `body` replaces
                                   (either of status and reason may be left out when the other tells it)
                reject_credential  true, or the reason: as if key or token were not accepted
                black_hole         "request": never answered; "connection": it falls silent altogether
                reset              "stream" (with `code`) or "connection" (a TCP reset)
                goaway             "graceful": this request is answered, later ones are not processed;
                                   "abrupt": neither is this one, and the connection closes;
                                   debug data is {"reason": `reason`}, `code` the error code
                garbage            "body": an answer that is no JSON; "frames": bytes that are no HTTP
                drip               seconds between one byte of the answer and the next, from now on
                streams            announce so many concurrent streams, and answer as usual
                refuse_connections true: open connections are reset, and nobody listens until `for` is over
                                   or the rule is cleared
    beside      delay              seconds before the answer, alone or with any of the above
                processed          true: the request takes effect (and is logged so) though its answer is lost
                now                true: goaway and reset "connection" hit every open connection at once

Rules are asked in the order in which they were posted; the first that wants a request has it.
"""

from __future__ import annotations

import fnmatch
import random
import re
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

EFFECTS: Final = (
    "status",
    "reject_credential",
    "black_hole",
    "reset",
    "goaway",
    "garbage",
    "drip",
    "streams",
    "refuse_connections",
    "delay",
)
VENDORS: Final = (  # one request carries many registrations
    "hms",
    "xiaomi",
    "oppo",
    "vivo",
    "jpush",
    "getui",
    "umeng",
    "honor",
    "meizu",
)
PROVIDERS: Final = (
    "apns",
    "fcm",
    "webpush",
    "oauth",
    *VENDORS,
    *(f"{name}-auth" for name in VENDORS),
)
_WORDS: Final[dict[str, tuple[str, ...]]] = {
    "black_hole": ("request", "connection"),
    "reset": ("stream", "connection"),
    "goaway": ("graceful", "abrupt"),
    "garbage": ("body", "frames"),
}
_NUMBERS: Final = ("share", "for", "delay", "drip")
_COUNTS: Final = ("first", "origin", "status", "streams", "code", "seed")


class BadRule(ValueError):
    """A rule that makes no sense; the text says which word."""


@dataclass
class Rule:
    """One rule, and how often it has had its way."""

    number: int
    provider: str
    effect: str
    value: Any
    origin: int | None = None
    token: re.Pattern[str] | None = None
    share: float = 1.0
    first: int | None = None
    until: float | None = None  # monotonic
    reason: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()
    body: bytes | None = None
    code: int | None = None
    delay: float = 0.0
    processed: bool = False
    now: bool = False
    hits: int = 0
    text: Mapping[str, Any] = field(default_factory=dict)
    chance: random.Random = field(default_factory=random.Random, repr=False)

    @property
    def over(self) -> bool:
        """It will not have its way any more."""
        used_up = self.first is not None and self.hits >= self.first
        return used_up or (self.until is not None and time.monotonic() >= self.until)

    def wants(self, origin: int, token: str) -> bool:
        """Whether this request falls under it; counts it then."""
        if self.over or (self.origin is not None and self.origin != origin):
            return False
        if self.token is not None and not self.token.match(token):
            return False
        if self.share < 1.0 and self.chance.random() >= self.share:
            return False
        self.hits += 1
        return True


def parse_rule(number: int, text: Mapping[str, Any]) -> Rule:
    """A rule from its JSON. Raises BadRule."""
    effects = [name for name in EFFECTS if name in text]
    if "reason" in text and not effects:
        effects = ["status"]
    if len(effects) > 1 and "delay" in effects:
        effects.remove("delay")
    if len(effects) != 1:
        raise BadRule(f"a rule has exactly one of {', '.join(EFFECTS)}")
    effect = effects[0]
    _check(text, effect)
    rule = Rule(number, text["provider"], effect, text.get(effect), text=dict(text))
    rule.chance.seed(text.get("seed", number))
    for name in ("origin", "first", "reason", "code", "processed", "now"):
        if name in text:
            setattr(rule, name, text[name])
    rule.share, rule.delay = float(text.get("share", 1.0)), float(text.get("delay", 0.0))
    if "for" in text:
        rule.until = time.monotonic() + float(text["for"])
    if "token" in text:
        rule.token = re.compile(fnmatch.translate(text["token"]))
    if "body" in text:
        rule.body = str(text["body"]).encode()
    rule.headers = tuple(
        (name.lower().encode(), str(value).encode()) for name, value in text.get("headers", {}).items()
    )
    return rule


def _check(text: Mapping[str, Any], effect: str) -> None:
    known = {*EFFECTS, *_COUNTS, *_NUMBERS, "provider", "token", "reason", "headers", "body"}
    if unknown := text.keys() - known - {"processed", "now"}:
        raise BadRule(f"unknown words: {', '.join(sorted(unknown))}")
    if text.get("provider") not in PROVIDERS:
        raise BadRule(f"provider is one of {', '.join(PROVIDERS)}")
    if effect in _WORDS and text[effect] not in _WORDS[effect]:
        raise BadRule(f"{effect} is one of {', '.join(_WORDS[effect])}")
    for name in (*_NUMBERS, *_COUNTS):
        kinds = (int,) if name in _COUNTS else (int, float)
        value = text.get(name, 0)
        if isinstance(value, bool) or not isinstance(value, kinds) or value < 0:
            raise BadRule(f"{name} is a number, and not negative")
    if not isinstance(text.get("headers", {}), dict):
        raise BadRule("headers is an object")
    for name in ("token", "reason", "body"):
        if not isinstance(text.get(name, ""), str):
            raise BadRule(f"{name} is text")


@dataclass(frozen=True, slots=True)
class Dead:
    """What a registration answers from now on. `at` is when the provider noticed, in milliseconds."""

    reason: str | None = None
    at: int | None = None


class Graveyard:
    """Registrations of one provider that have died: by name, or a fixed share of all."""

    def __init__(self) -> None:
        self.named: dict[str, Dead] = {}
        self.told: set[str] = set()  # of those by name, in the provider's feedback
        self._shares: list[tuple[float, int, Dead]] = []

    def __bool__(self) -> bool:
        return bool(self.named or self._shares)

    def __len__(self) -> int:
        return len(self.named)

    def bury(self, tokens: list[str], dead: Dead) -> None:
        """These have died."""
        self.named.update(dict.fromkeys(tokens, dead))

    def bury_share(self, share: float, seed: int, dead: Dead) -> None:
        """So many of all have died: always the same ones for the same seed."""
        self._shares.append((share * 2**32, seed, dead))

    def find(self, token: str) -> Dead | None:
        """What this registration died of; None while it lives."""
        dead = self.named.get(token)
        if dead is None and self._shares:
            for edge, seed, grave in self._shares:
                if zlib.crc32(token.encode(), seed) < edge:
                    return grave
        return dead

    def untold(self, most: int, *, drain: bool) -> list[str]:
        """Of those that died by name, so many that were not told yet; drained, they are told from now on."""
        found = [token for token in self.named if token not in self.told][:most]
        if drain:
            self.told.update(found)
        return found

    def clear(self) -> None:
        """All live again."""
        self.named.clear()
        self.told.clear()
        self._shares.clear()
