"""Try a closed push again: a new push over those of its final rows that ended so.

A closed push stays closed. What tries again is a push of its own, `{id}.r{n}`, with the old one's content and
key of de-duplication; its audience is frozen from the old one's rows. It is opened here, in one transaction
with the audit; its workflow is then started like any other's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from pydantic import ValidationError

from clarion.errors import BadInput, CommandRefused, NotFound
from clarion.model.command import RetryAnswer, RetryInput
from clarion.model.ledger import Reason, State
from clarion.model.message import Message
from clarion.model.spec import PushSpec
from clarion.store.database import Database
from clarion.store.reasons import Reasons
from clarion.store.sql import beside

SQL = beside(__file__)
COUNT_SECONDS: Final = 600  # a push of a hundred million rows is read as a whole
_OURS: Final = frozenset(int(reason) for reason in Reason)
_NOT_KEPT: Final = ("id", "message", "content", "audience", "send_at", "deadline", "pace")


async def retry(
    db: Database, push_no: int, words: RetryInput, command_id: UUID, *, way: str = "direct"
) -> RetryAnswer:
    """Open the push that tries again; the same command id again: the same answer.

    Raises NotFound, BadInput (no such reason), CommandRefused: not closed, nothing ended so, or another
    retry of it has taken these rows.
    """
    reasons = await Reasons.load(db)
    async with db.transaction() as connection:
        old = await connection.fetchrow(SQL.closed, push_no)
        if old is None:
            raise NotFound(f"no push with the number {push_no}")
        known = await connection.fetchval(SQL.answered, command_id)
        if known is not None:
            return RetryAnswer.model_validate(known["retry"] | {"already": True})
        if old["closed_at"] is None:
            raise CommandRefused(
                f"retry refused: push {old['push_id']} is not closed: cancel it, or wait until it is"
            )
        if words.deadline is not None and words.deadline <= old["now"]:
            raise CommandRefused(
                f"retry refused: the deadline is past (it is {old['now']:%Y-%m-%d %H:%M:%S} UTC)"
            )
        names = _names(reasons, words.reasons)
        others = await connection.fetch(SQL.retries, push_no, old["dedup_no"])
        refuse_what_was_taken(old["push_id"], others, words.states, names, reasons)
        audience = await _count(connection, old, words, reasons, names)
        push_id = await _open(connection, old, words, names)
        answer = RetryAnswer(push_id=push_id, retry_of=old["push_id"], audience=audience)
        args = words.model_dump(mode="json", include={"states", "reasons", "deadline"}, exclude_none=True)
        reply = {"ok": True, "retry": answer.model_dump(mode="json")}
        after = {"retried_by": push_id}
        who = words.by or "operator"
        await connection.execute(SQL.audit, command_id, push_no, who, way, args, after, reply)
    return answer


async def of_campaign(db: Database, campaign_id: str) -> list[int]:
    """The pushes of a campaign, retries included, oldest first."""
    return [row["push_no"] for row in await db.fetch(SQL.of_campaign, campaign_id)]


async def opened(db: Database, push_id: str) -> tuple[PushSpec, str | None]:
    """The spec of a push, and how it has ended if it has. Raises NotFound."""
    row = await db.fetchrow(SQL.spec, push_id)
    if row is None:
        raise NotFound(f"no push {push_id[:128]!r}")
    return PushSpec.model_validate(row["spec"]), row["verdict"] if row["closed_at"] else None


def _names(reasons: Reasons, words: Sequence[str]) -> list[str]:
    """The full names of what a person calls reasons, as the spec keeps them."""
    names: list[str] = []
    for word in words:
        found = [reasons.name(number) for number in reasons.named(word)]
        if not found:
            raise BadInput(
                f"no delivery has ever ended with reason {word[:100]!r}: `explain` shows their names"
            )
        names += found
    return sorted(set(names))


def refuse_what_was_taken(
    push_id: str, others: Sequence[Any], states: Sequence[str], names: Sequence[str], reasons: Reasons
) -> None:
    """Rows are tried again once: afterwards it is the retry's rows that tell how it went.

    `others`: the retries of the push that there are. Raises CommandRefused.
    """
    ours = _numbers(reasons, names)
    for other in others:
        took = other["took"]
        theirs = _numbers(reasons, took.get("reasons", ()))
        apart = not set(took["states"]) & set(states) or (theirs and ours and not theirs & ours)
        if not apart:
            how = f"closed: {other['verdict']}" if other["closed_at"] else "open"
            raise CommandRefused(
                f"retry refused: {other['push_id']} ({how}) has taken these rows of {push_id}: retry that one"
            )


def _numbers(reasons: Reasons, names: Sequence[str]) -> set[int]:
    """The reasons of these names, with or without the part before the colon."""
    return {number for name in names for number in reasons.named(name)}


async def _count(connection: Any, old: Any, words: RetryInput, reasons: Reasons, names: Sequence[str]) -> int:
    states = [State[state.upper()] for state in words.states]
    numbers = [number for name in names for number in reasons.named(name)] if names else None
    rows: int = await connection.fetchval(SQL.count, old["push_no"], states, numbers, timeout=COUNT_SECONDS)
    if not rows:
        took = " or ".join(words.states) + (f" for {' or '.join(names)}" if names else "")
        raise CommandRefused(
            f"retry refused: no delivery of {old['push_id']} ended {took}; "
            f"it has {await _ended(connection, old['push_no'])}"
        )
    return rows


async def _ended(connection: Any, push_no: int) -> str:
    """What there is to retry, for a refusal."""
    states = [State.REJECTED, State.EXPIRED, State.CANCELLED, State.DEAD, State.IN_DOUBT]
    rows = await connection.fetch(SQL.ended, push_no, states, timeout=COUNT_SECONDS)
    return "; ".join(f"{row['rows']} {_end(row)}" for row in rows) or "nothing that could be tried again"


def _end(row: Any) -> str:
    number, name = row["reason"], row["name"]
    if name is None and number in _OURS and number:
        name = f"clarion:{Reason(number).name.lower()}"
    return State(row["state"]).name.lower() + (f" for {name}" if name else "")


async def _open(connection: Any, old: Any, words: RetryInput, names: Sequence[str]) -> str:
    """Open the push under the next free id of its chain."""
    message = Message.model_validate(old["message"])
    audience = {"push": old["push_id"], "states": words.states} | ({"reasons": names} if names else {})
    values = {key: value for key, value in old["spec"].items() if key not in _NOT_KEPT} | {
        "content": message.reference(),
        "audience": {"retry": audience},
        "pace": old["pace"],
        "deadline": words.deadline,
    }
    spec = PushSpec.model_validate(values)
    number = 1 + await connection.fetchval(SQL.chain, old["dedup_no"])
    while True:
        push_id = f"{old['root']}.r{number}"
        try:
            PushSpec.model_validate(values | {"id": push_id})
        except ValidationError:
            raise CommandRefused(f"retry refused: {push_id!r} is too long for an id") from None
        row = await connection.fetchval(
            SQL.open, push_id, spec.canonical(), spec.digest(), old["push_no"], spec.pace, spec.deadline,
            message.canonical(),
        )  # fmt: skip
        if row is not None:
            return push_id
        number += 1  # somebody else's push has this id
