"""The Web Push sender against the sandbox's three services, strict in their own dialects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from clarion import limits
from clarion.attempt import Stop
from clarion.errors import BadCredential
from clarion.http2 import origin as http2_origin
from clarion.http2.origin import Origin
from clarion.model.message import Message, Text
from clarion.process import SenderProcess
from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from clarion.senders import webpush, webpush_place
from clarion.senders.outcome import ACCEPTED, Outcome, OutcomeKind, Scope
from clarion.senders.sender import Unsendable
from clarion.senders.webpush import BURST, WebPushSender
from clarion.senders.webpush_place import CONNECTIONS, PATIENCE, PROBES, TROUBLED, WNS, Place
from clarion.store import credentials
from clarion.store.database import Database
from clarion.store.locales import Locales
from clarion.store.reasons import Reasons
from tests.support.eventually import eventually
from tests.support.senders import HELLO, PUSH, Clock, process, send
from tests.support.sending import FreePermits
from tests.support.webpush import (
    add_key,
    browser_app,
    browser_sender,
    credential,
    noted,
    push_to,
    segment,
    send_until_sent,
    sender_of,
    times_noted,
    token,
    tokens,
)

ALL = (0, 1, 2)  # google, mozilla, apple


class Desk:
    """Posts to a sender by hand and keeps the outcomes."""

    def __init__(self, sender: WebPushSender, message: Message = HELLO) -> None:
        self.sender = sender
        self.outcomes: dict[int, Outcome] = {}
        self.posted_at: dict[int, float] = {}
        self.told_at: dict[int, float] = {}
        self._prepared = sender.prepare(PUSH, message)

    def answered(self, key: int, outcome: Outcome) -> None:
        """What a sender tells; once."""
        assert key not in self.outcomes, "told twice"
        self.outcomes[key], self.told_at[key] = outcome, time.time()

    def post(self, stored: str) -> None:
        """One delivery."""
        key = len(self.posted_at)
        self.posted_at[key] = time.time()
        self.sender.post(self._prepared, key, key + 1, stored, "", 0, None, self.answered)

    async def all_told(self) -> list[Outcome]:
        """Wait for the outcomes."""
        await eventually(lambda: len(self.outcomes) == len(self.posted_at), "all are answered", seconds=10)
        return [self.outcomes[key] for key in sorted(self.outcomes)]


async def counts(db: Database, push_no: int) -> dict[str, int]:
    """The push's counters that are not 0."""
    row = await db.fetchrow("select * from push_counts where push_no = $1", push_no)
    assert row is not None
    return {name: n for name, n in row.items() if n and name not in ("push_no", "lane")}


def kinds(outcomes: list[Outcome]) -> set[tuple[OutcomeKind, str, bool]]:
    """What they have in common."""
    return {(outcome.kind, outcome.reason, outcome.retire) for outcome in outcomes}


# ── what is sent ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
async def one_sandbox(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Sandbox]:
    """A sandbox of this module's own: its connections and its log are counted here."""
    async with Sandbox(tmp_path_factory.mktemp("sandbox")) as made:
        yield made


async def test_one_batch_for_several_services(sandbox: Sandbox) -> None:
    """C23: each service hears its own audience; every browser decrypts what was meant, and has the key."""
    browsers = tokens(sandbox, 40, ALL)
    async with browser_sender(sandbox) as sender:
        outcomes = await send(sender, browsers)

        assert all(outcome is ACCEPTED for outcome in outcomes)
        assert times_noted(sandbox, browsers) == {segment(one): 1 for one in browsers}
        assert {(line["status"], line["key"], line["content"]) for line in noted(sandbox, browsers)} == {
            (201, "clarion-1", content_hash("Hello", "there"))
        }
        assert sandbox.state()["connections"]["webpush"] == 3


async def test_each_browser_reads_its_own_language_and_name(sandbox: Sandbox) -> None:
    """Rendered per locale and user, encrypted for each."""
    message = Message(
        texts={"default": Text(title="Hi {{ user.name }}"), "zh-Hant": Text(title="嗨 {{ user.name }}")}
    )
    (browser,) = tokens(sandbox, 1, first=100)
    async with browser_sender(sandbox) as sender:
        assert await send(sender, [browser], message, locale="zh-TW", values={"name": '"Q"'}) == [ACCEPTED]

    assert [line["content"] for line in noted(sandbox, [browser])] == [content_hash('嗨 "Q"', "")]


