"""Ports on the loopback interface: whether one is free, and one that is."""

from __future__ import annotations

import socket
from typing import Final

from clarion.errors import StackUnavailable

LOOPBACK: Final = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket() as probe:
        # As servers do: a port whose last connections are still in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def choose(what: str, wanted: int | None, *preferred: int | None) -> int:
    """The port that was asked for, or else the first preferred one that is free, or else any.

    Only a port that somebody asked for can be taken: that is an error, the others are habits.
    """
    if wanted:
        if not is_free(wanted):
            raise StackUnavailable(
                f"port {wanted} for {what} is taken: stop what listens there or choose another"
            )
        return wanted
    return next((port for port in preferred if port and is_free(port)), 0) or free_port()
