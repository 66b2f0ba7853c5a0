"""The HMS sender against the sandbox: groups, both forms of partial success, tokens, blocks."""

from __future__ import annotations

import asyncio

import pytest

from clarion.model.message import Classification, HmsOptions, Message, Text
from clarion.sandbox.log import content_hash
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.lanes import Lanes
from clarion.senders.outcome import ACCEPTED, OutcomeKind, Scope
from clarion.senders.sender import Unsendable
from clarion.store.database import Database
from tests.support.senders import HELLO, Clock, process, send
from tests.support.vendors import calls, lines, registrations, shown, vendor_app

LANES = ("hms", "hms-v3")


@pytest.mark.parametrize("lane", LANES)
async def test_a_thousand_in_five_requests(
    sandbox: Sandbox, lanes: Lanes, app: tuple[int, dict[str, int]], lane: str
) -> None:
    """All accepted, two hundred to a request, each shown once what was meant; one token for all."""
    tokens = registrations("hms", 1_000, first=10_000 * LANES.index(lane))
    sender = await lanes.get(app[0], app[1][lane])
    outcomes = await send(sender, tokens)
    screens = shown(sandbox, "hms")
    told = {line["content"] for line in lines(sandbox, "hms") if line["token"] in tokens}

    assert set(outcomes) == {ACCEPTED}
    assert calls(sandbox, "hms") == 5
    assert {screens[token] for token in tokens} == {1}
    assert told == {content_hash("Hello", "there")}
    assert calls(sandbox, "hms-auth") == (1 if lane == "hms" else 0)


@pytest.mark.parametrize("lane", LANES)
async def test_partial_success_is_split(
    sandbox: Sandbox, lanes: Lanes, app: tuple[int, dict[str, int]], lane: str
) -> None:
    """The dead of a request retire, the others are accepted and not sent again."""
    sender = await lanes.get(app[0], app[1][lane])
    tokens = registrations("hms", 50, first=30_000 + 100 * LANES.index(lane))
    sandbox.bury({"provider": "hms", "tokens": tokens[::10]})
    outcomes = await send(sender, tokens)

    assert [outcome is ACCEPTED for outcome in outcomes] == [n % 10 > 0 for n in range(50)]
    assert {(o.kind, o.retire, o.suspect) for o in outcomes[::10]} == {(OutcomeKind.REJECTED, True, False)}
    assert calls(sandbox, "hms") == 1


async def test_all_dead_is_suspect(sandbox: Sandbox, lanes: Lanes, app: tuple[int, dict[str, int]]) -> None:
    """80300007 may as well be the wrong app: its registrations are watched before any retires."""
    sender = await lanes.get(app[0], app[1]["hms"])
    tokens = registrations("hms", 3, first=40_000)
    sandbox.bury({"provider": "hms", "tokens": tokens})
    outcomes = await send(sender, tokens)

    assert {(o.kind, o.reason, o.retire, o.suspect) for o in outcomes} == {
        (OutcomeKind.REJECTED, "hms:80300007", True, True)
    }


async def test_v3_says_why(sandbox: Sandbox, lanes: Lanes, app: tuple[int, dict[str, int]]) -> None:
    """A registration of another app, one that its country does not take, and a punished app."""
    sender = await lanes.get(app[0], app[1]["hms-v3"])
    good, foreign, abroad = registrations("hms", 3, first=41_000)
    foreign += "foreign"
    sandbox.bury({"provider": "hms", "tokens": [abroad], "reason": "countryNotSupport"})
    outcomes = await send(sender, [good, foreign, abroad])
    sandbox.bury({"provider": "hms", "tokens": [good], "reason": "disableSendHuaweiMsgBecauseOfPenalty"})
    punished, _ = await send(sender, [good, abroad + "2"])

    assert outcomes[0] is ACCEPTED
    assert (outcomes[1].reason, outcomes[1].retire, outcomes[1].suspect) == ("hms:noRight", True, True)
    assert (outcomes[2].kind, outcomes[2].retire) == (OutcomeKind.REJECTED, False)
    assert punished.kind is OutcomeKind.BLOCKED


async def test_messages_of_every_shape_are_taken(
    sandbox: Sandbox, lanes: Lanes, app: tuple[int, dict[str, int]]
) -> None:
    """Personal, in a language, silent, with a lifetime, a link, a badge; in v1 and in v3."""
    texts = {"default": Text(title="Hi {{ user.name }}", body="b"), "de": Text(body="Hallo")}
    service = Classification.SERVICE
    shapes = (
        Message(texts=texts, ttl=60, badge=1, deep_link="https://a.example", data={"n": 1}),
        Message(texts=texts, badge="+120"),
        Message(data={"n": 1, "o": {"a": [1]}}, ttl=0),
        Message(
            texts={"default": Text(title="t", body="b")},
            ttl=2_419_200,
            deep_link="app://x",
            classification=service,
            hms=HmsOptions(category="IM", channel_id="c", test=True),
        ),
    )
    for lane in LANES:
        sender = await lanes.get(app[0], app[1][lane])
        for message in shapes:
            for locale in ("", "de-at"):
                user = {"name": 'a"b'}
                outcomes = await send(sender, registrations("hms", 2), message, locale=locale, values=user)
                assert outcomes == [ACCEPTED] * 2


