"""APNs as the sandbox plays it, told by clients that are not ours."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from typing import Any

import aioapns
import httpx
import pytest
from aioapns.connection import APNsDevelopmentClientProtocol

from clarion.sandbox.certificates import DEVELOPMENT, PRODUCTION, Pair
from clarion.sandbox.sandbox import Sandbox
from tests.support.sandbox import (
    ALERT,
    DEVICE,
    TOPIC,
    WAIT,
    H2Client,
    apns_headers,
    h2_client,
    h2_connect,
    new_key,
    provider_token,
)

UUID = "123e4567-e89b-12d3-a456-426614174000"
SILENT = b'{"aps":{"content-available":1}}'


def payload(size: int) -> bytes:
    """A JSON object of so many bytes."""
    return b'{"aps":{"alert":"%b"}}' % (b"x" * (size - 20))


async def good(client: H2Client, sandbox: Sandbox) -> str:
    """Send one that is accepted; the token it was sent with."""
    token = provider_token(sandbox)
    assert (await client.request(apns_headers(token))).status == 200
    return token


# ---- accepted


async def test_accepted(sandbox: Sandbox) -> None:
    """200, the id echoed, the development environment's unique id, and no body."""
    async with h2_client(sandbox) as client:
        reply = await client.request(apns_headers(provider_token(sandbox), apns_id=UUID))

    assert (reply.status, reply.body) == (200, b"")
    assert reply.headers["apns-id"] == UUID
    assert len(reply.headers["apns-unique-id"]) == 36


async def test_an_id_is_made_up(sandbox: Sandbox) -> None:
    """Without apns-id the answer brings one."""
    async with h2_client(sandbox) as client:
        reply = await client.request(apns_headers(provider_token(sandbox)))

    assert len(reply.headers["apns-id"]) == 36


async def test_a_client_without_alpn(sandbox: Sandbox) -> None:
    """Pushy offers none, and Apple takes it."""
    async with h2_client(sandbox, alpn=False) as client:
        assert client.transport.get_extra_info("ssl_object").selected_alpn_protocol() is None
        await good(client, sandbox)


async def test_http_1_is_refused(sandbox: Sandbox) -> None:
    """HTTP/2 is all there is."""
    async with httpx.AsyncClient(verify=sandbox.authority.client_context()) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(f"https://127.0.0.1:{sandbox.listeners['apns'].port}/3/device/{DEVICE}")


async def test_a_ping_is_answered(sandbox: Sandbox) -> None:
    """A client may ask for a sign of life."""
    async with h2_client(sandbox) as client:
        client.h2.ping(b"12345678")
        client.send()
        async with asyncio.timeout(WAIT):
            while not client.pongs:
                client.changed.clear()
                await client.changed.wait()

        assert client.pongs == 1


@pytest.mark.parametrize(
    ("push_type", "suffix", "priority", "body"),
    [
        ("alert", "", "1", ALERT),
        ("background", "", "5", SILENT),
        ("location", ".location-query", "5", b"{}"),
        ("voip", ".voip", "10", b"{}"),
        ("complication", ".complication", "10", b"{}"),
        ("fileprovider", ".pushkit.fileprovider", "10", b"{}"),
        ("liveactivity", ".push-type.liveactivity", "5", b'{"aps":{"event":"update"}}'),
        ("pushtotalk", ".voip-ptt", "10", b"{}"),
        ("widgets", ".push-type.widgets", "10", b'{"aps":{"content-changed":true}}'),
        ("controls", ".push-type.controls", "10", b"{}"),
        ("mdm", ".anything", "10", b'{"mdm":"magic"}'),
    ],
)
async def test_every_push_type(
    sandbox: Sandbox, push_type: str, suffix: str, priority: str, body: bytes
) -> None:
    """Each with its topic and a priority that it allows."""
    headers = apns_headers(
        provider_token(sandbox),
        apns_push_type=push_type,
        apns_topic=TOPIC + suffix,
        apns_priority=priority,
    )
    async with h2_client(sandbox) as client:
        reply = await client.request(headers, body)

    assert (reply.status, reply.body) == (200, b"")


# ---- refused

BACKGROUND: dict[str, str | None] = {"apns_push_type": "background", "apns_priority": "5"}
VOIP: dict[str, str | None] = {"apns_push_type": "voip", "apns_topic": TOPIC + ".voip"}
LOCATION: dict[str, str | None] = {"apns_push_type": "location", "apns_topic": TOPIC + ".location-query"}
BADGE = b'{"aps":{"content-available":1,"badge":0}}'

