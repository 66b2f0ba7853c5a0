"""Authorization strings of the vendors whose requests show one: made here, shared as tokens.py says.

    HMS v1, v2   access token, OAuth 2 client credentials; an hour
    Honor        likewise
    HMS v3       JWT signed with PS256, sent as it is; an hour
    OPPO         auth_token for a SHA-256 signature; 24 hours
    vivo         authToken for an MD5 signature; 24 hours
    Getui        token for a SHA-256 signature; 24 hours

Xiaomi shows its secret and Meizu signs each request: they have nothing to be renewed. Signatures are made
over the very texts that are sent, with a time that must lie within ten minutes of the vendor's clock: a
machine whose clock is off is told so by the reason of the refusal.
"""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

import httpx
import orjson
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from clarion.clock import Clock
from clarion.errors import CredentialBlocked, SenderError
from clarion.senders import getui_answers, hms_answers, honor_answers
from clarion.senders.answers import parse_object
from clarion.senders.link import Surroundings
from clarion.senders.tokens import OAUTH_TIMEOUT, SharedAuthorization, share_in
from clarion.store.base64url import encode_base64url
from clarion.store.credentials import Credential
from clarion.store.provider_token import Mint

MARGIN: Final = 300.0  # before its end a token is made anew
LEAST: Final = 60.0
HOUR: Final = 3_600.0
DAY: Final = 86_400.0
HOUR_RENEW: Final = 50 * 60.0
DAY_RENEW: Final = 20 * HOUR  # of 24
HMS_AUDIENCE: Final = "https://oauth-login.cloud.huawei.com/oauth2/v3/token"
SALT_BYTES: Final = 32

Read = Callable[[int, bytes], tuple[str, float] | str | None]


def shared(around: Surroundings, credential: Credential, mint: Mint, renew: float) -> SharedAuthorization:
    """One string per lane and version of its credential, for all processes."""
    place = credential.app_no, credential.lane, credential.provider, credential.version
    return SharedAuthorization(share_in(around.db, around.seal, *place), mint, renew)


def hms_oauth_mint(secret: Mapping[str, Any], url: str, tls: ssl.SSLContext) -> Mint:
    """Fetches access tokens for a client id and its secret."""
    return _oauth_mint(secret, url, tls, hms_answers.token_answer)


def honor_mint(secret: Mapping[str, Any], url: str, tls: ssl.SSLContext) -> Mint:
    """Fetches access tokens for a client id and its secret."""
    return _oauth_mint(secret, url, tls, honor_answers.token_answer)


def _oauth_mint(secret: Mapping[str, Any], url: str, tls: ssl.SSLContext, read: Read) -> Mint:
    form = {
        "grant_type": "client_credentials",
        "client_id": secret["client_id"],
        "client_secret": secret["client_secret"],
    }

    async def mint() -> tuple[str, float]:
        return await _fetch(url, tls, urlencode(form).encode(), FORM, read)

    return mint


def hms_jwt_mint(secret: Mapping[str, Any], clock: Clock) -> Mint:
    """Signs JWTs of a service account (RSASSA-PSS, SHA-256, salt of 32 bytes)."""
    key: Any = load_pem_private_key(secret["private_key"].encode(), None)

    async def mint() -> tuple[str, float]:
        now = int(clock.time())
        header = {"kid": secret["key_id"], "typ": "JWT", "alg": "PS256"}
        claims = {"iss": secret["sub_account"], "aud": HMS_AUDIENCE, "iat": now, "exp": now + int(HOUR)}
        signed = b".".join(encode_base64url(orjson.dumps(part)).encode() for part in (header, claims))
        # The salt's length is stated by Huawei; libraries' JWT signers leave it to their own taste.
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), SALT_BYTES)
        signature = key.sign(signed, pss, hashes.SHA256())
        return f"{signed.decode()}.{encode_base64url(signature)}", HOUR - MARGIN

    return mint


