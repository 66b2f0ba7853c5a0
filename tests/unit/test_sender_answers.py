"""The classify tables of APNs and FCM: every code of the fact sheets, and everything that is no answer."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clarion.http2.client import Fate
from clarion.senders import apns_answers, fcm_answers
from clarion.senders.answers import LONGEST_WAIT, NOT_SENT, UNANSWERED, Classifier, Strangers, retry_after
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind, Scope

REJECTED, THROTTLED = OutcomeKind.REJECTED, OutcomeKind.THROTTLED
UNAVAILABLE, BLOCKED = OutcomeKind.UNAVAILABLE, OutcomeKind.BLOCKED
NOW = 1_800_000_000.0
FCM_ERROR = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST = "type.googleapis.com/google.rpc.BadRequest"

# status, reason, kind, retire, suspect: the sheet's columns.
APNS: list[tuple[int, str, OutcomeKind, bool, bool]] = [
    (400, "BadCollapseId", REJECTED, False, True),
    (400, "BadDeviceToken", REJECTED, True, True),
    (400, "BadExpirationDate", REJECTED, False, True),
    (400, "BadMessageId", REJECTED, False, True),
    (400, "BadPriority", REJECTED, False, True),
    (400, "BadTopic", BLOCKED, False, False),
    (400, "DeviceTokenNotForTopic", REJECTED, True, True),
    (400, "DuplicateHeaders", REJECTED, False, True),
    (400, "IdleTimeout", UNAVAILABLE, False, False),
    (400, "InvalidPushType", REJECTED, False, True),
    (400, "MissingDeviceToken", REJECTED, False, False),
    (400, "MissingTopic", BLOCKED, False, False),
    (400, "PayloadEmpty", REJECTED, False, True),
    (400, "TopicDisallowed", BLOCKED, False, False),
    (403, "BadCertificate", BLOCKED, False, False),
    (403, "BadCertificateEnvironment", BLOCKED, False, False),
    (403, "ExpiredProviderToken", UNAVAILABLE, False, False),
    (403, "Forbidden", BLOCKED, False, False),
    (403, "InvalidProviderToken", BLOCKED, False, False),
    (403, "MissingProviderToken", BLOCKED, False, False),
    (403, "UnrelatedKeyIdInToken", UNAVAILABLE, False, False),
    (403, "BadEnvironmentKeyIdInToken", BLOCKED, False, False),
    (403, "BadEnvironmentKeyInToken", BLOCKED, False, False),
    (404, "BadPath", REJECTED, False, True),
    (405, "MethodNotAllowed", REJECTED, False, True),
    (410, "ExpiredToken", REJECTED, True, False),
    (410, "Unregistered", REJECTED, True, False),
    (413, "PayloadTooLarge", REJECTED, False, True),
    (429, "TooManyProviderTokenUpdates", THROTTLED, False, False),
    (429, "TooManyRequests", THROTTLED, False, False),
    (500, "InternalServerError", UNAVAILABLE, False, False),
    (503, "ServiceUnavailable", UNAVAILABLE, False, False),
    (503, "Service Unavailable", UNAVAILABLE, False, False),
    (503, "Shutdown", UNAVAILABLE, False, False),
    (400, "FeatureNotEnabled", BLOCKED, False, False),
    (400, "MissingChannelId", REJECTED, False, True),
    (400, "BadChannelId", REJECTED, False, True),
    (400, "ChannelNotRegistered", REJECTED, False, True),
    (400, "BadRequestParams", REJECTED, False, True),
    (400, "BadRequestPayload", REJECTED, False, True),
    (400, "MissingPushType", REJECTED, False, True),
    (400, "CannotCreateChannelConfig", REJECTED, False, True),
    (403, "TopicMismatch", BLOCKED, False, False),
]


def apns(status: int, **body: Any) -> Outcome:
    """The outcome of an answer of Apple's."""
    return apns_answers.read(status, json.dumps(body).encode() if body else b"")


