"""Web Push: RFC 8030 requests, encrypted for each browser, to whatever push service its endpoint names.

One lane reaches many services, each of which is a `Place` (webpush_place.py). The sender sees to what they
share: how much is encrypted in one turn of the loop, how many deliveries are out, how many places are open,
and the VAPID key.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from functools import cached_property
from typing import Any, Final

from clarion.clock import Clock
from clarion.errors import BadCredential
from clarion.http2.frames import literal
from clarion.model.message import Message
from clarion.senders.answers import NOT_SENT
from clarion.senders.endpoint import Gatekeeper
from clarion.senders.facts import LONGEST, dedup_key, grows_old, lifetime, web_topic
from clarion.senders.link import Surroundings
from clarion.senders.sender import Answered, PushFacts, Unsendable
from clarion.senders.tls import client_tls
from clarion.senders.vapid import Vapid
from clarion.senders.webpush_payload import renderings
from clarion.senders.webpush_place import APPLE, PATIENCE, WNS, Parcel, Place, Standing
from clarion.store.base64url import decode_base64
from clarion.store.credentials import Credential

IN_FLIGHT: Final = 1_000
PARKED: Final = 500  # of them without room at their places: as many as a service of 1,250/s takes in time
BURST: Final = 64  # deliveries in one turn of the loop: about 7 ms of encryption
PLACES: Final = 256  # services with a connection; the one that is longest unused makes way
IDLE: Final = 900.0
STANDINGS: Final = 4_096  # services remembered without a connection

_ALPN: Final = ("h2", "http/1.1")
BAD_TOKEN: Final = "clarion:bad_token"


class Prepared:
    """A message for browsers: its plaintexts, and the headers that are the same for every browser."""

    def __init__(self, push: PushFacts, message: Message, clock: Clock) -> None:
        """Raises BadSpec."""
        self._push, self._message = push, message
        self.texts = renderings(push, message)
        self.needs_values, self.needs_badge = self.texts.needs_values, self.texts.needs_badge
        self.freshen(clock.time())

    def freshen(self, now: float) -> None:
        """The headers as they are to be at this moment: TTL may depend on it."""
        push, message = self._push, self._message
        ttl = lifetime(push, message, now)
        ttl = LONGEST if ttl is None else ttl
        rest = literal(b"urgency", b"high" if push.high else b"normal")
        rest += literal(b"topic", web_topic(dedup_key(push, message)).encode())
        # TTL is always said: RFC 8030 section 5.2 demands it.
        self.extra = _ttl(ttl) + rest
        # Windows refuses TTL 0 unless it is told not to cache; Apple wants a TTL above 0.
        policy = literal(b"x-wns-cache-policy", b"cache" if ttl else b"no-cache")
        self.special = {WNS: self.extra + policy, APPLE: _ttl(max(ttl, 1)) + rest}
        self.fresh_until = int(now) + 1.0 if grows_old(push, message) else float("inf")


def _ttl(seconds: int) -> bytes:
    return literal(b"ttl", b"%d" % seconds)


class WebPushSender:
    """The sender of one VAPID key; see `clarion.senders.sender.Sender`."""

    provider = "webpush"

    def __init__(self, credential: Credential, around: Surroundings) -> None:
        """Raises BadCredential."""
        self.clock = around.clock
        self.proven = False  # some service has accepted something under the key,
        self.doubted = False  # or refused it
        self.out = 0  # posted and not answered,
        self.parked = 0  # of them without room yet
        self.waiting_places: set[Place] = set()
        self._take_up(credential)
        self._burst = 0  # deliveries of this turn of the loop
        self._full = False  # somebody was told that too much is out
        self._closed = False
        self._places: dict[str, Place] = {}
        self._standings: dict[str, Standing] = {}
        self._leaving: dict[asyncio.Task[None], Place | None] = {}
        self._posted: set[Place] = set()
        self._wakes: list[Callable[[], None]] = []

    def _take_up(self, credential: Credential) -> None:
        secret, settings = credential.secret, credential.settings
        try:
            vapid = Vapid(secret["private_key"], secret["public_key"], secret["subject"], self.clock)
            gatekeeper = Gatekeeper(settings.get("allow", ()))
            tls = client_tls(settings.get("ca"), alpn=_ALPN)
        except (KeyError, ValueError) as error:
            raise BadCredential(f"credential {credential.name} is not usable for Web Push") from error
        self.vapid, self.gatekeeper, self.tls, self._ca = vapid, gatekeeper, tls, settings.get("ca")
        self.__dict__.pop("plain_tls", None)

    @cached_property
    def plain_tls(self) -> ssl.SSLContext:
        """For services without HTTP/2."""
        return client_tls(self._ca, alpn=_ALPN[1:])

    def adopt(self, credential: Credential) -> None:
        """Take up a changed credential: new connections carry the new key, old ones drain. BadCredential."""
        self._take_up(credential)
        self.proven = self.doubted = False
        for place in list(self._places.values()):
            self._drop(place)

    # ── what attempts ask ─────────────────────────────────────────────────────────────────────────

    def prepare(self, push: PushFacts, message: Message) -> Prepared:
        """Plaintexts, TTL, Urgency and Topic. Raises BadSpec."""
        return Prepared(push, message, self.clock)

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
        self.spend()
        if self._closed:
            asyncio.get_running_loop().call_soon(answered, key, NOT_SENT)
            return
        if (now := self.clock.time()) >= prepared.fresh_until:
            prepared.freshen(now)
        plaintext = prepared.texts.ready.get(locale) or prepared.texts.body(locale, values)
        origin, path, point, auth = _parts(token)
        place = self._places.get(origin) or self._open(origin)
        extra = prepared.special[place.manner] if place.manner else prepared.extra
        self.out += 1
        self._posted.add(place)
        due = self.clock.monotonic() + PATIENCE
        place.take(Parcel(due, key, answered, path, extra, plaintext, point, auth))

    def room(self) -> int:
        """Deliveries that may be posted in this turn of the loop."""
        if self._closed:
            return 0
        left = min(IN_FLIGHT - self.out, PARKED - self.parked)
        if left <= 0:
            self._full = True
        return max(0, min(BURST - self._burst, left))

    def flush(self) -> None:
        """Let everything posted in this turn leave."""
        for place in self._posted:
            place.origin.flush()
        self._posted.clear()

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

    @property
    def refused(self) -> bool:
        """Whether all that was heard of our key is that it is refused."""
        return self.doubted and not self.proven

    def wake(self) -> None:
        """Tell everybody that there may be room; each time another one is the first."""
        wakes = tuple(self._wakes)
        if len(wakes) > 1:
            self._wakes.append(self._wakes.pop(0))
        for wake in wakes:
            wake()

    def start(self) -> None:
        """Places are opened by the first delivery to them."""

    def reconsider(self) -> None:
        """Nothing is ever given up for good in here."""

    async def tend(self) -> None:
        """To be called every second or so: closes places that nobody has used for long, renews VAPID."""
        now = self.clock.monotonic()
        for place in list(self._places.values()):
            if place.outdated(now) or (place.used_at < now - IDLE and not place.busy):
                self._drop(place)
            else:
                place.tend()

    async def close(self) -> None:
        """Give up all connections; what waits is answered as not sent, what is on the wire may be lost."""
        self._closed = True
        leaving = dict(self._leaving)
        for task, place in leaving.items():
            if place is not None:  # it waits for answers; the others are closing already
                task.cancel()
        await asyncio.gather(*leaving, return_exceptions=True)
        places = [*self._places.values(), *(place for place in leaving.values() if place is not None)]
        self._places.clear()
        for place in places:
            place.refuse()
        await asyncio.gather(*(place.origin.close() for place in places))

    # ── what places ask ───────────────────────────────────────────────────────────────────────────

    def turn_room(self) -> int:
        """Deliveries that may still be encrypted in this turn of the loop."""
        return BURST - self._burst

    def spend(self) -> None:
        """One of them. In the next turn those that wait at their places come first, then the attempts."""
        if not self._burst:
            asyncio.get_running_loop().call_soon(self._next_turn)
        self._burst += 1

    def done(self) -> None:
        """A delivery is answered."""
        self.out -= 1
        self._make_room()

    def unpark(self) -> None:
        """A delivery waits no more for room at its place."""
        self.parked -= 1
        self._make_room()

    def _make_room(self) -> None:
        if self._full:
            self._full = False
            asyncio.get_running_loop().call_soon(self.wake)

    def let_go(self, ending: Coroutine[Any, Any, None], place: Place | None = None) -> None:
        """See to it that something is closed in time."""
        task = asyncio.get_running_loop().create_task(ending, name="leave a push service")
        self._leaving[task] = place
        task.add_done_callback(lambda done: self._leaving.pop(done, None))

    def _next_turn(self) -> None:
        self._burst = 0
        for place in tuple(self.waiting_places):
            place.move()
        self.wake()

    # ── places ────────────────────────────────────────────────────────────────────────────────────

    def _open(self, origin: str) -> Place:
        """The place of an origin that is written in a new way, or not open. Raises Unsendable."""
        name = origin.lower().removesuffix(":443")  # the form in which VAPID names it (RFC 6454 §6.2)
        if name in self._places:
            return self._places[name]
        try:
            place = Place(self, name, self._standing(name))
        except ValueError:
            raise Unsendable(BAD_TOKEN) from None
        if len(self._places) >= PLACES:
            idle = [known for known in self._places.values() if not known.busy]
            if idle:
                self._drop(min(idle, key=lambda known: known.used_at))
        self._places[name] = place
        return place

    def _standing(self, name: str) -> Standing:
        known = self._standings
        if name not in known:
            if len(known) >= STANDINGS:
                now = self.clock.monotonic()
                calm = (n for n, one in known.items() if n not in self._places and one.calm(now))
                gone = next(calm, None) or next((n for n in known if n not in self._places), None)
                if gone is not None:
                    del known[gone]
            known[name] = Standing()
        return known[name]

    def _drop(self, place: Place) -> None:
        """It takes no more deliveries; what it has is answered by itself."""
        self._places.pop(place.name, None)
        place.refuse()
        self.let_go(place.drain(), place)


def _parts(token: str) -> tuple[str, bytes, bytes, bytes]:
    """Origin, path, point and secret of a stored subscription. Raises Unsendable."""
    try:
        endpoint, p256dh, auth = token.split(" ")
        scheme, nothing, host, path = endpoint.split("/", 3)
        raw = path.encode("ascii")
    except ValueError:
        raise Unsendable(BAD_TOKEN) from None
    point, secret = decode_base64(p256dh), decode_base64(auth)
    if scheme != "https:" or nothing or not host or point is None or secret is None:
        raise Unsendable(BAD_TOKEN)
    return f"https://{host}", b"/" + raw, point, secret
