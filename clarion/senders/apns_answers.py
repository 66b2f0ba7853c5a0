"""APNs: every reason that Apple documents, and what it means for the delivery, the token and the lane.

Source: Apple, "Handling notification responses from APNs" and "Handling error responses from Apple Push
Notification service" (broadcast). Whatever is not in the table is judged by its status, and keeps the token.

`suspect` also marks what cannot be one device's fault (a header that Apple refuses, say): when nearly every
device of a push gets it, the lane stops, instead of a million deliveries being booked as rejected.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from clarion.senders.answers import Strangers, parse_object
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind, Scope

_DEVICE_SECONDS: Final = 2.0  # TooManyRequests is about one device token; Apple names no time
_JWT_SECONDS: Final = 60.0

_REJECTED: Final = Outcome(OutcomeKind.REJECTED)
_WRONG_DEVICE: Final = Outcome(OutcomeKind.REJECTED, retire=True, suspect=True)
_NOT_THE_DEVICE: Final = Outcome(OutcomeKind.REJECTED, suspect=True)
_GONE: Final = Outcome(OutcomeKind.REJECTED, retire=True)
_BLOCKED: Final = Outcome(OutcomeKind.BLOCKED)
_AGAIN: Final = Outcome(OutcomeKind.UNAVAILABLE, attempt=False)  # refused before anything was done
_SERVER: Final = Outcome(OutcomeKind.UNAVAILABLE, maybe=True)
_THROTTLED: Final = Outcome(OutcomeKind.THROTTLED, attempt=False, scope=Scope.LANE)

_MEANING: Final[dict[str, Outcome]] = {
    # 400
    "BadCollapseId": _NOT_THE_DEVICE,
    "BadDeviceToken": _WRONG_DEVICE,
    "BadExpirationDate": _NOT_THE_DEVICE,
    "BadMessageId": _NOT_THE_DEVICE,
    "BadPriority": _NOT_THE_DEVICE,
    "BadTopic": _BLOCKED,
    "DeviceTokenNotForTopic": _WRONG_DEVICE,
    "DuplicateHeaders": _NOT_THE_DEVICE,
    "IdleTimeout": _AGAIN,
    "InvalidPushType": _NOT_THE_DEVICE,
    "MissingDeviceToken": _REJECTED,
    "MissingPushType": _NOT_THE_DEVICE,
    "MissingTopic": _BLOCKED,
    "PayloadEmpty": _NOT_THE_DEVICE,
    "TopicDisallowed": _BLOCKED,
    # 403
    "BadCertificate": _BLOCKED,
    "BadCertificateEnvironment": _BLOCKED,
    "ExpiredProviderToken": _AGAIN,  # once; the sender blocks when a new token meets the same fate
    "Forbidden": _BLOCKED,
    "InvalidProviderToken": _BLOCKED,
    "MissingProviderToken": _BLOCKED,
    "UnrelatedKeyIdInToken": _AGAIN,  # on a new connection, once
    "BadEnvironmentKeyIdInToken": _BLOCKED,
    "BadEnvironmentKeyInToken": _BLOCKED,  # what is on the wire, whatever the page says
    "TopicMismatch": _BLOCKED,
    # 404, 405
    "BadPath": _NOT_THE_DEVICE,
    "MethodNotAllowed": _NOT_THE_DEVICE,
    # 410
    "ExpiredToken": _GONE,
    "Unregistered": _GONE,
    # 413
    "PayloadTooLarge": _NOT_THE_DEVICE,
    # 429
    "TooManyProviderTokenUpdates": replace(_THROTTLED, retry_after=_JWT_SECONDS),
    "TooManyRequests": Outcome(
        OutcomeKind.THROTTLED, attempt=False, scope=Scope.REGISTRATION, retry_after=_DEVICE_SECONDS
    ),
    # 500, 503
    "InternalServerError": _SERVER,
    "ServiceUnavailable": _SERVER,
    "Service Unavailable": _SERVER,  # as Apple's broadcast page spells it
    "Shutdown": replace(_SERVER, attempt=False),
    # Broadcast to Live Activity channels.
    "FeatureNotEnabled": _BLOCKED,
    "MissingChannelId": _NOT_THE_DEVICE,
    "BadChannelId": _NOT_THE_DEVICE,
    "ChannelNotRegistered": _NOT_THE_DEVICE,
    "BadRequestParams": _NOT_THE_DEVICE,
    "BadRequestPayload": _NOT_THE_DEVICE,
    "CannotCreateChannelConfig": _NOT_THE_DEVICE,
}
TABLE: Final[dict[str, Outcome]] = {
    reason: replace(meaning, reason=f"apns:{reason}") for reason, meaning in _MEANING.items()
}
_BY_STATUS: Final[dict[int, Outcome]] = {
    400: _NOT_THE_DEVICE,
    403: _BLOCKED,
    429: replace(_THROTTLED, retry_after=1.0),
}
_NO_ANSWER: Final = Outcome(OutcomeKind.UNAVAILABLE, "apns:BadAnswer", maybe=True)
_strangers = Strangers("apns")


def read(status: int, body: bytes) -> Outcome:
    """The outcome of an answer."""
    if status == 200:
        return _NO_ANSWER if body else ACCEPTED  # Apple's yes is empty
    if status < 400:
        return _NO_ANSWER
    answer = parse_object(body) or {}
    known = TABLE.get(reason) if isinstance(reason := answer.get("reason"), str) else None
    if known is None:
        return _unknown(status, answer)
    return _dated(known, answer) if known.retire and status == 410 else known


def _dated(outcome: Outcome, answer: dict[str, Any]) -> Outcome:
    """With the time since which Apple knows the token to be invalid (milliseconds)."""
    moment = answer.get("timestamp")
    if isinstance(moment, bool) or not isinstance(moment, int | float) or not 0 < moment < 1e14:
        return outcome
    return replace(outcome, dead_since=moment / 1000)


def _unknown(status: int, answer: dict[str, Any]) -> Outcome:
    if status >= 500:
        meaning = _SERVER
    elif status == 404 and "reason" not in answer:
        meaning = _BLOCKED  # whatever answers there is not APNs
    else:
        meaning = _BY_STATUS.get(status, _NOT_THE_DEVICE)
    return replace(meaning, reason=_strangers.name(answer.get("reason"), status))
