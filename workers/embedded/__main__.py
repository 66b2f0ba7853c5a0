"""`python -m workers.embedded`: run the stack until a signal, as `clarion dev` does."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from clarion.errors import ClarionError, StackUnavailable
from clarion.settings import Settings, running
from workers.embedded.supervisor import Options, Supervisor

STOP_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOCK_SECONDS: Final = 1.0  # a command that looks whether somebody is here holds the lock for a moment


def main() -> None:
    """Run the stack; the exit code is 1 when it could not be started."""
    settings = Settings()
    try:
        asyncio.run(serve(_options(sys.argv[1:], settings), settings))
    except ClarionError as error:
        print(f"clarion dev: {error}", file=sys.stderr)
        code = 1
    else:
        code = 0
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)  # Temporal's client has threads that now and then abort an interpreter at its exit


def _options(arguments: list[str], settings: Settings) -> Options:
    parser = argparse.ArgumentParser(prog="clarion dev")
    parser.add_argument("--data", type=lambda text: Path(text).expanduser().absolute())
    for name in ("--senders", "--postgres-port", "--temporal-port", "--ui-port"):
        parser.add_argument(name, type=int, default=3 if name == "--senders" else None)
    given = vars(parser.parse_args(arguments))
    return Options(**given | {"data": given["data"] or settings.data_directory})


async def serve(options: Options, settings: Settings) -> None:
    """Start the stack, say where it is, wait for a signal, stop it."""
    options.data.mkdir(parents=True, exist_ok=True)
    stop = asyncio.Event()
    with ExitStack() as held:
        await _hold(options.data, held)
        supervisor = Supervisor(options, settings, _say)
        _on_signals(stop, supervisor)
        starting = asyncio.create_task(_start(supervisor))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait((starting, stopping), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                await stopping
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            await supervisor.stop()


async def _start(supervisor: Supervisor) -> None:
    _say(f"starting in {supervisor.data} …")
    await supervisor.start()
    _say(_status(supervisor))


async def _hold(data: Path, held: ExitStack) -> None:
    """Hold the data directory, so that no second stack runs on it."""
    deadline = asyncio.get_running_loop().time() + LOCK_SECONDS
    while True:
        try:
            held.enter_context(running(data))
        except BlockingIOError:
            if asyncio.get_running_loop().time() > deadline:
                raise StackUnavailable(f"another `clarion dev` runs on {data}") from None
            await asyncio.sleep(0.05)
        else:
            return


def _on_signals(stop: asyncio.Event, supervisor: Supervisor) -> None:
    def ask() -> None:
        if stop.is_set():
            supervisor.keeper.kill()
        else:
            _say("stopping …")
            stop.set()

    for number in STOP_SIGNALS:
        asyncio.get_running_loop().add_signal_handler(number, ask)


def _say(line: str) -> None:
    print(line, flush=True)


def _status(supervisor: Supervisor) -> str:
    stack = supervisor.stack
    sandbox = stack.sandbox or {}
    external = supervisor.settings.database_url is not None
    places = {
        "Temporal UI": stack.temporal_ui,
        "Temporal": stack.temporal_address,
        "HTTP API": stack.temporal_http,
        "PostgreSQL": "CLARION_DATABASE_URL" if external else "embedded",
        "sandbox": ", ".join(f"{name} {sandbox[name]}" for name in ("apns", "fcm", "webpush", "control")),
        "processes": ", ".join(f"{name} {pid}" for name, pid in stack.pids.items()),
        "logs": supervisor.data / "logs",
    }
    rows = "\n".join(f"  {what:<12} {where}" for what, where in places.items())
    return f"Clarion is running. Ctrl-C stops it.\n{rows}"


if __name__ == "__main__":
    main()
