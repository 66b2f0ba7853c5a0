"""Outcome: the sender's word for one attempt to hand one delivery to a provider."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


class OutcomeKind(IntEnum):
    """What became of one attempt."""

    ACCEPTED = 0
    REJECTED = 1  # refused for good; never tried again
    THROTTLED = 2  # too fast: goes again, is no attempt
    UNAVAILABLE = 3  # no answer, or an answer that promises a later one: goes again
    BLOCKED = 4  # the provider refuses our credential or configuration: the lane stops


class Scope(IntEnum):
    """What a throttled outcome throttles, or an unavailable one is unavailable for."""

    REGISTRATION = 0  # only this row waits
    HOST = 1  # one origin waits in this process (Web Push)
    LANE = 2  # reported to the quota


@dataclass(frozen=True, slots=True)
class Outcome:
    """One attempt's result. Instances are shared: classify tables hold one per code.

    `maybe`: the provider can have processed it (timeout, reset after the bytes left, 5xx); what is not
    `maybe` is surely not processed and may be repeated under every guarantee.
    `retry_after`: least seconds before the next attempt. `retire`: the registration ends;
    `dead_since`: epoch seconds of the provider's own time for that, if it gave one.
    """

    kind: OutcomeKind
    reason: str = ""  # provider-qualified, e.g. "apns:Unregistered"; empty when accepted
    maybe: bool = False
    attempt: bool = True  # counts against the attempt limit
    retry_after: float = 0.0
    scope: Scope = Scope.REGISTRATION
    retire: bool = False
    suspect: bool = False  # "wrong device for this credential": the 30 % rule watches these
    dead_since: float | None = None

    @property
    def throttles_registration(self) -> bool:
        """Whether the provider wants less for this one registration."""
        return self.kind is OutcomeKind.THROTTLED and self.scope is Scope.REGISTRATION


ACCEPTED = Outcome(OutcomeKind.ACCEPTED)

# Reasons that mean "wrong device for this credential" when nearly every device of a push says so.
WRONG_DEVICE = (
    "apns:BadDeviceToken",
    "apns:DeviceTokenNotForTopic",
    "fcm:SENDER_ID_MISMATCH",
    "fcm:INVALID_TOKEN",
    "hms:80300007",
    "hms:noRight",
    "xiaomi:20301",
    "vivo:10054",
    "vivo:10302",
    "jpush:1011",
    "getui:20001",
    "meizu:110002",
    "meizu:110003",
)
