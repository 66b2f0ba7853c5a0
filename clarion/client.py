"""The Python client for services: start campaigns and pushes, follow them, steer them.

    async with await Clarion.connect(database_url=...) as clarion:
        spec = CampaignSpec(app="shop", message=..., audience=...)
        campaign = await clarion.start_campaign(spec, id="spring")
        await campaign.pause(reason="typo")

A Temporal address alone is enough; with a database URL, content and long user lists are stored first and
travel as references. This is the one module of the library that imports temporalio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4, uuid5

from temporalio.client import (
    Client,
    Interceptor,
    WorkflowExecutionStatus,
    WorkflowFailureError,
    WorkflowHandle,
    WorkflowQueryFailedError,
    WorkflowUpdateFailedError,
)
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from clarion import limits, names
from clarion.clock import SYSTEM_CLOCK
from clarion.errors import (
    AlreadyExists,
    BadInput,
    BadSpec,
    ClarionError,
    CommandRefused,
    NotFound,
    StackUnavailable,
)
from clarion.model.base import Model
from clarion.model.campaign import CampaignProgress
from clarion.model.command import (
    ApproveInput,
    CancelInput,
    CancelMode,
    CommandAnswer,
    EditMessageInput,
    ExtendDeadlineInput,
    FinalState,
    PauseInput,
    PushProgress,
    RejectInput,
    RescheduleInput,
    ResumeInput,
    RetryAnswer,
    RetryInput,
    SetPaceInput,
)
from clarion.model.message import Message
from clarion.model.spec import CampaignSpec, PushSpec
from clarion.model.topic import TopicChange, TopicChanged, TopicSend, TopicSent
from clarion.store import content
from clarion.store import retry as retries
from clarion.store.database import Database
from clarion.store.planned import not_past
from clarion.words import Spec, retry_words, said, with_id

TASK_TIMEOUT = timedelta(seconds=limits.WORKFLOW_TASK_TIMEOUT)  # ten would be a killed worker's silence
_KNOWN = "select spec_hash, verdict, closed_at from push where push_id = $1"
_KNOWN_CAMPAIGN = "select spec_hash, verdict, closed_at from campaign where campaign_id = $1"
_OPEN_CAMPAIGN = "select verdict, closed_at from campaign where campaign_id = $1"
_OPEN = """
select verdict, closed_at from push
where push_id = $1 or campaign_id = $1
order by closed_at is not null, push_no desc limit 1
"""
_APP = """
select a.name from app a
where app_no in (
  select app_no from push where push_id = $1 or campaign_id = $1
  union select app_no from campaign where campaign_id = $1)
