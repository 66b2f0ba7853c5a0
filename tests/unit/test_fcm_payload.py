"""What goes to FCM: the message for Android, iPhones and browsers, read by the simulator's own checks."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.errors import BadSpec
from clarion.model.message import Action, ApnsOptions, FcmOptions, Message, PushType, Text, WebPushOptions
from clarion.sandbox.fcm_message import read_message
from clarion.senders.check import check_message
from clarion.senders.facts import web_topic
from clarion.senders.fcm import FcmPrepared
from clarion.senders.fcm_payload import HEAD, data_strings, renderings
from clarion.senders.sender import PushFacts, TooLarge

PUSH = PushFacts(7, "spring", "shop", "clarion-7", high=False, deadline=None)
URGENT = PushFacts(7, "spring", "shop", "clarion-7", high=True, deadline=None)
HELLO = {"default": Text(title="Hello", body="there")}
TOKEN = "c" * 22 + ":APA91b_x-y.z"
NOW = 1_800_000_000.5


def sent(message: Message, push: PushFacts = PUSH, user: dict[str, Any] | None = None) -> dict[str, Any]:
    """The message of one request; the simulator's reader has found no fault in it."""
    body = HEAD + TOKEN.encode() + renderings(push, message, NOW).body("", user)
    request: dict[str, Any] = json.loads(body)
    read_message(request)
    assert request["message"].pop("token") == TOKEN
    inner: dict[str, Any] = request["message"]
    return inner


def test_a_notification_for_every_platform() -> None:
    """Title and body once; the keys by which each platform shows a repeat once."""
    assert sent(Message(texts=HELLO)) == {
        "notification": {"title": "Hello", "body": "there"},
        "android": {"priority": "normal", "notification": {"tag": "clarion-7"}},
        "apns": {
            "headers": {
                "apns-collapse-id": "clarion-7",
                "apns-priority": "10",
                "apns-push-type": "alert",
            }
        },
        "webpush": {
            "headers": {"Topic": "clarion-7", "Urgency": "normal"},
            "notification": {"tag": "clarion-7"},
        },
    }


def test_everything_at_its_place() -> None:
    """Fields of the message where each platform looks for them, and the author's own parts over ours."""
    message = Message(
        texts={"default": Text(title="Hello", subtitle="you", body="there")},
        badge=3,
        sound="default",
        category="REPLY",
        thread_id="t1",
        image="https://img.example/1.png",
        deep_link="https://shop.example/a",
        collapse="order 5",
        data={"n": 1},
        fcm=FcmOptions(
            android={"notification": {"color": "#a1b2c3", "tag": "mine"}, "data": {"only": True}},
            apns={"headers": {"apns-priority": None}},
            channel_id="news",
            analytics_label="spring",
        ),
        webpush=WebPushOptions(icon="i", actions=(Action(action="a", title="A"),), silent=False),
    )
    made = sent(message, URGENT)

    assert made["notification"]["image"] == "https://img.example/1.png"
    assert made["data"] == {"n": "1", "deep_link": "https://shop.example/a"}
    assert made["android"] == {
        "priority": "high",
        "notification": {
            "tag": "mine",
            "channel_id": "news",
            "sound": "default",
            "notification_count": 3,
            "color": "#a1b2c3",
        },
        "data": {"only": "true"},
    }
    assert made["apns"]["headers"] == {"apns-collapse-id": "order 5", "apns-push-type": "alert"}
    assert made["apns"]["payload"]["aps"] == {
        "alert": {"title": "Hello", "subtitle": "you", "body": "there"},
        "badge": 3,
        "sound": "default",
        "category": "REPLY",
        "thread-id": "t1",
        "mutable-content": 1,
    }
    assert made["webpush"]["headers"] == {"Topic": web_topic("order 5"), "Urgency": "high"}
    assert made["webpush"]["notification"]["actions"] == [{"action": "a", "title": "A"}]
    assert made["webpush"]["fcm_options"] == {"link": "https://shop.example/a"}
    assert made["fcm_options"] == {"analytics_label": "spring"}


def test_a_silent_message_carries_its_key_among_its_data() -> None:
    """Nothing is shown: no notification anywhere, iPhones are woken at priority 5."""
    made = sent(Message(data={"sync": "now"}))

    assert made["data"] == {"sync": "now", "clarion_id": "clarion-7"}
    assert "notification" not in made
    assert "notification" not in made["android"]
    assert made["apns"]["headers"]["apns-priority"] == "5"
    assert made["apns"]["headers"]["apns-push-type"] == "background"
    assert made["apns"]["payload"] == {"aps": {"content-available": 1}}


