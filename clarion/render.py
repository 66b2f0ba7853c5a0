"""Message → byte segments → one payload per registration.

A provider's module builds its payload once per language, as a JSON tree whose texts may have places for a
user's values. `render` turns such a tree into constant bytes between those places; a delivery then costs one
join, and nothing at all when there are no places. Values enter as the inside of a JSON string and can
neither end it nor add a field.

    {{ user.first_name }}                        the user's attribute, a path of names
    {{ user.first_name | default: "you" }}       what stands there when it is missing

Where the message's badge is an increment stands a place for the device's own number, which enters as a JSON
number.

A value is missing when it is absent, null or the empty text; spaces are a value like any other. Without a
default a user whose value is missing is not sent to: `MissingValue`, which names the value. Everything else
between double braces, and `{%`, is refused: it is kept free for more of Liquid.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson

from clarion.errors import BadSpec
from clarion.model.message import Message, Text
from clarion.senders.sender import MissingValue, TooLarge, locale_chain

DEFAULT: Final = "default"

_OPENING: Final = re.compile(r"\{\{|\{%")
_PLACE: Final = re.compile(
    r"\{\{\s*user(?P<path>(?:\.[A-Za-z_][A-Za-z0-9_-]*)+)\s*"
    r"(?:\|\s*default:\s*(?:\"(?P<double>[^\"]*)\"|'(?P<single>[^']*)'|(?P<number>-?\d+(?:\.\d+)?))\s*)?\}\}"
)
BADGE: Final = "+badge"  # a device's number among the values: no place in a text can name it
_HOW: Final = 'use {{ user.name }} or {{ user.name | default: "…" }}'


@dataclass(frozen=True, slots=True)
class Value:
    """A place in a text for a user's value. `default` is ready to stand inside a JSON string."""

    path: tuple[str, ...]
    default: bytes | None

    def inside(self, values: Mapping[str, Any]) -> bytes:
        """What stands inside the JSON string for this user. Raises MissingValue."""
        found: Any = values
        for name in self.path:
            found = found.get(name) if isinstance(found, dict) else None
        if type(found) is str and found:
            return escaped(found)
        if found is None or found == "":
            if self.default is None:
                raise MissingValue("user." + ".".join(self.path))
            return self.default
        return escaped(plain(found))


@dataclass(frozen=True, slots=True)
class Number:
    """A place for the device's number."""

    def inside(self, values: Mapping[str, Any]) -> bytes:
        """Its digits. Raises MissingValue."""
        found = values.get(BADGE)
        if type(found) is not int:
            raise MissingValue("badge")
        return b"%d" % found


Place = Value | Number


@dataclass(frozen=True, slots=True)
class Template:
    """A text with places for values: texts and values in their order."""

    parts: tuple[str | Value, ...]


def plain(value: Any) -> str:
    """A value as people read it: numbers digit for digit, true and false, what is nested as JSON.

    Raises TypeError for what JSON cannot say.
    """
    if type(value) is str:
        return value
    if type(value) is int:
        return str(value)
    if type(value) is float and not math.isfinite(value):
        raise TypeError("not a finite number")
    return orjson.dumps(value).decode()


def escaped(text: str) -> bytes:
    """A text as it stands inside a JSON string, raw UTF-8; what is no character becomes a question mark."""
    try:
        return orjson.dumps(text)[1:-1]
    except TypeError:  # half of a surrogate pair
        return orjson.dumps(text.encode("utf-8", "replace").decode())[1:-1]


def compile_text(text: str, where: str) -> str | Template:
    """A text without places as it is, else as a template. Raises BadSpec naming the field."""
    parts: list[str | Value] = []
    at = 0
    while (opening := _OPENING.search(text, at)) is not None:
        place = _PLACE.match(text, opening.start())
        if place is None:
            raise BadSpec(f"{where}: {opening[0]} opens something that is not known here: {_HOW}")
        parts += [text[at : opening.start()], _value(place)]
        at = place.end()
    if not parts:
        return text
    parts.append(text[at:])
    return Template(tuple(part for part in parts if part != ""))