def oppo_mint(secret: Mapping[str, Any], url: str, clock: Clock, tls: ssl.SSLContext) -> Mint:
    """Fetches auth tokens for an app key and its master secret."""

    async def mint() -> tuple[str, float]:
        stamp = str(int(clock.time() * 1_000))
        words = f"{secret['app_key']}{stamp}{secret['master_secret']}"
        form = {
            "app_key": secret["app_key"],
            "timestamp": stamp,
            "sign": hashlib.sha256(words.encode()).hexdigest(),
        }
        return await _fetch(url, tls, urlencode(form).encode(), FORM, _oppo_token)

    return mint


def vivo_mint(secret: Mapping[str, Any], url: str, clock: Clock, tls: ssl.SSLContext) -> Mint:
    """Fetches auth tokens for an app id, its key and its secret."""

    async def mint() -> tuple[str, float]:
        stamp = int(clock.time() * 1_000)
        words = f"{secret['app_id']}{secret['app_key']}{stamp}{secret['app_secret']}"
        body = {
            "appId": int(secret["app_id"]),
            "appKey": secret["app_key"],
            "timestamp": stamp,
            "sign": hashlib.md5(words.encode(), usedforsecurity=False).hexdigest(),
        }
        return await _fetch(url, tls, orjson.dumps(body), JSON, _vivo_token)

    return mint


def getui_mint(secret: Mapping[str, Any], url: str, clock: Clock, tls: ssl.SSLContext) -> Mint:
    """Fetches tokens for an app key and its master secret."""

    async def mint() -> tuple[str, float]:
        stamp = str(int(clock.time() * 1_000))
        words = f"{secret['app_key']}{stamp}{secret['master_secret']}"
        sign = hashlib.sha256(words.encode()).hexdigest()
        body = {"sign": sign, "timestamp": stamp, "appkey": secret["app_key"]}
        read = partial(getui_answers.token_answer, now=clock.time())
        return await _fetch(url, tls, orjson.dumps(body), JSON, read)

    return mint


FORM: Final = "application/x-www-form-urlencoded"
JSON: Final = "application/json"


async def _fetch(url: str, tls: ssl.SSLContext, body: bytes, kind: str, read: Read) -> tuple[str, float]:
    try:
        async with httpx.AsyncClient(verify=tls, timeout=OAUTH_TIMEOUT, trust_env=False) as client:
            answer = await client.post(url, content=body, headers={"content-type": kind})
    except httpx.HTTPError as error:
        raise SenderError(f"the token endpoint did not answer: {type(error).__name__}") from None
    found = read(answer.status_code, answer.content)
    if isinstance(found, str):
        raise CredentialBlocked(found)
    if found is None or not _is_header_value(found[0]):
        raise SenderError(f"the token endpoint answered {answer.status_code} without a token")
    token, seconds = found
    return token, max(seconds - MARGIN, LEAST)


def _oppo_token(status: int, body: bytes) -> tuple[str, float] | str | None:
    answer = parse_object(body) or {}
    code, data = answer.get("code"), answer.get("data")
    if type(code) is int and code == 0 and isinstance(data, dict) and isinstance(data.get("auth_token"), str):
        return data["auth_token"], DAY  # from create_time on, by the vendor's clock
    return f"oppo:{code}" if type(code) is int and code in OPPO_REFUSALS else None


def _vivo_token(status: int, body: bytes) -> tuple[str, float] | str | None:
    answer = parse_object(body) or {}
    result = answer.get("result")
    if result == 0 and isinstance(answer.get("authToken"), str):
        return answer["authToken"], DAY
    return f"vivo:{result}" if type(result) is int and result in VIVO_REFUSALS else None


# What says that the credential itself (or this machine's clock) is refused, not that it is asked too often.
OPPO_REFUSALS: Final = frozenset((14, 15, 16, 17, 18, 19, 26, 27, 28, 30))
VIVO_REFUSALS: Final = frozenset((10043, 10045, *range(10200, 10208)))


def _is_header_value(token: str) -> bool:
    return token.isascii() and token.isprintable() and " " not in token and bool(token)
