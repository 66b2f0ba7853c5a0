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


def choose(what: str, wanted: int | None, usual: int | None = None) -> int:
    """The port that is wanted, which must be free; else the usual one if it is free, else any."""
    if wanted:
        if not is_free(wanted):
            raise StackUnavailable(
                f"port {wanted} for {what} is taken: stop what listens there or choose another"
            )
        return wanted
    return usual if usual and is_free(usual) else free_port()
