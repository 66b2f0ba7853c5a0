"""What the simulators have in common: judging, answering, logging, and playing faults."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, TypeAlias

import orjson

from clarion.http2.frames import Header
from clarion.http2.server import OverLimit, ServerConnection
from clarion.sandbox.answer import Answer, Kind, swallowed
from clarion.sandbox.faults import PROVIDERS, Graveyard, Rule
from clarion.sandbox.log import RequestLog
from clarion.sandbox.plain import PlainConnection
from clarion.sandbox.swift import SwiftConnection

Talk: TypeAlias = SwiftConnection | PlainConnection
# (answer, registration, key and content as JSON for the log, headers beside the answer's, body)
Verdict: TypeAlias = tuple[Answer, str, str, str, Any, bytes]

PROFILES: Final = 1_024
LINGER: Final = 5.0  # a graceful GOAWAY closes the connection after so long
_SWALLOWED: Final = {name: swallowed(name) for name in ("black_hole", "reset", "goaway", "garbage")}
_GARBAGE: Final = b"<html>\x00\xff</not"


@dataclass
class Settings:
    """What can be changed while the sandbox runs (POST /settings)."""

    clock: float = 0.0  # seconds by which the providers' clock is ahead of ours
    apns_streams: int = 1000
    apns_drop_after_error: bool = False  # one stream after a 4xx other than 410, until the next 200
    apns_bad_tokens: int = 0  # a connection ends after so many BadDeviceToken; 0: never
    over_limit: OverLimit = OverLimit.REFUSE
    fcm_streams: int = 100
    fcm_quota: int = 0  # messages a minute and project; 0: no limit
    webpush_streams: int = 100
    hms_token_seconds: int = 3_600
    hms_devices_per_second: int = 0  # 0: no limit
    xiaomi_requests_per_second: int = 0
    xiaomi_daily: int = 0  # messages in a day
    jpush_requests_per_minute: int = 0
    getui_token_seconds: int = 86_400
    getui_requests_per_minute: int = 0
    getui_daily: int = 0  # pushes in a day
    getui_strict_batches: bool = False  # one that is unknown refuses all of a batch
    getui_lists_repeats: bool = True  # a dropped repeat stands in the answer
    umeng_requests_per_second: int = 0
    umeng_files_per_hour: int = 0
    umeng_checks_tokens: bool = False  # a list with one that is dead is refused
    jpush_strict_lists: bool = False  # a list with one that is unknown is refused as a whole
    oppo_token_seconds: int = 86_400
    oppo_devices_per_second: int = 0
    oppo_daily: int = 0  # public messages in a day
    oppo_says_duplicate: bool = False  # a repeated app_message_id is answered by 32
    vivo_token_seconds: int = 86_400
    vivo_messages_per_second: int = 0
    vivo_operation_daily: int = 0  # messages in a day
    vivo_system_daily: int = 0
    vivo_saves_daily: int = 0  # contents saved for lists in a day
    vivo_review: bool = False  # the app is under review: test messages only
    vivo_text_rule: bool = False  # texts that look like a test are refused
    honor_token_seconds: int = 3_600
    honor_requests_per_second: int = 0
    meizu_requests_per_second: int = 0
    meizu_daily: int = 0  # public messages in a day
    meizu_value_by_target: bool = False  # registration → code, not code → registrations
    hms_urgency: bool = False  # the app has the right to urgency HIGH
    decrypt: float = 1.0  # share of the Web Push registrations whose messages are decrypted


@dataclass
class Tally:
    """Requests of one provider."""

    kinds: Counter[Kind] = field(default_factory=Counter)
    most_per_second: int = 0
    _second: int = 0
    _in_second: int = 0

    def add(self, kind: Kind, now: float) -> None:
        """One more."""
        self.kinds[kind] += 1
        second = int(now)
        if second != self._second:
            self._second, self._in_second = second, 0
        self._in_second += 1
        if self._in_second > self.most_per_second:
            self.most_per_second = self._in_second

    def counts(self) -> dict[str, Any]:
        """By status and reason."""
        statuses: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        for (status, reason), count in self.kinds.items():
            statuses[str(status)] += count
            if reason is not None:
                reasons[reason] += count
        return {
            "requests": self.kinds.total(),
            "statuses": dict(statuses),
            "reasons": dict(reasons),
            "most_per_second": self.most_per_second,
        }


class Shared:
    """What all services of one sandbox share."""

    def __init__(self, log: RequestLog, settings: Settings | None = None) -> None:
        self.log = log
        self.settings = settings or Settings()
        self.rules: dict[str, list[Rule]] = {name: [] for name in PROVIDERS}
        self.graves: dict[str, Graveyard] = {name: Graveyard() for name in PROVIDERS}
        self.tallies: dict[str, Tally] = {name: Tally() for name in PROVIDERS}

    def clock(self) -> float:
        """The providers' clock, epoch seconds."""
        return time.time() + self.settings.clock


