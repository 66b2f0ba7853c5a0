"""Vendors' receipts, as their receivers have seen them, and bodies that are none."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.parse import quote_plus, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clarion.senders import receipts
from clarion.senders.receipts import BadReceipts, Kind, Receipt

PARSERS: dict[str, Callable[[bytes], list[Receipt]]] = {
    "hms": receipts.hms,
    "honor": receipts.honor,
    "oppo": receipts.oppo,
    "vivo": receipts.vivo,
    "xiaomi": receipts.xiaomi,
    "meizu": receipts.meizu,
}
FORMS = {"xiaomi": "data", "meizu": "cb"}


def test_hms_in_both_forms() -> None:
    """V1 has the number beside the token, V2 one level below; times are seconds."""
    first = {
        "biTag": "b",
        "appid": "1",
        "token": "t1",
        "status": 0,
        "timestamp": 1563105451261,
        "requestId": "r",
    }
    second = {"token": "t2", "pushType": 0, "appPackageName": "p", "requestId": "r2"}
    below = {"deliveryStatus": {"result": 2, "timestamp": 1563105452000}}
    body = json.dumps({"statuses": [first, second | below, second | {"formStatus": {"result": "6"}}]})

    assert receipts.hms(body.encode()) == [
        Receipt("t1", Kind.DELIVERED, "hms:receipt_0", 1563105451.261, "r", "b"),
        Receipt("t2", Kind.GONE, "hms:receipt_2", 1563105452.0, "r2"),
        Receipt("t2", Kind.SILENCED, "hms:receipt_6", None, "r2"),
    ]


def test_honor() -> None:
    """Delivered, clicked, gone, kept for later, and a number that no sheet has."""
    codes = (40000002, 40000007, 40000004, 40000013, 49999999)
    items = [
        {"token": f"t{n}", "biTag": "b", "status": n, "timestamp": 1000, "requestId": "r"} for n in codes
    ]
    found = receipts.honor(json.dumps({"statuses": items}).encode())

    assert [one.kind for one in found] == [
        Kind.DELIVERED,
        Kind.CLICKED,
        Kind.GONE,
        Kind.WAITING,
        Kind.UNKNOWN,
    ]
    assert found[0] == Receipt("t40000002", Kind.DELIVERED, "honor:receipt_40000002", 1.0, "r", "b")


def test_oppo() -> None:
    """One event may be of several registrations; its time is a number or a text."""
    event = {"messageId": "m", "appId": "a", "taskId": "0000", "param": "p"}
    events = [
        event | {"registrationIds": "r1,r2", "eventTime": 1000, "eventType": "push_arrive"},
        event | {"registrationIds": "r3", "eventTime": "2000", "eventType": "regid_invalid"},
        event | {"registrationIds": "r4", "eventType": "user_daily_limit"},
        event | {"registrationIds": "r5", "eventType": "words, words"},
    ]

    assert receipts.oppo(json.dumps(events).encode()) == [
        Receipt("r1", Kind.DELIVERED, "oppo:push_arrive", 1.0, "m", "p"),
        Receipt("r2", Kind.DELIVERED, "oppo:push_arrive", 1.0, "m", "p"),
        Receipt("r3", Kind.GONE, "oppo:regid_invalid", 2.0, "m", "p"),
        Receipt("r4", Kind.DROPPED, "oppo:user_daily_limit", None, "m", "p"),
        Receipt("r5", Kind.UNKNOWN, "oppo:receipt", None, "m", "p"),
    ]


def test_vivo() -> None:
    """A map by task; a type other than arrived is known by its name only."""
    told = {
        "T1": {"targets": "1,2", "param": None, "ackTime": 1000, "ackType": "0"},
        "T2": {"targets": "3", "param": "p", "ackType": "7"},
    }

    assert receipts.vivo(json.dumps(told).encode()) == [
        Receipt("1", Kind.DELIVERED, "vivo:0", 1.0, "T1"),
        Receipt("2", Kind.DELIVERED, "vivo:0", 1.0, "T1"),
        Receipt("3", Kind.UNKNOWN, "vivo:7", None, "T2", "p"),
    ]


def test_xiaomi() -> None:
    """Several messages in one call; a registration that was replaced names its successor."""
    told = {
        "m1": {"param": "p", "type": 1, "targets": "r1,r2", "jobkey": "", "timestamp": 1000},
        "m2": {"type": 16, "targets": "a+b/c==", "replaceTarget": {"old": "new"}},
        "m3": {"type": 32, "targets": "r3", "barStatus": "Disable"},
    }
    body = f"data={quote_plus(json.dumps(told))}".encode()

    assert receipts.xiaomi(body) == [
        Receipt("r1", Kind.DELIVERED, "xiaomi:receipt_1", 1.0, "m1", "p"),
        Receipt("r2", Kind.DELIVERED, "xiaomi:receipt_1", 1.0, "m1", "p"),
        Receipt("a+b/c==", Kind.GONE, "xiaomi:receipt_16", None, "m2"),
        Receipt("old", Kind.GONE, "xiaomi:replaceTarget", None, "m2", None, "new"),
        Receipt("r3", Kind.SILENCED, "xiaomi:receipt_32", None, "m3"),
    ]


def test_meizu() -> None:
    """A map by message and type, in a form beside an access token."""
    told = {
        "NS1-1": {"param": "p", "type": 1, "targets": ["a", "b"]},
        "NS1-2": {"param": "", "type": 2, "targets": ["a"]},
    }
    body = urlencode({"cb": json.dumps(told), "access_token": "secret"}).encode()

    assert receipts.meizu(body) == [
        Receipt("a", Kind.DELIVERED, "meizu:receipt_1", None, "NS1", "p"),
        Receipt("b", Kind.DELIVERED, "meizu:receipt_1", None, "NS1", "p"),
        Receipt("a", Kind.CLICKED, "meizu:receipt_2", None, "NS1"),
    ]


# value=… is what `openssl dgst -sha256 -hmac callback-key -binary | base64` says of time, nonce and user.
HEADER = (
    "timestamp=1563105451261; nonce=f8a7fd1f-31c8-4e4f-a1b5-6a0ef8c7a3bc; "
    "value=XK7ddrWcRPIydFqkM1+Ndu+iif06A6fkLyz7bWTAP2g="
)


def test_huaweis_signature() -> None:
    """A value computed elsewhere is recognised; another key, user, time or shape is not."""
    assert receipts.signed_by_hms(HEADER, key="callback-key", user="push-user")
    assert receipts.signed_at(HEADER) == 1563105451.261
    assert not receipts.signed_by_hms(HEADER, key="another", user="push-user")
    assert not receipts.signed_by_hms(HEADER, key="callback-key", user="another")
    later = HEADER.replace("timestamp=1", "timestamp=2")
    assert not receipts.signed_by_hms(later, key="callback-key", user="push-user")
    for header in ("", "nonsense", "timestamp=x; nonce=y; value=z", HEADER[:-1] + "!"):
        assert not receipts.signed_by_hms(header, key="callback-key", user="push-user")
        assert receipts.signed_at(header) is None


@pytest.mark.parametrize("provider", PARSERS)
@pytest.mark.parametrize(
    "body", [b"", b"null", b"7", b'"text"', b"<html>", b"{", b"\xff\xfe", b"x=1", b"cb=["]
)
def test_a_body_that_is_none_is_refused(provider: str, body: bytes) -> None:
    """By its shape, and without repeating it."""
    with pytest.raises(BadReceipts) as caught:
        PARSERS[provider](body)

    assert not body or body.decode("latin-1") not in str(caught.value)


LEAVES: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(("", "a,b", ",", "0", "16", "-1", "push_arrive", "字")),
)
VALUES = LEAVES | st.lists(LEAVES, max_size=2) | st.dictionaries(st.sampled_from(("a", "result")), LEAVES)
NAMES = ("token", "status", "targets", "type", "timestamp", "deliveryStatus", "registrationIds", "eventType")
ITEMS = st.dictionaries(st.sampled_from((*NAMES, "replaceTarget", "ackType", "param", "result")), VALUES)


@pytest.mark.parametrize("provider", PARSERS)
@settings(max_examples=50)
@given(items=st.lists(ITEMS | VALUES, max_size=2))
def test_strange_items_are_left_out(provider: str, items: list[Any]) -> None:
    """Whatever stands in a readable body: receipts with a registration, or none; never another failure."""
    told: Any = {str(number): item for number, item in enumerate(items)}
    if provider == "oppo":
        told = items
    elif provider in ("hms", "honor"):
        told = {"statuses": items}
    text = json.dumps(told)
    body = f"{FORMS[provider]}={quote_plus(text)}" if provider in FORMS else text

    found = PARSERS[provider](body.encode())

    assert all(isinstance(one.token, str) and one.token for one in found)
    assert all(one.code.startswith(f"{provider}:") for one in found)
