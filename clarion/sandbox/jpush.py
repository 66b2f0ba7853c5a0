"""JPush (极光), strict: /v3/push, /v3/push/validate, the pool of cids, batches of single registrations.

Only 200 is a success, and a list with some bad registrations in it is taken in silence: the log shows which
ones got nothing. Nobody known: 1011. A malformed registration alone: 1003. Unknown keys anywhere: 1009. A cid
is remembered for a day after a success, and gets the first answer again.

The order of the checks, and whether a cid must come from the pool, are UNCONFIRMED: one in the right form is
taken. A registration with "foreign" in it belongs to another app, one that is not letters, digits, "_" and
"-" is malformed. Setting `jpush_strict_lists` refuses a list for the sake of one that is unknown, as has been
met (C34).
"""

from __future__ import annotations

import base64
import itertools
import re
import uuid
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import parse_qs

import orjson

from clarion.sandbox import jpush_message as form
from clarion.sandbox.answer import Answer
from clarion.sandbox.jpush_message import Pushed, coded
from clarion.sandbox.service import Shared
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
    json_answer,
    object_of,
)

PUSH: Final = "/v3/push"
VALIDATE: Final = "/v3/push/validate"
CID: Final = "/v3/push/cid"
BATCH: Final = "/v3/push/batch/regid/single"
METHODS: Final = {PUSH: "POST", VALIDATE: "POST", CID: "GET", BATCH: "POST"}
DAY: Final = 86_400
CIDS: Final = 1_000
MINUTE: Final = 60
_MALFORMED: Final = re.compile(r"[^A-Za-z0-9_-]")


