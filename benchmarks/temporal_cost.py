"""What a push costs in Temporal: workflows, history events, and actions as Temporal Cloud bills them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from temporalio.api.enums.v1 import EventType
from temporalio.client import Client, WorkflowExecution, WorkflowHistory

from clarion import names

ACTIONS: Final = frozenset(
    (
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        EventType.EVENT_TYPE_TIMER_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
        EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
        EventType.EVENT_TYPE_MARKER_RECORDED,
    )
)


@dataclass
class TemporalCost:
    """Of all workflows of one push. Heartbeats are in no history, and not counted."""

    workflows: int = 0
    events: int = 0
    actions: int = 0
    longest: int = 0  # events of the longest history
    continued: int = 0  # runs that ended by continuing as new

    def add(self, history: WorkflowHistory) -> None:
        """One run more. An activity that was tried again was an action each time."""
        kinds = [event.event_type for event in history.events]
        retries = sum(
            event.activity_task_started_event_attributes.attempt - 1
            for event in history.events
            if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
        )
        self.workflows += 1
        self.events += len(kinds)
        self.actions += sum(kind in ACTIONS for kind in kinds) + retries
        self.longest = max(self.longest, len(kinds))
        self.continued += kinds[-1] == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW


async def of_push(client: Client, push_id: str) -> TemporalCost:
    """Read all histories of a push: its own runs and its batches."""
    cost = TemporalCost()
    own = names.push_workflow_id(push_id)
    query = f"WorkflowId = '{own}' or WorkflowId starts_with '{own}/'"
    async for run in client.list_workflows(query):
        cost.add(await _history(client, run))
    return cost


async def _history(client: Client, run: WorkflowExecution) -> Any:
    return await client.get_workflow_handle(run.id, run_id=run.run_id).fetch_history()
