"""What vendors are told of a message, and what its author is told before: limits, units, classification."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote_plus

import pytest

from clarion.errors import BadSpec
from clarion.model.message import (
    Classification,
    HonorOptions,
    MeizuOptions,
    Message,
    OppoOptions,
    PushType,
    Text,
    VivoOptions,
)
from clarion.senders import honor, meizu, oppo, vivo
from clarion.senders.check import check_message
from clarion.senders.sender import TooLarge
from tests.support.senders import HELLO, PUSH

VENDORS = ("oppo", "vivo", "honor", "meizu")
SERVICE = Classification.SERVICE


def content(vendor: str, message: Message, seconds: int | None = None, **values: Any) -> dict[str, Any]:
    """What stands in a request of this vendor beside the registrations."""
    module: Any = {"oppo": oppo, "vivo": vivo, "honor": honor, "meizu": meizu}[vendor]
    body = module.contents(PUSH, message, seconds).body("", values).decode()
    if vendor == "oppo":
        body = '{"app_message_id":"' + unquote_plus(body)[:-1]
    found: dict[str, Any] = json.loads(body if vendor in ("oppo", "meizu") else "{" + body.removeprefix(","))
    return found


def lifetime(vendor: str, seconds: int | None) -> Any:
    """What this vendor is told of it."""
    told = content(vendor, HELLO, seconds)
    if vendor == "oppo":
        return told["off_line"], told.get("off_line_ttl")
    if vendor == "vivo":
        return told["timeToLive"]
    return told["android"].get("ttl") if vendor == "honor" else told["pushTimeInfo"]


def texts(vendor: str, told: dict[str, Any]) -> tuple[str, str]:
    """Title and body as this vendor is told."""
    if vendor == "honor":
        shown = told["android"]["notification"]
        return shown["title"], shown["body"]
    shown = told["noticeBarInfo"] if vendor == "meizu" else told
    return shown["title"], shown["content"]


@pytest.mark.parametrize(
    ("vendor", "unset", "zero", "hour", "longest"),
    [
        ("oppo", (True, None), (False, None), (True, 3_600), (True, 864_000)),
        ("vivo", 86_400, 60, 3_600, 86_400),
        ("honor", None, "1s", "3600s", "1296000s"),
        (
            "meizu",
            {"offLine": 1},
            {"offLine": 0},
            {"offLine": 1, "validTime": 1},
            {"offLine": 1, "validTime": 72},
        ),
    ],
)
def test_c08_each_has_its_own_unit(vendor: str, unset: Any, zero: Any, hour: Any, longest: Any) -> None:
    """Unset, 0, an hour, four weeks: seconds, texts, hours; what is too long is cut and said."""
    told = [lifetime(vendor, seconds) for seconds in (None, 0, 3_600, 2_419_200)]

    assert told == [unset, zero, hour, longest]
    warned = check_message(Message(texts=HELLO.texts, ttl=2_419_200), [vendor], 0.0)
    assert any(warning.startswith("ttl: ") for warning in warned)


def test_c33_each_counts_in_its_own_way() -> None:
    """21 CJK letters fit OPPO and Meizu and are 42 for vivo: cut there alone, and its author knows before."""
    title = "汉" * 21
    message = Message(texts={"default": Text(title=title, body="好")}, classification=SERVICE)
    warned = [w for w in check_message(message, ("xiaomi", "hms", *VENDORS), 0.0) if "title" in w]

    assert warned == ["texts.default.title is 42 long as vivo counts: cut to 40 there"]
    assert texts("oppo", content("oppo", message))[0] == title
    assert texts("meizu", content("meizu", message))[0] == title
    assert texts("vivo", content("vivo", message))[0] == "汉" * 19 + "…"


@pytest.mark.parametrize("vendor", VENDORS)
def test_c55_values_stay_text(vendor: str) -> None:
    """Signs that are special to JSON, forms or HTML arrive as they are, and add no field."""
    message = Message(texts={"default": Text(title="Hi {{ user.name }}", body="b")})
    plain = content(vendor, message, name="Ann")
    for name in ('O\'Neil & "Sons" <b>', 'x","badge":9,"y":"', "a+b=c&d%41", "\\", "字\n🙂"):
        told = content(vendor, message, name=name)

        assert texts(vendor, told) == (f"Hi {name}", "b")
        assert told.keys() == plain.keys()


def test_one_text_stands_in_for_the_other() -> None:
    """Vendors want both; a person's empty one alone is too little, and no one else's trouble."""
    alone = Message(texts={"default": Text(body="only this")})
    personal = Message(texts={"default": Text(title="{{ user.name }}", body="{{ user.name }}")})

    for vendor in VENDORS:
        assert texts(vendor, content(vendor, alone)) == ("only this", "only this")
    for vendor in ("oppo", "vivo", "meizu"):
        with pytest.raises(TooLarge, match="not empty"):
            content(vendor, personal, name="   ")


def test_classification_is_told() -> None:
    """What nobody classified is marketing everywhere."""
    service = Message(texts=HELLO.texts, classification=SERVICE, vivo=VivoOptions(category="IM"))

    def told(message: Message) -> list[Any]:
        return [
            content("vivo", message)["classification"],
            content("honor", message)["android"]["notification"]["importance"],
            content("meizu", message)["noticeBarInfo"]["noticeMsgType"],
        ]

    assert told(HELLO) == [0, "LOW", 0]
    assert told(service) == [1, "NORMAL", 1]
    assert any("oppo.category" in warning for warning in check_message(service, ["oppo"], 0.0))


@pytest.mark.parametrize(
    ("vendor", "changes", "words"),
    [
        ("oppo", {"oppo": OppoOptions(notify_level=2)}, "oppo.notify_level needs oppo.category"),
        ("oppo", {"oppo": OppoOptions(notification={"app_message_id": "x"})}, "Clarion's own"),
        ("oppo", {"data": {"x": "y" * 4_000}}, "4000 characters"),
        ("oppo", {"deep_link": "https://a.example/" + "x" * 2_000}, "2000 characters"),
        ("vivo", {"vivo": VivoOptions(category="IM")}, "classification service"),
        (
            "vivo",
            {"vivo": VivoOptions(category="NEWS"), "classification": SERVICE},
            "classification marketing",
        ),
        ("vivo", {"vivo": VivoOptions(message={"requestId": "x"})}, "Clarion's own"),
        ("vivo", {"data": {str(n): "" for n in range(11)}}, "10 pairs"),
        ("vivo", {"data": {"x": "y" * 1_024}}, "1024 characters"),
        ("honor", {"data": {"x": "y" * 4_096}}, "over the limit of"),
        ("honor", {"honor": HonorOptions(android={"token": ["x"]})}, "Clarion's to put in"),
        ("meizu", {"meizu": MeizuOptions(message={"noticeBarInfo": {"title": "x"}})}, "Clarion's own"),
        *[(vendor, {"apns": {"push_type": PushType.VOIP}}, "apns.push_type") for vendor in VENDORS],
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(vendor: str, changes: dict[str, Any], words: str) -> None:
    """While its author is there: the field, and what is wrong with it."""
    message = Message.model_validate({"texts": HELLO.texts, **changes})
    with pytest.raises(BadSpec) as caught:
        content(vendor, message)

    assert words in str(caught.value)


def test_c18_data_keeps_its_digits() -> None:
    """vivo takes texts: numbers digit for digit, nested values as JSON, null left out; others get JSON."""
    data = {"n": 21_465, "b": True, "o": {"a": 1}, "id": 9_007_199_254_740_993, "z": None}
    message = Message(texts=HELLO.texts, data=data)

    assert content("vivo", message)["clientCustomMap"] == {
        "n": "21465",
        "b": "true",
        "o": '{"a":1}',
        "id": "9007199254740993",
    }
    assert json.loads(content("oppo", message)["action_parameters"]) == data
    assert json.loads(content("honor", message)["data"]) == data
    assert content("meizu", message)["clickTypeInfo"]["parameters"]["id"] == "9007199254740993"


def test_a_message_without_texts() -> None:
    """A data message at Honor; elsewhere its author is told that it reaches nobody."""
    silent = Message(data={"n": 1})

    assert content("honor", silent)["data"] == '{"n":1}'
    assert "notification" not in content("honor", silent)["android"]
    for vendor in ("oppo", "vivo", "meizu"):
        assert any("notifications only" in warning for warning in check_message(silent, [vendor], 0.0))


@pytest.mark.parametrize(
    ("title", "warned"), [("hello", True), ("测试一下", True), ("你好{1}", True), ("你好", False)]
)
def test_vivo_may_take_it_for_a_test(title: str, warned: bool) -> None:
    """Letters and digits alone, the word for test, brackets: said before vivo refuses a million of them."""
    message = Message(texts={"default": Text(title=title, body="好")}, classification=SERVICE)

    assert any("as a test" in warning for warning in check_message(message, ["vivo"], 0.0)) is warned
