"""`clarion providers`: whether what we are at the providers works, asked of them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Annotated

import typer

from clarion.errors import BadInput
from clarion.senders import trial
from clarion.senders.lanes import Lanes
from clarion.store import apps, credentials
from clarion.store.credentials import CredentialRow
from starters.context import Context, Data, run
from starters.showing import Json, show_rows

app = typer.Typer(help="Providers: whether our credentials work there.")


@app.callback()
def _group() -> None:
    """Providers: whether our credentials work there."""


@dataclass(frozen=True, slots=True)
class Checked:
    """A line of what was found. `clock`: seconds that ours is ahead of theirs."""

    app: str
    credential: str
    provider: str
    verdict: str
    said: str
    clock: int | None
    good: bool


@app.command()
def check(
    app_name: Annotated[str | None, typer.Argument(metavar="[APP]", help="Of this app, else of all.")] = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """Ask every provider whether it knows us, by a message to an address that no phone has.

    Exit code 1 when one does not. Nobody is shown anything, and no lane is blocked by it.
    """

    async def work(context: Context) -> list[Checked]:
        db = await context.db()
        number = (await apps.get(db, app_name)).app_no if app_name else None
        rows = [row for row in await credentials.list_credentials(db, number) if not row.withdrawn]
        lanes = Lanes(db, context.seal)
        try:
            return list(await asyncio.gather(*(_check(lanes, row) for row in rows)))
        finally:
            await lanes.close()

    found = run(work, data)
    columns = (
        ("app", lambda row: row.app),
        ("credential", lambda row: row.credential),
        ("provider", lambda row: row.provider),
        ("verdict", lambda row: row.verdict),
        ("said", lambda row: row.said),
        ("our clock", lambda row: None if row.clock is None else f"{row.clock:+d} s"),
    )
    show_rows(found, columns, json=json, none="no credentials yet: clarion credentials add --help")
    if not all(row.good for row in found):
        raise typer.Exit(1)


async def _check(lanes: Lanes, row: CredentialRow) -> Checked:
    try:
        tried = await trial.try_lane(lanes, row.app_no, row.lane, row.provider)
        skew = await trial.clock_skew(row)
    except BadInput as error:
        tried, skew = trial.Trial(trial.Verdict.UNUSABLE, str(error)), None
    wrong = skew is not None and abs(skew) > trial.SKEW
    said = f"{tried.said}; set this machine's clock" if wrong else tried.said
    return Checked(row.app, row.name, row.provider, tried.verdict, said, skew, tried.good and not wrong)
