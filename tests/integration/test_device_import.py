"""Importing files of devices: every line is counted once, and one bad line spoils nothing."""

from __future__ import annotations

import asyncio
import csv
import io
import json
import random
import resource
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from clarion.errors import BadInput
from clarion.seal import Seal
from clarion.store import device_import, devices
from clarion.store.apps import App
from clarion.store.database import Database
from clarion.store.device_import import ImportReport, import_devices
from starters.devices import _pace
from tests.support import keys
from tests.support.keys import stocked_app


@pytest.fixture
async def app(db: Database) -> App:
    """The app `demo` with three credentials."""
    return await stocked_app(db, Seal.load(Seal.new_key()))


def phone(n: int, **more: Any) -> dict[str, Any]:
    """A line about iPhone n."""
    return {"user_id": f"u{n}", "platform": "ios", "token": f"{n:064x}"} | more


def jsonl(lines: Iterable[dict[str, Any] | str]) -> io.BytesIO:
    """A file of JSON lines; texts stand as they are."""
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    return io.BytesIO("".join(text + "\n" for text in texts).encode())


def counted(report: ImportReport) -> tuple[int, int, int, int]:
    """Inserted, updated, duplicate, rejected; and their sum is the lines."""
    counts = (report.inserted, report.updated, report.duplicate, report.rejected)
    assert sum(counts) == report.lines
    return counts


async def tokens(db: Database) -> set[tuple[str, str]]:
    """Users and their tokens."""
    rows = await db.fetch("select user_id, token from registration join usr using (user_no) where status = 1")
    return {(row["user_id"], row["token"]) for row in rows}


async def test_a_hundred_lines(db: Database, app: App) -> None:
    """C44: a token on lines 2 and 90, line 50 is bad: the later line's device stays, and all are counted."""
    lines: list[dict[str, Any] | str] = [phone(n) for n in range(1, 101)]
    lines[89] = phone(2, user_id="late")
    lines[49] = '{"user_id": '
    report = await import_devices(db, app, jsonl(lines))

    assert counted(report) == (98, 0, 1, 1)
    assert report.shown == [(50, "the line is not JSON")]
    stored = await tokens(db)
    assert len(stored) == 98
    assert ("late", f"{2:064x}") in stored
    assert ("u2", f"{2:064x}") not in stored


async def test_ids_stay_as_typed(db: Database, app: App) -> None:
    """C44: 00123, 1E5 and twenty digits come back as they were written, from both formats."""
    ids = ["00123", "1E5", "12345678901234567890"]
    table = io.StringIO()
    csv.writer(table).writerows(
        [["user_id", "platform", "token"], *([one, "ios", f"c{n}"] for n, one in enumerate(ids))]
    )
    await import_devices(db, app, io.BytesIO(table.getvalue().encode()), format="csv")
    await import_devices(db, app, jsonl(phone(n, user_id=one) for n, one in enumerate(ids)))

    assert {user for user, _ in await tokens(db)} == set(ids)


async def test_the_place_of_a_repeat_does_not_matter(
    db: Database, app: App, monkeypatch: pytest.MonkeyPatch
) -> None:
    """C44: the rule is the file's, not the piece's: pieces of 7 lines and of 1,000 give the same counts."""
    lines = [phone(n % 20, installation=f"phone {n % 25}") for n in range(60)]
    results = []
    for size in (7, 1_000):
        monkeypatch.setattr(device_import, "PIECE", size)
        await db.execute("truncate usr, device, registration")
        report = await import_devices(db, app, jsonl(lines))
        results.append((report.lines, report.rejected, await tokens(db)))

    assert results[0] == results[1]
    assert len(results[0][2]) == 20


async def test_a_file_may_be_given_again(db: Database, app: App) -> None:
    """The second time everything is an update, and nothing is there twice."""
    lines = [phone(n) for n in range(50)]
    first = await import_devices(db, app, jsonl(lines))
    second = await import_devices(db, app, jsonl(lines))

    assert counted(first) == (50, 0, 0, 0)
    assert counted(second) == (0, 50, 0, 0)


