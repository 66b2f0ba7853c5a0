"""vivo Push, strict: auth tokens for signatures, single messages, saved contents and their lists.

Where the sheet is silent (the official page of codes could not be read): a request that is malformed gets
HTTP 400 without a code; a requestId that was seen is answered like the first time and shows nothing; a
registration in a list that is dead stands in `invalidUsers` with its status, a list of dead ones alone gets
10302. A dead registration's `reason` is its status, 1 to 4. One with a letter in it is no registration.

Operation messages outside of 7 to 23 o'clock in China are taken, counted and not shown. The rule against
texts that look like a test, the app under review and the day's quotas are settings.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import secrets
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from clarion.sandbox.answer import Answer
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
    is_number,
    is_text,
    json_answer,
    object_of,
)

AUTH, SEND, SAVE, LIST = (f"/message/{name}" for name in ("auth", "send", "saveListPayload", "pushToList"))
LEAST, MOST = 2, 1_000
WINDOW: Final = 600_000  # milliseconds that a timestamp may be off
AUTHS_PER_SECOND: Final = 10
DAY: Final = range(7, 23)  # hours of operation messages
SYSTEM: Final = frozenset(("IM", "ACCOUNT", "TODO", "DEVICE_REMINDER", "ORDER", "SUBSCRIPTION"))
OPERATION: Final = frozenset(("NEWS", "CONTENT", "MARKETING", "SOCIAL"))
_REGID: Final = re.compile(r"[0-9]{1,64}")
_LIKE_A_TEST: Final = re.compile(r"[\x00-\x7f]*|.*(测试|[{}\[\]]).*", re.DOTALL)
_CONTENT: Final = frozenset(
    (
        "notifyType",
        "title",
        "content",
        "timeToLive",
        "skipType",
        "skipContent",
        "networkType",
        "classification",
        "category",
        "clientCustomMap",
        "extra",
        "notifyId",
        "sendOnline",
        "foregroundShow",
        "auditReview",
        "pushMode",
    )
)

WORDS: Final = {
    0: "请求成功",
    10000: "权限认证失败",
    10045: "应用审核中",
    10070: "运营消息发送总量超出限制",
    10072: "推送速度过快",
    10073: "系统消息发送总量超出限制",
    10085: "内容不合法",
    10094: "appId 不一致",
    10096: "category 不合法",
    10097: "category 与 classification 不符",
    10104: "正式消息不能为测试内容",
    10252: "saveListPayload 超出限制",
    10302: "regId 不合法",
}


class Content(NamedTuple):
    """What is shown, and what the rest is decided by."""

    title: str
    text: str
    system: bool
    test: bool
    notify_id: int | None


class Vivo(Vendor):
    """api-push.vivo.com.cn."""

    provider = "vivo"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._apps: dict[int, tuple[str, str]] = {}  # app id → key, secret
        self._grants: dict[str, tuple[int, float]] = {}  # auth token → app id, its end
        self._auths: list[float] = []
        self._requests = Memory()  # app id, requestId → the answer that it got
        self._saved: dict[str, tuple[int, Content]] = {}  # task → app id, content
        self._numbers = itertools.count(1)

    def trust(self, credential: Mapping[str, Any]) -> None:
        """Believe one more app. Raises KeyError or ValueError."""
        self._apps[int(credential["app_id"])] = str(credential["app_key"]), str(credential["app_secret"])

    def forget(self) -> None:
        """Every auth token is void."""
        super().forget()
        self._grants.clear()
        self._auths.clear()

    def error(self, status: int | None, reason: str | None) -> Answer:
        """A code of its own as `reason`, else what the HTTP status implies: no JSON."""
        return bare(status or 500) if reason is None else coded(int(reason), status=status or 200)

    def rejection(self, reason: str | None) -> Answer:
        """The auth token is not known."""
        return coded(int(reason or 10_000))

    def names(self, body: bytes) -> list[str]:
        """The registrations of either form."""
        try:
            value = object_of(body)
            named = value.get("regIds") or [value.get("regId")]
            return [str(token) for token in named if token]
        except (ValueError, TypeError):
            return []

    def decide(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Judged:
        """vivo's answer."""
        if path not in (AUTH, SEND, SAVE, LIST):
            raise Refusal(bare(404))
        if method != "POST":
            raise Refusal(bare(405))
        if path == AUTH:
            return Judged(self._grant(body), auth=True)
        app = self._authorize(headers)
        if not headers.get(b"content-type", b"").startswith(b"application/json"):
            raise Refusal(bare(400))
        value = _object(body)
        if "appId" in value and value["appId"] != app:
            raise Refusal(coded(10_094))
        if not is_text(value.get("requestId"), 64):
            raise Refusal(bare(400))
        if path == SAVE:
            return self._save(app, value)
        return self._single(app, value) if path == SEND else self._list(app, value)

    # ---- authorization

    def _grant(self, body: bytes) -> Answer:
        now = self.shared.clock()
        self._auths = [at for at in self._auths if at > now - 1] + [now]
        if len(self._auths) > AUTHS_PER_SECOND:
            return coded(10_250)
        try:
            value = object_of(body)
        except ValueError:
            return bare(400)
        app, key, stamp, sign = (value.get(name) for name in ("appId", "appKey", "timestamp", "sign"))
        for given, code in ((app, 10_200), (key, 10_201), (stamp, 10_203), (sign, 10_204)):
            if given in (None, ""):
                return coded(code)
        if not isinstance(app, int) or app not in self._apps:
            return coded(10_205)
        known, secret = self._apps[app]
        if key != known:
            return coded(10_202)
        if not isinstance(stamp, int) or abs(stamp - now * 1_000) > WINDOW:
            return coded(10_207)
        if sign != hashlib.md5(f"{app}{key}{stamp}{secret}".encode(), usedforsecurity=False).hexdigest():
            return coded(10_206)
        token = secrets.token_hex(32)
        self._grants[token] = app, now + self.shared.settings.vivo_token_seconds
        return coded(0, authToken=token)

    def _authorize(self, headers: dict[bytes, bytes]) -> int:
        app, end = self._grants.get(headers.get(b"authtoken", b"").decode("latin-1"), (0, 0.0))
        if end <= self.shared.clock():
            raise Refusal(coded(10_000))
        return app

    # ---- requests

    def _save(self, app: int, value: dict[str, Any]) -> Judged:
        content = self._content(value, _CONTENT)
        if self.over_day(f"{app} saved", "vivo_saves_daily", 1):
            raise Refusal(coded(10_252))
        task = f"{next(self._numbers):018d}"
        self._saved[task] = app, content
        return Judged(coded(0, taskId=task))

    def _single(self, app: int, value: dict[str, Any]) -> Judged:
        token = value.pop("regId", None)
        if not is_text(token, 64):
            raise Refusal(bare(400))
        key = app, value["requestId"]
        content = self._content(value, _CONTENT | {"profileId"})
        if (before := self._requests.get(key)) is not None:
            return Judged(before, [self._shown(token, content, REPEATED)])
        self._count(app, content, 1)
        fate = self._fate(token)
        if fate is None:
            answer = coded(0, taskId=f"{next(self._numbers):018d}")
            lines = [self._shown(token, content, SHOWN)]
        else:
            answer = coded(10_302, invalidUser={"userid": token, "status": fate})
            lines = [Line(token, REFUSED, str(fate))]
        return Judged(answer, lines, lambda: self._requests.add(key, answer))

    def _list(self, app: int, value: dict[str, Any]) -> Judged:
        tokens = value.get("regIds")
        known = {"appId", "regIds", "taskId", "requestId", "pushMode"}
        if value.keys() - known or not isinstance(tokens, list) or not LEAST <= len(tokens) <= MOST:
            raise Refusal(bare(400))
        if len(set(map(str, tokens))) != len(tokens) or not all(is_text(token, 64) for token in tokens):
            raise Refusal(bare(400))
        owner, content = self._saved.get(str(value.get("taskId")), (0, None))
        if content is None or owner != app or value.get("pushMode", 0) != int(content.test):
            raise Refusal(bare(400))
        key = app, value["requestId"]
        if (before := self._requests.get(key)) is not None:
            return Judged(before, [self._shown(token, content, REPEATED) for token in tokens])
        self._count(app, content, len(tokens))
        fates = {token: self._fate(token) for token in tokens}
        lines = [
            self._shown(token, content, SHOWN) if fate is None else Line(token, REFUSED, str(fate))
            for token, fate in fates.items()
        ]
        answer = self._of_list(value["requestId"], fates)
        return Judged(answer, lines, lambda: self._requests.add(key, answer))

    def _of_list(self, request: str, fates: Mapping[str, int | None]) -> Answer:
        invalid = [{"userid": token, "status": fate} for token, fate in fates.items() if fate is not None]
        if len(invalid) == len(fates):
            return coded(10_302)
        more: dict[str, Any] = {"invalidUsers": invalid} if invalid else {}
        return coded(0, requestId=request, **more)

    # ---- what becomes of a message

    def _content(self, value: dict[str, Any], known: frozenset[str]) -> Content:
        """What a message says. Raises Refusal."""
        if value.keys() - known - {"appId", "requestId"}:
            raise Refusal(bare(400))
        _check(value)
        content = Content(
            value["title"],
            value["content"],
            value.get("classification", 0) == 1,
            value.get("pushMode", 0) == 1,
            value.get("notifyId"),
        )
        settings = self.shared.settings
        if settings.vivo_review and not content.test:
            raise Refusal(coded(10_045))
        if settings.vivo_text_rule and not content.test:
            for words in (content.title, content.text):
                if _LIKE_A_TEST.fullmatch(words):
                    raise Refusal(coded(10_104))
        return content

    def _count(self, app: int, content: Content, count: int) -> None:
        """Whether so many more may be sent. Raises Refusal."""
        if self.too_fast("vivo_messages_per_second", count):
            raise Refusal(coded(10_072))
        name, code = ("system", 10_073) if content.system else ("operation", 10_070)
        if self.over_day(f"{app} {name}", f"vivo_{name}_daily", count):
            raise Refusal(coded(code))

    def _shown(self, token: str, content: Content, status: int) -> Line:
        if status == SHOWN and not content.system and self.moment().hour not in DAY:
            return Line(token, REFUSED, "controlled")
        key = None if content.notify_id is None else f"notifyId {content.notify_id}"
        return Line(token, status, None, key, self.content(content.title, content.text))

    def _fate(self, token: str) -> int | None:
        if not _REGID.fullmatch(token):
            return 1
        dead = self.graves.find(token) if self.graves else None
        return None if dead is None else int(dead.reason or 2)