WRONG: list[tuple[str, dict[str, str | None], bytes, int, str]] = [
    ("method", {"method": "GET"}, ALERT, 405, "MethodNotAllowed"),
    ("path", {"path": "/3/devices/x"}, ALERT, 404, "BadPath"),
    ("version", {"path": f"/2/device/{DEVICE}"}, ALERT, 404, "BadPath"),
    ("no device", {"path": "/3/device/"}, ALERT, 400, "MissingDeviceToken"),
    ("no slash", {"path": "/3/device"}, ALERT, 400, "MissingDeviceToken"),
    ("no hex", {"path": "/3/device/" + "xy" * 32}, ALERT, 400, "BadDeviceToken"),
    ("short", {"path": "/3/device/" + "ab" * 31}, ALERT, 400, "BadDeviceToken"),
    ("odd", {"path": "/3/device/" + "a" * 65}, ALERT, 400, "BadDeviceToken"),
    ("id", {"apns_id": "no-uuid"}, ALERT, 400, "BadMessageId"),
    ("id in capitals", {"apns_id": UUID.upper()}, ALERT, 400, "BadMessageId"),
    ("no token", {"authorization": None}, ALERT, 403, "MissingProviderToken"),
    ("basic", {"authorization": "Basic eDp5"}, ALERT, 403, "MissingProviderToken"),
    ("nonsense", {"authorization": "bearer nonsense"}, ALERT, 403, "InvalidProviderToken"),
    ("no topic", {"apns_topic": None}, ALERT, 400, "MissingTopic"),
    ("odd topic", {"apns_topic": "com example"}, ALERT, 400, "BadTopic"),
    ("another's topic", {"apns_topic": "com.example.other"}, ALERT, 400, "TopicDisallowed"),
    ("topic too long for its type", {"apns_topic": TOPIC + ".voip"}, ALERT, 400, "BadTopic"),
    ("topic too short for its type", {"apns_push_type": "voip"}, ALERT, 400, "BadTopic"),
    ("push type", {"apns_push_type": "shout"}, ALERT, 400, "InvalidPushType"),
    ("priority", {"apns_priority": "7"}, ALERT, 400, "BadPriority"),
    ("priority 10 in the background", {"apns_push_type": "background"}, SILENT, 400, "BadPriority"),
    ("no priority in the background", BACKGROUND | {"apns_priority": None}, SILENT, 400, "BadPriority"),
    ("background by its payload", {"apns_push_type": None}, SILENT, 400, "BadPriority"),
    ("background with an alert", BACKGROUND, ALERT, 400, "InvalidPushType"),
    ("background with a badge", BACKGROUND, BADGE, 400, "InvalidPushType"),
    ("location at priority 1", LOCATION | {"apns_priority": "1"}, ALERT, 400, "BadPriority"),
    ("expiration", {"apns_expiration": "tomorrow"}, ALERT, 400, "BadExpirationDate"),
    ("negative expiration", {"apns_expiration": "-1"}, ALERT, 400, "BadExpirationDate"),
    ("expiration in milliseconds", {"apns_expiration": "1900000000000"}, ALERT, 400, "BadExpirationDate"),
    ("collapse id of 65 bytes", {"apns_collapse_id": "a" * 65}, ALERT, 400, "BadCollapseId"),
    ("collapse id of 33 letters", {"apns_collapse_id": "é" * 33}, ALERT, 400, "BadCollapseId"),
    ("no body", {}, b"", 400, "PayloadEmpty"),
    ("no JSON", {}, b'{"aps":', 400, "PayloadEmpty"),
    ("no object", {}, b"[1]", 400, "PayloadEmpty"),
    ("4097 bytes", {}, payload(4097), 413, "PayloadTooLarge"),
    ("5121 bytes of voip", VOIP, payload(5121), 413, "PayloadTooLarge"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "body", "status", "reason"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG]
)
async def test_wrong_requests(
    sandbox: Sandbox, changes: dict[str, str | None], body: bytes, status: int, reason: str
) -> None:
    """Each rule broken alone gives Apple's status and reason, with the id, as JSON and nothing more."""
    async with h2_client(sandbox) as client:
        reply = await client.request(apns_headers(provider_token(sandbox), **changes), body)

    assert (reply.status, json.loads(reply.body)) == (status, {"reason": reason})
    assert reply.headers["content-type"] == "application/json"
    assert len(reply.headers["apns-id"]) == 36
    assert "retry-after" not in reply.headers


