"""Honor Push: what an answer means.

Honor's own page of codes could not be read, so a yes has to say that it is one: a code of success (200 in
most integrators' code; 0, 12200000 and 80000000 in others': UNCONFIRMED which) with `sendResult` true, or,
where that is missing, with the number that the request was given. Codes that look like an HTTP status are
taken for one; any other is unknown and may have been done.

Of a success `expireTokens` have ended. `failTokens` were not sent and go again, a few times. A `sendResult`
that is false leaves open what became of those whom it does not name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, Final

from clarion.senders.answers import Strangers, parse_object, token_lifetime
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind
from clarion.senders.vendor_answers import (
    BLOCKED,
    BUSY,
    GONE,
    MESSAGE,
    SERVER,
    TOKEN,
    by_status,
    named,
    unknown,
)

SUCCESS: Final = frozenset((0, 200, 12_200_000, 80_000_000))
TABLE: Final = named(
    "honor",
    {
        400: MESSAGE,
        401: TOKEN,
        403: BLOCKED,
        404: BLOCKED,
        405: BLOCKED,
        413: MESSAGE,
        429: BUSY,
        500: SERVER,
        502: SERVER,
        503: SERVER,
        504: SERVER,
    },
)
TOKEN_REASONS: Final = frozenset(("honor:401",))
EXPIRED: Final = replace(GONE, reason="honor:expireTokens")
FAILED: Final = Outcome(OutcomeKind.UNAVAILABLE, "honor:failTokens")
NOT_SENT: Final = replace(SERVER, reason="honor:sendResult")
_strangers = Strangers("honor")


def read(status: int, body: bytes) -> tuple[Outcome, dict[str, Outcome]]:
    """What an answer says of the request, and of registrations that it names."""
    answer = parse_object(body)
    code = None if answer is None else _number(answer.get("code"))
    if answer is None or code is None:
        return by_status("honor", status), {}
    if code not in SUCCESS:
        return TABLE.get(code) or unknown(_strangers, status, code), {}
    data = answer.get("data")
    if status != 200 or not isinstance(data, dict):
        return by_status("honor", status), {}
    return _sent(data)


def token_answer(status: int, body: bytes) -> tuple[str, float] | str | None:
    """What the token endpoint says: a token and its seconds, the name of a refusal, or nothing of use.

    How it words an error is UNCONFIRMED: an `error` or a `code` with a 4xx refuses the credential.
    """
    answer = parse_object(body) or {}
    token, seconds = answer.get("access_token"), answer.get("expires_in")
    if status == 200 and isinstance(token, str) and token:
        return token, token_lifetime(seconds)
    if ("error" in answer or "code" in answer) and 400 <= status < 500 and status not in (408, 429):
        return f"honor:oauth_{status}"
    return None


def _sent(data: dict[str, Any]) -> tuple[Outcome, dict[str, Outcome]]:
    result, number = data.get("sendResult"), data.get("requestId")
    others = dict.fromkeys(_listed(data.get("failTokens")), FAILED)
    others |= dict.fromkeys(_listed(data.get("expireTokens")), EXPIRED)
    if result is True or (result is None and isinstance(number, str) and number):
        return ACCEPTED, others
    return (NOT_SENT, others) if result is False else (by_status("honor", 200), {})


def _listed(tokens: Any) -> Iterable[str]:
    return [str(token) for token in tokens] if isinstance(tokens, list) else ()


def _number(code: Any) -> int | None:
    if isinstance(code, str) and code.isdecimal() and len(code) < 10:
        return int(code)
    return code if isinstance(code, int) and not isinstance(code, bool) else None
