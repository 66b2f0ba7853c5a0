"""Every time-out, window and size of the engine, once. Seconds and bytes unless said otherwise."""

from __future__ import annotations

from typing import Final

# The window: deliveries of one process that are claimed and not yet committed. A crash costs at most one.
WINDOW: Final = 1_000
STEP_OUTCOMES: Final = 500  # a ledger statement carries at most about this many outcomes
STEP_SECONDS: Final = 0.1  # and waits no longer than this for them
CLAIM_EVERY: Final = 1.0  # a holder renews its word at least this often
GRANT_SECONDS: Final = 1.5  # how long an operator's word is good for: pause is obeyed within it
CLAIM_AHEAD: Final = 0.5  # and a window at most this many seconds of the process's rate
CLAIM_TO_START: Final = 0.3  # but, where answers are slow, always so many seconds' rows that may start

# One request at a provider.
REQUEST_TIMEOUT: Final = 6.0
REQUEST_TIMEOUT_BY_PROVIDER: Final[dict[str, float]] = {
    "fcm": 10.0,  # Google asks for ten seconds
    "umeng": 10.0,  # a file and its sending are two requests
    "vivo": 10.0,  # content and its readers are two requests
}
GROUP: Final = 200  # deliveries in one request where a request carries many: a fifth of the window
LEASE_MARGIN: Final = 4.0  # lease = request timeout + this

# One attempt at a batch.
ATTEMPT_SECONDS: Final = 60.0  # then it returns `more`
STAND_BY_SECONDS: Final = 30.0  # held, it keeps its place so long: resume is obeyed without Temporal's hops
STAND_BY_EVERY: Final = 0.5  # and looks whether the hold is over so often
STAND_BY_MOST: Final = 32  # attempts of one process at once: the places of others are not theirs
HEARTBEAT_TIMEOUT: Final = 3.0
HEARTBEAT_EVERY: Final = 1.0
STALL_SECONDS: Final = 20.0  # no answer, commit, database retry or named wait for so long: stop the heartbeat
MOST_BADGE: Final = 32_767  # where a phone that is never opened stops counting: a smallint
MAX_ATTEMPTS: Final = 4  # attempts at one delivery before it is dead
RETRY_SECONDS: Final = (1.0, 5.0, 30.0)  # then doubling
RETRY_JITTER: Final = 0.2

# Batches and ranges.
BATCH_MIN: Final = 1_000
BATCH_MAX: Final = 30_000  # seq is a smallint
BATCH_HIGH: Final = 500
BATCHES_PER_AUDIENCE: Final = 16  # batch = estimated rows ÷ 16, within the two bounds above
RANGE_FIRST: Final = 20_000  # estimated rows of the first range, so that sending starts at once
RANGE_MAX: Final = 1_000_000  # each range has twice as many as the one before, up to this
MAX_BATCHES_PER_RANGE: Final = 10_000
FREEZES_AT_ONCE: Final = 2

# The push loop.
STOCK: Final = 50  # batches a lane that one look at the ledger brings
RETRY_LIST: Final = 50  # batches that one child works through when they have only retries due
LIVE_MIN: Final = 3
LIVE_MAX: Final = 64
LOOK_AGAIN: Final = 10.0
LOOK_AGAIN_MAX: Final = 300.0
LATE_START: Final = 60.0  # a new push may be planned for so long ago: clocks differ, and people say "now"
LOOK_SCHEDULED: Final = 3_600.0  # before its time a push only looks whether somebody moved it with --direct
IDLE_LOOKS: Final = 3  # looks with nothing live, nothing changed and no named wait: paused by clarion
SENDER_GONE: Final = 15.0  # a process not seen for so long serves no queue
WORKER_SEEN_EVERY: Final = 5.0

HOUSEKEEPING_EVERY: Final = 60.0
FEEDBACK_EVERY: Final = 3_600.0  # providers are asked for registrations that have ended
TOPIC_TIMEOUT: Final = 120.0  # one try of a word to an FCM topic ...
TOPIC_PATIENCE: Final = 600.0  # ... and all of them
WATCH_GRACE: Final = 10.0  # a push opened just now is given its workflow

# Temporal. No business time in any of these: deadlines live in the control row.
WORKFLOW_TASK_TIMEOUT: Final = 3.0
STICKY_TIMEOUT: Final = 2.0
OPS_TIMEOUT: Final = 4.0
BULK_TIMEOUT: Final = 600.0
SEND_TIMEOUT: Final = 180.0  # an attempt, standing by, another attempt, and what is on the wire then
DRAIN_SECONDS: Final = 20.0  # before continue-as-new: wait so long for live batches, then cancel them
GRACEFUL_SHUTDOWN: Final = 20.0
EXIT_SECONDS: Final = 25.0  # after SIGTERM a process is gone, whatever it still waits for
COMMAND_TIMEOUT: Final = 5.0  # the database is away: the command fails, outcome unknown, safe to repeat

# Quota.
EXCHANGE_EVERY: Final = 0.25
RATE_LEASE: Final = 1.25
APPETITE: Final = 100_000.0  # sends a second that an attempt asks for: more than a process can start

# Content.
INLINE_MESSAGE_BYTES: Final = 8_192
INLINE_USERS: Final = 100
APNS_PAYLOAD: Final = 4_096
APNS_VOIP_PAYLOAD: Final = 5_120
FCM_PAYLOAD: Final = 4_096
FCM_TOPIC_PAYLOAD: Final = 2_048  # to a topic or condition
HMS_BODY: Final = 4_096  # without the registrations
JPUSH_ANDROID: Final = 4_000  # notification and message
JPUSH_IOS: Final = 2_000  # the block ios
UMENG_ANDROID: Final = 1_840  # the payload
UMENG_IOS: Final = 2_012
HONOR_BODY: Final = 4_096  # likewise
WEBPUSH_PLAINTEXT: Final = 3_993
TOKEN_BYTES: Final = 8_192


def request_timeout(provider: str) -> float:
    """How long one request at this provider may take before it counts as unanswered."""
    return REQUEST_TIMEOUT_BY_PROVIDER.get(provider, REQUEST_TIMEOUT)


def lease(provider: str) -> float:
    """How long an attempt holds a batch without renewing its word."""
    return request_timeout(provider) + LEASE_MARGIN


def start_gate(provider: str) -> float:
    """How long after a grant was asked for a request may still start."""
    return min(GRANT_SECONDS, lease(provider) - request_timeout(provider) - 1.0)


def live_limit(senders: int) -> int:
    """How many batches of a lane may live at once: fewer leave a sender idle."""
    return max(LIVE_MIN, min(LIVE_MAX, 1 + 2 * senders))


def batch_size(estimated_rows: int, *, high: bool) -> int:
    """Rows of one batch for an audience of about `estimated_rows`."""
    if high:
        return BATCH_HIGH
    return max(BATCH_MIN, min(BATCH_MAX, -(-estimated_rows // BATCHES_PER_AUDIENCE)))


def retry_after(attempt: int) -> float:
    """Seconds before attempt `attempt` + 1 (1 = after the first attempt), before jitter."""
    if attempt <= len(RETRY_SECONDS):
        return RETRY_SECONDS[max(attempt, 1) - 1]
    return RETRY_SECONDS[-1] * 2.0 ** (attempt - len(RETRY_SECONDS))
