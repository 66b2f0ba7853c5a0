"""Authorization strings: how they are made, shared and renewed, in fake time."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import httpx
import jwt
import pytest

from clarion.errors import CredentialBlocked, SenderError
from clarion.senders import tokens
from clarion.senders.tokens import SharedAuthorization, jwt_mint, jwt_purpose, oauth_mint
from clarion.store.provider_token import Mint, SharedToken
from tests.support.keys import KEY_ID, TEAM_ID, ec_key, pem, rsa_key, service_account

START = 1_800_000_000.0


def apns_secret(**changes: str) -> dict[str, str]:
    """A sealed APNs key's content."""
    return {"type": "token", "team_id": TEAM_ID, "key_id": KEY_ID, "private_key": pem(ec_key())} | changes


class World:
    """Fake time, and the place where all processes keep their tokens, with the rules of the real one."""

    def __init__(self) -> None:
        self.now = START
        self.minted = 0
        self._kept: dict[str, SharedToken] = {}

    def time(self) -> float:
        """Epoch seconds."""
        return self.now

    def monotonic(self) -> float:
        """Seconds that only grow."""
        return self.now

    def datetime(self) -> datetime:
        """The same as a datetime."""
        return datetime.fromtimestamp(self.now, UTC)

    def share(self, place: str) -> tokens.Share:
        """Share under this place."""

        async def shared(mint: Mint, fresh_for: float, refused: str | None) -> SharedToken:
            kept = self._kept.get(place)
            if kept is None or kept.token == refused or self.now - kept.issued_at >= fresh_for:
                text, seconds = await mint()
                self.minted += 1
                kept = self._kept[place] = SharedToken(text, self.now, self.now + seconds)
            return kept

        return shared

    def apns(self, secret: dict[str, str]) -> SharedAuthorization:
        """What one lane of one process has for this key."""
        mint = jwt_mint(secret, self)  # type: ignore[arg-type]
        return SharedAuthorization(self.share(jwt_purpose(secret)), mint, tokens.JWT_RENEW)


async def test_the_jwt_is_what_apple_describes() -> None:
    """ES256, key id, team, issued at; nothing that Apple does not list."""
    world = World()
    token = await world.apns(apns_secret()).obtain()
    claims = jwt.decode(token, ec_key().public_key(), algorithms=["ES256"], options={"verify_iat": False})

    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": KEY_ID}
    assert claims == {"iss": TEAM_ID, "iat": int(START)}


async def test_c03_two_hours_of_four_workers_and_three_topics() -> None:
    """C03: one JWT at a time, never older than an hour, never changed within twenty minutes."""
    world = World()
    workers = [world.apns(apns_secret()) for _ in range(4 * 3)]
    seen: list[tuple[float, str]] = []
    while world.now <= START + 7_200:
        shown = {await worker.obtain() for worker in workers}
        assert len(shown) == 1
        (token,) = shown
        issued = jwt.decode(token, options={"verify_signature": False})["iat"]
        assert world.now - issued < 3_600
        if not seen or seen[-1][1] != token:
            seen.append((world.now, token))
        world.now += 60

    assert len(seen) == world.minted == 3
    assert all(later[0] - sooner[0] >= 1_200 for sooner, later in pairwise(seen))


async def test_c03_the_place_is_the_key_s() -> None:
    """C03: whatever lane, topic or environment; another key or another file under the same id is another."""
    one = jwt_purpose(apns_secret())

    assert one == jwt_purpose(apns_secret(type="token", environment="production"))
    assert (
        len({one, jwt_purpose(apns_secret(key_id="OTHERKEY01")), jwt_purpose(apns_secret(private_key="x"))})
        == 3
    )


async def test_c04_a_refused_token_is_replaced_once() -> None:
    """C04: all processes that had the refused one get the same new one; its time is this moment's."""
    world = World()
    workers = [world.apns(apns_secret()) for _ in range(4)]
    old = await workers[0].obtain()
    world.now += 5
    new = {await worker.obtain(old) for worker in workers}

    assert len(new) == 1
    assert old not in new
    assert world.minted == 2