"""
_PUSH_NO = "select push_no from push where push_id = $1"
OPENING = 50  # tenths of a second until what was started has its row
SPEC_MEMO = "spec"  # the digest of the spec, so that a repeated start is recognised without the database


class Clarion:
    """A connection to Temporal and, where given, to the store. Use `await Clarion.connect(...)`."""

    def __init__(self, temporal: Client, db: Database | None = None) -> None:
        self.temporal = temporal
        self.db = db

    @classmethod
    async def connect(
        cls,
        address: str | None = None,
        *,
        namespace: str | None = None,
        database_url: str | None = None,
        profile: str | None = None,
        traced: bool = False,
    ) -> Self:
        """Connect by address, else by Temporal's own configuration (TEMPORAL_ADDRESS, profiles).

        `traced`: starts and commands are spans of the caller's OpenTelemetry trace, which their workflows
        go on with (needs opentelemetry-api).
        Raises StackUnavailable when Temporal or the database cannot be reached.
        """
        config: dict[str, Any] = dict(ClientConfig.load_client_connect_config(profile=profile))
        config |= {k: v for k, v in (("target_host", address), ("namespace", namespace)) if v}
        config.setdefault("target_host", "127.0.0.1:7233")
        try:
            temporal = await Client.connect(
                **config, data_converter=pydantic_data_converter, interceptors=_interceptors(traced)
            )
        except RuntimeError as error:
            raise StackUnavailable(
                f"Temporal does not answer at {config['target_host']}: "
                "is it running, is TEMPORAL_ADDRESS right?"
            ) from error
        db = await Database.connect(database_url, max_size=2) if database_url else None
        return cls(temporal, db)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Give the database connections back."""
        if self.db is not None:
            await self.db.close()

    async def start_campaign(
        self,
        spec: CampaignSpec,
        *,
        id: str | None = None,
        users: Iterable[str] | None = None,
        by: str = "",
    ) -> CampaignHandle:
        """Start a campaign, or get the running one that the same id and spec already started.

        `users`: any number of user ids, stored first and sent by reference (needs a database URL).
        `by`: who starts it, for the audit.
        Raises AlreadyExists when the id is taken by other content, BadSpec when the spec is not usable.
        """
        spec = with_id(spec, id)
        spec = await self._store(spec, users)
        assert spec.id is not None
        handle = self.campaign(spec.id)
        handle.closed = await self._closed(_KNOWN_CAMPAIGN, spec.id, spec)
        if handle.closed is None:
            await self._start(names.CAMPAIGN_WORKFLOW, handle.workflow_id, spec, by)
        return handle

    async def schedule_push(
        self,
        spec: PushSpec,
        *,
        id: str | None = None,
        users: Iterable[str] | None = None,
        by: str = "",
    ) -> PushHandle:
        """Start one push, at once or at `send_at`. The same id with the same spec is the same push."""
        spec = with_id(spec, id)
        spec = await self._store(spec, users)
        assert spec.id is not None
        handle = self.push(spec.id)
        handle.closed = await self._closed(_KNOWN, spec.id, spec)
        if handle.closed is None:
            await self._start(names.PUSH_WORKFLOW, handle.workflow_id, spec, by)
        return handle

    def campaign(self, id: str) -> CampaignHandle:
        """A handle on a campaign, running or not."""
        return CampaignHandle(self, id, names.campaign_workflow_id(id))

    def push(self, id: str) -> PushHandle:
        """A handle on a push, running or not."""
        return PushHandle(self, id, names.push_workflow_id(id))

    # ── FCM topics ────────────────────────────────────────────────────────────────────────────────

    async def send_topic(self, send: TopicSend, *, id: str | None = None) -> TopicSent:
        """Send a message to an FCM topic or condition; when it returns, Google has taken or refused it.

        The same id again is the same send, and is answered alike. Raises BadSpec, NotFound, AlreadyExists
        (the id was used for something else), CommandRefused (the credential) and ClarionError: not now.
        """
        if self.db is not None and send.message is not None:
            reference = await content.store_message(self.db, send.app, send.message)
            send = send.model_copy(update={"message": None, "content": reference})
        return await self._topic(names.TOPIC_SEND_WORKFLOW, id, send, TopicSent)

    async def subscribe(self, change: TopicChange, *, id: str | None = None) -> TopicChanged:
        """Subscribe users' FCM registrations to a topic, or unsubscribe them: up to 1,000 users a call.

        Raises as `send_topic` does; what Google refuses of single registrations is in the answer.
        """
        return await self._topic(names.TOPIC_CHANGE_WORKFLOW, id, change, TopicChanged)

    async def _topic(self, workflow: str, id: str | None, word: Model, kind: type[T]) -> T:
        workflow_id = names.topic_workflow_id(id or str(uuid4()))
        try:
            answer: T = await self.temporal.execute_workflow(
                workflow,
                word,
                id=workflow_id,
                task_queue=names.CONTROL_QUEUE,
                task_timeout=TASK_TIMEOUT,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                result_type=kind,
            )
        except WorkflowFailureError as error:
            raise _failed(error) from None
        except RPCError as error:
            raise _unavailable(error) from error
        return answer

    async def _store(self, spec: Spec, users: Iterable[str] | None) -> Spec:
        """Content and lists into the store, references into the spec."""
        if self.db is None:
            if users is not None:
                raise BadSpec("a list of users is stored first: connect with a database_url")
            return spec
        changes: dict[str, Any] = {}
        if spec.message is not None:
            await self._check(self.db, spec.app, spec.message)
            changes |= {
                "message": None,
                "content": await content.store_message(self.db, spec.app, spec.message),
            }
        if users is not None:
            changes["audience"] = {"user_list": await content.store_users(self.db, spec.app, users)}
        if not changes:
            return spec
        return type(spec).model_validate(spec.model_dump(exclude_unset=True) | changes)

    async def _closed(self, known: str, id: str, spec: CampaignSpec | PushSpec) -> str | None:
        """How the one of this id ended, if it is closed and the same. Raises AlreadyExists if it is another.

        Temporal forgets a closed workflow, and would run it again; the ledger does not.
        """
        if self.db is None:
            return None
        row = await self.db.fetchrow(known, id)
        if row is None:
            not_past(spec, datetime.fromtimestamp(SYSTEM_CLOCK.time(), UTC))
            return None
        if row["spec_hash"] != spec.model_copy(update={"id": None}).digest():
            raise AlreadyExists(f"{id!r} exists with other content: choose another id")
        verdict: str | None = row["verdict"] if row["closed_at"] is not None else None
        return verdict

    async def _retry(self, push_no: int, words: RetryInput) -> RetryAnswer:
        """Open the push that tries again, and start its workflow; repeated, it starts what is not running."""
        assert self.db is not None
        id = uuid5(names.COMMANDS, f"retry/{push_no}/{words.command_id}")
        answer = await retries.retry(self.db, push_no, words, id)
        spec, closed = await retries.opened(self.db, answer.push_id)
        if closed is None:
            await self._start(names.PUSH_WORKFLOW, names.push_workflow_id(answer.push_id), spec)
        return answer

    async def _check(self, db: Database, app: str, message: Message) -> None:
        """Refuse at once what no device could be sent; a client without renderers leaves that to the push."""
        try:
            from clarion.senders.check import check_message
            from clarion.store import apps
            from clarion.store import push as pushes
        except ImportError:
            return
        app_no = (await apps.get(db, app)).app_no
        check_message(message, await pushes.providers(db, app_no), SYSTEM_CLOCK.time())

    async def _start(
        self, workflow: str, workflow_id: str, spec: CampaignSpec | PushSpec, by: str = ""
    ) -> None:
        digest = spec.digest().hex()
        try:
            await self.temporal.start_workflow(
                workflow,
                spec,
                id=workflow_id,
                task_queue=names.CONTROL_QUEUE,
                task_timeout=TASK_TIMEOUT,
                id_conflict_policy=WorkflowIDConflictPolicy.FAIL,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                memo={SPEC_MEMO: digest} | ({names.STARTER_MEMO: by} if by else {}),
                static_summary=spec.title or f"{workflow_id} ({spec.app})",
            )
        except WorkflowAlreadyStartedError:
            await self._same_or_refuse(workflow_id, digest)
        except RPCError as error:
            raise _unavailable(error) from error

    async def _same_or_refuse(self, workflow_id: str, digest: str) -> None:
        description = await self.temporal.get_workflow_handle(workflow_id).describe()
        memo = await description.memo()
        if memo.get(SPEC_MEMO) != digest:
            raise AlreadyExists(
                f"{workflow_id} is running with other content; choose another id, or cancel it first"
            )


