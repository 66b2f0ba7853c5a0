"""Error bodies as Google's APIs write them (google.rpc.Status as JSON)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import orjson

from clarion.sandbox.answer import JSON_TYPE, Answer

FCM_ERROR: Final = "type.googleapis.com/google.firebase.fcm.v1.FcmError"
BAD_REQUEST: Final = "type.googleapis.com/google.rpc.BadRequest"
ERROR_INFO: Final = "type.googleapis.com/google.rpc.ErrorInfo"

STATUSES: Final[dict[str, int]] = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "ALREADY_EXISTS": 409,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}
_BY_CODE: Final = {code: status for status, code in reversed(STATUSES.items())}
_NOT_FOUND: Final = (
    b"<!DOCTYPE html>\n<html lang=en>\n  <title>Error 404 (Not Found)!!1</title>\n"
    b"  <p><b>404.</b> <ins>That\xe2\x80\x99s an error.</ins>\n"
)

# FcmError codes: status and message.
FCM_CODES: Final[dict[str, tuple[str, str]]] = {
    "UNSPECIFIED_ERROR": ("INTERNAL", "Internal error encountered."),
    "INVALID_ARGUMENT": ("INVALID_ARGUMENT", "Request contains an invalid argument."),
    "UNREGISTERED": ("NOT_FOUND", "Requested entity was not found."),
    "UNREGISTERED_FID": ("NOT_FOUND", "Requested entity was not found."),
    "SENDER_ID_MISMATCH": ("PERMISSION_DENIED", "SenderId mismatch"),
    "QUOTA_EXCEEDED": ("RESOURCE_EXHAUSTED", "Quota exceeded for quota metric 'Messages sent'."),
    "UNAVAILABLE": ("UNAVAILABLE", "The service is currently unavailable."),
    "INTERNAL": ("INTERNAL", "Internal error encountered."),
    "THIRD_PARTY_AUTH_ERROR": (
        "UNAUTHENTICATED",
        "Request is missing required authentication credential. Expected OAuth 2 access token, login "
        "cookie or other valid authentication credential.",
    ),
    "APNS_AUTH_ERROR": ("UNAUTHENTICATED", "Auth error from APNS or Web Push Service"),
}
_WORDS: Final = {
    "UNAUTHENTICATED": "Request had invalid authentication credentials. Expected OAuth 2 access token, login "
    "cookie or other valid authentication credential.",
    "PERMISSION_DENIED": "The caller does not have permission",
    "NOT_FOUND": "Requested entity was not found.",
    "ALREADY_EXISTS": "Requested entity already exists",
    "RESOURCE_EXHAUSTED": "Resource has been exhausted (e.g. check quota).",
    "UNAVAILABLE": "The service is currently unavailable.",
    "INTERNAL": "Internal error encountered.",
    "DEADLINE_EXCEEDED": "Deadline expired before operation could complete.",
}


def google_error(
    status: str,
    message: str | None = None,
    details: Sequence[dict[str, Any]] = (),
    *,
    reason: str | None = None,
    code: int | None = None,
) -> Answer:
    """An error body. The log's reason is `reason`, else the status."""
    code = code or STATUSES[status]
    error: dict[str, Any] = {
        "code": code,
        "message": message or _WORDS.get(status, "Request contains an invalid argument."),
        "status": status,
    }
    if details:
        error["details"] = list(details)
    return Answer(code, reason or status, [JSON_TYPE], orjson.dumps({"error": error}))


def fcm_error(name: str, message: str | None = None, code: int | None = None) -> Answer:
    """An error that FCM itself names."""
    status, words = FCM_CODES[name]
    detail = {"@type": FCM_ERROR, "errorCode": name}
    return google_error(status, message or words, [detail], reason=name, code=code)


def bad_request(where: str, description: str) -> Answer:
    """A body that does not fit the schema."""
    violation = {"field": where, "description": description} if where else {"description": description}
    detail = {"@type": BAD_REQUEST, "fieldViolations": [violation]}
    return google_error("INVALID_ARGUMENT", description, [detail], reason="BadRequest")


def unauthenticated(info: str) -> Answer:
    """No access token, or one that is void; `info` is ErrorInfo's reason."""
    message = None
    if info == "CREDENTIALS_MISSING":
        message = (
            "Request is missing required authentication credential. Expected OAuth 2 access token, login "
            "cookie or other valid authentication credential."
        )
    detail = {
        "@type": ERROR_INFO,
        "reason": info,
        "domain": "googleapis.com",
        "metadata": {"service": "fcm.googleapis.com"},
    }
    return google_error("UNAUTHENTICATED", message, [detail])


def permission_denied(project: str) -> Answer:
    """The account may not send for this project."""
    message = (
        "Permission 'cloudmessaging.messages.create' denied on resource "
        f"'//cloudresourcemanager.googleapis.com/projects/{project}' (or it may not exist)."
    )
    detail = {"@type": ERROR_INFO, "reason": "IAM_PERMISSION_DENIED", "domain": "iam.googleapis.com"}
    return google_error("PERMISSION_DENIED", message, [detail])


def by_code(code: int) -> Answer:
    """An error of which only the HTTP status is known."""
    status = _BY_CODE.get(code)
    if status is None:  # a gateway in between has no JSON
        return Answer(code, None, [(b"content-type", b"text/html; charset=UTF-8")], b"<html></html>")
    return google_error(status)


NOT_FOUND: Final = Answer(404, "NotFound", [(b"content-type", b"text/html; charset=UTF-8")], _NOT_FOUND)