async def test_every_kind_of_bad_line(db: Database, app: App) -> None:
    """Each is rejected with its number and reason, and the good one behind them is stored."""
    bad: list[tuple[dict[str, Any] | str, str]] = [
        ("[1]", "not a JSON object"),
        ("null", "not a JSON object"),
        ('"x', "not JSON"),
        (phone(1, user_id=None), "user_id must be a text"),
        (phone(1, user_id="a\x00b"), "user_id must be a text"),
        (phone(1, token="x"), "hexadecimal"),
        (phone(1, platform="beos"), "platform must be one of"),
        (phone(1, attributes={"x": "\x00"}), "NUL"),
        (phone(1, provider="hms"), "no credential for 'hms'"),
        (phone(1, token="0a" * 50_000), "longer than"),
        ('{"user_id": "' + "x" * 300_000 + '"}', "longer than 262144"),
    ]
    seen: list[tuple[int, str]] = []
    report = await import_devices(
        db,
        app,
        jsonl([*(line for line, _ in bad), "", phone(2)]),
        on_rejected=lambda number, reason: seen.append((number, reason)),
    )

    assert counted(report) == (1, 0, 0, len(bad))
    assert seen == report.shown
    for (_, words), (number, reason), place in zip(bad, seen, range(1, 100), strict=False):
        assert number == place
        assert words in reason


async def test_what_only_the_database_refuses(db: Database, app: App) -> None:
    """A line that a check of ours let through is found among its neighbours; they are stored."""
    await db.execute("alter table usr add constraint odd check (user_id <> 'u13')")
    report = await import_devices(db, app, jsonl(phone(n) for n in range(40)))

    assert counted(report) == (39, 0, 0, 1)
    assert report.shown == [(14, "the database refuses it: CheckViolationError")]


async def test_zones_refuse_nobody(db: Database, app: App) -> None:
    """C47: old names get their present one, bad ones are stored as none and counted."""
    names = ["Asia/Calcutta", "US/Pacific", "asia/tokyo", "UTC+3", "", "Mars/Base"]
    report = await import_devices(
        db, app, jsonl(phone(n, zone=z, installation=f"p{n}") for n, z in enumerate(names))
    )

    assert counted(report) == (6, 0, 0, 0)
    assert report.bad_zones == 2
    zones = await db.fetchval(
        "select array_agg(d.zone order by user_id) from device d join usr using (user_no)"
    )
    assert zones == ["Asia/Kolkata", "America/Los_Angeles", "Asia/Tokyo", None, None, None]


async def test_postgresql_computes_with_every_stored_zone(db: Database, app: App) -> None:
    """C47: whatever zone passes, a freeze can ask PostgreSQL for its time."""
    from zoneinfo import available_timezones

    names = sorted(available_timezones())
    await import_devices(db, app, jsonl(phone(n, zone=z, installation=f"p{n}") for n, z in enumerate(names)))
    stored = await db.fetchval("select count(*) from device where zone is not null")

    assert stored > 400
    assert (
        await db.fetchval(
            "select count(timestamp '2026-11-25 09:00' at time zone zone) from device where zone is not null"
        )
        == stored
    )


