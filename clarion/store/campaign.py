"""The life of a campaign in the store: opened, advanced from stage to stage, steered, closed.

Its row is the only memory: who asks `advance` is told what the campaign waits for, and what was to be done
(a push opened, the books closed) is done, in the transaction that looked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from typing import Any, Literal, cast
from uuid import UUID

import asyncpg
from pydantic import ValidationError

from clarion import names
from clarion.errors import AlreadyExists, BadSpec, CommandRefused, NotFound
from clarion.model.campaign import CampaignProgress, StageProgress
from clarion.model.command import CommandAnswer
from clarion.model.ledger import Hold
from clarion.model.message import Message
from clarion.model.spec import CampaignSpec, PushSpec
from clarion.store import content as contents
from clarion.store import push as pushes
from clarion.store.database import Database
from clarion.store.planned import not_past
from clarion.store.sql import beside

SQL = beside(__file__)

Opened = Literal["new", "open", "closed"]
_PROGRESS = (
    "campaign_id", "app", "title", "status", "hold_by", "hold_reason", "version", "content",
    "content_version", "approved_by", "approved_at", "pace", "deadline", "created_at", "closed_at", "at",
    "result",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Standing:
    """How a campaign stands. `push`: its open push. `wait`: seconds until something falls due by itself."""

    progress: CampaignProgress
    push: PushSpec | None = None
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Said:
    """The answer to a campaign's command, and the pushes that were told of it."""

    answer: CommandAnswer
    pushes: tuple[str, ...]


# ------------------------------------------------------------------------------------------------- opening


def spec_hash(spec: CampaignSpec) -> bytes:
    """What makes two starts of one id the same; whether the id stands in the spec makes no difference."""
    return spec.model_copy(update={"id": None}).digest()


async def open_campaign(
    db: Database,
    spec: CampaignSpec,
    campaign_id: str,
    *,
    check: pushes.Check | None = None,
    asked_at: datetime | None = None,
    who: str = names.OPERATOR,
) -> Opened:
    """Insert the campaign, or compare it with the one that has this id.

    `check` sees the message and the providers of the app before anything is written. Raises AlreadyExists,
    NotFound (app, content), BadSpec (a name of a push is too long), and what `check` raises.
    """
    digest = spec_hash(spec)
    opened: str | None = await db.fetchval(SQL.known, campaign_id, digest)
    if opened is None:
        not_past(spec, asked_at)
        opened = await _open(db, spec, campaign_id, digest, check, who)
    if opened == "different":
        raise AlreadyExists(
            f"campaign {campaign_id!r} exists with other content: choose another id "
            "(a start with the same spec would have joined it)"
        )
    return cast(Opened, opened)


async def _open(
    db: Database,
    spec: CampaignSpec,
    campaign_id: str,
    digest: bytes,
    check: pushes.Check | None,
    who: str,
) -> str:
    app_no, message = await _look(db, spec, campaign_id)
    if check is not None:
        check(message, await pushes.providers(db, app_no))
    opened: str = await db.fetchval(
        SQL.open, campaign_id, app_no, spec.model_copy(update={"id": None}).canonical(), digest, spec.pace,
        spec.deadline, message.digest(), spec.send_at, message.canonical(), who,
    )  # fmt: skip
    return opened


async def _look(db: Database, spec: CampaignSpec, campaign_id: str) -> tuple[int, Message]:
    """The app's number and the message, all that the spec refers to being there."""
    taken = [_push(spec, campaign_id, stage).id for stage in range(len(spec.stages) or 1)]
    reference = None if spec.content is None else bytes.fromhex(spec.content.removeprefix("content:"))
    row = await db.fetchrow(SQL.look, spec.app, reference, taken)
    if row is None:
        raise NotFound(f"no app named {spec.app[:64]!r}: `clarion apps list` shows those there are")
    if reference is not None and row["message"] is None:
        raise NotFound("the content reference is unknown in this app: store the message first")
    if row["taken"]:
        raise AlreadyExists(
            f"push {row['taken'][0]!r} exists and is not this campaign's: choose another id for the campaign"
        )
    return row["app_no"], spec.message or Message.model_validate(row["message"])


