"""`clarion fcm`: topics, which Google keeps: send to one, subscribe users to it."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, TypeVar
from uuid import uuid4

import typer
from pydantic import ValidationError

from clarion.errors import BadInput
from clarion.model.topic import USERS_A_CALL, TopicChange, TopicChanged, TopicSend, TopicSent
from starters.context import Context, Data, run
from starters.showing import Json, show_json
from starters.spec_file import read_message

app = typer.Typer(help="FCM topics: Google keeps who is subscribed and sends to them.")
AppName = Annotated[str, typer.Argument(metavar="APP", help="The app.")]
Topic = Annotated[str, typer.Argument(metavar="TOPIC", help="The topic's name.")]
Credential = Annotated[str | None, typer.Option(help="Which of the app's credentials for FCM.")]
Users = Annotated[Path | None, typer.Argument(metavar="[FILE]", help="User ids, one a line.")]
User = Annotated[list[str] | None, typer.Option("--user", help="A user's id; may be repeated.")]
Id = Annotated[str | None, typer.Option("--id", help="The same id again is the same word, done once.")]
SHOWN = 20
Word = TypeVar("Word", TopicSend, TopicChange)


@app.command("send-topic")
def send_topic(
    app_name: AppName,
    message: Annotated[Path, typer.Argument(help="The message: YAML or JSON, or - for standard input.")],
    topic: Annotated[str | None, typer.Option(help="To whoever is subscribed to this topic.")] = None,
    condition: Annotated[
        str | None, typer.Option(help="Or to whom it fits: \"'news' in topics && !('sport' in topics)\".")
    ] = None,
    high: Annotated[bool, typer.Option("--high", help="With high priority.")] = False,
    credential: Credential = None,
    id: Id = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """Send a message to a topic or a condition over up to 5 topics. Google tells nobody whom it reached.

    Exits with 1 when Google refuses the message.
    """
    said = _valid(
        TopicSend, app=app_name, topic=topic, condition=condition, message=read_message(message),
        credential=credential, priority="high" if high else "normal", by=getpass.getuser(),
    )  # fmt: skip

    async def work(context: Context) -> TopicSent:
        return await (await context.clarion()).send_topic(said, id=id)

    sent = run(work, data)
    if json:
        show_json(sent.model_dump())
    else:
        typer.echo("Google has taken it" if sent.accepted else f"Google refuses it: {sent.reason}")
    if not sent.accepted:
        raise typer.Exit(1)


@app.command()
def subscribe(
    app_name: AppName,
    topic: Topic,
    file: Users = None,
    user: User = None,
    credential: Credential = None,
    id: Id = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """Subscribe all active FCM registrations of users to a topic. May be repeated."""
    _change(app_name, topic, _ids(file, user), True, credential, id, json, data)


@app.command()
def unsubscribe(
    app_name: AppName,
    topic: Topic,
    file: Users = None,
    user: User = None,
    credential: Credential = None,
    id: Id = None,
    json: Json = False,
    data: Data = None,
) -> None:
    """Unsubscribe all active FCM registrations of users from a topic. May be repeated."""
    _change(app_name, topic, _ids(file, user), False, credential, id, json, data)


def _change(
    app_name: str,
    topic: str,
    users: Iterator[str],
    subscribe: bool,
    credential: str | None,
    id: str | None,
    json: bool,
    data: Path | None,
) -> None:
    pieces = _pieces(users)
    pieces = chain([next(pieces)], pieces)  # whether there is anybody is known before anything is opened

    async def work(context: Context) -> TopicChanged:
        clarion = await context.clarion()
        start, total = id or str(uuid4()), TopicChanged()
        for number, piece in enumerate(pieces):
            word = _valid(
                TopicChange, app=app_name, topic=topic, users=piece, subscribe=subscribe,
                credential=credential, by=getpass.getuser(),
            )  # fmt: skip
            total += await clarion.subscribe(word, id=f"{start}.{number}" if number else start)
        return total

    changed = run(work, data)
    show_json(changed.model_dump(mode="json")) if json else _show(changed, subscribe)
    if changed.refused:
        raise typer.Exit(1)


def _pieces(users: Iterator[str]) -> Iterator[tuple[str, ...]]:
    """As many users as one call takes, again and again. Raises BadInput: there are none."""
    piece = tuple(islice(users, USERS_A_CALL))
    if not piece:
        raise BadInput("nobody is named: give a file of user ids, one a line, or --user")
    while piece:
        yield piece
        piece = tuple(islice(users, USERS_A_CALL))


def _ids(file: Path | None, users: list[str] | None) -> Iterator[str]:
    yield from users or ()
    if file is None:
        return
    if not file.is_file():
        raise BadInput(f"there is no file {file}")
    with file.open(encoding="utf-8") as lines:
        yield from filter(None, map(str.strip, lines))


def _valid(kind: type[Word], **given: object) -> Word:
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise BadInput(f"{place + ': ' if place else ''}{first['msg']}") from None


def _show(changed: TopicChanged, subscribe: bool) -> None:
    typer.echo(f"{changed.changed:,} registrations {'subscribed' if subscribe else 'unsubscribed'}")
    if changed.unknown:
        some = ", ".join(changed.unknown[:SHOWN])
        typer.echo(f"without an active FCM registration: {len(changed.unknown):,} users ({some} …)")
    for one in changed.refused[:SHOWN]:
        end = ", and ended here" if one.retired else ""
        typer.echo(f"  registration {one.registration_no} of {one.user_id}: {one.reason}{end}", err=True)
    if len(changed.refused) > SHOWN:
        typer.echo(f"  and {len(changed.refused) - SHOWN:,} more refused: --json shows all", err=True)
