"""Locales and time zones as phones report them."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.senders.sender import locale_chain
from clarion.store.locales import normalise_locale
from clarion.store.zones import Zones, canonical_zone


@pytest.mark.parametrize(
    ("text", "tag"),
    [
        ("zh_TW", "zh-tw"),
        ("zh-hant-HK", "zh-hant-hk"),
        ("pt_BR", "pt-br"),
        ("EN-us", "en-us"),
        ("xx", "xx"),
        ("", ""),
        ("en_US.UTF-8", "en-us"),
        ("de_DE@calendar=gregorian", "de-de"),
        ("zh_TW_#Hant", "zh-hant-tw"),
        ("zh_HK_#Hans", "zh-hans-hk"),
        ("sr__#Latn", "sr-latn"),
        ("zh-Hans-CN-u-ca-chinese", "zh-hans-cn"),
        ("es-419", "es-419"),
        ("sl-rozaj-biske", "sl"),
        ("zh-yue-HK", "zh-hk"),
        ("iw_IL", "he-il"),
        ("in", "id"),
        ("english", ""),
        ("../../etc", ""),
        ("e", ""),
        ("x" * 10_000, ""),
    ],
)
def test_locales_have_one_form(text: str, tag: str) -> None:
    """C57: letters, underscores and what phones append do not matter; what is no tag is none."""
    assert normalise_locale(text) == tag


@pytest.mark.parametrize(
    ("text", "variant"),
    [
        ("zh_TW", "zh-hant"),
        ("zh-hant-HK", "zh-hant"),
        ("zh_CN", "zh-hans"),
        ("pt_BR", "pt"),
        ("EN-us", "en"),
        ("xx", "default"),
        ("", "default"),
    ],
)
def test_readers_get_their_script(text: str, variant: str) -> None:
    """C57: from variants zh-Hans, zh-Hant, pt, en and a default, stored locales choose right."""
    variants = ("zh-hans", "zh-hant", "pt", "en")
    chain = locale_chain(normalise_locale(text))

    assert next((tag for tag in chain if tag in variants), "default") == variant


@given(st.text(max_size=40))
def test_any_text_is_a_locale_or_none(text: str) -> None:
    """Normalising never fails, is idempotent, and gives what a column of short tags can hold."""
    tag = normalise_locale(text)

    assert normalise_locale(tag) == tag
    assert tag.isascii()
    assert len(tag) <= 13


@pytest.mark.parametrize(
    ("name", "zone"),
    [
        ("Asia/Calcutta", "Asia/Kolkata"),
        ("US/Pacific", "America/Los_Angeles"),
        ("asia/tokyo", "Asia/Tokyo"),
        (" Europe/Berlin ", "Europe/Berlin"),
        ("Europe/Oslo", "Europe/Oslo"),
        ("America/Buenos_Aires", "America/Argentina/Buenos_Aires"),
        ("UTC", "Etc/UTC"),
        ("UTC+3", None),
        ("GMT+3", None),
        ("", None),
        ("Mars/Base", None),
        ("localtime", None),
        ("Factory", None),
        ("../../etc/passwd", None),
    ],
)
def test_zones_have_their_present_name(name: str, zone: str | None) -> None:
    """C47: old names are known on any machine; what is no zone is none. Places stay themselves."""
    assert canonical_zone(name) == zone


def test_old_zone_names_need_no_system_files() -> None:
    """C47: with the machine's own zone files out of reach the old names are still known."""
    program = "from clarion.store.zones import canonical_zone; print(canonical_zone('Asia/Calcutta'))"
    environment = {"PYTHONTZPATH": "/nonexistent", "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)

    assert done.stdout == "Asia/Kolkata\n", done.stderr


@pytest.mark.parametrize("pair", [("Asia/Calcutta", "Asia/Kolkata"), ("US/Pacific", "America/Los_Angeles")])
def test_old_and_new_names_keep_the_same_time(pair: tuple[str, str]) -> None:
    """C47: the present name has the old one's clock, all year."""
    assert canonical_zone(pair[0]) == pair[1]
    for month in range(1, 13):
        moment = datetime(2026, month, 15, 12, tzinfo=UTC)
        assert (
            moment.astimezone(ZoneInfo(pair[0])).utcoffset()
            == moment.astimezone(ZoneInfo(pair[1])).utcoffset()
        )


def test_a_zone_that_postgresql_lacks_is_none() -> None:
    """C47: a freeze computes with PostgreSQL's zones, so one it does not know would fail a whole range."""
    zones = Zones(["Asia/Kolkata"])

    assert zones.resolve("Asia/Calcutta") == "Asia/Kolkata"
    assert zones.resolve("Europe/Berlin") is None
