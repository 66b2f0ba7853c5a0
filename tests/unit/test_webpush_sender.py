"""Web Push without a network: encryption, VAPID, payloads, answers and where endpoints may lead."""

from __future__ import annotations

import asyncio
import base64
import json
import re
from dataclasses import replace

import http_ece
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePublicKey,
    derive_private_key,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from clarion.errors import BadSpec
from clarion.http2.frames import HeaderDecoder
from clarion.model.message import Action, Message, Text, WebPushOptions
from clarion.senders.endpoint import ForbiddenAddress, Gatekeeper
from clarion.senders.outcome import ACCEPTED, OutcomeKind, Scope
from clarion.senders.sender import PushFacts
from clarion.senders.vapid import Vapid
from clarion.senders.webpush import Prepared
from clarion.senders.webpush_answers import read
from clarion.senders.webpush_crypto import encrypt
from clarion.senders.webpush_payload import renderings
from clarion.senders.webpush_place import (
    AGAIN,
    APPLE,
    OUTAGE,
    PAUSE_FIRST,
    TROUBLED,
    WNS,
    Standing,
    manner,
)

PUSH = PushFacts(1, "spring", "shop", "clarion-1", high=False, deadline=None)


def decode(text: str) -> bytes:
    """Base64url without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Clock:
    """A clock that stands where it is put."""

    def __init__(self, at: float = 1_800_000_000.0) -> None:
        self.at = at

    def time(self) -> float:
        """The time it was put at."""
        return self.at

    monotonic = time


def vapid(clock: Clock) -> tuple[Vapid, bytes]:
    """A signer and its public point."""
    key = derive_private_key(4711, SECP256R1())
    point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    public = base64.urlsafe_b64encode(point).rstrip(b"=").decode()
    private = base64.urlsafe_b64encode((4711).to_bytes(32, "big")).rstrip(b"=").decode()
    return Vapid(private, public, "mailto:ops@example.com", clock), point  # type: ignore[arg-type]


def test_the_example_of_rfc_8291() -> None:
    """Section 5, byte by byte."""
    key = derive_private_key(
        int.from_bytes(decode("yfWPiYE-n46HLnH0KqZOF1fJJU3MYrct3AELtAQ-oRw"), "big"), SECP256R1()
    )
    point = decode("BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4")
    body = encrypt(
        b"When I grow up, I want to be a watermelon",
        point,
        decode("BTBZMqHH6r4Tts7J_aSIgg"),
        key=key,
        salt=decode("DGv6ra1nlYgDCS1FRnbzlw"),
    )

    assert body == decode(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27mlmlMoZIIgDll6e3vCYLocInmYWAmS6Tlz"
        "AC8wEqKK6PBru3jl7A_yl95bQpu6cVPTpK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )


@pytest.mark.parametrize("size", [1, 100, 3_993])
def test_a_browser_can_read_it(size: int) -> None:
    """Another implementation decrypts it, in one record of at most 4,096 bytes."""
    browser = generate_private_key(SECP256R1())
    point = browser.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    body = encrypt(b"x" * size, point, b"0123456789abcdef")

    assert len(body) == size + 103 <= 4_096
    assert http_ece.decrypt(body, private_key=browser, auth_secret=b"0123456789abcdef") == b"x" * size


def test_a_point_off_the_curve_is_refused() -> None:
    """It would leak our key agreement; the library says so."""
    with pytest.raises(ValueError, match="Invalid EC key"):
        encrypt(b"x", b"\x04" + b"\x01" * 64, b"0" * 16)


def test_vapid_names_the_origin_and_lapses_in_time() -> None:
    """C23: aud is each endpoint's origin with its port and without a path; exp is at most 24 h away."""
    clock = Clock()
    signer, point = vapid(clock)
    for origin in ("https://updates.push.services.mozilla.com", "https://push.example.net:8443"):
        header = signer.authorization(origin).decode()
        token = header.removeprefix("vapid t=").split(",")[0]
        public = EllipticCurvePublicKey.from_encoded_point(SECP256R1(), point)
        claims = jwt.decode(
            token, public, algorithms=["ES256"], audience=origin, options={"verify_exp": False}
        )
        assert claims["aud"] == origin
        assert claims["sub"] == "mailto:ops@example.com"
        assert 3_600 < claims["exp"] - (clock.at + 300) < 86_400


def test_vapid_is_signed_once_and_renewed_before_it_lapses() -> None:
    """Services remember a verified token, Apple wants at most one an hour; a run of 25 hours stays valid."""
    clock = Clock()
    signer, _ = vapid(clock)
    first = signer.authorization("https://push.example.net")
    clock.at += 3_599
    assert signer.authorization("https://push.example.net") is first
    made = {first}
    for _ in range(25):
        clock.at += 3_600
        header = signer.authorization("https://push.example.net")
        made.add(header)
        token = header.decode().removeprefix("vapid t=").split(",")[0]
        claims = jwt.decode(token, options={"verify_signature": False})
        assert claims["exp"] > clock.at + 3_600
    assert len(made) <= 6