def fcm(status: int, rpc: str = "", code: str | None = None, message: str = "", *fields: str) -> Outcome:
    """The outcome of an error of Google's, with an FcmError and blamed fields if given."""
    details: list[dict[str, Any]] = []
    if code is not None:
        details.append({"@type": FCM_ERROR, "errorCode": code})
    if fields:
        blamed = [{"field": field, "description": "Invalid"} for field in fields]
        details.append({"@type": BAD_REQUEST, "fieldViolations": blamed})
    error = {"code": status, "message": message, "status": rpc, "details": details}
    return fcm_answers.read(status, json.dumps({"error": error}).encode())


@pytest.mark.parametrize(("status", "reason", "kind", "retire", "suspect"), APNS, ids=lambda v: str(v))
def test_every_reason_of_apns(
    status: int, reason: str, kind: OutcomeKind, retire: bool, suspect: bool
) -> None:
    """The sheet's table, line by line."""
    outcome = apns(status, reason=reason)

    assert (outcome.kind, outcome.retire, outcome.suspect) == (kind, retire, suspect)
    assert outcome.reason == f"apns:{reason}"
    assert outcome is apns_answers.TABLE[reason]


def test_the_table_of_apns_has_no_other_reason() -> None:
    """What is in the code is in the test."""
    assert apns_answers.TABLE.keys() == {line[1] for line in APNS}


def test_only_server_errors_may_have_been_processed() -> None:
    """At most once never repeats these; a refusal is surely without effect."""
    maybe = {line[1] for line in APNS if apns(line[0], reason=line[1]).maybe}

    assert maybe == {"InternalServerError", "ServiceUnavailable", "Service Unavailable", "Shutdown"}


def test_what_is_refused_for_a_moment_is_no_attempt() -> None:
    """Throttled, renewed and closing connections do not use up a delivery's attempts."""
    free = {line[1] for line in APNS if not apns(line[0], reason=line[1]).attempt}

    assert free == {
        "IdleTimeout",
        "ExpiredProviderToken",
        "UnrelatedKeyIdInToken",
        "TooManyProviderTokenUpdates",
        "TooManyRequests",
        "Shutdown",
    }


def test_too_many_requests_is_one_device_s() -> None:
    """Only its own row waits; too many tokens slow the lane, and retire nothing (C03)."""
    assert apns(429, reason="TooManyRequests").scope is Scope.REGISTRATION
    updates = apns(429, reason="TooManyProviderTokenUpdates")
    assert (updates.scope, updates.retire) == (Scope.LANE, False)
    assert updates.retry_after > 0


def test_410_tells_since_when() -> None:
    """Apple counts milliseconds."""
    assert apns(410, reason="Unregistered", timestamp=1_700_000_000_123).dead_since == 1_700_000_000.123
    assert apns(410, reason="ExpiredToken").dead_since is None


@pytest.mark.parametrize("timestamp", ["x", True, -1, 10**20, None, []])
def test_a_strange_timestamp_is_none(timestamp: Any) -> None:
    """The token is dead all the same."""
    outcome = apns(410, reason="Unregistered", timestamp=timestamp)

    assert (outcome.retire, outcome.dead_since) == (True, None)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, REJECTED),
        (401, REJECTED),
        (403, BLOCKED),
        (410, REJECTED),
        (413, REJECTED),
        (418, REJECTED),
        (429, THROTTLED),
        (500, UNAVAILABLE),
        (502, UNAVAILABLE),
        (503, UNAVAILABLE),
        (504, UNAVAILABLE),
    ],
)
def test_unknown_reasons_of_apns_go_by_status(status: int, kind: OutcomeKind) -> None:
    """No retry of a 4xx, and no token dies of a word that we do not know."""
    outcome = apns(status, reason="SomethingNew")

    assert (outcome.kind, outcome.retire, outcome.reason) == (kind, False, "apns:SomethingNew")


def test_a_404_that_is_not_apple_s_blocks() -> None:
    """Whatever answers there is not APNs: configuration, not a token."""
    assert apns_answers.read(404, b"<html>nothing here</html>").kind is BLOCKED
    assert apns(404, reason="BadPath").kind is REJECTED


