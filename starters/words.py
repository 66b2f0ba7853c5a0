"""The words of an operator that carry something: new content, another time, what to try again.

Verbs of both nouns, like those in `starters.operating`.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from pydantic import ValidationError

from clarion.errors import BadInput
from clarion.model.command import (
    ExtendDeadlineInput,
    FinalState,
    RescheduleInput,
    RetryAnswer,
)
from starters.context import Context, Data, run
from starters.operating import Direct, Id, Reason, say, steer
from starters.spec_file import read_message

STATES = get_args(FinalState)
Moment = Annotated[
    str,
    typer.Argument(
        metavar="TIME", help="2027-03-01T09:00:00+01:00, or without an offset and with --zone beside it."
    ),
]
Zone = Annotated[str | None, typer.Option(help="The zone of a TIME without an offset: Europe/Zurich.")]
IfVersion = Annotated[
    int | None,
    typer.Option(min=0, help="Refused unless the control row still has this version (a command prints it)."),
]


def words(noun: str) -> list[Callable[..., None]]:
    """The verbs for one noun."""
    return [verb(noun) for verb in (_edit, _reschedule, _extend_deadline, _retry)]


def _edit(noun: str) -> Callable[..., None]:
    def edit(
        id: Id,
        message: Annotated[Path, typer.Argument(metavar="MESSAGE", help="YAML or JSON; - reads stdin.")],
        reason: Reason = "",
        if_version: IfVersion = None,
        direct: Direct = False,
        data: Data = None,
    ) -> None:
        args = {"message": read_message(message), "reason": reason, "if_version": if_version}
        answer = run(lambda c: steer(c, noun, id, "edit", args, direct=direct), data)
        say(noun, id, "edited", answer)

    edit.__doc__ = "New content for all that is not sent yet, rendered and measured first."
    return edit


def _reschedule(noun: str) -> Callable[..., None]:
    def reschedule(
        id: Id,
        time: Moment,
        zone: Zone = None,
        if_version: IfVersion = None,
        direct: Direct = False,
        data: Data = None,
    ) -> None:
        at = moment_of(RescheduleInput, "send_at", time, zone)
        args = {"send_at": at, "if_version": if_version}
        answer = run(lambda c: steer(c, noun, id, "reschedule", args, direct=direct), data)
        say(noun, id, f"planned for {_local(at)}", answer)

    reschedule.__doc__ = "Start at another time, as long as it has not started."
    return reschedule


def _extend_deadline(noun: str) -> Callable[..., None]:
    def extend_deadline(
        id: Id,
        time: Moment,
        zone: Zone = None,
        if_version: IfVersion = None,
        direct: Direct = False,
        data: Data = None,
    ) -> None:
        at = moment_of(ExtendDeadlineInput, "deadline", time, zone)
        args = {"deadline": at, "if_version": if_version}
        answer = run(lambda c: steer(c, noun, id, "extend", args, direct=direct), data)
        say(noun, id, f"deadline {_local(at)}", answer)

    extend_deadline.__name__ = "extend-deadline"
    extend_deadline.__doc__ = "Try until a later moment; in force for running batches, too."
    return extend_deadline


def _retry(noun: str) -> Callable[..., None]:
    def retry(
        id: Id,
        state: Annotated[
            str, typer.Option(help=f"How they ended: {', '.join(STATES)}; several with commas.")
        ] = "rejected,dead",
        reason: Annotated[
            list[str] | None,
            typer.Option(help="Only those with this reason, as `explain` shows it; may be given again."),
        ] = None,
        deadline: Annotated[str | None, typer.Option(help="When the new push stops trying.")] = None,
        zone: Zone = None,
        command_id: Annotated[
            str | None, typer.Option(help="Makes it repeatable: the same one again is the same retry.")
        ] = None,
        data: Data = None,
    ) -> None:
        until = None if deadline is None else moment_of(ExtendDeadlineInput, "deadline", deadline, zone)
        states, reasons = _states(state), _several(reason or [])

        async def work(context: Context) -> list[RetryAnswer]:
            clarion = await context.clarion()
            more: dict[str, Any] = {"deadline": until, "by": getpass.getuser(), "command_id": command_id}
            if noun == "campaign":
                return await clarion.campaign(id).retry(states, reasons, **more)
            return [await clarion.push(id).retry(states, reasons, **more)]

        for answer in run(work, data):
            started = "was started before" if answer.already else "started"
            what = f"{answer.audience:,} deliveries of {answer.retry_of} again"
            typer.echo(f"push {answer.push_id} {started}, {what}: clarion push watch {answer.push_id}")

    retry.__doc__ = "Try again, in a push of its own, what ended so in a closed one."
    return retry


def moment_of(
    kind: type[RescheduleInput | ExtendDeadlineInput], field: str, text: str, zone: str | None
) -> datetime:
    """The moment that a person has typed. Raises BadInput."""
    try:
        return kind.model_validate({field: text.strip(), "zone": zone}).moment()
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise BadInput(f"{text[:64]!r}: {first['msg'].removeprefix('Value error, ')}") from None


def _states(text: str) -> tuple[FinalState, ...]:
    states = _several([text])
    wrong = [state for state in states if state not in STATES]
    if wrong or not states:
        raise typer.BadParameter(f"--state: {', '.join(wrong) or 'nothing'}; give {', '.join(STATES)}")
    return cast("tuple[FinalState, ...]", states)


def _several(texts: list[str]) -> tuple[str, ...]:
    return tuple(part.strip() for text in texts for part in text.split(",") if part.strip())


def _local(at: datetime) -> str:
    return at.astimezone().isoformat(sep=" ", timespec="seconds")
