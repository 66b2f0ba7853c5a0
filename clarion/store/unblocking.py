"""The blocked credentials that a push waits for, opened by somebody's word to it."""

from __future__ import annotations

from clarion.store import credentials, report
from clarion.store import push as pushes
from clarion.store.database import Database


async def unblock(db: Database, push_no: int, lane: int | None, *, who: str, way: str) -> list[str]:
    """Open them, or the one of this number; what was opened, in words. Each leaves a row in the audit.

    They are the app's: other pushes that wait for them go on, too. Raises NotFound.
    """
    app_no, opened = (await pushes.facts(db, push_no)).app_no, []
    for one in (await report.progress(db, push_no)).lanes:
        wanted = one.blocked and lane in (None, one.lane)
        if wanted and await credentials.unblock(db, app_no, one.lane, who=who, way=way):
            opened.append(f"{one.provider} (lane {one.lane}, was {one.blocked})")
    return opened
