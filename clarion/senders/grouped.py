"""Senders whose one request carries many registrations.

What is posted between two `flush` is gathered: deliveries of the same content whose seq lies in the same
block of `grain` become one request, and each of them gets its own outcome from the one answer. Blocks are
fixed (seq // grain), and an attempt posts whole blocks wherever window, pace and provider allow it. So the
same rows meet again in the same request after a crash, and a request's idempotency key, which is made of its
members, is the same one then. A key made of members is also safe when they do not meet again: it never stands
for a delivery that was not in the first request.

A request shows the authorization that was current when it left. A refusal makes one new authorization,
whatever number of requests is refused; a refusal of that one, before anything was accepted under it, blocks
the lane.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple

from clarion import limits
from clarion.clock import Clock
from clarion.errors import CredentialBlocked
from clarion.http2.origin import describe
from clarion.model.message import Message
from clarion.senders.answers import NOT_SENT, UNANSWERED, retry_after
from clarion.senders.line import Line, Reply, Unanswered
from clarion.senders.link import AGAIN_FIRST, AGAIN_MOST, LOOK_EVERY, PROBE_AFTER
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind, Scope
from clarion.senders.sender import Answered, PushFacts, Unsendable
from clarion.senders.tokens import Authorization
from clarion.senders.vendor import VendorPrepared, quota_returns
from clarion.store.credentials import Credential

log = logging.getLogger(__name__)

PATIENCE: Final = 0.4  # seconds that a request waits for a connection; a pause is obeyed meanwhile
WEIGHT: Final = 10  # one request without success counts for the quota like so many of its deliveries
BAD_TOKEN: Final = "clarion:bad_token"

_OF_A_STORM: Final = (OutcomeKind.THROTTLED, OutcomeKind.UNAVAILABLE)


class Row(NamedTuple):
    """One delivery in a request."""

    key: int
    registration_no: int
    token: str
    body: bytes  # its own content, where a request may carry several
    answered: Answered


@dataclass(slots=True)
class Group:
    """The deliveries of one request, which have `body` in common."""

    prepared: VendorPrepared
    body: bytes
    rows: list[Row] = field(default_factory=list)

    @property
    def tokens(self) -> list[str]:
        """Of its registrations, in order."""
        return [row.token for row in self.rows]

    def name(self, length: int = 32) -> str:
        """The request's idempotency key: the same for the same content to the same registrations of a push.

        Lower-case hex. What is told of the lifetime is no part of it: that changes while time goes by.
        """
        words = [self.prepared.mark, *self.tokens]
        return hashlib.sha256("\n".join(words).encode()).hexdigest()[:length]


@dataclass(slots=True)
class Pass:
    """An authorization. `forced`: it was made because the one before was refused."""

    token: str | None = field(repr=False)
    forced: bool = False
    proven: bool = False  # something was accepted under it
    refusal: str | None = None  # the reason for which the provider blocks it
    refused_at: float = 0.0


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer means: for all of a request's registrations, and otherwise for these."""

    outcome: Outcome
    others: Mapping[str, Outcome] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reach:
    """Where a credential's requests go, and what authorizes them (None: something that never changes)."""

    line: Callable[[], Line]
    authorization: Authorization | None


