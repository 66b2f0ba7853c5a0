"""FCM HTTP v1: every error code that Google documents, and what it means.

Source: the FcmError enum of the HTTP v1 reference, and google.rpc.Status with its details. Three things
look alike and are not: a 404 is a dead token only with an FcmError that says so, else it is a wrong project
(C15); a 401 with THIRD_PARTY_AUTH_ERROR is about the APNs or Web Push key kept in Firebase, not about our
access token (C16); INVALID_ARGUMENT ends a token only when an FcmError blames the token and nothing blames
a field of the message.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any, Final

import orjson

from clarion.senders.answers import Strangers, parse_object
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind, Scope

FCM_ERROR: Final = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST: Final = "type.googleapis.com/google.rpc.BadRequest"
UNAUTHENTICATED: Final = "fcm:UNAUTHENTICATED"
SERVER_SECONDS: Final = 10.0  # Google: never retry sooner
QUOTA_SECONDS: Final = 60.0
THIRD_PARTY_SECONDS: Final = 900.0

_NOT_THE_DEVICE: Final = Outcome(OutcomeKind.REJECTED, suspect=True)
_WRONG_DEVICE: Final = Outcome(OutcomeKind.REJECTED, retire=True, suspect=True)
_GONE: Final = Outcome(OutcomeKind.REJECTED, retire=True)
_BLOCKED: Final = Outcome(OutcomeKind.BLOCKED)
_SERVER: Final = Outcome(OutcomeKind.UNAVAILABLE, maybe=True, retry_after=SERVER_SECONDS)
_QUOTA: Final = Outcome(OutcomeKind.THROTTLED, attempt=False, scope=Scope.LANE, retry_after=QUOTA_SECONDS)
# The key for iPhones (or browsers) kept in Firebase is broken. The tokens are good, Android goes on, and a
# new access token would change nothing: only the rows that got this wait, each asking again now and then.
_OTHER_PLATFORM: Final = Outcome(
    OutcomeKind.THROTTLED, attempt=False, scope=Scope.HOST, retry_after=THIRD_PARTY_SECONDS
)

# errorCode of an FcmError → what it means, whatever the status says.
_BY_CODE: Final[dict[str, Outcome]] = {
    "UNSPECIFIED_ERROR": _SERVER,
    "INVALID_ARGUMENT": _NOT_THE_DEVICE,  # unless it is about the token, see `_invalid`
    "UNREGISTERED": _GONE,
    "UNREGISTERED_FID": _GONE,
    "SENDER_ID_MISMATCH": _WRONG_DEVICE,
    "QUOTA_EXCEEDED": _QUOTA,
    "UNAVAILABLE": _SERVER,
    "INTERNAL": _SERVER,
    "THIRD_PARTY_AUTH_ERROR": _OTHER_PLATFORM,
    "APNS_AUTH_ERROR": _OTHER_PLATFORM,
}
TABLE: Final[dict[str, Outcome]] = {
    code: replace(meaning, reason=f"fcm:{code}") for code, meaning in _BY_CODE.items()
}
INVALID_TOKEN: Final = replace(_WRONG_DEVICE, reason="fcm:INVALID_TOKEN")
BAD_MESSAGE: Final = replace(_NOT_THE_DEVICE, reason="fcm:BAD_REQUEST")
EXPIRED_ACCESS: Final = Outcome(OutcomeKind.UNAVAILABLE, UNAUTHENTICATED, attempt=False)
REFUSED_ACCESS: Final = Outcome(OutcomeKind.BLOCKED, UNAUTHENTICATED)

# Without an FcmError the status decides; so does it for codes that are not in the table.
_BY_STATUS: Final[dict[int, Outcome]] = {
    400: _NOT_THE_DEVICE,
    403: _BLOCKED,
    404: _BLOCKED,
    408: _SERVER,
    429: _QUOTA,
}
_NO_ANSWER: Final = Outcome(OutcomeKind.UNAVAILABLE, "fcm:BAD_ANSWER", maybe=True, retry_after=SERVER_SECONDS)
_ABOUT_THE_TOKEN: Final = re.compile(r"registration[ -_]?token", re.IGNORECASE)
_strangers = Strangers("fcm")


def is_yes(body: bytes) -> bool:
    """Whether the body of a 200 names the message, as FCM's does."""
    try:
        name = orjson.loads(body)["name"]
    except (ValueError, TypeError, KeyError):
        return False
    return isinstance(name, str) and "/messages/" in name


def read(status: int, body: bytes) -> Outcome:
    """The outcome of an answer; UNAUTHENTICATED is for the sender to decide: once, or once more."""
    if status == 200:
        return ACCEPTED if is_yes(body) else _NO_ANSWER
    if status < 400:
        return _NO_ANSWER
    answer = parse_object(body) or {}
    error = answer.get("error")
    error = error if isinstance(error, dict) else {}
    details = _details(error)
    code = details.get(FCM_ERROR, {}).get("errorCode")
    known = TABLE.get(code) if isinstance(code, str) else None
    if known is not None and code == "INVALID_ARGUMENT":
        return _invalid(error, details)
    if known is not None:
        return known
    return _by_status(status, error, details, code)


def _details(error: dict[str, Any]) -> dict[str, dict[str, Any]]:
    details = error.get("details")
    members = details if isinstance(details, list) else ()
    return {str(member.get("@type")): member for member in members if isinstance(member, dict)}


def _invalid(error: dict[str, Any], details: dict[str, dict[str, Any]]) -> Outcome:
    """INVALID_ARGUMENT of FCM itself: the token only if it says so and no field of the message is blamed."""
    fields = _blamed(details)
    about_token = _ABOUT_THE_TOKEN.search(str(error.get("message"))) is not None
    if fields - {"message.token"}:
        return BAD_MESSAGE
    return INVALID_TOKEN if about_token or fields else TABLE["INVALID_ARGUMENT"]


def _blamed(details: dict[str, dict[str, Any]]) -> set[str]:
    violations = details.get(BAD_REQUEST, {}).get("fieldViolations")
    members = violations if isinstance(violations, list) else ()
    return {str(member.get("field")) for member in members if isinstance(member, dict)}


def _by_status(
    status: int, error: dict[str, Any], details: dict[str, dict[str, Any]], code: object
) -> Outcome:
    if status == 401:
        return EXPIRED_ACCESS
    if status == 400 and BAD_REQUEST in details:
        return BAD_MESSAGE
    meaning = _SERVER if status >= 500 else _BY_STATUS.get(status, _NOT_THE_DEVICE)
    return replace(meaning, reason=_strangers.name(code or error.get("status"), status))
