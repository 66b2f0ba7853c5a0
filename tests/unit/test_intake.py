"""What a device's fields become: ids as typed, one lane, versions as numbers."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.errors import BadRegistration
from clarion.store.credentials import CredentialRow
from clarion.store.devices import without_duplicates
from clarion.store.intake import Intake, Row, name_uuid, version_numbers
from clarion.store.zones import Zones
from tests.support import keys

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)


def lane(number: int, provider: str, name: str | None = None, **more: Any) -> CredentialRow:
    """A credential of app 1 as a list shows it."""
    values: dict[str, Any] = {
        "app_no": 1,
        "app": "demo",
        "lane": number,
        "name": name or provider,
        "provider": provider,
        "environment": None,
        "topic": None,
        "endpoint": None,
        "settings": {},
        "ceiling": 1.0,
        "version": 1,
        "withdrawn": False,
        "blocked": False,
        "reason": 0,
        "since": None,
        "created_at": NOW,
        "updated_at": NOW,
    }
    return CredentialRow(**values | more)


LANES = (lane(1, "apns"), lane(2, "fcm"), lane(3, "webpush"))


def intake(*lanes: CredentialRow, order: tuple[int, ...] = ()) -> Intake:
    """What app 1 takes in."""
    zones = Zones(["Asia/Kolkata", "Etc/UTC"])
    return Intake(1, lanes or LANES, order, zones, now=NOW)


def row(**fields: Any) -> Row:
    """The row of an iPhone's fields with changes."""
    return intake().check({"user_id": "1", "platform": "ios", "token": "0a"} | fields)


@pytest.mark.parametrize("user_id", ["00123", "1E5", "12345678901234567890", " x ", "é😀", "x" * 256])
def test_ids_stay_as_typed(user_id: str) -> None:
    """C44: no id turns into a number, loses zeros or spaces."""
    assert row(user_id=user_id).user_id == user_id


def test_whole_numbers_are_ids_digit_by_digit() -> None:
    """C44: JSON numbers are taken while every digit is known, and refused when one may be lost."""
    assert row(user_id=12345678901234567890).user_id == "12345678901234567890"
    with pytest.raises(BadRegistration, match="write it in quotes"):
        row(user_id=1e5)


@pytest.mark.parametrize("user_id", [None, "", True, "a\nb", "a\x00", "x" * 257, [], {}])
def test_what_is_no_id(user_id: object) -> None:
    """A user without a proper id is refused by the field's name."""
    with pytest.raises(BadRegistration, match="user_id"):
        row(user_id=user_id)


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ({"platform": "ios"}, (1, 1)),
        ({"platform": "ANDROID"}, (2, 2)),
        ({"provider": "fcm"}, (2, 2)),
        ({"provider": "fcm", "platform": "ios"}, (2, 1)),
        ({"lane": "apns"}, (1, 1)),
    ],
)
def test_platform_and_provider_complete_each_other(fields: dict[str, str], found: tuple[int, int]) -> None:
    """One of platform, provider and lane is enough where it is clear."""
    got = intake().check({"user_id": "1", "token": "0a", **fields})

    assert (got.lane, got.platform) == found


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "provider is missing"),
        ({"platform": "symbian"}, "platform must be one of ios, android, web"),
        ({"provider": "hms"}, "no credential for 'hms'"),
        ({"lane": ["x"]}, "must be words"),
        ({"platform": "ios", "kind": "sms"}, "kind must be one of alert"),
        ({"platform": "ios", "token": None}, "token is missing"),
        ({"platform": "ios", "token": 5}, "token must be a text"),
        ({"platform": "ios", "installation": ""}, "installation"),
        ({"platform": "ios", "last_active": "yesterday"}, "last_active"),
        ({"platform": "ios", "tags": "[1"}, "tags is not JSON"),
        ({"platform": "ios", "tags": [1]}, "tags must be a list of texts"),
        ({"platform": "ios", "tags": [str(n) for n in range(101)]}, "tags must be 100"),
        ({"platform": "ios", "attributes": [1]}, "attributes must be an object"),
        ({"platform": "ios", "attributes": {"x": "\x00"}}, "NUL"),
        ({"platform": "ios", "attributes": {"x": "y" * 9_000}}, "larger than 8192"),
        ({"platform": "ios", "attributes": {"x": "\ud800"}}, "no JSON"),
    ],
)
def test_what_is_refused_names_its_field(fields: dict[str, Any], words: str) -> None:
    """Somebody has to find the line's mistake."""
    with pytest.raises(BadRegistration, match=words):
        intake().check({"user_id": "1", "token": "0a"} | fields)