def test_the_payload_is_what_the_service_worker_shows() -> None:
    """Title, body, icon, address, actions and data; the tag shows a repeat once."""
    message = Message(
        texts={"default": Text(title="Hello", body='{{ user.name | default: "you" }}')},
        deep_link="https://shop.example/sale",
        image="https://shop.example/a.png",
        data={"id": 9007199254740993},
        webpush=WebPushOptions(icon="/i.png", actions=(Action(action="open", title="Open"),)),
    )
    made = renderings(PUSH, message)

    assert json.loads(made.body("en", {"name": 'x","badge":9,"y":"'})) == {
        "title": "Hello",
        "body": 'x","badge":9,"y":"',
        "icon": "/i.png",
        "image": "https://shop.example/a.png",
        "url": "https://shop.example/sale",
        "tag": "clarion-1",
        "actions": [{"action": "open", "title": "Open"}],
        "data": {"id": 9007199254740993},
    }


def test_what_cannot_fit_a_browser_is_refused_before_launch() -> None:
    """4,096 bytes of body leave 3,993 for the plaintext."""
    message = Message(texts={"default": Text(title="Hello", body="x" * 4_000)})

    with pytest.raises(BadSpec, match="Web Push"):
        renderings(PUSH, message)


@pytest.mark.parametrize("status", [200, 201, 202])
def test_any_yes_is_accepted(status: int) -> None:
    """C25: 201 by the RFC, 200 and 202 by older services."""
    assert read(status, {}, b"") is ACCEPTED


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind", "reason", "retire"),
    [
        (404, {}, b'{"errno": 102}', OutcomeKind.REJECTED, "webpush:errno 102", True),
        (410, {}, b'{"errno": 105}', OutcomeKind.REJECTED, "webpush:errno 105", True),
        (413, {}, b'{"errno": 104}', OutcomeKind.REJECTED, "webpush:errno 104", False),
        (403, {}, b'{"reason":"BadJwtToken"}', OutcomeKind.REJECTED, "webpush:BadJwtToken", False),
        (401, {}, b"<html>", OutcomeKind.REJECTED, "webpush:401", False),
        (
            400,
            {b"x-wns-notificationstatus": b"dropped"},
            b"",
            OutcomeKind.REJECTED,
            "webpush:wns dropped",
            False,
        ),
        (
            400,
            {
                b"x-wns-status": b"dropped",
                b"x-wns-error-description": b"Ttl value conflicts with X-WNS-Cache-Policy",
            },
            b"",
            OutcomeKind.REJECTED,
            "webpush:wns Ttl value conflicts with X WNS Cache Policy",
            False,
        ),
        (408, {}, b"", OutcomeKind.UNAVAILABLE, "webpush:408", False),
        (421, {}, b"", OutcomeKind.UNAVAILABLE, "webpush:421", False),
        (406, {}, b"", OutcomeKind.THROTTLED, "webpush:406", False),
        (429, {}, b"", OutcomeKind.THROTTLED, "webpush:429", False),
        (502, {}, b"bad gateway", OutcomeKind.UNAVAILABLE, "webpush:502", False),
        (503, {}, b'{"errno": 202}', OutcomeKind.UNAVAILABLE, "webpush:errno 202", False),
        (307, {}, b"", OutcomeKind.REJECTED, "webpush:307", False),
    ],
)
def test_answers(
    status: int, headers: dict[bytes, bytes], body: bytes, kind: OutcomeKind, reason: str, retire: bool
) -> None:
    """C24, C25, C22: statuses decide, the service's own word is kept; redirects are never followed."""
    outcome = read(status, headers, body)

    assert (outcome.kind, outcome.reason, outcome.retire) == (kind, reason, retire)
    assert outcome.scope is (Scope.REGISTRATION if kind is OutcomeKind.REJECTED else Scope.HOST)
    assert outcome.maybe is (status == 502)
    assert outcome.suspect is (status in (401, 403))


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "::1",
        "fe80::1%eth0",
        "fc00::1",
        "::ffff:10.0.0.1",
        "::10.0.0.1",
        "fec0::1",
        "2002:a00:1::1",
        "64:ff9b::a00:1",
        "64:ff9b:1::808:808",
        "ff0e::1",
        "240.0.0.1",
    ],
)
def test_endpoints_cannot_lead_inside(address: str) -> None:
    """Private, link-local, site-local, shared and multicast addresses are refused, also inside of others."""
    assert not Gatekeeper().allows(address)


def test_public_and_allowed_addresses_are_let_through() -> None:
    """Public ones always, others when the credential names their network."""
    for public in ("93.184.215.14", "2a00:1450:4001::200a", "64:ff9b::808:808", "::ffff:8.8.8.8"):
        assert Gatekeeper().allows(public)
    assert Gatekeeper(["10.0.0.0/8"]).allows("64:ff9b::a00:1")
    assert Gatekeeper(["127.0.0.0/8"]).allows("127.0.0.1")
    assert not Gatekeeper(["127.0.0.0/8"]).allows("10.0.0.1")