def _interceptors(traced: bool) -> list[Interceptor]:
    if not traced:
        return []
    from temporalio.contrib.opentelemetry import TracingInterceptor

    return [TracingInterceptor()]


class _Handle:
    """What campaigns and pushes have in common: the operator's words."""

    _type: str
    _open: str  # how it stands: verdict and closed_at, by its id

    def __init__(self, clarion: Clarion, id: str, workflow_id: str) -> None:
        self._clarion = clarion
        self.id = id
        self.workflow_id = workflow_id
        self.closed: str | None = None  # how it had ended when the same start was repeated

    @property
    def workflow(self) -> WorkflowHandle[Any, Any]:
        """The Temporal handle, for everything that Temporal itself offers."""
        return self._clarion.temporal.get_workflow_handle(self.workflow_id)

    async def pause(
        self,
        reason: str = "",
        *,
        by: str = "",
        command_id: str | None = None,
        if_version: int | None = None,
    ) -> CommandAnswer:
        """Start nothing more until `resume`; in force when this returns, obeyed within two seconds.

        Raises CommandRefused (closed, draining), NotFound, or StackUnavailable: then the outcome is unknown
        and the same `command_id` may be sent again.
        """
        words = said(PauseInput, reason=reason, by=by, if_version=if_version)
        return await self._command("pause", words, command_id)

    async def resume(
        self, *, by: str = "", command_id: str | None = None, if_version: int | None = None
    ) -> CommandAnswer:
        """Go on exactly where it stood."""
        return await self._command("resume", said(ResumeInput, by=by, if_version=if_version), command_id)

    async def cancel(
        self,
        mode: CancelMode = CancelMode.NOW,
        reason: str = "",
        *,
        by: str = "",
        command_id: str | None = None,
        if_version: int | None = None,
    ) -> CommandAnswer:
        """End it: `now` starts nothing more, `drain` lets batches that have begun finish."""
        words = said(CancelInput, mode=mode, reason=reason, by=by, if_version=if_version)
        return await self._command("cancel", words, command_id)

    async def set_pace(
        self,
        pace: float | None,
        *,
        by: str = "",
        command_id: str | None = None,
        if_version: int | None = None,
    ) -> CommandAnswer:
        """Sends per second from now on; None removes the limit."""
        words = said(SetPaceInput, pace=pace, by=by, if_version=if_version)
        return await self._command("set_pace", words, command_id)

    async def edit_message(
        self,
        message: Message,
        reason: str = "",
        *,
        by: str = "",
        command_id: str | None = None,
        if_version: int | None = None,
    ) -> CommandAnswer:
        """New content for all that is not sent yet, checked first; running batches take it in two seconds.

        With a database it is stored first and travels as a reference; else it is 8 KB at most and stands in
        the workflow's history. Raises BadSpec when it does not fit: nothing is changed then.
        """
        given: dict[str, Any] = {"message": message}
        if (db := self._clarion.db) is not None:
            app = await self._app(db)
            await self._clarion._check(db, app, message)
            given = {"content": await content.store_message(db, app, message)}
        words = said(EditMessageInput, **given, reason=reason, by=by, if_version=if_version)
        return await self._command("edit_message", words, command_id)

    async def reschedule(
        self,
        send_at: datetime,
        *,
        zone: str | None = None,
        by: str = "",
        command_id: str | None = None,
        if_version: int | None = None,
    ) -> CommandAnswer:
        """Start at another time, as long as it has not started: aware, or local with its zone's name.

        Raises CommandRefused: it has started, or the time is past; BadInput: no such zone.
        """
        words = said(RescheduleInput, send_at=send_at, zone=zone, by=by, if_version=if_version)
        return await self._command("reschedule", words, command_id)

    async def extend_deadline(
        self,
        deadline: datetime,
        *,
        zone: str | None = None,
        by: str = "",
        command_id: str | None = None,
        if_version: int | None = None,
    ) -> CommandAnswer:
        """Try until a later moment; in force for running batches, too."""
        words = said(ExtendDeadlineInput, deadline=deadline, zone=zone, by=by, if_version=if_version)
        return await self._command("extend_deadline", words, command_id)

    async def result(self) -> dict[str, Any]:
        """Wait until it is closed and return its result."""
        result: dict[str, Any] = await self.workflow.result()
        return result

    async def _command(self, update: str, input: Any, command_id: str | None) -> CommandAnswer:
        input = input.model_copy(update={"command_id": command_id or str(uuid4())})
        try:
            return await self._update(update, input)
        except NotFound:
            if not await self._is_open():
                raise
        # The ledger has it and Temporal has not: the workflow starts again from the ledger and obeys.
        await self.restart()
        return await self._update(update, input)

    async def _update(self, update: str, input: Any) -> CommandAnswer:
        try:
            answer: CommandAnswer = await self.workflow.execute_update(
                update,
                input,
                id=str(uuid4()),  # not the command's: Temporal would repeat a stored failure
                result_type=CommandAnswer,
            )
        except WorkflowUpdateFailedError as error:
            raise _refusal(error) from error
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise NotFound(f"{self.workflow_id} is not running") from error
            raise _unavailable(error) from error
        return answer

    async def _app(self, db: Database) -> str:
        """The app that it is of; what was started just now is not in the ledger yet. Raises NotFound."""
        for _ in range(OPENING):
            found: str | None = await db.fetchval(_APP, self.id)
            if found is not None:
                return found
            if not await self._runs():
                break
            await asyncio.sleep(0.1)
        raise NotFound(f"no campaign or push {self.id!r}: `clarion push list` shows those there are")

    async def _runs(self) -> bool:
        """Whether Temporal runs its workflow."""
        try:
            return (await self.workflow.describe()).status is WorkflowExecutionStatus.RUNNING
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return False
            raise _unavailable(error) from error

    async def _is_open(self) -> bool:
        """Whether the ledger has an open push of this id.

        Raises CommandRefused when it is closed, NotFound when there is none.
        """
        if self._clarion.db is None:
            return False
        row = await self._clarion.db.fetchrow(self._open, self.id)
        if row is None:
            raise NotFound(f"no campaign or push {self.id!r}: `clarion push list` shows those there are")
        if row["closed_at"] is not None:
            raise CommandRefused(
                f"{self.id} is closed ({row['verdict']}, {row['closed_at']:%Y-%m-%d %H:%M:%S} UTC)"
            )
        return True

    async def restart(self) -> None:
        """Start the workflow again of a push that has lost it: the ledger knows what is left."""
        try:
            await self._clarion.temporal.start_workflow(
                self._type,
                {"id": self.id},
                id=self.workflow_id,
                task_queue=names.CONTROL_QUEUE,
                task_timeout=TASK_TIMEOUT,
                id_conflict_policy=WorkflowIDConflictPolicy.USE_EXISTING,
            )
        except RPCError as error:
            raise _unavailable(error) from error

    async def wake(self) -> None:
        """Let its workflow look at the ledger at once, after something was written beside Temporal.

        Raises NotFound, StackUnavailable.
        """
        try:
            await self.workflow.signal("wake")
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise NotFound(f"{self.workflow_id} is not running") from error
            raise _unavailable(error) from error


