"""The FCM sender against the sandbox: access tokens, and errors that look alike."""

from __future__ import annotations

import asyncio
import json

import pytest

from clarion.model.message import FcmOptions, Message, Text
from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.fcm import FcmSender
from clarion.senders.lanes import Lanes
from clarion.senders.link import PROBE_AFTER
from clarion.senders.outcome import ACCEPTED, OutcomeKind, Scope
from clarion.senders.sender import Unsendable
from clarion.store.database import Database
from tests.support.eventually import eventually
from tests.support.senders import (
    SEAL,
    Clock,
    app_at,
    fcm_tokens,
    oauth_calls,
    process,
    send,
)

LANE = 2


@pytest.fixture
async def app_no(db: Database, sandbox: Sandbox) -> int:
    """An app whose lane 2 is FCM at the sandbox."""
    return await app_at(sandbox, db)


async def test_a_thousand_notifications(sandbox: Sandbox, lanes: Lanes, app_no: int) -> None:
    """All accepted through connections of a hundred streams; key and content as they were meant."""
    sender = await lanes.get(app_no, LANE)
    outcomes = await send(sender, fcm_tokens(1_000))
    sandbox.log.flush()
    lines = [json.loads(line) for line in sandbox.log.path.read_text().splitlines()]

    assert set(outcomes) == {ACCEPTED}
    assert {line["token"] for line in lines} >= set(fcm_tokens(1_000))
    assert {(line["key"], line["content"]) for line in lines} == {
        ("clarion-1", content_hash("Hello", "there"))
    }
    assert oauth_calls(sandbox) == 1


async def test_messages_of_every_shape_are_taken(lanes: Lanes, app_no: int) -> None:
    """Personal, in a language, silent, data only, with a lifetime."""
    sender = await lanes.get(app_no, LANE)
    texts = {"default": Text(title="Hi {{ user.name }}", subtitle="s", body="b"), "de": Text(body="Hallo")}
    for message in (
        Message(texts=texts, ttl=60, badge=1, sound="default", deep_link="https://a.example"),
        Message(data={"n": 1, "o": {"a": [1]}}, ttl=0),
        Message(texts={"default": Text(body="b")}, fcm=FcmOptions(data_only=True, analytics_label="x")),
    ):
        for locale in ("", "de-at"):
            user = {"name": 'a"b'}
            outcomes = await send(sender, fcm_tokens(2), message, locale=locale, values=user)
            assert outcomes == [ACCEPTED] * 2


async def test_what_cannot_be_framed_is_told_before(lanes: Lanes, app_no: int) -> None:
    """A token that would leave its JSON string is never posted."""
    sender = await lanes.get(app_no, LANE)
    for token in ('a","x":"b', "", "a b", "a\nb", "é", "a\\", "x" * 9_000):
        with pytest.raises(Unsendable):
            await send(sender, [token])
    assert await send(sender, fcm_tokens(2)) == [ACCEPTED] * 2


async def test_c15_only_an_fcm_error_ends_a_token(sandbox: Sandbox, lanes: Lanes, app_no: int) -> None:
    """C15: UNREGISTERED retires; a 404 in HTML is configuration."""
    sender = await lanes.get(app_no, LANE)
    dead, alive = fcm_tokens(2)
    sandbox.bury({"provider": "fcm", "tokens": [dead]})
    gone, good = await send(sender, [dead, alive])
    html = {"provider": "fcm", "status": 404, "reason": "NOT_FOUND", "body": "<html>", "first": 1}
    await sandbox.add_rule(html)
    (wrong,) = await send(sender, [alive])

    assert (gone.kind, gone.retire, gone.reason) == (OutcomeKind.REJECTED, True, "fcm:UNREGISTERED")
    assert good is ACCEPTED
    assert (wrong.kind, wrong.retire) == (OutcomeKind.BLOCKED, False)


async def test_c16_a_broken_apns_key_in_firebase_is_the_iphones_alone(
    sandbox: Sandbox, lanes: Lanes, app_no: int
) -> None:
    """C16: their rows wait, Android goes on, no access token is renewed for it; another project's token
    retires with its own reason."""
    sender = await lanes.get(app_no, LANE)
    tokens = fcm_tokens(20)
    await sandbox.add_rule({"provider": "fcm", "reason": "THIRD_PARTY_AUTH_ERROR", "token": "*1:APA91b*"})
    outcomes = dict(zip(tokens, await send(sender, tokens), strict=True))
    await sandbox.clear()
    await sandbox.add_rule({"provider": "fcm", "reason": "SENDER_ID_MISMATCH", "first": 1})
    (mismatch,) = await send(sender, tokens[:1])

    for token, outcome in outcomes.items():
        if token.split(":")[0].endswith("1"):
            assert (outcome.kind, outcome.scope) == (OutcomeKind.THROTTLED, Scope.HOST)
        else:
            assert outcome is ACCEPTED
    assert oauth_calls(sandbox) == 1
    assert (mismatch.kind, mismatch.retire) == (OutcomeKind.REJECTED, True)
    assert mismatch.reason == "fcm:SENDER_ID_MISMATCH"


