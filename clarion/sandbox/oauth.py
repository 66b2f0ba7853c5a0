"""Google's token endpoint: an access token for an assertion that a service account has signed."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

import jwt
import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from clarion.http2.frames import Header
from clarion.sandbox.answer import JSON_TYPE, Answer
from clarion.sandbox.service import Service, Shared, Talk, Verdict

PATH: Final = b"/token"
GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_SECONDS: Final = 3600
SKEW: Final = 300
SCOPES: Final = frozenset(
    (
        "https://www.googleapis.com/auth/firebase.messaging",
        "https://www.googleapis.com/auth/cloud-platform",
    )
)
_GOOGLE: Final = "https://oauth2.googleapis.com/token"
_REALM: Final = (
    "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. "
    "Check your iat and exp values in the JWT claim."
)


@dataclass(frozen=True, slots=True)
class Account:
    """A service account whose assertions are believed."""

    email: str
    project: str
    number: str
    audiences: frozenset[str]
    public_key: rsa.RSAPublicKey


@dataclass(frozen=True, slots=True)
class Grant:
    """An access token's worth."""

    project: str
    number: str
    expires: float
    may_send: bool


class OAuth(Service):
    """The token endpoint, at the same port as FCM. Its requests are counted and not logged."""

    provider = "oauth"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self.grants: dict[bytes, Grant] = {}
        self._accounts: dict[str, Account] = {}

    def add(self, account: Mapping[str, Any], *, number: str | None = None) -> None:
        """A service account, by its JSON; instead of the private key it may hold `public_key`.

        Raises ValueError.
        """
        pem = str(account.get("public_key") or account["private_key"]).encode()
        key: Any
        if b"PRIVATE" in pem:
            key = getattr(serialization.load_pem_private_key(pem, None), "public_key", lambda: None)()
        else:
            key = serialization.load_pem_public_key(pem)
        if not isinstance(key, rsa.RSAPublicKey):
            raise ValueError("a service account's key is an RSA key")
        project = str(account["project_id"])
        audiences = frozenset((str(account.get("token_uri", _GOOGLE)), _GOOGLE))
        email = str(account["client_email"])
        self._accounts[email] = Account(email, project, number or project, audiences, key)

    @property
    def projects(self) -> list[str]:
        """Projects whose accounts are known."""
        return sorted({account.project for account in self._accounts.values()})

    def forget(self) -> None:
        """Every access token is void."""
        self.grants.clear()

    def streams(self, transport: asyncio.Transport) -> int:
        """It has no port of its own."""
        return self.shared.settings.fcm_streams

    def make_profile(self, headers: tuple[Header, ...]) -> bytes:
        """The method is all that counts."""
        return dict(headers)[b":method"]

    def judge(
        self, conn: Talk, profile: bytes, path: bytes, hole: bytes | None, body: bytes, known: bool
    ) -> Verdict:
        """A token, or why not."""
        return self._answer(profile, body), "", "null", "null", (), b""

    def record(self, now: float, answer: Answer, token: str, key: str, content: str) -> None:
        """Counted only: it is no push."""
        self.tally.add(answer.kind, now)

    def error(self, status: int | None, reason: str | None) -> Answer:
        """An OAuth error of this name."""
        if status is not None and status >= 500:
            return _error(reason or "internal_failure", "Backend Error", status)
        return _error(reason or "invalid_grant", "Invalid grant", status or 400)

    def rejection(self, reason: str | None) -> Answer:
        """The assertion is not believed."""
        return _error(reason or "invalid_grant", "Invalid JWT Signature.")

    def _answer(self, method: bytes, body: bytes) -> Answer:
        if method != b"POST":
            return _error("invalid_request", "Method not allowed", 405)
        form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
        if form.get("grant_type") != GRANT_TYPE:
            return _error("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type', '')}")
        if "assertion" not in form:
            return _error("invalid_request", "Missing required parameter: assertion")
        return self._exchange(form["assertion"])

    def _exchange(self, assertion: str) -> Answer:
        try:
            header = jwt.get_unverified_header(assertion)
            claims = jwt.decode(assertion, options={"verify_signature": False})
        except jwt.InvalidTokenError:
            return _error("invalid_grant", "Bad Request")
        account = self._accounts.get(str(claims.get("iss")))
        if account is None:
            return _error("invalid_grant", "Invalid grant: account not found")
        # Our own clock decides on the times below; the library would use the machine's.
        options: Any = {"verify_exp": False, "verify_iat": False, "verify_nbf": False, "verify_aud": False}
        try:
            jwt.decode(assertion, account.public_key, algorithms=["RS256"], options=options)
        except jwt.InvalidTokenError:
            return _error("invalid_grant", "Invalid JWT Signature.")
        if header.get("alg") != "RS256" or claims.get("aud") not in account.audiences:
            return _error("invalid_grant", "Invalid JWT: Failed audience check.")
        if not self._is_timely(claims):
            return _error("invalid_grant", _REALM)
        scopes = frozenset(str(claims.get("scope", "")).split())
        if not scopes:
            return _error("invalid_scope", "Invalid OAuth scope or ID token audience provided.")
        return self._grant(account, may_send=bool(scopes & SCOPES))

    def _is_timely(self, claims: Mapping[str, Any]) -> bool:
        issued, expires, now = claims.get("iat"), claims.get("exp"), self.shared.clock()
        if not isinstance(issued, int | float) or not isinstance(expires, int | float):
            return False
        return issued <= now + SKEW and now - SKEW < expires <= issued + TOKEN_SECONDS

    def _grant(self, account: Account, *, may_send: bool) -> Answer:
        now = self.shared.clock()
        for old in [token for token, grant in self.grants.items() if grant.expires + 86_400 < now]:
            del self.grants[old]
        token = "ya29.sandbox-" + secrets.token_urlsafe(96)
        self.grants[token.encode()] = Grant(account.project, account.number, now + TOKEN_SECONDS, may_send)
        body = {"access_token": token, "expires_in": TOKEN_SECONDS - 1, "token_type": "Bearer"}
        return Answer(200, None, [JSON_TYPE], orjson.dumps(body))


def _error(name: str, description: str, status: int = 400) -> Answer:
    body = orjson.dumps({"error": name, "error_description": description})
    return Answer(status, name, [JSON_TYPE], body)