def test_a_data_only_message_brings_its_texts_as_data() -> None:
    """The app shows it itself; the repeat is recognised by clarion_id whatever the collapse key is."""
    made = sent(Message(texts=HELLO, collapse="c", fcm=FcmOptions(data_only=True)))

    assert made["data"] == {"title": "Hello", "body": "there", "clarion_id": "clarion-7"}
    assert "notification" not in made
    assert "collapse_key" not in json.dumps(made)


def test_a_badge_alone_reaches_iphones_through_fcm() -> None:
    """It is an alert to Apple, and nothing to show on Android."""
    made = sent(Message(badge=0))

    assert made["apns"]["payload"] == {"aps": {"badge": 0}}
    assert made["apns"]["headers"]["apns-push-type"] == "alert"


@pytest.mark.parametrize(
    ("ttl", "android", "apns", "web"),
    [(None, None, None, None), (0, "0s", "0", "0"), (3600, "3600s", "1800003600", "3600")],
)
def test_c08_time_to_live_of_fcm(
    ttl: int | None, android: str | None, apns: str | None, web: str | None
) -> None:
    """C08: none, 0 and an hour, in each platform's own unit."""
    made = sent(Message(texts=HELLO, ttl=ttl))

    assert made["android"].get("ttl") == android
    assert made["apns"]["headers"].get("apns-expiration") == apns
    assert made["webpush"]["headers"].get("TTL") == web


def test_without_a_ttl_the_deadline_is_the_end() -> None:
    """Seconds that are left, never more than Google's four weeks, never less than none."""
    for left, ttl in ((90.0, "90s"), (-5.0, "0s"), (1e8, "2419200s")):
        push = PushFacts(7, "spring", "shop", "clarion-7", high=False, deadline=NOW + left)
        assert sent(Message(texts=HELLO), push)["android"]["ttl"] == ttl


def test_a_lifetime_is_counted_from_each_send() -> None:
    """A message prepared a while ago is rendered anew, once a second at most."""
    prepared = FcmPrepared(PUSH, Message(texts=HELLO, ttl=60), NOW)
    first = prepared.renderings.body("", None)
    prepared.freshen(prepared.fresh_until)

    assert first != prepared.renderings.body("", None)
    assert FcmPrepared(PUSH, Message(texts=HELLO, ttl=0), NOW).fresh_until == float("inf")


def test_c18_data_becomes_strings() -> None:
    """C18: digit for digit, lower-case booleans, JSON for what is nested, null dropped."""
    data = {"n": 21465, "b": True, "o": {"a": 1}, "id": 9007199254740993, "z": None, "t": "True", "f": 1.5}

    assert sent(Message(texts=HELLO, data=data))["data"] == {
        "n": "21465",
        "b": "true",
        "o": '{"a":1}',
        "id": "9007199254740993",
        "t": "True",
        "f": "1.5",
    }


@given(st.dictionaries(st.text(max_size=5).map("k".__add__), st.integers() | st.booleans() | st.text()))
def test_c18_strings_say_what_the_values_said(data: dict[str, Any]) -> None:
    """C18: reading a string as JSON gives the number back, whatever its size."""
    for key, text in data_strings(data).items():
        value = data[key]
        assert text == value if isinstance(value, str) else json.loads(text) == value


def test_c18_what_json_cannot_say_is_refused_by_name() -> None:
    """C18: no repr of a Python value ever leaves."""
    for bad in (float("nan"), object(), {"a": object()}):
        with pytest.raises(BadSpec, match=r"data\.x"):
            data_strings({"x": bad})


@pytest.mark.parametrize("key", ["from", "message_type", "gcm.x", "google.y", "gcm", "googlebot"])
def test_c19_reserved_keys_are_refused_by_name(key: str) -> None:
    """C19: FCM refuses most of them, and swallows message_type after a yes."""
    for message in (
        Message(texts=HELLO, data={key: "1"}),
        Message(texts=HELLO, fcm=FcmOptions(android={"data": {key: "1"}})),
        Message(texts=HELLO, fcm=FcmOptions(webpush={"data": {key: "1"}})),
    ):
        with pytest.raises(BadSpec, match=rf"data\.{re.escape(key)} is reserved"):
            check_message(message, ["fcm"], NOW)


