"""Specs from files: what is wrong, where, and what to do."""

from __future__ import annotations

from pathlib import Path

import pytest

from clarion.errors import BadSpec
from clarion.model.spec import CampaignSpec, PushSpec
from starters.spec_file import read_spec

EXAMPLES = Path(__file__).resolve().parent.parent.parent / "docs" / "examples"
GOOD = "app: demo\naudience: {everybody: true}\nmessage: {texts: {default: {title: Hi}}}\n"


def write(folder: Path, text: str) -> Path:
    """A spec file."""
    path = folder / "spec.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_campaign(path: Path) -> None:
    """What the documentation tells people to start can be started."""
    spec = read_spec(path, CampaignSpec)

    assert spec.app == "demo"
    assert spec.message is not None


def test_overrides_win_and_none_says_nothing(tmp_path: Path) -> None:
    """The command line's id and pace stand over the file's; options that were not given do not."""
    spec = read_spec(write(tmp_path, GOOD + "pace: 10\n"), PushSpec, id="a", pace=None)

    assert (spec.id, spec.pace) == ("a", 10)


def test_a_yaml_date_is_a_moment(tmp_path: Path) -> None:
    """YAML reads dates by itself; they arrive as the text would."""
    spec = read_spec(write(tmp_path, GOOD + "send_at: 2027-01-01T10:00:00Z\n"), PushSpec)

    assert spec.send_at is not None
    assert spec.send_at.isoformat() == "2027-01-01T10:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("app: [", "line 1"),
        ("- a list", "one object"),
        (GOOD.replace("title: Hi", "titel: Hi"), "message.texts.default.titel"),
        (GOOD.replace("everybody: true", "users: [a], everybody: true"), "exactly one of"),
        (GOOD + "pace: 0\n", "pace"),
        (GOOD + "pace: .inf\n", "pace"),
        (GOOD + "priority: urgent\n", "priority"),
        (GOOD.replace("default:", "Englisch: {title: Hi}, default:"), "Englisch"),
        (GOOD.replace("app: demo", "app: 'a b'"), "app"),
        (GOOD + "send_at: 2027-01-01T10:00:00\n", "send_at"),
        (GOOD.replace("default:", "en:"), "default"),
        ("app: demo\naudience: {everybody: true}\n", "exactly one of message and content"),
        (GOOD.replace("{texts:", "{collapse: " + "x" * 65 + ", texts:"), "message.collapse"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, text: str, words: str) -> None:
    """One clear error that says what and where."""
    with pytest.raises(BadSpec, match=r"spec\.yaml") as raised:
        read_spec(write(tmp_path, text), CampaignSpec)
    assert words in str(raised.value)


@pytest.mark.parametrize("badge", ['"3"', "-1", "1.5"])
def test_a_badge_is_a_count(tmp_path: Path, badge: str) -> None:
    """C07: strings, negative numbers and fractions are refused by name; 0 is kept."""
    text = GOOD.replace("{texts:", f"{{badge: {badge}, texts:")
    with pytest.raises(BadSpec, match=r"message\.badge"):
        read_spec(write(tmp_path, text), CampaignSpec)
    zero = read_spec(write(tmp_path, GOOD.replace("{texts:", "{badge: 0, texts:")), CampaignSpec)
    assert zero.message is not None
    assert zero.message.badge == 0


def test_collapse_counts_bytes(tmp_path: Path) -> None:
    """C06: 64 bytes pass unchanged, 33 two-byte letters are refused, never cut."""
    kept = read_spec(
        write(tmp_path, GOOD.replace("{texts:", f"{{collapse: {'a' * 64}, texts:")), CampaignSpec
    )
    assert kept.message is not None
    assert kept.message.collapse == "a" * 64
    with pytest.raises(BadSpec, match="64 bytes"):
        read_spec(write(tmp_path, GOOD.replace("{texts:", f"{{collapse: {'é' * 33}, texts:")), CampaignSpec)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The name of the file is in the error."""
    with pytest.raises(BadSpec, match=r"missing\.yaml cannot be read"):
        read_spec(tmp_path / "missing.yaml", CampaignSpec)


def test_one_digest_for_content_and_its_reference() -> None:
    """A start with the message inside and one with its stored reference are the same start."""
    inline = CampaignSpec.model_validate(
        {
            "app": "demo",
            "audience": {"everybody": True},
            "message": {"texts": {"default": {"title": "Hi"}}},
        }
    )
    assert inline.message is not None
    stored = inline.model_copy(update={"message": None, "content": inline.message.reference()})

    assert inline.digest() == stored.digest()