class Service:
    """One simulated provider (of Web Push: one origin). Subclasses judge; `take` is their hot path."""

    provider: str
    hole: bytes | None = None
    hole_form: Any = None
    path_form: Any

    def __init__(self, shared: Shared, origin: int = 0) -> None:
        self.shared = shared
        self.origin = origin
        self.connections: set[Talk] = set()
        self.rules = shared.rules[self.provider]
        self.graves = shared.graves[self.provider]
        self.tally = shared.tallies[self.provider]
        self._profiles: dict[tuple[Header, ...], Any] = {}
        self._line = f'"provider":"{self.provider}","token":"'

    # ---- connections

    def swift(self, transport: asyncio.Transport) -> SwiftConnection:
        """A connection that speaks HTTP/2."""
        conn = SwiftConnection(
            self,
            streams=self.streams(transport),
            over_limit=self.shared.settings.over_limit,
            closed=self._gone,
        )
        self.connections.add(conn)
        return conn

    def plain(self, transport: asyncio.Transport) -> PlainConnection:
        """A connection that speaks HTTP/1.1."""
        conn = PlainConnection(self, closed=self._gone)
        self.connections.add(conn)
        return conn

    def streams(self, transport: asyncio.Transport) -> int:
        """How many concurrent streams a new connection gets."""
        raise NotImplementedError

    def _gone(self, conn: Any, reason: str) -> None:
        self.connections.discard(conn)

    # ---- judging

    def make_profile(self, headers: tuple[Header, ...]) -> Any:
        """What is to be known of headers (without path and hole) before a body is seen."""
        raise NotImplementedError

    def judge(
        self, conn: Talk, profile: Any, path: bytes, hole: bytes | None, body: bytes, known: bool
    ) -> Verdict:
        """What the provider says. `path` and `hole` may be of any form unless it is `known` to be right."""
        raise NotImplementedError

    def error(self, status: int | None, reason: str | None) -> Answer:
        """The provider's own words for an error; None: as the other one implies."""
        raise NotImplementedError

    def rejection(self, reason: str | None) -> Answer:
        """The provider's own words for a key or token that it does not accept."""
        raise NotImplementedError

    def profile(self, headers: list[Header]) -> Any:
        """The profile of these headers, from memory if they were seen before."""
        hole = self.hole
        rest = tuple(header for header in headers if header[0] != b":path" and header[0] != hole)
        if hole is not None and sum(name == hole for name, _ in headers) > 1:
            rest += ((hole, b""),) * 2
        found = self._profiles.get(rest)
        if found is None:
            if len(self._profiles) >= PROFILES:
                self._profiles.clear()
            found = self._profiles[rest] = self.make_profile(rest)
        return found

    def request(
        self,
        conn: ServerConnection,
        stream_id: int,
        method: bytes,
        path: bytes,
        headers: list[Header],
        body: bytes,
    ) -> None:
        """Any request: the general way."""
        hole = next((value for name, value in headers if name == self.hole), None) if self.hole else None
        profile = self.profile(headers)
        self.take(conn, stream_id, profile, path, hole, body, False)  # type: ignore[arg-type]

    def take(
        self,
        conn: Talk,
        stream_id: int,
        profile: Any,
        path: bytes,
        hole: bytes | None,
        body: bytes,
        known: bool = True,
    ) -> None:
        """Judge, log, answer; or whatever a rule wants."""
        now = time.time()
        verdict = self.judge(conn, profile, path, hole, body, known)
        if self.rules and (rule := self._rule_for(verdict[1])) is not None:
            self._play(rule, conn, stream_id, now, verdict)
            return
        self.record(now, *verdict[:4])
        self.deliver(conn, stream_id, verdict)

    def record(self, now: float, answer: Answer, token: str, key: str, content: str) -> None:
        """Count it and write its line; token, key and content as they stand in JSON."""
        self.tally.add(answer.kind, now)
        self.shared.log.add(
            f'{{"t":{now:.6f},{self._line}{token}","status":{answer.status},'
            f'"key":{key},"content":{content},"reason":{answer.tail}'
        )

    def deliver(self, conn: Talk, stream_id: int, verdict: Verdict) -> None:
        """Send the answer."""
        answer, _, _, _, extra, body = verdict
        conn.respond(stream_id, answer.status, (*answer.headers, *extra), body or answer.body)

    # ---- faults

    def _rule_for(self, token: str) -> Rule | None:
        for rule in self.rules:
            if rule.effect != "refuse_connections" and rule.wants(self.origin, token):
                return rule
        return None

    def _play(self, rule: Rule, conn: Talk, stream_id: int, now: float, verdict: Verdict) -> None:
        effect = rule.effect
        if effect in ("status", "reject_credential"):
            answer = self._replaced(rule)
            verdict = (answer, *verdict[1:5], b"")
        elif effect == "garbage" and rule.value == "body":
            verdict = (*verdict[:5], _GARBAGE)
        act = partial(self._act, rule, conn, stream_id, verdict)
        lost = effect in _SWALLOWED and rule.value not in ("graceful", "body")
        answer = _SWALLOWED[effect] if lost and not rule.processed else verdict[0]
        self.record(now, answer, *verdict[1:4])
        if rule.delay:
            asyncio.get_running_loop().call_later(rule.delay, act)
        else:
            act()

    def _replaced(self, rule: Rule) -> Answer:
        if rule.effect == "reject_credential":
            answer = self.rejection(rule.value if isinstance(rule.value, str) else rule.reason)
        else:
            answer = self.error(rule.value, rule.reason)
        if rule.headers:
            answer = answer.with_headers(rule.headers)
        return answer if rule.body is None else answer.with_body(rule.body)

    def _act(self, rule: Rule, conn: Talk, stream_id: int, verdict: Verdict) -> None:
        effect, value = rule.effect, rule.value
        if effect == "black_hole":
            if value == "connection":
                conn.mute = True
                conn.hand_over(Silence(self))
        elif effect == "reset" and value == "stream":
            conn.reset(stream_id, 2 if rule.code is None else rule.code)
        elif effect == "reset":
            conn.mute = True
            conn.abort()
        elif effect == "garbage" and value == "frames":
            conn.garbage()
        elif effect == "goaway" and value == "abrupt":
            self._leave(rule, conn, stream_id if rule.processed else max(stream_id - 2, 0))
            conn.close()
        elif effect == "goaway":
            self._answer_and_leave(rule, conn, stream_id, verdict)
        else:
            if effect == "drip":
                conn.drip(float(value))
            if effect == "streams":
                conn.settings(max_concurrent_streams=value, at_once=True)
            self.deliver(conn, stream_id, verdict)

    def _answer_and_leave(self, rule: Rule, conn: Talk, stream_id: int, verdict: Verdict) -> None:
        if isinstance(conn, PlainConnection):  # says it in the answer
            self._leave(rule, conn, None)
            self.deliver(conn, stream_id, verdict)
        else:  # many clients hear nothing any more behind a GOAWAY
            self.deliver(conn, stream_id, verdict)
            self._leave(rule, conn, stream_id)

    def _leave(self, rule: Rule, conn: Talk, last: int | None) -> None:
        debug = orjson.dumps({"reason": rule.reason}) if rule.reason else b""
        conn.goaway(last, rule.code or 0, debug)
        if rule.value == "graceful":
            asyncio.get_running_loop().call_later(LINGER, conn.close)

    def strike(self, rule: Rule) -> None:
        """A rule that hits every open connection at once."""
        for conn in list(self.connections):
            rule.hits += 1
            if rule.effect == "reset":
                conn.abort()
            else:
                self._leave(rule, conn, None)
                if rule.value == "abrupt":
                    conn.close()


class Silence:
    """Swallows the requests of a connection that has fallen silent; the log still says that they came."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def request(
        self,
        conn: ServerConnection,
        stream_id: int,
        method: bytes,
        path: bytes,
        headers: list[Header],
        body: bytes,
    ) -> None:
        """Never answered."""
        service = self._service
        hole = next((value for name, value in headers if name == service.hole), None)
        profile = service.profile(headers)
        verdict = service.judge(conn, profile, path, hole, body, False)  # type: ignore[arg-type]
        service.record(time.time(), _SWALLOWED["black_hole"], *verdict[1:4])
