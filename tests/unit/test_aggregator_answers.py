"""The aggregators' classify tables, code by code as the sheets have them, and answers that are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.senders import jpush_answers
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind

READERS: dict[str, Callable[[int, bytes], Outcome]] = {
    "jpush": partial(jpush_answers.read, alone=False),
}
TABLES: dict[str, Mapping[Any, Outcome]] = {
    "jpush": jpush_answers.TABLE,
}

# The columns of the sheets in our words: kind, maybe, retire, suspect, whether it is an attempt.
MEANINGS = {
    "busy": (OutcomeKind.THROTTLED, False, False, False, False),
    "server": (OutcomeKind.UNAVAILABLE, True, False, False, True),
    "config": (OutcomeKind.BLOCKED, False, False, False, True),
    "message": (OutcomeKind.REJECTED, False, False, True, True),
}
SHEETS: dict[str, dict[str, tuple[Any, ...]]] = {
    "jpush": {
        "server": (10, 1000, 1030, 7000),
        "busy": (1012, 2002, 7030),
        "config": (1001, 1004, 1008, 1020, *range(2003, 2008), 3001, 7001, 7004, 7008),
        "message": (1002, 1003, 1005, 1009, 1011, 1035, 3004, 3005, 7002, 7013),
    },
}
CODES = [
    (provider, meaning, code)
    for provider, sheet in SHEETS.items()
    for meaning, codes in sheet.items()
    for code in codes
]


def written(provider: str, code: Any) -> bytes:
    """An error with this code, as the provider writes it."""
    return orjson.dumps({"error": {"code": code, "message": "words"}})


@pytest.mark.parametrize("provider", SHEETS)
def test_every_code_means_what_the_sheet_says(provider: str) -> None:
    """At the status that goes with it or at another one; and the table has no code that the sheet has not."""
    mine = [(meaning, code) for name, meaning, code in CODES if name == provider]
    found = {}
    for _, code in mine:
        one = READERS[provider](400, written(provider, code))
        assert one == READERS[provider](200, written(provider, code))
        assert one.reason == f"{provider}:{code}"
        found[code] = one.kind, one.maybe, one.retire, one.suspect, one.attempt

    assert found == {code: MEANINGS[meaning] for meaning, code in mine}
    assert TABLES[provider].keys() == found.keys()


NO_ANSWERS = (b"", b"{}", b"null", b"[]", b'"ok"', b"<html>200 OK</html>", b"{", b"\xff\xfe")
WRONG_SHAPES: dict[str, tuple[bytes, ...]] = {
    "jpush": (
        b'{"error":{}}',
        b'{"error":null}',
        b'{"error":"no"}',
        b'{"error":{"code":true}}',
        b'{"error":{"code":"1011"},"msg_id":"1"}',
        b'{"msg_id":null}',
        b'{"msg_id":["1"]}',
    ),
}


@pytest.mark.parametrize("provider", READERS)
def test_what_is_no_answer_is_no_yes(provider: str) -> None:
    """Nobody knows what was done: it may have been, and no registration ends."""
    for body in NO_ANSWERS + WRONG_SHAPES[provider]:
        outcome = READERS[provider](200, body)

        assert (outcome.kind, outcome.maybe, outcome.reason) == (
            OutcomeKind.UNAVAILABLE,
            True,
            f"{provider}:BAD_ANSWER",
        ), body


@pytest.mark.parametrize("provider", READERS)
@given(status=st.sampled_from([100, 204, 301, 400, 401, 403, 404, 418, 429, 500, 503]), body=st.binary())
def test_no_other_status_is_a_yes(provider: str, status: int, body: bytes) -> None:
    """Whatever comes with it."""
    assert READERS[provider](status, body) is not ACCEPTED


def test_a_code_that_nobody_knows_is_no_yes() -> None:
    """With a 4xx it was refused, else it may have been done."""
    for provider, read in READERS.items():
        refused, unsure = read(400, written(provider, 99_999)), read(200, written(provider, 99_999))

        assert (refused.kind, refused.retire) == (OutcomeKind.REJECTED, False)
        assert (unsure.kind, unsure.maybe) == (OutcomeKind.UNAVAILABLE, True)


def test_jpush_says_gone_only_of_who_is_alone() -> None:
    """1011, and 1003 when it is about the registration: a list's are found out, who is alone retires."""
    nobody = written("jpush", 1011)
    malformed = orjson.dumps({"error": {"code": 1003, "message": "The registration_id is invalid"}})
    read = jpush_answers.read

    assert [read(400, body, alone=True).retire for body in (nobody, malformed)] == [True, True]
    assert [read(400, body, alone=False).retire for body in (nobody, malformed)] == [False, False]
    assert all(jpush_answers.blames(read(400, body, alone=False)) for body in (nobody, malformed))
    assert not jpush_answers.blames(read(400, written("jpush", 1003), alone=False))
