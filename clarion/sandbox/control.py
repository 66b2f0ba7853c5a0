"""The control API: HTTP/1.1 with JSON, on this machine only.

GET  /state            ports, settings, faults and their hits, connections
GET  /counts           requests by provider, status and reason; the most in one second
GET  /shown/{token}    what the device has on its screen, de-duplication applied
GET  /faults           the rules and how often each had its way
POST /faults           one rule, or {"rules": [...]}: see clarion/sandbox/faults.py
DELETE /faults/{n}     that rule ends
POST /dead             {"tokens": [...]} or {"share": 0.02, "seed": 1}, beside them `provider`, `reason`,
                       `timestamp` (ms); or text/plain, one registration a line
POST /clear            faults end and the dead live; {"counts": true} also counts from 0,
                       {"only": ["faults"]} does no more than that (faults, dead, counts, grants)
POST /settings         clock, apns_streams, decrypt, dialects …: see GET /state
POST /subscriptions    {"count": 10, "first": 0, "origin": 0, "vapid_key": "…"} → subscriptions
POST /credentials      {"apns": {team_id, key_id, public_key, topic, topics, environment}, "fcm": {…}}
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final
from urllib.parse import unquote

import orjson

from clarion.http2.frames import Header
from clarion.http2.server import ServerConnection
from clarion.sandbox.plain import PlainConnection
from clarion.sandbox.sandbox import Sandbox
from clarion.sandbox.webpush import subscription

HOST: Final = "127.0.0.1"
SUBSCRIPTIONS: Final = 100_000
_JSON: Final[Header] = (b"content-type", b"application/json")

Route = Callable[[str, Any], Awaitable[Any]]


class Unknown(LookupError):
    """There is no such thing here."""


class Control:
    """Answers for one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self._routes: dict[tuple[str, str], Route] = {
            ("GET", "state"): self._state,
            ("GET", "counts"): self._counts,
            ("GET", "shown"): self._shown,
            ("GET", "faults"): self._faults,
            ("POST", "faults"): self._add_faults,
            ("DELETE", "faults"): self._end_fault,
            ("POST", "dead"): self._dead,
            ("POST", "clear"): self._clear,
            ("POST", "settings"): self._settings,
            ("POST", "subscriptions"): self._subscriptions,
            ("POST", "credentials"): self._credentials,
        }

    async def start(self, port: int = 0) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: PlainConnection(self), HOST, port)
        self.port = self._server.sockets[0].getsockname()[1]

    def stop(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.close()

    def request(
        self,
        conn: ServerConnection,
        stream_id: int,
        method: bytes,
        path: bytes,
        headers: list[Header],
        body: bytes,
    ) -> None:
        """One request; answered by a task of its own, for some of them read files."""
        task = asyncio.create_task(self._answer(conn, stream_id, method, path, headers, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(
        self,
        conn: ServerConnection,
        number: int,
        method: bytes,
        path: bytes,
        headers: list[Header],
        body: bytes,
    ) -> None:
        name, _, rest = path.decode("ascii", "replace").partition("?")[0].strip("/").partition("/")
        status = 200
        try:
            route = self._routes.get((method.decode(), name))
            if route is None:
                raise Unknown(f"there is no {method.decode()} /{name}")
            answer = await route(unquote(rest), _body(headers, body))
        except Unknown as error:
            status, answer = 404, {"error": str(error)}
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            status, answer = 400, {"error": f"{type(error).__name__}: {error}"}
        conn.respond(number, status, [_JSON], orjson.dumps(answer))

    # ---- routes

    async def _state(self, rest: str, body: Any) -> Any:
        return {**self._sandbox.state(), "control": self.port}

    async def _counts(self, rest: str, body: Any) -> Any:
        return self._sandbox.counts()

    async def _shown(self, rest: str, body: Any) -> Any:
        return {"token": rest, "shown": await self._sandbox.shown(rest)}

    async def _faults(self, rest: str, body: Any) -> Any:
        return self._sandbox.state()["faults"]

    async def _add_faults(self, rest: str, body: Any) -> Any:
        rules = body.get("rules", [body])
        return {"numbers": [(await self._sandbox.add_rule(rule)).number for rule in rules]}

    async def _end_fault(self, rest: str, body: Any) -> Any:
        if int(rest) not in [rule.number for rule in self._sandbox.rules]:
            raise Unknown(f"there is no rule {rest}")
        await self._sandbox.clear(int(rest))
        return {}

    async def _dead(self, rest: str, body: Any) -> Any:
        request = {"tokens": body.split()} if isinstance(body, str) else body
        return {"dead": self._sandbox.bury(request)}

    async def _clear(self, rest: str, body: Any) -> Any:
        what = body.get("only", ["faults", "dead", *(["counts"] if body.get("counts") else [])])
        if "faults" in what:
            await self._sandbox.clear()
        if "dead" in what:
            self._sandbox.revive()
        if "counts" in what:
            self._sandbox.reset_counts()
        if "grants" in what:
            self._sandbox.oauth.forget()
        return {}

    async def _settings(self, rest: str, body: Any) -> Any:
        self._sandbox.change(body)
        return self._sandbox.state()["settings"]

    async def _subscriptions(self, rest: str, body: Any) -> Any:
        count, first = int(body.get("count", 1)), int(body.get("first", 0))
        if not 0 <= count <= SUBSCRIPTIONS:
            raise ValueError(f"count is at most {SUBSCRIPTIONS}")
        origin = self._sandbox.webpush[int(body.get("origin", 0))].url
        key = body.get("vapid_key")
        return {"subscriptions": [subscription(n, origin, key) for n in range(first, first + count)]}

    async def _credentials(self, rest: str, body: Any) -> Any:
        self._sandbox.trust(apns=body.get("apns"), fcm=body.get("fcm"))
        return {}


def _body(headers: list[Header], body: bytes) -> Any:
    if dict(headers).get(b"content-type", b"").startswith(b"text/plain"):
        return body.decode()
    return orjson.loads(body) if body else {}