def test_c19_keys_that_are_only_risky_come_with_a_warning() -> None:
    """C19: collapse_key is allowed by the text, notification accepted in practice; names that only look alike
    are nobody's business."""
    message = Message(texts=HELLO, data={"collapse_key": "a", "notification": "b", "fromage": "c"})

    assert len(check_message(message, ["apns", "fcm", "webpush"], NOW)) == 2
    assert sent(message)["data"] == message.data


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (Message(apns=ApnsOptions(push_type=PushType.VOIP)), "apns.push_type"),
        (Message(texts=HELLO, apns=ApnsOptions(push_type=PushType.BACKGROUND)), "texts"),
        (Message(data={"clarion_id": "x"}), "data.clarion_id"),
        (Message(texts=HELLO, data={"title": "x"}, fcm=FcmOptions(data_only=True)), "data.title"),
        (Message(texts=HELLO, data={"image": "a"}, image="b"), "data.image"),
        (Message(texts=HELLO, fcm=FcmOptions(android={"priority": "urgent"})), "fcm.android.priority"),
        (Message(texts=HELLO, fcm=FcmOptions(android={"ttl": 3600})), "fcm.android.ttl"),
        (Message(texts=HELLO, fcm=FcmOptions(android={"ttl": "2419201s"})), "fcm.android.ttl"),
        (Message(texts=HELLO, fcm=FcmOptions(android={"data": []})), "fcm.android.data"),
        (Message(texts=HELLO, fcm=FcmOptions(android={"notification": "x"})), "fcm.android.notification"),
        (
            Message(texts=HELLO, fcm=FcmOptions(android={"notification": {"color": "red"}})),
            "fcm.android.notification.color",
        ),
        (
            Message(texts=HELLO, fcm=FcmOptions(android={"notification": {"title_loc_args": ["a"]}})),
            "fcm.android.notification.title_loc_args",
        ),
        (
            Message(texts=HELLO, fcm=FcmOptions(webpush={"fcm_options": {"link": "http://a"}})),
            "fcm.webpush.fcm_options.link",
        ),
        (
            Message(texts=HELLO, fcm=FcmOptions(apns={"payload": {"aps": {}, "x": "y" * 4096}})),
            "fcm.apns.payload",
        ),
    ],
)
def test_what_google_would_refuse_is_refused_by_field(message: Message, field: str) -> None:
    """Before the first request, and in the words of the message."""
    with pytest.raises(BadSpec, match=re.escape(field)):
        renderings(PUSH, message, NOW)


def test_a_live_activity_is_not_checked_for_fcm() -> None:
    """No registration of FCM's is addressed by it, so an app with both providers may send it."""
    options = ApnsOptions(push_type=PushType.VOIP)

    assert check_message(Message(apns=options), ["apns", "fcm", "webpush"], NOW) == []


def test_keys_and_values_are_counted_and_nothing_else() -> None:
    """4,096 bytes of them pass the simulator's count and ours, one more neither."""
    least = len("titlea") + len("bodyb") + len("n1")

    def message(size: int) -> Message:
        return Message(texts={"default": Text(title="a", body="b")}, data={"n": "1" + "x" * size})

    sent(message(4096 - least))
    with pytest.raises(BadSpec, match=r"texts\.default: .* 1 bytes over the limit of 4096"):
        renderings(PUSH, message(4096 - least + 1), NOW)


def test_a_user_s_value_may_be_too_large_for_one_user() -> None:
    """Others get the same message."""
    message = Message(texts={"default": Text(title="{{ user.name }}")})

    assert sent(message, user={"name": "Ada"})["notification"] == {"title": "Ada"}
    assert sent(message, user={"name": "x" * 4091})["notification"] == {"title": "x" * 4091}
    with pytest.raises(TooLarge):
        sent(message, user={"name": "x" * 4092})


def test_web_topics_are_url_safe_and_short() -> None:
    """RFC 8030: 32 characters of base64url; equal keys stay equal, others stay apart."""
    assert web_topic("clarion-7f") == "clarion-7f"
    for key in ("order 5", "a" * 33, "é"):
        assert re.fullmatch(r"[A-Za-z0-9_-]{32}", web_topic(key))
        assert web_topic(key) == web_topic(key) != web_topic(key + "!")
