"""`clarion migrate`: bring the database's schema up to date."""

from __future__ import annotations

import typer

from clarion.store import migrate as schema
from starters.context import Context, Data, run


def migrate(data: Data = None) -> None:
    """Bring the database's schema up to date; safe to repeat."""

    async def work(context: Context) -> list[str]:
        return await schema.migrate(context.database_url)

    applied = run(work, data)
    typer.echo("\n".join(f"applied {name}" for name in applied) or "the schema is up to date")