async def test_the_largest_message_is_taken(sandbox: Sandbox) -> None:
    """C25: 3,993 bytes of plaintext make a body of 4,096, which no service may refuse; and no padding."""
    message = Message(texts={"default": Text(body="x" * 3_964)})
    browsers = tokens(sandbox, 1, ALL, first=200)
    async with browser_sender(sandbox) as sender:
        prepared = sender.prepare(PUSH, message)
        assert len(prepared.texts.body("", None)) == limits.WEBPUSH_PLAINTEXT
        assert await send(sender, browsers, message) == [ACCEPTED] * 3


async def test_keys_in_any_alphabet_are_one_browser(sandbox: Sandbox) -> None:
    """C26: base64url, padded, or with + and /: stored the same, and it decrypts."""
    url = sandbox.webpush[0].url
    stored = [token(n, url) for n in range(300, 320)]
    padded = []
    for one in stored:
        endpoint, point, auth = one.split(" ")
        padded.append(f"{endpoint} {_standard(point)} {_standard(auth)}")
    async with browser_sender(sandbox) as sender:
        assert await send(sender, padded) == [ACCEPTED] * 20

    assert {line["content"] for line in noted(sandbox, stored)} == {content_hash("Hello", "there")}


def _standard(text: str) -> str:
    return text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4)


# ── VAPID ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wrong", [300.0, -300.0])
async def test_a_clock_five_minutes_wrong(sandbox: Sandbox, wrong: float) -> None:
    """C23: our clock ahead or behind by five minutes: exp is still within what services allow."""
    async with browser_sender(sandbox, Clock(wrong)) as sender:
        assert await send(sender, tokens(sandbox, 1, ALL, first=400)) == [ACCEPTED] * 3


async def test_a_run_of_25_hours_on_live_connections(sandbox: Sandbox) -> None:
    """C23: the token in a connection's fixed headers is renewed before it lapses, without a gap."""
    clock, origin = Clock(), sandbox.webpush[0].url
    async with browser_sender(sandbox, clock) as sender:
        assert await send(sender, tokens(sandbox, 20, first=500)) == [ACCEPTED] * 20
        for step in range(1, 5):
            clock.wrong = sandbox.shared.settings.clock = step * 6.5 * 3_600
            await sender.tend()
            assert await send(sender, tokens(sandbox, 20, first=500 + step)) == [ACCEPTED] * 20
            await renewed(sender, origin, step)
            assert await send(sender, tokens(sandbox, 20, first=510 + step)) == [ACCEPTED] * 20


async def renewed(sender: WebPushSender, name: str, times: int) -> None:
    """Wait until an origin has connected anew so often and the last connection is the one that is used."""
    origin = sender._places[name].origin
    assert isinstance(origin, Origin)
    await eventually(lambda: origin.connects == times + 1 and origin._stage is None, "it connects anew")


async def test_a_clock_that_is_set_back_gets_a_token_of_its_own_time(sandbox: Sandbox) -> None:
    """A token signed while the clock ran 13 hours ahead is replaced when the clock is put right."""
    clock = Clock(13 * 3_600.0)
    async with browser_sender(sandbox, clock) as sender:
        (early,) = await send(sender, tokens(sandbox, 1, first=700))
        clock.wrong = 0.0
        await sender.tend()
        await renewed(sender, sandbox.webpush[0].url, 1)

        assert early.kind is OutcomeKind.REJECTED
        assert await send(sender, tokens(sandbox, 1, first=701)) == [ACCEPTED]


async def test_a_service_that_refuses_our_token_is_alone(sandbox: Sandbox) -> None:
    """C22: Apple's 403 BadJwtToken: rejected and kept, nobody suspects the key, the others go on."""
    await sandbox.add_rule({"provider": "webpush", "origin": 2, "reject_credential": True})
    async with browser_sender(sandbox) as sender:
        assert await send(sender, tokens(sandbox, 1, (0, 1), first=800)) == [ACCEPTED] * 2
        outcomes = await send(sender, tokens(sandbox, 20, ALL, first=801))

        assert outcomes[0::3] == outcomes[1::3] == [ACCEPTED] * 20
        assert kinds(outcomes[2::3]) == {(OutcomeKind.REJECTED, "webpush:BadJwtToken", False)}
        assert not any(outcome.suspect for outcome in outcomes)
        assert not sender.refused


async def test_a_key_that_no_service_takes_is_suspect(sandbox: Sandbox) -> None:
    """Refused everywhere, accepted nowhere: the 30 % rule may block the lane, nothing retires."""
    await sandbox.add_rule({"provider": "webpush", "reject_credential": True})
    async with browser_sender(sandbox) as sender:
        outcomes = await send(sender, tokens(sandbox, 5, ALL, first=900))

        assert all(outcome.suspect and not outcome.retire for outcome in outcomes)
        assert {outcome.kind for outcome in outcomes} == {OutcomeKind.REJECTED}
        assert sender.refused


