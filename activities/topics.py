"""Words to FCM topics: sent and answered once, by a process that holds the app's credential."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid5

from temporalio import activity
from temporalio.exceptions import ApplicationError

from activities.faults import ticking
from activities.parcel import Parcel
from clarion import names
from clarion.clock import SYSTEM_CLOCK
from clarion.errors import CommandRefused
from clarion.model.message import Message
from clarion.model.topic import TopicChange, TopicChanged, TopicRefusal, TopicSend, TopicSent
from clarion.seal import Seal
from clarion.senders.outcome import Outcome, OutcomeKind
from clarion.senders.sender import PushFacts
from clarion.store import apps, content, credentials, topics
from clarion.store.apps import App
from clarion.store.credentials import CredentialRow
from clarion.store.database import Database
from clarion.store.topics import Member

if TYPE_CHECKING:  # a control process has no use for the transport
    from clarion.process import SenderSource
    from clarion.senders.fcm import FcmSender
    from clarion.senders.fcm_topics import Change

UNREGISTERED = "fcm:UNREGISTERED"
DEAD = "NOT_FOUND"


class SendTopicInput(Parcel):
    """A message to a topic under an id, by which it may be repeated."""

    id: str
    send: TopicSend


class ChangeTopicInput(Parcel):
    """A change of subscriptions under an id."""

    id: str
    change: TopicChange


class Topics:
    """One request to Google (or one for each registration), and one row of the audit."""

    def __init__(self, db: Database, senders: SenderSource, seal: Seal) -> None:
        self._db, self._senders, self._seal = db, senders, seal

    @activity.defn(name="command_send_topic")
    async def send_topic(self, input: SendTopicInput) -> TopicSent:
        """Send; the same id again is answered as the first time.

        Fails for good with BadSpec, NotFound or CommandRefused; otherwise it is tried again, and Google may
        get the message twice: it bears the same tag then.
        """
        word = input.send
        command_id = uuid5(names.COMMANDS, f"topic/{input.id}")
        digest = word.model_copy(update={"by": ""}).digest().hex()
        if (before := await topics.said(self._db, command_id, digest)) is not None:
            return TopicSent.model_validate(before)
        app = await apps.get(self._db, word.app)
        lane = await self._open_lane(app, word.credential)
        target = {"topic": word.topic} if word.topic else {"condition": word.condition or ""}
        message = await self._message(app, word)
        async with ticking():
            sent = _answer(lane, await self._send(lane, target, message, _facts(command_id.hex, word)))
        args = target | {"app": app.name, "credential": lane.name, "digest": digest}
        await topics.note(self._db, command_id, word.by, "send-topic", args, sent.model_dump())
        return sent

    @activity.defn(name="command_change_topic")
    async def change_topic(self, input: ChangeTopicInput) -> TopicChanged:
        """Subscribe or unsubscribe; what Google says of each registration is data."""
        word = input.change
        what = "subscribe" if word.subscribe else "unsubscribe"
        command_id = uuid5(names.COMMANDS, f"topic/{input.id}")
        digest = word.model_copy(update={"by": ""}).digest().hex()
        if (before := await topics.said(self._db, command_id, digest)) is not None:
            return TopicChanged.model_validate(before)
        app = await apps.get(self._db, word.app)
        lane = await self._open_lane(app, word.credential)
        async with ticking():
            changed = await self._change(app, lane, word)
        args: dict[str, Any] = {"app": app.name, "credential": lane.name, "topic": word.topic}
        args |= {"users": len(word.users), "digest": digest}
        await topics.note(self._db, command_id, word.by, what, args, changed.model_dump(mode="json"))
        return changed

    async def _send(
        self, lane: CredentialRow, target: Mapping[str, str], message: Message, facts: PushFacts
    ) -> Outcome:
        from clarion.senders import fcm_topics

        body = fcm_topics.body(facts, message, target, SYSTEM_CLOCK.time())
        return await fcm_topics.send(await self._sender(lane), body)

    async def _change(self, app: App, lane: CredentialRow, word: TopicChange) -> TopicChanged:
        from clarion.senders import fcm_topics

        seen = await self._db.fetchval("select clock_timestamp()")
        members = await topics.members(self._db, app.app_no, lane.lane, word.users)
        credential = await credentials.load(self._db, self._seal, app.app_no, lane.lane)
        changes = await fcm_topics.change(
            await self._sender(lane), credential, word.topic, [one.token for one in members],
            subscribe=word.subscribe,
        )  # fmt: skip
        dead = _dead(members, changes)
        retired = await topics.retire(self._db, dead, seen, UNREGISTERED) if dead else set()
        known = {one.user_id for one in members}
        return TopicChanged(
            changed=sum(not change.reason for change in changes),
            unknown=tuple(dict.fromkeys(user for user in word.users if user not in known)),
            refused=tuple(
                TopicRefusal(
                    user_id=one.user_id, registration_no=one.registration_no, reason=change.reason,
                    retired=one.registration_no in retired,
                )
                for one, change in zip(members, changes, strict=True) if change.reason
            ),
        )  # fmt: skip

    async def _open_lane(self, app: App, name: str | None) -> CredentialRow:
        lane = await topics.lane(self._db, app.app_no, name)
        if lane.withdrawn or lane.blocked:
            state = "withdrawn" if lane.withdrawn else "blocked: unblock it when its cause is gone"
            raise CommandRefused(f"refused: the credential {lane.name} is {state}")
        return lane

    async def _sender(self, lane: CredentialRow) -> FcmSender:
        return cast("FcmSender", await self._senders.get(lane.app_no, lane.lane))

    async def _message(self, app: App, word: TopicSend) -> Message:
        if word.message is not None:
            return word.message
        return await content.load_message(self._db, app.app_no, word.content or "")


def _facts(key: str, word: TopicSend) -> PushFacts:
    return PushFacts(0, "topic", word.app, key, high=word.priority == "high", deadline=None)


def _answer(lane: CredentialRow, outcome: Outcome) -> TopicSent:
    """What Google's answer means for a message without a device. Raises what is tried again, or never."""
    if outcome.kind is OutcomeKind.ACCEPTED:
        return TopicSent(accepted=True)
    if outcome.kind is OutcomeKind.REJECTED:
        return TopicSent(accepted=False, reason=outcome.reason)
    if outcome.kind is OutcomeKind.BLOCKED:
        raise CommandRefused(f"refused: Google refuses the credential {lane.name} ({outcome.reason})")
    raise ApplicationError(
        f"FCM could not take it now: {outcome.reason}",
        type="SenderError",
        next_retry_delay=timedelta(seconds=outcome.retry_after) if outcome.retry_after else None,
    )


def _dead(members: Sequence[Member], changes: Sequence[Change]) -> list[int]:
    """Registrations that Google does not know. All of them unknown: more likely the project is wrong."""
    if not any(not change.reason for change in changes):
        return []
    return [
        one.registration_no for one, change in zip(members, changes, strict=True) if change.reason == DEAD
    ]
