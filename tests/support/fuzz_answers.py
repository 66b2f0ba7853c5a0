"""Fuzz targets: what providers answer to a push, to a request for a token, and later in receipts.

An answer in the corpus is written as it comes: its status, headers, an empty line, the body. `SUCCESS` says
in its own words, provider by provider, what a yes is: nothing else may be booked as accepted.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlencode

import httpx

from clarion.clock import SYSTEM_CLOCK
from clarion.errors import SenderError
from clarion.senders import (
    apns_answers,
    fcm_answers,
    feedback,
    getui_answers,
    hms_answers,
    honor_answers,
    jpush_answers,
    meizu_answers,
    oppo_answers,
    receipts,
    tokens,
    umeng_answers,
    vendor_tokens,
    vivo_answers,
    webpush_answers,
    xiaomi_answers,
)
from clarion.senders.answers import Classifier
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind
from clarion.store.ledger import Outcomes
from tests.support.fuzzing import Target, changed_json, json_edit

REASON = re.compile(r"[a-z]+:[A-Za-z0-9_ -]{1,80}")
STATUSES = (100, 200, 200, 201, 202, 204, 301, 400, 401, 403, 404, 408, 410, 413, 429, 500, 502, 503, 599)
Answer = tuple[int, dict[bytes, bytes], bytes]
Read = Callable[[Answer], tuple[Outcome, Mapping[str, Outcome]]]


def parse(data: bytes) -> Answer:
    """Status, headers and body as the corpus has them."""
    head, _, body = data.partition(b"\n\n")
    first, *lines = head.split(b"\n")
    words = first.strip()
    status = int(words) if re.fullmatch(rb"[1-5][0-9]{2}", words) else 200
    headers = dict(line.partition(b": ")[::2] for line in lines if b": " in line)
    return status, {name.lower(): value for name, value in headers.items()}, body


def status_edit(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
    """Another status, or a header."""
    first, gap, rest = data.partition(b"\n")
    if chance.random() < 0.7:
        return str(chance.choice(STATUSES)).encode() + gap + rest
    seconds = (
        b"-1",
        b"0",
        b"1e9",
        b"9" * 300,
        "²".encode(),
        b"Wed, 21 Oct 9999 07:28:00 -2359",
        b"\xff",
        b"soon",
    )
    return first + b"\nretry-after: " + chance.choice(seconds) + gap + rest


# ── a yes in the words of the sheets ──────────────────────────────────────────────────────────────────


def _said(body: bytes) -> dict[str, Any]:
    value = json.loads(body)
    return value if isinstance(value, dict) else {}


def _hms_yes(said: dict[str, Any]) -> bool:
    return str(said.get("code")) in ("80000000", "80100000")


def _honor_yes(said: dict[str, Any]) -> bool:
    data = said["data"]
    yes = data.get("sendResult") is True or (data.get("sendResult") is None and bool(data.get("requestId")))
    return str(said["code"]) in ("0", "200", "12200000", "80000000") and yes


def _jpush_yes(said: dict[str, Any]) -> bool:
    number = said.get("msg_id")
    return (
        said.get("error") is None
        and isinstance(number, str | int)
        and type(number) is not bool
        and number != ""
    )


def _umeng_yes(said: dict[str, Any]) -> bool:
    names = said["data"].get("msg_id"), said["data"].get("task_id")
    return said["ret"] == "SUCCESS" and any(isinstance(name, str) and name for name in names)


def _fcm_yes(said: dict[str, Any]) -> bool:
    return isinstance(said["name"], str) and "/messages/" in said["name"]


SUCCESS: dict[str, Callable[[dict[str, Any]], bool]] = {
    "fcm": _fcm_yes,
    "hms": _hms_yes,
    "honor": _honor_yes,
    "xiaomi": lambda said: said["code"] == 0 and said["result"] == "ok",
    "oppo": lambda said: said["code"] == 0,
    "vivo": lambda said: said["result"] == 0,
    "jpush": _jpush_yes,
    "getui": lambda said: said["code"] == 0 and isinstance(said["data"], dict),
    "umeng": _umeng_yes,
    "meizu": lambda said: str(said["code"]) == "200",
}


def is_yes(provider: str, status: int, body: bytes) -> bool:
    """Whether the provider has said yes."""
    if provider == "webpush":
        return 200 <= status < 300
    if provider == "apns":
        return status == 200 and not body
    return status == 200 and SUCCESS[provider](_said(body))


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────


def answers(provider: str, read: Read) -> Target:
    """Any bytes are one classified outcome, and a yes only if the provider said so."""

    def check(data: bytes) -> None:
        answer = parse(data)
        whole, others = read(answer)
        written = Outcomes(datetime.now(UTC))
        for seq, (token, outcome) in enumerate([("", whole), *others.items()]):
            assert isinstance(token, str)
            _check_outcome(outcome)
            written.add(seq, int(outcome.kind), 1, outcome.retry_after)
            if outcome.retire:
                written.retire(seq, outcome.dead_since)
        written.pack()
        if ACCEPTED in (whole, *others.values()):
            assert is_yes(provider, answer[0], answer[2]), "booked as accepted, and nobody said so"

    return Target(f"answers-{provider}", check, (json_edit, json_edit, status_edit))


def _check_outcome(outcome: Outcome) -> None:
    assert isinstance(outcome, Outcome)
    assert isinstance(outcome.kind, OutcomeKind)
    assert bool(outcome.reason) == (outcome.kind is not OutcomeKind.ACCEPTED)
    assert not outcome.reason or REASON.fullmatch(outcome.reason), f"no name for a reason: {outcome.reason!r}"
    assert 0 <= outcome.retry_after <= 86_400 * 2
    assert math.isfinite(outcome.retry_after)
    assert not (outcome.retire and outcome.kind is not OutcomeKind.REJECTED)


def _plain(read: Callable[[int, bytes], Outcome]) -> Read:
    classify = Classifier(read, SYSTEM_CLOCK)

    def classified(answer: Answer) -> tuple[Outcome, Mapping[str, Outcome]]:
        status, headers, body = answer
        assert classify(status, headers, body) == classify(status, headers, body) or b"retry-after" in headers
        return classify(status, headers, body), {}

    return classified


def _grouped(read: Callable[[int, bytes], tuple[Outcome, dict[str, Outcome]]]) -> Read:
    return lambda answer: read(answer[0], answer[2])


def _webpush(answer: Answer) -> tuple[Outcome, Mapping[str, Outcome]]:
    return webpush_answers.read(answer[0], answer[1], answer[2]), {}


def _both(read: Callable[..., Outcome]) -> Read:
    """For one that is alone, and for a list: kinds of yes do not differ."""

    def twice(answer: Answer) -> tuple[Outcome, Mapping[str, Outcome]]:
        alone, many = (read(answer[0], answer[2], alone=alone) for alone in (True, False))
        assert (alone is ACCEPTED) == (many is ACCEPTED)
        return many, {"alone": alone}

    return twice


def _getui(answer: Answer) -> tuple[Outcome, Mapping[str, Outcome]]:
    alone, _ = getui_answers.read(answer[0], answer[2], alone=True)
    many, others = getui_answers.read(answer[0], answer[2], alone=False)
    assert (alone is ACCEPTED) == (many is ACCEPTED)
    return many, {"alone": alone, **others}


def _vivo(answer: Answer) -> tuple[Outcome, Mapping[str, Outcome]]:
    task = vivo_answers.read_task(answer[0], answer[2])
    assert task != ""
    if isinstance(task, Outcome):
        assert task is not ACCEPTED
        _check_outcome(task)
    return vivo_answers.read(answer[0], answer[2])


def _umeng(answer: Answer) -> tuple[Outcome, Mapping[str, Outcome]]:
    assert umeng_answers.file_id(answer[0], answer[2]) != ""
    return _both(umeng_answers.read)(answer)


# ── tokens ────────────────────────────────────────────────────────────────────────────────────────────


def minted(provider: str, read: Callable[[int, bytes], tuple[str, float] | str | None]) -> Target:
    """A token with a lifetime that can be waited for, a refusal by its name, or nothing."""

    def check(data: bytes) -> None:
        status, _, body = parse(data)
        found = read(status, body)
        if isinstance(found, str):
            assert REASON.fullmatch(found), found
        elif found is not None:
            token, seconds = found
            assert isinstance(token, str)
            assert math.isfinite(seconds)
            assert 0 < seconds <= 10 * 365 * 86_400, "a lifetime that is none"

    return Target(f"tokens-{provider}", check, (json_edit, json_edit, status_edit))


def _google(status: int, body: bytes) -> tuple[str, float] | str | None:
    try:
        return tokens._access_token(httpx.Response(status, content=body))
    except SenderError as error:
        assert body.decode("latin-1")[:40] not in str(error) or len(body) < 8
        return None


# ── receipts ──────────────────────────────────────────────────────────────────────────────────────────


def told(vendor: str, read: Callable[[bytes], list[receipts.Receipt]], field: str | None) -> Target:
    """Receipts that make sense, or BadReceipts without a word of the body in it."""

    def check(data: bytes) -> None:
        try:
            found = read(data)
        except receipts.BadReceipts as error:
            assert len(str(error)) < 40
            return
        for one in found:
            assert one.token == one.token.strip() != ""
            assert REASON.fullmatch(one.code) or one.code == "xiaomi:replaceTarget", one.code
            assert one.at is None or datetime.fromtimestamp(one.at, UTC).year < 3000, "a time that is none"
            assert one.successor is None or one.successor

    def form_edit(chance: random.Random, data: bytes, corpus: Sequence[bytes]) -> bytes:
        try:
            value = parse_qs(data.decode("ascii"))[field or ""][-1].encode()
        except (ValueError, KeyError):
            return data
        return urlencode({field or "": changed_json(chance, value), "more": "x"}).encode()

    return Target(f"receipts-{vendor}", check, (form_edit,) if field else (json_edit,))


def asked(vendor: str, name: str) -> Target:
    """What it tells of ended registrations: texts that fit into a row, whatever came."""

    def check(data: bytes) -> None:
        for token in feedback.listed(data, name):
            assert isinstance(token, str)
            assert 0 < len(token) <= feedback.MOST

    return Target(f"feedback-{vendor}", check, (json_edit,))


TARGETS = (
    asked("xiaomi", "list"),
    asked("oppo", "registration_ids"),
    answers("apns", _plain(apns_answers.read)),
    answers("fcm", _plain(fcm_answers.read)),
    answers("webpush", _webpush),
    answers("hms", _grouped(hms_answers.read)),
    answers("honor", _grouped(honor_answers.read)),
    answers("xiaomi", _grouped(xiaomi_answers.read)),
    answers("oppo", _grouped(oppo_answers.read)),
    answers("vivo", _vivo),
    answers("jpush", _both(jpush_answers.read)),
    answers("getui", _getui),
    answers("umeng", _umeng),
    answers("meizu", _grouped(meizu_answers.read)),
    minted("fcm", _google),
    minted("hms", hms_answers.token_answer),
    minted("honor", honor_answers.token_answer),
    minted("oppo", vendor_tokens._oppo_token),
    minted("vivo", vendor_tokens._vivo_token),
    minted("getui", lambda status, body: getui_answers.token_answer(status, body, 1_700_000_000.0)),
    told("hms", receipts.hms, None),
    told("honor", receipts.honor, None),
    told("oppo", receipts.oppo, None),
    told("vivo", receipts.vivo, None),
    told("xiaomi", receipts.xiaomi, "data"),
    told("meizu", receipts.meizu, "cb"),
)