class CampaignHandle(_Handle):
    """A campaign."""

    _type = names.CAMPAIGN_WORKFLOW
    _open = _OPEN_CAMPAIGN

    async def approve(
        self, content: str | None = None, reason: str = "", *, by: str = "", command_id: str | None = None
    ) -> CommandAnswer:
        """Let it go. `content`: the reference of what was looked at; refused when it has another one now."""
        input = ApproveInput(content=content, reason=reason, by=by)
        return await self._command("approve", input, command_id)

    async def reject(self, reason: str = "", *, by: str = "", command_id: str | None = None) -> CommandAnswer:
        """End it instead of approving it: nothing (more) of it is sent."""
        return await self._command("reject", RejectInput(reason=reason, by=by), command_id)

    async def progress(self) -> CampaignProgress:
        """Its stages and what it waits for, at the last look of its workflow."""
        return await _query(self.workflow, CampaignProgress)

    async def retry(
        self,
        states: Sequence[FinalState] = ("rejected", "dead"),
        reasons: Sequence[str] = (),
        *,
        deadline: datetime | None = None,
        by: str = "",
        command_id: str | None = None,
    ) -> list[RetryAnswer]:
        """Try again what ended so in its closed pushes: a push for each that has such deliveries.

        Raises CommandRefused when none has, saying why push by push. See `PushHandle.retry`.
        """
        words = retry_words(states, reasons, deadline, by, command_id)
        pushes = await retries.of_campaign(_needed(self._clarion.db), self.id)
        if not pushes:
            raise NotFound(f"no campaign {self.id!r}: `clarion campaign list` shows those there are")
        answers, refusals = [], []
        for push_no in pushes:
            try:
                answers.append(await self._clarion._retry(push_no, words))
            except CommandRefused as error:
                refusals.append(str(error))
        if not answers:
            raise CommandRefused("; ".join(refusals))
        return answers