def _value(place: re.Match[str]) -> Value:
    default = next((given for given in place.group("double", "single", "number") if given is not None), None)
    path = tuple(place["path"][1:].split("."))
    return Value(path, None if default is None else escaped(default))


class Rendering:
    """A payload in segments. `constant` is the whole of it when it is the same for everybody."""

    __slots__ = ("_most", "_pieces", "_values", "constant", "fixed", "least", "limit")

    def __init__(self, segments: Iterable[bytes | Place], limit: int) -> None:
        self._pieces = [b""]  # constants; between two of them the place of a value
        self._values: list[tuple[int, Place]] = []  # and at which of these places it stands
        for segment in segments:
            if isinstance(segment, bytes):
                self._pieces[-1] += segment
            else:
                self._values.append((len(self._pieces), segment))
                self._pieces += (b"", b"")
        self.constant = None if self._values else self._pieces[0]
        self.limit = self._most = limit
        self.fixed = sum(map(len, self._pieces))  # bytes without the values
        self.least = self.fixed + sum(_least(value) for _, value in self._values)

    def exempt(self, size: int) -> None:
        """So many of its fixed bytes do not count against the limit."""
        self._most = self.limit + size

    def needs(self, kind: type[Place]) -> bool:
        """Whether it has places of this kind."""
        return any(isinstance(value, kind) for _, value in self._values)

    @property
    def excess(self) -> int:
        """How far it is over the limit for whoever has the shortest values; 0 when it can fit somebody."""
        return max(0, self.least - self._most)

    def fill(self, values: Mapping[str, Any]) -> bytes:
        """The payload of one user. Raises MissingValue and TooLarge."""
        pieces = self._pieces.copy()
        for place, value in self._values:
            pieces[place] = value.inside(values)
        payload = b"".join(pieces)
        if len(payload) > self._most:
            raise TooLarge(f"{len(payload) - self._most} bytes over the limit of {self.limit}")
        return payload


def _least(value: Place) -> int:
    """Bytes that a value has at least: a value that is there has one."""
    return 1 if isinstance(value, Number) or value.default is None else min(1, len(value.default))


def render(tree: dict[str, Any], limit: int, *, head: bytes = b"{", tail: bytes = b"}") -> Rendering:
    """The segments of a JSON object whose leaves may be templates, between other braces if so wished.

    Raises BadSpec naming what JSON cannot say.
    """
    segments: list[bytes | Place] = [head]
    _write_members(tree, "", segments)
    segments.append(tail)
    return Rendering(segments, limit)


def _write(node: Any, where: str, out: list[bytes | Place]) -> None:
    if isinstance(node, Template):
        out.append(b'"')
        out.extend(part if isinstance(part, Value) else escaped(part) for part in node.parts)
        out.append(b'"')
    elif isinstance(node, dict):
        out.append(b"{")
        _write_members(node, where, out)
        out.append(b"}")
    elif isinstance(node, list | tuple):
        for number, member in enumerate(node):
            out.append(b"," if number else b"[")
            _write(member, f"{where}[{number}]", out)
        out.append(b"]" if node else b"[]")
    elif isinstance(node, Number):
        out.append(node)
    else:
        out.append(_scalar(node, where))


def _write_members(node: dict[str, Any], where: str, out: list[bytes | Place]) -> None:
    for number, (name, member) in enumerate(node.items()):
        inner = f"{where}.{name}" if where else str(name)
        if not isinstance(name, str):
            raise BadSpec(f"{inner}: a name in JSON is a text")
        out += (b"," if number else b"", _scalar(name, inner), b":")
        _write(member, inner, out)


def _scalar(node: Any, where: str) -> bytes:
    if type(node) is float and not math.isfinite(node):
        raise BadSpec(f"{where} is not a finite number")
    try:
        return orjson.dumps(node)
    except TypeError:
        raise BadSpec(f"{where} cannot be written as JSON: give it as a text") from None


