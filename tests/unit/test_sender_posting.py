"""One delivery on its way out: what is posted, what is not encoded for it, and what if there is no way."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from clarion import render
from clarion.model.message import Message, Text
from clarion.senders.answers import NOT_SENT
from clarion.senders.apns import ApnsSender
from clarion.senders.fcm import FcmSender
from clarion.senders.link import LinkSender, Surroundings
from clarion.senders.outcome import Outcome, OutcomeKind
from clarion.store.credentials import Credential
from tests.support.keys import KEY_ID, TEAM_ID, ec_key, pem, service_account
from tests.support.senders import HELLO, PUSH, Clock

APNS = {"type": "token", "team_id": TEAM_ID, "key_id": KEY_ID, "private_key": pem(ec_key())}
DEVICE, REGISTRATION = "ab" * 32, "c" * 22 + ":APA91b"


class Link:
    """Takes requests and keeps them; refuses them once it is `broken`."""

    refusal: str | None = None

    def __init__(self) -> None:
        self.posted: list[tuple[Any, bytes, bytes, bytes]] = []
        self.broken = False

    def post(self, key: Any, path: bytes, extra: bytes, body: bytes) -> None:
        """One request."""
        if self.broken:
            raise ConnectionError("no connection takes requests")
        self.posted.append((key, path, extra, body))


class Stopped(Clock):
    """Stands still but for what is skipped."""

    def time(self) -> float:
        """A tenth of a second past."""
        return 1_800_000_000.1 + self.skipped


def sender(provider: str, link: Link | None, clock: Clock | None = None) -> LinkSender:
    """A sender that posts to this link; it has no store and no network."""
    secret, topic = (APNS, "com.example.app") if provider == "apns" else (service_account(), "demo-project")
    credential = Credential(1, 1, "one", provider, "sandbox", topic, None, {}, 1.0, 1, secret)
    around = Surroundings(None, None, clock or Clock())  # type: ignore[arg-type]
    made = ApnsSender(credential, around) if provider == "apns" else FcmSender(credential, around)
    made._link = link  # type: ignore[assignment]
    return made


def post(one: LinkSender, message: Message = HELLO, **more: Any) -> list[tuple[int, Outcome]]:
    """Post delivery 5 of registration 12; what was answered so far, and is added to later."""
    assert isinstance(one, ApnsSender | FcmSender)
    heard: list[tuple[int, Outcome]] = []
    token = DEVICE if isinstance(one, ApnsSender) else REGISTRATION
    prepared = one.prepare(PUSH, message)
    values: dict[str, Any] = {"locale": "", "variant": 0, "values": None} | more
    one.post(prepared, 5, 12, token, answered=lambda key, outcome: heard.append((key, outcome)), **values)
    return heard


async def test_a_request_to_apns() -> None:
    """Path, the delivery's own id, and the payload that is the same for all."""
    link = Link()
    post(sender("apns", link))
    ((key, path, extra, body),) = link.posted

    assert key[0] == 5
    assert path == b"/3/device/" + DEVICE.encode()
    assert extra.endswith(b"-00000000000c")
    assert json.loads(body) == {"aps": {"alert": {"title": "Hello", "body": "there"}}}


async def test_a_request_to_fcm() -> None:
    """The project's path, and the token inside the message."""
    link = Link()
    post(sender("fcm", link))
    ((key, path, extra, body),) = link.posted

    assert key[0] == 5
    assert (path, extra) == (b"/v1/projects/demo-project/messages:send", b"")
    assert json.loads(body)["message"]["token"] == REGISTRATION


@pytest.mark.parametrize("provider", ["apns", "fcm"])
async def test_nothing_is_encoded_for_a_delivery(provider: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message without places is JSON once; a thousand deliveries later still."""
    link = Link()
    one = sender(provider, link)
    assert isinstance(one, ApnsSender | FcmSender)
    prepared = one.prepare(PUSH, Message(texts={"default": Text(body="x"), "de": Text(body="y")}))

    def never(*_: Any) -> None:
        raise AssertionError("encoded")

    monkeypatch.setattr(render, "_scalar", never)
    monkeypatch.setattr(render, "escaped", never)
    token = DEVICE if provider == "apns" else REGISTRATION
    for number in range(1_000):
        locale = ("", "de", "de-at")[number % 3]
        one.post(prepared, number, number, token, locale, 0, None, never)

    assert len(link.posted) == 1_000


@pytest.mark.parametrize("provider", ["apns", "fcm"])
async def test_a_lifetime_is_told_anew_as_time_goes_by(provider: str) -> None:
    """A minute to live is a minute from the send, not from the preparation."""
    clock, link = Stopped(), Link()
    one = sender(provider, link, clock)
    assert isinstance(one, ApnsSender | FcmSender)
    prepared = one.prepare(PUSH, Message(texts={"default": Text(body="x")}, ttl=60))
    token = DEVICE if provider == "apns" else REGISTRATION
    for moment in (0.0, 0.5, 1.5):
        clock.skipped = moment
        one.post(prepared, 1, 1, token, "", 0, None, lambda key, outcome: None)

    first, second, third = [extra + body for _, _, extra, body in link.posted]
    assert first == second
    assert b"1800000060" in second
    assert b"1800000061" in third


@pytest.mark.parametrize("provider", ["apns", "fcm"])
async def test_without_a_connection_a_delivery_is_told_unsent(provider: str) -> None:
    """Soon, not from within: the one who posts is in the middle of its own books."""
    broken = Link()
    broken.broken = True
    for link in (None, broken):
        heard = post(sender(provider, link))
        assert heard == []
        await asyncio.sleep(0)
        assert heard == [(5, NOT_SENT)]


async def test_without_any_authorization_a_delivery_is_told_blocked() -> None:
    """There is room for one, to be told."""
    one = sender("fcm", None)
    one._give_up("fcm:invalid_grant")
    heard = post(one)
    await asyncio.sleep(0)

    assert (one.room(), one.refused, one.waiting()) == (1, True, None)
    assert heard == [(5, Outcome(OutcomeKind.BLOCKED, "fcm:invalid_grant"))]
