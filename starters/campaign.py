"""`clarion campaign …`: the verbs of a push, and what only campaigns have: stages and approval."""

from __future__ import annotations

import getpass
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.console import Console
from rich.table import Table

from clarion.errors import NotFound
from clarion.model.campaign import CampaignProgress
from clarion.model.command import CommandAnswer, PushProgress
from clarion.store import campaign as campaigns
from clarion.store.database import Database
from starters.context import Context, Data, run
from starters.operating import (
    MANY,
    AsJson,
    Direct,
    Id,
    Reason,
    failed,
    looked,
    moment,
    nouns,
    print_json,
    print_push,
    push_as_json,
    say,
    wake,
)
from starters.watching import expected, watch
from starters.words import words

Content = Annotated[
    str | None,
    typer.Option(help="The reference of what was looked at, content:…; refused if it has another one now."),
]


def list_(
    open: Annotated[bool, typer.Option("--open", help="Only those not closed.")] = False,
    app: Annotated[str | None, typer.Option(help="Only of this app.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=MANY)] = 50,
    as_json: AsJson = False,
    data: Data = None,
) -> None:
    """The latest, newest first: what each waits for."""

    async def work(context: Context) -> list[CampaignProgress]:
        return await campaigns.list_campaigns(await context.db(), app=app, open_only=open, limit=limit)

    found = run(work, data)
    if as_json:
        print_json([_as_json(one) for one in found])
        return
    table = Table("campaign", "app", "title", "state", "what it does", "started")
    for one in found:
        doing = "" if one.closed_at else one.waiting()
        table.add_row(one.campaign_id, one.app, one.title or "", one.status, doing, moment(one.created_at))
    Console().print(table)


def show(id: Id, as_json: AsJson = False, data: Data = None) -> None:
    """How it stands: its stages, what it waits for, what can be said to it, and its pushes."""

    async def work(context: Context) -> tuple[CampaignProgress | None, list[PushProgress]]:
        return await _looked(await context.db(), id)

    campaign, pushes = run(work, data)
    if as_json:
        shown = [push_as_json(push) for push in pushes]
        print_json(shown if campaign is None else [_as_json(campaign) | _sums(pushes) | {"pushes": shown}])
        return
    if campaign is not None:
        _print(campaign)
    for push in pushes:
        print_push(push)


def watch_(id: Id, data: Data = None) -> None:
    """Follow it until it is closed. Ctrl-C only ends the watching."""

    async def work(context: Context) -> None:
        db = await context.db()
        campaign, _ = await _looked(db, id)
        await watch(
            Console(),
            lambda: db.persist(lambda: looked(db, "campaign", id), patience=60),
            None if campaign is None else lambda: db.persist(lambda: campaigns.progress(db, id), patience=60),
        )

    run(work, data)


def approve(
    id: Id, content: Content = None, reason: Reason = "", direct: Direct = False, data: Data = None
) -> None:
    """Let it go, with the content that it has now (or the one given)."""

    async def work(context: Context) -> tuple[CommandAnswer, str]:
        # What it has now is bound to, so that an edit on the way is not approved unseen.
        seen = content or (await campaigns.progress(await context.db(), id)).content
        if direct:
            return await _directly(context, id, "approve", {"content": seen, "reason": reason}), seen
        handle = (await context.clarion()).campaign(id)
        return await handle.approve(_reference(seen), reason, by=getpass.getuser()), seen

    answer, seen = run(work, data)
    say("campaign", id, f"approved {_reference(seen)}", answer)


def reject(id: Id, reason: Reason = "", direct: Direct = False, data: Data = None) -> None:
    """End it instead of approving it: nothing (more) of it is sent."""

    async def work(context: Context) -> CommandAnswer:
        if direct:
            return await _directly(context, id, "reject", {"reason": reason})
        return await (await context.clarion()).campaign(id).reject(reason, by=getpass.getuser())

    say("campaign", id, "rejected", run(work, data))


async def _directly(context: Context, id: str, what: str, args: dict[str, Any]) -> CommandAnswer:
    if "content" in args:
        args = args | {"content": _reference(args["content"])}
    said = await campaigns.command(
        await context.db(), id, uuid4(), getpass.getuser(), what, args, way="direct"
    )
    await wake(context, "campaign", id)
    return said.answer


def _reference(text: str) -> str:
    """People paste the hash alone, too."""
    return text if text.startswith("content:") else f"content:{text}"


async def _looked(db: Database, id: str) -> tuple[CampaignProgress | None, list[PushProgress]]:
    """The campaign and its pushes; no campaign: the id is of pushes that only bear it. Raises NotFound."""
    try:
        campaign = await campaigns.progress(db, id)
    except NotFound:
        return None, await looked(db, "campaign", id)
    opened = any(stage.phase != "to come" for stage in campaign.stages)
    return campaign, await looked(db, "campaign", id) if opened else []


def _print(campaign: CampaignProgress) -> None:
    console = Console()
    title = f" ({campaign.title})" if campaign.title else ""
    console.print(
        f"[bold]{campaign.campaign_id}[/bold]{title}  {campaign.headline()}",
        highlight=False,
    )
    approved = f", approved by {campaign.approved_by}" if campaign.approved_by else ""
    lines = [f"content {campaign.content} (version {campaign.content_version}){approved}"]
    lines += [f"pace {campaign.pace:g}/s"] if campaign.pace is not None else []
    lines += [f"deadline {moment(campaign.deadline)}"] if campaign.deadline else []
    if campaign.words():
        lines.append("next: " + ", ".join(f"clarion campaign {word}" for word in campaign.words()))
    for line in lines:
        console.print(f"  {line}", highlight=False)
    if len(campaign.stages) > 1:
        table = Table("stage", "share", "push", "state")
        for stage in campaign.stages:
            share = "the rest" if stage.share is None else f"{stage.share:g} %"
            state = stage.verdict or (stage.phase if stage.hold == "none" else stage.hold)
            table.add_row(stage.name, share, stage.push_id, state)
        console.print(table)


def _as_json(campaign: CampaignProgress) -> dict[str, Any]:
    more = {"state": campaign.status, "waiting": campaign.waiting(), "next": list(campaign.words())}
    return campaign.model_dump(mode="json") | more


def _sums(pushes: list[PushProgress]) -> dict[str, int]:
    return {
        "total": sum(expected(push) for push in pushes),
        "success": sum(push.total("accepted") for push in pushes),
        "failed": sum(failed(push) for push in pushes),
        "invalid_tokens": sum(push.invalid_tokens for push in pushes),
    }


list_.__name__, watch_.__name__ = "list", "watch"
app = nouns("campaign", *words("campaign"), list_, show, watch_, approve, reject)
