"""The judge: an independent account of one push. Imports nothing of Clarion.

It joins, per device, three sources that know nothing of each other: the generated file of devices (JSON
Lines), the ledger's final states and the sandbox's request log.

    lost        in the file, and neither accepted in the log nor finally explained in the ledger
    duplicates  accepted requests − distinct devices that were accepted, before any de-duplication
    phantom     accepted in the ledger, not in the log
    unexplained accepted in the log; in the ledger neither accepted, nor in doubt, nor marked as perhaps sent

    python -m tests.support.judge --devices devices.jsonl --log requests.jsonl --push ID [--key KEY]

exits 0 when lost, phantom and unexplained are all 0, and prints the account as one JSON line. The last
commit minus the first request of the log gives the rate.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import asyncpg

STATES = (
    "planned",
    "retry",
    "accepted",
    "rejected",
    "suppressed",
    "expired",
    "cancelled",
    "dead",
    "in_doubt",
)
OPEN = frozenset(("planned", "retry"))
ACCEPTED_IN_LOG = range(200, 300)

ROWS = """
select c.provider, r.token, s.state, s.doubt, s.at
from clarion.delivery_now s
join clarion.registration r using (registration_no)
join clarion.credential c on c.app_no = r.app_no and c.lane = s.lane
where s.push_no = $1
"""

# Rows against the counters of their batches, in one snapshot.
BALANCE = """
with rows as (
  select batch, state, count(*) as n from clarion.delivery_now where push_no = $1 group by 1, 2
), counters as (
  select batch, x.state, x.n
  from clarion.batch, unnest(
    array[0, 1, 2, 3, 4, 5, 6, 7, 8],
    array[open - retry, retry, accepted, rejected, suppressed, expired, cancelled, dead, in_doubt]
  ) x (state, n)
  where push_no = $1 and x.n <> 0
)
select
  coalesce(sum(rows.n), 0)::int as audience,
  (count(distinct batch) filter (where rows.n is distinct from counters.n))::int as bad
from rows full join counters using (batch, state)
"""


@dataclass
class Account:
    """What became of one push, device by device."""

    devices: int = 0
    audience: int = 0
    states: dict[str, int] = field(default_factory=dict)
    requests: int = 0
    accepted_requests: int = 0
    throttled: int = 0
    retired: int = 0
    redo: int = 0
    maybe: int = 0
    lost: int = 0
    duplicates: int = 0
    phantom: int = 0
    unexplained: int = 0
    most_requests_of_a_device: int = 0
    seconds: float = 0.0
    rate: float = 0.0
    first_request: float = 0.0
    last_request: float = 0.0

    @property
    def holds(self) -> bool:
        """Nothing is lost and nothing false is booked."""
        return not (self.lost or self.phantom or self.unexplained)


def address(provider: str, token: str) -> str:
    """What the log calls this registration: for Web Push the last segment of the endpoint's path."""
    if provider == "webpush":
        return token.split(" ", 1)[0].rsplit("/", 1)[1]
    return token


def content_hash(title: str, body: str) -> str:
    """What the log calls this content."""
    return hashlib.sha256(f"{title}\0{body}".encode()).hexdigest()