class PushHandle(_Handle):
    """A push."""

    _type = names.PUSH_WORKFLOW
    _open = _OPEN

    async def retry(
        self,
        states: Sequence[FinalState] = ("rejected", "dead"),
        reasons: Sequence[str] = (),
        *,
        deadline: datetime | None = None,
        by: str = "",
        command_id: str | None = None,
    ) -> RetryAnswer:
        """Start a push over those deliveries of this closed one that ended so, for one of these reasons.

        It has this one's content and key of de-duplication, and is called `{id}.r1`, `.r2`, …; the same
        `command_id` again gives the same push. `reasons`: as `explain` shows them; none: any.
        Raises CommandRefused (not closed, nothing ended so, tried again already), BadInput (no such reason),
        NotFound, BadSpec (needs a database_url).
        """
        words = retry_words(states, reasons, deadline, by, command_id)
        push_no = await _needed(self._clarion.db).fetchval(_PUSH_NO, self.id)
        if push_no is None:
            raise NotFound(f"no push {self.id[:128]!r}: `clarion push list` shows those there are")
        return await self._clarion._retry(push_no, words)

    async def progress(self) -> PushProgress:
        """Counts, phase and hold at this moment, from the ledger."""
        return await _query(self.workflow, PushProgress)


T = TypeVar("T")