class GroupedSender(ABC):
    """What these senders have in common; see `clarion.senders.sender.Sender`."""

    provider: str
    most: ClassVar[int]  # registrations that one request may carry
    mixed: ClassVar[bool] = False  # a request may carry different contents
    token_reasons: ClassVar[frozenset[str]] = frozenset()  # refusals that another authorization may cure
    quota_reasons: ClassVar[frozenset[str]] = frozenset()  # nothing more is taken until tomorrow
    letters: ClassVar[bytes] = bytes(range(0x21, 0x7F))  # that a token may have

    def __init__(self, credential: Credential, clock: Clock) -> None:
        """Raises BadCredential."""
        self.clock = clock
        self.failure: str | None = None  # why there is no authorization, in a few words without secrets
        self.grain = _grain(credential, self.most)
        self._reach = self.reach_of(credential)
        self._line = self._reach.line()
        self._old: list[Line] = []
        self._pass: Pass | None = None if self._reach.authorization else Pass(None)
        self._refusal: Outcome | None = None  # no authorization can be had with this credential
        self._refused_at = 0.0
        self._quiet: dict[str, tuple[float, Outcome]] = {}  # until when (epoch) which kind of message waits
        self._open: dict[tuple[int, int, bytes], Group] = {}  # requests that the next flush sends
        self._tasks: set[asyncio.Task[None]] = set()
        self._wakes: list[Callable[[], None]] = []
        self._unwake: Callable[[], None] = _nothing
        self._obtaining: asyncio.Task[None] | None = None
        self._looked_at = clock.monotonic()
        self._apart = False  # what was posted last does not share requests
        self._closed = False

    # ── what each provider says ───────────────────────────────────────────────────────────────────

    @abstractmethod
    def reach_of(self, credential: Credential) -> Reach:
        """Where this credential's requests go; keeps what else it says. Raises BadCredential."""

    @abstractmethod
    def render(self, push: PushFacts, message: Message) -> VendorPrepared:
        """Compile the message. Raises BadSpec when it cannot fit for anybody."""

    @abstractmethod
    async def deliver(self, line: Line, group: Group, token: str | None) -> Verdict:
        """Send one request and read its answer. Raises Unanswered."""

    def refuse(self, token: str) -> Outcome | None:
        """What is told of a registration that need not be asked about."""
        return None

    def hold(self, prepared: VendorPrepared) -> Outcome | None:
        """What is told of a message that has to wait by the provider's own rules."""
        return None

    def unreadable(self) -> Outcome:
        """An answer that is none: nobody knows what was done."""
        return Outcome(OutcomeKind.UNAVAILABLE, f"{self.provider}:BAD_ANSWER", maybe=True)

    # ── what attempts ask ─────────────────────────────────────────────────────────────────────────

    def prepare(self, push: PushFacts, message: Message) -> VendorPrepared:
        """Compile the message. Raises BadSpec when it cannot fit for anybody."""
        self._reconsider()
        return self.render(push, message)

    def post(
        self,
        prepared: Any,  # VendorPrepared
        key: int,
        registration_no: int,
        token: str,
        locale: str,
        variant: int,
        values: Mapping[str, Any] | None,
        answered: Answered,
    ) -> None:
        """Put one delivery into its request. Raises TooLarge, MissingValue or Unsendable."""
        name = token.encode("ascii", "replace") if token.isascii() else b""
        if not name or name.translate(None, self.letters) or len(name) > limits.TOKEN_BYTES:
            raise Unsendable(BAD_TOKEN)
        refusal = prepared.refusal or self.refuse(token) or self._refused(prepared)
        if refusal is not None:
            asyncio.get_running_loop().call_soon(answered, key, refusal)
            return
        body = prepared.content(locale, values)
        common = b"" if self.mixed else body
        self._apart = prepared.needs_values and not self.mixed
        place = (id(prepared), key // self.grain, common)
        group = self._open.get(place)
        if group is None:
            group = self._open[place] = Group(prepared, common)
        group.rows.append(Row(key, registration_no, token, body, answered))

    def room(self) -> int:
        """Deliveries that may be posted now."""
        if self._refusal is not None:
            return 1  # to be told that it is blocked
        if self._pass is None or self._closed:
            return 0
        return max(0, self._line.room() - len(self._open)) * (1 if self._apart else self.grain)

    def flush(self) -> None:
        """Send what was gathered."""
        groups, self._open = self._open, {}
        loop = asyncio.get_running_loop()
        for group in groups.values():
            task = loop.create_task(self._send(group), name=f"send {self.provider}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def when_room(self, wake: Callable[[], None]) -> Callable[[], None]:
        """Call `wake` whenever `room()` may have grown. Returns how to stop it."""
        self._wakes.append(wake)

        def stop() -> None:
            with suppress(ValueError):
                self._wakes.remove(wake)

        return stop

    def waiting(self) -> str | None:
        """What it waits for."""
        if self._refusal is not None:
            return None
        if self._pass is None:
            return "authorization"
        return None if self._line.room() or self._line.in_flight else "connecting"

    # ── what lanes ask ────────────────────────────────────────────────────────────────────────────

    @property
    def refused(self) -> bool:
        """Whether the provider has blocked what we are; perhaps there is a newer credential by now."""
        return self._refusal is not None or (self._pass is not None and self._pass.refusal is not None)

    def start(self) -> None:
        """Begin to connect."""
        self._unwake = self._line.when_room(self._wake)
        self._line.start()
        self._authorize(None)

    def adopt(self, credential: Credential) -> None:
        """Take up a rotated credential; requests under the old one are answered. Raises BadCredential."""
        self._reach = self.reach_of(credential)
        self.grain = _grain(credential, self.most)
        self._unwake()
        self._old.append(self._line)
        self._line = self._reach.line()
        self._refusal, self._pass = None, None if self._reach.authorization else Pass(None)
        self._quiet.clear()
        self._stop_obtaining()
        self.start()

    async def tend(self) -> None:
        """Called about once a second: closes what has drained, takes up an authorization that was renewed."""
        for line in [old for old in self._old if not old.in_flight]:
            self._old.remove(line)
            await line.close()
        now = self.clock.monotonic()
        if self._reach.authorization is not None and now - self._looked_at >= LOOK_EVERY:
            self._looked_at = now
            if self._pass is not None and self._obtaining is None:
                self._authorize(None)

    async def close(self) -> None:
        """Give up connections; requests that wait for one are answered as not sent."""
        self._closed = True
        task = self._obtaining
        self._stop_obtaining()
        if task is not None:
            await asyncio.wait([task])  # it may have a right to mint to give back
        self._unwake()
        self.flush()
        await asyncio.gather(*(line.close() for line in (self._line, *self._old)))
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ── one request ───────────────────────────────────────────────────────────────────────────────

    async def _send(self, group: Group) -> None:
        shown = self._pass
        if shown is None or self._closed:
            self._tell(group, Verdict(NOT_SENT))
            return
        try:
            verdict = await self.deliver(self._line, group, shown.token)
        except Unanswered as error:
            verdict = Verdict(UNANSWERED[error.fate])
        except (
            Exception
        ) as error:  # whatever an answer does to us, its deliveries are not left without outcome
            log.error("%s: an answer could not be read: %s", self.provider, type(error).__name__)
            verdict = Verdict(self.unreadable())
        outcome = self._conclude(group, shown, verdict.outcome)
        self._tell(group, replace(verdict, outcome=outcome))

    def _conclude(self, group: Group, shown: Pass, outcome: Outcome) -> Outcome:
        """What the sender makes of an answer to a whole request."""
        if outcome is ACCEPTED:
            shown.proven = True
        elif outcome.reason in self.quota_reasons:
            until = self.clock.time() + quota_returns(self.clock.time())
            outcome = replace(outcome, retry_after=until - self.clock.time())
            self._quiet[group.prepared.kind] = until, outcome
        elif outcome.reason in self.token_reasons:
            outcome = self._token_refused(shown, outcome)
        if outcome.kind is OutcomeKind.BLOCKED and shown.refusal is None:
            shown.refusal, shown.refused_at = outcome.reason, self.clock.monotonic()
        return outcome

    def _token_refused(self, shown: Pass, outcome: Outcome) -> Outcome:
        if shown.forced and not shown.proven:
            return replace(outcome, kind=OutcomeKind.BLOCKED)
        if self._reach.authorization is None:  # there is no other
            return replace(outcome, kind=OutcomeKind.BLOCKED)
        if shown is self._pass:
            self._pass = None
            self._stop_obtaining()
            self._authorize(shown.token)
        return outcome

    def _tell(self, group: Group, verdict: Verdict) -> None:
        """One outcome a delivery. What hit the request as a whole is reported to the quota `WEIGHT` times:
        it is one mishap, not hundreds."""
        outcome, others = verdict.outcome, verdict.others
        beyond = outcome
        if outcome.kind in _OF_A_STORM:
            beyond = replace(outcome, scope=Scope.HOST)
        for number, (key, _, token, _, answered) in enumerate(group.rows):
            answered(key, others.get(token) or (outcome if number < WEIGHT else beyond))

    def itemized(self, group: Group, items: Mapping[str, Outcome], missing: Outcome) -> Verdict:
        """The verdict of an answer that has an item for each registration; `missing` is of those without one.

        What an item says of the credential or of the day's quota is said of the request as well.
        """
        each = {token: items.get(token, missing) for token in group.tokens}
        whole = next((one for one in each.values() if self._is_of_all(one)), None)
        if whole is None:
            whole = ACCEPTED if ACCEPTED in each.values() else next(iter(each.values()))
        return Verdict(whole, {token: one for token, one in each.items() if one != whole})

    def _is_of_all(self, outcome: Outcome) -> bool:
        known = self.quota_reasons | self.token_reasons
        return outcome.kind is OutcomeKind.BLOCKED or outcome.reason in known

    def later(self, outcome: Outcome, reply: Reply) -> Outcome:
        """The outcome with the answer's Retry-After, if it has one."""
        if reply.retry_after is None or outcome.kind not in _OF_A_STORM:
            return outcome
        asked = retry_after(reply.retry_after, self.clock.time())
        return outcome if asked is None else replace(outcome, retry_after=max(outcome.retry_after, asked))

    # ── refusals that are known beforehand ────────────────────────────────────────────────────────

    def _refused(self, prepared: VendorPrepared) -> Outcome | None:
        if self._refusal is not None:
            return self._refusal
        if (held := self.hold(prepared)) is not None:
            return held
        if self._quiet and (found := self._quiet.get(prepared.kind)) is not None:
            until, outcome = found
            left = until - self.clock.time()
            if left > 0:
                return replace(outcome, retry_after=left, scope=Scope.HOST)
            del self._quiet[prepared.kind]
        return None

    def _reconsider(self) -> None:
        """An attempt begins: if we blocked the lane a while ago, somebody has unblocked it, so try anew."""
        horizon = self.clock.monotonic() - PROBE_AFTER
        shown = self._pass
        if shown is not None and shown.refusal is not None and shown.refused_at < horizon:
            again = shown.token if shown.refusal in self.token_reasons else None
            self._pass = None if self._reach.authorization else Pass(None)
            self._authorize(again)
        elif self._refusal is not None and self._refused_at < horizon:
            self._refusal = None
            self._authorize(None)

    # ── authorization ─────────────────────────────────────────────────────────────────────────────

    def _authorize(self, refused: str | None) -> None:
        authorization = self._reach.authorization
        if authorization is None:
            return
        self._stop_obtaining()
        self._obtaining = asyncio.get_running_loop().create_task(
            self._obtain(authorization, refused), name=f"authorize {self.provider}"
        )

    async def _obtain(self, authorization: Authorization, refused: str | None) -> None:
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
                if self._pass is not None:
                    self._obtaining = None
                    return
            await asyncio.sleep(pause)
            pause = min(pause * 2, AGAIN_MOST)
        self._obtaining, self.failure = None, None
        self._looked_at = self.clock.monotonic()
        if self._pass is None or self._pass.token != token:
            self._pass = Pass(token, forced=refused is not None)
        self._wake()

    def _give_up(self, reason: str) -> None:
        """No authorization for this credential: whoever posts is told that the lane is blocked."""
        self._obtaining = None
        self.failure = reason
        self._refused_at = self.clock.monotonic()
        if self._pass is None:
            self._refusal = Outcome(OutcomeKind.BLOCKED, reason)
            self._wake()

    def _stop_obtaining(self) -> None:
        if self._obtaining is not None:
            self._obtaining.cancel()
            self._obtaining = None

    def _wake(self) -> None:
        for wake in tuple(self._wakes):
            wake()


def _grain(credential: Credential, most: int) -> int:
    """Deliveries of one block, and so the most in one request; the credential may say another number."""
    return max(1, min(int(credential.settings.get("group", limits.GROUP)), most))


def partial(tokens: Sequence[str], outcomes: Mapping[str, Outcome]) -> Verdict:
    """All accepted but those that the answer names; who is named and was not in the request is ignored."""
    mine = set(tokens)
    return Verdict(ACCEPTED, {token: outcome for token, outcome in outcomes.items() if token in mine})


def _nothing() -> None:
    """Nobody is to be told."""
