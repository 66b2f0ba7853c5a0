"""The aggregators' classify tables, code by code as the sheets have them, and answers that are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.senders import getui_answers, jpush_answers, umeng_answers
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind


def getui(status: int, body: bytes) -> Outcome:
    """What Getui says of a request as a whole."""
    return getui_answers.read(status, body, alone=False)[0]


READERS: dict[str, Callable[[int, bytes], Outcome]] = {
    "getui": getui,
    "umeng": partial(umeng_answers.read, alone=False),
    "jpush": partial(jpush_answers.read, alone=False),
}
TABLES: dict[str, Mapping[Any, Outcome]] = {
    "getui": getui_answers.TABLE,
    "umeng": umeng_answers.TABLE,
    "jpush": jpush_answers.TABLE,
}

# The columns of the sheets in our words: kind, maybe, retire, suspect, whether it is an attempt.
MEANINGS = {
    "busy": (OutcomeKind.THROTTLED, False, False, False, False),
    "tomorrow": (OutcomeKind.THROTTLED, False, False, False, False),
    "token": (OutcomeKind.UNAVAILABLE, False, False, False, False),
    "server": (OutcomeKind.UNAVAILABLE, True, False, False, True),
    "config": (OutcomeKind.BLOCKED, False, False, False, True),
    "message": (OutcomeKind.REJECTED, False, False, True, True),
    "refused": (OutcomeKind.REJECTED, False, False, False, True),
}
SHEETS: dict[str, dict[str, tuple[Any, ...]]] = {
    "umeng": {
        "message": (
            *range(1000, 1018),
            *(1019, 1022, 1024, 1026, 1027, 1028, *range(2001, 2004), 2005, *range(2008, 2012)),
            *(*range(2015, 2020), 2022, 2024, 2025, 2029, 2030, 2031, 2039, 2040, *range(2046, 2050)),
            *(2053, 4025, 5002, 5003, 5004),
        ),
        "config": (
            *(1018, 1020, 2000, 2004, 2006, 2007, 2021, 2027, 2028, *range(2032, 2037), 2052, 2054),
            *(5001, *range(5007, 5011), 6001),
        ),
        "server": (
            *(2013, 2014, 2023, 2038, *range(3000, 3005), *range(4000, 4003), 4009, 4013, 4021, 4023),
            *(4026, *range(6002, 6005)),
        ),
        "refused": (4010, 4014, 4020, 5000, 5005),
        "tomorrow": (2012,),
        "busy": (2020, 2026, 2050),
    },
    "getui": {
        "message": (1, 20001, 21001, 22001, 22002, 23001, 30005, 30016),
        "busy": (2, 10003, 10005, *range(30012, 30016), 30018, 30019),
        "config": (301, 404, 405, 10002, 10004, *range(30000, 30004), 30017, *range(30020, 30029)),
        "token": (10001,),
        "tomorrow": (30004, *range(30006, 30012)),
        "server": (5000,),
    },
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
    if provider == "umeng":
        return orjson.dumps({"ret": "FAIL", "data": {"error_code": str(code), "error_msg": "words"}})
    if provider == "getui":
        return orjson.dumps({"code": code, "msg": "words"})
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
    "umeng": (
        b'{"ret":"SUCCESS"}',
        b'{"ret":"SUCCESS","data":{}}',
        b'{"ret":"SUCCESS","data":{"msg_id":7}}',
        b'{"ret":"FAIL"}',
        b'{"ret":"FAIL","data":{"error_code":"x"}}',
        b'{"data":{"msg_id":"u"}}',
    ),
    "getui": (
        b'{"code":0}',
        b'{"code":"0","data":{}}',
        b'{"code":false,"data":{}}',
        b'{"code":0,"data":[]}',
        b'{"code":0,"data":{"t":"successed_online"}}',
        b'{"code":null}',
    ),
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


def test_getui_says_something_of_each() -> None:
    """Words that are known, one that is not; "user is invalid" is of who is alone."""
    data = {
        "t1": {"a": "successed_online", "b": "successed_offline"},
        "t2": {"c": "successed_ignore", "d": "x"},
    }
    whole, each = getui_answers.read(200, orjson.dumps({"code": 0, "data": data}), alone=False)
    gone = orjson.dumps({"code": 20001, "msg": "target user is invalid"})

    assert whole is ACCEPTED
    assert each == {"a": ACCEPTED, "b": ACCEPTED, "c": getui_answers.INACTIVE, "d": getui_answers.UNLISTED}
    assert getui_answers.read(400, gone, alone=True)[0].retire
    assert not getui_answers.read(400, gone, alone=False)[0].retire
    assert getui_answers.blames(getui_answers.read(400, gone, alone=False)[0])


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"code": 0, "data": {"expire_time": "1000086400000", "token": "t"}}, ("t", 86_400.0)),
        ({"code": 0, "data": {"expire_time": "999", "token": "t"}}, ("t", 86_400.0)),
        ({"code": 0, "data": {"token": "t"}}, ("t", 86_400.0)),
        ({"code": 0, "data": {"token": 7}}, None),
        ({"code": 10001, "msg": "m"}, "getui:10001"),
        ({"code": 10003, "msg": "m"}, None),
        ({}, None),
    ],
)
def test_getuis_tokens(body: dict[str, Any], said: object) -> None:
    """A token with its seconds, a refusal of the credential, or nothing of use."""
    assert getui_answers.token_answer(200, orjson.dumps(body), 1_000_000_000.0) == said
