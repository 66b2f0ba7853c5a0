"""Web Push: RFC 8030 requests, encrypted for each browser, to whatever push service its endpoint names.

One lane reaches many services. Each is a `_Place` with its own connection, its own silence after a 429 and
its own failures; a place without room holds a few deliveries for a moment, never longer than an operator's
word is good for.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, NamedTuple, cast

from clarion import limits
from clarion.errors import BadCredential
from clarion.http2.client import Fate
from clarion.http2.frames import Header, literal
from clarion.http2.origin import Origin
from clarion.model.message import Message
from clarion.render import Renderings
from clarion.senders.answers import LONGEST_WAIT, NOT_SENT, UNANSWERED, retry_after
from clarion.senders.endpoint import ForbiddenAddress, Gatekeeper
from clarion.senders.facts import LONGEST, dedup_key, lifetime, web_topic
from clarion.senders.link import Surroundings
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind, Scope
from clarion.senders.sender import Answered, PushFacts, Unsendable
from clarion.senders.tls import client_tls
from clarion.senders.vapid import Vapid
from clarion.senders.webpush_answers import read
from clarion.senders.webpush_crypto import encrypt
from clarion.senders.webpush_payload import renderings
from clarion.store.base64url import decode_base64
from clarion.store.credentials import Credential

IN_FLIGHT: Final = 1_000
BURST: Final = 64  # encrypted without letting anybody else have the loop: about 7 ms
PATIENCE: Final = 0.4  # a delivery waits so long for room at its place; a pause is obeyed meanwhile
PLACES: Final = 256  # services with a connection; the one that is longest unused makes way
IDLE: Final = 300.0
UNREACHABLE_SECONDS: Final = 30.0

FORBIDDEN: Final = Outcome(OutcomeKind.REJECTED, "clarion:bad_endpoint")
UNREACHABLE: Final = Outcome(OutcomeKind.UNAVAILABLE, "webpush:Unreachable", retry_after=UNREACHABLE_SECONDS)
NO_ROOM: Final = replace(NOT_SENT, retry_after=1.0)
QUIET: Final = Outcome(OutcomeKind.THROTTLED, "webpush:Quiet", attempt=False, scope=Scope.HOST)
BAD_TOKEN: Final = Outcome(OutcomeKind.REJECTED, "clarion:bad_token")
_WNS: Final = ".notify.windows.com"

Key = tuple[int, Answered]  # what a request is posted under


class Prepared:
    """A message for browsers: its plaintexts, and the headers that are the same for every browser."""

    __slots__ = ("extra", "extra_wns", "needs_values", "texts")

    def __init__(self, texts: Renderings, extra: bytes, extra_wns: bytes) -> None:
        self.texts = texts
        self.needs_values = texts.needs_values
        self.extra = extra
        self.extra_wns = extra_wns


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


class WebPushSender:
    """The sender of one VAPID key; see `clarion.senders.sender.Sender`."""

    provider = "webpush"

    def __init__(self, credential: Credential, around: Surroundings) -> None:
        """Raises BadCredential."""
        self.clock = around.clock
        self.vapid, self.gatekeeper, self.tls = self._taken_up(credential)
        self.out = 0  # posted and not answered
        self._burst = 0
        self._places: dict[str, _Place] = {}
        self._wakes: list[Callable[[], None]] = []

    def _taken_up(self, credential: Credential) -> tuple[Vapid, Gatekeeper, ssl.SSLContext]:
        secret, settings = credential.secret, credential.settings
        try:
            vapid = Vapid(secret["private_key"], secret["public_key"], secret["subject"], self.clock)
            return vapid, Gatekeeper(settings.get("allow", ())), client_tls(settings.get("ca"))
        except (KeyError, ValueError) as error:
            raise BadCredential(f"credential {credential.name} is not usable for Web Push") from error

    def adopt(self, credential: Credential) -> None:
        """Take up a changed credential: new connections carry the new key, old ones drain. BadCredential."""
        self.vapid, self.gatekeeper, self.tls = self._taken_up(credential)
        for place in list(self._places.values()):
            self._drop(place)

    # ── what attempts ask ─────────────────────────────────────────────────────────────────────────

    def prepare(self, push: PushFacts, message: Message) -> Prepared:
        """Plaintexts, TTL, Urgency and Topic. TTL is always said: RFC 8030 §5.2 demands it."""
        ttl = lifetime(push, message, self.clock.time())
        ttl = LONGEST if ttl is None else ttl
        extra = (
            literal(b"ttl", b"%d" % ttl)
            + literal(b"urgency", b"high" if push.high else b"normal")
            + literal(b"topic", web_topic(dedup_key(push, message)).encode())
        )
        # Windows refuses TTL 0 unless it is told not to cache, and takes it with either otherwise.
        policy = literal(b"x-wns-cache-policy", b"cache" if ttl else b"no-cache")
        return Prepared(renderings(push, message), extra, extra + policy)

    def post(
        self,
        prepared: Any,  # Prepared
        key: int,
        registration_no: int,
        token: str,
        locale: str,
        variant: int,
        values: Mapping[str, Any] | None,
        answered: Answered,
    ) -> None:
        """Hand one delivery to its place. Raises Unsendable, MissingValue, TooLarge."""
        plaintext = prepared.texts.ready.get(locale) or prepared.texts.body(locale, values)
        origin, path, point, auth = _parts(token)
        extra = prepared.extra_wns if origin.endswith(_WNS) else prepared.extra
        place = self._places.get(origin) or self._open(origin)
        self._burst += 1
        self.out += 1
        due = self.clock.monotonic() + PATIENCE
        place.take(Parcel(due, key, answered, path, extra, plaintext, point, auth))

    def room(self) -> int:
        """Deliveries that may be posted in this turn of the loop."""
        return max(0, min(BURST - self._burst, IN_FLIGHT - self.out))

    def flush(self) -> None:
        """Let everything posted in this turn leave; whoever had more to post is called again."""
        for place in self._places.values():
            place.origin.flush()
        if self._burst:
            self._burst = 0
            asyncio.get_running_loop().call_soon(self.wake)

    def when_room(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` whenever `room()` may have grown. Returns how to stop it."""
        self._wakes.append(wake)

        def stop() -> None:
            with suppress(ValueError):
                self._wakes.remove(wake)

        return stop

    def waiting(self) -> str | None:
        """The places answer for themselves: a lane as a whole waits for nothing."""
        return None

    def wake(self) -> None:
        """Tell everybody that there may be room."""
        for wake in tuple(self._wakes):
            wake()

    def start(self) -> None:
        """Places are opened by the first delivery to them."""

    def reconsider(self) -> None:
        """Nothing is ever given up for good in here."""

    async def tend(self) -> None:
        """To be called every second or so: closes places that nobody has used for long."""
        horizon = self.clock.monotonic() - IDLE
        for place in [p for p in self._places.values() if p.used_at < horizon and not p.busy]:
            self._drop(place)

    async def close(self) -> None:
        """Give up all connections."""
        places = list(self._places.values())
        self._places.clear()
        await asyncio.gather(*(place.close() for place in places))

    # ── places ────────────────────────────────────────────────────────────────────────────────────

    def _open(self, origin: str) -> _Place:
        if len(self._places) >= PLACES:
            idle = [place for place in self._places.values() if not place.busy]
            if idle:
                self._drop(min(idle, key=lambda place: place.used_at))
        place = self._places[origin] = _Place(self, origin)
        return place

    def _drop(self, place: _Place) -> None:
        """It takes no more deliveries; what it has is answered by itself."""
        self._places.pop(place.name, None)
        self.vapid.forget(place.name)
        place.leave()


