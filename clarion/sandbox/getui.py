"""Getui (个推) RestAPI v2, strict: /auth with its signature, single pushes alone and in batches.

A push to one unknown registration is 20001; in a batch it is left out of the answer, or refuses all of it
with the setting `getui_strict_batches` (which of the two is UNCONFIRMED). A repeated request_id is dropped in
silence; whether an answer lists it is UNCONFIRMED: it does, unless `getui_lists_repeats` is off. Timestamps
may be ten minutes off (UNCONFIRMED). A registration with "foreign" in it belongs to another app; one that
died of "successed_ignore" has been inactive.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

import orjson

from clarion.sandbox import getui_message as form
from clarion.sandbox.answer import Answer
from clarion.sandbox.getui_message import Pushed, coded
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
    object_of,
)

PATH: Final = re.compile(r"/v2/([A-Za-z0-9]{1,64})(/[a-z/]+?)(?:/([0-9a-f]{64}))?")
SKEW: Final = 600_000  # ms
AUTHS: Final = 100  # a minute
MOST: Final = 200
MINUTE: Final = 60
IGNORED: Final = "successed_ignore"


class Getui(Vendor):
    """restapi.getui.com."""

    provider = "getui"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._apps: dict[str, tuple[str, str]] = {}  # app id → app key, master secret
        self._grants: dict[str, tuple[str, float]] = {}  # token → app id, its end
        self._seen = Memory()  # request ids
        self._tasks = itertools.count(1)
        self._minutes: dict[str, tuple[int, int]] = {}

    def trust(self, credential: Mapping[str, Any]) -> None:
        """Believe one more app. Raises KeyError."""
        keys = str(credential["app_key"]), str(credential["master_secret"])
        self._apps[str(credential["app_id"])] = keys

    def forget(self) -> None:
        """Every token is void, and the day begins anew."""
        super().forget()
        self._grants.clear()
        self._minutes.clear()
        self._seen = Memory()

    # ---- the provider's words

    def error(self, status: int | None, reason: str | None) -> Answer:
        """A code of its own as `reason`, else what the HTTP status implies: a gateway's page."""
        return bare(status or 500) if reason is None else coded(int(reason), status=status)

    def rejection(self, reason: str | None) -> Answer:
        """The token is not known."""
        return coded(int(reason or 10001))

    def names(self, body: bytes) -> list[str]:
        """The registrations of a push or of a batch."""
        try:
            value = orjson.loads(body)
            return [str(one["audience"]["cid"][0]) for one in value.get("msg_list", [value])]
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError, IndexError):
            return []

    def decide(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Judged:
        """Getui's answer."""
        found = PATH.fullmatch(path)
        if found is None or found[1] not in self._apps:
            raise Refusal(coded(404))
        app_id, place, token = found.groups()
        if place == "/auth":
            return Judged(self._auth(method, app_id, token, body), auth=True)
        if place not in ("/push/single/cid", "/push/single/batch/cid") or token is not None:
            raise Refusal(coded(404))
        if method != "POST":
            raise Refusal(coded(405))
        self._authorize(app_id, headers)
        if self._too_many("push", int(self.shared.settings.getui_requests_per_minute)):
            raise Refusal(coded(10005))
        try:
            value = object_of(body)
        except ValueError:
            raise Refusal(coded(1, "The body is not JSON", status=200)) from None
        return self._single(value) if place == "/push/single/cid" else self._batch(value)

    # ---- authorization

    def _auth(self, method: str, app_id: str, token: str | None, body: bytes) -> Answer:
        if method == "DELETE" and token is not None:
            self._grants.pop(token, None)
            return coded(0, data={})
        if method != "POST" or token is not None:
            return coded(405)
        if self._too_many("auth", AUTHS):
            return coded(10003)
        try:
            value = object_of(body)
            sign, stamp, key = (str(value[name]) for name in ("sign", "timestamp", "appkey"))
        except (ValueError, KeyError):
            return coded(20001, "sign can not be empty")
        known, secret = self._apps[app_id]
        if not stamp.isdigit() or abs(int(stamp) - self.shared.clock() * 1_000) > SKEW:
            return coded(20001, "timestamp is invalid")
        if key != known or sign != hashlib.sha256(f"{known}{stamp}{secret}".encode()).hexdigest():
            return coded(10001)
        return self._grant(app_id)

    def _grant(self, app_id: str) -> Answer:
        token, ends = secrets.token_hex(32), self.shared.clock() + self.shared.settings.getui_token_seconds
        self._grants[token] = app_id, ends
        return coded(0, data={"expire_time": str(int(ends * 1_000)), "token": token})

    def _authorize(self, app_id: str, headers: dict[bytes, bytes]) -> None:
        whose, ends = self._grants.get(headers.get(b"token", b"").decode("latin-1"), ("", 0.0))
        if whose != app_id or ends <= self.shared.clock():
            raise Refusal(coded(10001))

    def _too_many(self, what: str, most: int) -> bool:
        minute = int(self.shared.clock() // MINUTE)
        before, used = self._minutes.get(what, (minute, 0))
        used = used + 1 if before == minute else 1
        self._minutes[what] = minute, used
        return bool(most) and used > most

    # ---- delivering

    def _single(self, value: dict[str, Any]) -> Judged:
        pushed = form.read(value)
        if self._state(pushed.token) is None:
            raise Refusal(coded(20001, "target user is invalid"))
        return self._deliver([pushed])

    def _batch(self, value: dict[str, Any]) -> Judged:
        if value.keys() - {"is_async", "msg_list"}:
            raise Refusal(coded(20001, "param is invalid"))
        messages = value.get("msg_list")
        if not isinstance(value.get("is_async", False), bool) or not isinstance(messages, list):
            raise Refusal(coded(20001, "msg_list type error"))
        if not 1 <= len(messages) <= MOST:
            raise Refusal(coded(20001, "msg_list size over limit"))
        pushes = [form.read(one) for one in messages]
        if len({one.request_id for one in pushes}) < len(pushes):
            raise Refusal(coded(20001, "contains duplicate request_id"))
        unknown = [one for one in pushes if self._state(one.token) is None]
        if unknown and (self.shared.settings.getui_strict_batches or len(pushes) == 1):
            raise Refusal(coded(20001, "target user is invalid"))
        return self._deliver(pushes, silent=bool(value.get("is_async")))

    def _deliver(self, pushes: list[Pushed], *, silent: bool = False) -> Judged:
        new = [one for one in pushes if one.request_id not in self._seen]
        if self.over_day("pushes", "getui_daily", len(new)):
            raise Refusal(coded(30009))
        listed: dict[str, dict[str, str]] = {}
        lines = []
        for one in pushes:
            state, line = self._fate(one)
            lines.append(line)
            if state is not None:
                listed[f"RASS_{next(self._tasks):010d}"] = {one.token: state}

        def effect() -> None:
            for one in new:
                self._seen.add(one.request_id)

        return Judged(coded(0, data={} if silent else listed), lines, effect)

    def _fate(self, pushed: Pushed) -> tuple[str | None, Line]:
        """What is said of it, and what became of it."""
        token, key = pushed.token, pushed.key
        state = self._state(token)
        if state is None or state == IGNORED:
            return state, Line(token, REFUSED, state or "20001")
        if pushed.request_id in self._seen:
            said = state if self.shared.settings.getui_lists_repeats else None
            return said, Line(token, REPEATED, "request_id", key)
        return state, Line(token, SHOWN, None, key, self.content(pushed.title, pushed.body))

    def _state(self, token: str) -> str | None:
        """What is said of a registration; None for one that is not known."""
        if "foreign" in token:
            return None
        dead = self.graves.find(token) if self.graves else None
        if dead is not None:
            return IGNORED if dead.reason == IGNORED else None
        return "successed_online" if token.endswith("0") else "successed_offline"
