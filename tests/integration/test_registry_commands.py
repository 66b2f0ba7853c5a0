"""`clarion apps | credentials | devices | users | workers` on a real database."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from clarion.seal import Seal
from starters.cli import invoke
from tests.support import keys


class Shell:
    """Runs command lines and keeps what they printed."""

    def __init__(self, capture: pytest.CaptureFixture[str], files: Path) -> None:
        self._capture, self.files = capture, files

    def __call__(self, *words: str | Path, code: int = 0) -> str:
        """Run one and check its exit code; everything it printed."""
        got = invoke([str(word) for word in words])
        printed = self._capture.readouterr()
        assert got == code, printed.err
        return printed.out + printed.err

    def json(self, *words: str) -> Any:
        """What a command prints for programs."""
        return json.loads(self(*words, "--json"))

    def file(self, name: str, content: str) -> Path:
        """A file to give to a command."""
        path = self.files / name
        path.write_text(content)
        return path


@pytest.fixture
def shell(
    database_url: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> Shell:
    """A shell whose environment says where the database and the key are."""
    monkeypatch.setenv("CLARION_DATABASE_URL", database_url)
    monkeypatch.setenv("CLARION_KEY", Seal.new_key())
    monkeypatch.setenv("COLUMNS", "300")
    return Shell(capsys, tmp_path)


@pytest.fixture
def stocked(shell: Shell) -> Shell:
    """The same with the app `demo` and its three credentials."""
    shell("apps", "create", "demo")
    p8 = shell.file("key.p8", keys.pem(keys.ec_key()))
    ids = ("--key-id", keys.KEY_ID, "--team-id", keys.TEAM_ID)
    shell(
        "credentials",
        "add",
        "apns",
        "demo",
        "--key",
        p8,
        *ids,
        "--topic",
        keys.TOPIC,
        "--environment",
        "sandbox",
    )
    account = shell.file("account.json", json.dumps(keys.service_account()))
    shell("credentials", "add", "fcm", "demo", account, "--ceiling", "500")
    shell(
        "credentials",
        "add",
        "webpush",
        "demo",
        "--subject",
        "mailto:ops@example.com",
        "--allow",
        "127.0.0.0/8",
    )
    return shell


def test_apps(shell: Shell) -> None:
    """Created once, listed, refused the second time in one line."""
    assert "no apps yet" in shell("apps", "list")
    assert "demo created" in shell("apps", "create", "demo")
    assert "already" in shell("apps", "create", "demo", code=1)
    assert [app["name"] for app in shell.json("apps", "list")] == ["demo"]
    assert "no app named 'nope'" in shell("credentials", "list", "nope", code=1)


def test_credentials_are_listed_without_secrets(stocked: Shell) -> None:
    """Table and JSON say how each is doing, and hold no key."""
    rows = stocked.json("credentials", "list", "demo")
    table = stocked("credentials", "list")

    assert [(row["name"], row["lane"], row["provider"]) for row in rows] == [
        ("apns-sandbox", 1, "apns"),
        ("fcm", 2, "fcm"),
        ("webpush", 3, "webpush"),
    ]
    assert (rows[0]["ceiling"], rows[1]["ceiling"]) == (None, 500.0)
    assert rows[2]["settings"]["allow"] == ["127.0.0.0/8"]
    assert "unlimited" in table
    assert "open" in table
    assert "PRIVATE" not in table + json.dumps(rows)


def test_a_bad_key_says_what_to_do(stocked: Shell) -> None:
    """C42, C22: one line names the mistake, and nothing of the key is printed."""
    broken = stocked.file("broken.p8", keys.pem(keys.ec_key())[:80])
    ids = ("--key-id", keys.KEY_ID, "--team-id", keys.TEAM_ID, "--topic", "x", "--environment", "production")
    said = stocked("credentials", "add", "apns", "demo", "--key", broken, *ids, code=1)
    account = stocked.file("a.json", json.dumps(keys.service_account(client_email="")))
    contact = ("--subject", "mailto:ops@localhost")

    assert "the .p8 key cannot be read" in said
    assert broken.read_text().splitlines()[1][:20] not in said
    assert "lacks the field client_email" in stocked("credentials", "add", "fcm", "demo", account, code=1)
    assert "Apple refuses" in stocked("credentials", "add", "webpush", "demo", *contact, code=1)
    assert "give either --key" in stocked("credentials", "add", "apns", "demo", code=1)
    assert "cannot be read: No such file" in stocked("credentials", "add", "fcm", "demo", "/none", code=1)


def test_a_vendors_secret_is_a_file(shell: Shell) -> None:
    """Added and rotated from a JSON file; what is missing, strange or another app's is named."""
    shell("apps", "create", "vendors")

    def file(**values: str) -> Path:
        return shell.file("hms.json", json.dumps(values))

    good = file(app_id="100000001", client_secret="s3cret")
    assert "hms is lane 1" in shell("credentials", "add", "hms", "vendors", good)
    rotated = shell("credentials", "rotate", "hms", "vendors", "hms", good)
    (row,) = shell.json("credentials", "list", "vendors")
    lacks = shell("credentials", "add", "hms", "vendors", file(app_id="1"), code=1)
    strange = shell.file("s.json", json.dumps({"app_id": "1", "client_secret": "s3cret", "api_key": "k"}))
    other = shell.file("o.json", json.dumps({"app_id": "2", "client_secret": "s3cret"}))

    assert "version 2" in rotated
    assert (row["provider"], row["topic"]) == ("hms", "100000001")
    assert "s3cret" not in json.dumps(row)
    assert "lacks client_secret" in lacks
    assert "not api_key" in shell("credentials", "add", "hms", "vendors", strange, code=1)
    assert "of another app" in shell("credentials", "rotate", "hms", "vendors", "hms", other, code=1)