@pytest.mark.parametrize(
    ("changes", "body"),
    [
        ({}, payload(4096)),
        (VOIP, payload(5120)),
        ({"apns_collapse_id": "a" * 64}, ALERT),
        ({"apns_collapse_id": "é" * 32}, ALERT),
        ({"apns_expiration": "0"}, ALERT),
        ({"apns_expiration": "1900000000"}, ALERT),
        ({"path": "/3/device/" + "0123456789abcdef" * 10}, ALERT),
        ({"path": "/3/device/" + "AB" * 32}, ALERT),
        ({"apns_push_type": None, "apns_priority": None}, ALERT),
    ],
)
async def test_just_right(sandbox: Sandbox, changes: dict[str, str | None], body: bytes) -> None:
    """What stays within every limit is accepted."""
    async with h2_client(sandbox) as client:
        reply = await client.request(apns_headers(provider_token(sandbox), **changes), body)

    assert reply.status == 200


@pytest.mark.parametrize("name", ["apns-topic", "apns-id", "apns-priority", "authorization"])
async def test_a_header_twice(sandbox: Sandbox, name: str) -> None:
    """Any repeated header is DuplicateHeaders, also on the way that knows the request by its bytes."""
    headers = apns_headers(provider_token(sandbox), apns_id=UUID)
    async with h2_client(sandbox) as client:
        await good(client, sandbox)
        reply = await client.request([*headers, (name, dict(headers)[name])])

    assert (reply.status, json.loads(reply.body)) == (400, {"reason": "DuplicateHeaders"})


async def test_gone(sandbox: Sandbox) -> None:
    """410 tells when, in milliseconds; any other reason has no time."""
    sandbox.bury({"provider": "apns", "tokens": [DEVICE], "timestamp": 1_700_000_000_123})
    sandbox.bury({"provider": "apns", "tokens": ["cd" * 32], "reason": "ExpiredToken"})
    sandbox.bury({"provider": "apns", "tokens": ["ef" * 32], "reason": "DeviceTokenNotForTopic"})
    token = provider_token(sandbox)
    async with h2_client(sandbox) as client:
        gone, expired, other = [
            await client.request(apns_headers(token, device)) for device in (DEVICE, "cd" * 32, "ef" * 32)
        ]

    assert (gone.status, json.loads(gone.body)) == (
        410,
        {"reason": "Unregistered", "timestamp": 1_700_000_000_123},
    )
    assert expired.status == 410
    assert json.loads(expired.body)["timestamp"] == pytest.approx(time.time() * 1000, abs=10_000)
    assert (other.status, json.loads(other.body)) == (400, {"reason": "DeviceTokenNotForTopic"})


# ---- tokens


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"kid": "OTHERKEY00"}, "InvalidProviderToken"),
        ({"team": "OTHERTEAM0"}, "InvalidProviderToken"),
        ({"key": new_key()}, "InvalidProviderToken"),
        ({"key": "a shared secret of enough length", "algorithm": "HS256"}, "InvalidProviderToken"),
        ({"iat": None}, "InvalidProviderToken"),
        ({"age": -3700}, "InvalidProviderToken"),
        ({"age": 3700}, "ExpiredProviderToken"),
    ],
)
async def test_wrong_tokens(sandbox: Sandbox, wrong: dict[str, Any], reason: str) -> None:
    """Unknown key, another team, another's signature, another algorithm, no or a bad time: 403."""
    async with h2_client(sandbox) as client:
        reply = await client.request(apns_headers(provider_token(sandbox, **wrong)))

    assert (reply.status, json.loads(reply.body)) == (403, {"reason": reason})


async def test_an_expired_token_wedges_the_connection(sandbox: Sandbox) -> None:
    """After ExpiredProviderToken a new token does not help here; on a new connection it does."""
    async with h2_client(sandbox) as client:
        await client.request(apns_headers(provider_token(sandbox, age=3700)))
        reply = await client.request(apns_headers(provider_token(sandbox)))
        assert json.loads(reply.body) == {"reason": "ExpiredProviderToken"}
    async with h2_client(sandbox) as client:
        await good(client, sandbox)


