"""What Umeng takes: a message by its reference, and the code of each thing that is wrong with one."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import orjson

from clarion.sandbox.answer import Answer
from clarion.sandbox.vendor import CHINA, Refusal, json_answer

MOST: Final = 500
PAYLOAD_BYTES: Final = {"android": 1_840, "ios": 2_012}
LETTERS: Final = {"android": 44, "ios": 64}  # of a device token
LONGEST: Final = timedelta(days=7)
TYPES: Final = ("unicast", "listcast", "filecast")
_OTHER_TYPES: Final = ("customizedcast", "broadcast", "groupcast")
_BOOLEANS: Final = {"production_mode": 1017}
_IN_BODY: Final = {"play_vibrate": 1011, "play_lights": 1012, "play_sound": 1013}
_URLS: Final = {"img": 1005, "sound": 1006, "url": 1007}
_DATE: Final = "%Y-%m-%d %H:%M:%S"

WORDS: Final = {
    1000: "no appkey",
    1001: "no payload",
    1015: "no device_tokens",
    2015: "device_tokens over the limit",
    2019: "the file is absent",
    2021: "the appkey is unknown",
    2022: "the payload is too long",
    2027: "the signature is wrong",
    2028: "the timestamp has expired",
    2050: "sending too often",
}


@dataclass(frozen=True, slots=True)
class Sent:
    """A message that is well formed."""

    app_key: str
    platform: str
    tokens: list[str]
    file_id: str | None
    out_biz_no: str | None
    title: str
    body: str

    @property
    def is_task(self) -> bool:
        """Whether it has a task, which can be asked about, and a key."""
        return self.file_id is not None


def coded(code: int, status: int = 400) -> Answer:
    """An error with this code, which is a text."""
    data = {"error_code": str(code), "error_msg": WORDS.get(code, "error")}
    return json_answer({"ret": "FAIL", "data": data}, status, str(code))


def taken(data: dict[str, Any]) -> Answer:
    """A success."""
    return json_answer({"ret": "SUCCESS", "data": data})


def check_stamp(stamp: Any, now: float, window: int) -> None:
    """10 or 13 digits, not too old. Raises Refusal."""
    text = str(stamp) if isinstance(stamp, str | int) and not isinstance(stamp, bool) else ""
    if not text:
        raise Refusal(coded(2052))
    if not re.fullmatch(r"\d{10}|\d{13}", text):
        raise Refusal(coded(2036))
    if abs(int(text) / (1_000 if len(text) == 13 else 1) - now) > window:
        raise Refusal(coded(2028))


def read(value: dict[str, Any], platform: str, now: datetime) -> Sent:
    """A message to device tokens or to a file of them. Raises Refusal."""
    kind = value.get("type")
    if kind is None:
        raise Refusal(coded(1016))
    if kind not in TYPES:
        raise Refusal(coded(2009 if kind in _OTHER_TYPES else 2048))
    tokens = [] if kind == "filecast" else _tokens(value, kind)
    name = value.get("file_id") if kind == "filecast" else None
    if kind == "filecast" and not isinstance(name, str):
        raise Refusal(coded(2018))
    _check_booleans(value, _BOOLEANS)
    payload = value.get("payload")
    if not isinstance(payload, dict) or not payload:
        raise Refusal(coded(1001))
    if len(orjson.dumps(payload)) > PAYLOAD_BYTES[platform]:
        raise Refusal(coded(2022))
    title, body = _ios(payload) if platform == "ios" else _android(payload)
    key = _policy(value.get("policy", {}), now)
    return Sent(value["appkey"], platform, tokens, name, key, title, body)


def _tokens(value: dict[str, Any], kind: str) -> list[str]:
    text = value.get("device_tokens")
    if not isinstance(text, str) or not text:
        raise Refusal(coded(1015))
    tokens = text.split(",")
    if len(tokens) > (1 if kind == "unicast" else MOST):
        raise Refusal(coded(2015))
    if not all(tokens):
        raise Refusal(coded(1015))
    return tokens


def _check_booleans(value: dict[str, Any], codes: dict[str, int]) -> None:
    for name, code in codes.items():
        if value.get(name, "true") not in ("true", "false"):
            raise Refusal(coded(code))


def _android(payload: dict[str, Any]) -> tuple[str, str]:
    kind, body = payload.get("display_type"), payload.get("body")
    if not isinstance(body, dict):
        raise Refusal(coded(1002))
    if kind is None:
        raise Refusal(coded(1004))
    if kind not in ("notification", "message"):
        raise Refusal(coded(1019))
    if not isinstance(payload.get("extra", {}), dict):
        raise Refusal(coded(1026))
    if kind == "message":
        if not body.get("custom"):
            raise Refusal(coded(1003))
        return "", ""
    for name, code in (("ticker", 1008), ("title", 1009), ("text", 1010)):
        if not isinstance(body.get(name), str) or not body[name]:
            raise Refusal(coded(code))
    _check_booleans(body, _IN_BODY)
    _check_links(body)
    return body["title"], body["text"]


def _check_links(body: dict[str, Any]) -> None:
    for name, code in _URLS.items():
        if name in body and not str(body[name]).startswith("http"):
            raise Refusal(coded(code))
    opens = body.get("after_open", "go_app")
    if opens == "go_url" and not body.get("url"):
        raise Refusal(coded(1022))
    if opens == "go_activity" and not body.get("activity"):
        raise Refusal(coded(1024))
    if opens == "go_custom" and not body.get("custom"):
        raise Refusal(coded(1003))


def _ios(payload: dict[str, Any]) -> tuple[str, str]:
    aps = payload.get("aps")
    if not isinstance(aps, dict) or not aps:
        raise Refusal(coded(2025))
    if payload.keys() & {"d", "p"}:
        raise Refusal(coded(5002))
    alert = aps.get("alert", "")
    if not alert and "content-available" not in aps:
        raise Refusal(coded(5003))
    if isinstance(alert, dict):
        return str(alert.get("title", "")), str(alert.get("body", ""))
    return "", str(alert)


def _policy(policy: Any, now: datetime) -> str | None:
    """The key of a repeat. Times are Chinese wall-clock texts."""
    if not isinstance(policy, dict):
        raise Refusal(coded(1027))
    start = _moment(policy, "start_time", now)
    ends = _moment(policy, "expire_time", start + timedelta(days=3))
    if ends <= start:
        raise Refusal(coded(2001))
    if ends > start + LONGEST:
        raise Refusal(coded(2040))
    key = policy.get("out_biz_no")
    return key if isinstance(key, str) else None


def _moment(policy: dict[str, Any], name: str, otherwise: datetime) -> datetime:
    if name not in policy:
        return otherwise
    try:
        return datetime.strptime(str(policy[name]), _DATE).replace(tzinfo=CHINA)
    except ValueError:
        raise Refusal(coded(2030)) from None
