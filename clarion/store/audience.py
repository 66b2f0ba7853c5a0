"""The audience rule as SQL over the aliases of a freeze: u (usr), d (device), r (registration).

Nothing of a rule is ever written into the text: values are arguments, numbered from where the caller says.
What a condition needs from other tables (the numbers of locales, the number of a list) stands in
uncorrelated sub-selects, which run once a statement; what remains per row are comparisons.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from clarion.errors import BadSpec, NotFound
from clarion.model.audience import Audience, Slice, Where
from clarion.store.database import Database
from clarion.store.intake import PLATFORMS, version_numbers
from clarion.store.locales import normalise_locale
from clarion.store.sql import beside
from clarion.store.zones import canonical_zone

SQL = beside(__file__)
_COMPARISON: Final = re.compile(r"(>=|<=|>|<|==)?\s*(.+)")
_EVERYBODY: Final = "true"


@dataclass(frozen=True, slots=True)
class Fragment:
    """A condition and its arguments; `$first` is the first of them."""

    sql: str
    args: tuple[Any, ...]


class _Arguments:
    """Numbers the arguments in the order they are asked for."""

    def __init__(self, first: int) -> None:
        self._first = first
        self.values: list[Any] = []

    def add(self, value: Any, type_name: str) -> str:
        self.values.append(value)
        return f"${self._first + len(self.values) - 1}::{type_name}"


def compile(audience: Audience, app_no: int, first: int) -> Fragment:
    """The condition of an audience. Raises BadSpec: it names a zone or language that does not exist."""
    args = _Arguments(first)
    if audience.everybody:
        sql = _EVERYBODY
    elif audience.users:
        sql = f"u.user_id = any({args.add(list(audience.users), 'text[]')})"
    elif audience.user_list is not None:
        sql = _in_list(audience.user_list, app_no, args)
    elif audience.where is not None:
        sql = _where(audience.where, args)
    else:
        raise BadSpec("the audience of a retry is the old push's rows, not a rule over devices")
    if audience.slice is not None:
        sql = f"({sql}) and {_slice(audience.slice, args)}"
    return Fragment(sql, tuple(args.values))


def list_digest(reference: str) -> bytes:
    """The digest that a reference `list:<sha256>` names. Raises BadSpec."""
    match = re.fullmatch(r"list:([0-9a-f]{64})", reference)
    if match is None:
        raise BadSpec("user_list must be a reference of the form list:<sha256>, as storing a list gives it")
    return bytes.fromhex(match[1])


async def estimate(db: Database, app_no: int, audience: Audience) -> int:
    """About how many registrations an audience has, without reading it; at least 1.

    Named users are counted. A list counts as its size. Everything else is the planner's guess from its
    statistics, which follow a large import within a minute. Raises NotFound: no such list.
    """
    if audience.users:
        return max(
            1, int(await db.fetchval(SQL.count_users, app_no, list(audience.users)) * audience.fraction)
        )
    if audience.user_list is not None:
        size = await db.fetchval(SQL.list_size, app_no, list_digest(audience.user_list))
        if size is None:
            raise NotFound("there is no such user list in this app: store it first")
        return max(1, int(size * audience.fraction))
    fragment = compile(audience, app_no, 2)
    sql = SQL.guess_all if fragment.sql == _EVERYBODY else SQL.guess.replace("true", fragment.sql)
    plan = await db.fetchval(sql, app_no, *fragment.args)
    return max(1, int(plan[0]["Plan"]["Plan Rows"]))


def _slice(part: Slice, args: _Arguments) -> str:
    of, start, end = args.add(part.of, "text"), args.add(part.start, "int"), args.add(part.end, "int")
    return f"slice_of(u.user_no, {of}) <@ int4range({start}, {end})"


def _in_list(reference: str, app_no: int, args: _Arguments) -> str:
    app, digest = args.add(app_no, "int"), args.add(list_digest(reference), "bytea")
    number = f"(select l.list_no from user_list l where l.app_no = {app} and l.digest = {digest})"
    return f"exists (select from user_list_member m where m.list_no = {number} and m.user_id = u.user_id)"


def _where(where: Where, args: _Arguments) -> str:
    conditions = []
    if where.platform:
        numbers = [PLATFORMS[name] for name in where.platform]
        conditions.append(f"d.platform = any({args.add(numbers, 'smallint[]')})")
    if where.app_version is not None:
        conditions.append(_version(where.app_version, args))
    if where.locale:
        conditions.append(_locale(where.locale, args))
    if where.zone:
        zones = [_zone(name) for name in where.zone]
        conditions.append(f"coalesce(d.zone, u.zone) = any({args.add(zones, 'text[]')})")
    if where.tags_any:
        conditions.append(f"u.tags && {args.add(list(where.tags_any), 'text[]')}")
    if where.tags_all:
        conditions.append(f"u.tags @> {args.add(list(where.tags_all), 'text[]')}")
    if where.tags_none:
        # A user without tags has none of them.
        conditions.append(f"(u.tags && {args.add(list(where.tags_none), 'text[]')}) is not true")
    if where.active_within_days is not None:
        days = args.add(where.active_within_days, "int")
        conditions.append(f"d.last_active > now() - make_interval(days => {days})")
    return " and ".join(conditions) or _EVERYBODY


def _version(rule: str, args: _Arguments) -> str:
    """Arrays compare number by number, and trailing zeros are gone from both: 4.10 is later than 4.9.0."""
    match = _COMPARISON.fullmatch(rule)
    numbers = version_numbers(match[2]) if match else None
    if match is None or numbers is None:
        raise BadSpec("app_version must be a version with an optional comparison, like >=4.10")
    operator = (match[1] or "==").replace("==", "=")
    value = [int(number) for number in numbers.strip("{}").split(",") if number]
    return f"d.version {operator} {args.add(value, 'int[]')}"


def _locale(ranges: tuple[str, ...], args: _Arguments) -> str:
    """Language ranges (RFC 4647 section 3.3.1): zh takes zh-Hant-TW, and zh-Hant takes zh-TW."""
    tags = [normalise_locale(tag) for tag in ranges]
    if not all(tags):
        raise BadSpec(f"locale has something that is no language tag: {ranges[tags.index('')][:40]!r}")
    chosen = f"array(select l.locale_no from locale l where l.chain && {args.add(tags, 'text[]')})"
    return f"coalesce(d.locale, u.locale) = any({chosen})"


def _zone(name: str) -> str:
    zone = canonical_zone(name)
    if zone is None:
        raise BadSpec(f"zone has something that is no time zone: {name[:40]!r}")
    return zone