async def test_csv_as_spreadsheets_write_it(db: Database, app: App) -> None:
    """A byte order mark, semicolons, quoted cells, columns that mean nothing, browsers in columns."""
    browser = keys.subscription(1)
    rows = [
        ["user_id", "platform", "token", "endpoint", "p256dh", "auth", "tags", "attributes.city", "remark"],
        ["007", "ios", "AA", "", "", "", "vip|beta", "Zürich; old town", "x"],
        [
            "008",
            "web",
            "",
            browser["endpoint"],
            browser["keys"]["p256dh"],
            browser["keys"]["auth"],
            "",
            "",
            "",
        ],
        ["009", "ios", "BB"],
    ]
    table = io.StringIO()
    csv.writer(table, delimiter=";").writerows(rows)
    content = b"\xef\xbb\xbf" + table.getvalue().encode() + b"010;ios;CC;;;;;\xff;\r\n\r\n"
    report = await import_devices(db, app, io.BytesIO(content), format="csv")

    assert counted(report) == (2, 0, 0, 2)
    assert report.ignored == {"remark"}
    assert report.shown == [
        (4, "the line has 3 columns, the header has 9"),
        (5, "the line is not UTF-8"),
    ]
    user = await db.fetchrow("select tags, attributes from usr where user_id = '007'")
    assert user is not None
    assert user["tags"] == ["beta", "vip"]
    assert user["attributes"] == {"city": "Zürich; old town"}
    assert ("007", "aa") in await tokens(db)


async def test_a_csv_without_names_is_no_import(db: Database, app: App) -> None:
    """The first line must say what the columns are."""
    with pytest.raises(BadInput, match="must name its columns"):
        await import_devices(db, app, io.BytesIO(b"u1,ios,aa\n"), format="csv")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", b"user_id,platform,token\nu1,ios,aa\n"),
        ("a.jsonl", b'{"user_id":"u1","platform":"ios","token":"aa"}\n'),
        ("a.txt", b"user_id\tplatform\ttoken\nu1\tios\taa"),
        ("a", b'\xef\xbb\xbf {"user_id":"u1","platform":"ios","token":"aa"}'),
    ],
)
async def test_the_format_is_told_by_name_or_content(
    db: Database, app: App, tmp_path: Path, name: str, content: bytes
) -> None:
    """Nobody should have to say what can be seen."""
    (tmp_path / name).write_bytes(content)

    assert counted(await import_devices(db, app, tmp_path / name)) == (1, 0, 0, 0)


async def test_an_empty_file_is_no_error(db: Database, app: App, tmp_path: Path) -> None:
    """Nothing in, nothing counted."""
    (tmp_path / "a.jsonl").touch()

    assert counted(await import_devices(db, app, tmp_path / "a.jsonl")) == (0, 0, 0, 0)


async def test_two_imports_of_the_same_devices_at_once(db: Database, app: App) -> None:
    """They wait for one another instead of failing: every device is there once."""
    lines = [phone(n) for n in range(3_000)]
    reports = await asyncio.gather(
        import_devices(db, app, jsonl(lines)), import_devices(db, app, jsonl(reversed(lines)))
    )

    for report in reports:
        assert counted(report)[3] == 0
    assert sum(report.inserted for report in reports) == 3_000
    assert len(await tokens(db)) == 3_000


async def test_memory_does_not_grow_with_the_file(db: Database, app: App, tmp_path: Path) -> None:
    """Ten times the lines, the same memory: bad lines and repeats are not collected either."""

    def write(count: int) -> Path:
        path = tmp_path / f"{count}.jsonl"
        with path.open("w") as file:
            for n in range(count):
                file.write(json.dumps(phone(n) if n % 3 else phone(n, token="xyz" * 30)) + "\n")
        return path

    await import_devices(db, app, write(15_000))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    report = await import_devices(db, app, write(60_000))
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    assert counted(report)[3] == 20_000
    assert len(report.shown) == device_import.SHOWN
    assert after - before < 8_000  # KB


async def everything(db: Database) -> list[tuple[Any, ...]]:
    """All that an import writes, but for numbers and moments."""
    rows = await db.fetch(
        "select r.lane, r.token, u.user_id, u.tags, u.attributes, o.user_id, d.installation, d.platform, "
        "d.app_version, d.version, d.model, d.locale, d.zone, r.kind, r.status, "
        "d.last_active < now() - interval '1 day', r.registered_at < now() - interval '1 day' "
        "from registration r join device d using (device_no) "
        "join usr u on u.user_no = r.user_no join usr o on o.user_no = d.user_no order by r.lane, r.token"
    )
    return [tuple(row) for row in rows]


