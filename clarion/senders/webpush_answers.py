"""Web Push: what the push services' answers mean.

Sources: RFC 8030 (status codes), RFC 8292 (401, 403), Mozilla's autopush error numbers, Apple's "Sending web
push notifications", and what is known of Microsoft's WNS, whose reasons stand in headers. Services differ in
their words and agree on their statuses, so statuses decide.

A refusal of our VAPID token (401, 403) concerns one push service: its rows are rejected, their subscriptions
kept, and other services go on. It is `suspect` only: whether the key itself is wrong, its sender knows, who
sees all services.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from clarion.senders.answers import Headers, Strangers, parse_object
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind, Scope

GONE: Final = Outcome(OutcomeKind.REJECTED, retire=True)
REFUSED: Final = Outcome(OutcomeKind.REJECTED)
OTHER_KEY: Final = Outcome(OutcomeKind.REJECTED, suspect=True)
THROTTLED: Final = Outcome(OutcomeKind.THROTTLED, attempt=False, retry_after=1.0, scope=Scope.HOST)
SERVER: Final = Outcome(OutcomeKind.UNAVAILABLE, maybe=True, scope=Scope.HOST)
BUSY: Final = Outcome(OutcomeKind.UNAVAILABLE, scope=Scope.HOST)  # the service says that it did nothing
NO_ANSWER: Final = Outcome(OutcomeKind.UNAVAILABLE, "webpush:BAD_ANSWER", maybe=True, scope=Scope.HOST)

_BY_STATUS: Final = {
    401: OTHER_KEY,
    403: OTHER_KEY,
    404: GONE,
    406: THROTTLED,  # WNS, before it spoke 429
    408: BUSY,
    410: GONE,
    421: BUSY,  # this connection is not for that host: another one is
    429: THROTTLED,
    503: BUSY,
}
_BY_REASON: Final = {"webpush:VapidPkHashMismatch": OTHER_KEY}  # Apple says 400
OF_DEVICE: Final = frozenset(("webpush:TooManyRequests",))  # Apple throttles a device, not us
_NO_CODE: Final = re.compile(r"[^A-Za-z0-9_]+")
_strangers = Strangers("webpush")


def read(status: int, headers: Headers, body: bytes) -> Outcome:
    """The outcome of an answer."""
    if 200 <= status < 300:  # 201 by the RFC; older services say 200 and 202
        return ACCEPTED if not body or _may_be_a_yes(body) else NO_ANSWER
    if status >= 500:
        meaning = _BY_STATUS.get(status, SERVER)
    elif status >= 400:
        meaning = _BY_STATUS.get(status, REFUSED)
    else:
        meaning = REFUSED  # redirects are never followed: a push service has no reason for one
    reason = _strangers.name(_code(headers, body), status)
    return replace(_BY_REASON.get(reason, meaning), reason=reason)


def _may_be_a_yes(body: bytes) -> bool:
    """The RFC's yes has no body and some services write one; no page of a proxy, no error, no garbage."""
    try:
        words = body.decode().lstrip()
    except UnicodeDecodeError:
        return False
    return not words.startswith("<") and not {"errno", "error", "reason"} & (parse_object(body) or {}).keys()


def _code(headers: Headers, body: bytes) -> str | None:
    """The service's own word for it: Apple's reason, Mozilla's errno, WNS's headers (its body is empty)."""
    for name in (b"x-wns-error-description", b"x-wns-notificationstatus", b"x-wns-status"):
        if said := headers.get(name):
            return f"wns {_NO_CODE.sub(' ', said.decode('ascii', 'replace'))}".strip()[:64]
    answer = parse_object(body) or {}
    reason, number = answer.get("reason"), answer.get("errno")
    if isinstance(reason, str):
        return reason
    return f"errno {number}" if type(number) is int else None