async def test_c17_an_access_token_that_dies_costs_one_call(
    sandbox: Sandbox, lanes: Lanes, app_no: int
) -> None:
    """C17: 64 in flight are refused: one call to the token endpoint; each goes again as no attempt."""
    sender = await lanes.get(app_no, LANE)
    await send(sender, fcm_tokens(4))
    sandbox.oauth.forget()
    refused = await send(sender, fcm_tokens(64))
    again = await send(sender, fcm_tokens(64))

    assert {(o.kind, o.attempt, o.maybe, o.reason) for o in refused if o is not ACCEPTED} == {
        (OutcomeKind.UNAVAILABLE, False, False, "fcm:UNAUTHENTICATED")
    }
    assert refused.count(ACCEPTED) < 64
    assert again == [ACCEPTED] * 64
    assert oauth_calls(sandbox) == 2


async def test_c17_a_second_401_blocks(db: Database, sandbox: Sandbox, app_no: int) -> None:
    """C17: the new token is refused, too: blocked, and no call for each request; an unblock tries anew."""
    clock = Clock()
    async with process(db, clock) as lanes:
        sender = await lanes.get(app_no, LANE)
        await send(sender, fcm_tokens(4))
        rule = await sandbox.add_rule({"provider": "fcm", "reject_credential": True})
        first = await send(sender, fcm_tokens(1))
        second = await send(sender, fcm_tokens(20))
        await sandbox.clear(rule.number)

        assert [o.kind for o in first] == [OutcomeKind.UNAVAILABLE]
        assert {(o.kind, o.reason, o.retire) for o in second} == {
            (OutcomeKind.BLOCKED, "fcm:UNAUTHENTICATED", False)
        }
        assert oauth_calls(sandbox) == 2
        clock.skipped += PROBE_AFTER + 1
        assert await send(sender, fcm_tokens(4)) == [ACCEPTED] * 4
        assert oauth_calls(sandbox) == 3


async def test_c17_processes_share_the_access_token(db: Database, sandbox: Sandbox, app_no: int) -> None:
    """C17: three processes start at once, and later lose their token at once: one call each time."""
    processes = [Lanes(db, SEAL) for _ in range(3)]
    senders = [await lanes.get(app_no, LANE) for lanes in processes]
    first = await asyncio.gather(*(send(sender, fcm_tokens(10)) for sender in senders))
    calls = oauth_calls(sandbox)
    sandbox.oauth.forget()
    await asyncio.gather(*(send(sender, fcm_tokens(1)) for sender in senders))
    third = await asyncio.gather(*(send(sender, fcm_tokens(10)) for sender in senders))
    await asyncio.gather(*(lanes.close() for lanes in processes))

    assert {outcome for batch in first + third for outcome in batch} == {ACCEPTED}
    assert calls == 1
    assert oauth_calls(sandbox) == 2


async def test_a_refused_service_account_blocks(db: Database, sandbox: Sandbox, app_no: int) -> None:
    """invalid_grant: whoever posts hears that the lane is blocked, and nothing reaches FCM."""
    clock = Clock()
    rule = await sandbox.add_rule({"provider": "oauth", "reason": "invalid_grant"})
    async with process(db, clock) as lanes:
        sender = await lanes.get(app_no, LANE)
        (outcome,) = await send(sender, fcm_tokens(1))
        await sandbox.clear(rule.number)

        assert (outcome.kind, outcome.reason) == (OutcomeKind.BLOCKED, "fcm:invalid_grant")
        assert sandbox.counts()["fcm"]["requests"] == 0
        clock.skipped += PROBE_AFTER + 1
        assert await send(sender, fcm_tokens(2)) == [ACCEPTED] * 2


async def test_a_token_endpoint_that_is_down_is_a_wait(sandbox: Sandbox, lanes: Lanes, app_no: int) -> None:
    """Not blocked: it has a name, is tried again, and then all goes out."""
    await sandbox.add_rule({"provider": "oauth", "status": 503, "reason": "backend", "first": 1})
    sender = await lanes.get(app_no, LANE)
    assert isinstance(sender, FcmSender)
    await eventually(lambda: sender.failure is not None, "the first call fails")

    assert sender.waiting() == "authorization"
    assert sender.room() == 0
    assert sender.failure == "SenderError: the token endpoint answered 503 without a token"
    assert await send(sender, fcm_tokens(2)) == [ACCEPTED] * 2
    assert sender.waiting() is None


async def test_quota_and_outage_tell_how_long(sandbox: Sandbox, lanes: Lanes, app_no: int) -> None:
    """Retry-After where it is longer than Google's least wait."""
    sender = await lanes.get(app_no, LANE)
    quota = {"provider": "fcm", "reason": "QUOTA_EXCEEDED", "headers": {"retry-after": "90"}, "first": 1}
    await sandbox.add_rule(quota)
    (throttled,) = await send(sender, fcm_tokens(1))
    await sandbox.add_rule({"provider": "fcm", "reason": "UNAVAILABLE", "first": 1})
    (away,) = await send(sender, fcm_tokens(1))

    assert (throttled.kind, throttled.scope) == (OutcomeKind.THROTTLED, Scope.LANE)
    assert throttled.retry_after == 90.0
    assert (away.kind, away.maybe, away.retry_after) == (OutcomeKind.UNAVAILABLE, True, 10.0)


async def test_garbage_is_no_yes(sandbox: Sandbox, lanes: Lanes, app_no: int) -> None:
    """An answer that is no JSON: in doubt, never accepted."""
    sender = await lanes.get(app_no, LANE)
    await sandbox.add_rule({"provider": "fcm", "garbage": "body", "first": 1})
    (outcome,) = await send(sender, fcm_tokens(1))

    assert (outcome.kind, outcome.maybe) == (OutcomeKind.UNAVAILABLE, True)
