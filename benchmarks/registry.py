"""A registry made in the database itself: millions of phones in minutes, for measurements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from clarion.store.database import Database

PATIENCE: Final = 3_600.0  # seconds for one statement
AT_ONCE: Final = 250_000  # users in one statement


async def add_app(db: Database, name: str, providers: Sequence[str]) -> int:
    """An app with a lane for each provider, without secrets. Its number."""
    app_no: int = await db.fetchval("insert into app (name) values ($1) returning app_no", name)
    for lane, provider in enumerate(providers, start=1):
        await db.execute(
            "insert into credential (app_no, lane, name, provider) values ($1, $2, $3, $4)",
            app_no, lane, f"{provider}-{lane}", provider,
        )  # fmt: skip
    return app_no


async def add_phones(db: Database, app_no: int, count: int, shares: Sequence[int]) -> None:
    """`count` users user-1, user-2, … with a phone each, dealt to the lanes by their shares of a hundred.

    Nothing is analysed on the way, as right after an import.
    """
    lanes = [lane for lane, share in enumerate(shares, start=1) for _ in range(share)]
    for first in range(1, count + 1, AT_ONCE):
        last = min(first + AT_ONCE - 1, count)
        await db.execute(PHONES, app_no, lanes, first, last, timeout=PATIENCE)
    await db.execute("checkpoint", timeout=PATIENCE)


PHONES: Final = """
with u as (
  insert into usr (app_no, user_id)
  select $1, 'user-' || g from generate_series($3::int, $4::int) g
  returning user_no
), d as (
  insert into device (app_no, installation, user_no, platform, locale)
  select $1, gen_random_uuid(), user_no, 1, 0 from u
  returning device_no, user_no
)
insert into registration (device_no, user_no, app_no, lane, token)
select device_no, user_no, $1, ($2::int[])[1 + device_no % 100], md5(device_no::text) || md5('x' || device_no)
from d
"""
