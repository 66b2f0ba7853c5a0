"""What goes to APNs: payload and headers of every push type, and what is refused beforehand."""

from __future__ import annotations

import json
import re
import time
import uuid
from typing import Any

import pytest

from clarion.errors import BadSpec
from clarion.model.message import ApnsOptions, Message, PushType, Text
from clarion.senders import apns
from clarion.senders.apns_payload import RULES, renderings
from clarion.senders.check import check_message
from clarion.senders.sender import PushFacts

PUSH = PushFacts(7, "spring", "shop", "clarion-7", high=False, deadline=None)
HELLO = {"default": Text(title="Hello", body="there")}
NOW = 1_800_000_000.5
ACTIVITY: dict[str, Any] = {
    "push_type": PushType.LIVE_ACTIVITY,
    "event": "update",
    "timestamp": 1_800_000_000,
    "content_state": {"score": "1:0"},
}


def payload(message: Message) -> dict[str, Any]:
    """The payload of a device without a locale."""
    value: dict[str, Any] = json.loads(renderings(message).body("", None))
    return value


def headers(message: Message, push: PushFacts = PUSH, now: float = NOW) -> dict[str, str]:
    """The headers of registration 12, read back from their literals."""
    prepared = apns.ApnsPrepared(push, message, "com.example.app", certificate=False)
    prepared.freshen(now)
    block, found = prepared.extra + b"%012x" % 12, {}
    while block:
        assert block[0] == 0
        name, block = block[2 : 2 + block[1]], block[2 + block[1] :]
        value, block = block[1 : 1 + block[0]], block[1 + block[0] :]
        found[name.decode()] = value.decode()
    return found


def options(kind: PushType, **more: Any) -> ApnsOptions:
    """Options with everything that this type must have."""
    needed = dict(ACTIVITY) if kind is PushType.LIVE_ACTIVITY else {}
    needed |= {"push_magic": "magic"} if kind is PushType.MDM else {}
    return ApnsOptions(**(needed | {"push_type": kind} | more))


def test_an_alert_with_everything() -> None:
    """Each field at Apple's place for it; data stands beside aps."""
    message = Message(
        texts={"default": Text(title="Hello", subtitle="you", body="there")},
        badge=3,
        sound={"critical": 1, "name": "default", "volume": 0.5},
        category="REPLY",
        thread_id="t1",
        image="https://img.example/1.png",
        deep_link="app://home",
        data={"id": 9007199254740993, "gone": None},
        apns=ApnsOptions(
            interruption_level="time-sensitive",
            relevance_score=0.5,
            target_content_id="w",
            content_available=True,
            aps={"alert": {"loc-key": "K"}, "filter-criteria": "f"},
        ),
    )

    assert payload(message) == {
        "aps": {
            "alert": {"title": "Hello", "subtitle": "you", "body": "there", "loc-key": "K"},
            "badge": 3,
            "sound": {"critical": 1, "name": "default", "volume": 0.5},
            "category": "REPLY",
            "thread-id": "t1",
            "mutable-content": 1,
            "interruption-level": "time-sensitive",
            "relevance-score": 0.5,
            "target-content-id": "w",
            "content-available": 1,
            "filter-criteria": "f",
        },
        "id": 9007199254740993,
        "deep_link": "app://home",
        "image": "https://img.example/1.png",
    }


@pytest.mark.parametrize(
    ("kind", "topic", "priority", "limit"),
    [
        (PushType.ALERT, "com.example.app", "10", 4096),
        (PushType.BACKGROUND, "com.example.app", "5", 4096),
        (PushType.VOIP, "com.example.app.voip", "10", 5120),
        (PushType.LIVE_ACTIVITY, "com.example.app.push-type.liveactivity", "10", 4096),
        (PushType.PUSH_TO_TALK, "com.example.app.voip-ptt", "10", 4096),
        (PushType.WIDGETS, "com.example.app.push-type.widgets", "10", 4096),
        (PushType.CONTROLS, "com.example.app.push-type.controls", "10", 4096),
        (PushType.LOCATION, "com.example.app.location-query", "10", 4096),
        (PushType.COMPLICATION, "com.example.app.complication", "10", 4096),
        (PushType.FILE_PROVIDER, "com.example.app.pushkit.fileprovider", "10", 4096),
        (PushType.MDM, "com.example.app", "10", 4096),
    ],
)
def test_topic_priority_and_size_of_every_type(kind: PushType, topic: str, priority: str, limit: int) -> None:
    """Apple's table of push types."""
    texts = HELLO if kind is PushType.ALERT else {}
    sent = headers(Message(texts=texts, apns=options(kind)))

    assert (sent["apns-topic"], sent["apns-push-type"], sent["apns-priority"]) == (
        topic,
        kind.value,
        priority,
    )
    assert RULES[kind].limit == limit


