"""Guards of the ledger taken away one at a time: each must be missed by the model, or by a scripted race.

A mutant is one textual edit of a named statement, or of a function of the migration. `seed` is the first
one whose interleaving objects to it; `script` names the test that does, where the model cannot get there.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from clarion.store import ledger, push
from clarion.store.database import Database
from clarion.store.migrate import DIRECTORY

_STATEMENTS: Final = {"ledger": ledger.SQL, "push": push.SQL}
_MIGRATION: Final = DIRECTORY / "0002_ledger.sql"


@dataclass(frozen=True, slots=True)
class Mutant:
    """One edit. `where`: module.statement, or the name of a function of the ledger's migration."""

    name: str
    where: str
    old: str
    new: str
    seed: int | None = None
    script: str | None = None


def function(name: str, path: Path = _MIGRATION) -> str:
    """The definition of a function in the migration."""
    found = re.search(rf"^create function {name}\(.*?^(?:\$\$|end \$\$);$", path.read_text(), re.M | re.S)
    assert found is not None, f"no function {name}"
    return found[0].replace("create function ", "create or replace function clarion.", 1)


def edited(text: str, mutant: Mutant) -> str:
    """The text with the edit, which must fit exactly once."""
    assert text.count(mutant.old) == 1, f"{mutant.name}: the edit fits {text.count(mutant.old)} times"
    return text.replace(mutant.old, mutant.new)


@asynccontextmanager
async def in_force(mutant: Mutant, db: Database) -> AsyncIterator[None]:
    """The mutant lives in this process and this database while the block runs."""
    module, _, statement = mutant.where.rpartition(".")
    if not module:
        original = function(mutant.where)
        await db.execute(edited(original, mutant))
        try:
            yield
        finally:
            await db.execute(original)
        return
    statements = _STATEMENTS[module]
    original = statements[statement]
    statements[statement] = edited(original, mutant)
    try:
        yield
    finally:
        statements[statement] = original


# A batch is closed only while its push has hold 3, which is for ever and grants nothing by itself.
EQUIVALENT: Final = frozenset({"grant after a close"})

