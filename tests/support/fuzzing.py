"""Fuzzing: a corpus of what others send, mutants of it, and targets that must bear them.

A target is a parser and what must hold of it for any bytes whatever. Its corpus (tests/corpus/NAME) holds
real answers, conversations and files, and every input that once broke it. A mutant is a member of the corpus
changed a few times: bit by bit, piece by piece, and by its structure (a value of JSON replaced, a frame
repeated), because random bytes never get past the first bracket.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

CORPUS: Final = Path(__file__).parents[1] / "corpus"
DEEP: Final = "\ue000deep\ue000"  # stands in a JSON text for what no library writes: a thousand brackets
LARGEST: Final = 65_536

Edit = Callable[[random.Random, bytes, Sequence[bytes]], bytes]
ODD: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 7, 2**31, 2**53, 2**63 - 1, -(2**63), 1.5, 1e308, -0.0, "", " ", "0", "-1",
    "²", "٣", "漢字", "\u0000", "\u202e", "a" * 300, "9" * 400, [], {}, [[]], {"": {}}, [None], DEEP,
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "2026-02-30", 1e20, -1e15, 253402300800000,
)  # fmt: skip


@dataclass(frozen=True)
class Target:
    """A parser under test. `check` raises when something that must hold does not."""

    name: str
    check: Callable[[bytes], object]
    edits: tuple[Edit, ...] = ()  # of its structure, beside those of bytes
    made: Callable[[], list[bytes]] = list  # seeds that cannot be kept in files: keys

    @property
    def folder(self) -> Path:
        """Where its corpus is."""
        return CORPUS / self.name

    def corpus(self) -> list[bytes]:
        """Its seeds, always in the same order."""
        return [path.read_bytes() for path in sorted(self.folder.iterdir())] + self.made()


def mutant(chance: random.Random, target: Target, corpus: Sequence[bytes]) -> bytes:
    """A member of the corpus, changed one to six times."""
    data = chance.choice(corpus)
    for _ in range(chance.choice((1, 1, 2, 3, 6))):
        edits = target.edits if target.edits and chance.random() < 0.6 else BYTES
        data = chance.choice(edits)(chance, data, corpus)[:LARGEST]
    return data


# ── bytes ─────────────────────────────────────────────────────────────────────────────────────────────


def _piece(chance: random.Random, data: bytes) -> tuple[int, int]:
    start = chance.randint(0, len(data))
    return start, min(len(data), start + chance.choice((1, 1, 2, 4, 9, 16, 64, 1024)))


def flip(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """One bit."""
    if not data:
        return b"\x00"
    at = chance.randrange(len(data))
    return data[:at] + bytes((data[at] ^ 1 << chance.randrange(8),)) + data[at + 1 :]


def put(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """One byte of those that mean something."""
    at = chance.randint(0, len(data))
    return data[:at] + bytes((chance.choice(b'\x00\x7f\x80\xff"\\{}[],:\n\r\t -=&;%'),)) + data[at + 1 :]


def cut(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """A piece is missing, or everything behind a place."""
    start, end = _piece(chance, data)
    return data[:start] + (data[end:] if chance.random() < 0.7 else b"")


def splice(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """The end is another one's, or a piece of another one stands inside."""
    other = chance.choice(corpus)
    at, (start, end) = chance.randint(0, len(data)), _piece(chance, other)
    if chance.random() < 0.5:
        return data[:at] + other[start:]
    return data[:at] + other[start:end] + data[at:]


def repeat(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """A piece comes again and again."""
    start, end = _piece(chance, data)
    return data[:end] + data[start:end] * chance.choice((1, 2, 7, 100)) + data[end:]


def swap(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Two halves change places."""
    at = chance.randint(0, len(data))
    return data[at:] + data[:at]


BYTES: Final[tuple[Edit, ...]] = (flip, put, cut, splice, repeat, swap)

# ── JSON ──────────────────────────────────────────────────────────────────────────────────────────────


def json_edit(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """The JSON in this (all of it, or behind an empty line), with one value changed."""
    head, gap, body = data.rpartition(b"\n\n")
    return head + gap + changed_json(chance, body)


def line_edit(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """One line of JSON changed, or left out, or there twice."""
    lines = data.splitlines(keepends=True) or [b""]
    at = chance.randrange(len(lines))
    lines[at : at + 1] = chance.choice(
        ([], [lines[at]] * 2, [changed_json(chance, lines[at].rstrip(b"\n")) + b"\n"] * 1)
    )
    return b"".join(lines)


def changed_json(chance: random.Random, text: bytes) -> bytes:
    """A JSON text with one value changed; what is none stays as it is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    try:
        written = json.dumps(changed(chance, value), ensure_ascii=chance.random() < 0.5)
    except RecursionError:
        return text
    many = chance.choice((40, 300, 900, 990, 1_010))
    deep = chance.choice(("[" * many + "]" * many, '{"a":' * many + "1" + "}" * many))
    return written.replace(json.dumps(DEEP), deep).replace(f'"{DEEP}"', deep).encode("utf-8", "replace")


def changed(chance: random.Random, value: Any) -> Any:
    """A value of JSON with one place in it changed."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        name = chance.choice(sorted(value, key=str))
        return _changed_member(chance, value, name)
    if isinstance(value, list) and value and chance.random() < 0.85:
        at = chance.randrange(len(value))
        inner = chance.choice(([], [value[at]] * 2, [changed(chance, value[at])]))
        return [*value[:at], *inner, *value[at + 1 :]]
    return odd(chance, value)


def _changed_member(chance: random.Random, value: dict[str, Any], name: str) -> dict[str, Any]:
    what = chance.random()
    rest = {key: one for key, one in value.items() if key != name}
    if what < 0.1:
        return rest
    if what < 0.2:
        return rest | {str(chance.choice(("", "x", name.upper(), "秘", "_" + name))): value[name]}
    if what < 0.25:
        return value | {name: value[chance.choice(sorted(value, key=str))]}
    return value | {name: changed(chance, value[name])}


def odd(chance: random.Random, value: Any) -> Any:
    """Another value in its place: strange, of another type, or a neighbour of it."""
    near: list[Any] = [[value], {"a": value}, str(value)[:400]]
    if isinstance(value, int | float) and abs(value) < 1e15:
        near += [value + 1, -value, value * 1_000, float(value)]
    if isinstance(value, str):
        near += [value + "\u0000", value.upper(), value * 2, value[1:], value + ",", value + "é"]
        near += [int(value)] if value.isascii() and value.isdigit() and len(value) < 19 else []
    return chance.choice(ODD if chance.random() < 0.6 else near)
