"""The ledger's words and numbers: states of a delivery, codes of a STEP, holds, reasons of our own."""

from __future__ import annotations

from enum import IntEnum


class State(IntEnum):
    """State of a delivery in the ledger."""

    PLANNED = 0
    RETRY = 1
    ACCEPTED = 2
    REJECTED = 3
    SUPPRESSED = 4
    EXPIRED = 5
    CANCELLED = 6
    DEAD = 7
    IN_DOUBT = 8


class Code(IntEnum):
    """What one STEP says of one row. ACCEPTED and REJECTED are answers; everything else is a decision,
    which counts only from the epoch's holder."""

    NOT_SENT = 0  # goes again, is no attempt (refused stream, throttled, answered at the floor)
    REFUSED = 1  # goes again, was an attempt, was surely not processed
    ACCEPTED = 2
    REJECTED = 3
    SUPPRESSED = 4
    EXPIRED = 5
    DEAD = 7
    IN_DOUBT = 8
    MAYBE = 9  # goes again (at least once) or is in doubt (at most once): may have been processed
    MAYBE_UNCOUNTED = 10  # the same, had while the lane was at its floor: no attempt


class Hold(IntEnum):
    """The control row's word."""

    NONE = 0
    DRAINING = 1
    PAUSED = 2
    CLOSING = 3


class Reason(IntEnum):
    """Reason numbers of our own (below 100); a provider's are numbered by the table `reason`."""

    NONE = 0
    RETIRED = 1  # the registration was retired or is gone
    MOVED = 2  # the phone belongs to another user now
    OPTED_OUT = 3
    MISSING_VALUE = 4  # a value of the message is missing for this user and has no default
    PAYLOAD_TOO_LARGE = 5  # too large after rendering, for this device alone
    UNANSWERED = 6  # the attempt died, or the push closed, before an answer was known
    TIMEOUT = 7
    CONNECTION_LOST = 8
    STREAM_RESET = 9
    DEADLINE = 10
    NOT_SENT = 11  # no connection, refused stream: the request surely had no effect
    BAD_TOKEN = 12  # a token that must not be framed; import should have refused it
    BAD_ENDPOINT = 13  # a Web Push endpoint that points where it must not
    MUST_RESUBSCRIBE = 14  # its Web Push key was withdrawn: the browser must subscribe again
    UNSEEN = 15  # not heard of for so long that it became inactive
    BLOCKED = 16  # its lane was blocked, and the phone was tried through another one
    POISON = 99  # six attempts died on it
