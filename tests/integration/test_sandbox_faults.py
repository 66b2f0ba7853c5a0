"""Faults on demand, the dead, what devices show, and the sandbox as a program."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from clarion.http2.server import OverLimit
from clarion.sandbox.control import Control
from clarion.sandbox.faults import BadRule, parse_rule
from clarion.sandbox.log import NOTHING
from clarion.sandbox.sandbox import Sandbox
from clarion.sandbox.webpush import subscription
from tests.support.eventually import eventually
from tests.support.sandbox import (
    ALERT,
    DEVICE,
    PHONE,
    WAIT,
    H2Client,
    Reply,
    access_token,
    apns_headers,
    exchange,
    fcm_url,
    h2_client,
    provider_token,
    vapid,
)


@pytest.fixture
async def control(sandbox: Sandbox) -> AsyncIterator[httpx.AsyncClient]:
    """The control API."""
    server = Control(sandbox)
    await server.start()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        yield client
    server.stop()


async def warm(client: H2Client, sandbox: Sandbox) -> str:
    """A first accepted push, so that there are streams; its token."""
    token = provider_token(sandbox)
    assert (await client.request(apns_headers(token))).status == 200
    return token


async def logged(sandbox: Sandbox, token: str) -> list[dict[str, Any]]:
    """All lines about a registration."""
    return [entry async for entry in sandbox.log.entries(token)]


# ---- every kind of fault, at APNs


async def test_a_storm(sandbox: Sandbox) -> None:
    """The first n requests are answered by the rule, with its headers, then it is over."""
    await sandbox.add_rule({"provider": "apns", "status": 429, "first": 2, "headers": {"Retry-After": 7}})
    token = provider_token(sandbox)
    async with h2_client(sandbox) as client:
        replies = [await client.request(apns_headers(token)) for _ in range(3)]

    assert [reply.status for reply in replies] == [429, 429, 200]
    assert json.loads(replies[0].body) == {"reason": "TooManyRequests"}
    assert replies[0].headers["retry-after"] == "7"
    assert len(replies[0].headers["apns-id"]) == 36


@pytest.mark.parametrize(
    ("rule", "status", "reason"),
    [
        ({"status": 500}, 500, "InternalServerError"),
        ({"status": 503}, 503, "ServiceUnavailable"),
        ({"reason": "Shutdown"}, 503, "Shutdown"),
        ({"reason": "BadDeviceToken"}, 400, "BadDeviceToken"),
        ({"reject_credential": True}, 403, "InvalidProviderToken"),
        ({"reject_credential": "ExpiredProviderToken"}, 403, "ExpiredProviderToken"),
        ({"status": 403, "reason": "BadEnvironmentKeyInToken"}, 403, "BadEnvironmentKeyInToken"),
    ],
)
async def test_errors_in_apples_words(
    sandbox: Sandbox, rule: dict[str, Any], status: int, reason: str
) -> None:
    """By status, by reason, or both; also reasons that are not in Apple's table."""
    await sandbox.add_rule({"provider": "apns", **rule})
    async with h2_client(sandbox) as client:
        reply = await client.request(apns_headers(provider_token(sandbox)))

    assert (reply.status, json.loads(reply.body)) == (status, {"reason": reason})


async def test_a_body_of_ones_own(sandbox: Sandbox) -> None:
    """A gateway's page instead of JSON."""
    await sandbox.add_rule({"provider": "apns", "status": 502, "body": "<html>bad gateway"})
    async with h2_client(sandbox) as client:
        reply = await client.request(apns_headers(provider_token(sandbox)))

    assert (reply.status, reply.body) == (502, b"<html>bad gateway")


async def test_a_share_is_the_same_in_every_run(sandbox: Sandbox) -> None:
    """About that share, and exactly the same requests for the same seed."""

    async def run(client: H2Client, token: str) -> list[int]:
        await sandbox.clear()
        await sandbox.add_rule({"provider": "apns", "status": 503, "share": 0.3, "seed": 5})
        return [(await client.request(apns_headers(token))).status for _ in range(100)]

    async with h2_client(sandbox) as client:
        token = await warm(client, sandbox)
        first, second = await run(client, token), await run(client, token)

    assert first == second
    assert 15 < first.count(503) < 45


