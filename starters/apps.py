"""`clarion apps`: what users, devices and credentials belong to."""

from __future__ import annotations

from typing import Annotated

import typer

from clarion.store import apps, credentials
from clarion.store.apps import App
from starters.context import Context, Data, run
from starters.showing import Json, show_json, show_rows

app = typer.Typer(help="Apps: what users, devices and credentials belong to.")


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Letters, digits, dots, underscores, hyphens.")],
    json: Json = False,
    data: Data = None,
) -> None:
    """Create an app."""

    async def work(context: Context) -> App:
        return await apps.create(await context.db(), name)

    made = run(work, data)
    if json:
        show_json(made)
    else:
        typer.echo(f"{made.name} created; next: clarion credentials add --help")


@app.command("list")
def list_(json: Json = False, data: Data = None) -> None:
    """List the apps."""

    async def work(context: Context) -> list[App]:
        return await apps.list_apps(await context.db())

    columns = (
        ("app", lambda row: row.name),
        ("lane order", lambda row: row.lane_order),
        ("created", lambda row: row.created_at),
    )
    show_rows(run(work, data), columns, json=json, none="no apps yet: clarion apps create NAME")


@app.command()
def order(
    name: Annotated[str, typer.Argument(help="The app.")],
    names: Annotated[list[str], typer.Argument(help="All its credentials, the preferred one first.")],
    data: Data = None,
) -> None:
    """Say through which credential a phone with several addresses is reached first."""

    async def work(context: Context) -> None:
        db = await context.db()
        found = await apps.get(db, name)
        lanes = [(await credentials.find(db, found.app_no, one)).lane for one in names]
        await apps.set_lane_order(db, found.app_no, lanes)

    run(work, data)
