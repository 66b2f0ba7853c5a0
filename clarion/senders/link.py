"""A sender's way to its provider: authorized links that take over from one another.

A `Link` is an origin under one authorization, which never changes. A renewed token, a rotated credential or a
connection that the provider has turned against is a new link, which takes over when it has room; the old one
keeps what it has in flight until that is answered or timed out. So it is always known which token a refused
request bore: a refusal makes one new token, and a refusal of that one blocks the lane.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import ClassVar, Final, cast

from clarion.clock import SYSTEM_CLOCK, Clock
from clarion.errors import CredentialBlocked
from clarion.http2.client import Fate
from clarion.http2.frames import Header
from clarion.http2.origin import Origin, describe
from clarion.seal import Seal
from clarion.senders.answers import NOT_SENT, UNANSWERED, Classifier
from clarion.senders.outcome import Outcome, OutcomeKind
from clarion.senders.sender import Answered
from clarion.senders.tokens import Authorization
from clarion.store.credentials import Credential
from clarion.store.database import Database

log = logging.getLogger(__name__)

LOOK_EVERY: Final = 60.0  # so often is asked whether another process has renewed the token
PROBE_AFTER: Final = 5.0  # a refused link is made anew by an attempt that starts so much later: an unblock
AGAIN_FIRST: Final = 0.5  # no token to be had: again after this, doubling
AGAIN_MOST: Final = 30.0
DRAIN_MARGIN: Final = 1.0

Key = tuple[int, Answered]  # what a request is posted under: the delivery's key, and whom to tell


@dataclass(frozen=True, slots=True)
class Access:
    """Where a credential's requests go and what authorizes them (nothing, when the TLS certificate does)."""

    url: str
    tls: ssl.SSLContext | None
    timeout: float
    authorization: Authorization | None
    headers: Callable[[str | None], Sequence[Header]]  # of the token
    connections: int = 1


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a sender needs besides its credential: where tokens are shared, and the time."""

    db: Database
    seal: Seal
    clock: Clock = SYSTEM_CLOCK


class Link(ABC):
    """One origin under one token. `forced`: the token was made because the one before was refused."""

    def __init__(self, sender: LinkSender, access: Access, token: str | None, *, forced: bool) -> None:
        self.sender = sender
        self.token = token
        self.forced = forced
        self.proven = False  # something was accepted under it
        self.refusal: str | None = None  # the reason for which the provider blocks it, and since when
        self.refused_at = 0.0
        self.left_at = 0.0
        fixed = access.headers(token)

        async def headers() -> Sequence[Header]:
            return fixed

        self.origin = Origin(
            access.url,
            headers=headers,
            tls=access.tls,
            timeout=access.timeout,
            connections=access.connections,
            answered=self.answered,
            unanswered=self.unanswered,
        )
        self.post = self.origin.post
        self.unwake = self.origin.when_room(self._room_changed)

    @abstractmethod
    def answered(self, key: object, status: int, headers: Mapping[bytes, bytes], body: bytes) -> None:
        """An answer; marks the link as proven when it is a yes, else ends in `tell`."""

    def unanswered(self, key: object, fate: Fate, detail: str) -> None:
        """No answer."""
        number, answered = cast(Key, key)
        answered(number, UNANSWERED[fate])

    def tell(self, key: object, outcome: Outcome) -> None:
        """Hand on an outcome that is not simply a yes, after the sender has drawn its conclusions."""
        number, answered = cast(Key, key)
        conclude = self.sender.conclusions.get(outcome.reason)
        if conclude is not None:
            outcome = conclude(self, outcome)
        if outcome.kind is OutcomeKind.BLOCKED and self.refusal is None:
            self.refusal, self.refused_at = outcome.reason, self.sender.clock.monotonic()
        answered(number, outcome)

    def _room_changed(self) -> None:
        self.sender.room_changed(self)


class LinkSender(ABC):
    """What the senders with one authorization have in common; see `clarion.senders.sender.Sender`."""

    provider: str
    token_reasons: ClassVar[frozenset[str]] = frozenset()  # refusals that another token may cure

    def __init__(self, access: Access, clock: Clock, classify: Classifier) -> None:
        self.clock = clock
        self.classify = classify
        self.failure: str | None = None  # why there is no authorization, in a few words without secrets
        self.conclusions: dict[str, Callable[[Link, Outcome], Outcome]] = {}
        self._access = access
        self._link: Link | None = None
        self._next: Link | None = None
        self._old: list[Link] = []
        self._refusal: Outcome | None = None  # no token can be had with this credential
        self._refused_at = 0.0
        self._wakes: list[Callable[[], None]] = []
        self._task: asyncio.Task[None] | None = None
        self._looked_at = clock.monotonic()

    @abstractmethod
    def make_link(self, access: Access, token: str | None, *, forced: bool) -> Link:
        """A link of the provider's own kind."""

    @abstractmethod
    def access_of(self, credential: Credential) -> Access:
        """Where this credential's requests go. Raises BadCredential."""

    # ── what attempts ask ─────────────────────────────────────────────────────────────────────────

    def room(self) -> int:
        """Requests that may be posted now."""
        if self._link is not None:
            return self._link.origin.room()
        return 0 if self._refusal is None else 1  # one, to be told that it is blocked

    def flush(self) -> None:
        """Let everything posted in this turn leave."""
        if self._link is not None:
            self._link.origin.flush()

    def when_room(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` whenever `room()` may have grown. Returns how to stop it."""
        self._wakes.append(wake)

        def stop() -> None:
            with suppress(ValueError):
                self._wakes.remove(wake)

        return stop

    def waiting(self) -> str | None:
        """What it waits for."""
        if self._link is not None:
            return self._link.origin.waiting()
        return None if self._refusal is not None else "authorization"

    @property
    def refused(self) -> bool:
        """Whether the provider has blocked what we are; perhaps there is a newer credential by now."""
        return self._refusal is not None or (self._link is not None and self._link.refusal is not None)

    def refuse(self, key: int, answered: Answered) -> None:
        """Answer, soon, a delivery for which there is no connection."""
        asyncio.get_running_loop().call_soon(answered, key, self._refusal or NOT_SENT)

    def reconsider(self) -> None:
        """An attempt begins: if we blocked the lane a while ago, somebody has unblocked it, so try anew."""
        horizon = self.clock.monotonic() - PROBE_AFTER
        link = self._link
        if link is not None and link.refusal is not None and link.refused_at < horizon:
            self._renew(link, link.token if link.refusal in self.token_reasons else None)
        elif self._refusal is not None and self._refused_at < horizon:
            self._refusal = None
            self._authorize(None)

    # ── links ─────────────────────────────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begin to connect."""
        self._authorize(None)

    def adopt(self, credential: Credential) -> None:
        """Take up a rotated credential: a new link takes over, the old one drains. Raises BadCredential."""
        self._access = self.access_of(credential)
        self._refusal = None
        self._stop_task()
        if self._next is not None:
            self._leave(self._next)
            self._next = None
        if self._link is not None and self._link.refusal is not None:
            self._replace(self._link)  # nothing more under what is refused already
        self._authorize(None, anew=True)

    def token_refused(self, link: Link, outcome: Outcome) -> Outcome:
        """The provider refuses the link's token: once a new one is made, then the lane is blocked."""
        if link.forced and not link.proven:
            return replace(outcome, kind=OutcomeKind.BLOCKED)
        if link is self._link:
            self._renew(link, link.token)
        return outcome

    def reconnect(self, link: Link, outcome: Outcome) -> Outcome:
        """The provider refuses the connection, not the token: the same token on a new one, once."""
        if link.forced and not link.proven:
            return replace(outcome, kind=OutcomeKind.BLOCKED)
        if link is self._link:
            self._replace(link)
            self._connect(link.token, forced=True)
        return outcome

    async def tend(self) -> None:
        """To be called every second or so: closes what has drained, takes up a token that was renewed."""
        now = self.clock.monotonic()
        horizon = now - self._access.timeout - DRAIN_MARGIN
        for link in [old for old in self._old if not old.origin.in_flight or old.left_at < horizon]:
            self._old.remove(link)
            await link.origin.close()
        if self._access.authorization is not None and now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            if self._link is not None and self._next is None and self._task is None:
                self._authorize(None)

    async def close(self) -> None:
        """Give up all connections."""
        task = self._task
        self._stop_task()
        if task is not None:
            await asyncio.wait([task])  # it may have a right to mint to give back
        links = [link for link in (self._link, self._next, *self._old) if link is not None]
        self._link, self._next, self._old = None, None, []
        for link in links:
            link.unwake()
        await asyncio.gather(*(link.origin.close() for link in links))

    def room_changed(self, link: Link) -> None:
        """A link's room may have changed; the one that waits to take over does so when it has some."""
        if link is self._next and link.origin.room() > 0:
            old, self._link, self._next = self._link, link, None
            if old is not None:
                self._leave(old)
        if link is self._link:
            self._wake()

    def _wake(self) -> None:
        for wake in tuple(self._wakes):
            wake()

    def _leave(self, link: Link) -> None:
        link.unwake()
        link.origin.flush()
        link.left_at = self.clock.monotonic()
        self._old.append(link)

    def _replace(self, link: Link) -> None:
        """Post nothing more on it, now."""
        self._link = None
        self._leave(link)

    def _renew(self, link: Link, refused: str | None) -> None:
        self._replace(link)
        self._stop_task()
        if self._next is not None:  # another token is on its way already
            self._link, self._next = self._next, None
        else:
            self._authorize(refused)

    def _connect(self, token: str | None, *, forced: bool) -> None:
        link = self.make_link(self._access, token, forced=forced)
        if self._link is None:
            self._link = link
        else:
            self._next = link
        link.origin.start()

    # ── authorization ─────────────────────────────────────────────────────────────────────────────

    def _authorize(self, refused: str | None, *, anew: bool = False) -> None:
        """Have a token and make a link of it, unless it is the one that is in use already."""
        if self._access.authorization is None:
            self._connect(None, forced=refused is not None)
            return
        self._task = asyncio.get_running_loop().create_task(
            self._obtain(self._access.authorization, refused, anew=anew), name=f"authorize {self.provider}"
        )

    async def _obtain(self, authorization: Authorization, refused: str | None, *, anew: bool) -> None:
        pause = AGAIN_FIRST
        while True:
            try:
                token = await authorization.obtain(refused)
                break
            except CredentialBlocked as error:
                self._give_up(str(error))
                return
            except Exception as error:
                # Whatever it is (store away, endpoint down): it may pass, and what we have goes on meanwhile.
                self.failure = describe(error)
                log.warning("%s: no authorization: %s", self.provider, self.failure)
                if self._link is not None and not anew:
                    self._task = None
                    return
            await asyncio.sleep(pause)
            pause = min(pause * 2, AGAIN_MOST)
        self._task, self.failure = None, None
        self._looked_at = self.clock.monotonic()
        if anew or self._link is None or token != self._link.token:
            self._connect(token, forced=refused is not None)

    def _give_up(self, reason: str) -> None:
        """No token for this credential: whoever posts is told that the lane is blocked."""
        self._task = None
        self.failure = reason
        self._refused_at = self.clock.monotonic()
        if self._link is None:
            self._refusal = Outcome(OutcomeKind.BLOCKED, reason)
            self._wake()

    def _stop_task(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None
