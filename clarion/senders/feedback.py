"""Registrations that have ended, as providers tell them when they are asked.

    Xiaomi  GET /v1/feedback/fetch_invalid_regids at its feedback host. A draining read (dev.mi.com): what was
            told once is told no more, so it is asked until the list is empty, and each list is worked off
            before the next one is asked for.
    OPPO    GET /server/v1/feedback/fetch_invalid_regidList at its feedback host. Whether it drains is
            UNCONFIRMED: it is asked until a list has nothing new.

Umeng has no such list, only counts of a task. The others call back: see `clarion.senders.receipts`.
A credential with an endpoint of its own is asked there. Where lanes abroad are asked is UNCONFIRMED for both:
they are not, and their ended registrations show with the next message.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Final
from urllib.parse import urlsplit

import httpx

from clarion.errors import BadCredential, CredentialBlocked, SenderError
from clarion.senders import oppo, oppo_answers, vendor_tokens, xiaomi, xiaomi_answers
from clarion.senders.answers import parse_object
from clarion.senders.link import Surroundings
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind
from clarion.senders.tls import client_tls
from clarion.store.credentials import Credential

LISTS: Final = 1_000  # asked for in one go
SECONDS: Final = 20.0  # for one answer
MOST: Final = 256  # characters of a registration
_ABROAD: Final = (".xiaomi.com", ".oppomobile.com", ".heytapmobi.com")  # whatever is not _HOSTS' own
_HOSTS: Final = {
    "xiaomi": "https://feedback.xmpush.xiaomi.com",
    "oppo": "https://feedback.push.oppomobile.com",
}


async def ended(credential: Credential, around: Surroundings) -> AsyncIterator[list[str]]:
    """Lists of registrations that the provider has given up, none of them twice.

    Raises CredentialBlocked: the provider does not know us; SenderError: not now; BadCredential.
    """
    seen: set[str] = set()
    host = _host_of(credential)
    if host is None:
        return
    tls = client_tls(credential.settings.get("ca"), alpn=("http/1.1",))
    async with httpx.AsyncClient(verify=tls, base_url=host, timeout=SECONDS) as client:
        asker = (
            _Xiaomi(client, credential)
            if credential.provider == "xiaomi"
            else _Oppo(client, credential, around)
        )
        for _ in range(LISTS):
            try:
                told = await asker.ask()
            except SenderError:
                if not seen:
                    raise
                return  # the rest the next time
            news = [token for token in told if token not in seen]
            if not news:
                return
            seen.update(news)
            yield news


def _host_of(credential: Credential) -> str | None:
    """Where to ask; None: nobody knows."""
    endpoint = credential.endpoint
    if endpoint in (None, xiaomi.HOST, oppo.HOST):
        return _HOSTS[credential.provider]
    return None if (urlsplit(endpoint).hostname or "").endswith(_ABROAD) else endpoint


class _Xiaomi:
    def __init__(self, client: httpx.AsyncClient, credential: Credential) -> None:
        if "app_secret" not in credential.secret:
            raise BadCredential(f"credential {credential.name} is not usable for Xiaomi")
        self._client = client
        self._headers = {"authorization": f"key={credential.secret['app_secret']}"}

    async def ask(self) -> list[str]:
        """The next list."""
        answer = await _get(self._client, "/v1/feedback/fetch_invalid_regids", self._headers)
        _check(xiaomi_answers.read(answer.status_code, answer.content)[0])
        return listed(answer.content, "list")


class _Oppo:
    def __init__(self, client: httpx.AsyncClient, credential: Credential, around: Surroundings) -> None:
        if not {"app_key", "master_secret"} <= credential.secret.keys():
            raise BadCredential(f"credential {credential.name} is not usable for OPPO")
        tls = client_tls(credential.settings.get("ca"), alpn=("http/1.1",))
        url = (credential.endpoint or oppo.HOST) + oppo.AUTH_PATH
        mint = vendor_tokens.oppo_mint(credential.secret, url, around.clock, tls)
        self._client = client
        self._tokens = vendor_tokens.shared(around, credential, mint, vendor_tokens.DAY_RENEW)

    async def ask(self) -> list[str]:
        """The next list; a token that is void is made anew once."""
        token = await self._tokens.obtain()
        answer, outcome = await self._ask(token)
        if outcome.reason in oppo_answers.TOKEN_REASONS:
            answer, outcome = await self._ask(await self._tokens.obtain(refused=token))
            if outcome.reason in oppo_answers.TOKEN_REASONS:
                raise CredentialBlocked(outcome.reason)
        _check(outcome)
        return listed(answer.content, "registration_ids")

    async def _ask(self, token: str) -> tuple[httpx.Response, Outcome]:
        headers = {"auth_token": token}
        answer = await _get(self._client, "/server/v1/feedback/fetch_invalid_regidList", headers)
        return answer, oppo_answers.read(answer.status_code, answer.content)[0]


async def _get(client: httpx.AsyncClient, path: str, headers: dict[str, str]) -> httpx.Response:
    try:
        return await client.get(path, headers=headers)
    except httpx.HTTPError as error:  # its text may have the URL
        raise SenderError(f"no answer ({type(error).__name__})") from None


def _check(outcome: Outcome) -> None:
    if outcome is ACCEPTED:
        return
    if outcome.kind is OutcomeKind.BLOCKED:
        raise CredentialBlocked(outcome.reason)
    raise SenderError(f"it tells nothing now ({outcome.reason})")


def listed(body: bytes, name: str) -> list[str]:
    """The texts in `data.{name}` of an answer; whatever else stands there is left out."""
    answer = parse_object(body) or {}
    data = answer.get("data")
    found = data.get(name) if isinstance(data, dict) else None
    texts = found if isinstance(found, list) else []
    return [one for one in texts if isinstance(one, str) and 0 < len(one) <= MOST]