async def test_only_some_registrations(sandbox: Sandbox) -> None:
    """A pattern over the registration."""
    await sandbox.add_rule({"provider": "apns", "status": 503, "token": "cd*"})
    token = provider_token(sandbox)
    async with h2_client(sandbox) as client:
        replies = [await client.request(apns_headers(token, device)) for device in ("cd" * 32, DEVICE)]

    assert [reply.status for reply in replies] == [503, 200]


async def test_for_some_seconds(sandbox: Sandbox) -> None:
    """It ends by itself."""
    rule = await sandbox.add_rule({"provider": "apns", "status": 503, "for": 0.3})
    token = provider_token(sandbox)
    async with h2_client(sandbox) as client:
        during = await client.request(apns_headers(token))
        await eventually(lambda: rule.over, "the end of the rule")
        after = await client.request(apns_headers(token))

    assert (during.status, after.status) == (503, 200)


async def test_slow_answers(sandbox: Sandbox) -> None:
    """Judged and logged when it came, answered later."""
    device = "01" * 32
    await sandbox.add_rule({"provider": "apns", "delay": 0.3})
    async with h2_client(sandbox) as client:
        began = time.time()
        reply = await client.request(apns_headers(provider_token(sandbox), device))
        took = time.time() - began
    (entry,) = await logged(sandbox, device)

    assert reply.status == 200
    assert took >= 0.3
    assert began <= entry["t"] < began + took - 0.2


async def lost(sandbox: Sandbox, device: str, rule: dict[str, Any]) -> tuple[Reply, H2Client, list[Any]]:
    """What becomes of one request under this rule, and what the log says of it."""
    async with h2_client(sandbox) as client:
        token = await warm(client, sandbox)
        await sandbox.add_rule({"provider": "apns", "first": 1, **rule})
        reply = client.start(apns_headers(token, device), ALERT)
        silent = rule.get("black_hole") is not None
        wait = asyncio.sleep(0.2) if silent else asyncio.wait_for(reply.done.wait(), WAIT)
        await wait
        if rule.get("black_hole") == "connection":
            client.h2.ping(b"12345678")
            client.send()
            client.start(apns_headers(token, device), ALERT)
            await asyncio.sleep(0.1)
        entries = await logged(sandbox, device)
    return reply, client, [(entry["status"], entry["reason"]) for entry in entries]


async def test_a_black_hole(sandbox: Sandbox) -> None:
    """One request without an answer; the connection lives."""
    reply, client, entries = await lost(sandbox, "02" * 32, {"black_hole": "request"})

    assert (reply.status, reply.reset, client.closed.is_set()) == (0, None, False)
    assert entries == [(0, "black_hole")]


async def test_a_black_hole_of_a_connection(sandbox: Sandbox) -> None:
    """From then on not even a ping is answered; what still comes is logged as swallowed."""
    reply, client, entries = await lost(sandbox, "03" * 32, {"black_hole": "connection"})

    assert (reply.status, client.pongs) == (0, 0)
    assert entries == [(0, "black_hole")] * 2


async def test_processed_and_not_answered(sandbox: Sandbox) -> None:
    """The device has it, the sender never hears: the log says 200."""
    _, _, entries = await lost(sandbox, "04" * 32, {"black_hole": "request", "processed": True})

    assert entries == [(200, None)]


async def test_a_reset_stream(sandbox: Sandbox) -> None:
    """RST_STREAM with a code of one's choice."""
    reply, _, entries = await lost(sandbox, "05" * 32, {"reset": "stream", "code": 11})

    assert (reply.status, reply.reset) == (0, 11)
    assert entries == [(0, "reset")]


async def test_a_reset_connection(sandbox: Sandbox) -> None:
    """The connection dies under the request."""
    reply, client, entries = await lost(sandbox, "06" * 32, {"reset": "connection"})

    assert (reply.status, client.closed.is_set(), client.goaway) == (0, True, None)
    assert entries == [(0, "reset")]


async def test_an_abrupt_goaway(sandbox: Sandbox) -> None:
    """The request is beyond the last stream: unprocessed; the reason stands in the debug data."""
    reply, client, entries = await lost(sandbox, "07" * 32, {"goaway": "abrupt", "reason": "Shutdown"})

    assert reply.status == 0
    assert client.goaway is not None
    assert client.goaway.last_stream_id == 1
    assert json.loads(client.goaway.additional_data or b"") == {"reason": "Shutdown"}
    assert entries == [(0, "goaway")]