def devices_in(path: Path) -> Iterator[str]:
    """The addresses of the generated file."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            device = json.loads(line)
            yield (
                device["subscription"]["endpoint"].rsplit("/", 1)[1]
                if "subscription" in device
                else device["token"]
            )


def log_lines(path: Path, key: str | None, start: int = 0) -> Iterator[dict[str, Any]]:
    """Requests of the sandbox's log, of one push if its de-duplication key is given.

    `start`: where in the file the first line to look at begins, in bytes.
    """
    with path.open(encoding="utf-8") as lines:
        lines.seek(start)
        for line in lines:
            if key is not None and key not in line:
                continue  # the log has the requests of all pushes: to parse them all takes seconds
            if line.endswith("\n"):  # the last one may still be on its way
                entry = json.loads(line)
                if key is None or entry["key"] == key:
                    yield entry


def read_log(
    path: Path, key: str | None, account: Account, start: int = 0
) -> tuple[Counter[str], Counter[str]]:
    """Requests and accepted requests per address."""
    requests: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    first, last = float("inf"), 0.0
    for entry in log_lines(path, key, start):
        requests[entry["token"]] += 1
        first, last = min(first, entry["t"]), max(last, entry["t"])
        account.throttled += entry["status"] == 429
        if entry["status"] in ACCEPTED_IN_LOG:
            accepted[entry["token"]] += 1
    account.requests, account.accepted_requests = requests.total(), accepted.total()
    account.most_requests_of_a_device = max(requests.values(), default=0)
    account.first_request, account.last_request = (first if last else 0.0), last
    return requests, accepted


async def read_ledger(url: str, push_id: str, account: Account) -> dict[str, tuple[str, bool]]:
    """State and mark of every row of the push, by address; fills in the account's sums."""
    connection = await asyncpg.connect(url)
    try:
        push_no = await connection.fetchval("select push_no from clarion.push where push_id = $1", push_id)
        if push_no is None:
            sys.exit(f"judge: no push {push_id!r} in the ledger")
        rows: dict[str, tuple[str, bool]] = {}
        last = 0.0
        async with connection.transaction():
            async for provider, token, state, doubt, at in connection.cursor(ROWS, push_no, prefetch=5_000):
                rows[address(provider, token)] = STATES[state], doubt
                last = max(last, at.timestamp())
        account.audience = len(rows)
        account.states = dict(Counter(state for state, _ in rows.values()))
        sums = await connection.fetchrow(
            "select coalesce(sum(redo), 0), coalesce(sum(maybe), 0) from clarion.batch where push_no = $1",
            push_no,
        )
        assert sums is not None
        account.redo, account.maybe = sums
        account.retired = await connection.fetchval(
            "select count(*) from clarion.registration r join clarion.push p using (app_no)"
            " where p.push_no = $1 and r.status = 3",
            push_no,
        )
        account.seconds = max(last - account.first_request, 0.0)
        return rows
    finally:
        await connection.close()


async def balance(connection: asyncpg.Connection[asyncpg.Record], push_no: int) -> tuple[int, int]:
    """Rows of the push now, and in how many batches they differ from the counters: a running push, too."""
    found = await connection.fetchrow(BALANCE, push_no)
    assert found is not None
    return found["audience"], found["bad"]


def judge_devices(
    devices: Iterator[str], rows: dict[str, tuple[str, bool]], accepted: Counter[str], account: Account
) -> None:
    """The join: every device of the file against ledger and log."""
    for device in devices:
        account.devices += 1
        state, doubt = rows.get(device, ("missing", False))
        sent = accepted.get(device, 0)
        explained = state not in OPEN and state != "missing"
        account.lost += not sent and not explained
        account.phantom += state == "accepted" and not sent
        account.unexplained += bool(sent) and state not in ("accepted", "in_doubt") and not doubt


async def judge(
    devices: Path, log: Path, push_id: str, url: str, key: str | None = None, start: int = 0
) -> Account:
    """The whole account of one push, whose requests stand in the log from `start` on."""
    account = Account()
    _, accepted = await asyncio.to_thread(read_log, log, key, account, start)
    rows = await read_ledger(url, push_id, account)
    account.duplicates = account.accepted_requests - len(accepted)
    await asyncio.to_thread(judge_devices, devices_in(devices), rows, accepted, account)
    account.rate = account.audience / account.seconds if account.seconds else 0.0
    return account


def main() -> None:
    """Run as a command."""
    words = argparse.ArgumentParser(description="Judge one push: file, ledger and log, device by device.")
    words.add_argument("--devices", type=Path, required=True)
    words.add_argument("--log", type=Path, required=True)
    words.add_argument("--push", required=True)
    words.add_argument("--key", help="the push's de-duplication key, when the log holds several pushes")
    words.add_argument("--database", default=os.environ.get("CLARION_DATABASE_URL"))
    given = words.parse_args()
    if not given.database:
        words.error("--database or CLARION_DATABASE_URL is needed")
    account = asyncio.run(judge(given.devices, given.log, given.push, given.database, given.key))
    print(json.dumps(asdict(account)))
    sys.exit(0 if account.holds else 1)


if __name__ == "__main__":
    main()
