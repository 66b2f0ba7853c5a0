"""Meizu (Flyme) Push, strict: varnished/pushByPushId with its signature; refusals hidden in a success.

Where the document is silent: more than a hundred registrations get 110004, an unknown field of messageJson
1005. A dead registration's `reason` is its code in `value` (110002 without one); 520 is shown. Setting
`meizu_value_by_target` turns the map round, as some clients have met it. A registration is letters and
digits; other ones are 110003.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Mapping
from typing import Any, Final

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
    is_number,
    is_text,
    json_answer,
    object_of,
)

PATH: Final = "/garcia/api/server/push/varnished/pushByPushId"
MOST: Final = 100
FOLDED: Final = "520"
_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{8,64}")
_PARTS: Final[dict[str, frozenset[str]]] = {
    "noticeBarInfo": frozenset(("noticeMsgType", "title", "content")),
    "noticeExpandInfo": frozenset(("noticeExpandType", "noticeExpandContent")),
    "clickTypeInfo": frozenset(("clickType", "url", "parameters", "activity", "customAttribute")),
    "pushTimeInfo": frozenset(("offLine", "validTime")),
    "advanceInfo": frozenset(("suspend", "clearNoticeBar", "fixDisplay", "notificationType", "notifyKey")),
    "extra": frozenset(("callback", "callback.param", "callback.type")),
}
_NEEDED: Final = {1: "activity", 2: "url"}  # clickType → what it wants
WORDS: Final = {
    "200": "",
    "1003": "server busy",
    "1005": "parameter error",
    "1006": "sign error",
    "110000": "appId invalid",
    "110004": "pushIds invalid",
    "110010": "rate limited",
    "110019": "daily limit",
}


class Meizu(Vendor):
    """server-api-push.meizu.com."""

    provider = "meizu"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._secrets: dict[str, str] = {}  # app id → secret
        self._numbers = itertools.count(1)

    def trust(self, credential: Mapping[str, Any]) -> None:
        """Believe one more app. Raises KeyError."""
        self._secrets[str(credential["app_id"])] = str(credential["app_secret"])

    def error(self, status: int | None, reason: str | None) -> Answer:
        """A code of its own as `reason`, else what the HTTP status implies: no JSON."""
        return bare(status or 500) if reason is None else coded(reason, status=status or 200)

    def rejection(self, reason: str | None) -> Answer:
        """The signature is wrong."""
        return coded(reason or "1006")

    def names(self, body: bytes) -> list[str]:
        """The registrations of a form."""
        try:
            return [token for token in form_of(body).get("pushIds", "").split(",") if token]
        except ValueError:
            return []

    def decide(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Judged:
        """Meizu's answer."""
        if path != PATH or method != "POST":
            raise Refusal(bare(404 if path != PATH else 405))
        form = self._signed(headers, body)
        title, content, key, public = _message(form["messageJson"])
        tokens = form["pushIds"].split(",")
        if len(tokens) > MOST or not all(tokens) or len(set(tokens)) < len(tokens):
            raise Refusal(coded("110004"))
        if self.too_fast("meizu_requests_per_second", 1):
            raise Refusal(coded("110010"))
        if public and self.over_day("public", "meizu_daily", len(tokens)):
            raise Refusal(coded("110019"))
        return self._deliver(tokens, self.content(title, content), key)

    def _signed(self, headers: dict[bytes, bytes], body: bytes) -> dict[str, str]:
        if not headers.get(b"content-type", b"").startswith(b"application/x-www-form-urlencoded"):
            raise Refusal(coded("1005"))
        try:
            form = form_of(body)
        except ValueError:
            raise Refusal(coded("1005")) from None
        if form.keys() != {"appId", "pushIds", "messageJson", "sign"} or not all(form.values()):
            raise Refusal(coded("1005"))
        if form["appId"] not in self._secrets:
            raise Refusal(coded("110000"))
        words = "".join(f"{name}={form[name]}" for name in ("appId", "messageJson", "pushIds"))
        signed = f"{words}{self._secrets[form['appId']]}".encode()
        if form["sign"] != hashlib.md5(signed, usedforsecurity=False).hexdigest():
            raise Refusal(coded("1006"))
        return form

    def _deliver(self, tokens: list[str], content: str, key: str | None) -> Judged:
        by_code: dict[str, list[str]] = {}
        lines = []
        for token in tokens:
            fate = self._fate(token)
            if fate is not None:
                by_code.setdefault(fate, []).append(token)
            dead = fate not in (None, FOLDED)
            lines.append(Line(token, REFUSED, fate) if dead else Line(token, SHOWN, None, key, content))
        value: dict[str, Any] = by_code
        if self.shared.settings.meizu_value_by_target:
            value = {token: code for code, named in by_code.items() for token in named}
        return Judged(coded("200", value, f"NS{next(self._numbers):012d}"), lines)

    def _fate(self, token: str) -> str | None:
        if not _TOKEN.fullmatch(token):
            return "110003"
        dead = self.graves.find(token) if self.graves else None
        return None if dead is None else dead.reason or "110002"


def coded(code: str, value: Any = None, number: str = "", *, status: int = 200) -> Answer:
    """An answer with this code."""
    words = WORDS.get(code, "error")
    said = {"code": code, "message": words, "value": value or {}, "redirect": "", "msgId": number}
    return json_answer(said, status, None if code == "200" else code)


def _message(text: str) -> tuple[str, str, str | None, bool]:
    """Title, content, what replaces what, and whether it is public. Raises Refusal."""
    try:
        value = object_of(text)
    except ValueError:
        raise Refusal(coded("1005")) from None
    for name, part in value.items():
        if not isinstance(part, dict) or part.keys() - _PARTS.get(name, frozenset()):
            raise Refusal(coded("1005"))
    bar = value.get("noticeBarInfo", {})
    if not is_text(bar.get("title"), 32) or not is_text(bar.get("content"), 100):
        raise Refusal(coded("1005"))
    if bar.get("noticeMsgType", 0) not in (0, 1):
        raise Refusal(coded("1005"))
    _check_click(value.get("clickTypeInfo", {}))
    _check_rest(value)
    key = value.get("advanceInfo", {}).get("notifyKey")
    return bar["title"], bar["content"], key, bar.get("noticeMsgType", 0) == 0


def _check_click(click: dict[str, Any]) -> None:
    kind = click.get("clickType", 0)
    if kind not in (0, 1, 2) or (kind in _NEEDED and not is_text(click.get(_NEEDED[kind]), 1_000)):
        raise Refusal(coded("1005"))
    parameters = click.get("parameters", {})
    if not isinstance(parameters, dict) or not all(isinstance(one, str) for one in parameters.values()):
        raise Refusal(coded("1005"))


def _check_rest(value: dict[str, Any]) -> None:
    times, extra = value.get("pushTimeInfo", {}), value.get("extra", {})
    if times.get("offLine", 1) not in (0, 1) or not is_number(times.get("validTime", 24), 1, 72):
        raise Refusal(coded("1005"))
    if not is_text(value.get("advanceInfo", {}).get("notifyKey", "k"), 8):
        raise Refusal(coded("1005"))
    callback, parameter = str(extra.get("callback", "")), str(extra.get("callback.param", ""))
    if len(callback.encode()) > 128 or len(parameter.encode()) > 64:
        raise Refusal(coded("1005"))
    if extra.get("callback.type", 3) not in (1, 2, 3):
        raise Refusal(coded("1005"))