def test_every_push_type_has_its_rules() -> None:
    """No type is forgotten."""
    assert set(RULES) == set(PushType)


@pytest.mark.parametrize("kind", [PushType.WIDGETS, PushType.CONTROLS])
def test_widgets_and_controls_are_told_of_a_change(kind: PushType) -> None:
    """Their payload says only that."""
    assert payload(Message(apns=options(kind))) == {"aps": {"content-changed": True}}


def test_mdm_carries_the_magic_alone() -> None:
    """An MDM payload has no aps; the magic is the device's own and so may be a user's value."""
    message = Message(apns=options(PushType.MDM, push_magic="{{ user.magic }}"))

    assert json.loads(renderings(message).body("", {"magic": "m1"})) == {"mdm": "m1"}


def test_a_live_activity_starts() -> None:
    """Alert, attributes and their type, state, in seconds."""
    start = options(
        PushType.LIVE_ACTIVITY,
        event="start",
        attributes_type="Match",
        attributes={"home": "A"},
        stale_date=1_800_003_600,
    )

    assert payload(Message(texts=HELLO, apns=start)) == {
        "aps": {
            "timestamp": 1_800_000_000,
            "event": "start",
            "content-state": {"score": "1:0"},
            "attributes-type": "Match",
            "attributes": {"home": "A"},
            "stale-date": 1_800_003_600,
            "alert": {"title": "Hello", "body": "there"},
        }
    }


def test_c12_a_live_activity_keeps_its_own_time() -> None:
    """C12: a retry goes out with the timestamp of its state, so that devices drop it behind a newer one."""
    assert payload(Message(apns=options(PushType.LIVE_ACTIVITY)))["aps"]["timestamp"] == 1_800_000_000
    with pytest.raises(BadSpec, match=r"apns\.timestamp"):
        renderings(Message(apns=options(PushType.LIVE_ACTIVITY, timestamp=None)))


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"event": "stop"}, "apns.event"),
        ({"event": None}, "apns.event"),
        ({"content_state": None}, "apns.content_state"),
        ({"event": "start"}, "apns.attributes_type"),
        ({"timestamp": 1_800_000_000_000}, "apns.timestamp"),
        ({"stale_date": 1_800_003_600_000}, "apns.stale_date"),
        ({"stale_date": 1_799_999_999}, "apns.stale_date"),
        ({"event": "start", "attributes_type": "M", "attributes": {}}, "texts"),
    ],
)
def test_c12_what_a_live_activity_needs(wrong: dict[str, Any], field: str) -> None:
    """C12: what would show old or no content is refused by name; seconds are told from milliseconds."""
    with pytest.raises(BadSpec, match=re.escape(field)):
        renderings(Message(apns=options(PushType.LIVE_ACTIVITY, **wrong)))


def test_c12_a_stale_date_in_the_past_is_refused_when_composed() -> None:
    """C12: one hour ago is no date to become stale at."""
    message = Message(apns=options(PushType.LIVE_ACTIVITY, timestamp=1, stale_date=int(NOW) - 3600))

    with pytest.raises(BadSpec, match=r"apns\.stale_date is past"):
        check_message(message, ["apns"], NOW)


def test_c09_a_silent_message_is_a_background_push() -> None:
    """C09: priority 5, and content-available alone in aps."""
    message = Message(data={"sync": True})

    assert payload(message) == {"aps": {"content-available": 1}, "sync": True}
    assert headers(message)["apns-push-type"] == "background"
    assert headers(message)["apns-priority"] == "5"


