"""What the simulators have in common whose one request carries many registrations.

A request is judged first and takes effect afterwards, so that one which a fault swallows has no effect. The
log has one line per registration; its `status` is what became of that registration, whatever HTTP said:

    200   shown on the device (or handed to the app)
    204   shown to nobody, though the provider took it: it says nothing of single registrations
    400   refused, with the provider's code or word as `reason`
    409   a repeat that the provider recognised: not shown a second time
    else  the HTTP status of a request that was refused as a whole; 0: it was swallowed

Authorization has a name of its own among providers ("hms-auth"), for faults and for counting.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl

import orjson

from clarion.http2.frames import Header
from clarion.http2.server import ServerConnection
from clarion.sandbox.answer import JSON_TYPE, Answer
from clarion.sandbox.faults import Rule
from clarion.sandbox.log import quoted, safe
from clarion.sandbox.service import _SWALLOWED, Service, Shared, Talk, Verdict

SHOWN: Final = 200
DROPPED: Final = 204
REFUSED: Final = 400
REPEATED: Final = 409
STREAMS: Final = 128
REMEMBERED: Final = 200_000  # keys and pairs of key and registration

CHINA: Final = timezone(timedelta(hours=8))
_NEVER: Final = re.compile(rb"(?!)")
_HTML: Final = (b"content-type", b"text/html")


class Line(NamedTuple):
    """What became of one registration."""

    token: str
    status: int = SHOWN
    reason: str | None = None
    key: str | None = None
    content: str | None = None


@dataclass(slots=True)
class Judged:
    """What the provider says, and what it does then."""

    answer: Answer
    lines: list[Line] = field(default_factory=list)
    effect: Callable[[], None] | None = None
    auth: bool = False  # it was about authorization


class Refusal(Exception):
    """The provider refuses a request as a whole."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.reason)
        self.answer = answer


