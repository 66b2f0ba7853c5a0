"""Whether a new push or campaign is planned for a time that makes sense."""

from __future__ import annotations

from datetime import datetime

from clarion import limits
from clarion.errors import BadSpec
from clarion.model.spec import CampaignSpec, PushSpec


def not_past(spec: PushSpec | CampaignSpec, asked_at: datetime | None) -> None:
    """Refuse what is new and planned for a time before it was asked for. Raises BadSpec.

    A start that is repeated later, or carried out later because something was away, is none of these.
    """
    if asked_at is None or spec.send_at is None:
        return
    if (asked_at - spec.send_at).total_seconds() > limits.LATE_START:
        raise BadSpec(
            f"send_at is past (it was {asked_at:%Y-%m-%d %H:%M:%S} UTC when this was started): "
            "leave it out to send at once, or give a later time"
        )