async def test_a_token_grows_old(sandbox: Sandbox) -> None:
    """The clock decides with every request, not only when the token was first seen."""
    async with h2_client(sandbox) as client:
        token = await good(client, sandbox)
        sandbox.change({"clock": 3700})
        reply = await client.request(apns_headers(token))

    assert json.loads(reply.body) == {"reason": "ExpiredProviderToken"}


async def test_tokens_change_every_twenty_minutes(sandbox: Sandbox) -> None:
    """A second one within 20 minutes is 429, the old one goes on; after 20 minutes it may change."""
    async with h2_client(sandbox) as client:
        token = await good(client, sandbox)
        early = await client.request(apns_headers(provider_token(sandbox, age=1)))
        again = await client.request(apns_headers(token))
        sandbox.change({"clock": 1201})
        later = await client.request(apns_headers(provider_token(sandbox, age=2)))

    assert (early.status, json.loads(early.body)) == (429, {"reason": "TooManyProviderTokenUpdates"})
    assert (again.status, later.status) == (200, 200)


async def test_a_connection_is_bound_to_team_and_keys(sandbox: Sandbox) -> None:
    """Another team, another family of keys, another environment: refused until the connection is new."""
    team = sandbox.credentials.apns["team_id"]
    keys = {name: new_key() for name in ("OTHERTEAM1", "TOPICKEY01", "PRODUCTKEY")}
    sandbox.trust(apns={"team_id": "TEAMNUMBR2", "key_id": "OTHERTEAM1", "private_key": keys["OTHERTEAM1"]})
    sandbox.trust(
        apns={
            "team_id": team,
            "key_id": "TOPICKEY01",
            "private_key": keys["TOPICKEY01"],
            "topics": ["com.example.only"],
        }
    )
    sandbox.trust(
        apns={
            "team_id": team,
            "key_id": "PRODUCTKEY",
            "private_key": keys["PRODUCTKEY"],
            "environment": "production",
        }
    )
    reasons = []
    async with h2_client(sandbox) as client:
        await good(client, sandbox)
        for kid, key in keys.items():
            of = "TEAMNUMBR2" if kid == "OTHERTEAM1" else team
            token = provider_token(sandbox, team=of, kid=kid, key=key)
            reasons.append(json.loads((await client.request(apns_headers(token))).body)["reason"])
    async with h2_client(sandbox) as client:
        token = provider_token(sandbox, kid="TOPICKEY01", key=keys["TOPICKEY01"])
        disallowed = await client.request(apns_headers(token))
        allowed = await client.request(apns_headers(token, apns_topic="com.example.only"))

    assert reasons == ["InvalidProviderToken", "UnrelatedKeyIdInToken", "BadEnvironmentKeyIdInToken"]
    assert json.loads(disallowed.body) == {"reason": "TopicDisallowed"}
    assert allowed.status == 200


# ---- streams


async def test_one_stream_until_a_token_is_good(sandbox: Sandbox) -> None:
    """One stream at first, all after the first 200; a refused token opens nothing."""
    async with h2_client(sandbox) as client:
        assert client.streams == 1
        await client.request(apns_headers(provider_token(sandbox, kid="OTHERKEY00")))
        assert client.streams == 1
        await good(client, sandbox)
        await client.until_streams(1000)


async def test_too_many_streams_are_refused(sandbox: Sandbox) -> None:
    """What exceeds the limit is RST_STREAM(REFUSED_STREAM) and not processed."""
    await sandbox.add_rule({"provider": "apns", "delay": 0.2})
    token = provider_token(sandbox)
    async with h2_client(sandbox) as client:
        first, second = (client.start(apns_headers(token), ALERT) for _ in range(2))
        await asyncio.wait_for(second.done.wait(), WAIT)
        await asyncio.wait_for(first.done.wait(), WAIT)

    assert (first.status, first.reset, second.reset) == (200, None, 7)
    assert sandbox.counts()["apns"]["requests"] == 1


async def test_errors_cost_streams(sandbox: Sandbox) -> None:
    """With that option on, a 4xx drops the limit to 1 until the next 200; a 410 does not."""
    sandbox.change({"apns_drop_after_error": 1})
    sandbox.bury({"provider": "apns", "tokens": ["cd" * 32]})
    async with h2_client(sandbox) as client:
        token = await good(client, sandbox)
        await client.until_streams(1000)
        await client.request(apns_headers(token, "cd" * 32))
        assert client.streams == 1000
        await client.request(apns_headers(token, "xy" * 32))
        await client.until_streams(1)
        await client.request(apns_headers(token))
        await client.until_streams(1000)


