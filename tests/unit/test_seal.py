"""Secrets at rest: keys, rotation, and errors that hold no key."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from clarion.seal import BadKey, Seal


def test_what_was_sealed_opens() -> None:
    """A secret comes back byte for byte, and its sealed form does not show it."""
    seal = Seal.load(Seal.new_key())
    sealed = seal.seal(b"private \x00 key", "credential 1.1")

    assert b"private" not in sealed
    assert seal.open(sealed, "credential 1.1") == b"private \x00 key"


def test_a_secret_is_no_use_in_another_row() -> None:
    """The context is part of the seal: a row copied over another one does not open."""
    seal = Seal.load(Seal.new_key())

    with pytest.raises(BadKey, match=r"credential 1\.2 does not open"):
        seal.open(seal.seal(b"x", "credential 1.1"), "credential 1.2")


def test_a_changed_byte_does_not_open() -> None:
    """Damage is noticed, wherever it is."""
    seal = Seal.load(Seal.new_key())
    sealed = seal.seal(b"secret", "here")

    for place in range(len(sealed)):
        damaged = bytearray(sealed)
        damaged[place] ^= 1
        with pytest.raises(BadKey):
            seal.open(bytes(damaged), "here")


def test_a_rotated_key_still_opens_what_it_sealed() -> None:
    """The newest key seals, those behind it open, and it can be told what is sealed under which."""
    old, new = Seal.new_key(), Seal.new_key()
    sealed = Seal.load(old).seal(b"secret", "here")
    both = Seal.load(f"{new}, {old}")

    assert both.open(sealed, "here") == b"secret"
    assert not both.is_newest(sealed)
    assert both.is_newest(both.seal(b"secret", "here"))
    with pytest.raises(BadKey, match="not among the given ones"):
        Seal.load(new).open(sealed, "here")


def test_the_environment_says_where_the_key_is(tmp_path: Path) -> None:
    """CLARION_KEY goes before CLARION_KEY_FILE, and a file may hold several lines."""
    one, other = Seal.new_key(), Seal.new_key()
    file = tmp_path / "key"
    file.write_text(f"{other}\n{one}\n")
    by_file = Seal.load(environ={"CLARION_KEY_FILE": str(file)})
    by_key = Seal.load(environ={"CLARION_KEY": one, "CLARION_KEY_FILE": str(file)})

    assert by_file.open(by_key.seal(b"x", "c"), "c") == b"x"
    assert not by_file.is_newest(by_key.seal(b"x", "c"))


@pytest.mark.parametrize(
    "text",
    ["c2hvcnQ=", "not base64 at all!", base64.b64encode(os.urandom(33)).decode()],
    ids=["short", "words", "long"],
)
def test_a_bad_key_is_refused_without_showing_it(text: str) -> None:
    """The error names the place and the rule, and holds no byte of the key."""
    with pytest.raises(BadKey, match="in CLARION_KEY must be 32 bytes in base64") as raised:
        Seal.load(text)

    assert text not in str(raised.value)


def test_no_key_and_no_file_say_what_to_do(tmp_path: Path) -> None:
    """Nothing given, an empty file and a missing one are told apart."""
    (tmp_path / "empty").write_text("\n")

    with pytest.raises(BadKey, match="set CLARION_KEY or CLARION_KEY_FILE"):
        Seal.load(environ={})
    with pytest.raises(BadKey, match="holds no key"):
        Seal.load(key_file=tmp_path / "empty")
    with pytest.raises(BadKey, match="cannot be read: FileNotFoundError"):
        Seal.load(key_file=tmp_path / "none")


def test_a_seal_shows_key_ids_only() -> None:
    """A repr in a log gives nothing away."""
    key = Seal.new_key()

    assert len(repr(Seal.load(key))) == len("Seal(01234567)")
