"""What all classify tables share: requests without an answer, Retry-After, and codes that nobody has met.

A table holds one shared `Outcome` per code, and an answer seen before is recognised by its bytes: one look
into a dictionary. An answer that is no answer (HTML of a proxy, half a body) is never taken for a yes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from clarion.clock import SYSTEM_CLOCK, Clock
from clarion.http2.client import Fate
from clarion.senders.outcome import Outcome, OutcomeKind

NOT_SENT: Final = Outcome(OutcomeKind.UNAVAILABLE, "clarion:not_sent", attempt=False)
UNANSWERED: Final[dict[Fate, Outcome]] = {
    Fate.UNSENT: NOT_SENT,
    Fate.REFUSED: NOT_SENT,
    Fate.UNPROCESSED: NOT_SENT,
    Fate.RESET: Outcome(OutcomeKind.UNAVAILABLE, "clarion:stream_reset", maybe=True),
    Fate.LOST: Outcome(OutcomeKind.UNAVAILABLE, "clarion:connection_lost", maybe=True),
    Fate.TIMEOUT: Outcome(OutcomeKind.UNAVAILABLE, "clarion:timeout", maybe=True),
}

LONGEST_WAIT: Final = 86_400.0  # of a Retry-After; a longer one is somebody's mistake
LONGEST_TOKEN: Final = 30 * 86_400.0  # a token that is said to be good for years is asked for again before
_SEEN: Final = 256  # answers remembered by their bytes
_SEEN_BYTES: Final = 1_024
_STRANGERS: Final = 64  # codes that no sheet has, kept by their names; reasons are numbered for ever
_CODE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_ ]{1,63}")

Headers = Mapping[bytes, bytes]


class Classifier:
    """Answers → outcomes, remembering those whose bytes say everything.

    `read` classifies one answer that was not seen before; its result is shared by all answers with the same
    status and body, unless it bears a time of its own.
    """

    def __init__(self, read: Callable[[int, bytes], Outcome], clock: Clock = SYSTEM_CLOCK) -> None:
        self._read = read
        self._clock = clock
        self._seen: dict[tuple[int, bytes], Outcome] = {}

    def __call__(self, status: int, headers: Headers, body: bytes) -> Outcome:
        """The outcome of an answer; the same instance for the same answer."""
        outcome = self._seen.get((status, body))
        if outcome is None:
            outcome = self._read(status, body)
            if outcome.dead_since is None and len(body) <= _SEEN_BYTES and len(self._seen) < _SEEN:
                self._seen[status, body] = outcome
        if b"retry-after" in headers:
            return self._later(outcome, headers[b"retry-after"])
        return outcome

    def _later(self, outcome: Outcome, text: bytes) -> Outcome:
        if outcome.kind not in (OutcomeKind.THROTTLED, OutcomeKind.UNAVAILABLE):
            return outcome
        asked = retry_after(text, self._clock.time())
        return outcome if asked is None else replace(outcome, retry_after=max(outcome.retry_after, asked))


def retry_after(text: bytes, now: float) -> float | None:
    """Seconds that a Retry-After asks for: a number or a date (RFC 9110 §10.2.3); None when it is neither."""
    words = text.strip().decode("ascii", "replace")
    if words.isdigit():
        return min(float(words[:9]), LONGEST_WAIT)
    try:
        moment = parsedate_to_datetime(words).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None
    return min(max(moment - now, 0.0), LONGEST_WAIT)


def parse_object(body: bytes) -> dict[str, Any] | None:
    """The JSON object of a body; None when it is anything else.

    Nobody's answer is hundreds of brackets deep. Who then asks Python for the text of a part of one would
    get a RecursionError instead of an outcome; what orjson would not write again is no answer.
    """
    try:
        value = orjson.loads(body)
        orjson.dumps(value)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    return value if isinstance(value, dict) else None


def token_lifetime(seconds: object) -> float:
    """Seconds that a token is good for, of the `expires_in` of its answer; an hour when that is none."""
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds > 0:
        return 3_600.0
    return min(float(seconds), LONGEST_TOKEN)


class Strangers:
    """Codes that are in no table: a few keep their names, then their status has to do.

    What a provider writes is not ours: it goes into names only when it looks like a code, and reasons are
    numbered for ever, so that there must be an end to new ones.
    """

    def __init__(self, provider: str) -> None:
        self._provider = provider
        self._names: set[str] = set()

    def name(self, code: object, status: int) -> str:
        """The reason's name for an unknown code, or none, of an answer with this status."""
        if isinstance(code, str) and _CODE.fullmatch(code):
            if len(self._names) < _STRANGERS:
                self._names.add(code)
            if code in self._names:
                return f"{self._provider}:{code}"
        return f"{self._provider}:{status}"
