"""The audience rule as SQL: whom it chooses, and that nothing of it is ever read as SQL."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clarion.errors import BadSpec, NotFound
from clarion.model.audience import Audience
from clarion.seal import Seal
from clarion.store import audience, content, devices
from clarion.store.apps import App
from clarion.store.database import Database
from clarion.store.intake import Intake
from clarion.store.locales import Locales
from tests.support.keys import stocked_app

PEOPLE: dict[str, dict[str, Any]] = {
    "ada": {"app_version": "4.10.0", "locale": "zh_TW", "zone": "Asia/Calcutta", "tags": ["vip", "beta"]},
    "bob": {"app_version": "4.9", "locale": "zh-CN", "zone": "Asia/Tokyo", "tags": ["beta"]},
    "cyd": {"app_version": "4.9.0.1", "locale": "zh-Hant-HK", "zone": "US/Pacific"},
    "dan": {"app_version": "nightly", "locale": "pt_BR", "platform": "android"},
    "eve": {"locale": "EN-us", "last_active": "2020-01-01", "tags": ["old"]},
}


@pytest.fixture
async def app(db: Database) -> App:
    """The app `demo` with five people, and another app with one of the same name."""
    app = await stocked_app(db, Seal.load(Seal.new_key()))
    other = await stocked_app(db, Seal.load(Seal.new_key()), "other")
    locales = await Locales.load(db)
    for one, people in ((app, PEOPLE), (other, {"ada": {}})):
        intake = await Intake.load(db, one)
        fields = [
            {"user_id": user, "platform": "ios", "token": f"{n:02x}"} | more
            for n, (user, more) in enumerate(people.items())
        ]
        await devices.register(db, locales, intake, fields)
    return app


async def chosen(db: Database, app: App, rule: dict[str, Any]) -> set[str]:
    """The users that a rule lets through, as a freeze asks for them: other arguments stand before ours."""
    fragment = audience.compile(Audience.model_validate(rule), app.app_no, 3)
    rows = await db.fetch(
        "select u.user_id from usr u join registration r on r.user_no = u.user_no "
        "join device d on d.device_no = r.device_no "
        f"where u.app_no = $1 and r.status = $2 and ({fragment.sql})",
        app.app_no,
        1,
        *fragment.args,
    )
    return {row["user_id"] for row in rows}


@pytest.mark.parametrize(
    ("where", "users"),
    [
        ({}, "ada bob cyd dan eve"),
        ({"platform": ["android"]}, "dan"),
        ({"platform": ["android", "ios"]}, "ada bob cyd dan eve"),
        ({"app_version": ">=4.10"}, "ada"),
        ({"app_version": "> 4.9"}, "ada cyd"),
        ({"app_version": "4.9.0"}, "bob"),
        ({"app_version": "==4.10"}, "ada"),
        ({"app_version": "<4.10"}, "bob cyd"),
        ({"app_version": "<=4.9"}, "bob"),
        ({"locale": ["zh"]}, "ada bob cyd"),
        ({"locale": ["zh-Hant"]}, "ada cyd"),
        ({"locale": ["ZH_hant_hk", "pt"]}, "cyd dan"),
        ({"locale": ["e"]}, None),
        ({"locale": ["es"]}, ""),
        ({"zone": ["Asia/Kolkata"]}, "ada"),
        ({"zone": ["Asia/Calcutta", "America/Los_Angeles"]}, "ada cyd"),
        ({"zone": ["Mars/Base"]}, None),
        ({"tags_any": ["vip", "old"]}, "ada eve"),
        ({"tags_all": ["vip", "beta"]}, "ada"),
        ({"tags_none": ["beta"]}, "cyd dan eve"),
        ({"active_within_days": 30}, "ada bob cyd dan"),
        ({"tags_any": ["beta"], "app_version": ">=4.10", "locale": ["zh"]}, "ada"),
    ],
)
async def test_rules(db: Database, app: App, where: dict[str, Any], users: str | None) -> None:
    """C57 and more: ranges of languages, numbers of versions, old names of zones, sets of tags."""
    if users is None:
        with pytest.raises(BadSpec, match="is no"):
            await chosen(db, app, {"where": where})
    else:
        assert await chosen(db, app, {"where": where}) == set(users.split())


async def test_everybody_named_and_listed(db: Database, app: App) -> None:
    """All of the app, some by name, some by a stored list; nobody of another app."""
    listed = await content.store_users(db, "demo", ["eve", "bob", "nobody", "bob"])

    assert await chosen(db, app, {"everybody": True}) == set(PEOPLE)
    assert await chosen(db, app, {"users": ["ada", "nobody"]}) == {"ada"}
    assert await chosen(db, app, {"user_list": listed}) == {"bob", "eve"}


async def test_a_list_of_another_app_is_nobodys(db: Database, app: App) -> None:
    """References are the app's: the same digest elsewhere chooses nobody here."""
    listed = await content.store_users(db, "other", ["ada"])

    assert await chosen(db, app, {"user_list": listed}) == set()
    with pytest.raises(NotFound, match="store it first"):
        await audience.estimate(db, app.app_no, Audience(user_list=listed))


async def test_values_are_never_sql(db: Database, app: App) -> None:
    """Quotes, comments and dollars in values choose nobody and break nothing."""
    evil = "x') or true --$1"

    assert evil not in audience.compile(Audience(users=(evil,)), 1, 1).sql
    for rule in ({"users": [evil]}, {"where": {"tags_any": [evil]}}, {"where": {"tags_all": [evil]}}):
        assert await chosen(db, app, rule) == set()
    with pytest.raises(BadSpec, match="list:<sha256>"):
        audience.compile(Audience(user_list=evil), 1, 1)


async def test_a_rule_costs_a_row_little(db: Database, app: App) -> None:
    """Everything about other tables is asked once a statement: no function and no sub-plan runs per row."""
    rule = {
        "platform": ["ios"],
        "app_version": ">=4",
        "locale": ["zh"],
        "zone": ["Asia/Tokyo"],
        "tags_any": ["a"],
        "tags_none": ["b"],
        "active_within_days": 7,
    }
    fragment = audience.compile(Audience.model_validate({"where": rule}), app.app_no, 1)
    plan = await db.fetchval(
        "explain (format json) select from usr u join registration r on r.user_no = u.user_no "
        f"join device d on d.device_no = r.device_no where {fragment.sql}",
        *fragment.args,
    )

    assert "SubPlan" not in json.dumps(plan)
    assert "InitPlan" in json.dumps(plan)


async def test_estimates(db: Database, app: App) -> None:
    """Named users are counted, lists have their size, rules and everybody are guessed from statistics."""
    await db.execute("analyze usr")
    await db.execute("analyze device")
    await db.execute("analyze registration")
    listed = await content.store_users(db, "demo", map(str, range(1_000)))

    async def estimate(**rule: Any) -> int:
        return await audience.estimate(db, app.app_no, Audience.model_validate(rule))

    assert await estimate(users=["ada", "bob", "nobody"]) == 2
    assert await estimate(user_list=listed) == 1_000
    assert 3 <= await estimate(everybody=True) <= 6
    assert 1 <= await estimate(where={"platform": ["android"]}) <= 3
