"""Fuzz targets: what people and apps hand over: files of devices, specs, starts by hand, addresses, keys."""

from __future__ import annotations

import ipaddress
import json
import re
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Literal

from temporalio.api.common.v1 import Payload
from temporalio.exceptions import ApplicationError

from clarion.errors import BadCredential, BadInput, BadRegistration, BadSpec
from clarion.limits import TOKEN_BYTES
from clarion.model.command import CancelInput, EditMessageInput, ExtendDeadlineInput, PauseInput, SetPaceInput
from clarion.model.spec import CampaignSpec, PushSpec
from clarion.model.topic import TopicChange, TopicSend
from clarion.senders import webpush
from clarion.senders.endpoint import Gatekeeper
from clarion.senders.sender import Unsendable
from clarion.store import address, credential_check, device_import, vendor_check
from clarion.store.credentials import CredentialRow
from clarion.store.intake import Intake, Row
from clarion.store.zones import Zones
from starters.spec_file import read_message, read_spec
from tests.support import keys
from tests.support.fuzzing import Target, json_edit, line_edit
from workflows.batch import BatchInput
from workflows.payloads import Forgiving
from workflows.start import read_batch, read_start, read_topic, read_words

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)

# ── files of devices ──────────────────────────────────────────────────────────────────────────────────


def lane(number: int, provider: str) -> CredentialRow:
    """A credential of an app as a list shows it."""
    return CredentialRow(
        1, "demo", number, provider, provider, None, None, None, {}, 1.0, 1, False, False, 0, None, NOW, NOW
    )


def intake() -> Intake:
    """An app with three lanes."""
    lanes = [lane(1, "apns"), lane(2, "fcm"), lane(3, "webpush")]
    return Intake(1, lanes, (), Zones(["Asia/Kolkata", "Etc/UTC"]), now=NOW)


def imported(format: Literal["jsonl", "csv"]) -> Callable[[bytes], object]:
    """Every line is a row that can be stored, or has its number and a reason; the rest goes on."""

    def check(data: bytes) -> None:
        reading: Any = device_import._Import(None, None, intake(), lambda line, reason: None, 1.0)  # type: ignore[arg-type]
        try:
            lines = device_import._lines(BytesIO(data), format, reading.report)
            pieces = list(iter(lambda: reading.read(lines), None))
        except BadInput as error:
            assert format == "csv"
            assert "columns" in str(error)
            return
        seen = 0
        for piece in pieces:
            assert len(piece.rows) + len(piece.rejected) == piece.lines
            for number, row in piece.rows:
                assert number > 0
                _check_row(row)
            for number, reason in piece.rejected:
                assert number > 0
                assert 0 < len(reason) < 400
            seen += piece.lines
        if format == "jsonl":
            assert seen == sum(1 for line in _whole_lines(data) if line.strip())

    return check


def _whole_lines(data: bytes) -> list[bytes]:
    return data.removeprefix(b"\xef\xbb\xbf").split(b"\n")


def _check_row(row: Row) -> None:
    assert 1 <= len(row.user_id) <= 256
    assert row.token.isascii()
    assert row.token.isprintable()
    for text in row[:13]:
        assert not isinstance(text, str) or "\x00" not in text
        assert not isinstance(text, str) or text.encode() is not None
    if row.profile is not None:
        json.dumps(row.profile)
    if row.seen is not None:
        assert row.seen <= NOW
        row.seen.astimezone(UTC)  # as the driver does


# ── specs ─────────────────────────────────────────────────────────────────────────────────────────────


@cache
def _spec_file() -> Path:
    return Path(tempfile.mkdtemp(prefix="clarion-fuzz-"), "spec.yaml")


def spec_read(data: bytes) -> None:
    """A campaign, a push and a message, or BadSpec in words that a person can act on."""
    path = _spec_file()
    path.write_bytes(data)
    for read in (
        lambda: read_spec(path, CampaignSpec),
        lambda: read_spec(path, PushSpec),
        lambda: read_message(path),
    ):
        try:
            found: Any = read()
        except BadSpec as error:
            assert str(path) in str(error)
            assert len(str(error)) < 20_000
            continue
        again = type(found).model_validate_json(found.model_dump_json(exclude_unset=True))
        assert again == found, "what was read does not travel"


# ── starts and words by hand ──────────────────────────────────────────────────────────────────────────


def start_read(data: bytes) -> None:
    """Whatever a start or an update carries: a value, or a failure with words for who asked."""
    encoding, _, body = data.partition(b"\n")
    payload = Payload(metadata={"encoding": encoding}, data=body)
    value = Forgiving().from_payloads([payload])[0]
    _refused_or(lambda: read_start(PushSpec, "push/", "push/spring", [value]))
    _refused_or(lambda: read_start(CampaignSpec, "campaign/", "campaign/spring", [value]))
    _refused_or(lambda: read_topic(TopicSend, "topic/x", [value]))
    _refused_or(lambda: read_topic(TopicChange, "topic/x", [value]))
    _refused_or(lambda: read_batch(BatchInput, [value]))
    words: tuple[tuple[Any, str], ...] = (
        (PauseInput, "reason"), (CancelInput, "mode"), (SetPaceInput, "pace"),
        (EditMessageInput, "message"), (ExtendDeadlineInput, "deadline"),
    )  # fmt: skip
    for kind, short in words:
        _refused_or(lambda kind=kind, short=short: read_words(kind, value, short=short))  # type: ignore[misc]