def coded(result: int, status: int = 200, **more: Any) -> Answer:
    """An answer with this code."""
    value = {"result": result, "desc": WORDS.get(result, "错误"), **more}
    return json_answer(value, status, str(result) if result else None)


def _object(body: bytes) -> dict[str, Any]:
    try:
        return object_of(body)
    except ValueError:
        raise Refusal(bare(400)) from None


def _check(value: Mapping[str, Any]) -> None:
    """Each field by its rule. Raises Refusal."""
    if not is_text(value.get("title"), 40) or not is_text(value.get("content"), 100):
        raise Refusal(coded(10_085))
    if value.get("notifyType") not in (1, 2, 3, 4) or value.get("skipType") not in (1, 2, 3, 4):
        raise Refusal(bare(400))
    if value["skipType"] != 1 and not is_text(value.get("skipContent"), 1_024):
        raise Refusal(bare(400))
    for name, least, most in (("timeToLive", 60, 86_400), ("notifyId", 1, 2_147_483_647)):
        if name in value and not is_number(value[name], least, most):
            raise Refusal(bare(400))
    for name, values in (("networkType", (-1, 1)), ("classification", (0, 1)), ("pushMode", (0, 1))):
        if name in value and (isinstance(value[name], bool) or value[name] not in values):
            raise Refusal(bare(400))
    _check_category(value)
    custom = value.get("clientCustomMap", {})
    if not isinstance(custom, dict) or len(custom) > 10:
        raise Refusal(bare(400))
    if not all(isinstance(text, str) for text in custom.values()):
        raise Refusal(bare(400))
    if sum(len(name) + len(text) for name, text in custom.items()) > 1_024:
        raise Refusal(bare(400))


def _check_category(value: Mapping[str, Any]) -> None:
    category = value.get("category")
    if category is None:
        return
    if category not in SYSTEM | OPERATION:
        raise Refusal(coded(10_096))
    if category not in (SYSTEM if value.get("classification", 0) == 1 else OPERATION):
        raise Refusal(coded(10_097))