async def test_every_address_of_a_name_is_checked() -> None:
    """A name that leads inside is refused before anything connects."""
    with pytest.raises(ForbiddenAddress):
        await Gatekeeper().resolve("localhost", 443)
    assert await Gatekeeper(["127.0.0.0/8", "::1/128"]).resolve("127.0.0.1", 443) == "127.0.0.1"


async def test_one_bad_address_among_good_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a public and a private address is refused; with public ones only, each has its turn."""

    async def lookup(host: str, port: int, **_: object) -> list[tuple[object, ...]]:
        return [(2, 1, 6, "", (address, port)) for address in names[host] for _ in range(2)]

    names = {"both.example": ["8.8.8.8", "10.0.0.1"], "two.example": ["8.8.8.8", "8.8.4.4"]}
    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lookup)

    with pytest.raises(ForbiddenAddress):
        await Gatekeeper().resolve("both.example", 443)
    turns = [await Gatekeeper().resolve("two.example", 443, turn) for turn in range(3)]
    assert turns == ["8.8.8.8", "8.8.4.4", "8.8.8.8"]


@pytest.mark.parametrize(("ttl", "apple", "policy"), [(0, b"1", b"no-cache"), (3_600, b"3600", b"cache")])
def test_headers_say_ttl_urgency_and_topic(ttl: int, apple: bytes, policy: bytes) -> None:
    """C24: Windows is told whether to cache, Apple never hears a TTL of 0, everybody else the three."""
    message = Message(texts={"default": Text(title="Hello")}, ttl=ttl)
    made = Prepared(replace(PUSH, high=ttl == 0), message, Clock())  # type: ignore[arg-type]
    usual = [
        (b"ttl", b"%d" % ttl),
        (b"urgency", b"normal" if ttl else b"high"),
        (b"topic", b"clarion-1"),
    ]

    assert HeaderDecoder().decode(made.extra) == usual
    assert HeaderDecoder().decode(made.special[WNS]) == [*usual, (b"x-wns-cache-policy", policy)]
    assert HeaderDecoder().decode(made.special[APPLE]) == [(b"ttl", apple), *usual[1:]]
    assert manner("https://wns2-am3p.notify.windows.com") == WNS
    assert manner("https://web.push.apple.com") == APPLE
    assert manner("https://fcm.googleapis.com") == manner("https://notify.windows.com.evil.example") == ""


def test_ttl_follows_the_deadline() -> None:
    """What is left until the push's deadline, said anew as it shrinks; a topic is at most 32 letters."""
    clock = Clock()
    push = replace(PUSH, deadline=clock.at + 100.5, dedup_key="spring sale in Zürich")
    made = Prepared(push, Message(texts={"default": Text(title="Hello")}), clock)  # type: ignore[arg-type]
    before = dict(HeaderDecoder().decode(made.extra))
    clock.at = made.fresh_until + 60
    made.freshen(clock.at)
    after = dict(HeaderDecoder().decode(made.extra))

    assert (before[b"ttl"], after[b"ttl"]) == (b"100", b"39")
    assert made.fresh_until == clock.at + 1
    assert re.fullmatch(rb"[A-Za-z0-9_-]{32}", before[b"topic"])


def test_a_service_in_trouble_is_left_alone_and_asked_again() -> None:
    """Half of the answers bad are too many; the silence doubles; one down for a minute costs attempts."""
    standing = Standing()
    for _ in range(3 * TROUBLED):
        standing.worse(100.0)
        standing.good()
    assert standing.quiet(100.0) is None
    for _ in range(TROUBLED):
        standing.worse(100.0)

    told = standing.quiet(100.5)
    assert told is not None
    assert (told.kind, told.reason, told.attempt) == (OutcomeKind.UNAVAILABLE, "webpush:Unreachable", False)
    assert standing.quiet(100.0 + PAUSE_FIRST) is None
    standing.worse(101.0)
    assert standing.quiet(101.0 + PAUSE_FIRST) is not None
    assert standing.quiet(101.0 + 2 * PAUSE_FIRST) is None
    lasting = standing.down(100.0 + OUTAGE)
    assert (lasting.attempt, lasting.retry_after) == (True, OUTAGE)
    assert standing.down(100_000.0).retry_after == AGAIN[1]

    for _ in range(TROUBLED):
        standing.good()
    assert standing.calm(200.0)
    assert standing.down(200.0).attempt is False


def test_a_service_that_asks_for_quiet_has_it() -> None:
    """For as long as it says, and it is no failure; a shorter word does not shorten a longer one."""
    standing = Standing()
    standing.hush(150.0)
    standing.hush(120.0)

    told = standing.quiet(100.0)
    assert told is not None
    assert (told.kind, told.scope, told.retry_after) == (OutcomeKind.THROTTLED, Scope.HOST, 50.0)
    assert not standing.calm(100.0)
    assert standing.quiet(150.0) is None
    assert standing.calm(150.0)
