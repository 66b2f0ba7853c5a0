"""Umeng U-Push (友盟), strict: /api/send with its signature, /upload, /api/status, /api/cancel.

Lists with dead registrations are taken in silence: the log shows which ones got nothing. The setting
`umeng_checks_tokens` refuses a list for one of them (4010), as older gateways did. A repeated out_biz_no of a
task returns the first task_id (UNCONFIRMED). A registration with "foreign" in it belongs to another app.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from clarion.sandbox import umeng_message as form
from clarion.sandbox.answer import Answer
from clarion.sandbox.service import Shared
from clarion.sandbox.umeng_message import Sent, coded, taken
from clarion.sandbox.vendor import (
    DROPPED,
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

PATHS: Final = ("/api/send", "/upload", "/api/status", "/api/cancel")
WINDOW: Final = 600  # seconds that a timestamp is good for
HOUR: Final = 3_600
FILE_BYTES: Final = 10 * 1024 * 1024
DONE: Final = 2


class Umeng(Vendor):
    """msgapi.umeng.com."""

    provider = "umeng"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._apps: dict[str, tuple[str, str]] = {}  # app key → master secret, platform
        self._files: dict[str, list[str]] = {}
        self._tasks: dict[str, int] = {}  # task → how many were sent
        self._seen = Memory()  # (app key, out_biz_no) → task
        self._numbers = itertools.count(1)
        self._hour = (0, 0)
        self._second_used = (0, 0)

    def trust(self, credential: Mapping[str, Any]) -> None:
        """Believe one more app. Raises KeyError."""
        secret, platform = str(credential["app_master_secret"]), str(credential.get("platform", "android"))
        self._apps[str(credential["app_key"])] = secret, platform

    def forget(self) -> None:
        """Files, tasks and keys are forgotten, the hour begins anew."""
        super().forget()
        self._files.clear()
        self._tasks.clear()
        self._seen = Memory()
        self._hour = (0, 0)

    # ---- the provider's words

    def error(self, status: int | None, reason: str | None) -> Answer:
        """A code of its own as `reason`, else what the HTTP status implies: a gateway's page."""
        return bare(status or 500) if reason is None else coded(int(reason), status=status or 400)

    def rejection(self, reason: str | None) -> Answer:
        """The signature is wrong."""
        return coded(int(reason or 2027))

    def names(self, body: bytes) -> list[str]:
        """The registrations of a list or of the file that it names."""
        try:
            value = orjson.loads(body)
            if "file_id" in value:
                return self._files.get(str(value["file_id"]), [])
            return [token for token in str(value["device_tokens"]).split(",") if token]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return []

    def decide(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Judged:
        """Umeng's answer."""
        place, _, query = path.partition("?")
        if place not in PATHS:
            raise Refusal(bare(404))
        if method != "POST":
            raise Refusal(bare(405))
        try:
            value = object_of(body)
        except ValueError:
            raise Refusal(coded(2008)) from None
        platform = self._authorize(place, query, headers, body, value)
        if self.too_fast("umeng_requests_per_second", 1):
            raise Refusal(coded(2050))
        if place == "/upload":
            return self._upload(value)
        if place != "/api/send":
            return self._task(place, value)
        return self._send(form.read(value, platform, self.moment()))

    def _authorize(
        self, place: str, query: str, headers: dict[bytes, bytes], body: bytes, value: dict[str, Any]
    ) -> str:
        """The app's platform. The signature is over what came, to the byte."""
        app_key = value.get("appkey")
        if not isinstance(app_key, str) or not app_key:
            raise Refusal(coded(1000))
        if app_key not in self._apps:
            raise Refusal(coded(2021))
        secret, platform = self._apps[app_key]
        sign = parse_qs(query).get("sign", [""])[0]
        if not sign:
            raise Refusal(coded(2007))
        host = headers.get(b":authority") or headers.get(b"host", b"")
        words = b"POSThttps://" + host + place.encode() + body + secret.encode()
        if sign != hashlib.md5(words, usedforsecurity=False).hexdigest():
            raise Refusal(coded(2027))
        form.check_stamp(value.get("timestamp"), self.shared.clock(), WINDOW)
        return platform

    # ---- files and tasks

    def _upload(self, value: dict[str, Any]) -> Judged:
        content = value.get("content")
        if not isinstance(content, str) or not content:
            raise Refusal(coded(2029))
        if len(content.encode()) > FILE_BYTES:
            raise Refusal(coded(2023))
        name = f"PF{next(self._numbers):09d}"
        self._files[name] = [line for line in content.split("\n") if line]
        return Judged(taken({"file_id": name}))

    def _task(self, place: str, value: dict[str, Any]) -> Judged:
        task = value.get("task_id")
        if not isinstance(task, str) or not task:
            raise Refusal(coded(2053))
        if task not in self._tasks:
            raise Refusal(coded(1014))
        if place == "/api/cancel":
            raise Refusal(coded(1028))
        sent = self._tasks[task]
        counts = {"sent_count": sent, "open_count": 0, "dismiss_count": 0}
        return Judged(taken({"task_id": task, "status": DONE, **counts}))

    # ---- delivering

    def _send(self, sent: Sent) -> Judged:
        if sent.file_id is None:
            tokens = sent.tokens
        elif sent.file_id in self._files:
            tokens = self._files[sent.file_id]
            self._count_file()
        else:
            raise Refusal(coded(2019))
        key = (sent.app_key, sent.out_biz_no)
        first = self._seen.get(key) if sent.is_task and sent.out_biz_no else None
        if first is not None:
            return Judged(
                taken({"task_id": first}), [Line(token, REPEATED, "out_biz_no") for token in tokens]
            )
        lines = self._lines(sent, tokens)
        name = f"u{'f' if sent.is_task else 'm'}{next(self._numbers):020d}"

        def effect() -> None:
            if sent.is_task:
                self._tasks[name] = sum(line.status == SHOWN for line in lines)
                self._seen.add(key, name)

        return Judged(taken({"task_id" if sent.is_task else "msg_id": name}), lines, effect)

    def _lines(self, sent: Sent, tokens: list[str]) -> list[Line]:
        gone = {token for token in tokens if self._is_gone(token, sent.platform)}
        if gone and self.shared.settings.umeng_checks_tokens:
            raise Refusal(coded(4010))
        content = self.content(sent.title, sent.body)
        return [
            Line(token, DROPPED, "gone") if token in gone else Line(token, SHOWN, None, None, content)
            for token in tokens
        ]

    def _is_gone(self, token: str, platform: str) -> bool:
        if "foreign" in token or len(token) != form.LETTERS[platform]:
            return True
        return bool(self.graves) and self.graves.find(token) is not None

    def _count_file(self) -> None:
        most, hour = self.shared.settings.umeng_files_per_hour, int(self.shared.clock() // HOUR)
        used = self._hour[1] + 1 if self._hour[0] == hour else 1
        self._hour = hour, used
        if most and used > most:
            raise Refusal(coded(2050))