class Endpoint:
    """A token endpoint that answers as it is told."""

    def __init__(self, answer: Callable[[httpx.Request], httpx.Response]) -> None:
        self.requests: list[httpx.Request] = []
        self._answer = answer

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """One call."""
        self.requests.append(request)
        return self._answer(request)


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Endpoint]:
    """Puts an answer where httpx would go out."""
    real = httpx.AsyncClient

    def put(status: int = 200, json: Any = None, *, error: Exception | None = None, **more: Any) -> Endpoint:
        def answer(request: httpx.Request) -> httpx.Response:
            if error is not None:
                raise error
            return httpx.Response(status, json=json, **more)

        made = Endpoint(answer)
        monkeypatch.setattr(httpx, "AsyncClient", lambda **_: real(transport=httpx.MockTransport(made)))
        return made

    return put


def oauth(world: World) -> Mint:
    """Fetches for the test's service account."""
    return oauth_mint(service_account(), world, ssl.create_default_context())  # type: ignore[arg-type]


async def test_the_assertion_is_what_google_describes(endpoint: Callable[..., Endpoint]) -> None:
    """RFC 7523 with RS256: issuer, scope, audience, one hour."""
    made = endpoint(json={"access_token": "ya29.x", "expires_in": 3600, "token_type": "Bearer"})
    token = await oauth(World())()
    form = dict(httpx.QueryParams(made.requests[0].content.decode()))
    options = {"verify_exp": False, "verify_iat": False}
    claims = jwt.decode(
        form["assertion"],
        rsa_key().public_key(),
        algorithms=["RS256"],
        audience="https://oauth2.googleapis.com/token",
        options=options,  # type: ignore[arg-type]
    )

    assert token == ("ya29.x", 3_300.0)
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    assert jwt.get_unverified_header(form["assertion"])["kid"] == "0123456789abcdef"
    assert claims == {
        "iss": "push@demo-project.iam.gserviceaccount.com",
        "scope": "https://www.googleapis.com/auth/firebase.messaging",
        "aud": "https://oauth2.googleapis.com/token",
        "iat": int(START),
        "exp": int(START) + 3600,
    }


@pytest.mark.parametrize(
    ("seconds", "shown"), [(3600, 3300.0), (1800, 1500.0), (10, 60.0), (None, 3300.0), ("x", 3300.0)]
)
async def test_an_access_token_is_left_before_its_end(
    endpoint: Callable[..., Endpoint], seconds: Any, shown: float
) -> None:
    """Five minutes early; a strange life is taken for an hour."""
    endpoint(json={"access_token": "ya29.x", "expires_in": seconds})

    assert await oauth(World())() == ("ya29.x", shown)


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_a_refused_service_account_is_blocked_by_its_code(
    endpoint: Callable[..., Endpoint], status: int
) -> None:
    """The reason is the code of RFC 6749, and nothing of what else the answer says."""
    endpoint(status, {"error": "invalid_grant", "error_description": "Invalid JWT Signature. secret"})

    with pytest.raises(CredentialBlocked, match=r"^fcm:invalid_grant$"):
        await oauth(World())()


@pytest.mark.parametrize(
    ("status", "more"),
    [
        (500, {"json": {"error": "internal_failure"}}),
        (400, {"json": {"error": "secret words"}}),
        (400, {"json": ["invalid_grant"]}),
        (200, {"json": {}}),
        (200, {"json": {"access_token": ""}}),
        (200, {"json": {"access_token": "a\r\nx: y"}}),
        (200, {"text": "<html>secret</html>"}),
        (302, {"headers": {"location": "https://elsewhere.example"}}),
    ],
)
async def test_anything_else_may_pass(
    endpoint: Callable[..., Endpoint], status: int, more: dict[str, Any]
) -> None:
    """Not blocked, tried again; no text of the answer stands in the error, and nobody is followed."""
    made = endpoint(status, **more)

    with pytest.raises(SenderError, match=rf"^the token endpoint answered {status} without a token$"):
        await oauth(World())()
    assert len(made.requests) == 1


async def test_an_endpoint_that_is_away_may_come_back(endpoint: Callable[..., Endpoint]) -> None:
    """The error is named by its kind alone: its text may hold the URL."""
    endpoint(error=httpx.ConnectError("secret"))

    with pytest.raises(SenderError, match=r"^the token endpoint did not answer: ConnectError$"):
        await oauth(World())()


async def test_nothing_secret_is_shown() -> None:
    """Neither token nor key stands in a repr."""
    world = World()
    authorization = world.apns(apns_secret())
    token = await authorization.obtain()

    assert token not in repr(authorization)
    assert "PRIVATE" not in repr(authorization)
    await asyncio.sleep(0)