class _Place:
    """One push service: its connection, and the deliveries that wait for room on it."""

    def __init__(self, sender: WebPushSender, origin: str) -> None:
        self.name = origin
        self.used_at = sender.clock.monotonic()
        self._sender = sender
        self._parcels: deque[Parcel] = deque()
        self._quiet_until = 0.0
        self._forbidden = False
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None
        self.origin = Origin(
            origin,
            headers=self._headers,
            tls=sender.tls,
            timeout=limits.request_timeout("webpush"),
            answered=self._answered,
            unanswered=self._unanswered,
            resolve=self._resolve,
        )
        self._unwake = self.origin.when_room(self._room_changed)
        self.origin.start()

    @property
    def busy(self) -> bool:
        """Something is on its way."""
        return bool(self._parcels) or self.origin.in_flight > 0

    def take(self, parcel: Parcel) -> None:
        """A delivery for this service."""
        now = self.used_at = self._sender.clock.monotonic()
        if self._forbidden:
            self._soon(parcel, FORBIDDEN)
        elif now < self._quiet_until:
            self._soon(parcel, replace(QUIET, retry_after=self._quiet_until - now))
        elif not self._parcels and self.origin.room() > 0:
            self._post(parcel)
        else:
            self._parcels.append(parcel)
            self._look_later()

    def leave(self) -> None:
        """Close when what is on its way has been answered."""
        self._unwake()
        self._closing = asyncio.get_running_loop().create_task(self.close())

    async def close(self) -> None:
        """Answer what waits, and close the connection."""
        while self._parcels:
            self._tell(self._parcels.popleft(), NO_ROOM)
        if self._timer is not None:
            self._timer.cancel()
        await self.origin.close()

    def _post(self, parcel: Parcel) -> None:
        try:
            body = encrypt(parcel.plaintext, parcel.point, parcel.auth)
            self.origin.post((parcel.key, parcel.answered), parcel.path, parcel.extra, body)
        except ValueError:  # no point of the curve, or a path that must not be framed
            self._soon(parcel, BAD_TOKEN)

    def _room_changed(self) -> None:
        posted = 0
        while self._parcels and posted < BURST and self.origin.room() > 0:
            self._post(self._parcels.popleft())
            posted += 1
        if posted:
            self.origin.flush()
        self._sender.wake()

    def _look_later(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(PATIENCE / 4, self._look)

    def _look(self) -> None:
        """Answer those that have waited too long for room."""
        self._timer = None
        now = self._sender.clock.monotonic()
        outcome = FORBIDDEN if self._forbidden else UNREACHABLE if self.origin.failure else NO_ROOM
        while self._parcels and (self._forbidden or self._parcels[0].due <= now):
            self._tell(self._parcels.popleft(), outcome)
        if self._parcels:
            self._look_later()

    # ── answers ───────────────────────────────────────────────────────────────────────────────────

    def _answered(self, key: object, status: int, headers: Mapping[bytes, bytes], body: bytes) -> None:
        number, answered = cast("Key", key)
        self._sender.out -= 1
        outcome = read(status, headers, body)
        if outcome is not ACCEPTED and b"retry-after" in headers:
            outcome = self._later(outcome, headers[b"retry-after"])
        answered(number, outcome)

    def _later(self, outcome: Outcome, text: bytes) -> Outcome:
        """The service asks to be left alone for a while: the whole place is."""
        if outcome.kind not in (OutcomeKind.THROTTLED, OutcomeKind.UNAVAILABLE):
            return outcome
        clock = self._sender.clock
        seconds = retry_after(text, clock.time())
        if seconds is None:
            return outcome
        self._quiet_until = max(self._quiet_until, clock.monotonic() + min(seconds, LONGEST_WAIT))
        return replace(outcome, retry_after=max(outcome.retry_after, seconds))

    def _unanswered(self, key: object, fate: Fate, detail: str) -> None:
        number, answered = cast("Key", key)
        self._sender.out -= 1
        answered(number, UNANSWERED[fate])

    def _tell(self, parcel: Parcel, outcome: Outcome) -> None:
        self._sender.out -= 1
        parcel.answered(parcel.key, outcome)

    def _soon(self, parcel: Parcel, outcome: Outcome) -> None:
        asyncio.get_running_loop().call_soon(self._tell, parcel, outcome)

    # ── connecting ────────────────────────────────────────────────────────────────────────────────

    async def _headers(self) -> Sequence[Header]:
        return [
            (b"authorization", self._sender.vapid.authorization(self.name)),
            (b"content-encoding", b"aes128gcm"),
            (b"content-type", b"application/octet-stream"),
        ]

    async def _resolve(self, host: str, port: int) -> str:
        try:
            address = await self._sender.gatekeeper.resolve(host, port)
        except ForbiddenAddress:
            self._forbidden = True
            raise
        self._forbidden = False
        return address


def _parts(token: str) -> tuple[str, bytes, bytes, bytes]:
    """Origin, path, point and secret of a stored subscription. Raises Unsendable."""
    try:
        endpoint, p256dh, auth = token.split(" ")
        scheme, nothing, host, path = endpoint.split("/", 3)
    except ValueError:
        raise Unsendable("bad_token") from None
    point, secret = decode_base64(p256dh), decode_base64(auth)
    if scheme != "https:" or nothing or not host or point is None or secret is None:
        raise Unsendable("bad_token")
    return f"https://{host}", b"/" + path.encode("ascii"), point, secret