async def test_a_void_token_is_renewed_once(
    sandbox: Sandbox, lanes: Lanes, app: tuple[int, dict[str, int]]
) -> None:
    """C17: five requests under a void token make one new token; all goes again; a second refusal blocks."""
    sender = await lanes.get(app[0], app[1]["hms"])
    tokens = registrations("hms", 1_000, first=50_000)
    assert set(await send(sender, tokens[:10])) == {ACCEPTED}
    sandbox.oauth.forget()
    sandbox.hms.forget()
    refused = await send(sender, tokens)
    again = await send(sender, tokens)
    minted = calls(sandbox, "hms-auth")
    await sandbox.add_rule({"provider": "hms", "reject_credential": True})
    first = await send(sender, tokens[:2])
    blocked = await send(sender, tokens[:2])

    assert {(o.kind, o.attempt, o.maybe) for o in refused if o is not ACCEPTED} == {
        (OutcomeKind.UNAVAILABLE, False, False)
    }
    assert set(again) == {ACCEPTED}
    assert minted == 2
    assert {o.kind for o in first} == {OutcomeKind.UNAVAILABLE}
    assert {(o.kind, o.reason) for o in blocked} == {(OutcomeKind.BLOCKED, "hms:80200003")}
    assert calls(sandbox, "hms-auth") == 3


async def test_processes_share_a_token(
    sandbox: Sandbox, db: Database, app: tuple[int, dict[str, int]]
) -> None:
    """Four processes at once ask for one token."""
    tokens = registrations("hms", 4, first=60_000)
    made = [process(db) for _ in range(4)]
    running = [await one.__aenter__() for one in made]
    senders = [await lanes.get(app[0], app[1]["hms"]) for lanes in running]
    outcomes = await asyncio.gather(
        *(send(sender, [token]) for sender, token in zip(senders, tokens, strict=True))
    )
    for one in made:
        await one.__aexit__(None, None, None)

    assert outcomes == [[ACCEPTED]] * 4
    assert calls(sandbox, "hms-auth") == 1


async def test_a_wrong_secret_blocks(sandbox: Sandbox, db: Database) -> None:
    """The token endpoint refuses the client: blocked with its code, nothing is sent."""
    sandbox.hms._apps, kept = [], sandbox.hms._apps
    app_no, at = await vendor_app(sandbox, db)
    async with process(db) as lanes:
        sender = await lanes.get(app_no, at["hms"])
        (outcome,) = await send(sender, registrations("hms", 1))
    sandbox.hms._apps = kept

    assert (outcome.kind, outcome.reason) == (OutcomeKind.BLOCKED, "hms:oauth_1101")
    assert calls(sandbox, "hms") == 0


async def test_too_fast_is_503(sandbox: Sandbox, lanes: Lanes, app: tuple[int, dict[str, int]]) -> None:
    """Devices are counted, not requests; it is no attempt, and one storm is told as a few deliveries."""
    sandbox.change({"hms_devices_per_second": 300})
    sender = await lanes.get(app[0], app[1]["hms"])
    outcomes = await send(sender, registrations("hms", 1_000, first=70_000))
    sandbox.change({"hms_devices_per_second": 0})
    slow = [o for o in outcomes if o is not ACCEPTED]

    assert {(o.kind, o.attempt, o.maybe) for o in slow} == {(OutcomeKind.THROTTLED, False, False)}
    assert 0 < sum(o.scope is Scope.LANE for o in slow) <= 50 < len(slow)


async def test_what_cannot_be_framed_is_told_before(lanes: Lanes, app: tuple[int, dict[str, int]]) -> None:
    """Letters that no registration has."""
    sender = await lanes.get(app[0], app[1]["hms"])
    for token in ("", "a b", "a\nb", "é", "x" * 9_000):
        with pytest.raises(Unsendable):
            await send(sender, [token])
    assert await send(sender, ['quote"quote']) == [ACCEPTED]


async def test_a_clock_that_is_wrong_blocks_v3(
    sandbox: Sandbox, db: Database, app: tuple[int, dict[str, int]]
) -> None:
    """C04: a JWT from a clock an hour slow is made once more, then the lane is blocked for its reason."""
    async with process(db, Clock(-4_000)) as lanes:
        sender = await lanes.get(app[0], app[1]["hms-v3"])
        first = await send(sender, registrations("hms", 1))
        second = await send(sender, registrations("hms", 1))

    assert first[0].kind is OutcomeKind.UNAVAILABLE
    assert (second[0].kind, second[0].reason) == (OutcomeKind.BLOCKED, "hms:80200005")


async def test_hello_is_what_they_show(
    sandbox: Sandbox, lanes: Lanes, app: tuple[int, dict[str, int]]
) -> None:
    """A repeat of the same push replaces the notification that is there: one is shown."""
    sender = await lanes.get(app[0], app[1]["hms"])
    (token,) = registrations("hms", 1, first=80_000)
    await send(sender, [token], HELLO)
    await send(sender, [token], HELLO)
    screen = await sandbox.shown(token)

    assert [(one["title"], one["times"]) for one in screen] == [("Hello", 2)]
