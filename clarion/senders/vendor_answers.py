"""What the vendors' classify tables have in common: the few things that a code can mean, and what an answer
is whose code is unknown or that is none at all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final, TypeVar

from clarion.senders.answers import Strangers
from clarion.senders.outcome import Outcome, OutcomeKind, Scope

Code = TypeVar("Code", int, str)

# The message is at fault, or what we said of it: the same for every registration, so the 30 % rule stops the
# lane before the audience is burnt.
MESSAGE: Final = Outcome(OutcomeKind.REJECTED, suspect=True)
GONE: Final = Outcome(OutcomeKind.REJECTED, retire=True)  # the registration has ended
WRONG: Final = Outcome(OutcomeKind.REJECTED, retire=True, suspect=True)  # so it has, or we are somebody else
REFUSED: Final = Outcome(OutcomeKind.REJECTED)  # this registration, this time
BLOCKED: Final = Outcome(OutcomeKind.BLOCKED)  # the credential or the app's rights
SERVER: Final = Outcome(OutcomeKind.UNAVAILABLE, maybe=True)  # may have been done
BUSY: Final = Outcome(OutcomeKind.THROTTLED, attempt=False, scope=Scope.LANE)  # too fast: surely not done
TOKEN: Final = Outcome(OutcomeKind.UNAVAILABLE, attempt=False)  # the authorization: the sender makes another
TOMORROW: Final = Outcome(
    OutcomeKind.THROTTLED, attempt=False, scope=Scope.LANE
)  # the day's quota is used up

_BY_STATUS: Final[dict[int, Outcome]] = {
    400: MESSAGE,
    401: TOKEN,
    403: BLOCKED,
    404: BLOCKED,
    405: BLOCKED,
    408: SERVER,
    413: MESSAGE,
    429: BUSY,
}


def named(provider: str, meanings: Mapping[Code, Outcome]) -> dict[Code, Outcome]:
    """The table with each code's reason, e.g. "hms:80300002"."""
    return {code: replace(meaning, reason=f"{provider}:{code}") for code, meaning in meanings.items()}


def by_status(provider: str, status: int, others: Mapping[int, Outcome] | None = None) -> Outcome:
    """The outcome of an answer without a code. A 200 without one is no yes: nobody knows what was done."""
    meaning = (others or {}).get(status) or _BY_STATUS.get(status)
    if meaning is not None:
        return replace(meaning, reason=f"{provider}:{status}")
    if 400 <= status < 500:
        return replace(MESSAGE, reason=f"{provider}:{status}")
    if status >= 500:
        return replace(SERVER, reason=f"{provider}:{status}")
    return replace(SERVER, reason=f"{provider}:BAD_ANSWER")


def unknown(strangers: Strangers, status: int, code: object) -> Outcome:
    """The outcome of a code that no sheet has. With a 4xx it is refused, else it may have been done."""
    number = str(code) if isinstance(code, int | str) and str(code).lstrip("-").isdigit() else None
    name = strangers.name(f"code {number.lstrip('-')}" if number else None, status)
    meaning = MESSAGE if 400 <= status < 500 and status not in (408, 429) else SERVER
    return replace(meaning, reason=name)
