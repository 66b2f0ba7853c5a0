"""Locales by number: an append-only table, 0 = none."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from clarion.senders.sender import locale_chain
from clarion.store.database import Database

# Language, script and region choose a text; what else a phone reports (variants, calendars) does not, and
# would only use up numbers.
_TAG: Final = re.compile(
    r"(?P<language>[a-z]{2,3})(?:-[a-z]{3}){0,3}"
    r"(?:-(?P<script>[a-z]{4}))?(?:-(?P<region>[a-z]{2}|[0-9]{3}))?(?:-.*)?",
)
_JAVA: Final = re.compile(r"([a-z]{2,3})-(\w*)-#([a-z]{4})(?:-.*)?")  # zh_HK_#Hans: script after region
_OLD_LANGUAGES: Final = {"iw": "he", "in": "id", "ji": "yi"}  # what old Android phones still say


def normalise_locale(text: str) -> str:
    """A BCP 47 tag, lower case with hyphens, of language, script and region; empty when it is none.

    Takes what phones say: zh_TW, zh-hant-HK, EN-us, en_US.UTF-8, pt_BR@calendar=gregorian, zh_HK_#Hans.
    """
    tag = re.split(r"[.@]", text.strip(), maxsplit=1)[0].replace("_", "-").lower()
    if java := _JAVA.fullmatch(tag[:100]):
        tag = "-".join(part for part in (java[1], java[3], java[2]) if part)
    match = _TAG.fullmatch(tag) if len(tag) <= 100 else None
    if match is None:
        return ""
    language = _OLD_LANGUAGES.get(match["language"], match["language"])
    return "-".join(part for part in (language, match["script"], match["region"]) if part)


class Locales:
    """Tags and numbers, cached: a number never changes its meaning.

    `tags[number]` is what senders look texts up by. Call `know` with the numbers of rows just read: another
    process may have added one since.
    """

    def __init__(self) -> None:
        self.tags: dict[int, str] = {0: ""}
        self._numbers: dict[str, int] = {"": 0}

    @classmethod
    async def load(cls, db: Database) -> Locales:
        """All that are known now."""
        locales = cls()
        await locales.refresh(db)
        return locales

    async def refresh(self, db: Database) -> None:
        """Learn what other processes added."""
        # All of them, not those above the last: numbers become visible in the order of commits.
        for row in await db.fetch("select locale_no, tag from locale"):
            self._learn(row["locale_no"], row["tag"])

    async def know(self, db: Database, numbers: Iterable[int]) -> None:
        """Learn these, if any is new to this process."""
        if not self.tags.keys() >= set(numbers):
            await self.refresh(db)

    def number(self, tag: str) -> int | None:
        """The number of a normalised tag, if this process has met it."""
        return self._numbers.get(tag)

    def name(self, number: int) -> str:
        """The tag; empty for none."""
        return self.tags[number]

    async def intern(self, db: Database, tag: str) -> int:
        """The number of a tag (in any spelling), given now if it is new; 0 when it is no tag."""
        tag = normalise_locale(tag)
        number = self._numbers.get(tag)
        if number is None:
            await db.execute(
                "insert into locale (tag, chain) select $1, $2 "
                "where not exists (select from locale where tag = $1) on conflict do nothing",
                tag,
                list(locale_chain(tag)),
            )
            number = int(await db.fetchval("select locale_no from locale where tag = $1", tag))
            self._learn(number, tag)
        return number

    def _learn(self, number: int, tag: str) -> None:
        self.tags[number] = tag
        self._numbers[tag] = number