class JPush(Vendor):
    """api.jpush.cn."""

    provider = "jpush"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._secrets: dict[str, str] = {}  # app key → master secret
        self._cids = Memory()  # cid → (msg_id, until)
        self._numbers = itertools.count(58_546_795_155_880_001)  # beyond what a double holds exactly
        self._minute = (0, 0)

    def trust(self, credential: Mapping[str, Any]) -> None:
        """Believe one more app. Raises KeyError."""
        self._secrets[str(credential["app_key"])] = str(credential["master_secret"])

    def forget(self) -> None:
        """The minute and the day begin anew."""
        super().forget()
        self._cids = Memory()
        self._minute = (0, 0)

    # ---- the provider's words

    def error(self, status: int | None, reason: str | None) -> Answer:
        """A code of its own as `reason`, else what the HTTP status implies: a gateway's page."""
        return bare(status or 500) if reason is None else coded(int(reason), status=status)

    def rejection(self, reason: str | None) -> Answer:
        """The secret is not known."""
        return coded(int(reason or 1004))

    def names(self, body: bytes) -> list[str]:
        """The registration ids of a push."""
        try:
            tokens = orjson.loads(body)["audience"]["registration_id"]
            return [str(token) for token in tokens]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return []

    def decide(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Judged:
        """JPush's answer, with its rate in the headers."""
        path, _, query = path.partition("?")
        if path not in METHODS:
            raise Refusal(coded(1020))
        if method != METHODS[path]:
            raise Refusal(coded(1001))
        app_key = self._authorize(headers)
        rate = self._rate()
        try:
            judged = self._judge(path, query, app_key, body)
        except Refusal as refusal:
            raise Refusal(refusal.answer.with_headers(rate)) from None
        judged.answer = judged.answer.with_headers(rate)
        return judged

    def _judge(self, path: str, query: str, app_key: str, body: bytes) -> Judged:
        if path == CID:
            return Judged(self._pool(app_key, query))
        if not body:
            raise Refusal(coded(1002))
        try:
            value = object_of(body)
        except ValueError:
            raise Refusal(coded(1003)) from None
        if path == BATCH:
            return self._batch(value, app_key)
        pushed = form.read(value, app_key)
        if path == VALIDATE:
            return self._push(pushed, only=True)
        return self._push(pushed)

    def _authorize(self, headers: dict[bytes, bytes]) -> str:
        kind, _, words = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        try:
            app_key, _, secret = base64.b64decode(words, validate=True).decode().partition(":")
        except ValueError:
            raise Refusal(coded(1004)) from None
        if kind != "Basic" or self._secrets.get(app_key) != secret:
            raise Refusal(coded(1004))
        return app_key

    def _rate(self) -> list[tuple[bytes, bytes]]:
        """The headers; raises when the minute's requests are used up."""
        most = int(self.shared.settings.jpush_requests_per_minute)
        now = self.shared.clock()
        minute, used = int(now // MINUTE), self._minute[1] + 1
        self._minute = minute, used = minute, used if minute == self._minute[0] else 1
        if not most:
            return []
        headers = [
            (b"x-rate-limit-limit", b"%d" % most),
            (b"x-rate-limit-remaining", b"%d" % max(0, most - used)),
            (b"x-rate-limit-reset", b"%d" % max(1, MINUTE - int(now % MINUTE))),
        ]
        if used > most:
            raise Refusal(coded(2002).with_headers(headers))
        return headers

    def _pool(self, app_key: str, query: str) -> Answer:
        values = parse_qs(query)
        count, kind = values.get("count", ["1"])[0], values.get("type", ["push"])[0]
        if not count.isdigit() or not 1 <= int(count) <= CIDS or kind not in ("push", "schedule"):
            return coded(1003)
        return json_answer({"cidlist": [f"{app_key}-{uuid.uuid4()}" for _ in range(int(count))]})

    # ---- delivering

    def _push(self, pushed: Pushed, *, only: bool = False) -> Judged:
        first = self._first_answer(pushed.cid)
        if first is not None and not only:
            key = pushed.key
            return Judged(_taken(first), [Line(token, REPEATED, "cid", key) for token in pushed.tokens])
        lines = self._lines(pushed)
        number = str(next(self._numbers))
        if only:
            return Judged(_taken(number))

        def effect() -> None:
            if pushed.cid is not None:
                self._cids.add(pushed.cid, (number, self.shared.clock() + DAY))

        return Judged(_taken(number), lines, effect)

    def _first_answer(self, cid: str | None) -> str | None:
        known = self._cids.get(cid) if cid is not None else None
        return known[0] if known is not None and known[1] > self.shared.clock() else None

    def _lines(self, pushed: Pushed) -> list[Line]:
        """One a registration. Raises Refusal when the push as a whole is refused."""
        tokens = pushed.tokens
        if len(tokens) == 1 and _MALFORMED.search(tokens[0]):
            raise Refusal(coded(1003, "The registration_id is invalid"))
        known = {token for token in tokens if self._is_known(token)}
        strict = self.shared.settings.jpush_strict_lists and len(known) < len(set(tokens))
        if not known or strict:
            raise Refusal(coded(1011))
        content = self.content(pushed.title, pushed.body)
        return [
            Line(token, SHOWN, None, pushed.key, content) if token in known else Line(token, DROPPED, "1011")
            for token in tokens
        ]

    def _is_known(self, token: str) -> bool:
        if "foreign" in token or _MALFORMED.search(token):
            return False
        return not self.graves or self.graves.find(token) is None

    def _batch(self, value: dict[str, Any], app_key: str) -> Judged:
        """Single registrations, each with a message of its own under its cid."""
        pushes = value.get("pushlist")
        if value.keys() != {"pushlist"} or not isinstance(pushes, dict) or not 1 <= len(pushes) <= CIDS:
            raise Refusal(coded(1003))
        answers: dict[str, Any] = {}
        lines: list[Line] = []
        effects = []
        for cid, one in pushes.items():
            try:
                judged = self._push(form.read_single(one, cid, app_key))
            except Refusal as refusal:
                answers[cid] = orjson.loads(refusal.answer.body)
                continue
            answers[cid] = {"msg_id": orjson.loads(judged.answer.body)["msg_id"]}
            lines += judged.lines
            effects.append(judged.effect)

        def effect() -> None:
            for one in filter(None, effects):
                one()

        return Judged(json_answer(answers), lines, effect)


def _taken(number: str) -> Answer:
    """Both are strings, though one is a number."""
    return json_answer({"sendno": "0", "msg_id": number})
