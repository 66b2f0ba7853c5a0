"""Rendering: places for values, the choice of a language, limits."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from clarion.errors import BadSpec
from clarion.model.message import Message, Text
from clarion.render import (
    Compiled,
    Rendering,
    Renderings,
    Template,
    compile_text,
    plain,
    render,
    render_languages,
)
from clarion.senders.sender import MissingValue, TooLarge

NAME = "{{ user.name }}"
OR_YOU = '{{ user.name | default: "you" }}'

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
constants = texts.filter(lambda text: "{{" not in text and "{%" not in text and not text.endswith("{"))
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
)
values = st.dictionaries(st.sampled_from(["name", "city"]), scalars)


def tree_of(texts: Compiled) -> dict[str, Any]:
    """The simplest payload."""
    return {"alert": dict(texts), "badge": 1}


def rendered(message: Message, limit: int = 4_096) -> Renderings:
    """The message as a payload of the simplest kind."""
    return render_languages(message, lambda texts: render(tree_of(texts), limit), "a provider")


def body(template: str, user: dict[str, Any] | None) -> str:
    """What a device shows for this body text and user."""
    payload = rendered(Message(texts={"default": Text(body=template)})).body("", user)
    return str(json.loads(payload)["alert"]["body"])


def reference(parts: list[str | tuple[str, str | None]], user: dict[str, Any]) -> str | None:
    """The text as the rules say, written down anew; None when a value is missing."""
    said = ""
    for part in parts:
        if isinstance(part, str):
            said += part
            continue
        name, default = part
        value = user.get(name)
        if value is None or value == "":
            if default is None:
                return None
            said += default
        else:
            said += value if isinstance(value, str) else plain(value)
    return said


places = st.tuples(
    st.sampled_from(["name", "city"]), st.none() | constants.filter(lambda text: '"' not in text)
)


@given(st.lists(constants | places, max_size=6), values)
@example([("name", None)], {"name": 'x","badge":9,"y":"'})
def test_output_parses_and_is_what_the_rules_say(
    parts: list[str | tuple[str, str | None]], user: dict[str, Any]
) -> None:
    """Whatever the values: the payload is the reference's JSON, or the value is named as missing."""
    template = "".join(part if isinstance(part, str) else place(*part) for part in parts)
    expected = reference(parts, user)
    rendering = render({"text": compile_text(template, "text"), "badge": 1}, 100_000)

    if expected is None:
        with pytest.raises(MissingValue):
            rendering.fill(user)
    else:
        payload = rendering.constant if rendering.constant is not None else rendering.fill(user)
        assert {"text": expected, "badge": 1} == json.loads(payload)


def place(name: str, default: str | None) -> str:
    """A place for a value as authors write it."""
    return f"{{{{ user.{name} }}}}" if default is None else f'{{{{user.{name}|default: "{default}"}}}}'


@settings(max_examples=60)
@given(
    st.recursive(
        scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
    )
)
def test_constant_trees_are_the_same_json(tree: Any) -> None:
    """A tree without places is written as any JSON writer would."""
    payload = render({"tree": tree}, 100_000).constant

    assert payload is not None
    assert {"tree": tree} == json.loads(payload)


@pytest.mark.parametrize("name", ['O\'Neil & "Sons" <b>', 'x","badge":9,"y":"', "\x00\n\u2028", "😀 李"])
def test_c55_a_value_is_shown_raw_and_adds_no_field(name: str) -> None:
    """C55: no HTML entities, and no value leaves its string."""
    payload = json.loads(
        rendered(Message(texts={"default": Text(body=f"Hi {NAME}")})).body("", {"name": name})
    )

    assert {"alert": {"body": f"Hi {name}"}, "badge": 1} == payload


@pytest.mark.parametrize("user", [{}, {"name": None}, {"name": ""}, None])
def test_c56_missing_values_take_the_default(user: dict[str, Any] | None) -> None:
    """C56: absent, null and empty are missing."""
    assert body(f"Hi {OR_YOU}", user) == "Hi you"
    with pytest.raises(MissingValue, match=r"^user\.name$"):
        body(f"Hi {NAME}", user)


def test_c56_spaces_are_a_value() -> None:
    """C56: three spaces are what the user is called."""
    assert body(f"Hi {OR_YOU}", {"name": "   "}) == "Hi    "


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0, "0"),
        (False, "false"),
        (True, "true"),
        (9007199254740993, "9007199254740993"),
        (10**30, "1" + "0" * 30),
        (1.5, "1.5"),
        ([1, "a"], '[1,"a"]'),
        ("half \ud83d", "half ?"),
    ],
)
def test_values_that_are_not_texts(value: Any, said: str) -> None:
    """Numbers digit for digit, booleans in lower case, what is nested as JSON; never None or True."""
    assert said == body(NAME, {"name": value})


def test_a_path_leads_into_nested_attributes() -> None:
    """A name of a name; what is no object has no names."""
    template = '{{ user.home.city | default: "nowhere" }}'

    assert body(template, {"home": {"city": "Oslo"}}) == "Oslo"
    assert body(template, {"home": "Oslo"}) == "nowhere"


@pytest.mark.parametrize(
    "text",
    ["{{ name }}", "{{ user }}", "Hi {{", "{% if x %}", "{{ user.a | upcase }}", '{{ user.a | default: "}}'],
)
def test_what_is_not_understood_is_refused_by_name(text: str) -> None:
    """An author hears of a typo before anybody is sent a brace."""
    with pytest.raises(BadSpec, match=r"texts\.default\.title: \{[{%] opens"):
        rendered(Message(texts={"default": Text(title=text)}))


