"""The vendors' classify tables, code by code as the sheets have them, and answers that are none."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.senders import honor_answers, meizu, meizu_answers, oppo_answers, vivo_answers
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind

Read = Callable[[int, bytes], tuple[Outcome, dict[str, Outcome]]]
READERS: dict[str, Read] = {
    "oppo": oppo_answers.read,
    "vivo": vivo_answers.read,
    "honor": honor_answers.read,
    "meizu": meizu_answers.read,
}
TABLES: dict[str, Mapping[Any, Outcome]] = {
    "oppo": oppo_answers.TABLE,
    "vivo": vivo_answers.TABLE,
    "honor": honor_answers.TABLE,
    "meizu": meizu_answers.TABLE,
}

# What the sheets say in the words of their columns: what is done with the delivery.
MEANINGS = {
    "busy": (OutcomeKind.THROTTLED, False, False, False),
    "tomorrow": (OutcomeKind.THROTTLED, False, False, False),
    "server": (OutcomeKind.UNAVAILABLE, True, False, True),
    "unsent": (OutcomeKind.UNAVAILABLE, False, False, True),
    "token": (OutcomeKind.UNAVAILABLE, False, False, False),
    "config": (OutcomeKind.BLOCKED, False, False, True),
    "message": (OutcomeKind.REJECTED, False, False, True),
    "refused": (OutcomeKind.REJECTED, False, False, True),
    "dead": (OutcomeKind.REJECTED, False, True, True),
    "dead?": (OutcomeKind.REJECTED, False, True, True),
}
"""kind, maybe, retire, attempt"""

SHEETS: dict[str, dict[str, tuple[Any, ...]]] = {
    "oppo": {
        "server": (-1, 32),
        "busy": (-2, 13, 55),
        "token": (11, 29),
        "config": (*range(14, 20), 26, 27, 28, 30),
        "message": (12, *range(20, 26), 31, 34, 40, 41, 51, 59, 67, 10002, 10004, 10005),
        "tomorrow": (33,),
        "dead": (10000,),
        "refused": (10001, 10003),
    },
    "vivo": {
        "token": (10000,),
        "server": (10040,),
        "config": (10043, 10045, 10094, *range(10200, 10208)),
        "tomorrow": (10070, 10073, 10252, 10254),
        "busy": (10071, 10072, 10250),
        "message": (10085, 10096, 10097, 10104),
        "dead?": (10054, 10302),
    },
    "honor": {
        "message": (400, 413),
        "token": (401,),
        "config": (403, 404, 405),
        "busy": (429,),
        "server": (500, 502, 503, 504),
    },
    "meizu": {
        "server": ("500", "1001"),
        "busy": ("1003", "110010"),
        "message": ("1005", "110004", "110032", "110051", "110053"),
        "config": ("1006", "110000", "110001", "110009", "110031", "110033"),
        "dead?": ("110002", "110003"),
        "tomorrow": ("110019",),
    },
}
CODES = [
    (provider, meaning, code)
    for provider, sheet in SHEETS.items()
    for meaning, codes in sheet.items()
    for code in codes
]


def written(provider: str, code: Any) -> bytes:
    """An answer with this code, as the provider writes it."""
    if provider == "vivo":
        return orjson.dumps({"result": code, "desc": "words"})
    return orjson.dumps({"code": code, "message": "words"})


@pytest.mark.parametrize("provider", SHEETS)
def test_every_code_means_what_the_sheet_says(provider: str) -> None:
    """Kind, whether it may have been done, whether the registration ends, whether it is an attempt."""
    found = {}
    for name, meaning, code in CODES:
        if name == provider:
            outcome, others = READERS[provider](200, written(provider, code))
            assert others == {}
            assert outcome.suspect == (meaning in ("message", "dead?")), code
            assert outcome.reason == f"{provider}:{code}"
            found[code] = outcome.kind, outcome.maybe, outcome.retire, outcome.attempt
    expected = {code: MEANINGS[meaning] for name, meaning, code in CODES if name == provider}

    assert found == expected
    assert TABLES[provider].keys() == expected.keys(), "a code that the sheet does not have"


NO_ANSWERS: list[bytes] = [
    b"",
    b"{}",
    b"null",
    b"[]",
    b'"ok"',
    b"<html>200 OK</html>",
    b'{"code":null}',
    b'{"code":true}',
    b'{"code":[0]}',
    b'{"code":{"a":0}}',
    b'{"result":true}',
    b'{"code":0',
    b"\xff\xfe",
]


@pytest.mark.parametrize("provider", READERS)
@pytest.mark.parametrize("body", NO_ANSWERS)
def test_what_is_no_answer_is_no_yes(provider: str, body: bytes) -> None:
    """Nobody knows what was done: it may have been, and no registration ends."""
    outcome, others = READERS[provider](200, body)

    assert (outcome.kind, outcome.maybe, others) == (OutcomeKind.UNAVAILABLE, True, {})


@pytest.mark.parametrize("provider", READERS)
@given(status=st.sampled_from([100, 204, 301, 400, 401, 403, 404, 418, 429, 500, 503]), body=st.binary())
def test_no_other_status_is_a_yes(provider: str, status: int, body: bytes) -> None:
    """Whatever comes with it."""
    outcome, others = READERS[provider](status, body)

    assert outcome is not ACCEPTED
    assert not outcome.retire
    assert others == {}


@pytest.mark.parametrize("provider", READERS)
def test_a_yes_with_another_status_is_none(provider: str) -> None:
    """A code of success under a 5xx or a 3xx."""
    for status in (204, 302, 500, 503):
        outcome, _ = READERS[provider](status, written(provider, "200" if provider == "meizu" else 0))

        assert outcome.kind in (OutcomeKind.UNAVAILABLE, OutcomeKind.THROTTLED)


def test_items_of_a_batch_of_oppo() -> None:
    """By registration; numbers as texts, a repeat, what nobody knows; without a message id it is no yes."""
    data = [
        {"registrationId": "a", "messageId": "1"},
        {"registrationId": "b", "errorCode": "10000", "messageId": ""},
        {"registrationId": "c", "errorCode": 32},
        {"registrationId": "d"},
        {"registrationId": "e", "errorCode": "strange words"},
        {"registrationId": "f", "errorCode": 0, "messageId": "2"},
        {"registrationId": 7, "messageId": "3"},
        "nonsense",
    ]
    outcome, items = oppo_answers.read(200, orjson.dumps({"code": 0, "data": data}))

    assert outcome is ACCEPTED
    assert {name: item.reason for name, item in items.items()} == {
        "a": "",
        "b": "oppo:10000",
        "c": "",
        "d": "oppo:BAD_ANSWER",
        "e": "oppo:200",
        "f": "",
    }
    assert items["e"].kind is OutcomeKind.UNAVAILABLE


def test_invalid_users_of_vivo() -> None:
    """Named in a yes or in a refusal, one or many; whose status nobody knows is refused and stays."""
    users = [{"userid": str(n), "status": n} for n in range(1, 6)] + [{"userid": "6"}, {"status": 1}, 7]
    for result, answer in ((0, ACCEPTED), (10302, vivo_answers.TABLE[10302])):
        body = {"result": result, "invalidUsers": users, "invalidUser": {"userid": "7", "status": 2}}
        outcome, named = vivo_answers.read(200, orjson.dumps(body))

        assert outcome == answer
        assert {name: (one.reason, one.retire) for name, one in named.items()} == {
            "1": ("vivo:user_1", True),
            "2": ("vivo:user_2", True),
            "3": ("vivo:user_3", False),
            "4": ("vivo:user_4", False),
            "5": ("vivo:user", False),
            "6": ("vivo:user", False),
            "7": ("vivo:user_2", True),
        }


def test_a_saved_content_without_a_number_is_none() -> None:
    """A yes that names no task: nothing was sent, so it may be repeated under every guarantee."""
    for body in (b'{"result":0}', b'{"result":0,"taskId":""}', b'{"result":0,"taskId":{}}'):
        outcome = vivo_answers.read_task(200, body)
        assert isinstance(outcome, Outcome)
        assert (outcome.kind, outcome.maybe) == (OutcomeKind.UNAVAILABLE, False)
    assert vivo_answers.read_task(200, b'{"result":0,"taskId":"7"}') == "7"


def honor(code: Any, data: Any, status: int = 200) -> tuple[str, OutcomeKind, dict[str, str]]:
    """What an answer of Honor means."""
    body = orjson.dumps({"code": code, "message": "words", "data": data})
    outcome, others = honor_answers.read(status, body)
    return outcome.reason, outcome.kind, {name: one.reason for name, one in others.items()}


@pytest.mark.parametrize("code", [200, 0, 12_200_000, 80_000_000, "200", "80000000"])
def test_a_yes_of_honor_says_so(code: int | str) -> None:
    """Every code that integrators take for a success, with a result that is one; else nobody knows."""
    yes: Any = ("", OutcomeKind.ACCEPTED, {})
    unknown: Any = ("honor:BAD_ANSWER", OutcomeKind.UNAVAILABLE, {})
    nothing: tuple[Any, ...] = (None, {}, [], "ok", {"sendResult": "true"}, {"requestId": ""})

    assert honor(code, {"sendResult": True, "requestId": "1", "failTokens": [], "expireTokens": None}) == yes
    assert honor(code, {"requestId": "1"}) == yes
    for data in nothing:
        assert honor(code, data) == unknown


def test_lists_of_honor() -> None:
    """Expired ones end, failed ones go again; a result that is false leaves the others in doubt."""
    lists = {"failTokens": ["a", "b"], "expireTokens": ["b", "c"]}
    named = {"a": "honor:failTokens", "b": "honor:expireTokens", "c": "honor:expireTokens"}

    assert honor(200, {"sendResult": True, **lists}) == ("", OutcomeKind.ACCEPTED, named)
    assert honor(200, {"sendResult": False, **lists}) == ("honor:sendResult", OutcomeKind.UNAVAILABLE, named)
    assert honor_answers.NOT_SENT.maybe
    assert (honor_answers.FAILED.maybe, honor_answers.FAILED.retire) == (False, False)
    assert honor_answers.EXPIRED.retire


@pytest.mark.parametrize(
    ("status", "body", "found"),
    [
        (200, b'{"access_token":"t","expires_in":3600,"token_type":"Bearer"}', ("t", 3_600.0)),
        (200, b'{"access_token":"t"}', ("t", 3_600.0)),
        (200, b'{"access_token":""}', None),
        (401, b'{"error":"invalid_client"}', "honor:oauth_401"),
        (400, b'{"code":"10001","message":"words"}', "honor:oauth_400"),
        (403, b"<html>a gateway</html>", None),
        (429, b'{"error":"slow down"}', None),
        (500, b'{"error":"words"}', None),
    ],
)
def test_the_token_endpoint_of_honor(status: int, body: bytes, found: Any) -> None:
    """A refusal blocks; anything else may pass."""
    assert honor_answers.token_answer(status, body) == found


@pytest.mark.parametrize("by_target", [False, True])
def test_refusals_in_a_yes_of_meizu(by_target: bool) -> None:
    """The map of codes either way round; 520 was sent; 110010 is not about speed here; unknown ones stay."""
    codes = (201, 501, 513, 519, 520, 110002, 110003, 110005, 110010, 110011, 999999)
    value: Any = {str(code): [f"t{code}", f"u{code}"] for code in codes}
    if by_target:
        value = {f"{letter}{code}": code for code in codes for letter in "tu"}
    body = orjson.dumps({"code": "200", "message": "", "value": value, "msgId": "1"})
    outcome, named = meizu_answers.read(200, body)
    found = {code: named[f"t{code}"] for code in codes}

    assert outcome is ACCEPTED
    assert len(named) == 2 * len(codes)
    assert found[520] is ACCEPTED
    assert {code for code, one in found.items() if one.retire} == {110002, 110003, 110005}
    assert {code for code, one in found.items() if one.kind is OutcomeKind.UNAVAILABLE} == {501, 513, 519}
    refused = {code for code, one in found.items() if one.kind is OutcomeKind.REJECTED and not one.retire}
    assert refused == {201, 110010, 110011, 999999}
    assert not any(one.suspect or one.maybe for one in found.values())


@pytest.mark.parametrize("value", ["", None, [], 7, {"x": {}}, {"t": "words"}])
def test_a_strange_value_of_meizu_names_nobody(value: Any) -> None:
    """The request was taken; what is no map of codes says nothing."""
    outcome, named = meizu_answers.read(200, orjson.dumps({"code": "200", "value": value, "msgId": "1"}))

    assert (outcome, named) == (ACCEPTED, {})


def test_the_signature_of_meizu() -> None:
    """The sheet's rule by hand: sorted, without separators, raw values, the secret behind; in lower case."""
    form = {"pushIds": "a,b", "appId": "1", "messageJson": '{"x":"字 &"}'}

    # md5sum of: appId=1messageJson={"x":"字 &"}pushIds=a,bs3cr3t
    assert meizu.signature(form, "s3cr3t") == "8695754d7da3d139be085fec296e2d5f"