class Renderings:
    """One message for one provider: a payload per language, chosen by a device's locale.

    `ready` holds the constant payloads by locale: the fast path looks here first and calls `body` when
    there is none, because the locale is new or the payload is not the same for everybody.
    """

    __slots__ = ("_by_language", "_by_locale", "needs_badge", "needs_values", "ready")

    def __init__(self, by_language: Mapping[str, Rendering]) -> None:
        self._by_language = {_tag(language): rendering for language, rendering in by_language.items()}
        for language, rendering in by_language.items():
            self._by_language.setdefault(_other_spelling(_tag(language)), rendering)
        self._by_locale: dict[str, Rendering] = {}
        self.needs_values = any(rendering.needs(Value) for rendering in by_language.values())
        self.needs_badge = any(rendering.needs(Number) for rendering in by_language.values())
        self.ready: dict[str, bytes] = {}

    def body(self, locale: str, values: Mapping[str, Any] | None) -> bytes:
        """The payload for a device of this locale and user. Raises MissingValue and TooLarge."""
        rendering = self._by_locale.get(locale) or self._choose(locale)
        return rendering.constant or rendering.fill(values or {})

    def _choose(self, locale: str) -> Rendering:
        known = self._by_language
        language = next((tag for tag in locale_chain(locale) if tag in known), DEFAULT)
        rendering = self._by_locale[locale] = known[language]
        if rendering.constant is not None:
            self.ready[locale] = rendering.constant
        return rendering


def _tag(language: str) -> str:
    return language.strip().replace("_", "-").lower()


def _other_spelling(tag: str) -> str:
    """Phones write Chinese with its script or without it (zh-Hant-TW, zh_TW), and so do authors."""
    parts = tag.split("-")
    if parts[0] != "zh" or len(parts) < 2:
        return tag
    if parts[1] in ("hant", "hans"):
        return "-".join(["zh", *parts[2:]]) if len(parts) > 2 else tag
    script = "hant" if {"tw", "hk", "mo"} & set(parts[1:]) else "hans"
    return "-".join(["zh", script, *parts[1:]])


Compiled = Mapping[str, str | Template]
"""The texts of one language that are there: title, subtitle, body."""


def compile_texts(message: Message) -> dict[str, Compiled]:
    """Every language's texts, compiled; one empty entry for a message without text.

    Raises BadSpec: a language given twice, one with nothing to show, a place that is not understood.
    """
    seen: dict[str, str] = {}
    compiled: dict[str, Compiled] = {}
    for language, text in message.texts.items():
        other = seen.setdefault(_tag(language), language)
        if other != language:
            raise BadSpec(f"texts.{language} and texts.{other} are the same language")
        compiled[language] = _compile_fields(text, f"texts.{language}")
    return compiled or {DEFAULT: {}}


def _compile_fields(text: Text, where: str) -> Compiled:
    given = {name: words for name in ("title", "subtitle", "body") if (words := getattr(text, name))}
    if "title" not in given and "body" not in given:
        raise BadSpec(f"{where} needs a title or a body")
    return {name: compile_text(words, f"{where}.{name}") for name, words in given.items()}


def render_languages(message: Message, build: Callable[[Compiled], Rendering], provider: str) -> Renderings:
    """The message for one provider; `build` renders the texts of one language.

    Raises BadSpec naming the language and the limit when its readers could not be sent anything.
    """
    by_language = {}
    for language, texts in compile_texts(message).items():
        rendering = by_language[language] = build(texts)
        if rendering.excess:
            where = f"texts.{language}" if texts else "data"
            raise BadSpec(
                f"{where}: the payload for {provider} is at least {rendering.excess} bytes over the limit "
                f"of {rendering.limit} bytes: shorten the texts or the data"
            )
    return Renderings(by_language)


def badge_of(message: Message) -> int | Number | None:
    """The badge as it stands in a payload's tree: a number for all, or the place of each device's own."""
    return Number() if isinstance(message.badge, str) else message.badge


def present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is None: absent and null mean the same, 0 and the empty text do not."""
    return {name: value for name, value in values.items() if value is not None}