def test_two_credentials_must_be_told_apart() -> None:
    """APNs sandbox and production take different tokens: guessing would burn them."""
    two = intake(
        lane(1, "apns", "dev", environment="sandbox"), lane(2, "apns", "live", environment="production")
    )

    with pytest.raises(BadRegistration, match=r"several credentials for apns: .* \(dev, live\)"):
        two.check({"user_id": "1", "platform": "ios", "token": "0a"})
    assert two.check({"user_id": "1", "lane": "live", "token": "0a"}).lane == 2
    assert two.check({"user_id": "1", "provider": "live", "token": "0a"}).lane == 2
    assert two.check({"user_id": "1", "platform": "ios", "environment": "sandbox", "token": "0a"}).lane == 1


def test_new_subscriptions_go_to_the_newest_key() -> None:
    """C29: the first in order, or the one whose public key is named; a withdrawn one never."""
    old = lane(3, "webpush", "old", settings={"public_key": "BOld"})
    new = lane(4, "webpush", "new", settings={"public_key": "BNew"})
    both = intake(old, new, order=(4, 3))
    fields = {"user_id": "1", "platform": "web", "subscription": keys.subscription(1)}

    assert both.check(fields).lane == 4
    assert both.check(fields | {"application_server_key": "BOld"}).lane == 3
    withdrawn = lane(4, "webpush", "new", withdrawn=True)
    assert intake(old, withdrawn, order=(4, 3)).check(fields).lane == 3


def test_a_subscription_may_be_columns() -> None:
    """A CSV file has no nested fields."""
    given_keys = keys.subscription(1)
    columns = {"endpoint": given_keys["endpoint"], **given_keys["keys"]}
    nested = intake().check({"user_id": "1", "platform": "web", "subscription": given_keys})

    assert intake().check({"user_id": "1", "platform": "web", **columns}) == nested


def test_an_installation_is_made_from_the_token() -> None:
    """Without one, the same token is the same installation; other keys of one endpoint are, too."""
    again = keys.subscription(2, endpoint="https://push.example.net/wp/1")
    web = {"user_id": "1", "platform": "web"}

    assert row().installation is None
    assert row().fallback == row(user_id="2").fallback != row(token="0b").fallback
    assert (
        intake().check(web | {"subscription": keys.subscription(1)}).fallback
        == intake().check(web | {"subscription": again}).fallback
    )


@given(st.text(st.characters(blacklist_categories=["Cs"]), max_size=50))
def test_name_uuids_are_version_five(name: str) -> None:
    """They are what RFC 9562 says, only faster."""
    namespace = uuid.uuid5(uuid.NAMESPACE_URL, "clarion:installation")

    assert name_uuid(name) == str(uuid.uuid5(namespace, name))


def test_an_installation_may_be_any_text() -> None:
    """Firebase's ids are no UUIDs; a UUID is one in any case of letters."""
    text = "c7Vg3-lbQ0OS_Fxh1ZxS1a"
    plain = "12345678-1234-4234-8234-123456789ABC"

    assert row(installation=text).installation == name_uuid(text)
    assert row(installation=plain).installation == plain.lower()


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("4.10.2", "{4,10,2}"),
        ("4.9.0", "{4,9}"),
        ("v4", "{4}"),
        ("0.0", "{}"),
        ("4.2.0-beta.1", "{4,2}"),
        ("2026.11.99999999999999", "{2026,11,2147483647}"),
        ("beta", None),
    ],
)
def test_versions_are_numbers(text: str, numbers: str | None) -> None:
    """4.10 is later than 4.9, and 4.9.0 is 4.9."""
    assert version_numbers(text) == numbers