class Vendor(Service):
    """One provider. Subclasses judge."""

    path_form = _NEVER  # nothing is taken by template

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.auth_rules = shared.rules[f"{self.provider}-auth"]
        self.auth_tally = shared.tallies[f"{self.provider}-auth"]
        self._second = 0
        self._in_second = 0
        self._days: dict[str, tuple[str, int]] = {}  # what is counted → (day, how many)

    def streams(self, transport: asyncio.Transport) -> int:
        """As many as there are."""
        return STREAMS

    # ---- what each provider says

    def trust(self, credential: Mapping[str, Any]) -> None:
        """Believe one more credential. Raises KeyError or ValueError."""
        raise NotImplementedError

    def decide(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Judged:
        """The provider's answer. Raises Refusal."""
        raise NotImplementedError

    def names(self, body: bytes) -> list[str]:
        """The registrations that a body names, as far as it can be read: for the log of what is refused."""
        return []

    # ---- requests

    def request(
        self,
        conn: ServerConnection,
        stream_id: int,
        method: bytes,
        path: bytes,
        headers: list[Header],
        body: bytes,
    ) -> None:
        """Judge, let a rule have its way, take effect, answer."""
        now = time.time()
        judged = self._judged(method.decode("ascii", "replace"), path, dict(headers), body)
        rule = self._rule(judged)
        if rule is not None:
            self._play_on(rule, conn, stream_id, now, judged)  # type: ignore[arg-type]
            return
        self._book(now, judged, judged.answer)
        self._answer(conn, stream_id, judged.answer)  # type: ignore[arg-type]

    def _judged(self, method: str, path: bytes, headers: dict[bytes, bytes], body: bytes) -> Judged:
        try:
            return self.decide(method, path.decode("ascii", "replace"), headers, body)
        except Refusal as refusal:
            answer = refusal.answer
            tokens = self.names(body)
            status = REFUSED if answer.status == 200 else answer.status
            return Judged(answer, [Line(token, status, answer.reason) for token in tokens])

    def _rule(self, judged: Judged) -> Rule | None:
        for rule in self.auth_rules if judged.auth else self.rules:
            if rule.effect == "refuse_connections":
                continue
            tokens = [line.token for line in judged.lines] or [""]
            wanted = next((t for t in tokens if rule.token is None or rule.token.match(t)), None)
            if wanted is not None and rule.wants(self.origin, wanted):
                return rule
        return None

    def _play_on(self, rule: Rule, conn: Talk, stream_id: int, now: float, judged: Judged) -> None:
        effect = rule.effect
        answer = judged.answer
        if effect in ("status", "reject_credential"):
            answer = self._replaced(rule)
            self._book(now, Judged(answer, _refused_all(judged, answer), auth=judged.auth), answer)
        elif effect in _SWALLOWED and rule.value not in ("graceful", "body") and not rule.processed:
            answer = _SWALLOWED[effect]
            self._book(now, Judged(answer, _refused_all(judged, answer), auth=judged.auth), answer)
        else:
            self._book(now, judged, answer)
        body = b"<html>\x00\xff</not" if effect == "garbage" and rule.value == "body" else answer.body
        verdict: Verdict = (answer, "", "null", "null", (), body)
        act = partial(self._act, rule, conn, stream_id, verdict)
        if rule.delay:
            asyncio.get_running_loop().call_later(rule.delay, act)
        else:
            act()

    def _answer(self, conn: Talk, stream_id: int, answer: Answer) -> None:
        conn.respond(stream_id, answer.status, answer.headers, answer.body)

    def _book(self, now: float, judged: Judged, answer: Answer) -> None:
        """Count it, write its lines, let it take effect."""
        (self.auth_tally if judged.auth else self.tally).add(answer.kind, now)
        if judged.effect is not None:
            judged.effect()
        for token, status, reason, key, content in judged.lines:
            self.shared.log.add(
                f'{{"t":{now:.6f},{self._line}{safe(token)}","status":{status},"key":{quoted(key)},'
                f'"content":{quoted(content)},"reason":{quoted(reason)}}}\n'
            )

    # ---- for who falls silent

    def make_profile(self, headers: tuple[Header, ...]) -> Any:
        """Nothing is known beforehand."""
        return None

    def judge(
        self, conn: Talk, profile: Any, path: bytes, hole: bytes | None, body: bytes, known: bool
    ) -> Verdict:
        """Swallowed."""
        return _SWALLOWED["black_hole"], "", "null", "null", (), b""

    def record(self, now: float, answer: Answer, token: str, key: str, content: str) -> None:
        """Counted only."""
        self.tally.add(answer.kind, now)

    # ---- what subclasses use

    def too_fast(self, setting: str, count: int) -> bool:
        """Whether so many more are over the rate a second that `setting` says (0: there is none)."""
        most = getattr(self.shared.settings, setting)
        if not most:
            return False
        second = int(self.shared.clock())
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += count
        return bool(self._in_second > most)

    def over_day(self, what: str, setting: str, count: int) -> bool:
        """Whether so many more are over the day's quota (0: there is none). They count if they are not."""
        most = getattr(self.shared.settings, setting)
        day = self.moment().strftime("%Y%m%d")
        before, used = self._days.get(what, (day, 0))
        used = used if before == day else 0
        if most and used + count > most:
            return True
        self._days[what] = day, used + count
        return False

    def moment(self) -> datetime:
        """The provider's time of day."""
        return datetime.fromtimestamp(self.shared.clock(), UTC).astimezone(CHINA)

    def content(self, title: str, body: str) -> str:
        """What the log calls it."""
        return self.shared.log.content(title, body)

    def forget(self) -> None:
        """Quotas are whole again."""
        self._days.clear()


class Memory:
    """Keys that were seen, the oldest forgotten."""

    def __init__(self) -> None:
        self._seen: dict[Any, Any] = {}

    def __contains__(self, key: Any) -> bool:
        return key in self._seen

    def get(self, key: Any) -> Any:
        """What was said then; None if it was not."""
        return self._seen.get(key)

    def add(self, key: Any, value: Any = True) -> None:
        """Seen."""
        if len(self._seen) >= REMEMBERED:
            del self._seen[next(iter(self._seen))]
        self._seen[key] = value


def json_answer(value: Any, status: int = 200, reason: str | None = None) -> Answer:
    """An answer in JSON."""
    return Answer(status, reason, [JSON_TYPE], orjson.dumps(value))


def bare(status: int) -> Answer:
    """What a gateway says: no JSON."""
    return Answer(status, str(status), [_HTML], b"<html><body>%d</body></html>" % status)


def form_of(body: bytes) -> dict[str, str]:
    """A form, strictly; of one name the last value stands. Raises ValueError."""
    if not body:
        return {}
    return dict(parse_qsl(body.decode("ascii"), keep_blank_values=True, strict_parsing=True, errors="strict"))


def object_of(body: bytes | str) -> dict[str, Any]:
    """A JSON object. Raises ValueError."""
    value = orjson.loads(body)
    if not isinstance(value, dict):
        raise ValueError("not an object")
    return value


def is_text(value: Any, most: int, least: int = 1) -> bool:
    """Whether it is a text of so many characters."""
    return isinstance(value, str) and least <= len(value) <= most


def is_number(value: Any, least: int, most: int) -> bool:
    """Whether it is an integer in this range."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _refused_all(judged: Judged, answer: Answer) -> list[Line]:
    status = REFUSED if answer.status == 200 else answer.status
    return [Line(line.token, status, answer.reason) for line in judged.lines]
