"""Honor Push, strict: access tokens, sendMessage with its lists of expired and failed registrations.

Honor's page could not be read, so this is as narrow as its integrators' copies: an unknown field is refused.
What is UNCONFIRMED is one way here: errors come with HTTP 200 and a code that looks like an HTTP status, but
401 with HTTP 401; a thousand registrations at most, 4096 bytes beside them; `sendResult` is true when one was
sent. A dead registration stands in `expireTokens`, one with the reason "fail" or with "foreign" in it in
`failTokens`.
"""

from __future__ import annotations

import itertools
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final

import orjson

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

TOKEN_PATH: Final = "/auth/token"
_SEND: Final = re.compile(r"/api/v1/([0-9]{1,32})/sendMessage")
MOST: Final = 1_000
BODY_BYTES: Final = 4_096
LONGEST: Final = 1_296_000
_TTL: Final = re.compile(r"([0-9]{1,9})s")
_ANDROID: Final = frozenset(("ttl", "biTag", "data", "targetUserType", "notification"))
_SHOWN: Final = frozenset(
    (
        "title",
        "body",
        "clickAction",
        "image",
        "style",
        "bigTitle",
        "bigBody",
        "importance",
        "when",
        "buttons",
        "badge",
        "notifyId",
        "tag",
        "group",
    )
)
WORDS: Final = {200: "success", 400: "parameter error", 401: "unauthorized", 429: "too many requests"}


