"""Authorization strings: APNs provider tokens (JWT) and Google access tokens (OAuth).

All processes show the same string: it is kept, sealed, in `provider_token`, made by whoever finds it stale
and taken by everybody else. Ages are the database's, so that neither a clock that was set back nor one that
runs ahead keeps a stale token alive or has new ones made without end (C04). When a provider refuses a token
the next one is made once; if that one is refused, too, the sender blocks the lane.

    APNs     one JWT per (team, key) whatever the topic, environment or app; renewed when 50 minutes old:
             Apple wants a change every 20 to 60 minutes.
    Google   one access token per lane's service account (RFC 7523), renewed five minutes before its end.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import httpx
import jwt

from clarion.clock import Clock
from clarion.errors import CredentialBlocked, SenderError
from clarion.seal import Seal
from clarion.senders.answers import parse_object, token_lifetime
from clarion.store.database import Database
from clarion.store.provider_token import Mint, SharedToken, fetch_shared_token

JWT_RENEW: Final = 50 * 60.0  # of its age
JWT_SECONDS: Final = 58 * 60.0  # Apple refuses it after an hour; two minutes for clocks that disagree
OAUTH_MARGIN: Final = 300.0  # before its end a new one is fetched
OAUTH_LEAST: Final = 60.0
OAUTH_RENEW: Final = 50 * 60.0
OAUTH_TIMEOUT: Final = 8.0  # shorter than the right to mint
SCOPE: Final = "https://www.googleapis.com/auth/firebase.messaging"
GRANT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
# Error codes of a token endpoint (RFC 6749 §5.2) that say the service account itself is refused.
_OAUTH_CODES: Final = frozenset(
    (
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    )
)

Share = Callable[[Mint, float, str | None], Awaitable[SharedToken]]
"""The token that all processes share: (how to make one, its greatest age, one that was refused) → token."""


class Authorization(Protocol):
    """Where a sender has its authorization from."""

    async def obtain(self, refused: str | None = None) -> str:
        """The string to show now; another one than `refused`.

        Raises CredentialBlocked: none can be had with this credential; its text is the reason's name. Raises
        SenderError or StackUnavailable: not now.
        """


@dataclass(frozen=True)
class SharedAuthorization:
    """A string made by `mint`, shared by all processes, renewed when it is older than `renew` seconds."""

    share: Share = field(repr=False)
    mint: Mint = field(repr=False)
    renew: float

    async def obtain(self, refused: str | None = None) -> str:
        """See `Authorization`."""
        return (await self.share(self.mint, self.renew, refused)).token


def share_in(db: Database, seal: Seal, app_no: int, lane: int, purpose: str, version: int) -> Share:
    """Share through the database, under this place."""

    async def share(mint: Mint, fresh_for: float, refused: str | None) -> SharedToken:
        return await fetch_shared_token(
            db, seal, app_no, lane, purpose, version, mint, fresh_for, refused=refused
        )

    return share


def jwt_purpose(secret: dict[str, Any]) -> str:
    """The place of an APNs key's token: team and key, and which key that is, whatever lane uses it."""
    digest = hashlib.sha256(secret["private_key"].encode()).hexdigest()[:16]
    return f"apns {secret['team_id']}.{secret['key_id']} {digest}"


def jwt_mint(secret: dict[str, Any], clock: Clock) -> Mint:
    """Makes provider tokens of one APNs key (Apple: "Establishing a token-based connection to APNs")."""

    async def mint() -> tuple[str, float]:
        claims = {"iss": secret["team_id"], "iat": int(clock.time())}
        # pyjwt would add "typ", which Apple does not list.
        headers = {"kid": secret["key_id"], "typ": None}
        token = jwt.encode(claims, secret["private_key"], algorithm="ES256", headers=headers)
        return token, JWT_SECONDS

    return mint


def oauth_mint(secret: dict[str, Any], clock: Clock, tls: ssl.SSLContext) -> Mint:
    """Fetches access tokens for one service account (RFC 7523, as Google documents it)."""

    async def mint() -> tuple[str, float]:
        form = {"grant_type": GRANT, "assertion": _assertion(secret, clock)}
        try:
            async with httpx.AsyncClient(verify=tls, timeout=OAUTH_TIMEOUT, trust_env=False) as client:
                answer = await client.post(secret["token_uri"], data=form)
        except httpx.HTTPError as error:
            raise SenderError(f"the token endpoint did not answer: {type(error).__name__}") from None
        return _access_token(answer)

    return mint


def _assertion(secret: dict[str, Any], clock: Clock) -> str:
    now = int(clock.time())
    claims = {
        "iss": secret["client_email"],
        "scope": SCOPE,
        "aud": secret["token_uri"],
        "iat": now,
        "exp": now + 3600,
    }
    headers = {"kid": secret["private_key_id"]}
    return jwt.encode(claims, secret["private_key"], algorithm="RS256", headers=headers)


def _access_token(answer: httpx.Response) -> tuple[str, float]:
    """The token of an answer and how long it is to be shown."""
    body = parse_object(answer.content) or {}
    token, seconds = body.get("access_token"), body.get("expires_in")
    if answer.status_code == 200 and isinstance(token, str) and _is_header_value(token):
        return token, max(token_lifetime(seconds) - OAUTH_MARGIN, OAUTH_LEAST)
    code = body.get("error")
    if answer.status_code in (400, 401, 403) and isinstance(code, str) and code in _OAUTH_CODES:
        raise CredentialBlocked(f"fcm:{code}")
    raise SenderError(f"the token endpoint answered {answer.status_code} without a token")


def _is_header_value(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token and bool(token)
