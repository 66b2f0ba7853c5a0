"""CPU per request of the HTTP/2 client and server over TLS, beside httpx in the same run.

    python -m benchmarks.transport [--requests 200000] [--rounds 3] [--url https://localhost:8443 --ca ca.pem]

Client and server are processes of their own, pinned to a core each where there are two. The figure is CPU
seconds (user and system) per request, whole process, after a warm-up; never the wall clock. With `--url`
the client speaks to somebody else's server (nginx, say) instead of ours. Rounds are interleaved, medians
are shown.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import resource
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from clarion.http2.client import Connection, Fate, connect
from clarion.http2.frames import Header, literal
from clarion.http2.server import ServerConnection

WARM_UP: Final = 0.2  # this share of the requests goes before the clock starts
MALLOC: Final = {"MALLOC_MMAP_THRESHOLD_": "4194304", "MALLOC_TRIM_THRESHOLD_": "16777216"}
TOKEN: Final = "a1" * 32
FCM_ANSWER: Final = b'{\n  "name": "projects/demo/messages/0:1700000000000000%31bd1c9631bd1c96"\n}\n'
APNS: Final = {
    "path": b"/3/device/" + TOKEN.encode(),
    "headers": [
        (b"authorization", b"bearer " + b"e" * 180),
        (b"apns-topic", b"com.example.app"),
        (b"apns-push-type", b"alert"),
        (b"apns-priority", b"10"),
    ],
    "extra": [(b"apns-expiration", b"1700000000"), (b"apns-collapse-id", b"0123456789abcdef")],
    "body": b'{"aps":{"alert":{"title":"A title","body":"A body of about the usual length, with a name"}}}',
}
FCM: Final = {
    "path": b"/v1/projects/demo/messages:send",
    "headers": [(b"authorization", b"Bearer " + b"y" * 220), (b"content-type", b"application/json")],
    "extra": [],
    "body": b'{"message":{"token":"' + b"t" * 152 + b'","notification":{"title":"A title","body":"A body"}}}',
}
KINDS: Final[dict[str, dict[str, Any]]] = {"apns": APNS, "fcm": FCM}


def cpu() -> float:
    """CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def pin(core: int) -> None:
    """Stay on one core, as far as there are so many."""
    if (os.cpu_count() or 1) > 1:
        os.sched_setaffinity(0, {core})


# ---- the server


class Answers:
    """Answers like APNs or FCM, as their paths say, and like a control when asked for the CPU used."""

    def __init__(self) -> None:
        self.apns = literal(b"apns-id", b"eabeae54-14a8-11e5-b60b-1697f925ec7b")
        self.fcm = literal(b"content-type", b"application/json; charset=UTF-8")

    def request(
        self,
        conn: ServerConnection,
        stream_id: int,
        method: bytes,
        path: bytes,
        headers: list[Header],
        body: bytes,
    ) -> None:
        """Answer at once."""
        if path.startswith(b"/3/"):
            conn.respond(stream_id, 200, self.apns)
        elif path == b"/cpu":
            conn.respond(stream_id, 200, (), b"%f" % cpu())
        else:
            conn.respond(stream_id, 200, self.fcm, FCM_ANSWER)


async def serve(folder: Path) -> None:
    """Listen; the port is the one line on standard output."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "both.pem")
    context.set_alpn_protocols(["h2"])
    answers = Answers()
    server = await asyncio.get_running_loop().create_server(
        lambda: ServerConnection(answers), "127.0.0.1", 0, ssl=context
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def make_certificate(folder: Path) -> None:
    """A certificate for localhost: ca.pem, and with its key both.pem."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "ca.pem").write_bytes(public)
    (folder / "both.pem").write_bytes(public + private)


# ---- the clients


class Load:
    """Keeps one connection full until so many requests are answered."""

    def __init__(self, kind: str, count: int) -> None:
        spec = KINDS[kind]
        self.path, self.body = spec["path"], spec["body"]
        self.extra = b"".join(literal(*header) for header in spec["extra"])
        self.left = count
        self.answers = 0
        self.failures = 0
        self.goal = count
        self.connection: Connection | None = None
        self.done = asyncio.Event()

    def answered(self, key: object, status: int, headers: Mapping[bytes, bytes], body: bytes) -> None:
        """Count."""
        self.answers += 1
        self.failures += status != 200

    def unanswered(self, key: object, fate: Fate, detail: str) -> None:
        """Count."""
        self.answers += 1
        self.failures += 1

    def room_made(self) -> None:
        """Post as many as there is room for."""
        connection = self.connection
        if connection is None:
            return
        if self.answers >= self.goal:
            self.done.set()
        post, path, extra, body = connection.post, self.path, self.extra, self.body
        while self.left and (room := min(connection.room(), self.left)):
            for key in range(room):
                post(key, path, extra, body)
            self.left -= room
            connection.flush()

    def closed(self, connection: Connection, reason: str) -> None:
        """The server has gone: give up."""
        self.done.set()

    async def run(self, count: int) -> None:
        """So many more."""
        self.left, self.goal = count, self.answers + count
        self.done.clear()
        self.room_made()
        await self.done.wait()


