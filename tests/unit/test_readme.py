"""The two READMEs say the same: commands, links and the order of things."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.zh-Hant.md"))


def commands(text: str) -> list[str]:
    """Every command line of a console block, without its comment and its words for people."""
    lines = re.findall(r"^\$ (.+)$", text, re.MULTILINE)
    return [re.sub(r'"[^"]*"', '""', line.split(" # ")[0]).strip() for line in lines]


def structure(text: str) -> list[str]:
    """Headings by their depth, the kinds of blocks, and the rows of tables."""
    return re.findall(r"^(#+(?= )|```\w*|\|)", text, re.MULTILINE)


def test_the_same_commands() -> None:
    """Whoever follows either does the same."""
    assert commands(CHINESE) == commands(ENGLISH)


def test_the_same_parts() -> None:
    """No section, block or table row is in one of them only."""
    assert structure(CHINESE) == structure(ENGLISH)


def test_links_lead_somewhere() -> None:
    """And both link to the same places, each to the other one."""
    links = [set(re.findall(r"\]\(([^)#]+)\)", text)) for text in (ENGLISH, CHINESE)]

    assert links[0] ^ links[1] == {"README.md", "README.zh-Hant.md"}
    assert [link for link in links[0] if "://" not in link and not (ROOT / link).exists()] == []