def test_c09_an_urgent_push_lowers_a_silent_message_to_5() -> None:
    """C09: priority high is our queue's; Apple refuses a background push at 10."""
    urgent = PushFacts(7, "spring", "shop", "clarion-7", high=True, deadline=None)

    assert headers(Message(data={"sync": 1}), urgent)["apns-priority"] == "5"


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (Message(data={"a": 1}, badge=0), "badge"),
        (Message(data={"a": 1}, sound="default"), "sound"),
        (Message(data={"a": 1}, apns=ApnsOptions(priority=10)), "apns.priority"),
        (Message(texts=HELLO, apns=ApnsOptions(push_type=PushType.BACKGROUND)), "texts"),
        (Message(data={"a": 1}, apns=ApnsOptions(aps={"badge": 1})), "apns.aps.badge"),
    ],
)
def test_c09_what_a_silent_message_must_not_have(message: Message, field: str) -> None:
    """C09: the conflict is refused with its reason, by both checks and before anything is sent."""
    with pytest.raises(BadSpec, match=re.escape(field)):
        apns.ApnsPrepared(PUSH, message, "com.example.app", certificate=False)
    with pytest.raises(BadSpec, match=re.escape(field)):
        check_message(message, ["apns"], NOW)


def test_c09_an_alert_may_wake_the_app_as_well() -> None:
    """C09: alert plus content-available stays push type alert."""
    message = Message(texts=HELLO, apns=ApnsOptions(content_available=True))

    assert payload(message)["aps"]["content-available"] == 1
    assert headers(message)["apns-push-type"] == "alert"


@pytest.mark.parametrize(("badge", "aps"), [(None, {}), (0, {"badge": 0}), (3, {"badge": 3})])
def test_c07_the_badge_is_absent_or_what_it_is(badge: int | None, aps: dict[str, int]) -> None:
    """C07: absent and null give no key, 0 is sent and clears."""
    sent = payload(Message(texts=HELLO, badge=badge))["aps"]

    assert {name: sent[name] for name in sent if name == "badge"} == aps


@pytest.mark.parametrize("badge", ["3", -1, 1.5, True])
def test_c07_other_badges_are_refused(badge: Any) -> None:
    """C07: by the message, and where an author writes aps themselves."""
    with pytest.raises(ValueError, match="badge"):
        Message.model_validate({"texts": {"default": {"body": "x"}}, "badge": badge})
    with pytest.raises(BadSpec, match=r"apns\.aps\.badge"):
        renderings(Message(texts=HELLO, apns=ApnsOptions(aps={"badge": badge})))


def test_a_badge_may_travel_alone() -> None:
    """Clearing the badge needs no text, and is no background push: Apple shows it."""
    message = Message(badge=0)

    assert payload(message) == {"aps": {"badge": 0}}
    assert headers(message)["apns-push-type"] == "alert"


def test_c06_a_collapse_key_of_64_bytes_passes_unchanged() -> None:
    """C06: never cut, never changed; else the push's own key."""
    assert headers(Message(texts=HELLO, collapse="a" * 64))["apns-collapse-id"] == "a" * 64
    assert headers(Message(texts=HELLO, collapse="é" * 32))["apns-collapse-id"] == "é" * 32
    assert headers(Message(texts=HELLO))["apns-collapse-id"] == "clarion-7"


@pytest.mark.parametrize("key", ["a" * 65, "é" * 33, ""])
def test_c06_longer_ones_are_refused_by_name(key: str) -> None:
    """C06: 64 is in bytes."""
    with pytest.raises(ValueError, match="collapse"):
        Message(texts=HELLO, collapse=key)


@pytest.mark.parametrize(("ttl", "expires"), [(None, None), (0, "0"), (3600, "1800003600")])
def test_c08_time_to_live_of_apns(ttl: int | None, expires: str | None) -> None:
    """C08: none, 0, now + ttl in epoch seconds."""
    assert headers(Message(texts=HELLO, ttl=ttl)).get("apns-expiration") == expires


def test_c08_forty_days_are_refused() -> None:
    """C08: no provider keeps it so long, so it is not accepted as if one did."""
    with pytest.raises(ValueError, match="ttl"):
        Message(texts=HELLO, ttl=40 * 86_400)


@pytest.mark.parametrize(("left", "expires"), [(60.0, "1800000060"), (-5.0, "0")])
def test_without_a_ttl_the_deadline_is_the_end(left: float, expires: str) -> None:
    """What must not be sent any more must not be shown either; an explicit ttl is the author's word."""
    push = PushFacts(7, "spring", "shop", "clarion-7", high=False, deadline=NOW + left)

    assert headers(Message(texts=HELLO), push)["apns-expiration"] == expires
    assert headers(Message(texts=HELLO, ttl=0), push)["apns-expiration"] == "0"


