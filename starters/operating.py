"""What operators do with campaigns and pushes: the verbs that both nouns share.

`clarion campaign …` and `clarion push …` are the same verbs on the two kinds of id. A one-shot campaign
and its push bear the same id, so either noun finds either.
"""

from __future__ import annotations

import asyncio
import getpass
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from uuid import uuid4

import typer
from rich.console import Console
from rich.table import Table

from clarion.clock import SYSTEM_CLOCK
from clarion.errors import BadInput, NotFound, StackUnavailable
from clarion.model.command import CancelMode, CommandAnswer, PushProgress
from clarion.model.message import Message
from clarion.model.spec import CampaignSpec, PushSpec
from clarion.senders.check import check_message
from clarion.store import campaign as campaigns
from clarion.store import push as pushes
from clarion.store import report, unblocking
from clarion.store.database import Database
from starters.context import Context, Data, run
from starters.spec_file import read_spec
from starters.watching import COUNTS, expected, status, watch

AsJson = Annotated[bool, typer.Option("--json", help="Machine-readable.")]
Id = Annotated[str, typer.Argument(metavar="ID")]
Reason = Annotated[str, typer.Option(help="Why: it stands in the audit and in the UI.")]
Direct = Annotated[
    bool, typer.Option("--direct", help="Write the control row itself: works while Temporal is down.")
]
MANY = 1_000
WAKE_SECONDS = 3.0
WORDS = {"scheduled": "pending", "running": "sending", "closing": "sending"}


def nouns(noun: str, *own: Callable[..., None]) -> typer.Typer:
    """The verbs of one noun: `campaign` or `push`. `own`: more of them, or in place of those of that name."""
    app = typer.Typer(help=f"Start, watch and steer a {noun}.", pretty_exceptions_enable=False)
    verbs = {verb.__name__: verb for verb in (_start(noun), *(verb(noun) for verb in _VERBS), *own)}
    for name, verb in verbs.items():
        app.command(name)(verb)
    return app


# ── starting ──────────────────────────────────────────────────────────────────────────────────────────


def _start(noun: str) -> Any:
    def start(
        spec: Annotated[Path, typer.Argument(metavar="SPEC", help="YAML or JSON; - reads standard input.")],
        id: Annotated[str | None, typer.Option(help="Else the spec's, else a new one.")] = None,
        pace: Annotated[float | None, typer.Option(help="At most so many sends a second.")] = None,
        users: Annotated[
            Path | None, typer.Option(help="A file of user ids, one a line, in place of the audience.")
        ] = None,
        data: Data = None,
    ) -> None:
        overrides: dict[str, Any] = {"id": id, "pace": pace}
        if users is not None:
            overrides["audience"] = {"everybody": True}  # replaced by the stored list
        given: CampaignSpec | PushSpec = (
            read_spec(spec, CampaignSpec, **overrides)
            if noun == "campaign"
            else read_spec(spec, PushSpec, **overrides)
        )
        named = None if users is None else _user_ids(users)

        async def work(context: Context) -> tuple[str, str | None]:
            clarion = await context.clarion()
            handle = (
                await clarion.start_campaign(given, users=named, by=getpass.getuser())
                if isinstance(given, CampaignSpec)
                else await clarion.schedule_push(given, users=named, by=getpass.getuser())
            )
            return handle.id, handle.closed

        started, closed = run(work, data)
        if closed is not None:
            typer.echo(f"{noun} {started} is the same as one that is closed ({closed}): nothing was started")
        else:
            typer.echo(f"{noun} {started} started: clarion {noun} watch {started}")

    start.__doc__ = (
        f"Start a {noun}. The same id with the same spec is the same {noun}; other content is refused."
    )
    return start


def _user_ids(path: Path) -> list[str]:
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path} is not UTF-8 text with one user id a line") from None
    if not found:
        raise BadInput(f"{path} names no user: write one user id a line")
    return found


# ── looking ───────────────────────────────────────────────────────────────────────────────────────────


async def _numbers(db: Database, noun: str, id: str) -> list[int]:
    """The pushes that an id means, oldest first. Raises NotFound."""
    if noun == "campaign":
        found = await report.list_pushes(db, campaign_id=id, limit=MANY)
        if found:
            return [line.push_no for line in reversed(found)]
    try:
        return [await pushes.find(db, id)]
    except NotFound:
        raise NotFound(f"no {noun} {id[:128]!r}: `clarion {noun} list` shows those there are") from None


async def looked(db: Database, noun: str, id: str) -> list[PushProgress]:
    """The pushes that an id means, as they stand. Raises NotFound."""
    return [await report.progress(db, push_no) for push_no in await _numbers(db, noun, id)]


