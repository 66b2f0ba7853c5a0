"""Workflow types, ids, task queues and search attributes: the names that others see and must not change."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

CAMPAIGN_WORKFLOW: Final = "CampaignWorkflow"
PUSH_WORKFLOW: Final = "PushWorkflow"
BATCH_WORKFLOW: Final = "BatchWorkflow"
TOPIC_SEND_WORKFLOW: Final = "TopicSendWorkflow"
TOPIC_CHANGE_WORKFLOW: Final = "TopicChangeWorkflow"
FEEDBACK_WORKFLOW: Final = "FeedbackWorkflow"

CONTROL_QUEUE: Final = "control"  # workflow tasks
OPS_QUEUE: Final = "ops"  # short activities: commands, next_work, quota
BULK_QUEUE: Final = "bulk"  # long ones: freeze, retire, close, housekeeping
TOPIC_QUEUE: Final = "fcm-topics"  # words to FCM topics: served by the senders of FCM
FEEDBACK_QUEUE: Final = "feedback"  # asking providers: served by the senders of those who tell

FEEDBACK: Final = "feedback"  # the id of the schedule, and how its workflows' ids begin
TELLING: Final = ("xiaomi", "oppo")  # providers that name ended registrations when they are asked

ID_PATTERN: Final = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._~@:-]{0,127}$")

OPERATOR: Final = "operator"  # who spoke, if nobody is named
STARTER_MEMO: Final = "by"  # the memo of a start that names who

# Command ids are uuid5 of this and who said it when.
COMMANDS: Final = UUID("6c0c5d3e-9f0b-5a43-8a55-2f9e3f5f6a11")

SEARCH_ATTRIBUTES: Final[dict[str, str]] = {
    # PostgreSQL and SQLite visibility have room for ten keywords, so the list is planned once.
    "CampaignId": "Keyword",
    "PushId": "Keyword",
    "AppId": "Keyword",
    "Provider": "Keyword",
    "PushStatus": "Keyword",
    "CampaignKind": "Keyword",
    "Tags": "KeywordList",
    "SendAt": "Datetime",
    "ExpiresAt": "Datetime",
    "AudienceSize": "Int",
}


def campaign_workflow_id(campaign_id: str) -> str:
    """The workflow id of a campaign's one occurrence."""
    return f"campaign/{campaign_id}"


def push_workflow_id(push_id: str) -> str:
    """The workflow id of a push."""
    return f"push/{push_id}"


def topic_workflow_id(id: str) -> str:
    """The workflow id of a word to an FCM topic."""
    return f"topic/{id}"


def batch_workflow_id(push_id: str, batch: int) -> str:
    """The workflow id of the child that works on one batch of a push."""
    return f"push/{push_id}/b{batch}"


def send_queue(provider: str, *, high: bool = False) -> str:
    """The task queue of a provider's senders; high priority has queues and processes of its own."""
    return f"send-{provider}-high" if high else f"send-{provider}"
