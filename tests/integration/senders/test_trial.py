"""`clarion providers check`: credentials tried at the simulators, good ones and bad ones."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
from datetime import UTC, datetime
from email.utils import format_datetime

import pytest

from clarion.sandbox.sandbox import Sandbox
from clarion.senders import trial
from clarion.senders.lanes import MAKERS
from clarion.senders.trial import Verdict
from clarion.store import credentials, vendor_check
from clarion.store.database import Database
from starters.cli import invoke
from tests.support.postgres import Databases
from tests.support.senders import SEAL, Clock, app_at, process
from tests.support.vendors import vendor_app
from workers.embedded.ports import free_port


async def tried(db: Database, clock: Clock | None = None) -> dict[str, trial.Trial]:
    """Every credential there is, by its name."""
    async with process(db, clock) as lanes:
        return {
            row.name: await trial.try_lane(lanes, row.app_no, row.lane, row.provider)
            for row in await credentials.list_credentials(db)
        }


async def test_good_credentials_work(sandbox: Sandbox, db: Database) -> None:
    """Every vendor, Apple and Google know us, whatever they think of an address that no phone has."""
    await vendor_app(sandbox, db)

    found = await tried(db)

    assert {name: one.verdict for name, one in found.items()} == dict.fromkeys(found, Verdict.WORKS)
    assert found.keys() >= set(MAKERS) - {"apns", "fcm", "webpush"}


async def test_apple_and_google_know_us(sandbox: Sandbox, db: Database) -> None:
    """The same over HTTP/2."""
    await app_at(sandbox, db)

    assert {one.verdict for one in (await tried(db)).values()} == {Verdict.WORKS}


async def test_a_wrong_secret_is_refused_and_nothing_is_blocked(sandbox: Sandbox, db: Database) -> None:
    """The provider's own word for it; campaigns are not touched by the question."""
    app_no, _ = await vendor_app(sandbox, db)
    wrong = vendor_check.xiaomi("com.example.clarion", "A" * 24)
    await credentials.rotate(db, SEAL, app_no, "xiaomi", wrong)

    found = (await tried(db))["xiaomi"]

    assert (found.verdict, found.good) == (Verdict.REFUSED, False)
    assert found.said.startswith("xiaomi:")
    assert not any(row.blocked for row in await credentials.list_credentials(db))


async def test_a_provider_that_is_away(
    sandbox: Sandbox, db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answer is said to be none, soon."""
    monkeypatch.setattr(trial, "SECONDS", 1.5)
    await app_at(sandbox, db)
    await db.execute("update credential set endpoint = $1", f"https://127.0.0.1:{free_port()}")

    found = await tried(db)

    assert {(one.verdict, one.good) for one in found.values()} == {(Verdict.AWAY, False)}


async def test_every_provider_can_be_asked_for_the_time() -> None:
    """But Apple, who speaks HTTP/2 alone, and Web Push, which has no host of its own."""
    assert set(trial.HOSTS) == set(MAKERS) - {"apns", "webpush"}


async def test_a_wrong_clock_is_told(sandbox: Sandbox, db: Database) -> None:
    """By the provider's own Date, where it tells one."""

    async def dated(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        date = format_datetime(datetime.now(UTC), usegmt=True)
        writer.write(f"HTTP/1.1 404 Not Found\r\ndate: {date}\r\ncontent-length: 0\r\n\r\n".encode())
        await writer.drain()

    await vendor_app(sandbox, db)
    tls = sandbox.authority.server_context(["http/1.1"])
    async with await asyncio.start_server(dated, "127.0.0.1", 0, ssl=tls) as server:
        port = server.sockets[0].getsockname()[1]
        silent = next(row for row in await credentials.list_credentials(db) if row.name == "oppo")
        row = dataclasses.replace(silent, endpoint=f"https://127.0.0.1:{port}")
        right, wrong = await trial.clock_skew(row), await trial.clock_skew(row, Clock(wrong=3_600.0))

        assert right is not None
        assert abs(right) <= 2
        assert wrong is not None
        assert 3_598 <= wrong <= 3_602
        assert await trial.clock_skew(silent) is None


async def test_the_command(
    sandbox: Sandbox,
    databases: Databases,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A line for each credential, and exit code 1 as soon as one of them is no good."""
    url = await databases.migrated()
    monkeypatch.setenv("CLARION_DATABASE_URL", url)
    monkeypatch.setenv("CLARION_KEY", base64.b64encode(b"k" * 32).decode())
    db = await Database.connect(url)
    app_no, _ = await vendor_app(sandbox, db)

    good = await asyncio.to_thread(invoke, ["providers", "check"])
    await credentials.rotate(db, SEAL, app_no, "xiaomi", vendor_check.xiaomi("com.example.clarion", "A" * 24))
    capsys.readouterr()
    bad = await asyncio.to_thread(invoke, ["providers", "check", "shop", "--json"])
    found = {line["credential"]: line for line in json.loads(capsys.readouterr().out)}

    assert (good, bad) == (0, 1)
    assert (found["xiaomi"]["verdict"], found["oppo"]["verdict"]) == ("refused", "works")
    await db.close()
    await databases.drop(url)
