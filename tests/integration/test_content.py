"""Content and lists: the same thing has the same reference, and comes back digit by digit."""

from __future__ import annotations

import random

import pytest

from clarion.errors import BadInput, BadSpec, NotFound
from clarion.model.message import Message, Text
from clarion.seal import Seal
from clarion.store import content
from clarion.store.apps import App
from clarion.store.database import Database
from tests.support.keys import stocked_app


@pytest.fixture
async def app(db: Database) -> App:
    """The app `demo`."""
    return await stocked_app(db, Seal.load(Seal.new_key()))


MESSAGE = Message(
    texts={"default": Text(title='O\'Neil & "Sons" <b>', body="你好 😀")},
    data={"n": 21465, "b": True, "o": {"a": 1}, "id": 9007199254740993, "z": None},
)


async def test_a_message_comes_back(db: Database, app: App) -> None:
    """C18: stored and loaded, a large number keeps every digit, a null stays null, text stays text."""
    reference = await content.store_message(db, "demo", MESSAGE)
    loaded = await content.load_message(db, app.app_no, reference)

    assert loaded == MESSAGE
    assert loaded.data["id"] == 9007199254740993
    assert loaded.data["b"] is True


async def test_the_same_message_has_the_same_reference(db: Database, app: App) -> None:
    """Storing may be repeated; what only spells its defaults out is the same."""
    first = await content.store_message(db, "demo", MESSAGE)
    spelled = Message.model_validate(MESSAGE.model_dump() | {"badge": None})
    other = MESSAGE.model_copy(update={"badge": 0})

    assert await content.store_message(db, "demo", spelled) == first
    assert await content.store_message(db, "demo", other) != first
    assert await db.fetchval("select count(*) from content") == 2


async def test_what_is_not_there(db: Database, app: App) -> None:
    """A wrong reference, another app's content and an unknown app are told apart."""
    reference = await content.store_message(db, "demo", MESSAGE)

    with pytest.raises(BadSpec, match="content:<sha256>"):
        await content.load_message(db, app.app_no, "content:1")
    with pytest.raises(NotFound, match="store the message first"):
        await content.load_message(db, app.app_no + 1, reference)
    with pytest.raises(NotFound, match="no app named 'nope'"):
        await content.store_message(db, "nope", MESSAGE)
    with pytest.raises(NotFound, match="no app named 'nope'"):
        await content.store_users(db, "nope", ["a"])


async def test_a_list_is_a_set(db: Database, app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    """Order and repeats do not matter, also over the pieces in which it is stored."""
    monkeypatch.setattr(content, "_PIECE", 100)
    ids = [f"u{n}" for n in range(1_000)] + ["é", "00123", "1E5"]
    first = await content.store_users(db, "demo", ids)
    again = ids + ids[:50]
    random.Random(1).shuffle(again)

    assert await content.store_users(db, "demo", iter(again)) == first
    assert await content.store_users(db, "demo", ids[1:]) != first
    assert await content.list_size(db, app.app_no, first) == 1_003
    assert await db.fetchval("select count(*) from user_list") == 2
    assert await db.fetchval("select count(*) from user_list_member") == 1_003 + 1_002


async def test_a_list_with_a_bad_id_is_not_stored(db: Database, app: App) -> None:
    """All or nothing: half a list would be another audience."""
    with pytest.raises(BadInput, match="user id"):
        await content.store_users(db, "demo", ["a", "b\n"])

    assert await db.fetchval("select count(*) from user_list") == 0
