"""Become a command that cannot outlive its parent: `python tether.py PARENT SIGNAL UID:GID COMMAND...`.

A program of its own because these things have to be done between fork and exec, and a forking parent with
threads may not do them safely. It imports the standard library only: it runs with `-I -S`, before anything
of ours. `UID:GID` is empty unless root starts a server that refuses root.
"""

from __future__ import annotations

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def become(account: str) -> None:
    """Give up root for good: user, group and every additional group."""
    uid, gid = (int(part) for part in account.split(":"))
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def tether(parent: int, signal_number: int) -> None:
    """Ask the kernel for a signal when the parent dies; end here if it already has."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal_number)
    if os.getppid() != parent:
        sys.exit(0)


def main(arguments: list[str]) -> None:
    """Change the account first: the kernel forgets the wish for a signal when credentials change."""
    parent, signal_number, account, *command = arguments
    if account:
        become(account)
    tether(int(parent), int(signal_number))
    os.execv(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