class Honor(Vendor):
    """push-api.cloud.honor.com and iam.developer.honor.com at one port."""

    provider = "honor"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._apps: dict[str, tuple[str, str]] = {}  # client id → secret, app id
        self._grants: dict[str, tuple[str, float]] = {}  # access token → app id, its end
        self._numbers = itertools.count(1)

    def trust(self, credential: Mapping[str, Any]) -> None:
        """Believe one more app. Raises KeyError."""
        known = str(credential["client_secret"]), str(credential["app_id"])
        self._apps[str(credential["client_id"])] = known

    def forget(self) -> None:
        """Every access token is void."""
        super().forget()
        self._grants.clear()

    def error(self, status: int | None, reason: str | None) -> Answer:
        """A code of its own as `reason`, else what the HTTP status implies: no JSON."""
        return bare(status or 500) if reason is None else coded(int(reason), status)

    def rejection(self, reason: str | None) -> Answer:
        """The access token is not known."""
        return coded(int(reason or 401))

    def names(self, body: bytes) -> list[str]:
        """The registrations of a message."""
        try:
            return [str(token) for token in object_of(body)["token"]]
        except (ValueError, KeyError, TypeError):
            return []

    def decide(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Judged:
        """Honor's answer."""
        if path == TOKEN_PATH:
            return Judged(self._grant(method, headers, body), auth=True)
        place = _SEND.fullmatch(path)
        if place is None or method != "POST":
            raise Refusal(bare(404 if place is None else 405))
        self._authorize(place[1], headers)
        if not headers.get(b"content-type", b"").startswith(b"application/json"):
            raise Refusal(coded(400))
        value, tokens = _read(body)
        title, text, key = _message(value)
        if self.too_fast("honor_requests_per_second", 1):
            raise Refusal(coded(429))
        return self._deliver(tokens, self.content(title, text), key)

    def _grant(self, method: str, headers: dict[bytes, bytes], body: bytes) -> Answer:
        try:
            form = form_of(body)
        except ValueError:
            form = {}
        if method != "POST" or form.get("grant_type") != "client_credentials":
            return json_answer({"error": "unsupported_grant_type"}, 400, "unsupported_grant_type")
        secret, app = self._apps.get(form.get("client_id", ""), ("", ""))
        if not secret or form.get("client_secret") != secret:
            return json_answer({"error": "invalid_client"}, 401, "invalid_client")
        seconds = int(self.shared.settings.honor_token_seconds)
        token = secrets.token_urlsafe(48)
        self._grants[token] = app, self.shared.clock() + seconds
        return json_answer({"access_token": token, "expires_in": seconds, "token_type": "Bearer"})

    def _authorize(self, place: str, headers: dict[bytes, bytes]) -> None:
        kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        app, end = self._grants.get(token, ("", 0.0))
        if kind != "Bearer" or app != place or end <= self.shared.clock():
            raise Refusal(coded(401))
        if not re.fullmatch(rb"[0-9]{13}", headers.get(b"timestamp", b"")):
            raise Refusal(coded(400))

    def _deliver(self, tokens: list[str], content: str, key: str | None) -> Judged:
        expired: list[str] = []
        failed: list[str] = []
        lines = []
        for token in tokens:
            fate = self._fate(token)
            if fate is None:
                lines.append(Line(token, SHOWN, None, key, content))
                continue
            (failed if fate == "fail" else expired).append(token)
            lines.append(Line(token, REFUSED, fate))
        data = {
            "sendResult": len(expired) + len(failed) < len(tokens),
            "requestId": f"{next(self._numbers):018d}",
            "failTokens": failed,
            "expireTokens": expired,
        }
        return Judged(coded(200, data=data), lines)

    def _fate(self, token: str) -> str | None:
        if "foreign" in token:
            return "fail"
        dead = self.graves.find(token) if self.graves else None
        return None if dead is None else dead.reason or "expired"


def coded(code: int, status: int | None = None, data: Any = None) -> Answer:
    """An answer with this code."""
    value = {"code": code, "message": WORDS.get(code, "error"), "data": data}
    return json_answer(value, status or (401 if code == 401 else 200), None if code == 200 else str(code))


def _read(body: bytes) -> tuple[dict[str, Any], list[str]]:
    try:
        value = object_of(body)
    except ValueError:
        raise Refusal(coded(400)) from None
    tokens = value.get("token")
    if not isinstance(tokens, list) or not 1 <= len(tokens) <= MOST:
        raise Refusal(coded(400))
    if not all(is_text(token, 1_024) for token in tokens):
        raise Refusal(coded(400))
    if value.keys() - {"data", "notification", "android", "token"}:
        raise Refusal(coded(400))
    if len(body) - len(orjson.dumps(tokens)) > BODY_BYTES:
        raise Refusal(coded(413))
    return value, tokens


def _message(value: dict[str, Any]) -> tuple[str, str, str | None]:
    """Title, body and what replaces what; "" twice for a data message. Raises Refusal."""
    android, common = _object(value, "android", _ANDROID), _object(value, "notification", _SHOWN)
    _check_android(android)
    own = _object(android, "notification", _SHOWN)
    if not own and not common:
        if not is_text(value.get("data") or android.get("data"), 4_096):
            raise Refusal(coded(400))
        return "", "", None
    title, body = own.get("title") or common.get("title"), own.get("body") or common.get("body")
    if not is_text(title, 1_024) or not is_text(body, 4_096):
        raise Refusal(coded(400))
    _check_shown(own)
    number = own.get("notifyId")
    key = own.get("tag") or (None if number is None else f"notifyId {number}")
    return str(title), str(body), key


def _object(value: dict[str, Any], name: str, known: frozenset[str]) -> dict[str, Any]:
    found = value.get(name, {})
    if not isinstance(found, dict) or found.keys() - known:
        raise Refusal(coded(400))
    return found


def _check_android(android: dict[str, Any]) -> None:
    ttl = _TTL.fullmatch(str(android.get("ttl", "1s")))
    if ttl is None or not 1 <= int(ttl[1]) <= LONGEST:
        raise Refusal(coded(400))
    if android.get("targetUserType", 0) not in (0, 1) or not is_text(android.get("biTag", "x"), 64):
        raise Refusal(coded(400))


def _check_shown(own: dict[str, Any]) -> None:
    action = own.get("clickAction")
    if not isinstance(action, dict) or action.get("type") not in (1, 2, 3):
        raise Refusal(coded(400))
    if action["type"] == 1 and not (action.get("intent") or action.get("action")):
        raise Refusal(coded(400))
    if action["type"] == 2 and not str(action.get("url", "")).startswith("https://"):
        raise Refusal(coded(400))
    badge = own.get("badge", {})
    if not isinstance(badge, dict) or badge.keys() - {"addNum", "setNum", "badgeClass"}:
        raise Refusal(coded(400))
    if not is_number(badge.get("addNum", 1), 1, 99) or not is_number(badge.get("setNum", 0), 0, 99):
        raise Refusal(coded(400))
    if own.get("importance", "NORMAL") not in ("LOW", "NORMAL") or own.get("style", 0) not in (0, 1):
        raise Refusal(coded(400))
    if not is_number(own.get("notifyId", 0), 0, 2_147_483_647) or len(own.get("buttons", ())) > 3:
        raise Refusal(coded(400))
    if not str(own.get("image", "https://")).startswith("https://"):
        raise Refusal(coded(400))
