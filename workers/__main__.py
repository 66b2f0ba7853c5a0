"""`python -m workers QUEUE…`: serve these task queues until SIGTERM."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence

import structlog

from clarion import names
from clarion.errors import ClarionError
from clarion.settings import Settings, find_stack
from workers import logs
from workers.runtime import Process

log = structlog.get_logger("clarion.workers")

CONTROL = (names.CONTROL_QUEUE, names.OPS_QUEUE, names.BULK_QUEUE)


def queues(arguments: Sequence[str]) -> list[str]:
    """The queues of a command line."""
    parser = argparse.ArgumentParser(
        prog="python -m workers", description="Serve task queues of Clarion until SIGTERM."
    )
    parser.add_argument(
        "queues", nargs="+", metavar="QUEUE", help="control, ops, bulk, send-apns, send-fcm-high, …"
    )
    given: list[str] = parser.parse_args(arguments).queues
    wrong = [queue for queue in given if queue not in CONTROL and not queue.startswith("send-")]
    if wrong:
        parser.error(f"no such queue: {', '.join(wrong)}")
    return given


async def serve(given: Sequence[str]) -> int:
    """Run the process; the exit code."""
    try:
        settings = Settings()
        process = Process(given, find_stack(settings.data, settings), settings)
        await process.run()
    except ClarionError as error:  # no stack, no key
        print(f"workers: {error}", file=sys.stderr)
        return 2
    except Exception:
        log.exception("a worker died")
        return 1
    # Temporal's threads may still be giving back what they hold: ending at once can abort the interpreter.
    await asyncio.sleep(0.1)
    return 0


def main() -> None:
    """Parse, configure logs, run on uvloop."""
    import uvloop

    given = queues(sys.argv[1:])
    logs.configure(os.environ.get("CLARION_PROCESS", given[0]))
    sys.exit(uvloop.run(serve(given)))


if __name__ == "__main__":
    main()
