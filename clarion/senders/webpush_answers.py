"""Web Push: what the push services' answers mean.

Sources: RFC 8030 (status codes), RFC 8292 (401, 403), Mozilla's autopush error numbers, Apple's "Sending web
push notifications", and what is known of Microsoft's WNS, whose reasons stand in headers. Services differ in
their words and agree on their statuses, so statuses decide.

A refusal of our VAPID token (401, 403) concerns one push service: its rows are rejected, their subscriptions
kept, and other services go on. When it is nearly every device of a push, the 30 % rule blocks the lane.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from clarion.senders.answers import Headers, Strangers, parse_object
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind, Scope

GONE: Final = Outcome(OutcomeKind.REJECTED, retire=True)
REFUSED: Final = Outcome(OutcomeKind.REJECTED, suspect=True)
THROTTLED: Final = Outcome(OutcomeKind.THROTTLED, attempt=False, retry_after=1.0, scope=Scope.HOST)
SERVER: Final = Outcome(OutcomeKind.UNAVAILABLE, maybe=True)
BUSY: Final = Outcome(OutcomeKind.UNAVAILABLE)  # 503: the service says that it did nothing

_BY_STATUS: Final = {
    404: GONE,
    406: THROTTLED,  # WNS, before it spoke 429
    410: GONE,
    429: THROTTLED,
    503: BUSY,
}
_strangers = Strangers("webpush")


def read(status: int, headers: Headers, body: bytes) -> Outcome:
    """The outcome of an answer."""
    if 200 <= status < 300:
        return ACCEPTED  # 201 by the RFC; older services say 200 and 202
    if status >= 500:
        meaning = _BY_STATUS.get(status, SERVER)
    elif status >= 400:
        meaning = _BY_STATUS.get(status, REFUSED)
    else:
        meaning = REFUSED  # redirects are never followed: a push service has no reason for one
    return replace(meaning, reason=_strangers.name(_code(headers, body), status))


def _code(headers: Headers, body: bytes) -> str | None:
    """The service's own word for it: Apple's reason, Mozilla's errno, WNS's status header."""
    status = headers.get(b"x-wns-notificationstatus") or headers.get(b"x-wns-status")
    if status:
        return f"wns {status.decode('ascii', 'replace')}"
    answer = parse_object(body) or {}
    reason, number = answer.get("reason"), answer.get("errno")
    if isinstance(reason, str):
        return reason
    return f"errno {number}" if type(number) is int else None