async def test_subscriptions_of_two_keys(sandbox: Sandbox, db: Database) -> None:
    """C29: each lane signs with the key its subscriptions were made under; the other key is refused, once."""
    app_no = await browser_app(sandbox, db)
    old = sandbox.credentials.webpush["public_key"]
    new = await add_key(sandbox, db, app_no, "web-2")
    urls = [service.url for service in sandbox.webpush]
    ones, twos = [token(1, url, old) for url in urls], [token(2, url, new) for url in urls]
    async with process(db) as lanes:
        first, second = await sender_of(lanes, app_no, 1), await sender_of(lanes, app_no, 2)
        assert await send(first, ones) == [ACCEPTED] * 3
        assert await send(second, twos) == [ACCEPTED] * 3
        wrong = await send(second, ones)
        assert {(outcome.kind, outcome.retire) for outcome in wrong} == {(OutcomeKind.REJECTED, False)}
        assert {outcome.reason for outcome in wrong} == {
            "webpush:403",
            "webpush:errno 109",
            "webpush:VapidPkHashMismatch",
        }

        await credentials.withdraw(db, app_no, "web")
        await lanes._watch()
        assert first.room() == 0
        assert await send(second, twos) == [ACCEPTED] * 3
        with pytest.raises(BadCredential):
            await lanes.get(app_no, 1)


# ── answers ───────────────────────────────────────────────────────────────────────────────────────────


