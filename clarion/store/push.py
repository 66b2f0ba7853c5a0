"""The life of a push in the store: opened, planned, frozen, steered, closed.

All of it may be repeated: who comes second finds what the first one left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Any, Final, Literal, cast
from uuid import UUID

import asyncpg

from clarion import limits
from clarion.errors import BadSpec, CommandRefused, NotFound
from clarion.model.audience import Audience, ClosedRows
from clarion.model.command import CommandAnswer
from clarion.model.ledger import Hold, Reason, State
from clarion.model.message import Kind, Message, PushType, badge_step
from clarion.model.spec import PushSpec
from clarion.store import audience as rules
from clarion.store import content as contents
from clarion.store import fitness
from clarion.store import retry as retries
from clarion.store.database import Database
from clarion.store.planned import not_past
from clarion.store.reasons import Reasons
from clarion.store.sql import beside

SQL = beside(__file__)

OPTOUT_BIT: Final = {"marketing": 1, "transactional": 2, "social": 4}
USERS, FALLBACK, RETRY, MOVE = 0, 1, 2, 3  # what a range is a range of
SAID: Final = {"edit": "edit_message", "extend": "extend_deadline"}  # words by the names of their updates
FALLBACK_STATES: Final = (State.REJECTED, State.DEAD)
FREEZE_SECONDS: Final = limits.BULK_TIMEOUT - 10  # its activity's own time-out comes later
# A freeze is planned for its very values: a generic plan knows nothing of the range's width.
_PLANNED_FOR_VALUES: Final = "set local plan_cache_mode = force_custom_plan"
# Two spans joined by nested loops look cheap to a planner without statistics, and are quadratic.
_MERGED: Final = _PLANNED_FOR_VALUES + "; set local enable_nestloop = off"
_KINDS: Final = {
    PushType.VOIP: Kind.VOIP,
    PushType.LIVE_ACTIVITY: Kind.LIVE_ACTIVITY,
    PushType.PUSH_TO_TALK: Kind.PUSH_TO_TALK,
    PushType.WIDGETS: Kind.WIDGETS,
    PushType.CONTROLS: Kind.CONTROLS,
    PushType.LOCATION: Kind.LOCATION,
    PushType.COMPLICATION: Kind.COMPLICATION,
    PushType.FILE_PROVIDER: Kind.FILE_PROVIDER,
    PushType.MDM: Kind.MDM,
}

Opened = Literal["new", "open", "closed", "different"]
Check = Callable[[Message, Sequence[str]], object]


@dataclass(frozen=True, slots=True)
class OpenedPush:
    """What `open_push` found: its number, and whether it is new, was open or closed, or is another push."""

    push_no: int
    hold: int
    result: dict[str, Any] | None
    opened: Opened


@dataclass(frozen=True, slots=True)
class Facts:
    """What never changes about a push (but `deadline`, which is in the control row, too)."""

    push_no: int
    push_id: str
    app_no: int
    app: str
    campaign_id: str | None
    retry_of: int | None
    dedup_key: str  # a device shows what bears the same key once; a retry bears its predecessor's
    priority: int
    kind: int
    mask: int
    guarantee: int
    weight: float
    send_at: datetime
    deadline: float | None  # epoch seconds


@dataclass(frozen=True, slots=True)
class Plan:
    """How the audience will be frozen. No ranges: its time was moved just now, and has not come."""

    ranges: int
    estimated_rows: int
    batch_size: int


@dataclass(frozen=True, slots=True)
class Frozen:
    """What became of a range: `rows` written by this call; `already`: frozen before; `closing`: too late.

    `moved`: (provider, "rejected", rows) that ended because others took over, at the push's `priority`.
    """

    rows: int = 0
    already: bool = False
    closing: bool = False
    moved: tuple[tuple[str, str, int], ...] = ()
    priority: int = 3


class _Closing(Exception):
    """Rolls a freeze back: the push began to close."""


# ------------------------------------------------------------------------------------------------- opening


async def find(db: Database, push_id: str) -> int:
    """The number of a push. Raises NotFound."""
    push_no: int | None = await db.fetchval(SQL.find, push_id)
    if push_no is None:
        raise NotFound(f"no push {push_id[:128]!r}")
    return push_no


def spec_hash(spec: PushSpec) -> bytes:
    """What makes two starts of one id the same; whether the id stands in the spec makes no difference."""
    return spec.model_copy(update={"id": None}).digest()


async def open_push(
    db: Database,
    spec: PushSpec,
    push_id: str,
    *,
    check: Check | None = None,
    asked_at: datetime | None = None,
    who: str | None = None,
) -> OpenedPush:
    """Insert the push, or compare it with the one that has this id.

    `check` sees the message of a new push, and the providers of its app, before anything is written.
    `who` has started it, for the audit; None: a campaign has.
    Raises NotFound for an unknown app, content or push to retry, BadSpec for a retry of an open push, and
    what `check` raises.
    """
    retry = spec.audience.retry
    if retry is None:
        return await _open(db, spec, push_id, check, asked_at, who)
    async with db.transaction() as connection:
        await connection.execute(SQL.lock, retry.push)
        return await _open(cast(Database, connection), spec, push_id, check, asked_at, who)


async def _open(
    db: Database,
    spec: PushSpec,
    push_id: str,
    check: Check | None,
    asked_at: datetime | None,
    who: str | None,
) -> OpenedPush:
    digest = spec_hash(spec)
    known = await db.fetchrow(SQL.known, push_id, digest)
    if known is not None:
        return OpenedPush(**known)
    not_past(spec, asked_at)
    look = await _look(db, spec)
    message = spec.message if spec.message is not None else Message.model_validate(look["message"])
    if check is not None:
        check(message, await providers(db, look["app_no"]))
    row = await db.fetchrow(
        SQL.open, push_id, spec.canonical(), digest, spec.send_at, look["app_no"], spec.campaign,
        look["retry_of"], look["dedup_no"], spec.priority.number, kind_of(message),
        OPTOUT_BIT[spec.campaign_kind], spec.delivery_guarantee.number, spec.weight, spec.pace,
        spec.deadline, message.canonical(), who,
    )  # fmt: skip
    assert row is not None
    return OpenedPush(**row)


async def providers(db: Database, app_no: int) -> list[str]:
    """The providers that an app has credentials for."""
    return [row["provider"] for row in await db.fetch(SQL.providers, app_no)]


async def _look(db: Database, spec: PushSpec) -> asyncpg.Record:
    """What the spec refers to, all of it there and usable."""
    retry = spec.audience.retry
    reference = None if spec.content is None else bytes.fromhex(spec.content.removeprefix("content:"))
    row = await db.fetchrow(SQL.look, spec.app, reference, retry and retry.push)
    if row is None:
        raise NotFound(f"no app named {spec.app[:64]!r}: `clarion apps list` shows those there are")
    if reference is not None and row["message"] is None:
        raise NotFound("the content reference is unknown in this app: store the message first")
    if retry is not None and row["retry_of"] is None:
        raise NotFound(f"the push to retry, {retry.push!r}, is unknown in this app")
    if retry is not None and not row["retry_is_closed"]:
        raise BadSpec(f"push {retry.push!r} is not closed yet: only final rows can be retried")
    if retry is not None:
        states, reasons = [State[state.upper()] for state in retry.states], await _reasons(db, spec.audience)
        if not await db.fetchval(SQL.ended_so, row["retry_of"], states, reasons):
            raise BadSpec(f"no delivery of push {retry.push!r} ended so: there is nothing to retry")
        await _refuse_what_was_taken(db, row, retry)
    return row


async def _refuse_what_was_taken(db: Database, row: asyncpg.Record, retry: ClosedRows) -> None:
    others = await db.fetch(retries.SQL.retries, row["retry_of"], row["dedup_no"])
    known = await Reasons.load(db)
    try:
        retries.refuse_what_was_taken(retry.push, others, retry.states, retry.reasons, known)
    except CommandRefused as error:
        raise BadSpec(str(error)) from None


def kind_of(message: Message) -> Kind:
    """Which of a device's registrations a message addresses."""
    options = message.apns
    if options.push_type is PushType.LIVE_ACTIVITY and options.event == "start":
        return Kind.LIVE_ACTIVITY_START
    return _KINDS.get(options.push_type, Kind.ALERT)


