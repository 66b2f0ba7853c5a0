"""`clarion users`: what is known of a user, and what they chose."""

from __future__ import annotations

import dataclasses
from typing import Annotated

import typer

from clarion.store import apps, users
from clarion.store.locales import Locales
from clarion.store.users import User
from starters.context import Context, Data, run
from starters.showing import Json, cell, show_json

app = typer.Typer(help="Users: what is known of them, and what they chose.")
AppName = Annotated[str, typer.Argument(metavar="APP", help="The app.")]
UserId = Annotated[str, typer.Argument(metavar="USER", help="The user's id, as the application calls them.")]


@app.command()
def show(app_name: AppName, user_id: UserId, json: Json = False, data: Data = None) -> None:
    """Show a user; their devices are under `clarion devices list APP --user USER`."""

    async def work(context: Context) -> User:
        db = await context.db()
        return await users.get(db, await Locales.load(db), (await apps.get(db, app_name)).app_no, user_id)

    user = dataclasses.asdict(run(work, data))
    if json:
        show_json(user)
        return
    for name, value in user.items():
        typer.echo(f"{name:<10} {cell(value)}")


@app.command("opt-out")
def opt_out(
    app_name: AppName,
    user_id: UserId,
    kinds: Annotated[
        list[str] | None, typer.Argument(help="marketing, transactional, social; none of them: all are sent.")
    ] = None,
    data: Data = None,
) -> None:
    """Say which kinds of campaigns a user does not get, from now on and in pushes that are running."""

    async def work(context: Context) -> None:
        db = await context.db()
        await users.set_opted_out(db, (await apps.get(db, app_name)).app_no, user_id, kinds or ())

    run(work, data)
    typer.echo(f"not sent from now on: {', '.join(kinds)}" if kinds else "all kinds are sent")


@app.command()
def forget(
    app_name: AppName,
    user_id: UserId,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    data: Data = None,
) -> None:
    """Delete a user with all devices and addresses. Past deliveries name the user by number only."""
    if not yes:
        typer.confirm("Delete this user and all their devices?", abort=True)

    async def work(context: Context) -> bool:
        db = await context.db()
        return await users.forget(db, (await apps.get(db, app_name)).app_no, user_id)

    typer.echo("forgotten" if run(work, data) else "there was no such user")