def test_a_certificate_needs_no_place(stocked: Shell) -> None:
    """The .p12 says topic and environment itself; its password comes from the environment or an option."""
    path = stocked.files / "push.p12"
    path.write_bytes(keys.p12(keys.certificate(), "pass word"))
    said = stocked("credentials", "add", "apns", "demo", "--certificate", path, "--password", "pass word")

    assert "apns-production is lane 4 of demo" in said


def test_rotating(stocked: Shell) -> None:
    """APNs and FCM in place; a new Web Push key is a lane of its own in front of the old one."""
    account = stocked.file("new.json", json.dumps(keys.service_account(private_key_id="other")))
    stranger = stocked.file("other.json", json.dumps(keys.service_account(project_id="other")))
    p8 = ("--key", stocked.files / "key.p8", "--key-id", "NEWKEY1234", "--team-id", keys.TEAM_ID)
    subject = ("--subject", "mailto:ops@example.com")

    assert "version 2" in stocked("credentials", "rotate", "apns", "demo", "apns-sandbox", *p8)
    assert "version 2" in stocked("credentials", "rotate", "fcm", "demo", "fcm", account)
    assert "another project" in stocked("credentials", "rotate", "fcm", "demo", "fcm", stranger, code=1)
    said = stocked("credentials", "rotate", "webpush", "demo", "webpush", *subject, "--new-name", "web2")
    assert "web2 is lane 4" in said
    assert stocked.json("apps", "list")[0]["lane_order"] == [1, 2, 4, 3]
    assert "was not blocked" in stocked("credentials", "unblock", "demo", "fcm")
    assert "0 registrations" in stocked("credentials", "withdraw", "demo", "webpush", "--yes")
    assert "was withdrawn" in stocked("credentials", "unblock", "demo", "webpush", code=1)
    assert "0 sealed again" in stocked("credentials", "reseal")


def test_the_order_of_lanes(stocked: Shell) -> None:
    """Which credential reaches a phone first is said by names."""
    stocked("apps", "order", "demo", "webpush", "apns-sandbox", "fcm")

    assert stocked.json("apps", "list")[0]["lane_order"] == [3, 1, 2]


def test_importing(stocked: Shell) -> None:
    """A file's counts, its rejected lines in a file of their own, and an exit code that a script notices."""
    good = [{"user_id": f"{n:05d}", "platform": "ios", "token": f"{n:04x}"} for n in range(20)]
    path = stocked.file("d.jsonl", "\n".join(map(json.dumps, [*good, good[3], {"user_id": "x"}])))
    rejected = stocked.files / "rejected.jsonl"
    said = stocked("devices", "import", "demo", path, "--rejected", rejected, code=1)

    assert "22 lines" in said
    assert "line 22: provider is missing" in said
    assert json.loads(rejected.read_text())["line"] == 22
    path.write_text("\n".join(map(json.dumps, good)))
    assert stocked.json("devices", "import", "demo", str(path))["updated"] == 20
    assert "there is no file" in stocked("devices", "import", "demo", "/none", code=1)
    assert "must be jsonl or csv" in stocked("devices", "import", "demo", path, "--format", "xml", code=1)


def test_registering_and_listing(stocked: Shell) -> None:
    """One device by JSON; the list shows it without its token."""
    device = json.dumps({"user_id": "00123", "platform": "ios", "token": "AB" * 32, "locale": "zh_TW"})

    assert "made" in stocked("devices", "register", "demo", device)
    assert "updated" in stocked("devices", "register", "demo", device)
    (row,) = stocked.json("devices", "list", "demo", "--user", "00123")
    table = stocked("devices", "list", "demo", "--platform", "ios", "--active")
    assert (row["user_id"], row["status"], row["locale"]) == ("00123", "active", "zh-tw")
    assert row["fingerprint"] in table
    assert "abab" not in json.dumps(row) + table
    assert "no devices" in stocked("devices", "list", "demo", "--platform", "web")
    assert "not JSON" in stocked("devices", "register", "demo", "{", code=1)
    assert "must be a JSON object" in stocked("devices", "register", "demo", "[]", code=1)


def test_users(stocked: Shell) -> None:
    """A user's choices are said and shown; forgetting leaves nothing to show."""
    device = {"user_id": "u1", "platform": "ios", "token": "aa", "tags": ["vip"]}
    stocked("devices", "register", "demo", json.dumps(device))

    assert "marketing, social" in stocked("users", "opt-out", "demo", "u1", "marketing", "social")
    user = stocked.json("users", "show", "demo", "u1")
    assert (user["tags"], user["opted_out"]) == (["vip"], ["marketing", "social"])
    assert "all kinds are sent" in stocked("users", "opt-out", "demo", "u1")
    assert "vip" in stocked("users", "show", "demo", "u1")
    assert "kinds of campaigns are" in stocked("users", "opt-out", "demo", "u1", "spam", code=1)
    assert "forgotten" in stocked("users", "forget", "demo", "u1", "--yes")
    assert "no user of that id" in stocked("users", "show", "demo", "u1", code=1)


def test_workers(shell: Shell) -> None:
    """Nobody serves a queue yet, and the list says so."""
    assert "no worker is alive" in shell("workers", "list")
    assert shell.json("workers", "list", "--all") == []


@pytest.mark.parametrize("noun", ["apps", "credentials", "devices", "users", "workers"])
def test_every_noun_explains_itself(shell: Shell, noun: str) -> None:
    """--help works without looking for a stack."""
    assert "Usage" in shell(noun, "--help")