def test_an_empty_200_is_the_only_yes_of_apns() -> None:
    """A 200 with something in it comes from somebody else."""
    assert apns_answers.read(200, b"") is ACCEPTED
    assert apns_answers.read(200, b"<html>welcome</html>").kind is UNAVAILABLE


# errorCode → what the sheet says: kind, retire, suspect.
FCM: list[tuple[int, str, str, OutcomeKind, bool, bool]] = [
    (500, "UNKNOWN", "UNSPECIFIED_ERROR", UNAVAILABLE, False, False),
    (400, "INVALID_ARGUMENT", "INVALID_ARGUMENT", REJECTED, False, True),
    (404, "NOT_FOUND", "UNREGISTERED", REJECTED, True, False),
    (404, "NOT_FOUND", "UNREGISTERED_FID", REJECTED, True, False),
    (403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH", REJECTED, True, True),
    (401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR", THROTTLED, False, False),
    (401, "UNAUTHENTICATED", "APNS_AUTH_ERROR", THROTTLED, False, False),
    (429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED", THROTTLED, False, False),
    (500, "INTERNAL", "INTERNAL", UNAVAILABLE, False, False),
    (503, "UNAVAILABLE", "UNAVAILABLE", UNAVAILABLE, False, False),
]


@pytest.mark.parametrize(("status", "rpc", "code", "kind", "retire", "suspect"), FCM, ids=lambda v: str(v))
def test_every_code_of_fcm(
    status: int, rpc: str, code: str, kind: OutcomeKind, retire: bool, suspect: bool
) -> None:
    """The sheet's table, line by line."""
    outcome = fcm(status, rpc, code)

    assert (outcome.kind, outcome.retire, outcome.suspect) == (kind, retire, suspect)
    assert outcome.reason == f"fcm:{code}"


def test_the_table_of_fcm_has_no_other_code() -> None:
    """What is in the code is in the test."""
    assert fcm_answers.TABLE.keys() == {line[2] for line in FCM}


NOT_A_TOKEN = "The registration token is not a valid FCM registration token"


@pytest.mark.parametrize(
    ("message", "fields", "code", "reason", "retire"),
    [
        (NOT_A_TOKEN, (), "INVALID_ARGUMENT", "fcm:INVALID_TOKEN", True),
        (NOT_A_TOKEN, ("message.token",), "INVALID_ARGUMENT", "fcm:INVALID_TOKEN", True),
        (NOT_A_TOKEN, ("message.data[0].value",), "INVALID_ARGUMENT", "fcm:BAD_REQUEST", False),
        ("Message is too big", (), "INVALID_ARGUMENT", "fcm:INVALID_ARGUMENT", False),
        ("Invalid JSON payload", ("message.data[0].value",), None, "fcm:BAD_REQUEST", False),
        (NOT_A_TOKEN, ("message.token",), None, "fcm:BAD_REQUEST", False),
        (NOT_A_TOKEN, (), None, "fcm:INVALID_ARGUMENT", False),
    ],
)
def test_the_kinds_of_invalid_argument(
    message: str, fields: tuple[str, ...], code: str | None, reason: str, retire: bool
) -> None:
    """A token ends only when FCM itself blames it and no field of the message is blamed (told by @type)."""
    outcome = fcm(400, "INVALID_ARGUMENT", code, message, *fields)

    assert (outcome.kind, outcome.reason, outcome.retire) == (REJECTED, reason, retire)
    assert outcome.suspect


def test_c15_a_404_is_a_dead_token_only_with_an_fcm_error() -> None:
    """C15: the first retires, the other two are configuration: blocked, nothing retired."""
    dead = fcm(404, "NOT_FOUND", "UNREGISTERED")
    wrong_project = fcm(404, "NOT_FOUND")
    html = fcm_answers.read(404, b"<!DOCTYPE html><title>Error 404</title>")

    assert (dead.kind, dead.retire) == (REJECTED, True)
    assert (wrong_project.kind, wrong_project.retire) == (BLOCKED, False)
    assert (html.kind, html.retire) == (BLOCKED, False)


def test_c16_three_auth_looking_errors() -> None:
    """C16: another project's token retires with its own reason; a missing permission blocks; a broken APNs
    key in Firebase makes the rows that got it wait, without slowing the lane or renewing our token."""
    mismatch = fcm(403, "PERMISSION_DENIED", "SENDER_ID_MISMATCH")
    denied = fcm(403, "PERMISSION_DENIED")
    third = fcm(401, "UNAUTHENTICATED", "THIRD_PARTY_AUTH_ERROR")

    assert (mismatch.kind, mismatch.retire, mismatch.reason) == (REJECTED, True, "fcm:SENDER_ID_MISMATCH")
    assert (denied.kind, denied.retire, denied.reason) == (BLOCKED, False, "fcm:PERMISSION_DENIED")
    assert (third.kind, third.scope, third.attempt) == (THROTTLED, Scope.HOST, False)
    assert third.retry_after >= 300
    assert third.reason != fcm_answers.UNAUTHENTICATED


def test_a_401_without_detail_is_about_our_token() -> None:
    """Whatever else stands in it (ACCESS_TOKEN_EXPIRED in an ErrorInfo, HTML): renewed once, no attempt."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "ACCESS_TOKEN_EXPIRED"}
    error = {"error": {"code": 401, "status": "UNAUTHENTICATED", "details": [info]}}

    for body in (json.dumps(error).encode(), b"<html>", b""):
        outcome = fcm_answers.read(401, body)
        assert (outcome.kind, outcome.attempt, outcome.maybe) == (UNAVAILABLE, False, False)
        assert outcome.reason == fcm_answers.UNAUTHENTICATED


def test_google_s_least_waits() -> None:
    """10 s after a server error, a minute after a quota."""
    for status in (500, 502, 503, 504):
        outcome = fcm_answers.read(status, b"<html>bad gateway</html>")
        assert (outcome.kind, outcome.maybe, outcome.retry_after) == (UNAVAILABLE, True, 10.0)
    assert fcm(429, "RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED").retry_after == 60.0
    assert fcm(429, "RESOURCE_EXHAUSTED").retry_after == 60.0


@pytest.mark.parametrize(
    ("status", "kind"), [(400, REJECTED), (403, BLOCKED), (404, BLOCKED), (409, REJECTED), (500, UNAVAILABLE)]
)
def test_unknown_codes_of_fcm_go_by_status(status: int, kind: OutcomeKind) -> None:
    """A code that Google adds is named, and ends no token."""
    outcome = fcm(status, "SOMETHING", "SOMETHING_NEW")

    assert (outcome.kind, outcome.retire, outcome.reason) == (kind, False, "fcm:SOMETHING_NEW")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"<html></html>",
        b'{"name": 5}',
        b'{"name": "x"}',
        b'{"name": "projects/p/messages/1"',
        b"\xff\xfe",
        b'"name"',
    ],
)
def test_a_200_that_names_no_message_is_no_yes(body: bytes) -> None:
    """It may have been processed, it is not accepted."""
    assert not fcm_answers.is_yes(body)
    outcome = fcm_answers.read(200, body)
    assert (outcome.kind, outcome.maybe) == (UNAVAILABLE, True)


@pytest.mark.parametrize(
    "body", [b'{"name":"projects/p/messages/1"}', b'{\n  "name": "projects/p/messages/0:1%2"\n}\n']
)
def test_the_yes_of_fcm(body: bytes) -> None:
    """Compact, or as Google lays it out."""
    assert fcm_answers.is_yes(body)
    assert fcm_answers.read(200, body) is ACCEPTED


bodies = st.binary(max_size=40) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["reason", "error", "details", "@type", "status", "name", "timestamp"]),
            inner,
            max_size=3,
        )
    ),
).map(lambda value: json.dumps(value).encode())


@given(st.integers(201, 999) | st.sampled_from([100, 400, 401, 403, 404, 410, 429, 500, 503]), bodies)
def test_nothing_but_a_yes_is_accepted_and_no_garbage_ends_a_token(status: int, body: bytes) -> None:
    """Whatever comes: an outcome, never an exception, never accepted, never retired without its word."""
    for read, words in ((apns_answers.read, apns_answers.TABLE), (fcm_answers.read, fcm_answers.TABLE)):
        outcome = read(status, body)
        assert outcome.kind is not OutcomeKind.ACCEPTED
        assert not outcome.retire or outcome.reason.split(":")[1] in words


def test_the_same_answer_is_the_same_outcome() -> None:
    """Recognised by its bytes: one look, one shared instance, and no parsing again."""
    calls: list[bytes] = []

    def read(status: int, body: bytes) -> Outcome:
        calls.append(body)
        return apns_answers.read(status, body)

    classify = Classifier(read)
    first = classify(400, {}, b'{"reason":"BadDeviceToken"}')

    assert first is classify(400, {}, b'{"reason":"BadDeviceToken"}')
    assert len(calls) == 1


def test_answers_with_times_of_their_own_are_not_remembered() -> None:
    """Memory does not grow with 410s, and none gets another's time."""
    classify = Classifier(apns_answers.read)
    made = [
        classify(410, {}, b'{"reason":"Unregistered","timestamp":%d}' % (n * 1000)) for n in range(1, 400)
    ]

    assert [outcome.dead_since for outcome in made] == [float(n) for n in range(1, 400)]
    assert not classify._seen


def test_what_is_remembered_is_bounded() -> None:
    """A provider that writes something new each time costs time, not memory."""
    classify = Classifier(fcm_answers.read)
    for n in range(2_000):
        classify(503, {}, b"x%d" % n)

    assert len(classify._seen) <= 256


class Clock:
    """Stands still."""

    monotonic = time = staticmethod(lambda: NOW)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"120", 120.0),
        (b" 0 ", 0.0),
        (b"Fri, 15 Jan 2027 08:01:00 GMT", 60.0),
        (b"Fri, 15 Jan 2027 07:00:00 GMT", 0.0),
        (b"99999999999", LONGEST_WAIT),
        (b"-5", None),
        (b"soon", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_retry_after(text: bytes, seconds: float | None) -> None:
    """Seconds or a date, bounded by a day."""
    assert retry_after(text, NOW) == seconds


def test_retry_after_lengthens_a_wait_and_never_shortens_it() -> None:
    """The largest of the code's own least and what the provider asks; a rejection waits for nothing."""
    classify = Classifier(fcm_answers.read, Clock())  # type: ignore[arg-type]
    quota = json.dumps({"error": {"details": [{"@type": FCM_ERROR, "errorCode": "QUOTA_EXCEEDED"}]}}).encode()

    assert classify(429, {b"retry-after": b"300"}, quota).retry_after == 300.0
    assert classify(429, {b"retry-after": b"1"}, quota).retry_after == 60.0
    assert classify(503, {b"retry-after": b"30"}, b"").retry_after == 30.0
    assert classify(429, {}, quota).retry_after == 60.0
    assert classify(400, {b"retry-after": b"30"}, b"{}").retry_after == 0.0


def test_every_fate_has_its_outcome() -> None:
    """In doubt is what the transport says is in doubt; the rest is surely unsent and no attempt."""
    for fate in Fate:
        outcome = UNANSWERED[fate]
        assert outcome.kind is UNAVAILABLE
        assert outcome.maybe == fate.maybe == outcome.attempt
        assert outcome.reason.startswith("clarion:")
    assert UNANSWERED[Fate.UNSENT] is NOT_SENT


def test_strangers_come_to_an_end() -> None:
    """Reasons are numbered for ever: a provider cannot fill the table with words of its own."""
    strangers = Strangers("apns")
    names = {strangers.name(f"New{n}", 400) for n in range(1_000)}

    assert len(names) == 65
    assert "apns:400" in names
    assert strangers.name("New1", 400) == "apns:New1"
    for text in ("x" * 100, "a\nb", "secret=1", "", None, 5):
        assert strangers.name(text, 500) == "apns:500"