async def _query(workflow: WorkflowHandle[Any, Any], result_type: type[T]) -> T:
    try:
        answer: T = await workflow.query("progress", result_type=result_type)
        return answer
    except WorkflowQueryFailedError as error:  # it has not looked at its row yet
        raise NotFound(str(error)) from error
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotFound(f"{workflow.id} is not known to Temporal") from error
        raise _unavailable(error) from error


def _failed(error: WorkflowFailureError) -> ClarionError:
    """Why a short workflow failed, as the exception that its activity raised."""
    cause = error.cause
    if not isinstance(cause, ApplicationError):
        return ClarionError(f"it did not end by itself: {type(cause).__name__}")
    kinds = {kind.__name__: kind for kind in (BadInput, BadSpec, NotFound, AlreadyExists, CommandRefused)}
    return kinds.get(cause.type or "", ClarionError)(cause.message)


def _needed(db: Database | None) -> Database:
    if db is None:
        raise BadSpec("a retry is made from the ledger's rows: connect with a database_url")
    return db


_REFUSALS = {
    "StoreUnavailable": StackUnavailable,
    "BadInput": BadInput,
    "BadSpec": BadSpec,
    "NotFound": NotFound,
}


def _refusal(error: WorkflowUpdateFailedError) -> Exception:
    cause = error.cause
    text = cause.message if isinstance(cause, ApplicationError) else str(cause)
    kind = cause.type if isinstance(cause, ApplicationError) else None
    return _REFUSALS.get(kind or "", CommandRefused)(text)


def _unavailable(error: RPCError) -> StackUnavailable:
    return StackUnavailable(f"Temporal did not answer ({error.status.name}); the outcome is unknown")
