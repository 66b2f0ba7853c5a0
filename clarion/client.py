"""The Python client for services: start campaigns and pushes, follow them, steer them.

    async with await Clarion.connect(database_url=...) as clarion:
        spec = CampaignSpec(app="shop", message=..., audience=...)
        campaign = await clarion.start_campaign(spec, id="spring")
        await campaign.pause(reason="typo")

A Temporal address alone is enough; with a database URL, content and long user lists are stored first and
travel as references. This is the one module of the library that imports temporalio.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from types import TracebackType
from typing import Any, Self, TypeVar
from uuid import uuid4

from pydantic import ValidationError
from temporalio.client import Client, WorkflowHandle, WorkflowUpdateFailedError
from temporalio.common import WorkflowIDConflictPolicy, WorkflowIDReusePolicy
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.envconfig import ClientConfig
from temporalio.exceptions import ApplicationError, WorkflowAlreadyStartedError
from temporalio.service import RPCError, RPCStatusCode

from clarion import limits, names
from clarion.clock import SYSTEM_CLOCK
from clarion.errors import AlreadyExists, BadSpec, CommandRefused, NotFound, StackUnavailable
from clarion.model.command import (
    CancelInput,
    CancelMode,
    CommandAnswer,
    PauseInput,
    PushProgress,
    ResumeInput,
    SetPaceInput,
)
from clarion.model.message import Message
from clarion.model.spec import CampaignSpec, PushSpec
from clarion.store import content
from clarion.store.database import Database

TASK_TIMEOUT = timedelta(seconds=limits.WORKFLOW_TASK_TIMEOUT)  # ten would be a killed worker's silence
_KNOWN = "select spec_hash, verdict, closed_at from push where push_id = $1"
_OPEN = """
select verdict, closed_at from push
where push_id = $1 or campaign_id = $1
order by closed_at is not null, push_no desc limit 1
"""
SPEC_MEMO = "spec"  # the digest of the spec, so that a repeated start is recognised without the database

Spec = TypeVar("Spec", CampaignSpec, PushSpec)


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
    ) -> Self:
        """Connect by address, else by Temporal's own configuration (TEMPORAL_ADDRESS, profiles).

        Raises StackUnavailable when Temporal or the database cannot be reached.
        """
        config: dict[str, Any] = dict(ClientConfig.load_client_connect_config(profile=profile))
        config |= {k: v for k, v in (("target_host", address), ("namespace", namespace)) if v}
        config.setdefault("target_host", "127.0.0.1:7233")
        try:
            temporal = await Client.connect(**config, data_converter=pydantic_data_converter)
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
        self, spec: CampaignSpec, *, id: str | None = None, users: Iterable[str] | None = None
    ) -> CampaignHandle:
        """Start a campaign, or get the running one that the same id and spec already started.

        `users`: any number of user ids, stored first and sent by reference (needs a database URL).
        Raises AlreadyExists when the id is taken by other content, BadSpec when the spec is not usable.
        """
        spec = _with_id(spec, id)
        spec = await self._store(spec, users)
        assert spec.id is not None
        handle = self.campaign(spec.id)
        handle.closed = await self._closed(spec.id, spec.push(spec.id, spec.id))
        if handle.closed is None:
            await self._start(names.CAMPAIGN_WORKFLOW, handle.workflow_id, spec)
        return handle

    async def schedule_push(
        self, spec: PushSpec, *, id: str | None = None, users: Iterable[str] | None = None
    ) -> PushHandle:
        """Start one push, at once or at `send_at`. The same id with the same spec is the same push."""
        spec = _with_id(spec, id)
        spec = await self._store(spec, users)
        assert spec.id is not None
        handle = self.push(spec.id)
        handle.closed = await self._closed(spec.id, spec)
        if handle.closed is None:
            await self._start(names.PUSH_WORKFLOW, handle.workflow_id, spec)
        return handle

    def campaign(self, id: str) -> CampaignHandle:
        """A handle on a campaign, running or not."""
        return CampaignHandle(self, id, names.campaign_workflow_id(id))

    def push(self, id: str) -> PushHandle:
        """A handle on a push, running or not."""
        return PushHandle(self, id, names.push_workflow_id(id))

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

    async def _closed(self, id: str, spec: PushSpec) -> str | None:
        """How the push of this id ended, if it is closed and the same. Raises AlreadyExists if it is another.

        Temporal forgets a closed workflow, and would run it again; the ledger does not.
        """
        row = None if self.db is None else await self.db.fetchrow(_KNOWN, id)
        if row is None:
            return None
        if row["spec_hash"] != spec.model_copy(update={"id": None}).digest():
            raise AlreadyExists(f"{id!r} exists with other content: choose another id")
        verdict: str | None = row["verdict"] if row["closed_at"] is not None else None
        return verdict

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

    async def _start(self, workflow: str, workflow_id: str, spec: CampaignSpec | PushSpec) -> None:
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
                memo={SPEC_MEMO: digest},
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


class _Handle:
    """What campaigns and pushes have in common: the operator's words."""

    _type: str

    def __init__(self, clarion: Clarion, id: str, workflow_id: str) -> None:
        self._clarion = clarion
        self.id = id
        self.workflow_id = workflow_id
        self.closed: str | None = None  # how it had ended when the same start was repeated

    @property
    def workflow(self) -> WorkflowHandle[Any, Any]:
        """The Temporal handle, for everything that Temporal itself offers."""
        return self._clarion.temporal.get_workflow_handle(self.workflow_id)

    async def pause(self, reason: str = "", *, by: str = "", command_id: str | None = None) -> CommandAnswer:
        """Start nothing more until `resume`; in force when this returns, obeyed within two seconds.

        Raises CommandRefused (closed, draining), NotFound, or StackUnavailable: then the outcome is unknown
        and the same `command_id` may be sent again.
        """
        return await self._command("pause", PauseInput(reason=reason, by=by), command_id)

    async def resume(self, *, by: str = "", command_id: str | None = None) -> CommandAnswer:
        """Go on exactly where it stood."""
        return await self._command("resume", ResumeInput(by=by), command_id)

    async def cancel(
        self,
        mode: CancelMode = CancelMode.NOW,
        reason: str = "",
        *,
        by: str = "",
        command_id: str | None = None,
    ) -> CommandAnswer:
        """End it: `now` starts nothing more, `drain` lets batches that have begun finish."""
        return await self._command("cancel", CancelInput(mode=mode, reason=reason, by=by), command_id)

    async def set_pace(
        self, pace: float | None, *, by: str = "", command_id: str | None = None
    ) -> CommandAnswer:
        """Sends per second from now on; None removes the limit."""
        return await self._command("set_pace", SetPaceInput(pace=pace, by=by), command_id)

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

    async def _is_open(self) -> bool:
        """Whether the ledger has an open push of this id.

        Raises CommandRefused when it is closed, NotFound when there is none.
        """
        if self._clarion.db is None:
            return False
        row = await self._clarion.db.fetchrow(_OPEN, self.id)
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


