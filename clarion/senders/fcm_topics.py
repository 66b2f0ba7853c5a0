"""FCM topics: one message to many through Google, and who is subscribed.

Subscriptions go through `projects.registrations.topicSubscriptions` of the v1 API, one request for each
registration, on the credential's own host. The older Instance ID methods take a thousand at once, but are
switched off on 2027-09-29; firebase-admin calls the same v1 methods, at a host that cannot be chosen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote

import httpx

from clarion.errors import BadSpec, CredentialBlocked, SenderError
from clarion.limits import FCM_TOPIC_PAYLOAD
from clarion.model.message import Message
from clarion.senders.answers import parse_object
from clarion.senders.fcm import FcmSender
from clarion.senders.fcm_payload import renderings
from clarion.senders.outcome import Outcome
from clarion.senders.sender import PushFacts
from clarion.senders.tls import own_client_tls
from clarion.store.credentials import Credential

PATIENCE: Final = 20.0  # s for a connection
TIMEOUT: Final = 10.0
AT_ONCE: Final = 50  # Google allows 3,000 changes a second for a project
TRIES: Final = 3
PAUSE: Final = 1.0
_AGAIN: Final = frozenset((408, 429, 500, 502, 503, 504))


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one registration; no reason: it is as it was asked for."""

    reason: str = ""


def body(push: PushFacts, message: Message, target: Mapping[str, str], now: float) -> bytes:
    """The request's body for {"topic": …} or {"condition": …}. Raises BadSpec."""
    rendered = renderings(push, message, now, limit=FCM_TOPIC_PAYLOAD)
    if rendered.needs_badge:
        raise BadSpec("badge: a message to a topic has one number for all, no increment")
    if rendered.needs_values:
        raise BadSpec("a message to a topic is the same for everybody: it cannot have {{ placeholders }}")
    ((name, value),) = target.items()
    # Both are checked: nothing in them needs an escape in JSON.
    return b'{"message":{"%s":"%s' % (name.encode(), value.encode()) + rendered.body("", None)


async def send(sender: FcmSender, content: bytes) -> Outcome:
    """Post it and wait for the answer. Raises SenderError: no connection in time."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[Outcome] = loop.create_future()
    roomy = asyncio.Event()
    stop = sender.when_room(roomy.set)
    sender.reconsider()
    try:
        async with asyncio.timeout(PATIENCE):
            while not sender.room():
                roomy.clear()
                await roomy.wait()
    except TimeoutError:
        raise SenderError(f"no connection to FCM: {sender.failure or sender.waiting()}") from None
    finally:
        stop()

    def answered(key: int, outcome: Outcome) -> None:
        if not told.done():
            told.set_result(outcome)

    sender.post_body(0, content, answered)
    sender.flush()
    return await told


async def change(
    sender: FcmSender, credential: Credential, topic: str, tokens: Sequence[str], *, subscribe: bool
) -> list[Change]:
    """Subscribe or unsubscribe registrations; what became of each, in their order.

    Raises SenderError (no access token now) and CredentialBlocked (none at all, or refused).
    """
    tls = own_client_tls(credential.settings.get("ca"), alpn=())
    limits = httpx.Limits(max_connections=AT_ONCE)
    async with httpx.AsyncClient(
        http2=True, verify=tls, timeout=TIMEOUT, trust_env=False, limits=limits, base_url=sender.access.url
    ) as client:
        talk = _Talk(client, sender, credential, topic, "PATCH" if subscribe else "DELETE")
        return list(await asyncio.gather(*map(talk.one, tokens)))


class _Talk:
    """Requests about one topic. A refused access token is renewed once, for all of them."""

    def __init__(
        self, client: httpx.AsyncClient, sender: FcmSender, credential: Credential, topic: str, method: str
    ) -> None:
        self._client, self._sender, self._method = client, sender, method
        self._start = f"/v1/projects/{credential.topic}/registrations/"
        self._end = f"/topicSubscriptions/{quote(topic, safe='')}?allowMissing=true"
        self._places = asyncio.Semaphore(AT_ONCE)
        self._refused: str | None = None
        self._renewing = asyncio.Lock()
        self._token: str | None = None

    async def one(self, token: str) -> Change:
        """One registration, several times if it must be: the methods may be repeated."""
        async with self._places:
            for last in (*[False] * (TRIES - 1), True):
                try:
                    answer = await self._ask(token)
                except httpx.HTTPError as error:
                    if last:
                        return Change(type(error).__name__)
                    await asyncio.sleep(PAUSE)
                    continue
                if last or answer.status_code not in _AGAIN:
                    return _change(answer)
                await asyncio.sleep(_pause(answer))
        raise AssertionError

    async def _ask(self, token: str) -> httpx.Response:
        path = self._start + quote(token, safe="") + self._end
        for _ in range(2):
            bearer = await self._bearer()
            answer = await self._client.request(
                self._method, path, headers={"authorization": f"Bearer {bearer}"}
            )
            if answer.status_code != 401:
                return answer
            await self._renew(bearer)
        raise CredentialBlocked("fcm:UNAUTHENTICATED")

    async def _bearer(self) -> str:
        async with self._renewing:
            if self._token is None:
                self._token = await self._obtain()
            return self._token

    async def _renew(self, refused: str) -> None:
        async with self._renewing:
            if self._token == refused:
                if self._refused is not None:
                    raise CredentialBlocked("fcm:UNAUTHENTICATED")
                self._refused, self._token = refused, None

    async def _obtain(self) -> str:
        authorization = self._sender.access.authorization
        assert authorization is not None
        return await authorization.obtain(self._refused)


def _change(answer: httpx.Response) -> Change:
    if answer.is_success:
        return Change()
    error: Any = (parse_object(answer.content) or {}).get("error")
    word = error.get("status") if isinstance(error, dict) else None
    return Change(word if isinstance(word, str) and word.isidentifier() else f"HTTP {answer.status_code}")


def _pause(answer: httpx.Response) -> float:
    """Google's Retry-After, within reason."""
    said = answer.headers.get("retry-after", "")
    return min(float(said), TIMEOUT) if said.isdecimal() else PAUSE