async def test_bad_tokens_cost_the_connection(sandbox: Sandbox) -> None:
    """After so many BadDeviceToken the connection ends."""
    sandbox.change({"apns_bad_tokens": 2})
    token = provider_token(sandbox)
    async with h2_client(sandbox) as client:
        for _ in range(2):
            await client.request(apns_headers(token, "xy" * 32))
        await asyncio.wait_for(client.closed.wait(), WAIT)
        assert client.goaway is not None


# ---- certificates


async def with_certificate(
    sandbox: Sandbox, certificate: Pair, changes: dict[str, str | None]
) -> tuple[int | None, Any]:
    """Status (and reason) of a request on a connection with this certificate, and its first limit."""
    client = await h2_connect(sandbox.listeners["apns"].port, sandbox.authority.client_context(certificate))
    streams = client.streams
    reply = await client.request(apns_headers(None, **changes))
    client.close()
    return streams, json.loads(reply.body)["reason"] if reply.body else reply.status


@pytest.mark.parametrize(
    ("topics", "environments", "changes", "expected"),
    [
        ((), (DEVELOPMENT,), {}, 200),
        ((), (DEVELOPMENT,), {"apns_topic": None}, 200),
        ((), (DEVELOPMENT,), {"authorization": "bearer ignored"}, 200),
        ((), (DEVELOPMENT, PRODUCTION), {}, 200),
        ((), (PRODUCTION,), {}, "BadCertificateEnvironment"),
        ((), (DEVELOPMENT,), {"apns_topic": "com.example.other"}, "TopicDisallowed"),
        ((TOPIC, TOPIC + ".voip"), (DEVELOPMENT,), {"apns_topic": None}, "MissingTopic"),
        (
            (TOPIC, TOPIC + ".voip"),
            (DEVELOPMENT,),
            {"apns_topic": TOPIC + ".voip", "apns_push_type": "voip"},
            200,
        ),
        (
            (TOPIC, TOPIC + ".location-query"),
            (DEVELOPMENT,),
            {"apns_topic": TOPIC + ".location-query", "apns_push_type": "location"},
            "InvalidPushType",
        ),
    ],
)
async def test_certificates(
    sandbox: Sandbox, topics: Any, environments: Any, changes: dict[str, str | None], expected: Any
) -> None:
    """No token and no warm-up; only what the certificate covers, and only in its environment."""
    certificate = sandbox.authority.push_certificate(TOPIC, topics=topics, environments=environments)

    assert await with_certificate(sandbox, certificate, changes) == (1000, expected)


async def test_an_expired_certificate(sandbox: Sandbox) -> None:
    """TLS itself refuses it."""
    certificate = sandbox.authority.push_certificate(TOPIC, days=-1)

    with pytest.raises((ssl.SSLError, ConnectionError)):
        await with_certificate(sandbox, certificate, {})


# ---- somebody else's client


@pytest.fixture
def apple_here(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """aioapns finds the sandbox where it looks for Apple."""
    monkeypatch.setattr(APNsDevelopmentClientProtocol, "APNS_SERVER", "127.0.0.1")
    monkeypatch.setattr(APNsDevelopmentClientProtocol, "APNS_PORT", sandbox.listeners["apns"].port)


@pytest.mark.usefixtures("apple_here")
async def test_aioapns(sandbox: Sandbox) -> None:
    """aioapns sends, and reads the refusals."""
    known = sandbox.credentials.apns
    sandbox.bury({"provider": "apns", "tokens": ["cd" * 32], "timestamp": 1_700_000_000_000})
    client = aioapns.APNs(
        key=known["private_key"],
        key_id=known["key_id"],
        team_id=known["team_id"],
        topic=TOPIC,
        use_sandbox=True,
        ssl_context=sandbox.authority.client_context(),
        err_func=_ignore,
    )
    results = [
        await client.send_notification(
            aioapns.NotificationRequest(
                device_token=device, message={"aps": {"alert": {"title": "Hello", "body": "there"}}}
            )
        )
        for device in (DEVICE, "cd" * 32, "xy" * 32)
    ]
    client.pool.close()

    assert [(result.status, result.description) for result in results] == [
        ("200", None),
        ("410", "Unregistered"),
        ("400", "BadDeviceToken"),
    ]
    assert results[1].timestamp == 1_700_000_000_000


async def _ignore(*_: Any) -> None:
    """Refusals are what is tested."""