def test_defaults_may_hold_what_they_like() -> None:
    """Quotes of the other kind, braces, an empty text, a number."""
    assert body("{{ user.x | default: 'a \"b\" }} c' }}", {}) == 'a "b" }} c'
    assert body('{{ user.x | default: "" }}!', {}) == "!"
    assert body("{{ user.x | default: 5 }}", {}) == "5"


def test_a_message_without_places_is_constant() -> None:
    """It renders once; the same bytes for everybody, found by locale afterwards."""
    made = rendered(Message(texts={"default": Text(title="Hello")}))
    first = made.body("en-gb", None)

    assert not made.needs_values
    assert first is made.body("en-gb", {"name": "Ada"}) is made.ready["en-gb"]


def test_a_personal_message_needs_values_and_is_never_ready() -> None:
    """One language with a place is enough."""
    made = rendered(Message(texts={"default": Text(title="Hello"), "de": Text(title=f"Hallo {OR_YOU}")}))
    made.body("de", {"name": "Ada"})
    made.body("en", None)

    assert made.needs_values
    assert list(made.ready) == ["en"]


@pytest.mark.parametrize(
    ("locale", "language"),
    [
        ("zh-tw", "zh-Hant"),
        ("zh_TW", "zh-Hant"),
        ("zh-hant-HK", "zh-Hant"),
        ("zh-mo", "zh-Hant"),
        ("zh-cn", "zh-Hans"),
        ("zh", "zh-Hans"),
        ("pt_BR", "pt"),
        ("EN-us", "default"),
        ("xx", "default"),
        ("", "default"),
    ],
)
def test_c57_the_language_of_a_locale(locale: str, language: str) -> None:
    """C57: tags are case-insensitive, and readers of Traditional Chinese do not get Simplified."""
    languages = ("zh-Hans", "zh-Hant", "pt", "default")
    made = rendered(Message(texts={name: Text(title=name) for name in languages}))

    assert language == json.loads(made.body(locale, None))["alert"]["title"]


def test_c57_traditional_readers_fall_back_to_the_default() -> None:
    """C57: without a Traditional text they get the default, not Simplified."""
    made = rendered(Message(texts={name: Text(title=name) for name in ("zh-Hans", "default")}))

    assert json.loads(made.body("zh-tw", None))["alert"]["title"] == "default"


@pytest.mark.parametrize(
    ("key", "locale"), [("zh-TW", "zh-hant-tw"), ("zh-Hant-HK", "zh-hk"), ("zh_CN", "zh-hans-cn")]
)
def test_chinese_with_and_without_its_script(key: str, locale: str) -> None:
    """Authors and phones may each leave the script out."""
    made = rendered(Message(texts={key: Text(title="here"), "default": Text(title="default")}))

    assert json.loads(made.body(locale, None))["alert"]["title"] == "here"


def test_the_same_language_twice_is_refused() -> None:
    """Which of the two would win is nobody's guess."""
    with pytest.raises(BadSpec, match="same language"):
        rendered(Message(texts={"default": Text(body="a"), "pt-BR": Text(body="b"), "pt_br": Text(body="c")}))


def test_a_language_with_nothing_to_show_is_refused() -> None:
    """A subtitle alone is not shown."""
    with pytest.raises(BadSpec, match=r"texts\.de needs a title or a body"):
        rendered(Message(texts={"default": Text(body="a"), "de": Text(subtitle="b", title="")}))


def test_what_fits_nobody_is_refused_naming_language_and_limit() -> None:
    """One language over the limit: its readers would all be rejected."""
    message = Message(texts={"default": Text(body="short"), "de": Text(body="ü" * 100)})

    with pytest.raises(BadSpec, match=r"texts\.de: .* limit of 200 bytes"):
        rendered(message, limit=200)


def test_the_limit_is_in_bytes_and_exact() -> None:
    """As many bytes as are allowed pass, one more does not."""
    message = Message(texts={"default": Text(body="é" * 10 + NAME)})
    room = 60 - len(rendered(message, 60).body("", {"name": "x"})) + 1

    assert len(rendered(message, 60).body("", {"name": "x" * room})) == 60
    with pytest.raises(TooLarge):
        rendered(message, 60).body("", {"name": "x" * (room + 1)})


def test_a_value_that_must_be_there_takes_at_least_one_byte() -> None:
    """Compiling knows the smallest payload that anybody can get."""
    without = render({"a": compile_text("{{ user.x | default: '' }}", "a")}, 100)
    with_one = render({"a": compile_text("{{ user.x }}", "a")}, 100)

    assert len(b'{"a":""}') == without.least == with_one.least - 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 2**70, "\ud800", {1: 2}, object()])
def test_what_json_cannot_say_is_refused_by_its_path(bad: Any) -> None:
    """The field is named, however deep it lies."""
    with pytest.raises(BadSpec, match=r"data\.list\[1\]"):
        render({"data": {"list": [0, bad]}}, 100)


def test_segments_are_joined() -> None:
    """Between two places stands one piece, whatever the tree looks like."""
    template = compile_text(f"a {NAME} b", "a")
    assert isinstance(template, Template)
    rendering = Rendering([b"x", b"y", *render({"t": template}, 99)._values[0][1:], b"z"], 99)

    assert rendering.fill({"name": "Ada"}) == b"xyAdaz"
