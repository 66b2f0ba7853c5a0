"""Xiaomi Mi Push, strict: /v3/message/regid with its form, bad_regids, 20301, codes of wrong parameters.

Which code more than a thousand registrations get is UNCONFIRMED: 10017 here. A registration with "foreign" in
it belongs to another app.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

from clarion.sandbox.answer import Answer
from clarion.sandbox.service import Shared
from clarion.sandbox.vendor import (
    REFUSED,
    SHOWN,
    Judged,
    Line,
    Refusal,
    Vendor,
    bare,
    form_of,
    json_answer,
)

PATHS: Final = ("/v3/message/regid", "/v2/message/regid")
FEEDBACK: Final = "/v1/feedback/fetch_invalid_regids"
TOLD: Final = 1_000  # registrations in one list
MOST: Final = 1_000
LONGEST: Final = 1_209_600_000  # ms
KNOWN: Final = frozenset(
    {
        "registration_id",
        "restricted_package_name",
        "title",
        "description",
        "payload",
        "pass_through",
        "notify_type",
        "time_to_live",
        "time_to_send",
        "notify_id",
    }
)
_NUMBER: Final = re.compile(r"-?\d{1,19}")

REASONS: Final = {
    0: "",
    10001: "System error",
    10002: "System is busy",
    10016: "Missing required parameter",
    10017: "Invalid parameter value",
    10027: "API call frequency exceeded",
    10030: "Feedback is fetched too often",
    10034: "App has sent too many messages today",
    20301: "No valid targets!",
    21301: "Authentication failed",
    22022: "Invalid package name",
    27001: "Invalid channel",
    65009: "Message too long",
    65014: "Too many extra pairs",
    65015: "Extra too long",
    200001: "Daily quota exceeded",
}


class Xiaomi(Vendor):
    """api.xmpush.xiaomi.com."""

    provider = "xiaomi"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._packages: dict[str, str] = {}  # secret → package
        self._numbers = itertools.count(1)

    def trust(self, credential: Mapping[str, Any]) -> None:
        """Believe one more app. Raises KeyError."""
        self._packages[str(credential["app_secret"])] = str(credential["package"])

    def error(self, status: int | None, reason: str | None) -> Answer:
        """A code of its own as `reason`, else what the HTTP status implies: no JSON."""
        return bare(status or 500) if reason is None else coded(int(reason), status=status or 200)

    def rejection(self, reason: str | None) -> Answer:
        """The secret is not known."""
        return coded(int(reason or 21301))

    def names(self, body: bytes) -> list[str]:
        """The registrations of a form."""
        named = parse_qs(body.decode("latin-1")).get("registration_id", [""])[-1]
        return [token for token in named.split(",") if token]

    def decide(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Judged:
        """Xiaomi's answer."""
        if path == FEEDBACK:
            return self._feedback(method, headers)
        if path not in PATHS:
            raise Refusal(bare(404))
        if method != "POST":
            raise Refusal(bare(405))
        package = self._authorize(headers)
        if not headers.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
            raise Refusal(coded(10016))
        if self.too_fast("xiaomi_requests_per_second", 1):
            raise Refusal(coded(10027))
        try:
            form = form_of(body)
        except ValueError:
            raise Refusal(coded(10017)) from None
        tokens = _tokens(form)
        if package not in form.get("restricted_package_name", package).split(","):
            raise Refusal(coded(22022))
        title, text = _read(form)
        channel = form.get("extra.channel_id")
        if channel is not None and channel.startswith("unknown"):
            raise Refusal(coded(27001))
        return self._deliver(tokens, title, text, form.get("notify_id"))

    def _feedback(self, method: str, headers: dict[bytes, bytes]) -> Judged:
        """What died since it was asked last: a draining read."""
        if method != "GET":
            raise Refusal(bare(405))
        self._authorize(headers)
        if self.too_fast("xiaomi_requests_per_second", 1):
            raise Refusal(coded(10030))
        return Judged(coded(0, {"list": self.graves.untold(TOLD, drain=True)}))

    def _authorize(self, headers: dict[bytes, bytes]) -> str:
        kind, found, secret = headers.get(b"authorization", b"").decode("latin-1").partition("key=")
        package = self._packages.get(secret) if found and not kind else None
        if package is None:
            raise Refusal(coded(21301))
        return package

    def _deliver(self, tokens: list[str], title: str, text: str, number: str | None) -> Judged:
        bad = [token for token in tokens if self._is_bad(token)]
        content = self.content(title, text)
        key = None if number is None else f"notify_id {number}"
        gone = set(bad)
        lines = [
            Line(token, REFUSED, "bad_regid") if token in gone else Line(token, SHOWN, None, key, content)
            for token in tokens
        ]
        if len(gone) == len(set(tokens)):
            return Judged(coded(20301), lines)
        if self.over_day("messages", "xiaomi_daily", len(tokens) - len(bad)):
            raise Refusal(coded(10034))
        data: dict[str, Any] = {"id": f"scm{next(self._numbers):08d}{secrets.token_hex(6)}"}
        if bad:
            data["bad_regids"] = ",".join(bad)
        return Judged(coded(0, data), lines)

    def _is_bad(self, token: str) -> bool:
        return "foreign" in token or (bool(self.graves) and self.graves.find(token) is not None)


def coded(code: int, data: Any = None, status: int = 200) -> Answer:
    """An answer with this code."""
    words = REASONS.get(code, "Error")
    value = {
        "result": "error" if code else "ok",
        "trace_id": f"Xcm{secrets.token_hex(10)}",
        "code": code,
        "data": data or {},
        "description": words or "成功",
        "info": "Received push messages for regids" if not code else words,
    }
    if code:
        value["reason"] = words
    return json_answer(value, status, str(code) if code else None)


def _tokens(form: dict[str, str]) -> list[str]:
    named = form.get("registration_id", "")
    if not named:
        raise Refusal(coded(10016))
    tokens = named.split(",")
    if len(tokens) > MOST or not all(tokens) or any(" " in token for token in tokens):
        raise Refusal(coded(10017))
    return tokens


def _read(form: dict[str, str]) -> tuple[str, str]:
    """Title and description; "" twice for a message that is passed through."""
    extra = {name: value for name, value in form.items() if name.startswith("extra.")}
    if form.keys() - KNOWN - extra.keys():
        raise Refusal(coded(10017))
    if len(extra) > 10:
        raise Refusal(coded(65014))
    if any(len(name) - 6 > 1_024 or len(value) > 1_024 for name, value in extra.items()):
        raise Refusal(coded(65015))
    if len(form.get("payload", "").encode()) >= 4_096:
        raise Refusal(coded(65009))
    _number(form, "time_to_live", 1, LONGEST)
    _number(form, "notify_id", 0, 2_147_483_647)
    _number(form, "notify_type", -1, 7)
    through = form.get("pass_through", "0")
    if through not in ("0", "1"):
        raise Refusal(coded(10017))
    if through == "1":
        if not form.get("payload"):
            raise Refusal(coded(10016))
        return "", ""
    title, text = form.get("title", ""), form.get("description", "")
    if not title.strip() or not text.strip():
        raise Refusal(coded(10016))
    if len(title) >= 50 or len(text) >= 128:
        raise Refusal(coded(65009))
    return title, text


def _number(form: dict[str, str], name: str, least: int, most: int) -> None:
    value = form.get(name)
    if value is not None and not (_NUMBER.fullmatch(value) and least <= int(value) <= most):
        raise Refusal(coded(10017))