async def test_windows_is_told_whether_to_cache(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """C24: both TTLs are taken with a policy; without one the header's reason is kept, no retry."""
    sandbox.change({"dialects": ["wns", "mozilla", "apple"]})
    never, hour = (HELLO.model_copy(update={"ttl": ttl}) for ttl in (0, 3_600))
    port = sandbox.ports()["webpush"][0]
    async with browser_sender(sandbox) as sender:
        (refused,) = await send(sender, tokens(sandbox, 1, first=1_000), never)
        sender._drop(sender._places[sandbox.webpush[0].url])
        monkeypatch.setattr(webpush_place, "manner", lambda name: WNS if name.endswith(f":{port}") else "")
        assert await send(sender, tokens(sandbox, 1, first=1_001), never) == [ACCEPTED]
        assert await send(sender, tokens(sandbox, 1, first=1_002), hour) == [ACCEPTED]

    assert kinds([refused]) == {
        (OutcomeKind.REJECTED, "webpush:wns Ttl value conflicts with X WNS Cache Policy", False)
    }


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_any_yes_will_do(sandbox: Sandbox, status: int) -> None:
    """C25: 201 by the RFC, 200 and 202 by older services."""
    await sandbox.add_rule({"provider": "webpush", "status": status})
    async with browser_sender(sandbox) as sender:
        assert await send(sender, tokens(sandbox, 1, ALL, first=1_100)) == [ACCEPTED] * 3


async def test_the_gone_retire_at_every_service(sandbox: Sandbox) -> None:
    """C25: 410 in each dialect, and 404 for a subscription that never was; the others stay."""
    gone, alive = tokens(sandbox, 1, ALL, first=1_200), tokens(sandbox, 1, ALL, first=1_201)
    never = [one.replace("/push/", "/push/0") for one in gone]
    sandbox.bury({"provider": "webpush", "tokens": [segment(one) for one in gone]})
    async with browser_sender(sandbox) as sender:
        outcomes = await send(sender, [*gone, *never, *alive])

    assert kinds(outcomes[:6]) == {
        (OutcomeKind.REJECTED, reason, True)
        for reason in (
            "webpush:410",
            "webpush:errno 106",
            "webpush:Unregistered",
            "webpush:404",
            "webpush:errno 102",
            "webpush:BadPath",
        )
    }
    assert outcomes[6:] == [ACCEPTED] * 3


async def test_too_large_is_the_content_s_fault(sandbox: Sandbox) -> None:
    """C25: 413 errno 104 (a device behind a bridge): no retry, the subscription stays."""
    await sandbox.add_rule({"provider": "webpush", "status": 413})
    async with browser_sender(sandbox) as sender:
        outcomes = await send(sender, tokens(sandbox, 1, (1,), first=1_300))

    assert kinds(outcomes) == {(OutcomeKind.REJECTED, "webpush:errno 104", False)}
    assert not outcomes[0].suspect


async def test_a_service_that_asks_for_quiet_has_it(sandbox: Sandbox) -> None:
    """C25: 429 with Retry-After: that service hears nothing until then, the others go on."""
    await sandbox.add_rule(
        {"provider": "webpush", "origin": 1, "first": 1, "status": 429, "headers": {"retry-after": "1"}}
    )
    one, later = tokens(sandbox, 1, (1,), first=1_400), tokens(sandbox, 30, ALL, first=1_401)
    async with browser_sender(sandbox) as sender:
        (asked,) = await send(sender, one)
        outcomes = await send(sender, later)
        assert outcomes[0::3] == outcomes[2::3] == [ACCEPTED] * 30
        assert kinds(outcomes[1::3]) == {(OutcomeKind.THROTTLED, "webpush:Quiet", False)}
        assert all(0 < o.retry_after <= 1 and not o.attempt for o in outcomes[1::3])
        assert times_noted(sandbox, later[1::3]) == {}

        await asyncio.sleep(asked.retry_after)
        assert await send(sender, later[1::3]) == [ACCEPTED] * 30

    assert (asked.kind, asked.retry_after, asked.scope) == (OutcomeKind.THROTTLED, 1.0, Scope.HOST)


async def test_503_of_mozilla_is_quiet_and_no_outage_of_the_lane(sandbox: Sandbox) -> None:
    """C25: 503 errno 201 with Retry-After 120 waits that long; 503 without one may go again at once."""
    await sandbox.add_rule({"provider": "webpush", "origin": 1, "status": 503})
    await sandbox.add_rule({"provider": "webpush", "origin": 2, "status": 503})
    async with browser_sender(sandbox) as sender:
        mozilla, apple = await send(sender, tokens(sandbox, 1, (1, 2), first=1_500))

    assert (mozilla.kind, mozilla.retry_after, mozilla.maybe) == (OutcomeKind.UNAVAILABLE, 120.0, False)
    assert (apple.kind, apple.retry_after, apple.maybe) == (OutcomeKind.UNAVAILABLE, 0.0, False)
    assert mozilla.scope is apple.scope is Scope.HOST


async def test_throttled_devices_do_not_silence_apple(sandbox: Sandbox) -> None:
    """Apple's TooManyRequests is about one device: only its row waits, whatever Retry-After says."""
    busy, fine = tokens(sandbox, 1, (2,), first=1_600), tokens(sandbox, 10, (2,), first=1_601)
    await sandbox.add_rule(
        {"provider": "webpush", "token": segment(busy[0]), "status": 429, "headers": {"retry-after": "60"}}
    )
    async with browser_sender(sandbox) as sender:
        (throttled,) = await send(sender, busy)
        assert await send(sender, fine) == [ACCEPTED] * 10

    assert (throttled.kind, throttled.retry_after) == (OutcomeKind.THROTTLED, 60.0)


async def test_redirects_are_never_followed(sandbox: Sandbox) -> None:
    """Whoever can answer 307 could send us anywhere: the answer counts, its Location does not."""
    target = f"{sandbox.webpush[1].url}/push/x"
    await sandbox.add_rule(
        {"provider": "webpush", "origin": 0, "status": 307, "headers": {"location": target}}
    )
    async with browser_sender(sandbox) as sender:
        outcomes = await send(sender, tokens(sandbox, 1, first=1_700))

    assert kinds(outcomes) == {(OutcomeKind.REJECTED, "webpush:307", False)}
    assert not sandbox.webpush[1].connections


# ── places in trouble ─────────────────────────────────────────────────────────────────────────────────


async def test_endpoints_that_lead_inside_are_not_called(sandbox: Sandbox) -> None:
    """Without an allow list a private address is refused before anything connects; no subscription ends."""
    async with browser_sender(sandbox, allow=()) as sender:
        outcomes = await send(sender, tokens(sandbox, 3, ALL, first=1_800))
        again = await send(sender, tokens(sandbox, 1, first=1_801))

    assert kinds([*outcomes, *again]) == {(OutcomeKind.REJECTED, "clarion:bad_endpoint", False)}
    assert sandbox.state()["connections"]["webpush"] == 0
    assert sandbox.counts()["webpush"]["requests"] == 0


async def test_a_dead_service_costs_the_others_nothing(sandbox: Sandbox) -> None:
    """Nobody listens: its deliveries go again later and lose no attempt; the others are sent meanwhile."""
    dead = [token(n, "https://127.0.0.1:1") for n in range(60)]
    alive = tokens(sandbox, 60, first=1_900)
    async with browser_sender(sandbox) as sender:
        mixed = [one for pair in zip(dead, alive, strict=True) for one in pair]
        outcomes = await send(sender, mixed)
        began = time.monotonic()
        at_once = await send(sender, dead[:10])

        assert time.monotonic() - began < PATIENCE / 2, "a service known to be down is not waited for"
        assert outcomes[1::2] == [ACCEPTED] * 60
        assert kinds([*outcomes[0::2], *at_once]) == {(OutcomeKind.UNAVAILABLE, "webpush:Unreachable", False)}
        assert not any(o.attempt or o.maybe or o.scope is not Scope.HOST for o in outcomes[0::2])


async def test_a_service_that_comes_back_is_used_again(sandbox: Sandbox) -> None:
    """After a minute without it, attempts count; when it is back, everything goes."""
    clock = Clock()
    browsers = tokens(sandbox, 30, (1,), first=2_000)
    await sandbox.add_rule({"provider": "webpush", "origin": 1, "refuse_connections": True})
    async with browser_sender(sandbox, clock) as sender:
        await send(sender, browsers)
        clock.skipped += 61
        (late,) = await send(sender, browsers[:1])
        await sandbox.clear()
        clock.skipped += 61
        place = sender._places[sandbox.webpush[1].url]
        await eventually(lambda: place.origin.room() > 0, "it is connected again")

        assert late.attempt
        assert 60 <= late.retry_after < 65
        assert await send(sender, browsers) == [ACCEPTED] * 30
        assert place.standing.calm(clock.monotonic())


async def test_a_black_hole_is_found_and_then_probed(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No answers: in doubt, then left alone, then asked by a few; the others go on all the time."""
    monkeypatch.setattr(limits, "request_timeout", lambda provider: 0.4)
    await sandbox.add_rule({"provider": "webpush", "origin": 2, "black_hole": "request"})
    silent = tokens(sandbox, TROUBLED, (2,), first=2_100)
    async with browser_sender(sandbox) as sender:
        outcomes = await send(sender, [*silent, *tokens(sandbox, 40, first=2_101)])
        assert outcomes[TROUBLED:] == [ACCEPTED] * 40
        assert kinds(outcomes[:TROUBLED]) == {(OutcomeKind.UNAVAILABLE, "clarion:timeout", False)}
        assert all(o.maybe for o in outcomes[:TROUBLED])

        quiet = await send(sender, silent)
        assert kinds(quiet) == {(OutcomeKind.UNAVAILABLE, "webpush:Unreachable", False)}
        assert not any(o.maybe for o in quiet)
        assert times_noted(sandbox, silent).total() == TROUBLED

        await asyncio.sleep(webpush_place.PAUSE_FIRST)
        place = sender._places[sandbox.webpush[2].url]
        await eventually(lambda: place.origin.room() > 0, "it is connected again")
        probed = await send(sender, silent)
        probes = [o for o in probed if o.maybe]
        assert len(probes) == PROBES
        assert not any(o.attempt for o in probes)


async def test_a_lost_connection_is_one_mishap(sandbox: Sandbox) -> None:
    """However much was on it: in doubt, and the service is asked again at once."""
    await sandbox.add_rule({"provider": "webpush", "delay": 5})
    async with browser_sender(sandbox) as sender:
        desk = Desk(sender)
        for one in tokens(sandbox, 60, first=2_150):
            desk.post(one)
        sender.flush()
        await eventually(lambda: sandbox.counts()["webpush"]["requests"] == 60, "they are on the wire")
        await sandbox.clear()
        await sandbox.add_rule({"provider": "webpush", "reset": "connection", "now": True})
        outcomes = await desk.all_told()

        assert kinds(outcomes) == {(OutcomeKind.UNAVAILABLE, "clarion:connection_lost", False)}
        assert all(o.maybe and o.attempt for o in outcomes)
        assert await send(sender, tokens(sandbox, 30, first=2_151)) == [ACCEPTED] * 30


async def test_nothing_leaves_after_its_patience(sandbox: Sandbox) -> None:
    """A slow service with one stream: what has not left in 0.4 s is answered as not sent and never leaves."""
    sandbox.change({"webpush_streams": 1})
    await sandbox.add_rule({"provider": "webpush", "delay": 0.1})
    browsers = tokens(sandbox, BURST, first=2_200)
    async with browser_sender(sandbox) as sender:
        desk = Desk(sender)
        for one in browsers:
            desk.post(one)
        sender.flush()
        outcomes = await desk.all_told()
        sent = [key for key, outcome in enumerate(outcomes) if outcome is ACCEPTED]
        await asyncio.sleep(0.3)

    lines = noted(sandbox, browsers)
    assert 1 <= len(sent) == len(lines) < 10
    assert max(line["t"] for line in lines) - desk.posted_at[0] < PATIENCE + 0.1
    rest = [outcome for outcome in outcomes if outcome is not ACCEPTED]
    assert kinds(rest) == {(OutcomeKind.UNAVAILABLE, "clarion:not_sent", False)}
    assert not any(o.attempt or o.maybe for o in rest)
    assert max(desk.told_at.values()) - desk.posted_at[0] < PATIENCE + 0.4


async def test_a_busy_service_gets_more_connections(sandbox: Sandbox) -> None:
    """One connection's streams do not suffice: up to four, each as full as it may be."""
    sandbox.change({"webpush_streams": 2})
    await sandbox.add_rule({"provider": "webpush", "delay": 0.1})
    async with browser_sender(sandbox) as sender:
        await send_until_sent(sender, tokens(sandbox, 120, first=2_250))
        assert len(sandbox.webpush[0].connections) == CONNECTIONS == 4


async def test_no_more_wait_than_can_be_sent(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """With enough deliveries waiting for room, attempts keep theirs: being told in vain costs a statement."""
    monkeypatch.setattr(webpush, "PARKED", 10)
    sandbox.change({"webpush_streams": 1})
    await sandbox.add_rule({"provider": "webpush", "delay": 0.1})
    woken = asyncio.Event()
    async with browser_sender(sandbox) as sender:
        await _connected(sender, sandbox.webpush[0].url)
        desk, stop = Desk(sender), sender.when_room(woken.set)
        for one in tokens(sandbox, 11, first=2_260):
            assert sender.room() > 0
            desk.post(one)
        sender.flush()
        assert (sender.room(), sender.parked, sender.out) == (0, 10, 11)
        await asyncio.sleep(0.01)
        woken.clear()
        await asyncio.wait_for(woken.wait(), 5)
        assert sender.room() > 0
        await desk.all_told()
        assert sender.parked == 0
        stop()


async def test_waiting_is_not_spinning(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that accepts connections and says nothing: those who wait cost a handful of looks."""
    looks = 0
    look = Place.move

    def counted(place: Place) -> None:
        nonlocal looks
        looks += 1
        look(place)

    monkeypatch.setattr(Place, "move", counted)
    loop = asyncio.get_running_loop()
    mute = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    async with browser_sender(sandbox) as sender:
        url = f"https://127.0.0.1:{mute.sockets[0].getsockname()[1]}"
        outcomes = await send(sender, [token(n, url) for n in range(BURST)])
    mute.close()

    assert kinds(outcomes) == {(OutcomeKind.UNAVAILABLE, "clarion:not_sent", False)}
    assert looks < 10


# ── bookkeeping ───────────────────────────────────────────────────────────────────────────────────────


async def test_what_cannot_be_posted_is_told_before(sandbox: Sandbox) -> None:
    """Tokens that are none: nothing is out, nothing is opened, and the next one goes."""
    (good,) = tokens(sandbox, 1, first=2_300)
    endpoint, point, auth = good.split(" ")
    async with browser_sender(sandbox) as sender:
        desk = Desk(sender)
        for bad in (
            "",
            endpoint,
            f"{endpoint} {point}",
            f"http{endpoint[5:]} {point} {auth}",
            f"https://127.0.0.1 {point} {auth}",
            f"https://127.0.0.1:x/a {point} {auth}",
            f"https://[::1/a {point} {auth}",
            f"https://me@127.0.0.1/a {point} {auth}",
            f"{endpoint}é {point} {auth}",
            f"{endpoint} !{point} {auth}",
        ):
            with pytest.raises(Unsendable) as refusal:
                desk.post(bad)
            assert refusal.value.reason == "clarion:bad_token"
            desk.posted_at.clear()
        assert sender.out == 0
        assert not sender._places
        off_curve = f"{endpoint} {point[:-2]}AA {auth}"
        line_feed = f"{endpoint}\n {point} {auth}"
        outcomes = await send(sender, [off_curve, line_feed, good])

    assert kinds(outcomes[:2]) == {(OutcomeKind.REJECTED, "clarion:bad_token", False)}
    assert outcomes[2] is ACCEPTED


async def test_one_origin_is_one_place_however_it_is_written(sandbox: Sandbox) -> None:
    """Upper case and the default port make no second connection, and VAPID's audience stays right."""
    async with browser_sender(sandbox) as sender:
        ways = ("https://Push.Example", "https://push.example:443", "https://push.example")
        for way in ways:
            place = sender._open(way)
        assert (place.name, len(sender._places)) == ("https://push.example", 1)


async def test_attempts_share_a_turn_of_the_loop(sandbox: Sandbox) -> None:
    """However many attempts are woken, no more than a burst is encrypted before others have the loop."""
    async with browser_sender(sandbox) as sender:
        await send(sender, tokens(sandbox, 1, first=2_400))
        desk, left, turns = Desk(sender), tokens(sandbox, 300, first=2_401), []

        def pump() -> None:
            turn = sender.room()
            for _ in range(min(turn, len(left))):
                desk.post(left.pop())
            turns.append((sender._burst, turn))
            sender.flush()

        stops = [sender.when_room(pump) for _ in range(3)]
        pump()
        assert await desk.all_told() == [ACCEPTED] * 300
        for stop in stops:
            stop()

    assert max(burst for burst, _ in turns) <= BURST
    assert sum(turn > 0 for _, turn in turns) <= len(turns) / 2


async def test_a_full_sender_wakes_everybody_when_it_has_room(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was told that too much is out hears of it when answers come."""
    monkeypatch.setattr(webpush, "IN_FLIGHT", 10)
    woken = asyncio.Event()
    async with browser_sender(sandbox) as sender:
        stop = sender.when_room(woken.set)
        desk = Desk(sender)
        await _connected(sender, sandbox.webpush[0].url)
        for one in tokens(sandbox, 10, first=2_500):
            desk.post(one)
        sender.flush()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        woken.clear()
        assert sender.room() == 0
        await asyncio.wait_for(woken.wait(), 5)
        assert sender.room() > 0
        assert await desk.all_told() == [ACCEPTED] * 10
        stop()


async def test_a_rotated_subject_loses_nothing_in_flight(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New connections carry the new token; what is on the wire is waited for, longer than a close would."""
    monkeypatch.setattr(http2_origin, "CLOSE_SECONDS", 0.2)
    await sandbox.add_rule({"provider": "webpush", "origin": 0, "delay": 1.0, "first": 20})
    async with browser_sender(sandbox) as sender:
        desk = Desk(sender)
        for one in tokens(sandbox, 20, first=2_600):
            desk.post(one)
        sender.flush()
        await eventually(lambda: sandbox.counts()["webpush"]["requests"] == 20, "they are on the wire")
        sender.adopt(credential(sandbox))
        assert await send(sender, tokens(sandbox, 20, first=2_700)) == [ACCEPTED] * 20
        assert not desk.outcomes
        assert await desk.all_told() == [ACCEPTED] * 20
        await eventually(lambda: not sender._leaving, "the old connection is closed")


async def test_a_closed_sender_owes_nobody(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed with deliveries waiting, on the wire and dropped before: each is told once, none goes later."""
    monkeypatch.setattr(http2_origin, "CLOSE_SECONDS", 0.2)
    sandbox.change({"webpush_streams": 5})
    await sandbox.add_rule({"provider": "webpush", "black_hole": "request"})
    browsers = tokens(sandbox, 10, ALL, first=2_800)
    async with browser_sender(sandbox) as sender:
        await asyncio.gather(*(_connected(sender, service.url) for service in sandbox.webpush))
        desk = Desk(sender)
        for one in browsers:
            desk.post(one)
        sender.flush()
        sender._drop(sender._places[sandbox.webpush[0].url])
        assert len(desk.outcomes) == 5, "what waited there was told at once"
        await eventually(lambda: sandbox.counts()["webpush"]["requests"] == 15, "all streams are used")
        await sender.close()
        outcomes = await desk.all_told()
        assert sender.out == sender.room() == 0
        assert not sender._places
        assert not sender._leaving
        desk.post(browsers[0])
        (_, *_, refused) = await desk.all_told()

    assert len([o for o in outcomes if o.maybe]) == 15
    assert kinds([*(o for o in outcomes if not o.maybe), refused]) == {
        (OutcomeKind.UNAVAILABLE, "clarion:not_sent", False)
    }


async def _connected(sender: WebPushSender, url: str) -> None:
    place = sender._open(url)
    await eventually(lambda: place.origin.room() > 0, "it is connected")


async def test_the_longest_unused_place_makes_way(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bound on open connections; a busy place is never the one, and what is known of a service stays."""
    monkeypatch.setattr(webpush, "PLACES", 2)
    await sandbox.add_rule({"provider": "webpush", "origin": 1, "delay": 0.5})
    async with browser_sender(sandbox) as sender:
        desk = Desk(sender)
        desk.post(tokens(sandbox, 1, (1,), first=2_900)[0])  # busy
        sender.flush()
        assert await send(sender, tokens(sandbox, 1, (0,), first=2_901)) == [ACCEPTED]
        signed = sender.vapid.authorization(sandbox.webpush[0].url)
        assert await send(sender, tokens(sandbox, 1, (2,), first=2_902)) == [ACCEPTED]
        assert set(sender._places) == {sandbox.webpush[1].url, sandbox.webpush[2].url}
        assert await desk.all_told() == [ACCEPTED]
        assert sender.vapid.authorization(sandbox.webpush[0].url) is signed, "Apple: not more than hourly"


async def test_unused_places_close(sandbox: Sandbox) -> None:
    """A quarter of an hour without a delivery."""
    clock = Clock()
    async with browser_sender(sandbox, clock) as sender:
        assert await send(sender, tokens(sandbox, 1, ALL, first=3_000)) == [ACCEPTED] * 3
        clock.skipped += webpush.IDLE + 1
        await sender.tend()
        assert not sender._places
        await eventually(lambda: sandbox.state()["connections"]["webpush"] == 0, "they are closed")


async def test_every_delivery_is_answered_once_whatever_happens(sandbox: Sandbox) -> None:
    """Errors, resets, lost connections, slow answers, rotations and evictions, all at once: nothing leaks."""
    rules: list[dict[str, Any]] = [
        {"status": 500, "share": 0.05, "seed": 1},
        {"reset": "stream", "share": 0.05, "seed": 2},
        {"reset": "connection", "share": 0.003, "seed": 3},
        {"goaway": "graceful", "share": 0.003, "seed": 4},
        {"goaway": "abrupt", "share": 0.003, "seed": 5},
        {"garbage": "frames", "share": 0.003, "seed": 6},
        {"delay": 0.05, "share": 0.2, "seed": 7},
    ]
    for rule in rules:
        await sandbox.add_rule({"provider": "webpush", **rule})
    browsers = tokens(sandbox, 300, ALL, first=3_100)
    async with browser_sender(sandbox) as sender:
        desk = Desk(sender)
        for n, one in enumerate(browsers):
            desk.post(one)
            if n % 20 == 19:
                sender.flush()
                await asyncio.sleep(0.01)
            if n % 300 == 299:
                sender.adopt(credential(sandbox))
        outcomes = await desk.all_told()
        assert sender.out == sender.parked == 0
        assert not sender.waiting_places

    accepted = {browsers[n] for n, outcome in enumerate(outcomes) if outcome is ACCEPTED}
    assert len(accepted) > 300
    assert {segment(one) for one in accepted} <= {
        line["token"] for line in noted(sandbox, browsers) if line["status"] == 201
    }


# ── the whole process ─────────────────────────────────────────────────────────────────────────────────


async def test_a_small_push_from_end_to_end(sandbox: Sandbox, db: Database) -> None:
    """C23, C25: one push over three services, with dead browsers and a busy service: all accounted for."""
    app_no = await browser_app(sandbox, db)
    browsers = tokens(sandbox, 60, ALL, first=4_000)
    dead = browsers[0::10]
    sandbox.bury({"provider": "webpush", "tokens": [segment(one) for one in dead]})
    await sandbox.add_rule(
        {"provider": "webpush", "origin": 2, "first": 1, "status": 503, "headers": {"retry-after": "1"}}
    )
    push_no, batch = await push_to(db, "shop", browsers, HELLO)
    permits = FreePermits()
    async with process(db) as lanes:
        sender_process = SenderProcess(
            db,
            lanes,
            permits,  # type: ignore[arg-type]  # as much of Permits as an attempt uses
            1,
            await Reasons.load(db),
            await Locales.load(db),
        )
        for _ in range(10):
            result = await sender_process.send(push_no, batch, lease=10.0, beat=lambda: None, stop=Stop())
            counted = await counts(db, push_no)
            if "retry" not in counted:
                break
            assert counted["retry"] + counted["accepted"] + counted.get("rejected", 0) == 180
            await asyncio.sleep(0.5)
        assert (await sender_of(lanes, app_no)).out == 0

    assert result.why == "done"
    assert counted == {"audience": 180, "accepted": 162, "rejected": 18}
    assert await db.fetchval("select count(*) from retire") == 18
    assert permits.bad == 0, "a service that asks for quiet is no outage of the lane"
    once = times_noted(sandbox, [one for one in browsers if one not in dead])
    assert once.total() == 162 + 1
    assert len(once) == 162