def _list(noun: str) -> Any:
    def list(
        open: Annotated[bool, typer.Option("--open", help="Only those not closed.")] = False,
        app: Annotated[str | None, typer.Option(help="Only of this app.")] = None,
        limit: Annotated[int, typer.Option(min=1, max=MANY)] = 50,
        as_json: AsJson = False,
        data: Data = None,
    ) -> None:
        async def work(context: Context) -> Sequence[report.PushLine]:
            return await report.list_pushes(await context.db(), app=app, open_only=open, limit=limit)

        found = run(work, data)
        if as_json:
            print_json([asdict(line) | {"state": _word(line.phase, line.verdict)} for line in found])
            return
        table = Table("push", "campaign", "app", "title", "state", "hold", "planned for")
        for line in found:
            state = _word(line.phase, line.verdict)
            table.add_row(
                line.push_id,
                line.campaign_id or "",
                line.app,
                line.title or "",
                state,
                "" if line.closed_at else _hold(line),
                moment(line.send_at),
            )
        Console().print(table)

    list.__doc__ = "The latest, newest first."
    return list


def _hold(line: report.PushLine) -> str:
    """Who holds it and why: what clarion itself has paused waits for a person."""
    if line.hold == "none":
        return ""
    by = f" by {line.hold_by}" if line.hold_by else ""
    return f"{line.hold}{by}" + (f": {line.hold_reason}" if line.hold_reason else "")


def _show(noun: str) -> Any:
    def show(id: Id, as_json: AsJson = False, data: Data = None) -> None:
        async def work(context: Context) -> list[tuple[PushProgress, dict[str, PushProgress]]]:
            db = await context.db()
            return [(push, await _chain(db, push.push_id)) for push in await looked(db, noun, id)]

        found = run(work, data)
        if as_json:
            print_json([push_as_json(push) | {"chain": _links(chain)} for push, chain in found])
            return
        for push, chain in found:
            print_push(push)
            _print_chain(push, chain)

    show.__doc__ = "How it stands: state, counts for each lane, what it waits for, what has tried it again."
    return show


async def _chain(db: Database, push_id: str) -> dict[str, PushProgress]:
    """The push, what it retries and what retries it, by id, oldest first."""
    chain = await report.chain(db, await pushes.find(db, push_id))
    return {id: await report.progress(db, push_no) for id, push_no in chain.items()}


def _links(chain: dict[str, PushProgress]) -> list[dict[str, Any]]:
    facts = ("push_id", "state", "total", "success", "failed")
    return [{name: push_as_json(push)[name] for name in facts} for push in chain.values()]


def _print_chain(push: PushProgress, chain: dict[str, PushProgress]) -> None:
    word = "tries again"
    for link in _links(chain):
        if link["push_id"] == push.push_id:
            word = "tried again by"
            continue
        counts = f"{link['success']:,} of {link['total']:,} accepted"
        typer.echo(f"  {word} {link['push_id']} ({link['state']}, {counts})")


def print_push(push: PushProgress) -> None:
    """A push for people: state, counts by lane, moments."""
    console = Console()
    console.print(
        f"[bold]{push.push_id}[/bold]  {status(push)}  ({_word(push.phase, push.verdict)})", highlight=False
    )
    facts = [
        f"total {expected(push):,}",
        f"success {push.total('accepted'):,}",
        f"failed {failed(push):,}",
        f"invalid tokens {push.invalid_tokens:,}",
    ]
    console.print("  " + " · ".join(facts), highlight=False)
    table = Table("", *(f"{lane.provider} (lane {lane.lane})" for lane in push.lanes))
    for name in ("audience", "fell_back", "planned", *COUNTS, "redo", "maybe"):
        counts = [getattr(lane, name) for lane in push.lanes]
        if any(counts):
            table.add_row(name.replace("_", " "), *(f"{n:,}" if n else "" for n in counts))
    console.print(table)
    moments = {
        "planned for": push.send_at,
        "started": push.started_at,
        "deadline": push.deadline,
        "closed": push.closed_at,
    }
    for name, at in moments.items():
        if at is not None:
            console.print(f"  {name} {moment(at)}", highlight=False)
    if push.pace is not None:
        console.print(f"  pace {push.pace:g}/s", highlight=False)


def _watch(noun: str) -> Any:
    def watch_(id: Id, data: Data = None) -> None:
        async def work(context: Context) -> list[PushProgress]:
            db = await context.db()
            return await watch(Console(), lambda: db.persist(lambda: looked(db, noun, id), patience=60))

        run(work, data)

    watch_.__name__ = "watch"
    watch_.__doc__ = "Follow it until it is closed. Ctrl-C only ends the watching."
    return watch_


