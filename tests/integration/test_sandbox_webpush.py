"""Web Push as the sandbox plays it: subscriptions without storage, VAPID, encryption, four dialects."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from typing import Any

import aiohttp
import http_ece
import httpx
import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import ec
from py_vapid import Vapid
from pywebpush import WebPushException, webpush, webpush_async

from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from clarion.sandbox.webpush import KeyPair, Subscriber, subscriber, subscription
from clarion.sandbox.webpush_crypto import Undecryptable, decrypt, read_vapid
from clarion.store.base64url import decode_base64, encode_base64url
from tests.support.sandbox import public_key, vapid

HELLO = b'{"title":"Hello","body":"there","tag":"t1"}'
ALL = ("google", "mozilla", "apple", "wns", "rfc")


def raw(text: str) -> bytes:
    """The bytes behind base64url."""
    found = decode_base64(text)
    assert found is not None
    return found


def encrypt(plain: bytes, to: dict[str, Any], private: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    """Encrypt with somebody else's library."""
    sealed = http_ece.encrypt(
        plain,
        salt=os.urandom(16),
        private_key=private or ec.generate_private_key(ec.SECP256R1()),
        dh=raw(to["keys"]["p256dh"]),
        auth_secret=raw(to["keys"]["auth"]),
        version="aes128gcm",
    )
    return bytes(sealed)


async def push(
    sandbox: Sandbox,
    http: httpx.AsyncClient,
    to: dict[str, Any],
    plain: bytes | None = HELLO,
    body: bytes | None = None,
    method: str = "POST",
    **headers: str | None,
) -> httpx.Response:
    """Send a good request; `ttl=…` replaces a header, None leaves it out."""
    origin = next(n for n, service in enumerate(sandbox.webpush) if to["endpoint"].startswith(service.url))
    given: dict[str, str | None] = {
        "ttl": "3600",
        "content-encoding": "aes128gcm",
        "authorization": vapid(sandbox, origin),
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    content = body if body is not None else encrypt(plain, to) if plain is not None else b""
    kept = {name: value for name, value in given.items() if value is not None}
    return await http.request(method, to["endpoint"], content=content, headers=kept)


def speak(sandbox: Sandbox, dialect: str) -> dict[str, Any]:
    """The first origin speaks it; a subscription there."""
    sandbox.change({"dialects": [dialect, "mozilla", "apple"]})
    return subscription(1, sandbox.webpush[0].url)


# ---- subscriptions


def test_subscriptions_are_a_pure_function() -> None:
    """The same for the same number, everywhere; different for others; the segment alone tells the keys."""
    one, two = (subscription(n, "https://127.0.0.1:1") for n in (1, 2))
    segment = one["endpoint"].rpartition("/")[2]
    known = subscriber(segment)

    assert one == subscription(1, "https://127.0.0.1:1/")
    assert one["endpoint"] != two["endpoint"]
    assert one["keys"]["auth"] != two["keys"]["auth"]
    assert known is not None
    assert (known.pair.p256dh, encode_base64url(known.auth)) == (
        one["keys"]["p256dh"],
        one["keys"]["auth"],
    )
    assert (len(raw(one["keys"]["p256dh"])), len(raw(one["keys"]["auth"]))) == (65, 16)


def test_made_up_segments_are_nobodys() -> None:
    """A changed letter, an empty one, one without its check."""
    segment = subscription(7, "https://127.0.0.1:1")["endpoint"].rpartition("/")[2]

    for wrong in ("8" + segment[1:], segment[:-1] + "x", "", "7-any", "-"):
        assert subscriber(wrong) is None


def test_the_receiving_end_reads_the_vector_of_the_rfc() -> None:
    """RFC 8291 §5, with its keys."""
    private = ec.derive_private_key(
        int.from_bytes(raw("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"), "big"), ec.SECP256R1()
    )
    text = "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4"
    to = Subscriber("any", KeyPair(private, raw(text), text), raw("BTBZMqHH6r4Tts7J_aSIgg"))
    body = raw(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS"
        "6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qu"
        "lcy4a-fN"
    )

    assert decrypt(body, to) == b"When I grow up, I want to be a watermelon"


def test_the_vapid_vector_of_the_rfc() -> None:
    """RFC 8292 §2.4 verifies."""
    read = read_vapid(
        "vapid t=eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJodHRwczovL3B1c2guZXhhbXBsZS5uZXQiLCJl"
        "eHAiOjE0NTM1MjM3NjgsInN1YiI6Im1haWx0bzpwdXNoQGV4YW1wbGUuY29tIn0.i3CYb7t4xfxCDquptFOepC9GAu_HL"
        "GkMlMuCGSK2rpiUfnK9ojFwDXb1JrErtmysazNjjvW2L9OkSSHzvoD1oA, k=BA1Hxzyi1RUM1b5wjxsn7nGxAszw2u61"
        "m164i3MrAIxHF6YK5h4SDYic-dRuU_RCPCfA5aq9ojSwk5Y2EmClBPs"
    )

    assert (read.problem, read.audience, read.subject) == (
        None,
        "https://push.example.net",
        "mailto:push@example.com",
    )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda body: body[:50],
        lambda body: body[:20] + b"\x10" + body[21:],
        lambda body: body[:16] + (17).to_bytes(4, "big") + body[20:],
        lambda body: body[:16] + (20).to_bytes(4, "big") + body[20:],
        lambda body: body[:-1] + bytes((body[-1] ^ 1,)),
        lambda body: body[:30] + bytes((body[30] ^ 1,)) + body[31:],
    ],
)
def test_what_a_browser_throws_away(spoil: Any) -> None:
    """Cut short, another key length, a record size too small or of several records, tampered with."""
    to = subscription(1, "https://127.0.0.1:1")
    known = subscriber(to["endpoint"].rpartition("/")[2])
    assert known is not None

    with pytest.raises(Undecryptable):
        decrypt(spoil(encrypt(HELLO, to)), known)


