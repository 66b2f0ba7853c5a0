"""A place: one push service as a Web Push sender knows it.

Its connection, the deliveries that wait for room on it, and how it has been doing. What is wrong with one
service is that service's alone: its deliveries wait or fail, other places go on.

A delivery waits `PATIENCE` seconds for room and is answered as not sent afterwards, so that nothing leaves
later than that after an operator's word was good. A service that answers nothing, or only that it cannot, is
left alone for a while (`Standing`), and then asked by a few deliveries before the rest follow.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from clarion import limits
from clarion.http2.client import Fate
from clarion.http2.frames import Header
from clarion.http2.origin import Origin
from clarion.senders.answers import NOT_SENT, UNANSWERED, retry_after
from clarion.senders.endpoint import ForbiddenAddress
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind, Scope
from clarion.senders.plain_origin import PlainOrigin
from clarion.senders.sender import Answered
from clarion.senders.webpush_answers import OF_DEVICE, read
from clarion.senders.webpush_crypto import encrypt

if TYPE_CHECKING:
    from clarion.senders.webpush import WebPushSender

WNS: Final = ".notify.windows.com"
APPLE: Final = ".push.apple.com"

PATIENCE: Final = 0.4  # a delivery waits so long for room at its place; a pause is obeyed meanwhile
CONNECTIONS: Final = 4  # to one service, when one is not enough
PLAIN_FOR: Final = 3_600.0  # a service without HTTP/2 is asked anew whether it has learned it
DRAIN_MARGIN: Final = 1.0

TROUBLED: Final = 20  # bad answers more than good ones: the service is left alone for a while,
PROBES: Final = 5  # and asked by so many at a time afterwards
UNREACHABLE_AFTER: Final = 2  # connects in vain; a lost connection and one more may be nothing
ONE_LOSS: Final = 0.05  # losses so close together are one
PAUSE_FIRST: Final = 1.0
PAUSE_MOST: Final = 30.0
OUTAGE: Final = 60.0  # a service down for longer costs its deliveries attempts
AGAIN: Final = (
    30.0,
    300.0,
)  # seconds until a delivery to a service that is down goes again: at least, at most

FORBIDDEN: Final = Outcome(OutcomeKind.REJECTED, "clarion:bad_endpoint")
BAD_TOKEN: Final = Outcome(OutcomeKind.REJECTED, "clarion:bad_token")
NO_ROOM: Final = replace(NOT_SENT, retry_after=1.0, scope=Scope.HOST)
QUIET: Final = Outcome(OutcomeKind.THROTTLED, "webpush:Quiet", attempt=False, scope=Scope.HOST)
UNREACHABLE: Final = Outcome(OutcomeKind.UNAVAILABLE, "webpush:Unreachable", scope=Scope.HOST)
_UNANSWERED: Final = {fate: replace(outcome, scope=Scope.HOST) for fate, outcome in UNANSWERED.items()}
_IN_DOUBT: Final = frozenset(fate for fate in Fate if fate.maybe)

Key = tuple[int, Answered]  # what a request is posted under


class Parcel(NamedTuple):
    """A delivery on its way: encrypted when its place has room."""

    due: float  # monotonic; answered as not sent afterwards
    key: int
    answered: Answered
    path: bytes
    extra: bytes
    plaintext: bytes
    point: bytes
    auth: bytes


@dataclass(slots=True)
class Standing:
    """How a service has been doing; outlives its connections. Times are monotonic."""

    quiet_until: float = 0.0
    asked: bool = False  # it asked for that quiet itself
    bad: int = 0  # bad answers more than good ones, of late
    since: float = 0.0  # of the first of them
    pause: float = PAUSE_FIRST

    def good(self) -> None:
        """An answer as it should be."""
        if self.bad:
            self.bad -= 1
            if not self.bad:
                self.pause = PAUSE_FIRST

    def worse(self, now: float, *, throttled: bool = False) -> None:
        """No answer, or one that says that it cannot or will not now."""
        if not self.bad:
            self.since = now
        self.bad = min(self.bad + 1, TROUBLED)
        if self.bad == TROUBLED and now >= self.quiet_until:
            self.quiet_until, self.asked = now + self.pause, throttled
            self.pause = min(2 * self.pause, PAUSE_MOST)

    def hush(self, until: float) -> None:
        """It asks to be left alone."""
        if until > self.quiet_until:
            self.quiet_until, self.asked = until, True

    def down(self, now: float) -> Outcome:
        """What a delivery is told that could not be brought to it."""
        lasting = now - self.since if self.bad else 0.0
        least, most = AGAIN
        return replace(UNREACHABLE, attempt=lasting >= OUTAGE, retry_after=min(max(lasting, least), most))

    def quiet(self, now: float) -> Outcome | None:
        """What a delivery is told instead of being sent; None when the service can be asked."""
        if now >= self.quiet_until:
            return None
        return replace(QUIET, retry_after=self.quiet_until - now) if self.asked else self.down(now)

    def calm(self, now: float) -> bool:
        """Whether it need not be remembered."""
        return not self.bad and now >= self.quiet_until


class Place:
    """One push service: its connection, and the deliveries that wait for room on it."""

    def __init__(self, sender: WebPushSender, name: str, standing: Standing) -> None:
        """Raises ValueError when `name` is not the origin of an https URL."""
        self.name = name
        self.manner = manner(name)
        self.standing = standing
        self.used_at = self.opened_at = sender.clock.monotonic()
        self._sender = sender
        self._parcels: deque[Parcel] = deque()
        self._forbidden = False
        self._timer: asyncio.TimerHandle | None = None
        self._unwake = _nothing
        self._shown = b""  # the authorization that connections bear
        self._lost_at = float("-inf")
        self._lookups = 0  # since a connection stood
        self._drained: asyncio.Event | None = None
        self.origin: Origin | PlainOrigin = Origin(
            name,
            headers=self._headers,
            tls=sender.tls,
            timeout=limits.request_timeout("webpush"),
            answered=self._answered,
            unanswered=self._unanswered,
            resolve=self._resolve,
        )
        self.origin.start()

    @property
    def busy(self) -> bool:
        """Something is on its way."""
        return bool(self._parcels) or self.origin.in_flight > 0

    def outdated(self, now: float) -> bool:
        """Whether it should be opened anew, to see if the service has learned HTTP/2."""
        return self.origin.no_http2 and now - self.opened_at >= PLAIN_FOR

    # ── deliveries ────────────────────────────────────────────────────────────────────────────────

    def take(self, parcel: Parcel) -> None:
        """A delivery for this service."""
        now = self.used_at = self._sender.clock.monotonic()
        self._heed_protocol()
        refusal = FORBIDDEN if self._forbidden else self.standing.quiet(now)
        if refusal is not None:
            self._soon(parcel, refusal)
        elif not self._parcels and self._has_room():
            self._post(parcel)
        else:
            self._parcels.append(parcel)
            self._sender.parked += 1
            self._wait(now)

    def move(self) -> None:
        """Send on what waits, as far as there is room; answer what has waited too long."""
        now, parcels = self._sender.clock.monotonic(), self._parcels
        self._heed_protocol()
        refusal = FORBIDDEN if self._forbidden else self.standing.quiet(now)
        while parcels and (refusal is not None or parcels[0].due <= now):
            self._tell(self._next(), refusal or self._late(now))
        posted = False
        while parcels and self._sender.turn_room() > 0 and self._has_room():
            self._sender.spend()
            self._post(self._next())
            posted = True
        if posted:
            self.origin.flush()
        if parcels:
            self._wait(now)
        else:
            self._wait_no_more()

    def tend(self) -> None:
        """Show a fresh authorization before the one that connections bear lapses, whatever clocks do."""
        self._heed_protocol()
        if self._shown:
            current = self._sender.vapid.authorization(self.name)
            if current is not self._shown:
                self._shown = current
                self.origin.renew()

    def _next(self) -> Parcel:
        """The parcel that waits longest waits no more."""
        self._sender.unpark()
        return self._parcels.popleft()

    def _has_room(self) -> bool:
        if self.standing.bad >= TROUBLED and self.origin.in_flight >= PROBES:
            return False
        return self.origin.room() > 0

    def _post(self, parcel: Parcel) -> None:
        try:
            body = encrypt(parcel.plaintext, parcel.point, parcel.auth)
            self.origin.post((parcel.key, parcel.answered), parcel.path, parcel.extra, body)
        except ValueError:  # no point of the curve, or a path that must not be framed
            self._soon(parcel, BAD_TOKEN)
        except ConnectionError:  # it has begun to leave
            self._soon(parcel, NO_ROOM)

    def _late(self, now: float) -> Outcome:
        """What one is told that has waited too long."""
        if self.origin.failures < UNREACHABLE_AFTER:
            self.origin.widen(CONNECTIONS)
            return NO_ROOM
        self.standing.worse(now)
        return self.standing.down(now)

    def _wait(self, now: float) -> None:
        if self._timer is None:
            delay = max(self._parcels[0].due - now, 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._look)
            self._unwake = self.origin.when_room(self.move)
            self._sender.waiting_places.add(self)

    def _wait_no_more(self) -> None:
        self._sender.waiting_places.discard(self)
        self._unwake()
        self._unwake = _nothing
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._wait_no_more()
        self.move()

    # ── answers ───────────────────────────────────────────────────────────────────────────────────

    def _answered(self, key: object, status: int, headers: Mapping[bytes, bytes], body: bytes) -> None:
        number, answered = cast("Key", key)
        self._done()
        outcome = read(status, headers, body)
        if outcome is ACCEPTED:
            self.standing.good()
            self._sender.proven = True
        else:
            outcome = self._conclude(outcome, headers.get(b"retry-after"))
        answered(number, outcome)

    def _conclude(self, outcome: Outcome, asked: bytes | None) -> Outcome:
        if outcome.kind is OutcomeKind.REJECTED:
            self.standing.good()
            if outcome.suspect:
                self._sender.doubted = True
                # A key that is good elsewhere is good: the rest of the lane goes on.
                return replace(outcome, suspect=not self._sender.proven)
            return outcome
        clock = self._sender.clock
        now = clock.monotonic()
        seconds = None if asked is None else retry_after(asked, clock.time())
        if seconds and outcome.reason not in OF_DEVICE:
            self.standing.hush(now + seconds)
        else:
            self.standing.worse(now, throttled=outcome.kind is OutcomeKind.THROTTLED)
        outcome = replace(outcome, retry_after=max(outcome.retry_after, seconds or 0.0))
        return self._excused(outcome, now)

    def _unanswered(self, key: object, fate: Fate, detail: str) -> None:
        number, answered = cast("Key", key)
        self._done()
        outcome = _UNANSWERED[fate]
        if fate in _IN_DOUBT:
            now = self._sender.clock.monotonic()
            # All that was on a lost connection is lost at once: that is one mishap, not a hundred.
            if fate is not Fate.LOST or now >= self._lost_at + ONE_LOSS:
                self.standing.worse(now)
            self._lost_at = now if fate is Fate.LOST else self._lost_at
            outcome = self._excused(outcome, now)
        answered(number, outcome)

    def _excused(self, outcome: Outcome, now: float) -> Outcome:
        """A probe of a service that is down is no attempt, unless that lasts."""
        standing = self.standing
        if standing.bad < TROUBLED or not outcome.attempt or now - standing.since >= OUTAGE:
            return outcome
        return replace(outcome, attempt=False)

    def _done(self) -> None:
        self._sender.done()
        if self._drained is not None and not self.origin.in_flight:
            self._drained.set()

    def _tell(self, parcel: Parcel, outcome: Outcome) -> None:
        self._sender.done()
        parcel.answered(parcel.key, outcome)

    def _soon(self, parcel: Parcel, outcome: Outcome) -> None:
        asyncio.get_running_loop().call_soon(self._tell, parcel, outcome)

    # ── connecting ────────────────────────────────────────────────────────────────────────────────

    async def _headers(self) -> Sequence[Header]:
        self._shown = self._sender.vapid.authorization(self.name)
        return [
            (b"authorization", self._shown),
            (b"content-encoding", b"aes128gcm"),
            (b"content-type", b"application/octet-stream"),
        ]

    async def _resolve(self, host: str, port: int) -> str:
        turn = self._lookups if self.origin.failure else 0
        self._lookups = turn + 1
        try:
            address = await self._sender.gatekeeper.resolve(host, port, turn)
        except ForbiddenAddress:
            self._forbidden = True
            raise
        self._forbidden = False
        return address

    def _heed_protocol(self) -> None:
        if self.origin.no_http2 and isinstance(self.origin, Origin):
            self._go_plain(self.origin)

    def _go_plain(self, old: Origin) -> None:
        """The service does not speak HTTP/2."""
        self._wait_no_more()
        self._sender.let_go(old.close())
        self.origin = PlainOrigin(
            self.name,
            headers=self._headers,
            tls=self._sender.plain_tls,
            timeout=limits.request_timeout("webpush"),
            answered=self._answered,
            unanswered=self._unanswered,
            resolve=self._resolve,
        )
        self.origin.start()
        if self._parcels:
            self._wait(self._sender.clock.monotonic())

    # ── leaving ───────────────────────────────────────────────────────────────────────────────────

    def refuse(self) -> None:
        """Answer what waits as not sent."""
        self._wait_no_more()
        while self._parcels:
            self._tell(self._next(), NO_ROOM)

    async def drain(self) -> None:
        """Wait until what is on the wire has been answered or timed out, then close."""
        drained = self._drained = asyncio.Event()
        if self.origin.in_flight:
            with suppress(TimeoutError):
                async with asyncio.timeout(limits.request_timeout("webpush") + DRAIN_MARGIN):
                    await drained.wait()
        await self.origin.close()


def manner(name: str) -> str:
    """Whose peculiar wishes the service of this name has, if any."""
    return next((host for host in (WNS, APPLE) if name.endswith(host)), "")


def _nothing() -> None:
    """Nobody is to be told."""
