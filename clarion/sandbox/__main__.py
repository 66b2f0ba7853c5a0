"""The provider simulators as a program.

    python -m clarion.sandbox --data DIR [--port 0] [--control-port 0]

prints one JSON line when it is ready, {"apns": port, "fcm": port, "webpush": [three ports], "control": port,
"ca": path}, and runs until SIGTERM or SIGINT. In DIR it keeps

    requests.jsonl                      the log, one line a request (clarion/sandbox/log.py tells the fields)
    tls/ca.pem                          what clients have to trust
    ports.json                          its ports, taken again at the next start
    credentials/apns.json               {"team_id", "key_id", "topic", "private_key"} (PEM of a .p8 file)
    credentials/apns-certificate.json   {"topic", "certificate", "private_key"} for certificate authentication
    credentials/fcm.json                a service account whose token_uri is the sandbox itself
    credentials/webpush.json            {"private_key", "public_key", "subject"}, base64url; any other VAPID
                                        key is as good

`--port N` takes N to N+4 for APNs, FCM and the three Web Push origins. `--decrypt 0.01` decrypts that share
of the Web Push messages, always those of the same subscriptions: for measurements. `--dead FILE` names
registrations that have died, one a line.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import signal
import sys
from pathlib import Path

from clarion.sandbox.control import Control
from clarion.sandbox.sandbox import ORIGINS, Sandbox
from clarion.sandbox.service import Settings
from clarion.sandbox.webpush_dialects import DIALECTS


def main() -> None:
    """Run as a program."""
    given = _arguments().parse_args()
    if set(given.dialects) - DIALECTS.keys():
        sys.exit(f"clarion.sandbox: dialects are {', '.join(DIALECTS)}")
    try:
        import uvloop
    except ImportError:  # not on every platform; the standard loop does the same, slower
        asyncio.run(run(given))
    else:
        uvloop.run(run(given))


async def run(given: argparse.Namespace) -> None:
    """Serve until a signal comes."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, stop.set)
    sandbox = Sandbox(
        given.data,
        port=given.port,
        dialects=given.dialects,
        settings=Settings(decrypt=given.decrypt),
    )
    async with sandbox:
        if given.dead is not None:
            sandbox.bury({"tokens": given.dead.read_text().split()})
        control = Control(sandbox)
        await control.start(given.control_port)
        # What exists now stays; looking at it again and again would cost every hundredth request its latency.
        gc.collect()
        gc.freeze()
        print(json.dumps({**sandbox.ports(), "control": control.port}), flush=True)
        await stop.wait()
        control.stop()


def _arguments() -> argparse.ArgumentParser:
    words = argparse.ArgumentParser(
        prog="clarion.sandbox", description="Simulators of APNs, FCM and Web Push."
    )
    words.add_argument("--data", type=Path, required=True, help="where everything is kept")
    words.add_argument("--port", type=int, default=0, help="the first of five ports; 0: as before, or any")
    words.add_argument("--control-port", type=int, default=0)
    words.add_argument("--decrypt", type=float, default=1.0, help="share of Web Push messages to decrypt")
    words.add_argument("--dialects", nargs=3, default=ORIGINS, help=f"three of {', '.join(DIALECTS)}")
    words.add_argument("--dead", type=Path, help="registrations that have died, one a line")
    return words


if __name__ == "__main__":
    main()