def _refused_or(read: Callable[[], Any]) -> None:
    try:
        read()
    except ApplicationError as error:
        assert error.non_retryable
        assert 0 < len(error.message) < 4_000


# ── addresses ─────────────────────────────────────────────────────────────────────────────────────────


def address_read(data: bytes) -> None:
    """A normal form that is its own, fits, and leads a sender to a host and a path; or BadRegistration."""
    provider, _, text = data.decode("utf-8", "surrogateescape").partition("\n")
    if provider == "subscription":
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            return
        if isinstance(value, dict):
            _normal("webpush", lambda: address.from_subscription(value))
    else:
        _normal(provider, lambda: address.normalise(provider, text))
    try:
        webpush._parts(text)
    except Unsendable as error:
        assert len(str(error)) < 60


def _normal(provider: str, read: Callable[[], str]) -> None:
    try:
        token = read()
    except BadRegistration as error:
        assert len(str(error)) < 300
        return
    assert 0 < len(token) <= TOKEN_BYTES
    assert token.isascii()
    assert token.isprintable()
    assert address.normalise(provider, token) == token
    if provider == "webpush":
        origin, path, point, secret = webpush._parts(token)
        assert origin.startswith("https://")
        assert path.startswith(b"/")
        assert (len(point), len(secret)) == (65, 16)


def host_judged(data: bytes) -> None:
    """An address that a name may have: let through or not, and never into a network of ours."""
    text = data.decode("ascii", "replace").strip()
    try:
        ip = ipaddress.ip_address(text.split("%", 1)[0])
    except ValueError:
        return
    mapped = ip.ipv4_mapped if isinstance(ip, ipaddress.IPv6Address) else None
    for one in (ip, mapped):
        if one is not None and (one.is_private or one.is_loopback or one.is_link_local or one.is_multicast):
            inner = ip.sixtofour if isinstance(ip, ipaddress.IPv6Address) else None
            assert inner is not None or int(ip) >> 32 == 0x64FF9B << 64 or not Gatekeeper().allows(text)
    Gatekeeper(("10.0.0.0/8", "fd00::/8")).allows(text)


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────────

SECRET = re.compile(rb"[A-Za-z0-9+/=_-]{12,}")
FIELD = re.compile(rb"[a-z_]+")  # the name of a field, which may be said


def key_read(data: bytes) -> None:
    """A credential, or BadCredential; and not one byte of a key in its words."""
    provider, _, body = data.partition(b"\n")
    for read in _readers(provider.decode("latin-1"), body):
        try:
            checked = read()
        except BadCredential as error:
            _check_silence(str(error).encode(), body)
        else:
            assert "PRIVATE" not in repr(checked)
            json.dumps(checked.secret)


def _readers(provider: str, body: bytes) -> list[Callable[[], credential_check.Checked]]:
    text = body.decode("utf-8", "surrogateescape")
    if provider == "apns":
        token = {"key_id": "ABC123DEFG", "team_id": "TEAM456789"}
        return [
            lambda: credential_check.apns_token(body, **token),
            lambda: credential_check.apns_certificate(body),
        ]
    if provider == "p12":
        return [lambda: credential_check.apns_certificate(body, password="secret")]
    if provider == "fcm":
        return [lambda: credential_check.fcm(body)]
    if provider == "webpush":
        return [lambda: credential_check.webpush(subject="mailto:a@example.com", private_key=text)]
    if provider == "subject":
        return [lambda: credential_check.webpush(subject=text)]
    if provider in vendor_check.CHECKS:
        return [lambda: vendor_check.from_file(provider, body)]
    return []


def _check_silence(words: bytes, body: bytes) -> None:
    for found in SECRET.finditer(body):
        run = found[0]
        pieces = {run[at : at + 12] for at in range(len(run) - 11)}
        shown = [piece for piece in pieces if piece in words and not FIELD.fullmatch(piece)]
        assert not shown, "the words hold a piece of what was given"


def _made_keys() -> list[bytes]:
    pem, account = keys.pem(keys.ec_key()).encode(), json.dumps(keys.service_account()).encode()
    certificate = keys.certificate_pem(keys.certificate()).encode()
    huawei = {"project_id": "388", "key_id": "k", "private_key": keys.pem(keys.rsa_key()), "sub_account": "1"}
    return [
        b"apns\n" + pem,
        b"apns\n" + pem.replace(b"\n", b"\\n"),
        b"apns\n" + certificate + pem,
        b"p12\n" + keys.p12(keys.certificate(), "secret"),
        b"webpush\n" + pem,
        b"fcm\n" + account,
        b"hms\n" + json.dumps(huawei).encode(),
    ]


TARGETS = (
    Target("import-jsonl", imported("jsonl"), (line_edit,)),
    Target("import-csv", imported("csv")),
    Target("spec", spec_read, (json_edit,)),
    Target("start", start_read, (json_edit,)),
    Target("address", address_read, (json_edit,)),
    Target("host", host_judged),
    Target("key", key_read, (json_edit,), _made_keys),
)