def any_file(chance: random.Random) -> list[dict[str, Any]]:
    """60 lines from a small world, in which from file to file everything changes hands."""
    owner = {n: chance.randrange(30) for n in range(25)}
    tags = {n: [chance.choice("abc")] for n in range(30)}
    lines = []
    for _ in range(60):
        place = chance.randrange(25)
        line = phone(chance.randrange(40), user_id=f"u{owner[place]}", installation=f"phone {place}")
        fields = {
            "kind": chance.choice(["alert", "voip"]),
            "app_version": f"{chance.randrange(1, 4)}.0",
            "zone": chance.choice(["Asia/Tokyo", "Europe/Oslo"]),
            "tags": tags[owner[place]],
            "attributes": {"n": owner[place]},
            "last_active": "2026-01-02T03:04:05Z",
        }
        lines.append(line | {name: value for name, value in fields.items() if chance.random() < 0.6})
    return lines


@pytest.mark.parametrize("seed", range(8))
async def test_the_fast_way_and_the_thorough_one_agree(
    db: Database, app: App, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Files in which phones change hands, tokens and names: what stands there after them is the same."""
    chance = random.Random(seed)
    files = [any_file(chance) for _ in range(4)]
    monkeypatch.setattr(device_import, "PIECE", 25)
    results = []
    for store in (devices.take_in, device_import._write):
        monkeypatch.setattr(device_import, "take_in", store)
        await db.execute("truncate usr, device, registration")
        counts = []
        for lines in [*files, files[-1]]:
            report = await import_devices(db, app, jsonl(lines))
            counts.append(report.lines - report.rejected)
            await db.execute(
                "update registration set status = 3, retired_at = now() - interval '1 h' where token ~ '7$'"
            )
        results.append((counts, await everything(db)))
    fast, thorough = results

    assert fast[1]
    assert fast[0] == thorough[0]
    for one, other in zip(fast[1], thorough[1], strict=True):
        assert one == other


async def test_how_far_it_is(db: Database, app: App, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a file with a size the share that is stored; of a stream nothing can be said."""
    monkeypatch.setattr(device_import, "PIECE", 1_000)
    content = jsonl(phone(n) for n in range(3_000))
    (tmp_path / "a.jsonl").write_bytes(content.getvalue())
    file: list[float | None] = []
    stream: list[float | None] = []
    await import_devices(db, app, tmp_path / "a.jsonl", on_progress=lambda report: file.append(report.share))
    await import_devices(db, app, content, on_progress=lambda report: stream.append(report.share))

    shares = [share for share in file if share is not None]
    assert len(shares) == 3
    assert shares == sorted(shares)
    assert 0.3 < shares[0] < 0.7
    assert shares[-1] == 1.0
    assert stream == [None] * 3
    report = ImportReport(lines=1_000, seconds=10.0, share=0.25)
    assert _pace(report) == "1,000 lines, 100/s, 25%, 0:00:30 left"


async def test_a_line_that_is_not_plain_is_left_with_its_phone(db: Database, app: App) -> None:
    """Among many plain ones: a phone that changed hands, one with a new token, one token that moved."""
    await import_devices(db, app, jsonl(phone(n, installation=f"p{n}") for n in range(50)))
    numbers = await db.fetch("select token, registration_no from registration")
    lines = [phone(n, installation=f"p{n}") for n in range(60)]
    lines[3] = phone(3, installation="p3", user_id="another")
    lines[4] = phone(1_004, user_id="u4", installation="p4")
    lines[5] = phone(5, installation="p1005")
    report = await import_devices(db, app, jsonl(lines))

    assert counted(report) == (10, 50, 0, 0)
    stored = await tokens(db)
    assert ("another", f"{3:064x}") in stored
    assert ("u3", f"{3:064x}") not in stored
    assert ("u4", f"{1_004:064x}") in stored
    now = await db.fetch("select token, registration_no from registration")
    changed = {tuple(row) for row in numbers} - {tuple(row) for row in now}
    assert {token for token, _ in changed} == {f"{4:064x}"}