class CampaignHandle(_Handle):
    """A campaign."""

    _type = names.CAMPAIGN_WORKFLOW

    async def progress(self) -> list[PushProgress]:
        """Its pushes at this moment, from the ledger."""
        return await _query(self.workflow, list[PushProgress])


class PushHandle(_Handle):
    """A push."""

    _type = names.PUSH_WORKFLOW

    async def wake(self) -> None:
        """Let its loop look at the ledger at once, after something was written beside Temporal.

        Raises NotFound, StackUnavailable.
        """
        try:
            await self.workflow.signal("wake")
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                raise NotFound(f"{self.workflow_id} is not running") from error
            raise _unavailable(error) from error

    async def progress(self) -> PushProgress:
        """Counts, phase and hold at this moment, from the ledger."""
        return await _query(self.workflow, PushProgress)


T = TypeVar("T")


async def _query(workflow: WorkflowHandle[Any, Any], result_type: type[T]) -> T:
    try:
        answer: T = await workflow.query("progress", result_type=result_type)
        return answer
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            raise NotFound(f"{workflow.id} is not known to Temporal") from error
        raise _unavailable(error) from error


def _with_id(spec: Spec, id: str | None) -> Spec:
    """The spec with its id; one of the two places must say it, and both the same."""
    if id is not None and spec.id not in (None, id):
        raise BadSpec(f"id is {id!r} in the call and {spec.id!r} in the spec: give one of them")
    given = id or spec.id or str(uuid4())
    try:
        return type(spec).model_validate(spec.model_dump(exclude_unset=True) | {"id": given})
    except ValidationError as error:
        raise BadSpec(_first_words(error)) from error


def _first_words(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'spec'}: {e['msg']}" for e in error.errors()[:3])


def _refusal(error: WorkflowUpdateFailedError) -> Exception:
    cause = error.cause
    text = cause.message if isinstance(cause, ApplicationError) else str(cause)
    if isinstance(cause, ApplicationError) and cause.type == "StoreUnavailable":
        return StackUnavailable(text)
    return CommandRefused(text)


def _unavailable(error: RPCError) -> StackUnavailable:
    return StackUnavailable(f"Temporal did not answer ({error.status.name}); the outcome is unknown")
