"""Logs of worker processes: a line an event, JSON unless a person watches, no foreign exception's text."""

from __future__ import annotations

import logging
import sys
from typing import Any

import structlog
from structlog.typing import EventDict, Processor
from temporalio.exceptions import FailureError

from activities.faults import place
from clarion.errors import ClarionError

NOISY = {
    # Temporal's own words about activities that our interceptor has told of already.
    "temporalio.activity": logging.ERROR,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
}


def configure(process: str) -> None:
    """Send everything, also what libraries log, through structlog to standard error."""
    structlog.contextvars.bind_contextvars(process=process)
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_foreign_text,
    ]
    person = sys.stderr.isatty()
    render: Processor = structlog.dev.ConsoleRenderer() if person else structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.INFO)
    for name, level in NOISY.items():
        logging.getLogger(name).setLevel(level)


def _without_foreign_text(logger: Any, method: str, event: EventDict) -> EventDict:
    """An exception becomes its type and place; only our own words and Temporal's are kept."""
    found = event.pop("exc_info", None)
    record = event.get("_record")
    if found is None and record is not None and record.exc_info:
        found = record.exc_info
        record.exc_info = record.exc_text = None
    error = found[1] if isinstance(found, tuple) else sys.exc_info()[1] if found is True else found
    if isinstance(error, BaseException):
        words = f": {error}" if isinstance(error, ClarionError | FailureError) else ""
        event["fault"] = f"{type(error).__name__} at {place(error)}{words}"
    return event
