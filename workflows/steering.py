"""The operator's words that a push and a campaign understand: updates, and signals of the same names.

Updates are checked before they are accepted (a refused one leaves nothing in the history) and answered after
the commit. Signals do the same without arguments and without an answer, so that the raw UI, the command line
and batch operations suffice.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any
from uuid import UUID, uuid5

from temporalio import workflow
from temporalio.exceptions import ActivityError, ApplicationError

from activities.commands import Commands, UnblockCredentialsInput
from clarion import limits, names
from clarion.model.command import (
    CancelInput,
    CancelMode,
    CommandAnswer,
    EditMessageInput,
    ExtendDeadlineInput,
    PauseInput,
    RescheduleInput,
    ResumeInput,
    SetPaceInput,
    UnblockAnswer,
    UnblockInput,
    Word,
)
from workflows.calls import ops, refusal, words_of
from workflows.start import read_words

CANCEL = {"verdict": "cancelled"}
CANCELLATION = names.OPERATOR, "cancellation"  # Request Cancellation: Temporal does not say whose


class Steered:
    """What can be paused, resumed, cancelled, paced, edited and moved in time."""

    @abstractmethod
    async def _say(
        self, what: str, args: dict[str, Any], who: str, way: str, id: UUID, *, patient: bool
    ) -> CommandAnswer:
        """Write the word to the control row. `patient`: however long the database is away.

        `what`: pause, resume, drain, close, set (pace), edit (message, or content: its reference), reschedule
        (send_at), extend (deadline); with `if_version` in `args` the word holds only for that version.

        Raises ActivityError, or ApplicationError when there is nothing to say it to.
        """

    @abstractmethod
    def _refuse_if_over(self) -> None:
        """Raise ApplicationError if it takes no words any more."""

    @abstractmethod
    async def _go_on(self, pushes: Sequence[str]) -> None:
        """Let these pushes look at the ledger: something was changed there."""

    @cached_property
    def _turn(self) -> asyncio.Lock:
        """Words are written in the order in which they came: of a pause and a resume the last one stands."""
        return asyncio.Lock()

    # ── updates ───────────────────────────────────────────────────────────────────────────────────

    @workflow.update(description='Start nothing more until resume. Input: {"reason": "…", "by": "…"}')
    async def pause(self, request: Any = None) -> CommandAnswer:
        """In force when acknowledged; running batches obey within one window."""
        words = read_words(PauseInput, request, short="reason")
        return await self._obey("pause", words, {"reason": words.reason})

    @pause.validator
    def _check_pause(self, request: Any = None) -> None:
        self._refuse_if_over()
        read_words(PauseInput, request, short="reason")

    @workflow.update(description='Go on exactly where it stood. Input: nothing, or {"by": "…"}')
    async def resume(self, request: Any = None) -> CommandAnswer:
        """Also ends a drain that is still going on."""
        return await self._obey("resume", read_words(ResumeInput, request, short="by"), {})

    @resume.validator
    def _check_resume(self, request: Any = None) -> None:
        self._refuse_if_over()
        read_words(ResumeInput, request, short="by")

    @workflow.update(
        description='End it; drain finishes batches begun. Input: {"mode": "now" | "drain", "reason": "…"}'
    )
    async def cancel(self, request: Any = None) -> CommandAnswer:
        """The books are closed then; what was accepted until then stays accepted."""
        words = read_words(CancelInput, request, short="mode")
        if words.mode is CancelMode.DRAIN:
            return await self._obey("drain", words, {"reason": words.reason})
        return await self._obey("close", words, {"reason": words.reason} | CANCEL)

    @cancel.validator
    def _check_cancel(self, request: Any = None) -> None:
        self._refuse_if_over()
        read_words(CancelInput, request, short="mode")

    @workflow.update(description='Sends per second from now on. Input: {"pace": 500}; null: no limit')
    async def set_pace(self, request: Any = None) -> CommandAnswer:
        """Over all lanes and processes."""
        words = read_words(SetPaceInput, request, short="pace")
        return await self._obey("set", words, {"pace": words.pace})

    @set_pace.validator
    def _check_set_pace(self, request: Any = None) -> None:
        self._refuse_if_over()
        read_words(SetPaceInput, request, short="pace")

    @workflow.update(
        description=(
            "New content for all that is not sent yet, checked first. "
            'Input: {"message": {…}} (8 KB at most), or {"content": "content:…"} (stored before)'
        )
    )
    async def edit_message(self, request: Any = None) -> CommandAnswer:
        """Running batches take it with their next statement; every delivery records its version."""
        words = read_words(EditMessageInput, request, short="content")
        given = (
            {"content": words.content} if words.message is None else {"message": words.message.canonical()}
        )
        return await self._obey("edit", words, given | {"reason": words.reason})

    @edit_message.validator
    def _check_edit_message(self, request: Any = None) -> None:
        self._refuse_if_over()
        read_words(EditMessageInput, request, short="content")

    @workflow.update(
        description=(
            "Start at another time, as long as it has not started. "
            'Input: {"send_at": "2027-03-01T09:00:00+01:00"} or {"send_at": "2027-03-01T09:00", "zone": "…"}'
        )
    )
    async def reschedule(self, request: Any = None) -> CommandAnswer:
        """Until the last moment: what is acknowledged holds."""
        words = read_words(RescheduleInput, request, short="send_at")
        return await self._obey("reschedule", words, {"send_at": words.moment().isoformat()})

    @reschedule.validator
    def _check_reschedule(self, request: Any = None) -> None:
        self._refuse_if_over()
        read_words(RescheduleInput, request, short="send_at")

    @workflow.update(
        description='Try until a later moment. Input: {"deadline": "2027-03-01T18:00:00Z"}, or with a zone'
    )
    async def extend_deadline(self, request: Any = None) -> CommandAnswer:
        """In force for running batches, too."""
        words = read_words(ExtendDeadlineInput, request, short="deadline")
        return await self._obey("extend", words, {"deadline": words.moment().isoformat()})

    @extend_deadline.validator
    def _check_extend_deadline(self, request: Any = None) -> None:
        self._refuse_if_over()
        read_words(ExtendDeadlineInput, request, short="deadline")

    @workflow.update(
        description=(
            "Open the blocked credentials that it waits for; they begin with a probe. "
            'Input: nothing, or {"lane": 0, "by": "…"}'
        )
    )
    async def unblock(self, request: Any = None) -> UnblockAnswer:
        """They are the app's: other pushes go on, too."""
        words = read_words(UnblockInput, request, short="lane")
        input = UnblockCredentialsInput(
            workflow_id=workflow.info().workflow_id, who=words.by or names.OPERATOR, lane=words.lane
        )
        try:
            done = await ops(Commands.unblock_credentials, input, patience=limits.COMMAND_TIMEOUT)
        except ActivityError as error:
            raise refusal(error, "unblock") from None
        await self._go_on(done.pushes)
        return done.answer

    @unblock.validator
    def _check_unblock(self, request: Any = None) -> None:
        self._refuse_if_over()
        read_words(UnblockInput, request, short="lane")

    # ── signals ───────────────────────────────────────────────────────────────────────────────────

    @workflow.signal(name="pause", description="As the update pause, without an answer")
    async def pause_signal(self, *ignored: Any) -> None:
        """Start nothing more until resume."""
        await self._hear("pause", {})

    @workflow.signal(name="resume", description="As the update resume, without an answer")
    async def resume_signal(self, *ignored: Any) -> None:
        """Go on where it stood."""
        await self._hear("resume", {})

    @workflow.signal(name="cancel", description="As the update cancel (now), without an answer")
    async def cancel_signal(self, *ignored: Any) -> None:
        """End it now."""
        await self._hear("close", dict(CANCEL))

    async def _obey(self, what: str, words: Word, args: dict[str, Any]) -> CommandAnswer:
        """One transaction, acknowledged after its commit; given up after five seconds."""
        update = workflow.current_update_info()
        assert update is not None
        # The command's own id, else the update's, makes it repeatable.
        id = uuid5(names.COMMANDS, f"{workflow.info().workflow_id}/{words.command_id or update.id}")
        if words.if_version is not None:
            args = args | {"if_version": words.if_version}
        await self._wait_for_turn(what)
        try:
            return await self._say(what, args, words.by or names.OPERATOR, "update", id, patient=False)
        except ActivityError as error:
            raise refusal(error, what) from None
        finally:
            self._turn.release()

    async def _wait_for_turn(self, what: str) -> None:
        if not self._turn.locked():
            await self._turn.acquire()
            return
        try:
            await asyncio.wait_for(self._turn.acquire(), limits.COMMAND_TIMEOUT)
        except TimeoutError:
            raise ApplicationError(
                f"{what} was not done: other words to it were not through in {limits.COMMAND_TIMEOUT:g} s. "
                "It is safe to repeat",
                type="StoreUnavailable",
                non_retryable=True,
            ) from None

    async def _hear(self, what: str, args: dict[str, Any]) -> None:
        """A signal cannot be answered, so it is carried through however long the database is away."""
        try:
            async with self._turn:
                await self._say(what, args, names.OPERATOR, "signal", workflow.uuid4(), patient=True)
        except (ActivityError, ApplicationError) as error:
            workflow.logger.warning("signal %s refused: %s", what, words_of(error))