async def test_a_graceful_goaway(sandbox: Sandbox) -> None:
    """The request is answered, later ones on the connection are not processed."""
    reply, client, entries = await lost(sandbox, "08" * 32, {"goaway": "graceful"})

    assert reply.status == 200
    assert client.goaway is not None
    assert client.goaway.last_stream_id == 3
    assert entries == [(200, None)]


async def test_garbage(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A 200 with a body that is none, and bytes that are no frames."""
    reply, _, entries = await lost(sandbox, "09" * 32, {"garbage": "body"})
    assert (reply.status, entries) == (200, [(200, None)])
    assert b"\x00\xff" in reply.body

    await sandbox.add_rule({"provider": "apns", "garbage": "frames"})
    async with h2_client(sandbox) as client:
        headers = apns_headers(provider_token(sandbox), "0a" * 32)
        client.start(headers, ALERT)
        received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        monkeypatch.setattr(client, "data_received", received.set_result)
        assert b"this is not a frame" in await asyncio.wait_for(received, WAIT)


async def test_fewer_streams(sandbox: Sandbox) -> None:
    """The limit falls with the answer, and what exceeds it is refused at once."""
    async with h2_client(sandbox) as client:
        token = await warm(client, sandbox)
        await client.until_streams(1000)
        await sandbox.add_rule({"provider": "apns", "streams": 1, "first": 1})
        await client.request(apns_headers(token))
        await client.until_streams(1)
        await sandbox.add_rule({"provider": "apns", "delay": 0.2})
        replies = [client.start(apns_headers(token), ALERT) for _ in range(3)]
        for reply in replies:
            await asyncio.wait_for(reply.done.wait(), WAIT)

    assert [reply.reset for reply in replies] == [None, 7, 7]


async def test_another_punishment_for_too_many_streams(sandbox: Sandbox) -> None:
    """PROTOCOL_ERROR instead of REFUSED_STREAM."""
    sandbox.change({"over_limit": OverLimit.RESET})
    await sandbox.add_rule({"provider": "apns", "delay": 0.2})
    token = provider_token(sandbox)
    async with h2_client(sandbox) as client:
        replies = [client.start(apns_headers(token), ALERT) for _ in range(2)]
        await asyncio.wait_for(replies[1].done.wait(), WAIT)

    assert replies[1].reset == 1


async def test_refused_connections(sandbox: Sandbox) -> None:
    """Open connections end, connecting is refused, and then it is back on the same port."""
    port = sandbox.listeners["apns"].port
    async with h2_client(sandbox) as client:
        await sandbox.add_rule({"provider": "apns", "refuse_connections": True, "for": 0.3})
        await asyncio.wait_for(client.closed.wait(), WAIT)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await eventually(lambda: sandbox.listeners["apns"].is_open, "an open door")
    async with h2_client(sandbox) as client:
        await warm(client, sandbox)


async def test_clearing_opens_the_door(sandbox: Sandbox) -> None:
    """A refusal without an end ends with /clear; only that origin was concerned."""
    await sandbox.add_rule({"provider": "webpush", "origin": 1, "refuse_connections": True})
    closed = {name: listener.is_open for name, listener in sandbox.listeners.items()}
    await sandbox.clear()

    assert [name for name, is_open in closed.items() if not is_open] == ["webpush1"]
    assert sandbox.listeners["webpush1"].is_open


async def test_all_connections_at_once(sandbox: Sandbox) -> None:
    """`now` hits connections that are idle."""
    async with h2_client(sandbox) as one, h2_client(sandbox) as two:
        await sandbox.add_rule({"provider": "apns", "reset": "connection", "now": True})
        for client in (one, two):
            await asyncio.wait_for(client.closed.wait(), WAIT)
    async with h2_client(sandbox) as client:
        await sandbox.add_rule({"provider": "apns", "goaway": "graceful", "now": True})
        async with asyncio.timeout(WAIT):
            while client.goaway is None:
                client.changed.clear()
                await client.changed.wait()


# ---- the others


async def test_faults_at_fcm(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """In Google's words, over HTTP/2."""
    headers = {"authorization": f"Bearer {await access_token(sandbox, http)}"}
    body = {"message": {"token": PHONE, "data": {"a": "b"}}}
    expected: list[tuple[dict[str, Any], int, str | None]] = [
        ({"status": 429}, 429, "QUOTA_EXCEEDED"),
        ({"status": 503}, 503, "UNAVAILABLE"),
        ({"reason": "SENDER_ID_MISMATCH"}, 403, "SENDER_ID_MISMATCH"),
        ({"reject_credential": "THIRD_PARTY_AUTH_ERROR"}, 401, "THIRD_PARTY_AUTH_ERROR"),
        ({"reject_credential": True}, 401, None),
        ({"reason": "PERMISSION_DENIED"}, 403, None),
        ({"status": 504}, 504, None),
    ]
    for rule, status, code in expected:
        await sandbox.clear()
        await sandbox.add_rule({"provider": "fcm", **rule})
        answer = await http.post(fcm_url(sandbox), json=body, headers=headers)
        details = answer.json()["error"].get("details", [{}])
        assert (answer.status_code, details[0].get("errorCode")) == (status, code)


async def test_a_gateway_has_no_json(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """502 comes from something in between."""
    headers = {"authorization": f"Bearer {await access_token(sandbox, http)}"}
    await sandbox.add_rule({"provider": "fcm", "status": 502})
    answer = await http.post(fcm_url(sandbox), json={"message": {"token": PHONE}}, headers=headers)

    assert (answer.status_code, answer.text) == (502, "<html></html>")


async def test_faults_over_http_1(sandbox: Sandbox) -> None:
    """A reset, garbage and a last answer have their like in HTTP/1.1."""
    url = fcm_url(sandbox)
    async with httpx.AsyncClient(verify=sandbox.authority.client_context()) as old:
        await sandbox.add_rule({"provider": "fcm", "reset": "connection", "first": 1})
        with pytest.raises(httpx.TransportError):
            await old.post(url, json={})
        await sandbox.add_rule({"provider": "fcm", "garbage": "frames", "first": 1})
        with pytest.raises(httpx.RemoteProtocolError):
            await old.post(url, json={})
        await sandbox.add_rule({"provider": "fcm", "goaway": "graceful", "first": 1})
        last = await old.post(url, json={})

    assert last.headers["connection"] == "close"


async def test_faults_at_the_token_endpoint(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """It can refuse, and it can be down, while FCM itself works."""
    await sandbox.add_rule({"provider": "oauth", "reject_credential": True, "first": 1})
    await sandbox.add_rule({"provider": "oauth", "status": 503, "first": 1})
    answers = [await exchange(sandbox, http) for _ in range(3)]

    assert [answer.status_code for answer in answers] == [400, 503, 200]
    assert answers[0].json()["error"] == "invalid_grant"


async def test_one_origin_only(sandbox: Sandbox, http: httpx.AsyncClient) -> None:
    """A push service throttles; the others go on. In its own words."""
    await sandbox.add_rule(
        {"provider": "webpush", "origin": 1, "status": 429, "headers": {"retry-after": "1"}}
    )
    answers = [
        await http.post(
            subscription(1, origin.url)["endpoint"],
            headers={"ttl": "60", "authorization": vapid(sandbox, origin.origin)},
        )
        for origin in sandbox.webpush
    ]

    assert [answer.status_code for answer in answers] == [201, 429, 201]
    assert answers[1].json()["error"] == "Too Many Requests"
    assert answers[1].headers["retry-after"] == "1"


async def test_a_share_is_dead(sandbox: Sandbox) -> None:
    """About that share of all registrations, always the same ones."""
    sandbox.bury({"provider": "apns", "share": 0.3, "seed": 3})
    graves = sandbox.shared.graves["apns"]
    tokens = [f"{n:064x}" for n in range(1000)]
    dead = [token for token in tokens if graves.find(token)]
    async with h2_client(sandbox) as client:
        token = provider_token(sandbox)
        reply = await client.request(apns_headers(token, dead[0]))

    assert 230 < len(dead) < 370
    assert dead == [token for token in tokens if graves.find(token)]
    assert json.loads(reply.body)["reason"] == "Unregistered"


@pytest.mark.parametrize(
    "text",
    [
        {"provider": "apns"},
        {"provider": "apple", "status": 500},
        {"status": 500},
        {"provider": "apns", "status": 500, "reset": "stream"},
        {"provider": "apns", "reset": "softly"},
        {"provider": "apns", "status": 500, "share": -1},
        {"provider": "apns", "status": 500, "first": 1.5},
        {"provider": "apns", "status": 500, "sometimes": True},
        {"provider": "apns", "status": 500, "headers": "x: y"},
        {"provider": "apns", "status": 500, "token": 7},
    ],
)
def test_rules_that_make_no_sense(text: dict[str, Any]) -> None:
    """Each is refused, with the word that is wrong."""
    with pytest.raises(BadRule):
        parse_rule(1, text)


# ---- what devices show


async def test_one_notification_per_key(sandbox: Sandbox) -> None:
    """Repeats with one key show once; others beside it; refused, lost and silent ones not at all."""
    device = "0b" * 32
    silent = b'{"aps":{"content-available":1}}'
    async with h2_client(sandbox) as client:
        token = provider_token(sandbox)
        for key in ("a", "b", "a"):
            await client.request(apns_headers(token, device, apns_collapse_id=key))
        await client.request(apns_headers(token, device))
        await client.request(apns_headers(token, device, apns_priority="7"))
        quiet = apns_headers(token, device, apns_push_type="background", apns_priority="5")
        await client.request(quiet, silent)
    shown = await sandbox.shown(device)
    entries = await logged(sandbox, device)

    assert [(one["key"], one["times"]) for one in shown] == [("b", 1), ("a", 2), (None, 1)]
    assert {one["title"] for one in shown} == {"Hello"}
    assert entries[-1]["content"] == NOTHING
    assert set(entries[0]) == {"t", "provider", "token", "status", "key", "content", "reason"}


async def test_a_registration_of_any_spelling(sandbox: Sandbox) -> None:
    """Whatever stands in a path or a body, its line is one line of JSON."""
    async with h2_client(sandbox) as client:
        odd = '"}\u00e9\\'
        headers = apns_headers(provider_token(sandbox), odd, apns_collapse_id='k"\\\u00e9')
        await client.request(headers)
        sandbox.log.flush()
        last = json.loads(sandbox.log.path.read_bytes().splitlines()[-1])

    assert (last["status"], last["reason"], last["key"]) == (400, "BadDeviceToken", 'k"\\\u00e9')


# ---- the control API


async def test_the_control_api(sandbox: Sandbox, control: httpx.AsyncClient) -> None:
    """Rules come, are told with their hits, and go; the dead and the counts likewise."""
    rules = [{"provider": "apns", "status": 503, "first": 1}, {"provider": "fcm", "delay": 1}]
    numbers = (await control.post("/faults", json={"rules": rules})).json()["numbers"]
    await control.post("/dead", json={"provider": "apns", "tokens": ["cd" * 32]})
    await control.post("/dead", content="0c0c\n0d0d\n", headers={"content-type": "text/plain"})
    token = provider_token(sandbox)
    async with h2_client(sandbox) as client:
        for device in (DEVICE, DEVICE, "cd" * 32):
            await client.request(apns_headers(token, device))
        faults = (await control.get("/faults")).json()
        counts = (await control.get("/counts")).json()["apns"]
        state = (await control.get("/state")).json()
    shown = (await control.get(f"/shown/{DEVICE}")).json()
    await control.delete(f"/faults/{numbers[1]}")
    left = (await control.get("/faults")).json()
    await control.post("/clear", json={"counts": True})
    after = (await control.get("/state")).json()

    assert [(fault["number"], fault["hits"], fault["over"]) for fault in faults] == [
        (numbers[0], 1, True),
        (numbers[1], 0, False),
    ]
    assert counts["statuses"] == {"503": 1, "200": 1, "410": 1}
    assert counts["reasons"] == {"ServiceUnavailable": 1, "Unregistered": 1}
    assert counts["most_per_second"] >= 1
    assert state["dead"]["apns"] == 3
    assert state["connections"]["apns"] == 1
    assert shown["shown"][-1]["title"] == "Hello"
    assert [fault["number"] for fault in left] == [numbers[0]]
    assert (after["faults"], after["dead"]["apns"]) == ([], 0)
    assert (await control.get("/counts")).json()["apns"]["requests"] == 0


async def test_settings_subscriptions_and_keys(sandbox: Sandbox, control: httpx.AsyncClient) -> None:
    """Settings change, subscriptions are made, more keys are believed."""
    settings = (await control.post("/settings", json={"apns_streams": 50, "clock": 1.5})).json()
    dialects = ["wns", "rfc", "apple"]
    await control.post("/settings", json={"dialects": dialects})
    made = (await control.post("/subscriptions", json={"count": 3, "first": 5, "origin": 2})).json()
    key = {"team_id": "TEAM000001", "key_id": "KEY0000001", "topic": "com.example.second"}
    pem = sandbox.credentials.apns["private_key"]
    trusted = await control.post("/credentials", json={"apns": key | {"private_key": pem}})
    state = (await control.get("/state")).json()

    assert (settings["apns_streams"], settings["clock"]) == (50, 1.5)
    assert state["dialects"] == dialects
    assert made["subscriptions"] == [subscription(n, sandbox.webpush[2].url) for n in (5, 6, 7)]
    assert trusted.status_code == 200
    assert "com.example.second" in state["topics"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", None, 404),
        ("DELETE", "/faults/999", None, 404),
        ("DELETE", "/faults/x", None, 400),
        ("POST", "/faults", {"provider": "apns"}, 400),
        ("POST", "/faults", {"provider": "oauth", "refuse_connections": True}, 400),
        ("POST", "/settings", {"volume": 11}, 400),
        ("POST", "/settings", {"dialects": ["latin"] * 3}, 400),
        ("POST", "/dead", {"provider": "apple", "tokens": []}, 400),
        ("POST", "/credentials", {"apns": {"team_id": "x"}}, 400),
        ("POST", "/credentials", {"apns": {"team_id": "x", "key_id": "y", "public_key": "no"}}, 400),
        ("POST", "/subscriptions", {"count": 1_000_000}, 400),
    ],
)
async def test_wrong_orders(
    control: httpx.AsyncClient, method: str, path: str, body: Any, status: int
) -> None:
    """They are refused with a word of explanation."""
    answer = await control.request(method, path, json=body)

    assert answer.status_code == status
    assert answer.json()["error"]


# ---- as a program


async def started(data: Path) -> tuple[asyncio.subprocess.Process, dict[str, Any]]:
    """The sandbox as `clarion dev` starts it, and the line it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "clarion.sandbox", "--data", str(data), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    line = await asyncio.wait_for(process.stdout.readline(), 30)
    return process, json.loads(line)


async def test_as_a_program(sandbox: Sandbox, tmp_path: Path) -> None:
    """Ready with one line, one line of log per request at SIGTERM, the same ports and keys afterwards."""
    process, ready = await started(tmp_path)
    tls = ssl.create_default_context(cafile=ready["ca"])
    async with httpx.AsyncClient(http2=True, verify=tls) as client:
        answer = await client.post(f"https://127.0.0.1:{ready['apns']}/3/device/{DEVICE}", content=ALERT)
    process.send_signal(signal.SIGTERM)
    code = await asyncio.wait_for(process.wait(), 10)
    lines = (tmp_path / "requests.jsonl").read_text().splitlines()
    key = (tmp_path / "credentials" / "apns.json").read_bytes()

    process, again = await started(tmp_path)
    process.send_signal(signal.SIGINT)
    await asyncio.wait_for(process.wait(), 10)

    assert set(ready) == {
        "apns",
        "fcm",
        "webpush",
        "hms",
        "xiaomi",
        "oppo",
        "vivo",
        "jpush",
        "getui",
        "umeng",
        "honor",
        "meizu",
        "control",
        "ca",
    }
    assert answer.json() == {"reason": "MissingProviderToken"}
    assert code == 0
    assert [json.loads(line)["status"] for line in lines] == [403]
    assert [again[name] for name in ("apns", "fcm", "webpush")] == [
        ready[name] for name in ("apns", "fcm", "webpush")
    ]
    assert (tmp_path / "credentials" / "apns.json").read_bytes() == key
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "credentials").iterdir())