async def facts(db: Database, push_no: int) -> Facts:
    """Everything an attempt needs to know once. Raises NotFound."""
    row = await db.fetchrow(SQL.facts, push_no)
    if row is None:
        raise NotFound(f"no push with the number {push_no}")
    values = dict(row)
    values["dedup_key"] = f"clarion-{values.pop('dedup_no'):x}"
    if values["deadline"] is not None:
        values["deadline"] = values["deadline"].timestamp()
    return Facts(**values)


async def message(db: Database, push_no: int, version: int) -> Message:
    """One version of the content; versions never change. Raises NotFound."""
    stored = await db.fetchval(SQL.message, push_no, version)
    if stored is None:
        raise NotFound(f"push {push_no} has no content version {version}")
    return Message.model_validate(stored)


async def add_content(db: Database, push_no: int, edited: Message) -> int:
    """Store edited content; its version, which a `set` command puts in force."""
    while True:
        try:
            version: int = await db.fetchval(SQL.add_content, push_no, edited.canonical())
        except asyncpg.UniqueViolationError:
            continue  # two editors: the other one has this number now
        return version


# ------------------------------------------------------------------------------------------------ planning


def cut(lo: int, hi: int, rows: int) -> list[tuple[int, int]]:
    """Spans that cover lo … hi without gap or overlap: for the first ~20 k of `rows`, then each for twice as
    many, up to ~1 M.

    The first is small so that sending starts at once. The next are no larger than what is frozen while the
    one before is sent, or the senders would wait. Rows are taken to be spread evenly over the numbers.
    """
    edges, size, before = [lo], limits.RANGE_FIRST, limits.RANGE_FIRST
    while before < rows:
        edges.append(max(edges[-1] + 1, lo + (hi - lo) * before // rows))
        size = min(2 * size, limits.RANGE_MAX)
        before += size
    return list(pairwise([*(edge for edge in edges if edge < hi), hi]))


async def plan(db: Database, push_no: int) -> Plan:
    """Cut the audience into ranges, once; the push has then started. Raises NotFound, CommandRefused."""
    row = await db.fetchrow(SQL.to_plan, push_no)
    if row is None:
        raise NotFound(f"no push with the number {push_no}")
    if row["ranges"]:
        return Plan(row["ranges"], row["estimated_rows"], row["batch_size"])
    rows, what, of_push, spans = await _spans(db, push_no, row)
    size = limits.batch_size(rows, high=row["priority"] == 1)
    if await _add_ranges(db, push_no, 0, what, spans, of_push, rows, size) is None:
        return await _planned_by_another(db, push_no)
    return Plan(len(spans), rows, size)


async def _spans(
    db: Database, push_no: int, row: asyncpg.Record
) -> tuple[int, int, int, list[tuple[int, int]]]:
    """Estimated rows; what the spans are spans of; of which push; the spans."""
    rule = Audience.model_validate(row["audience"])
    if rule.retry is not None:
        old = row["retry_of"]
        ranges = [(r["range_no"], r["range_no"] + 1) for r in await db.fetch(SQL.frozen_ranges, old)]
        states = [State[state.upper()] for state in rule.retry.states]
        return await _rows_in(db, old, states), RETRY, old, _batches_of(ranges)
    rows = await _estimate(db, row, rule)
    lo, hi = row["first_user"] or 0, (row["last_user"] or 0) + 1
    return rows, USERS, push_no, cut(lo, hi, rows)


async def _estimate(db: Database, row: asyncpg.Record, rule: Audience) -> int:
    """About how many rows the audience will have. Raises NotFound: no such list."""
    rows: int = await db.fetchval(SQL.estimate, row["app_no"], row["kind"])
    rows = max(1, int(rows * rule.fraction))
    if _is_named(rule):
        return min(rows, await rules.estimate(db, row["app_no"], rule))
    return rows


async def _rows_in(db: Database, push_no: int, states: list[State]) -> int:
    counts = await db.fetch("select * from push_counts where push_no = $1", push_no)
    return sum(int(lane[state.name.lower()]) for lane in counts for state in states)


def _batches_of(runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The batch numbers of runs of ranges; of none at all, one span with nothing in it."""
    per_range = limits.MAX_BATCHES_PER_RANGE
    return [(first * per_range, end * per_range) for first, end in runs] or [(0, 0)]


async def plan_fallback(db: Database, push_no: int) -> int:
    """Add ranges that try phones through their next lane, where the first one ended rejected or dead.

    Once a push, when nothing is open any more. Returns the ranges added: 0 when it was done before.
    """
    return await _plan_again(db, push_no, SQL.to_fall_back, FALLBACK)


async def plan_move(db: Database, push_no: int) -> int:
    """Add ranges that move phones out of blocked lanes into their next one.

    Once a push, when nothing else is open. Returns the ranges added: 0 when it was done before.
    """
    return await _plan_again(db, push_no, SQL.to_move, MOVE)


async def _plan_again(db: Database, push_no: int, found: str, what: int) -> int:
    row = await db.fetchrow(found, push_no)
    if row is None:
        return 0
    spans = _batches_of(_together(row["ranges"], 1 + row["rows"] // limits.RANGE_MAX))
    added = await _add_ranges(db, push_no, row["ranges"], what, spans, push_no, 0, 0)
    return 0 if added is None else len(spans)


def _together(ranges: int, parts: int) -> list[tuple[int, int]]:
    """Numbers of ranges in at most so many runs, about as long as each other."""
    edges = sorted({ranges * part // parts for part in range(parts + 1)})
    return list(pairwise(edges))


async def _add_ranges(
    db: Database,
    push_no: int,
    so_far: int,
    what: int,
    spans: list[tuple[int, int]],
    of_push: int,
    rows: int,
    size: int,
) -> int | None:
    los, his = [lo for lo, _ in spans], [hi for _, hi in spans]
    added: int | None = await db.fetchval(
        SQL.add_ranges, push_no, so_far, what, los, his, of_push, rows, size
    )
    return added


async def _planned_by_another(db: Database, push_no: int) -> Plan:
    row = await db.fetchrow(SQL.to_plan, push_no)
    if row is None or (not row["ranges"] and row["hold"] == Hold.CLOSING):
        raise CommandRefused("the push is closing: nothing more is planned")
    return Plan(row["ranges"], row["estimated_rows"], row["batch_size"])


# ------------------------------------------------------------------------------------------------ freezing


async def freeze(
    db: Database, push_no: int, range_no: int, *, variant: str = "0", opens: str = "null::timestamptz"
) -> Frozen:
    """Write the deliveries and batches of one range, in one transaction; a second attempt finds the mark.

    `variant` and `opens` are SQL of ours over u (usr), d (device) and r (registration): which variant of
    the content a device gets, and when its wave opens.
    """
    try:
        async with db.transaction() as connection:
            row = await connection.fetchrow(SQL.range, push_no, range_no)
            if row is None:
                raise NotFound(f"push {push_no} has no range {range_no}")
            if row["frozen_at"] is not None:
                return Frozen(already=True)
            rule = Audience.model_validate(row["audience"])
            reasons = await _reasons(connection, rule)
            blocked = await _lock_blocked(connection, push_no, row)
            sql, args = _rows_of(row, rule, reasons, blocked, variant, opens)
            looked_up = row["what"] != USERS or _is_named(rule)
            await connection.execute(_PLANNED_FOR_VALUES if looked_up else _MERGED)
            tag = await connection.execute(sql, push_no, range_no, *args, timeout=FREEZE_SECONDS)
            if row["what"] == FALLBACK:
                before = row["lo"], row["hi"]
                await connection.execute(SQL.pass_on, push_no, range_no, *before, timeout=FREEZE_SECONDS)
            moved = await _move(connection, push_no, range_no, blocked)
            await _count_badges(connection, push_no, range_no, row)
            if await connection.fetchval(SQL.gate, push_no) == Hold.CLOSING:
                raise _Closing
            return Frozen(rows=int(tag.rsplit(" ", 1)[1]), moved=moved, priority=row["priority"])
    except _Closing:
        return Frozen(closing=True)


async def _lock_blocked(connection: Any, push_no: int, row: asyncpg.Record) -> list[int]:
    """The batches that a range of blocked phones is about, in our hands until the transaction ends."""
    if row["what"] != MOVE:
        return []
    return [r["batch"] for r in await connection.fetch(SQL.lock_blocked, push_no, row["lo"], row["hi"])]


async def _move(
    connection: Any, push_no: int, range_no: int, blocked: list[int]
) -> tuple[tuple[str, str, int], ...]:
    """End what waited in those batches and has another row now: (provider, state, rows)."""
    if not blocked:
        return ()
    args = push_no, range_no, blocked, int(Reason.BLOCKED)
    rows = await connection.fetch(SQL.move, *args, timeout=FREEZE_SECONDS)
    return tuple((row["provider"], "rejected", row["rows"]) for row in rows)


async def _count_badges(connection: Any, push_no: int, range_no: int, row: asyncpg.Record) -> None:
    """Give the rows of a range that was just written their numbers, if the badge is an increment."""
    step = badge_step(row["badge"])
    if not step:
        return
    if row["what"] != USERS:
        before = row["of_push"], row["lo"], row["hi"]
        await connection.execute(SQL.repeat_badges, push_no, range_no, *before, timeout=FREEZE_SECONDS)
    most = limits.MOST_BADGE
    await connection.execute(SQL.count_badges, push_no, range_no, step, most, timeout=FREEZE_SECONDS)


def _is_named(rule: Audience) -> bool:
    """Whether the rule names its users, few of all there are, so that looking each up is cheaper."""
    return bool(rule.users) or rule.user_list is not None


async def _reasons(connection: Any, rule: Audience) -> list[int] | None:
    """The numbers of the reasons that a retry is for; None: any."""
    if rule.retry is None or not rule.retry.reasons:
        return None
    known = await Reasons.load(connection)
    return [number for name in rule.retry.reasons for number in known.named(name)]


def _rows_of(
    row: asyncpg.Record,
    rule: Audience,
    reasons: list[int] | None,
    blocked: list[int],
    variant: str,
    opens: str,
) -> tuple[str, list[Any]]:
    """The statement that freezes this range, and its arguments from $3 on."""
    args: list[Any] = [row["batch_size"], row["lanes"], row["lo"], row["hi"], row["mask"]]
    if row["what"] == RETRY:
        assert rule.retry is not None
        states = [State[state.upper()] for state in rule.retry.states]
        return _with_rows(SQL.rows_of_retry), [*args, states, row["of_push"], reasons]
    args += [row["app_no"], row["kind"]]
    unfit = fitness.unfit_last({int(lane): name for lane, name in (row["providers"] or {}).items()})
    if row["what"] == FALLBACK:
        return _with_rows(SQL.rows_of_fallback, unfit), [*args, FALLBACK_STATES]
    if row["what"] == MOVE:
        return _with_rows(SQL.rows_of_blocked, unfit), [*args, blocked]
    condition = rules.compile(rule, row["app_no"], 3 + len(args))
    found = SQL.registrations_of_few if _is_named(rule) else SQL.registrations_of_many
    rows = SQL.rows_of_users.replace("{variant}", variant).replace("{opens}", opens)
    rows = rows.replace("{registrations}", found)
    return _with_rows(rows.replace("{audience}", condition.sql), unfit), [*args, *condition.args]


def _with_rows(rows: str, unfit: str = "") -> str:
    return SQL.write_rows.replace("{rows}", rows.replace("{unfit}", unfit))


# ------------------------------------------------------------------------------------------------ commands


async def command(
    db: Database,
    push_no: int,
    command_id: UUID,
    who: str,
    what: str,
    args: Mapping[str, Any],
    *,
    way: str = "update",
) -> CommandAnswer:
    """Change the control row and write the audit, in one transaction; the same id again: the same answer.

    `what`: pause, resume, drain, close, set, edit (its args are made by `edited`), reschedule, extend.
    `args`: reason, verdict (close), pace (None removes it), content_version, deadline, send_at, if_version
    (refused unless the control row has this version). `way`: update, signal, direct, clarion.
    Raises NotFound, CommandRefused.
    """
    if what == "edit":
        await _editable(db, push_no, args)
    answer = await db.fetchval(SQL.command, push_no, command_id, who, way, what, _plain(args))
    if answer.get("error") == "no such push":
        raise NotFound(f"no push with the number {push_no}")
    if not answer["ok"]:
        raise CommandRefused(f"{SAID.get(what, what)} refused: {answer['error']}")
    return _answer(answer)


async def _editable(db: Database, push_no: int, args: Mapping[str, Any]) -> None:
    """Whether this content may take the place of the present one. Raises CommandRefused."""
    if await db.fetchval(SQL.is_approved, push_no):
        raise CommandRefused(
            "edit_message refused: the content of its campaign was approved; "
            "edit the campaign between two stages, or cancel it"
        )
    if "message" in args:
        same_step(await db.fetchval(SQL.badge, push_no), args["message"].get("badge"))


def same_step(badge: int | str | None, edited: int | str | None) -> None:
    """An edit keeps the increment, which is counted when the audience is frozen. Raises CommandRefused."""
    if badge_step(badge) != badge_step(edited):
        raise CommandRefused(
            "edit_message refused: an increment of the badge is counted when the audience is frozen, so an "
            f"edit keeps it: badge is {badge!r} and would become {edited!r}"
        )


async def edited(db: Database, app_no: int, args: Mapping[str, Any], check: Check) -> dict[str, Any]:
    """The arguments of an `edit`, given {"message": …} or {"content": reference}: complete, and checked.

    `check` sees the message and the providers of the app, as at a start. Raises what it raises, BadSpec
    (no reference), NotFound (no such content).
    """
    more = dict(args)
    given, reference = more.pop("message", None), more.pop("content", None)
    message = (
        Message.model_validate(given)
        if given is not None
        else await contents.load_message(db, app_no, reference)
    )
    check(message, await providers(db, app_no))
    return more | {
        "message": message.canonical(),
        "kind": int(kind_of(message)),
        "content": message.reference(),
    }


def _plain(args: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments as JSON: a pace of None means none, and moments are text."""
    plain = {k: v.isoformat() if isinstance(v, datetime) else v for k, v in args.items() if v is not None}
    if "pace" in args and args["pace"] is None:
        plain["pace"] = "Infinity"
    return plain


def _answer(answer: Mapping[str, Any]) -> CommandAnswer:
    return CommandAnswer(
        version=answer["version"], hold=Hold(answer["hold"]).name.lower(), already=answer["already"]
    )


async def is_closing(db: Database, push_no: int) -> bool:
    """Whether nothing more is started, for ever."""
    hold: int | None = await db.fetchval(SQL.hold, push_no)
    return hold == Hold.CLOSING


async def hold_of(db: Database, push_no: int) -> Hold:
    """Its control row's word. Raises NotFound."""
    hold: int | None = await db.fetchval(SQL.hold, push_no)
    if hold is None:
        raise NotFound(f"no push with the number {push_no}")
    return Hold(hold)


async def is_held(db: Database, push_no: int) -> bool:
    """Whether somebody has held it back already: paused, draining or closing."""
    hold: int | None = await db.fetchval(SQL.hold, push_no)
    return hold != Hold.NONE


async def close_push(db: Database, push_no: int) -> dict[str, Any] | None:
    """Close a push whose books are closed, and store its result, once. None: something is still open."""
    result: dict[str, Any] | None = await db.fetchval(SQL.close_push, push_no)
    return result
