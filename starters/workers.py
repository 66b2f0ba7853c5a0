"""`clarion workers`: the processes that serve queues."""

from __future__ import annotations

from typing import Annotated

import typer

from clarion.store import worker
from clarion.store.worker import Worker
from starters.context import Context, Data, run
from starters.showing import Json, show_rows

app = typer.Typer(help="Workers: the processes that serve queues.")


@app.command("list")
def list_(
    gone_too: Annotated[bool, typer.Option("--all", help="Also those that are gone.")] = False,
    json: Json = False,
    data: Data = None,
) -> None:
    """List the processes and what they serve."""

    async def work(context: Context) -> list[Worker]:
        return await worker.list_workers(await context.db(), gone_too=gone_too)

    columns = (
        ("process", lambda row: row.worker_no),
        ("alive", lambda row: row.alive),
        ("host", lambda row: row.host),
        ("pid", lambda row: row.pid),
        ("queues", lambda row: row.queues),
        ("started", lambda row: row.started_at),
        ("seen", lambda row: row.seen_at),
    )
    show_rows(run(work, data), columns, json=json, none="no worker is alive")