def _push(spec: CampaignSpec, campaign_id: str, stage: int) -> PushSpec:
    try:
        return spec.push(campaign_id, stage)
    except ValidationError:
        raise BadSpec(
            f"the id of the push of stage {spec.stages[stage].name!r} is too long: shorten the campaign's"
        ) from None


# ----------------------------------------------------------------------------------------------- advancing


async def advance(db: Database, campaign_id: str) -> Standing:
    """Do what is to be done now, and say what the campaign waits for then. Raises NotFound, AlreadyExists."""
    async with db.transaction() as connection:
        if await connection.fetchval(SQL.lock, campaign_id) is None:
            raise NotFound(f"no campaign {campaign_id[:128]!r}")
        row, its = await _stand(connection, campaign_id)
        if row["waits"] == "open":
            await _open_stage(connection, row)
            row, its = await _stand(connection, campaign_id)
        elif row["waits"] == "close":
            await _close(connection, row, its)
            row, its = await _stand(connection, campaign_id)
    return _standing(row, its)


async def _stand(
    connection: asyncpg.Connection[asyncpg.Record], campaign_id: str
) -> tuple[asyncpg.Record, list[asyncpg.Record]]:
    """The row and its pushes: statements of their own, which see what the lock was waited for."""
    row = await connection.fetchrow(SQL.stand, [campaign_id])
    assert row is not None
    return row, await connection.fetch(SQL.pushes, [campaign_id])


async def _open_stage(connection: asyncpg.Connection[asyncpg.Record], row: asyncpg.Record) -> None:
    """Open the push of the next stage, as the campaign's row has it now, and note it."""
    spec = CampaignSpec.model_validate(row["spec"])
    stage = row["stage"]
    now = {
        "content": row["content"],
        "pace": row["pace"],
        "deadline": row["deadline"],
        "send_at": row["next_at"] if stage == 0 else None,
    }
    given = spec.push(row["campaign_id"], stage).model_dump(exclude_unset=True) | now
    push = PushSpec.model_validate(given)
    assert push.id is not None
    # A connection has the methods of a database that are used there.
    opened = await pushes.open_push(cast(Database, connection), push, push.id)
    if opened.opened != "new":
        raise AlreadyExists(f"push {push.id!r} exists and is not this campaign's")
    await connection.execute(SQL.opened, row["campaign_id"], stage, opened.push_no)


async def _close(
    connection: asyncpg.Connection[asyncpg.Record], row: asyncpg.Record, its: Sequence[asyncpg.Record]
) -> None:
    verdict = row["ends"]
    reason = row["hold_reason"] if row["hold"] == Hold.CLOSING else None
    if verdict == "expired" and row["needs_approval"]:
        reason = "it was not approved in time"
    spec = CampaignSpec.model_validate(row["spec"])
    result = {
        "verdict": verdict,
        "reason": reason,
        "pushes": [{"id": p["push_id"], "push_no": p["push_no"], "result": p["result"]} for p in its],
        "not_opened": [spec.push_id(row["campaign_id"], n) for n in range(len(its), len(spec.stages) or 1)],
    }
    await connection.execute(SQL.close, row["campaign_id"], verdict, reason, result)


# ------------------------------------------------------------------------------------------------- looking


async def progress(db: Database, campaign_id: str) -> CampaignProgress:
    """A campaign at this moment. Raises NotFound."""
    found = await _all(db, [campaign_id])
    if not found:
        raise NotFound(f"no campaign {campaign_id[:128]!r}: `clarion campaign list` shows those there are")
    return found[0]


async def list_campaigns(
    db: Database, *, app: str | None = None, open_only: bool = False, limit: int = 50
) -> list[CampaignProgress]:
    """Campaigns, the latest first."""
    rows = await db.fetch(SQL.list, app, open_only, limit)
    return await _all(db, [row["campaign_id"] for row in rows])


async def open_campaigns(db: Database, *, grace: float) -> list[tuple[str, int]]:
    """Id and hold of those that should have a running workflow, but those opened in the last seconds."""
    return [(row["campaign_id"], row["hold"]) for row in await db.fetch(SQL.open_ones, grace)]


async def _all(db: Database, ids: list[str]) -> list[CampaignProgress]:
    rows = await db.fetch(SQL.stand, ids)
    found = await db.fetch(SQL.pushes, ids)
    its = {id: list(group) for id, group in groupby(found, lambda row: row["campaign_id"])}
    return [_standing(row, its.get(row["campaign_id"], [])).progress for row in rows]


