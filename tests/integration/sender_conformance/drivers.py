"""What each provider is like. A new provider is one more entry of `DRIVERS`.

A fault is a rule of the sandbox (clarion/sandbox/faults.py) without its `provider`. A case that a provider
cannot have is named with its reason in `without`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from clarion.sandbox.credentials import TOPIC
from clarion.sandbox.sandbox import Sandbox
from clarion.senders.outcome import OutcomeKind
from clarion.store import credential_check, credentials, vendor_check
from clarion.store.credentials import NewCredential
from clarion.store.database import Database
from tests.support import vendors, webpush
from tests.support.senders import SEAL, apns_tokens, fcm_tokens

Fault = Mapping[str, Any]

ALONE: Final = "one registration a request"
STATIC: Final = "what authorizes a request never expires"
EMPTY: Final = "an empty body is its yes"


@dataclass(frozen=True)
class Driver:
    """One sender, or one way of one, and its simulator."""

    provider: str
    lane: Callable[[Sandbox], NewCredential]
    registrations: Callable[[Sandbox, int, int], list[str]]  # (sandbox, how many, number of the first)
    throttled: Fault
    too_large: Fault
    error_in_yes: Fault  # a success by its HTTP status, an error by its body
    name: str = ""  # of the row, where it is not the provider's
    group: int = 1  # registrations that one request carries
    log_name: Callable[[str], str] = str  # what the sandbox's log calls a registration
    auth: Callable[[Sandbox], int] | None = None  # authorizations that were made so far
    expire: Callable[[Sandbox], None] | None = None  # the authorization is void; else a request is told so
    expired: str | bool = True  # the reason of an expired authorization
    blocks: OutcomeKind = OutcomeKind.BLOCKED  # what a refused credential becomes
    in_doubt: bool = True  # who is lost with the answer to a push's first request may have been shown it
    own_limit: bool = True  # we know how large a message may be
    settings: Fault = field(default_factory=dict)  # of the sandbox, for the dead to be told
    without: Mapping[str, str] = field(default_factory=dict)  # case → why there is none

    @property
    def row(self) -> str:
        """What the table calls it."""
        return self.name or self.provider

    async def add(self, sandbox: Sandbox, db: Database, app_no: int) -> int:
        """Its lane in this app."""
        return await credentials.add(db, SEAL, app_no, self.lane(sandbox))


# ── lanes ─────────────────────────────────────────────────────────────────────────────────────────────


def _place(sandbox: Sandbox, provider: str) -> dict[str, Any]:
    settings = {"ca": sandbox.authority.ca_path.read_text()}
    return {"endpoint": vendors.endpoint(sandbox, provider), "settings": settings}


def _apns(sandbox: Sandbox) -> NewCredential:
    known = sandbox.credentials.apns
    key = credential_check.apns_token(known["private_key"], key_id=known["key_id"], team_id=known["team_id"])
    return credentials.new_apns("apns", key, topic=TOPIC, environment="sandbox", **_place(sandbox, "apns"))


def _fcm(sandbox: Sandbox) -> NewCredential:
    account = credential_check.fcm(sandbox.credentials.fcm)
    return credentials.new_fcm("fcm", account, **_place(sandbox, "fcm"))


def _webpush(sandbox: Sandbox) -> NewCredential:
    key = sandbox.credentials.webpush["private_key"]
    checked = credential_check.webpush(subject="mailto:push@clarion.example", private_key=key)
    settings = {"ca": sandbox.authority.ca_path.read_text(), "allow": webpush.HERE}
    return credentials.new_webpush("webpush", checked, settings=settings)


def _hms_v3(sandbox: Sandbox) -> NewCredential:
    account = vendor_check.hms_account(sandbox.credentials.hms_v3)
    return credentials.new_vendor("hms", "hms-v3", account, **_place(sandbox, "hms"))


def _vendor(provider: str, **more: Any) -> dict[str, Any]:
    """What the vendors have in common."""

    def lane(sandbox: Sandbox) -> NewCredential:
        checked = vendors.checked(sandbox, provider)
        return credentials.new_vendor(provider, provider, checked, **_place(sandbox, provider))

    def registrations(_: Sandbox, count: int, first: int) -> list[str]:
        return vendors.registrations(provider, count, first)

    made = {"provider": provider, "lane": lane, "registrations": registrations, "group": 200}
    return made | more


def _renewed(provider: str) -> dict[str, Any]:
    """Those whose token comes from an endpoint of its own."""

    def expire(sandbox: Sandbox) -> None:
        sandbox.vendors[provider].forget()

    return {"auth": lambda sandbox: vendors.calls(sandbox, f"{provider}-auth"), "expire": expire}


def _unchanging(**more: str) -> dict[str, Any]:
    """Those whose requests show, or are signed with, what never changes."""
    return {"without": {"auth expired": STATIC, "one authorization": STATIC} | more}


# ── the table ─────────────────────────────────────────────────────────────────────────────────────────

DRIVERS: Final = (
    Driver(
        provider="apns",
        lane=_apns,
        registrations=lambda _, count, first: apns_tokens(count, first),
        throttled={"status": 429, "reason": "TooManyRequests"},
        too_large={"reason": "PayloadTooLarge"},
        error_in_yes={"status": 200, "body": '{"reason":"BadDeviceToken"}'},
        auth=lambda sandbox: len(sandbox.keys._tokens),
        expired="ExpiredProviderToken",
        without={"partial failure": ALONE, "empty body": EMPTY},
    ),
    Driver(
        provider="fcm",
        lane=_fcm,
        registrations=lambda _, count, first: fcm_tokens(count, first),
        throttled={"status": 429},
        too_large={"status": 400, "reason": "INVALID_ARGUMENT"},
        error_in_yes={"status": 200, "body": '{"error":{"code":404,"status":"NOT_FOUND"}}'},
        auth=lambda sandbox: vendors.calls(sandbox, "oauth"),
        expire=lambda sandbox: sandbox.oauth.forget(),
        without={"partial failure": ALONE},
    ),
    Driver(
        provider="webpush",
        lane=_webpush,
        registrations=lambda sandbox, count, first: [
            webpush.token(number, sandbox.webpush[0].url) for number in range(first, first + count)
        ],
        log_name=webpush.segment,
        throttled={"status": 429},
        too_large={"status": 413},
        error_in_yes={"status": 200, "body": '{"code":404,"errno":102,"error":"Not Found"}'},
        blocks=OutcomeKind.REJECTED,  # one push service of many: the others go on (C22)
        without={
            "partial failure": ALONE,
            "empty body": EMPTY,
            "auth expired": "the lane signs for itself, and anew before a signature is old (C23)",
            "one authorization": "the lane signs for itself: nobody is asked",
        },
    ),
    Driver(
        **_vendor("hms", **_renewed("hms")),
        throttled={"status": 503},
        too_large={"reason": "80300008"},
        error_in_yes={"status": 200, "reason": "81000001"},
    ),
    Driver(
        **_vendor("hms", name="hms-v3", lane=_hms_v3),
        throttled={"status": 503},
        too_large={"reason": "80300008"},
        error_in_yes={"status": 200, "reason": "81000001"},
        expired="80200005",
        without={"one authorization": "a JWT that is sent as it is: nobody is asked"},
    ),
    Driver(
        **_vendor("xiaomi", **_unchanging()),
        throttled={"status": 200, "reason": "10027"},
        too_large={"status": 200, "reason": "65009"},
        error_in_yes={"status": 200, "reason": "10001"},
    ),
    Driver(
        **_vendor("oppo", **_renewed("oppo")),
        throttled={"reason": "13"},
        too_large={"reason": "41"},
        error_in_yes={"status": 200, "reason": "-1"},
    ),
    Driver(
        **_vendor("vivo", **_renewed("vivo")),
        throttled={"reason": "10072"},
        too_large={"reason": "10085"},
        error_in_yes={"status": 200, "reason": "10040"},
        in_doubt=False,  # the content of a list is saved first, which shows nothing to anybody
    ),
    Driver(
        **_vendor("jpush", **_unchanging()),
        throttled={"status": 429, "reason": "2002"},
        too_large={"status": 400, "reason": "1005"},
        error_in_yes={"status": 200, "reason": "1000"},
        settings={"jpush_strict_lists": True},
    ),
    Driver(
        **_vendor("getui", **_renewed("getui")),
        throttled={"status": 401, "reason": "10005"},
        too_large={"status": 413},
        error_in_yes={"status": 200, "reason": "5000"},
    ),
    Driver(
        **_vendor("umeng", **_unchanging()),
        throttled={"status": 400, "reason": "2050"},
        too_large={"status": 400, "reason": "2022"},
        error_in_yes={"status": 200, "reason": "4026"},
        settings={"umeng_checks_tokens": True},  # only an old gateway tells of the dead
    ),
    Driver(
        **_vendor("honor", **_renewed("honor")),
        throttled={"status": 429},
        too_large={"reason": "413"},
        error_in_yes={"status": 200, "reason": "500"},
    ),
    Driver(
        **_vendor("meizu", group=100, **_unchanging()),
        throttled={"reason": "110010"},
        too_large={"reason": "1005"},
        own_limit=False,  # titles and contents are cut; how large data may be is written nowhere
        error_in_yes={"status": 200, "reason": "1001"},
    ),
)