def test_bad_zones_and_locales_refuse_nobody() -> None:
    """C47: stored as none and counted."""
    one = intake()
    for zone, locale in [("Mars/Base", "!"), ("", ""), ("asia/calcutta", "zh_TW"), (7, 7)]:
        got = one.check({"user_id": "1", "platform": "ios", "token": "0a", "zone": zone, "locale": locale})
        good = zone == "asia/calcutta"
        assert (got.zone, got.locale) == (("Asia/Kolkata", "zh-tw") if good else (None, ""))

    assert (one.bad_zones, one.bad_locales) == (2, 2)


@pytest.mark.parametrize(
    "value",
    ["2026-11-25T11:00:00Z", "2026-11-25T12:00:00+01:00", "2026-11-25 11:00:00", 1795604400, "1795604400000"],
)
def test_moments_come_in_several_forms(value: object) -> None:
    """ISO 8601, epoch seconds and milliseconds are the same moment."""
    assert row(last_active=value).seen == datetime(2026, 11, 25, 11, tzinfo=UTC)


def test_nobody_was_active_tomorrow() -> None:
    """A phone's clock that is ahead does not make its registration the newest for ever."""
    assert row(last_active="2030-01-01").seen == NOW


def test_texts_lose_what_cannot_be_shown() -> None:
    """A model is shortened and cleaned; it is not an address."""
    assert row(model="Pixel\x00 10\n" + "x" * 200).model == ("Pixel 10" + "x" * 90)
    assert row(os_version=17).os_version == "17"


def test_what_a_phone_is_and_has() -> None:
    """Its maker in lower case; Google services as a truth value, or as a file's cell writes one."""
    assert row(manufacturer=" HUAWEI ").manufacturer == "huawei"
    assert [row(google_services=said).google_services for said in (True, False, "no", "TRUE", "", None)] == [
        True, False, False, True, None, None,
    ]  # fmt: skip
    for said in ("perhaps", 1, ["yes"]):
        with pytest.raises(BadRegistration, match="google_services must be true or false"):
            row(google_services=said)


def test_tags_are_a_set() -> None:
    """Lists, JSON texts and words apart by bars or commas."""
    for tags in (["b", "a", "a"], '["b","a"]', "b|a", "b, a"):
        assert row(tags=tags).profile == {"tags": ["a", "b"]}


def test_of_lines_that_mean_the_same_the_last_stays() -> None:
    """C44: same token, or same installation, credential and kind; a voip token beside an alert one is not."""
    phone = "12345678-1234-4234-8234-123456789abc"
    rows = [
        row(user_id="1", token="aa"),
        row(user_id="2", token="aa"),
        row(user_id="3", token="bb", installation=phone, model="iPhone"),
        row(user_id="3", token="cc", installation=phone, kind="voip"),
        row(user_id="4", token="dd", installation=phone),
    ]
    kept, dropped = without_duplicates(rows)

    assert dropped == 2
    assert [one.token for one in kept] == ["aa", "cc", "dd"]
    assert kept[0].user_id == "2"


def test_rows_of_one_phone_complete_each_other() -> None:
    """A line that says less of a phone than another line does not make it forget."""
    phone = "12345678-1234-4234-8234-123456789abc"
    kept, _ = without_duplicates(
        [
            row(token="aa", installation=phone, model="iPhone", locale="de"),
            row(token="bb", installation=phone, kind="voip", os_version="19"),
        ]
    )

    assert (kept[1].model, kept[1].locale, kept[1].os_version, kept[1].token) == ("iPhone", "de", "19", "bb")