MUTANTS: Final = (
    # ── STEP
    Mutant(
        "no doubt after a maybe",
        "ledger.step",
        "doubt = d.doubt or get_byte($6, d.seq - $5) in (9, 10),",
        "doubt = d.doubt,",
        seed=0,
    ),
    Mutant("decisions ignore doubt", "ledger.step", "when d.doubt then 8", "when false then 8", seed=0),
    Mutant(
        "decisions hit any open row",
        "ledger.step",
        "else d.state = 0 and (select mine from word)",
        "else d.state < 2 and (select mine from word)",
        seed=0,
    ),
    Mutant(
        "decisions come from any epoch",
        "ledger.step",
        "else d.state = 0 and (select mine from word)",
        "else d.state = 0",
        seed=0,
    ),
    Mutant(
        "decisions count after a close",
        "ledger.step",
        "b.epoch = $3 and b.closed = 0 as mine",
        "b.epoch = $3 as mine",
        seed=1,
    ),
    Mutant("a later answer overwrites", "ledger.step", "then d.state not in (2, 3)", "then true", seed=0),
    Mutant(
        "answers only on open rows", "ledger.step", "then d.state not in (2, 3)", "then d.state < 2", seed=8
    ),
    Mutant(
        "answers only on open or doubtful rows",
        "ledger.step",
        "then d.state not in (2, 3)",
        "then d.state in (0, 1, 8)",
        script="test_an_answer_repairs_a_wrong_decision",
    ),
    Mutant(
        "grant without epoch",
        "ledger.step",
        "and b.epoch = $3 and b.closed = 0\n      and p.hold < 2",
        "and b.closed = 0\n      and p.hold < 2",
        seed=0,
    ),
    Mutant(
        "grant after a close",
        "ledger.step",
        "and b.epoch = $3 and b.closed = 0\n      and p.hold < 2",
        "and b.epoch = $3\n      and p.hold < 2",
    ),
    Mutant("grant without hold", "ledger.step", "and p.hold < 2 and now()", "and now()", seed=2),
    Mutant(
        "grant without blocked",
        "ledger.step",
        " and not coalesce(s.blocked, false) as granted",
        " as granted",
        seed=1,
    ),
    Mutant(
        "grant without deadline",
        "ledger.step",
        "and p.hold < 2 and now() < p.deadline",
        "and p.hold < 2",
        seed=6,
    ),
    Mutant("claim not written", "ledger.step", "greatest(t.claimed_to, $11)", "t.claimed_to", seed=0),
    Mutant("claim going back", "ledger.step", "greatest(t.claimed_to, $11)", "$11", seed=0),
    Mutant(
        "a claim does not begin a batch",
        "ledger.step",
        "begun = t.begun or word.granted and $11 >= 0",
        "begun = t.begun",
        seed=3,
    ),
    Mutant(
        "a claim does not renew the lease",
        "ledger.step",
        "lease_until = case when word.granted then now() + $12::interval else t.lease_until end",
        "lease_until = t.lease_until + 0 * $12::interval",
        script="test_a_take_behind_a_renewing_step",
    ),
    Mutant(
        "maybe is retried at most once",
        "ledger.step",
        "case (select guarantee from word) when 2 then 8 else 1 end",
        "1",
        seed=1,
    ),
    Mutant(
        "due_at overwritten",
        "ledger.step",
        "due_at = least(t.due_at, m.first_due)",
        "due_at = coalesce(m.first_due, t.due_at)",
        seed=0,
    ),
    Mutant(
        "retries are due at once",
        "ledger.step",
        "[array_position($8::smallint[], d.seq)], 0)",
        "[array_position($8::smallint[], d.seq)], 0) * 0",
        seed=0,
    ),
    Mutant(
        "counters do not know the closed word",
        "ledger.step",
        "case when old.state < 2 and (select closed from word) > 0",
        "case when false",
        script="test_an_answer_for_a_row_booked_cancelled",
    ),
    Mutant(
        "a sign of life is not one",
        "ledger.step",
        "then 0 else t.takes end",
        "then t.takes else t.takes end",
        seed=10,
    ),
    Mutant(
        "dead addresses do not queue",
        "ledger.step",
        "where w.seq = any ($13::smallint[])",
        "where false",
        seed=0,
    ),
    # ── READ
    Mutant("a retired registration is sent to", "ledger.read", "or r.status <> 1 then 1", "then 1", seed=0),
    Mutant(
        "another user's phone is sent to", "ledger.read", "when r.user_no <> d.user_no then 2", "", seed=0
    ),
    Mutant(
        "an opt-out is ignored",
        "ledger.read",
        "or u.optout & $5 <> 0 then 3",
        "or u.optout & $5 <> 0 and false then 3",
        seed=0,
    ),
    Mutant("READ offers retries", "ledger.read", "and d.state = 0", "and d.state < 2", seed=0),
    # ── TAKE
    Mutant(
        "nothing marked",
        "take",
        "state = 0 and seq <= b.claimed_to;\n    get diagnostics redone",
        "false;\n    get diagnostics redone",
        seed=0,
    ),
    Mutant(
        "marked only at most once",
        "take",
        "state = case p.guarantee when 2 then 8 else 0 end",
        "state = 0",
        seed=1,
    ),
    Mutant("watermark kept by take", "take", "    claimed_to = -1,\n", "", seed=20),
    Mutant("no epoch at take", "take", "epoch = epoch + 1,", "epoch = epoch,", seed=0),
    Mutant(
        "a take's repeat refused",
        "take",
        "b.lease_until >= clock_timestamp() and b.owner is distinct from p_owner",
        "b.lease_until >= clock_timestamp()",
        seed=1,
    ),
    Mutant(
        "no lease check in take",
        "take",
        "when b.lease_until >= clock_timestamp() and b.owner is distinct from p_owner then 'leased'",
        "",
        seed=0,
    ),
    Mutant(
        "drain takes all",
        "take",
        "when p.hold > 1 or p.hold = 1 and not b.begun then 'hold'",
        "when p.hold > 1 then 'hold'",
        seed=2,
    ),
    Mutant(
        "take ignores the hold",
        "take",
        "when p.hold > 1 or p.hold = 1 and not b.begun then 'hold'",
        "",
        seed=0,
    ),
    Mutant("take ignores the deadline", "take", "when now() >= p.deadline then 'deadline'", "", seed=2),
    Mutant("waves ignored", "take", "when b.opens_at > clock_timestamp() then 'early'", "", seed=0),
    Mutant("due_at kept by take", "take", "due_at = first_due,", "", seed=0),
    Mutant(
        "retries reopened before they are due", "take", "state = 1 and at <= now();", "state = 1;", seed=0
    ),
    Mutant("poison is not booked", "take", "if b.takes >= 6 then", "if false then", script="test_poison"),
    Mutant("takes are not counted", "take", "takes = least(takes + 1, 99)", "takes = takes", seed=14),
    # ── RELEASE
    Mutant("watermark kept by release", "ledger.release", "takes = 0, claimed_to = -1", "takes = 0", seed=0),
    Mutant("release of any epoch", "ledger.release", "and epoch = $3", "and epoch >= $3", seed=0),
    Mutant(
        "release keeps the epoch",
        "ledger.release",
        "epoch = epoch + 1, owner",
        "owner",
        script="test_a_step_arriving_after_its_release",
    ),
    # ── CLOSE
    Mutant("close forgets doubtful retries", "close_batches", " or state = 1 and doubt);", ");", seed=12),
    Mutant(
        "close forgets doubtful planned rows",
        "close_batches",
        "state = 0 and (doubt or seq <= b.claimed_to)",
        "state = 0 and seq <= b.claimed_to",
        seed=12,
    ),
    Mutant(
        "close ignores the watermark",
        "close_batches",
        "state = 0 and (doubt or seq <= b.claimed_to)",
        "state = 0 and doubt",
        seed=3,
    ),
    Mutant(
        "no lease check in close",
        "close_batches",
        "\n      and (lease_until is null or lease_until < clock_timestamp())",
        "",
        seed=1,
    ),
    Mutant(
        "closed with open rows",
        "close_push",
        "or exists (select from batch where push_no = p_push_no and closed = 0 and open > 0)",
        "or false",
        script="test_a_push_with_open_rows_does_not_close",
    ),
    # ── FREEZE
    Mutant(
        "no mark of a frozen range",
        "push.write_rows",
        "and frozen_at is null",
        "",
        script="test_two_freeze_the_same_range",
    ),
    Mutant("no gate", "push.gate", "select hold from push", "select 0 from push", seed=1),
    # ── RETIRE
    Mutant("retires what registered again", "ledger.retire", " and r.registered_at <= x.seen", "", seed=2),
    Mutant(
        "suspects do not wait", "ledger.retire", "when answers < 200 and open > 0 then 'wait'", "", seed=20
    ),
    Mutant(
        "suspects are never dropped",
        "ledger.retire",
        "when blocked or wrong then 'drop'",
        "",
        script="test_thirty_percent_wrong_devices_mean_a_wrong_credential",
    ),
    # ── COMMAND
    Mutant(
        "a repeated command acts",
        "command",
        "if found then\n    return known;",
        "if false then\n    return known;",
        seed=0,
    ),
    Mutant("closing can be left", "command", "when c.hold = 3 then 'closing: ' || c.verdict", "", seed=1),
    Mutant(
        "pause forgets a drain",
        "command",
        "when p_what = 'pause' and c.hold = 1",
        "when false",
        script="test_pause_does_not_forget_a_drain",
    ),
    # ── OPEN
    Mutant(
        "another spec under the same id",
        "push.known",
        "when spec_hash <> $2 then 'different'",
        "when spec_hash <> $2 and false then 'different'",
        script="test_another_push_under_the_same_id",
    ),
)