# ---- accepted


async def test_accepted(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """201 with a Location, at each of the three origins, and the browser could read it."""
    for origin in sandbox.webpush:
        to = subscription(100 + origin.origin, origin.url)
        answer = await push(sandbox, http, to, urgency="high", topic="news-1_A")

        assert (answer.status_code, answer.content) == (201, b"")
        assert answer.headers["location"].startswith(origin.url + "/m/")
        (shown,) = await sandbox.shown(to["endpoint"].rpartition("/")[2])
        assert (shown["key"], shown["title"], shown["body"]) == ("news-1_A", "Hello", "there")
        assert shown["content"] == content_hash("Hello", "there")


@pytest.mark.parametrize(
    ("plain", "key", "title", "body"),
    [
        (HELLO, "t1", "Hello", "there"),
        (b'{"web_push":8030,"notification":{"title":"D","body":"w","tag":"t2"}}', "t2", "D", "w"),
        (b"just text", None, "", "just text"),
        (b"[1]", None, "", "[1]"),
    ],
)
async def test_payloads(
    sandbox: Sandbox, http: httpx.AsyncClient, plain: bytes, key: str | None, title: str, body: str
) -> None:
    """Flat, declarative, and text; without a Topic the payload's tag is the key."""
    to = subscription(int.from_bytes(plain[:6], "big"), sandbox.webpush[0].url)
    await push(sandbox, http, to, plain)
    (shown,) = await sandbox.shown(to["endpoint"].rpartition("/")[2])

    assert (shown["key"], shown["title"], shown["body"]) == (key, title, body)


async def test_just_right(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """4096 bytes, no body at all, TTL 0, and a TTL that is shortened and says so."""
    to = subscription(2, sandbox.webpush[1].url)
    full = encrypt(b"x" * 3993, to)
    long = await push(sandbox, http, to, ttl="999999999999")

    assert len(full) == 4096
    assert (await push(sandbox, http, to, body=full)).status_code == 201
    assert (await push(sandbox, http, to, None, content_encoding=None)).status_code == 201
    assert (await push(sandbox, http, to, ttl="0")).status_code == 201
    assert (long.status_code, long.headers["ttl"]) == (201, "2592000")


async def test_what_cannot_be_read_is_accepted(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """No push service can see it; the log says that the browser threw it away."""
    to, other = (subscription(n, sandbox.webpush[0].url) for n in (300, 301))
    answer = await push(sandbox, http, to, body=encrypt(HELLO, other))
    segment = to["endpoint"].rpartition("/")[2]
    (entry,) = [entry async for entry in sandbox.log.entries(segment)]

    assert answer.status_code == 201
    assert (entry["reason"], entry["content"]) == ("Undecryptable", None)
    assert await sandbox.shown(segment) == []


async def test_only_a_share_is_decrypted(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """With decrypt 0 nothing is read, and everything else is as ever."""
    sandbox.change({"decrypt": 0})
    to = subscription(400, sandbox.webpush[0].url)
    answer = await push(sandbox, http, to)
    (entry,) = [entry async for entry in sandbox.log.entries(to["endpoint"].rpartition("/")[2])]

    assert answer.status_code == 201
    assert (entry["status"], entry["content"], entry["reason"]) == (201, None, None)


async def test_a_restricted_subscription(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """Made under one VAPID key, it takes no other."""
    url = sandbox.webpush[1].url
    mine = subscription(5, url, sandbox.credentials.webpush["public_key"])
    stranger = Vapid()
    stranger.generate_keys()
    other = subscription(5, url, public_key(stranger))

    assert (await push(sandbox, http, mine)).status_code == 201
    refused = await push(sandbox, http, other)
    assert (refused.status_code, refused.json()["errno"]) == (401, 109)


# ---- refused: each rule, in each dialect

UNAUTHORIZED = (401, (401, 109), (403, "BadAuthorizationHeader"), 401, 401)
# What is wrong, and status (and errno or reason) at Google, Mozilla, Apple, Windows and by the RFCs.
WRONG: list[tuple[str, dict[str, Any], tuple[Any, Any, Any, Any, Any]]] = [
    ("no ttl", {"ttl": None}, (400, (400, 111), (400, "BadTtl"), 400, 400)),
    ("ttl", {"ttl": "-1"}, (400, (400, 114), (400, "BadTtl"), 400, 400)),
    ("ttl 0", {"ttl": "0"}, (201, 201, (400, "BadTtl"), 400, 201)),
    ("urgency", {"urgency": "now"}, (400, 201, (400, "BadUrgency"), 400, 400)),
    ("two urgencies", {"urgency": "low,high"}, (400, 201, (400, "BadUrgency"), 400, 400)),
    ("topic of 33", {"topic": "a" * 33}, (400, (400, 113), (400, "BadWebPushTopic"), 400, 400)),
    ("topic alphabet", {"topic": "a.b"}, (400, (400, 113), (400, "BadWebPushTopic"), 400, 400)),
    ("no encoding", {"content_encoding": None}, (400, (400, 110), (400, "BadWebPushRequest"), 400, 400)),
    ("old encoding", {"content_encoding": "aesgcm"}, (400, (400, 110), (400, "BadWebPushRequest"), 400, 400)),
    ("draft headers", {"crypto_key": "dh=x"}, (400, (400, 110), (400, "BadWebPushRequest"), 400, 400)),
    ("4097 bytes", {"body": b"x" * 4097}, (413, (413, 104), (413, "PayloadTooLarge"), 413, 413)),
    ("no authorization", {"authorization": None}, UNAUTHORIZED),
    ("bearer", {"authorization": "bearer x"}, UNAUTHORIZED),
    ("no key", {"authorization": "vapid t=x"}, (400, (401, 109), (403, "BadVapidPublicKey"), 400, 400)),
    ("method", {"method": "PUT"}, (405, (405, 0), (405, "MethodNotAllowed"), 405, 405)),
]  # fmt: skip


def told(answer: httpx.Response) -> Any:
    """Status, beside it what the dialect adds: Mozilla's errno, Apple's reason."""
    if not answer.content or answer.headers["content-type"].startswith("text/plain"):
        return answer.status_code
    body = answer.json()
    if "errno" in body:
        assert body["code"] == answer.status_code
        assert {"error", "message", "more_info"} <= body.keys()
    else:
        assert list(body) == ["reason"]
    return answer.status_code, body.get("errno", body.get("reason"))


@pytest.mark.parametrize(("wrong", "expected"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
async def test_wrong_requests(
    sandbox: Sandbox, http: httpx.AsyncClient, wrong: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    """Each rule broken alone, in the words of each service."""
    answers = []
    for dialect in ALL:
        to = speak(sandbox, dialect)
        answers.append(told(await push(sandbox, http, to, **wrong)))

    assert tuple(answers) == expected


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "https://example.com"},
        {"aud": None},
        {"hours": 25},
        {"hours": -1},
        {"exp": "soon"},
        {"key": "other"},
    ],
)
async def test_wrong_vapid_claims(sandbox: Sandbox, http: httpx.AsyncClient, claims: dict[str, Any]) -> None:
    """Another audience, none, too long, over, no number, another's signature: nowhere accepted."""
    expected = {"google": 403, "mozilla": (401, 109), "apple": (403, "BadJwtToken"), "wns": 403, "rfc": 403}
    for dialect, answer in expected.items():
        to = speak(sandbox, dialect)
        if claims == {"key": "other"}:
            stranger = Vapid()
            stranger.generate_keys()
            mine = vapid(sandbox)
            header = f"{mine.partition(', k=')[0]}, k={public_key(stranger)}"
        else:
            header = vapid(sandbox, **claims)
        assert told(await push(sandbox, http, to, authorization=header)) == answer


@pytest.mark.parametrize(
    ("subject", "apple"),
    [
        ("mailto:ops@localhost", False),
        ("mailto: ops@x.example", False),
        ("mailto:<ops@x.example>", False),
        ("https://localhost", False),
        ("mailto:a@b.local", False),
        (None, False),
        ("mailto:ops@x.example", True),
        ("https://x.example/contact", True),
    ],
)
async def test_apple_wants_a_contact(
    sandbox: Sandbox, http: httpx.AsyncClient, subject: str | None, apple: bool
) -> None:
    """What works everywhere else is BadJwtToken there."""
    answers = []
    for dialect in ("mozilla", "google", "apple"):
        to = speak(sandbox, dialect)
        answers.append(told(await push(sandbox, http, to, authorization=vapid(sandbox, sub=subject))))

    assert answers == [201, 201, 201 if apple else (403, "BadJwtToken")]


async def test_the_signing_key_is_not_the_encryption_key(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """A message under the VAPID key itself is refused."""
    to = subscription(1, sandbox.webpush[1].url)
    private = Vapid.from_raw(sandbox.credentials.webpush["private_key"].encode()).private_key
    answer = await push(sandbox, http, to, body=encrypt(HELLO, to, private))

    assert told(answer) == (401, 109)


async def test_gone_and_unknown(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """A subscription that ended, and one that never was, in each dialect."""
    ended, never = [], []
    for dialect in ALL:
        to = speak(sandbox, dialect)
        sandbox.bury({"provider": "webpush", "tokens": [to["endpoint"].rpartition("/")[2]]})
        ended.append(await push(sandbox, http, to))
        never.append(await push(sandbox, http, to | {"endpoint": to["endpoint"] + "x"}))

    assert [told(answer) for answer in ended] == [410, (410, 106), (410, "Unregistered"), 410, 410]
    assert [told(answer) for answer in never] == [404, (404, 102), (404, "BadPath"), 404, 404]
    assert ended[0].text == "push subscription has unsubscribed or expired\n"
    assert ended[1].headers["cache-control"] == "max-age=86400"


async def test_other_ways_to_be_dead(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """A reason of the dialect, for one registration."""
    to = speak(sandbox, "apple")
    sandbox.bury({"tokens": [to["endpoint"].rpartition("/")[2]], "reason": "VapidPkHashMismatch"})

    assert told(await push(sandbox, http, to)) == (400, "VapidPkHashMismatch")


async def test_windows_tells_by_headers(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """TTL and cache policy have to agree; throttling is 406; the body is empty."""
    to = speak(sandbox, "wns")
    conflict = await push(sandbox, http, to, ttl="0")
    other = await push(sandbox, http, to, ttl="60", x_wns_cache_policy="no-cache")
    good = [
        await push(sandbox, http, to, ttl="0", x_wns_cache_policy="no-cache"),
        await push(sandbox, http, to, ttl="60", x_wns_cache_policy="cache"),
        await push(sandbox, http, to, ttl="60"),
    ]
    await sandbox.add_rule({"provider": "webpush", "status": 406})
    throttled = await push(sandbox, http, to)

    assert (conflict.status_code, other.status_code) == (400, 400)
    description = "Ttl value conflicts with X-WNS-Cache-Policy"
    assert conflict.headers["x-wns-error-description"] == description
    assert conflict.content == b""
    assert [answer.status_code for answer in good] == [201] * 3
    assert (throttled.status_code, throttled.headers["x-wns-notificationstatus"]) == (406, "channelthrottled")
    assert int(throttled.headers["retry-after"]) > 0


# ---- somebody else's client


def claims(sandbox: Sandbox) -> dict[str, str | int]:
    """What pywebpush signs; the audience it finds itself."""
    return {"sub": "mailto:push@clarion.example"}


def sync_push(sandbox: Sandbox, to: dict[str, Any], **more: Any) -> requests.Response:
    """pywebpush as it is, trusting the sandbox."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(sandbox.authority.ca_path)
        answer = webpush(
            to,
            data=json.dumps({"title": "Hello", "body": "pywebpush"}),
            vapid_private_key=sandbox.credentials.webpush["private_key"],
            vapid_claims=claims(sandbox),
            requests_session=session,
            timeout=5,
            ttl=60,
            **more,
        )
        assert isinstance(answer, requests.Response)
        return answer


async def test_pywebpush(sandbox: Sandbox) -> None:
    """It sends over HTTP/1.1 to every origin, and is told when the subscription has gone."""
    for origin in sandbox.webpush:
        to = subscription(500 + origin.origin, origin.url)
        answer = await asyncio.to_thread(sync_push, sandbox, to, headers={"urgency": "low"})
        assert answer.status_code == 201
        (shown,) = await sandbox.shown(to["endpoint"].rpartition("/")[2])
        assert shown["body"] == "pywebpush"
        sandbox.bury({"tokens": [to["endpoint"].rpartition("/")[2]]})
        with pytest.raises(WebPushException, match="410"):
            await asyncio.to_thread(sync_push, sandbox, to)


async def test_pywebpush_asynchronous(sandbox: Sandbox) -> None:
    """Its other way, through aiohttp."""
    to = subscription(510, sandbox.webpush[1].url)
    connector = aiohttp.TCPConnector(ssl=sandbox.authority.client_context())
    async with aiohttp.ClientSession(connector=connector) as session:
        answer = await webpush_async(
            to,
            data="text",
            vapid_private_key=sandbox.credentials.webpush["private_key"],
            vapid_claims=claims(sandbox),
            aiohttp_session=session,
            ttl=60,
        )

    assert not isinstance(answer, str)
    assert answer.status == 201


def test_base64_of_both_alphabets() -> None:
    """The keys of a subscription are URL-safe and unpadded, as browsers write them."""
    keys = subscription(3, "https://127.0.0.1:1")["keys"]

    for text in keys.values():
        padded = text + "=" * (-len(text) % 4)
        assert base64.urlsafe_b64decode(padded) == raw(text)
        assert not set(text) & set("+/=")