def _standing(row: asyncpg.Record, its: Sequence[asyncpg.Record]) -> Standing:
    spec = CampaignSpec.model_validate(row["spec"])
    waits = row["waits"]
    moment = _moment(row)
    open_push = its[-1] if waits == "push" else None
    return Standing(
        progress=CampaignProgress(
            **{name: row[name] for name in _PROGRESS},
            hold=Hold(row["hold"]).name.lower(),
            waits_for=waits if waits in ("approval", "time", "resume", "push") else None,
            until=moment,
            stages=tuple(_stages(spec, row["campaign_id"], its)),
        ),
        push=None if open_push is None else _of_push(open_push),
        wait=None if moment is None else max((moment - row["at"]).total_seconds(), 0.0),
    )


def _moment(row: asyncpg.Record) -> datetime | None:
    """When a wait ends by itself."""
    if row["waits"] not in ("approval", "time", "resume"):
        return None
    moments = [row["deadline"]]
    moments += [row["approve_by"]] if row["needs_approval"] else []
    moments += [row["next_at"]] if row["waits"] == "time" else []
    return min((moment for moment in moments if moment is not None), default=None)


def _of_push(row: asyncpg.Record) -> PushSpec:
    return PushSpec.model_validate(row["spec"] | {"id": row["push_id"]})


def _stages(spec: CampaignSpec, campaign_id: str, its: Sequence[asyncpg.Record]) -> list[StageProgress]:
    stages = []
    for number in range(len(spec.stages) or 1):
        name = spec.stages[number].name if spec.stages else campaign_id
        share = spec.stages[number].share if spec.stages else 100.0
        opened: dict[str, Any] = {}
        if number < len(its):
            row = its[number]
            hold = Hold(row["hold"]).name.lower()
            opened = {"phase": row["phase"], "hold": hold, "verdict": row["verdict"]}
        push_id = spec.push_id(campaign_id, number)
        stages.append(StageProgress(name=name, push_id=push_id, share=share, **opened))
    return stages


# ------------------------------------------------------------------------------------------------ commands


async def command(
    db: Database,
    campaign_id: str,
    command_id: UUID,
    who: str,
    what: str,
    args: Mapping[str, Any],
    *,
    way: str = "update",
    check: pushes.Check = lambda message, providers: None,
) -> Said:
    """Write an operator's word to the campaign's row and to its open pushes, in one transaction.

    The same id again gives the same answer. `what` and `args` as for a push, and approve (content), reject
    (reason). An edit's message is checked and stored first. Raises NotFound, CommandRefused, BadSpec.
    """
    given = dict(args)
    if what == "edit":
        given = await _edited(db, campaign_id, args, check)
    elif what == "set" and given["pace"] is None:
        given["pace"] = "Infinity"
    answer = await db.fetchval(SQL.command, campaign_id, command_id, who, way, what, given)
    if answer.get("error") == "no such campaign":
        raise NotFound(f"no campaign {campaign_id[:128]!r}: `clarion campaign list` shows those there are")
    if not answer["ok"]:
        raise CommandRefused(f"{pushes.SAID.get(what, what)} refused: {answer['error']}")
    return Said(
        CommandAnswer(
            version=answer["version"],
            hold=Hold(answer["hold"]).name.lower(),
            already=answer["already"],
            note=answer["note"],
        ),
        tuple(answer["pushes"]),
    )


async def _edited(
    db: Database, campaign_id: str, args: Mapping[str, Any], check: pushes.Check
) -> dict[str, Any]:
    """The arguments of an edit, its message checked and stored: a campaign's row refers to it."""
    row = await db.fetchrow(SQL.of_app, campaign_id)
    if row is None:
        raise NotFound(f"no campaign {campaign_id[:128]!r}: `clarion campaign list` shows those there are")
    given = await pushes.edited(db, row["app_no"], args, check)
    present = await contents.load_message(db, row["app_no"], row["content"])
    pushes.same_step(present.badge, given["message"].get("badge"))
    await contents.store_message(db, row["app"], Message.model_validate(given["message"]))
    return given
