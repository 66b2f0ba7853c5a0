"""What activities tell Temporal when they cannot go on, and that they are alive while they can.

Failures stand in histories and in the UI, so nothing foreign gets there: the text of somebody else's
exception may carry a URL with a token, or a row of a table.
"""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import asyncpg
import structlog
from temporalio import activity
from temporalio.exceptions import ApplicationError, FailureError
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from clarion.errors import AlreadyExists, BadInput, ClarionError, CommandRefused, NotFound, StoreFull

log = structlog.get_logger("clarion.activities")

TICK = 5.0  # seconds between the heartbeats of a long database call
# Asking again gives the same answer, until somebody has done something about it.
FOR_GOOD = (BadInput, NotFound, AlreadyExists, CommandRefused, StoreFull)
UNSTORABLE = (
    "a value cannot be stored: look for a NUL character (\\u0000) in a text, a whole number of more than 64 "
    "bits, a pace or weight outside 1e-37 … 1e38, or a date at the edge of the calendar"
)
GIVEN = ("open_", "command")  # activities whose input was written by somebody outside begin so
ROOT = Path(__file__).resolve().parents[1]


def ours(error: Exception, *, given: bool = False) -> ApplicationError:
    """The failure that Temporal is told: our words as they are, of a foreign exception type and place.

    `given`: a value that PostgreSQL cannot hold is somebody's bad input, which no repetition mends.
    """
    if given and isinstance(error, asyncpg.DataError):
        return ApplicationError(UNSTORABLE, type="BadSpec", non_retryable=True)
    if isinstance(error, ClarionError):
        return ApplicationError(
            str(error), type=type(error).__name__, non_retryable=isinstance(error, FOR_GOOD)
        )
    kind = type(error).__name__
    return ApplicationError(f"{kind} at {place(error)}", type=kind)


def place(error: BaseException) -> str:
    """Where in our code it went wrong: file, line and function; never the text of a line."""
    frames = traceback.extract_tb(error.__traceback__)
    mine = [frame for frame in frames if Path(frame.filename).is_relative_to(ROOT)] or list(frames)
    mine = [frame for frame in mine if "site-packages" not in frame.filename] or mine
    if not mine:
        return "an unknown place"
    last = mine[-1]
    return f"{Path(last.filename).name}:{last.lineno} in {last.name}"


class Faults(Interceptor):
    """Turns every foreign exception of an activity into ours."""

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        """Put ourselves around the activity."""
        return _Inbound(next)


class _Inbound(ActivityInboundInterceptor):
    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        try:
            return await super().execute_activity(input)
        except FailureError:
            raise  # ours already
        except Exception as error:
            failure = ours(error, given=activity.info().activity_type.startswith(GIVEN))
            if not failure.non_retryable:
                log.warning("activity failed", activity=activity.info().activity_type, fault=failure.message)
            raise failure from None


@asynccontextmanager
async def ticking() -> AsyncIterator[None]:
    """Heartbeats beside one long call, so that a dead process is noticed within the heartbeat time-out."""

    async def tick() -> None:
        while True:
            activity.heartbeat()
            await asyncio.sleep(TICK)

    task = asyncio.get_running_loop().create_task(tick())
    try:
        yield
    finally:
        task.cancel()
