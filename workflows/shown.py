"""What people see of a push: its progress, search attributes and current details, from the last look."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.common import SearchAttributeKey, SearchAttributeUpdate

from activities.audience import OpenResult
from activities.parcel import Parcel
from activities.work import LaneWork, NextWorkResult
from clarion.model.command import LaneProgress, PushProgress
from clarion.model.ledger import Hold
from clarion.model.spec import PushSpec
from workflows.details import details, status

PUSH_ID = SearchAttributeKey.for_keyword("PushId")
CAMPAIGN_ID = SearchAttributeKey.for_keyword("CampaignId")
APP_ID = SearchAttributeKey.for_keyword("AppId")
PUSH_STATUS = SearchAttributeKey.for_keyword("PushStatus")
CAMPAIGN_KIND = SearchAttributeKey.for_keyword("CampaignKind")
TAGS = SearchAttributeKey.for_keyword_list("Tags")
SEND_AT = SearchAttributeKey.for_datetime("SendAt")
EXPIRES_AT = SearchAttributeKey.for_datetime("ExpiresAt")
AUDIENCE_SIZE = SearchAttributeKey.for_int("AudienceSize")


CLOCKS = timedelta(seconds=5)  # what the clocks of the database and of Temporal may differ


class PushResult(Parcel):
    """How a push ended, read back from the ledger's rows."""

    id: str
    push_no: int
    verdict: str  # completed | cancelled | expired | failed
    not_frozen: int = 0  # ranges of the audience that were never written
    counts: dict[str, int] = {}  # over all lanes: audience, accepted, rejected, …
    lanes: tuple[dict[str, Any], ...] = ()

    @classmethod
    def of(cls, id: str, push_no: int, stored: dict[str, Any]) -> PushResult:
        """The result as the ledger keeps it, with sums over the lanes."""
        lanes = tuple(stored.get("lanes", ()))
        counts: dict[str, int] = {}
        for lane in lanes:
            for name in lane.keys() - {"lane"}:
                counts[name] = counts.get(name, 0) + int(lane[name])
        return cls(
            id=id,
            push_no=push_no,
            verdict=stored["verdict"],
            not_frozen=stored.get("not_frozen", 0),
            counts=dict(sorted(counts.items())),
            lanes=lanes,
        )


class Shown:
    """The push as it was at the last look; details cost nothing, a search attribute an action a change."""

    def __init__(self, push_id: str) -> None:
        self.phase = "scheduled"  # scheduled | running | closing | closed
        self._push_id = push_id
        self._campaign_id: str | None = None
        self._look = NextWorkResult()
        self._looked_at = workflow.now()
        self._result: PushResult | None = None
        self._status: str | None = None
        self._send_at: datetime | None = None  # as the search attributes have them
        self._deadline: datetime | None = None
        self._measured: tuple[datetime, int] | None = None  # when, and how much was answered then
        self._rate: float | None = None

    def opened(self, push: OpenResult, spec: PushSpec | None) -> None:
        """Set the search attributes; a push that goes on without its spec kept its own."""
        self._campaign_id = push.campaign_id
        values: list[SearchAttributeUpdate[Any]] = [PUSH_ID.value_set(self._push_id)]
        values.append(APP_ID.value_set(push.app))
        if push.campaign_id:
            values.append(CAMPAIGN_ID.value_set(push.campaign_id))
        if spec is not None:
            self._send_at, self._deadline = spec.send_at, spec.deadline
            values.append(CAMPAIGN_KIND.value_set(spec.campaign_kind))
            values += [TAGS.value_set(list(spec.tags))] if spec.tags else []
            values += [SEND_AT.value_set(spec.send_at)] if spec.send_at else []
            values += [EXPIRES_AT.value_set(spec.deadline)] if spec.deadline else []
        self._status = status(self.progress())
        workflow.upsert_search_attributes([*values, PUSH_STATUS.value_set(self._status)])

    def looked(self, look: NextWorkResult) -> None:
        """Take in what the ledger said."""
        self._look, self._looked_at = look, workflow.now()
        if not look.starts_in:
            self.phase = "running"
        done = sum(lane.counts.get("accepted", 0) + lane.counts.get("rejected", 0) for lane in look.lanes)
        if self._measured is None:
            self._measured = self._looked_at, done
        elif (seconds := (self._looked_at - self._measured[0]).total_seconds()) >= 1:
            self._rate = (done - self._measured[1]) / seconds
            self._measured = self._looked_at, done

    def ended(self, result: PushResult) -> None:
        """The books are closed."""
        self.phase, self._result = "closed", result

    def show(self, error: str | None = None) -> None:
        """Bring details and status up to date."""
        progress = self.progress()
        workflow.set_current_details(details(progress, rate=self._rate, error=error))
        self._show_times()
        word = status(progress)
        if word != self._status:
            self._status = word
            updates: list[SearchAttributeUpdate[Any]] = [PUSH_STATUS.value_set(word)]
            if progress.audience and not progress.ranges_to_freeze:
                updates.append(AUDIENCE_SIZE.value_set(progress.audience))
            workflow.upsert_search_attributes(updates)

    def _show_times(self) -> None:
        """An operator has moved one: the search attribute follows."""
        look = self._look
        send_at = self._moment(look.starts_in) if look.starts_in else None
        deadline = self._moment(look.deadline_in) if look.deadline_in else None
        if self._send_at and send_at and abs(send_at - self._send_at) > CLOCKS:
            self._send_at = send_at
            workflow.upsert_search_attributes([SEND_AT.value_set(send_at)])
        if self._deadline and deadline and abs(deadline - self._deadline) > CLOCKS:
            self._deadline = deadline
            workflow.upsert_search_attributes([EXPIRES_AT.value_set(deadline)])

    def progress(self) -> PushProgress:
        """Counts, phase and hold, as they were."""
        look, result = self._look, self._result
        lanes = tuple(self._lane(lane) for lane in look.lanes)
        return PushProgress(
            push_id=self._push_id,
            campaign_id=self._campaign_id,
            phase=self.phase,
            hold=Hold(look.hold).name.lower(),
            hold_by=look.hold_by,
            hold_reason=look.hold_reason,
            verdict=result.verdict if result else look.verdict,
            pace=look.pace,
            audience=sum(lane.audience - lane.fell_back for lane in lanes),
            ranges_to_freeze=len(look.to_freeze),
            lanes=lanes,
            send_at=self._moment(look.starts_in),
            deadline=self._moment(look.deadline_in),
            at=self._looked_at,
            result=result.model_dump(mode="json") if result else None,
        )

    def _moment(self, seconds: float | None) -> datetime | None:
        return None if seconds is None else self._looked_at + timedelta(seconds=seconds)

    def _lane(self, lane: LaneWork) -> LaneProgress:
        final = (
            next((one for one in self._result.lanes if one["lane"] == lane.lane), {}) if self._result else {}
        )
        counts = lane.counts | final
        return LaneProgress(
            lane=lane.lane,
            provider=lane.provider,
            blocked=(lane.blocked_reason or "unknown") if lane.blocked else None,
            senders=lane.senders,
            **{name: counts[name] for name in counts.keys() & LaneProgress.model_fields.keys() - {"lane"}},
        )
