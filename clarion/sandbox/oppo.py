"""OPPO Push, strict: auth tokens for signatures, unicast and its batch form, saved contents and broadcasts.

Where OPPO's pages are silent: the items of a batch come in another order than their targets; a unicast that
repeats its app_message_id is answered like the first time and delivered once (setting `oppo_says_duplicate`:
by code 32); a category that is not marketing makes a message private, which counts against no quota. A
registration that is not shaped like one of China is refused with 10000.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import orjson

from clarion.sandbox.answer import Answer
from clarion.sandbox.oppo_message import Bad, Notification, check, from_form
from clarion.sandbox.service import Shared
from clarion.sandbox.vendor import (
    REFUSED,
    REPEATED,
    SHOWN,
    Judged,
    Line,
    Memory,
    Refusal,
    Vendor,
    bare,
    form_of,
    json_answer,
)

AUTH: Final = "/server/v1/auth"
_PLACE: Final = "/server/v1/message/notification/"
UNICAST, BATCH = f"{_PLACE}unicast", f"{_PLACE}unicast_batch"
SAVE, BROADCAST = f"{_PLACE}save_message_content", f"{_PLACE}broadcast"
FEEDBACK: Final = "/server/v1/feedback/fetch_invalid_regidList"
MOST: Final = 1_000
WINDOW: Final = 600.0  # seconds that a timestamp may be off
_REGID: Final = re.compile(r"(OPPO_CN_|CN_)?([0-9a-f]{32}|[0-9a-f]{24})")

MESSAGES: Final = {
    -2: "Service in Flow Control",
    -1: "Service Currently Unavailable",
    0: "Success",
    11: "Invalid AuthToken",
    12: "Http Action Not Allowed",
    13: "App Call Limited",
    14: "Invalid App Key",
    15: "Missing App Key",
    16: "Invalid Signature",
    17: "Missing Signature",
    18: "Missing Timestamp",
    19: "Invalid Timestamp",
    25: "Invalid Encoding",
    28: "App Disabled",
    29: "Missing Auth Token",
    30: "Api Permission Denied",
    31: "Data Not Exist",
    32: "Data Duplicate",
    33: "The number of messages exceeds the daily limit",
    40: "Missing Required Arguments",
    41: "Invalid Arguments",
    55: "App Call Frequency Limit",
    67: "Category error/Private classify channel notify_level invalid",
    10000: "Invalid Registration_id",
    10001: "Unsubscribed Registration_id",
}


class Target(NamedTuple):
    """One message to one registration."""

    token: str
    notification: Notification


class Oppo(Vendor):
    """api.push.oppomobile.com."""

    provider = "oppo"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._secrets: dict[str, str] = {}  # app key → master secret
        self._grants: dict[str, tuple[str, float]] = {}  # auth token → app key, its end
        self._delivered = Memory()  # app key, app_message_id, registration → message id
        self._saved: dict[str, tuple[str, Notification]] = {}  # message id → app key, content
        self._ids = Memory()  # app key, app_message_id → message id of a saved content
        self._numbers = itertools.count(1)

    def trust(self, credential: Mapping[str, Any]) -> None:
        """Believe one more app. Raises KeyError."""
        self._secrets[str(credential["app_key"])] = str(credential["master_secret"])

    def forget(self) -> None:
        """Every auth token is void."""
        super().forget()
        self._grants.clear()

    def error(self, status: int | None, reason: str | None) -> Answer:
        """A code of its own as `reason`, else what the HTTP status implies: no JSON."""
        return bare(status or 500) if reason is None else coded(int(reason), status=status or 200)

    def rejection(self, reason: str | None) -> Answer:
        """The auth token is not known."""
        return coded(int(reason or 11))

    def names(self, body: bytes) -> list[str]:
        """The registrations of any form."""
        try:
            form = form_of(body)
            found = orjson.loads(form.get("messages") or f"[{form.get('message') or ''}]")
            named = [str(one["target_value"]) for one in found]
            return named + [token for token in form.get("target_value", "").split(";") if token]
        except (ValueError, TypeError, KeyError):
            return []

    def decide(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Judged:
        """OPPO's answer."""
        if path == FEEDBACK:
            return self._feedback(method, headers)
        if path not in (AUTH, UNICAST, BATCH, SAVE, BROADCAST):
            raise Refusal(bare(404))
        if path == AUTH:
            try:
                return Judged(self._grant(method, headers, body), auth=True)
            except Refusal as refusal:
                return Judged(refusal.answer, auth=True)
        form = _form(method, headers, body)
        app = self._authorize(headers, form)
        if path == SAVE:
            return self._save(app, form)
        if path == BROADCAST:
            return self._broadcast(app, form)
        return self._unicast(app, _targets(form, batch=path == BATCH), batch=path == BATCH)

    def _feedback(self, method: str, headers: dict[bytes, bytes]) -> Judged:
        """All that died; that it drains no page says, so it does not."""
        if method != "GET":
            raise Refusal(coded(12))
        self._authorize(headers, {})
        tokens = self.graves.untold(MOST, drain=False)
        return Judged(coded(0, {"registration_ids": tokens, "totalCount": len(tokens)}))

    # ---- authorization

    def _grant(self, method: str, headers: dict[bytes, bytes], body: bytes) -> Answer:
        form = _form(method, headers, body)
        key, stamp, sign = (form.get(name, "") for name in ("app_key", "timestamp", "sign"))
        for value, code in ((key, 15), (stamp, 18), (sign, 17)):
            if not value:
                raise Refusal(coded(code))
        if key not in self._secrets:
            raise Refusal(coded(14))
        now = self.shared.clock()
        if not re.fullmatch(r"\d{13}", stamp) or abs(int(stamp) / 1_000 - now) > WINDOW:
            raise Refusal(coded(19))
        if sign != hashlib.sha256(f"{key}{stamp}{self._secrets[key]}".encode()).hexdigest():
            raise Refusal(coded(16))
        token = secrets.token_hex(32)
        self._grants[token] = key, now + self.shared.settings.oppo_token_seconds
        return coded(0, {"auth_token": token, "create_time": int(now * 1_000)})

    def _authorize(self, headers: dict[bytes, bytes], form: dict[str, str]) -> str:
        token = headers.get(b"auth_token", b"").decode("latin-1") or form.pop("auth_token", "")
        if not token:
            raise Refusal(coded(29))
        app, end = self._grants.get(token, ("", 0.0))
        if end <= self.shared.clock():
            raise Refusal(coded(11))
        return app

    # ---- messages

    def _unicast(self, app: str, targets: list[Target], *, batch: bool) -> Judged:
        if self.too_fast("oppo_devices_per_second", len(targets)):
            raise Refusal(coded(13))
        public = sum(not target.notification.private for target in targets)
        if public and self.over_day("public", "oppo_daily", public):
            raise Refusal(coded(33))
        lines, items, seen = [], [], []
        for token, notification in targets:
            line, item, key = self._one(app, token, notification)
            lines.append(line)
            items.append(item)
            if key is not None:
                seen.append((key, item["messageId"]))

        def take_effect() -> None:
            for key, number in seen:
                self._delivered.add(key, number)

        return Judged(self._said(items, batch=batch), lines, take_effect)

    def _one(
        self, app: str, token: str, notification: Notification
    ) -> tuple[Line, dict[str, Any], tuple[str, str, str] | None]:
        """What becomes of one message: its line, its item, and what is remembered of it."""
        fate = self._fate(token)
        if fate:
            item = {"registrationId": token, "errorCode": fate, "errorMessage": MESSAGES.get(fate, "")}
            return Line(token, REFUSED, str(fate)), item, None
        key = (app, notification.app_message_id, token) if notification.app_message_id else None
        before = self._delivered.get(key)
        if before is not None:
            item = {"registrationId": token, "messageId": before}
            if self.shared.settings.oppo_says_duplicate:
                item = {"registrationId": token, "errorCode": 32, "errorMessage": MESSAGES[32]}
            return self._told(token, notification, REPEATED), item, None
        item = {"registrationId": token, "messageId": self._number(app)}
        return self._told(token, notification, SHOWN), item, key

    def _said(self, items: list[dict[str, Any]], *, batch: bool) -> Answer:
        if batch:
            return coded(0, items[::-1])
        (item,) = items
        if "errorCode" in item:
            return coded(item["errorCode"])
        return coded(0, {"messageId": item["messageId"]})

    def _told(self, token: str, notification: Notification, status: int) -> Line:
        content = self.content(notification.title, notification.content)
        number = notification.notify_id
        return Line(token, status, None, None if number is None else f"notify_id {number}", content)

    def _fate(self, token: str) -> int:
        if not _REGID.fullmatch(token):
            return 10_000
        dead = self.graves.find(token) if self.graves else None
        return 0 if dead is None else int(dead.reason or 10_000)

    def _number(self, app: str) -> str:
        return f"{app}-1-1-{next(self._numbers):08x}{secrets.token_hex(8)}"

    # ---- broadcasts

    def _save(self, app: str, form: dict[str, str]) -> Judged:
        try:
            notification = from_form(form)
        except Bad as bad:
            raise Refusal(coded(bad.code)) from None
        key = (app, notification.app_message_id)
        number = self._ids.get(key) if notification.app_message_id else None
        if number is None:
            number = self._number(app)
            self._saved[number] = app, notification
            self._ids.add(key, number)
        return Judged(coded(0, {"message_id": number}))

    def _broadcast(self, app: str, form: dict[str, str]) -> Judged:
        owner, notification = self._saved.get(form.get("message_id", ""), ("", None))
        if notification is None or owner != app:
            raise Refusal(coded(31 if form.get("message_id") else 40))
        tokens = form.get("target_value", "").split(";")
        if form.get("target_type") != "2" or len(tokens) > MOST or not all(tokens):
            raise Refusal(coded(41))
        if any("," in token for token in tokens):
            raise Refusal(coded(41))
        listed: dict[str, list[str]] = {}
        lines = []
        for token in dict.fromkeys(tokens):
            fate = self._fate(token)
            if fate:
                listed.setdefault(str(fate), []).append(token)
            lines.append(Line(token, REFUSED, str(fate)) if fate else self._told(token, notification, SHOWN))
        repeated = [token for token in dict.fromkeys(tokens) if tokens.count(token) > 1]
        if repeated:
            listed["10004"] = repeated
        data = {"message_id": form["message_id"], "task_id": secrets.token_hex(12), **listed}
        return Judged(coded(0, data), lines)