def _explain(noun: str) -> Any:
    def explain(
        id: Id,
        user: Annotated[str, typer.Argument(metavar="USER")],
        as_json: AsJson = False,
        data: Data = None,
    ) -> None:
        async def work(context: Context) -> list[tuple[str, report.Explanation]]:
            db = await context.db()
            found = []
            for push_no in await _numbers(db, noun, id):
                facts = await pushes.facts(db, push_no)
                found.append((facts.push_id, await report.explain(db, facts.app, user, facts.push_id)))
            return found

        found = run(work, data)
        if as_json:
            print_json([{"push_id": push_id} | asdict(why) for push_id, why in found])
            return
        for push_id, why in found:
            if why.why_none is not None:
                typer.echo(f"{push_id}: not in the audience: {why.why_none}")
            else:
                Console().print(_fates(why.fates))

    explain.__doc__ = "Why a user did (not) get it: state, reason, time and batch of each registration."
    return explain


FATE = ("push_id", "provider", "state", "reason", "at", "batch", "attempt", "content_version", "registration")


def _fates(fates: Sequence[report.Fate]) -> Table:
    table = Table(*(column.replace("_", " ") for column in FATE))
    for fate in fates:
        values = asdict(fate)
        table.add_row(*(_cell(values[column]) for column in FATE))
    return table


def _reconcile(noun: str) -> Any:
    def reconcile(id: Id, data: Data = None) -> None:
        async def work(context: Context) -> list[report.Account]:
            db = await context.db()
            return [await report.reconcile(db, push_no) for push_no in await _numbers(db, noun, id)]

        found = run(work, data)
        for one in found:
            second = f" fell_back={one.fell_back}" if one.fell_back else ""
            typer.echo(f"audience={one.audience}{second} open={one.open} bad_batches={one.bad_batches}")
        if any(one.bad_batches for one in found):
            raise typer.Exit(1)

    reconcile.__doc__ = "Compare every row of the ledger with the counters; exit code 1 where they differ."
    return reconcile


# ── steering ──────────────────────────────────────────────────────────────────────────────────────────


async def steer(
    context: Context, noun: str, id: str, what: str, args: dict[str, Any], *, direct: bool
) -> CommandAnswer:
    """One command, through Temporal or straight into the control row."""
    who = getpass.getuser()
    if direct:
        answer = await _directly(await context.db(), noun, id, what, args, who)
        await wake(context, noun, id)
        return answer
    clarion = await context.clarion()
    handle = clarion.campaign(id) if noun == "campaign" else clarion.push(id)
    if what == "pause":
        return await handle.pause(args["reason"], by=who)
    if what == "resume":
        return await handle.resume(by=who)
    if what == "set_pace":
        return await handle.set_pace(args["pace"], by=who)
    if what == "cancel":
        return await handle.cancel(args["mode"], args["reason"], by=who)
    if_version = args["if_version"]
    if what == "edit":
        return await handle.edit_message(args["message"], args["reason"], by=who, if_version=if_version)
    if what == "reschedule":
        return await handle.reschedule(args["send_at"], by=who, if_version=if_version)
    return await handle.extend_deadline(args["deadline"], by=who, if_version=if_version)


async def _directly(
    db: Database, noun: str, id: str, what: str, args: dict[str, Any], who: str
) -> CommandAnswer:
    word, more = what, dict(args)
    if what == "set_pace":
        word = "set"
    elif what == "cancel":
        drain = more.pop("mode") is CancelMode.DRAIN
        word = "drain" if drain else "close"
        more |= {} if drain else {"verdict": "cancelled"}
    elif what == "edit":
        more["message"] = more["message"].canonical()
    if what != "set_pace":
        more = {key: value for key, value in more.items() if value is not None}
    if noun == "campaign":
        with suppress(NotFound):  # pushes that only bear a campaign's name have none
            said = campaigns.command(db, id, uuid4(), who, word, _plain(more), way="direct", check=_check)
            return (await said).answer
    answers = [
        await _directly_to_push(db, push_no, who, word, more) for push_no in await _numbers(db, noun, id)
    ]
    return answers[-1]


async def _directly_to_push(
    db: Database, push_no: int, who: str, word: str, args: dict[str, Any]
) -> CommandAnswer:
    if word == "edit":
        args = await pushes.edited(db, (await pushes.facts(db, push_no)).app_no, args, _check)
    return await pushes.command(db, push_no, uuid4(), who, word, args, way="direct")


def _plain(args: dict[str, Any]) -> dict[str, Any]:
    return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in args.items()}


def _check(message: Message, providers: Sequence[str]) -> None:
    check_message(message, providers, SYSTEM_CLOCK.time())


async def wake(context: Context, noun: str, id: str) -> None:
    """Tell the workflows to look at once, if Temporal is there; else they find out by themselves."""
    db = await context.db()
    with suppress(StackUnavailable, NotFound, TimeoutError):
        async with asyncio.timeout(WAKE_SECONDS):
            clarion = await context.clarion()
            if noun == "campaign":
                with suppress(NotFound):
                    await clarion.campaign(id).wake()
            for push_no in await _numbers(db, noun, id):
                facts = await pushes.facts(db, push_no)
                with suppress(NotFound):  # of several some are over
                    await clarion.push(facts.push_id).wake()


