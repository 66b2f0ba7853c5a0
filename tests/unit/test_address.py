"""Tokens and subscriptions: what passes, in which form, and what is refused."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from clarion.errors import BadRegistration
from clarion.limits import TOKEN_BYTES
from clarion.store import address
from tests.support import keys

POINT = base64.urlsafe_b64decode(keys.subscription(1)["keys"]["p256dh"] + "=")
AUTH = bytes(range(240, 256))


def browser(**changes: Any) -> dict[str, Any]:
    """A subscription with keys replaced."""
    texts = {"p256dh": base64.b64encode(POINT).decode(), "auth": base64.b64encode(AUTH).decode()}
    return {"endpoint": "https://push.example.net/wp/1", "keys": texts | changes}


@pytest.mark.parametrize("length", [64, 108, 160, 200])
def test_apple_tokens_have_any_even_length(length: int) -> None:
    """C41: no length is assumed; letters become lower case."""
    token = "0aF9" * (length // 4)

    assert address.normalise("apns", f" {token}\n") == token.lower()


@pytest.mark.parametrize("token", ["", "abc", "0a" * 80 + "f", "zz", "ab cd", "<ab>", "0a\n0a", "ａｂ"])
def test_apple_tokens_are_hexadecimal(token: str) -> None:
    """C41: an odd number of digits (161) is no token, and nothing that would break a path passes."""
    with pytest.raises(BadRegistration):
        address.normalise("apns", token)


def test_google_tokens_have_their_alphabet() -> None:
    """C41: colons, underscores, hyphens and dots are part of a token, which is kept whole."""
    token = "aZ9:_-." * 57

    assert address.normalise("fcm", token) == token


@pytest.mark.parametrize("token", ["a b", "a/b", "a\r\nb", "a%0ab", "tökén"])
def test_google_tokens_have_nothing_else(token: str) -> None:
    """What needs escaping is no token."""
    with pytest.raises(BadRegistration, match="FCM registration token"):
        address.normalise("fcm", token)


@pytest.mark.parametrize("provider", ["apns", "fcm", "webpush", "xiaomi"])
def test_a_monstrous_token_is_refused(provider: str) -> None:
    """C41: 100 kB is refused everywhere, and not repeated in the error."""
    with pytest.raises(BadRegistration, match=f"longer than {TOKEN_BYTES}") as raised:
        address.normalise(provider, "a" * 100_000)

    assert len(str(raised.value)) < 100


def test_long_endpoints_are_kept_whole() -> None:
    """C41: two endpoints of 3,000 characters that differ in the last one stay two."""
    long = "https://push.example.net/" + "x" * 2_974
    texts = {address.from_subscription(browser() | {"endpoint": long + end}) for end in "ab"}

    assert len(texts) == 2
    assert all(text.split()[0][:-1] == long for text in texts)


def encodings(data: bytes) -> list[str]:
    """The ways in which browsers and forms write bytes."""
    padded, url = base64.b64encode(data).decode(), base64.urlsafe_b64encode(data).decode()
    return [url.rstrip("="), url, padded, padded.rstrip("=")]


def test_every_base64_is_the_same_browser() -> None:
    """C26: either alphabet, padded or not: one device with one text."""
    texts = {
        address.from_subscription(browser(p256dh=point, auth=auth))
        for point in encodings(POINT)
        for auth in encodings(AUTH)
    }

    assert len(texts) == 1
    _, point, auth = texts.pop().split(" ")
    assert base64.urlsafe_b64decode(point + "=") == POINT
    assert base64.urlsafe_b64decode(auth + "==") == AUTH


def test_a_normal_form_is_its_own_normal_form() -> None:
    """What is stored passes again unchanged."""
    text = address.from_subscription(browser())

    assert address.normalise("webpush", text) == text


def encoded(data: bytes) -> str:
    """Base64 as anybody writes it."""
    return base64.b64encode(data).decode()


COMPRESSED = (
    keys.ec_key()
    .public_key()
    .public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"auth": encoded(AUTH[:15])}, "auth must be 16 bytes"),
        ({"auth": encoded(encoded(AUTH).encode())}, "auth must be 16 bytes, encoded once"),
        ({"auth": "§"}, "auth is not base64"),
        ({"auth": None}, r"keys\.auth is missing"),
        ({"p256dh": encoded(COMPRESSED)}, "p256dh must be an uncompressed point of 65 bytes, .* it has 33"),
        ({"p256dh": encoded(encoded(POINT).encode())}, "p256dh must be an uncompressed point"),
        ({"p256dh": encoded(b"\x04" + bytes(64))}, "p256dh is not a point on the curve"),
        ({"p256dh": encoded(POINT[:-1] + bytes([POINT[-1] ^ 1]))}, "not a point on the curve"),
        ({"p256dh": encoded(b"\x04" + b"\xff" * 64)}, "not a point on the curve"),
        ({"p256dh": "A"}, "p256dh is not base64"),
    ],
)
def test_broken_keys_are_refused_by_name(change: dict[str, Any], field: str) -> None:
    """C26: a short secret, a compressed point, keys encoded twice are refused, naming the field."""
    with pytest.raises(BadRegistration, match=field):
        address.from_subscription(browser(**change))


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://x.example/1",
        "x",
        "https://",
        "https://x y/",
        "https://x\n/",
        "https://u@x/",
        "https://x:99999/1",
    ],
)
def test_an_endpoint_is_an_https_url(endpoint: str) -> None:
    """What could not be called, or would break a request's path, is refused."""
    with pytest.raises(BadRegistration, match=r"subscription\.endpoint"):
        address.from_subscription(browser() | {"endpoint": endpoint})


@pytest.mark.parametrize("value", [{}, {"keys": None}, {"endpoint": 1, "keys": {}}])
def test_an_incomplete_subscription_names_what_lacks(value: dict[str, Any]) -> None:
    """The field is named, whatever stands there instead."""
    with pytest.raises(BadRegistration, match=r"subscription\.(keys|endpoint)"):
        address.from_subscription(value)


@given(st.integers(1, 2**256 - 1), st.integers(0, 511))
def test_the_curve_is_checked_as_a_library_does(number: int, bit: int) -> None:
    """Our plain integers and OpenSSL agree on what is a point."""
    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    key = ec.derive_private_key(number % (order - 1) + 1, ec.SECP256R1()).public_key()
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    address.from_subscription(browser(p256dh=encoded(point)))
    changed = (int.from_bytes(point[1:], "big") ^ (1 << bit)).to_bytes(64, "big")

    with pytest.raises(ValueError, match=r"point|curve|key"):
        ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + changed)
    with pytest.raises(BadRegistration):
        address.from_subscription(browser(p256dh=encoded(b"\x04" + changed)))


def test_other_providers_take_what_is_visible() -> None:
    """A vendor's id passes whole unless it holds what breaks a request."""
    assert address.normalise("oppo", "OPPO_CN_a/b+c=") == "OPPO_CN_a/b+c="
    with pytest.raises(BadRegistration, match="printable ASCII"):
        address.normalise("oppo", "a\\b")