def coded(code: int, data: Any = None, status: int = 200) -> Answer:
    """An answer with this code."""
    value: dict[str, Any] = {"code": code, "message": MESSAGES.get(code, "Error")}
    if data is not None:
        value["data"] = data
    return json_answer(value, status, str(code) if code else None)


def _form(method: str, headers: dict[bytes, bytes], body: bytes) -> dict[str, str]:
    if method != "POST":
        raise Refusal(coded(12))
    if not headers.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
        raise Refusal(coded(41))
    try:
        return form_of(body)
    except UnicodeDecodeError:
        raise Refusal(coded(25)) from None
    except ValueError:
        raise Refusal(coded(41)) from None


def _targets(form: dict[str, str], *, batch: bool) -> list[Target]:
    name = "messages" if batch else "message"
    if not form.get(name):
        raise Refusal(coded(40))
    if form.keys() - {name}:
        raise Refusal(coded(41))
    try:
        value = orjson.loads(form[name])
    except orjson.JSONDecodeError:
        raise Refusal(coded(41)) from None
    messages = value if batch else [value]
    if not isinstance(messages, list) or not 1 <= len(messages) <= MOST:
        raise Refusal(coded(41))
    return [_target(message) for message in messages]


def _target(message: Any) -> Target:
    known = {"target_type", "target_value", "verify_registration_id", "notification"}
    if not isinstance(message, dict) or message.keys() - known:
        raise Refusal(coded(41))
    if not known - {"verify_registration_id"} <= message.keys():
        raise Refusal(coded(40))
    token = message["target_value"]
    if message["target_type"] != 2 or not isinstance(token, str) or not token or ";" in token:
        raise Refusal(coded(41))
    if not isinstance(message.get("verify_registration_id", False), bool):
        raise Refusal(coded(41))
    try:
        return Target(token, check(message["notification"]))
    except Bad as bad:
        raise Refusal(coded(bad.code)) from None