def say(noun: str, id: str, what: str, answer: CommandAnswer) -> None:
    """What a word has done."""
    before = " (it was so before)" if answer.already else ""
    typer.echo(f"{noun} {id}: {what}{before}; hold {answer.hold}, version {answer.version}")
    if answer.note:
        typer.echo(f"  {answer.note}")


def _pause(noun: str) -> Any:
    def pause(id: Id, reason: Reason = "", direct: Direct = False, data: Data = None) -> None:
        args = {"reason": reason}
        say(noun, id, "paused", run(lambda c: steer(c, noun, id, "pause", args, direct=direct), data))

    pause.__doc__ = "Start nothing more until `resume`; obeyed within two seconds of this command's return."
    return pause


def _resume(noun: str) -> Any:
    def resume(id: Id, direct: Direct = False, data: Data = None) -> None:
        say(noun, id, "resumed", run(lambda c: steer(c, noun, id, "resume", {}, direct=direct), data))

    resume.__doc__ = "Go on exactly where it stood."
    return resume


def _cancel(noun: str) -> Any:
    def cancel(
        id: Id,
        mode: Annotated[
            CancelMode, typer.Option(help="now, or drain: begun batches finish.")
        ] = CancelMode.NOW,
        reason: Reason = "",
        direct: Direct = False,
        data: Data = None,
    ) -> None:
        args = {"mode": mode, "reason": reason}
        answer = run(lambda c: steer(c, noun, id, "cancel", args, direct=direct), data)
        say(noun, id, f"cancelled ({mode.value})", answer)

    cancel.__doc__ = "End it and close its books with exact counts."
    return cancel


def _pace(noun: str) -> Any:
    def pace(
        id: Id,
        per_second: Annotated[str, typer.Argument(metavar="RATE", help="Sends a second, or `none`.")],
        direct: Direct = False,
        data: Data = None,
    ) -> None:
        args = {"pace": _rate(per_second)}
        answer = run(lambda c: steer(c, noun, id, "set_pace", args, direct=direct), data)
        say(noun, id, f"pace {per_second}", answer)

    pace.__doc__ = "Sends per second from now on, over all lanes and processes."
    return pace


def _rate(text: str) -> float | None:
    if text == "none":
        return None
    try:
        rate = float(text)
    except ValueError:
        rate = 0.0
    if not 0 < rate < float("inf"):
        raise typer.BadParameter("a number above 0, or none")
    return rate


def _unblock(noun: str) -> Any:
    def unblock(
        id: Id,
        lane: Annotated[int | None, typer.Option(help="Only this one.")] = None,
        data: Data = None,
    ) -> None:
        async def work(context: Context) -> list[str]:
            db, opened, who = await context.db(), [], getpass.getuser()
            for push_no in await _numbers(db, noun, id):
                opened += await unblocking.unblock(db, push_no, lane, who=who, way="direct")
            await wake(context, noun, id)
            return opened

        opened = run(work, data)
        typer.echo(f"unblocked: {', '.join(opened)}" if opened else "no lane of it is blocked")

    unblock.__doc__ = "Open the blocked credentials that it waits for; they start at a low rate."
    return unblock


# ── words ─────────────────────────────────────────────────────────────────────────────────────────────


def failed(push: PushProgress) -> int:
    """Phones whose deliveries all ended without being accepted, by no wish of ours."""
    return sum(push.total(name) for name in ("rejected", "dead", "in_doubt")) - push.total("fell_back")


def _word(phase: str, verdict: str | None) -> str:
    """The words of the dashboards that services know: pending, sending, completed, cancelled."""
    return WORDS.get(phase) or verdict or "completed"


def push_as_json(push: PushProgress) -> dict[str, Any]:
    """A push for programs, in our words and in those of dashboards."""
    summary = {
        "state": _word(push.phase, push.verdict),
        "status": status(push),
        "total": expected(push),
        "success": push.total("accepted"),
        "failed": failed(push),
        "invalid_tokens": push.invalid_tokens,
    }
    return push.model_dump(mode="json") | summary


def print_json(value: Any) -> None:
    """One JSON document."""
    typer.echo(json.dumps(value, indent=2, default=str, ensure_ascii=False))


def _cell(value: Any) -> str:
    if value is None:
        return ""
    return moment(value) if isinstance(value, datetime) else str(value)


def moment(at: datetime) -> str:
    """A moment as people read it."""
    return at.astimezone().isoformat(sep=" ", timespec="seconds")


_VERBS = (_list, _show, _watch, _pause, _resume, _cancel, _pace, _unblock, _explain, _reconcile)