def test_a_call_is_now_or_never() -> None:
    """VoIP without a ttl is not stored: a phone must not ring an hour later."""
    assert headers(Message(apns=options(PushType.VOIP)))["apns-expiration"] == "0"
    assert headers(Message(apns=options(PushType.VOIP), ttl=30))["apns-expiration"] == "1800000030"


def test_an_expiration_is_counted_from_each_send() -> None:
    """A message prepared a while ago is encoded anew once a second, one without an expiration never."""
    prepared = apns.ApnsPrepared(PUSH, Message(texts=HELLO, ttl=60), "t", certificate=False)
    prepared.freshen(NOW)
    first = prepared.extra
    prepared.freshen(prepared.fresh_until)
    for_ever = apns.ApnsPrepared(PUSH, Message(texts=HELLO), "t", certificate=False)
    for_ever.freshen(NOW)

    assert first != prepared.extra
    assert prepared.fresh_until == int(NOW) + 2
    assert for_ever.fresh_until == float("inf")


def test_apns_ids_are_canonical_and_the_delivery_s_own() -> None:
    """The same for every attempt at one delivery, different for every other; lower case, as Apple wants."""
    made = {
        (push, number): apns.apns_ids(PushFacts(1, push, "a", "k", high=False, deadline=None))
        + b"%012x" % number
        for push in ("p1", "p2")
        for number in (1, 2, 2**47)
    }

    assert len(set(made.values())) == len(made)
    for text in made.values():
        assert str(uuid.UUID(text.decode())) == text.decode()
        assert uuid.UUID(text.decode()).version == 8
    assert apns.apns_ids(PUSH) == apns.apns_ids(PushFacts(9, "spring", "b", "x", high=True, deadline=1.0))


@pytest.mark.parametrize(
    ("message", "field"),
    [
        (Message(texts=HELLO, data={"aps": {}}), "data.aps"),
        (Message(texts=HELLO, data={"deep_link": "a"}, deep_link="b"), "data.deep_link"),
        (Message(texts=HELLO, data={"image": "a"}, image="b"), "data.image"),
        (Message(texts=HELLO, apns=options(PushType.WIDGETS)), "texts"),
        (Message(apns=ApnsOptions(push_type=PushType.MDM)), "apns.push_magic"),
        (Message(texts=HELLO, apns=ApnsOptions(priority=7)), "apns.priority"),
        (Message(sound="default", apns=ApnsOptions()), "sound"),
        (Message(texts=HELLO, data={"big": [2**70]}), "data.big[0]"),
    ],
)
def test_what_apple_would_refuse_is_refused_by_field(message: Message, field: str) -> None:
    """Before the first request, and in the words of the message."""
    with pytest.raises(BadSpec, match=re.escape(field)):
        check_message(message, ["apns"], NOW)


def test_location_needs_a_key() -> None:
    """Apple's certificates do not cover it."""
    message = Message(apns=options(PushType.LOCATION))

    assert payload(message) == {"aps": {}}
    with pytest.raises(BadSpec, match=r"apns\.push_type: location"):
        renderings(message, certificate=True)


@pytest.mark.parametrize(("kind", "limit"), [(PushType.ALERT, 4096), (PushType.VOIP, 5120)])
def test_sizes_are_exact(kind: PushType, limit: int) -> None:
    """As many bytes as Apple takes pass, one more is refused with the limit's number."""

    def message(size: int) -> Message:
        return Message(texts={"default": Text(body="x" * size)}, apns=options(kind))

    frame = len(renderings(message(1)).body("", None)) - 1
    assert len(renderings(message(limit - frame)).body("", None)) == limit
    with pytest.raises(BadSpec, match=rf"texts\.default: .* limit of {limit} bytes"):
        renderings(message(limit - frame + 1))


def test_preparing_takes_well_under_a_millisecond() -> None:
    """It happens once per attempt, and single pushes are attempts of one delivery."""
    message = Message(texts=HELLO, data={"a": 1})
    times = []
    for _ in range(50):
        begun = time.perf_counter()
        apns.ApnsPrepared(PUSH, message, "t", certificate=False)
        times.append(time.perf_counter() - begun)

    assert min(times) < 0.001