async def ours(url: str, ca: str, kind: str, window: int, count: int) -> dict[str, float]:
    """Our client."""
    parts = urlsplit(url)
    load = Load(kind, 0)
    load.connection = await connect(
        parts.hostname or "",
        parts.port or 443,
        authority=parts.netloc.encode(),
        headers=KINDS[kind]["headers"],
        owner=load,
        tls=_context(ca),
        timeout=30.0,
        window=window,
        address="127.0.0.1",
    )
    await load.run(int(count * WARM_UP))
    before, started = cpu(), time.perf_counter()
    await load.run(count)
    result = _result(count, cpu() - before, time.perf_counter() - started, load.failures)
    load.connection.abort()
    return result


async def by_httpx(url: str, ca: str, kind: str, window: int, count: int) -> dict[str, float]:
    """httpx with as many requests at once."""
    spec = KINDS[kind]
    headers = {name.decode(): value.decode() for name, value in (*spec["headers"], *spec["extra"])}
    failures = 0
    limits = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(http2=True, verify=_context(ca), limits=limits, timeout=60) as client:

        async def worker(share: int) -> None:
            nonlocal failures
            for _ in range(share):
                answer = await client.post(url + spec["path"].decode(), headers=headers, content=spec["body"])
                failures += answer.status_code != 200

        workers = min(window, 100)
        await worker(20)
        before, started = cpu(), time.perf_counter()
        await asyncio.gather(*(worker(count // workers) for _ in range(workers)))
        total = count // workers * workers
        return _result(total, cpu() - before, time.perf_counter() - started, failures)


def _context(ca: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    context.set_alpn_protocols(["h2"])
    return context


def _result(count: int, used: float, seconds: float, failures: int) -> dict[str, float]:
    return {"cpu_us": used / count * 1e6, "rate": count / seconds, "failures": failures}


# ---- the series


def run_client(
    client: str, url: str, ca: str, kind: str, window: int, count: int, malloc: bool
) -> dict[str, Any]:
    """One measurement in a process of its own."""
    arguments = [client, url, ca, kind, str(window), str(count)]
    environment = {name: value for name, value in os.environ.items() if name not in MALLOC}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.transport", "--client", *arguments],
        env=environment | (MALLOC if malloc else {}),
        stdout=subprocess.PIPE,
        check=True,
    )
    return dict(json.loads(done.stdout))


async def server_cpu(url: str, ca: str) -> float:
    """CPU seconds that our server says it has used; 0 for another server."""
    async with httpx.AsyncClient(http2=True, verify=_context(ca)) as client:
        with suppress(ValueError, httpx.HTTPError):
            return float((await client.get(url + "/cpu")).text)
    return 0.0


def measure(url: str, ca: str, requests: int, rounds: int) -> None:
    """Interleaved rounds of every case; a table on standard output."""
    cases = [
        (client, kind, window, malloc)
        for kind in ("apns", "fcm")
        for client, window, malloc in (
            ("ours", 1000, True),
            ("ours", 400, True),
            ("ours", 1000, False),
            ("httpx", 100, True),
        )
    ]
    results: dict[tuple[str, str, int, bool], list[dict[str, Any]]] = {case: [] for case in cases}
    for _ in range(rounds):
        for case in cases:
            client, kind, window, malloc = case
            count = requests if client == "ours" else max(requests // 200, 500)
            before = asyncio.run(server_cpu(url, ca))
            result = run_client(client, url, ca, kind, window, count, malloc)
            sent = count * (1 + WARM_UP if client == "ours" else 1)
            result["server_us"] = (asyncio.run(server_cpu(url, ca)) - before) / sent * 1e6
            results[case].append(result)
    print(
        f"{'client':8}{'like':6}{'window':>7}  {'malloc':8}{'CPU µs':>8}{'server µs':>11}{'req/s':>10} failed"
    )
    for (client, kind, window, malloc), series in results.items():
        cost, server, rate = (
            statistics.median(r[key] for r in series) for key in ("cpu_us", "server_us", "rate")
        )
        failures = sum(int(r["failures"]) for r in series)
        print(
            f"{client:8}{kind:6}{window:7}  {'tuned' if malloc else 'default':8}"
            f"{cost:8.1f}{server:11.1f}{rate:10,.0f}  {failures}"
        )


def main() -> None:
    """Measure, or be one of the processes of a measurement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--url")
    parser.add_argument("--ca")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--client", nargs=6, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.serve:
        pin(1)
        uvloop.run(serve(chosen.serve))
    elif chosen.client:
        pin(0)
        client, url, ca, kind, window, count = chosen.client
        run = {"ours": ours, "httpx": by_httpx}[client]
        print(json.dumps(uvloop.run(run(url, ca, kind, int(window), int(count)))))
    elif chosen.url:
        measure(chosen.url, chosen.ca, chosen.requests, chosen.rounds)
    else:
        with tempfile.TemporaryDirectory() as folder:
            make_certificate(Path(folder))
            server = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.transport", "--serve", folder],
                stdout=subprocess.PIPE,
                env=os.environ | MALLOC,
            )
            try:
                assert server.stdout is not None
                port = int(server.stdout.readline())
                measure(f"https://localhost:{port}", f"{folder}/ca.pem", chosen.requests, chosen.rounds)
            finally:
                server.terminate()
                server.wait()


if __name__ == "__main__":
    main()
