"""HMS Push Kit, strict: both authorizations; v1, v2 and v3 of messages:send; both forms of partial success.

Order of the checks (the real one is UNCONFIRMED): authorization, JSON, registrations, size, fields, rights,
registrations that have died. A registration with "foreign" in it belongs to another app (v3: noRight).
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

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
    json_answer,
)
from clarion.store.base64url import decode_base64

TOKEN_PATHS: Final = ("/oauth2/v3/token", "/oauth2/v2/token")
AUDIENCE: Final = "https://oauth-login.cloud.huawei.com/oauth2/v3/token"
SEND: Final = re.compile(r"/v([123])/([A-Za-z0-9]{1,64})/messages:send")
MOST: Final = 1_000
BODY_BYTES: Final = 4_096
LONGEST: Final = 1_296_000
TOKEN_CALLS: Final = 1_000  # in five minutes
TEST_MOST: Final = 10
CATEGORIES: Final = frozenset(
    {
        "IM",
        "VOIP",
        "SUBSCRIPTION",
        "TRAVEL",
        "HEALTH",
        "WORK",
        "ACCOUNT",
        "EXPRESS",
        "FINANCE",
        "DEVICE_REMINDER",
        "MAIL",
        "PLAY_VOICE",
        "MARKETING",
    }
)
PUSH_TYPES: Final = frozenset((b"0", b"1", b"2", b"6", b"7", b"10"))
_TTL: Final = re.compile(r"(\d{1,9})(\.\d{1,9})?[sS]?")

MESSAGES: Final = {
    "80000000": "Success",
    "80100000": "Partial success",
    "80100001": "Parameter error",
    "80100003": "Illegal payload",
    "80100004": "Illegal expiry time",
    "80100013": "Illegal collapse_key",
    "80100016": "Message contains sensitive information",
    "80200001": "OAuth authentication error.",
    "80200003": "OAuth Token expired.",
    "80200005": "JWT token expired.",
    "80300002": "The current app does not have the permission to send push messages.",
    "80300007": "All the tokens are invalid.",
    "80300008": "The message body size exceeds the default value set by the system.",
    "80300010": "The number of tokens in the message body exceeds the default value.",
    "80300011": "You are not authorized to send high-priority notification messages.",
    "80600003": "Failed to request the OAuth service.",
    "81000001": "Internal error.",
}
# HTTP status by code: which travels with which is UNCONFIRMED.
STATUSES: Final = {
    "80000000": 200,
    "80100000": 200,
    "80200001": 401,
    "80200003": 401,
    "80200005": 401,
    "81000001": 500,
}


@dataclass(frozen=True, slots=True)
class App:
    """Who may send, and for which ids."""

    places: frozenset[str]
    client_id: str = ""
    client_secret: str = ""
    key_id: str = ""
    sub_account: str = ""
    public_key: rsa.RSAPublicKey | None = None


class Hms(Vendor):
    """push-api.cloud.huawei.com and oauth-login.cloud.huawei.com at one port."""

    provider = "hms"

    def __init__(self, shared: Shared) -> None:
        super().__init__(shared)
        self._apps: list[App] = []
        self._grants: dict[str, tuple[App, float]] = {}  # access token → app, its end
        self._calls: list[float] = []

    def trust(self, credential: Mapping[str, Any]) -> None:
        """Believe one more client or service account. Raises KeyError or ValueError."""
        if credential.get("type") == "service_account" or "sub_account" in credential:
            pem = str(credential.get("public_key") or credential["private_key"]).encode()
            key: Any
            if b"PRIVATE" in pem:
                key = getattr(serialization.load_pem_private_key(pem, None), "public_key", lambda: None)()
            else:
                key = serialization.load_pem_public_key(pem)
            if not isinstance(key, rsa.RSAPublicKey):
                raise ValueError("a service account's key is an RSA key")
            places = frozenset((str(credential["project_id"]),))
            app = App(
                places, key_id=credential["key_id"], sub_account=credential["sub_account"], public_key=key
            )
        else:
            named = (credential["app_id"], credential.get("project_id"))
            places = frozenset(str(place) for place in named if place)
            app = App(places, str(credential["client_id"]), str(credential["client_secret"]))
        self._apps.append(app)

    def forget(self) -> None:
        """Every access token is void."""
        super().forget()
        self._grants.clear()
        self._calls.clear()

    # ---- the provider's words

    def error(self, status: int | None, reason: str | None) -> Answer:
        """A code of its own as `reason`, else what the HTTP status implies: no JSON."""
        if reason is None:
            return bare(status or 500)
        return coded(reason, status=status)

    def rejection(self, reason: str | None) -> Answer:
        """The access token has expired, unless another code is named."""
        return coded(reason or "80200003")

    def names(self, body: bytes) -> list[str]:
        """The registrations of a message of either form."""
        try:
            value = orjson.loads(body)
            tokens = (value.get("message") or value.get("target"))["token"]
            return [str(token) for token in tokens]
        except (orjson.JSONDecodeError, AttributeError, KeyError, TypeError):
            return []

    def decide(self, method: str, path: str, headers: dict[bytes, bytes], body: bytes) -> Judged:
        """Huawei's answer."""
        if path in TOKEN_PATHS:
            return Judged(self._token(method, headers, body), auth=True)
        send = SEND.fullmatch(path)
        if send is None or method != "POST":
            raise Refusal(bare(404))
        version, place = int(send[1]), send[2]
        self._authorize(version, place, headers)
        message = _read(body)
        tokens = _tokens(message.get("target" if version == 3 else "message"))
        if len(body) - len(orjson.dumps(tokens)) > BODY_BYTES:
            raise Refusal(coded("80300008"))
        judged = self._v3(message, headers) if version == 3 else self._v1(message)
        if self.too_fast("hms_devices_per_second", len(tokens)):
            raise Refusal(Answer(503, "503"))
        return self._deliver(version, tokens, *judged)

    # ---- authorization

    def _token(self, method: str, headers: dict[bytes, bytes], body: bytes) -> Answer:
        now = self.shared.clock()
        self._calls = [at for at in self._calls if at > now - 300] + [now]
        if len(self._calls) > TOKEN_CALLS:
            return Answer(503, "flow control")
        try:
            form = form_of(body)
        except ValueError:
            form = {}
        if method != "POST" or form.get("grant_type") != "client_credentials":
            return _oauth_error(1102, 20_182, "invalid grant_type")
        for app in self._apps:
            if app.client_id and (app.client_id, app.client_secret) == (
                form.get("client_id"),
                form.get("client_secret"),
            ):
                return self._grant(app)
        return _oauth_error(1101, 20_042, "invalid client")

    def _grant(self, app: App) -> Answer:
        seconds = int(self.shared.settings.hms_token_seconds)
        # Real ones have slashes, and Huawei's JSON escapes them.
        token = f"DAED/{secrets.token_urlsafe(48)}"
        self._grants[token] = app, self.shared.clock() + seconds
        text = orjson.dumps({"access_token": token, "expires_in": seconds, "token_type": "Bearer"})
        return Answer(200, None, json_answer({}).headers, text.replace(b"/", b"\\/"))

    def _authorize(self, version: int, place: str, headers: dict[bytes, bytes]) -> None:
        kind, _, token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")
        if kind != "Bearer" or not token:
            raise Refusal(coded("80200001"))
        app = self._by_jwt(token) if version == 3 else self._by_token(token)
        if place not in app.places:
            raise Refusal(coded("80200001"))

    def _by_token(self, token: str) -> App:
        grant = self._grants.get(token)
        if grant is None or grant[1] <= self.shared.clock():
            raise Refusal(coded("80200003"))
        return grant[0]

    def _by_jwt(self, token: str) -> App:
        signed, _, signature = token.rpartition(".")
        try:
            header, claims = (orjson.loads(decode_base64(part) or b"") for part in signed.split("."))
            app = next(app for app in self._apps if app.public_key and app.key_id == header["kid"])
            assert app.public_key is not None
            pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
            app.public_key.verify(decode_base64(signature) or b"", signed.encode(), pss, hashes.SHA256())
            good = (header["alg"], claims["iss"], claims["aud"]) == ("PS256", app.sub_account, AUDIENCE)
            issued, ends = int(claims["iat"]), int(claims["exp"])
        except (ValueError, KeyError, TypeError, StopIteration, InvalidSignature):
            raise Refusal(coded("80200001")) from None
        if not good or ends > issued + 3_600:
            raise Refusal(coded("80200001"))
        if not issued - 300 <= self.shared.clock() < ends:
            raise Refusal(coded("80200005"))
        return app

    # ---- messages

    def _v1(self, value: dict[str, Any]) -> tuple[str, str, str | None, bool]:
        """Title, body, key, and whether it is only validated."""
        if value.keys() - {"validate_only", "message", "review"}:
            raise Refusal(coded("80100001"))
        if not isinstance(value.get("validate_only", False), bool):
            raise Refusal(coded("80100003"))
        message = value["message"]
        known = {"token", "data", "notification", "android", "apns", "webpush"}
        if message.keys() - known or not isinstance(message.get("data", ""), str):
            raise Refusal(coded("80100003"))
        android = _object(message.get("android"))
        _check_android(android)
        if android.get("urgency") == "HIGH" and not self.shared.settings.hms_urgency:
            raise Refusal(coded("80300011"))
        common, own = _object(message.get("notification")), _object(android.get("notification"))
        if not own and not common:
            if not message.get("data") and not android.get("data"):
                raise Refusal(coded("80100003"))
            return "", "", None, bool(value.get("validate_only"))
        title, body = own.get("title") or common.get("title"), own.get("body") or common.get("body")
        if not isinstance(title, str) or not isinstance(body, str) or not title or not body:
            raise Refusal(coded("80100003"))
        _check_notification(own)
        number = own.get("notify_id", -1)
        key = own.get("tag") or (None if number == -1 else f"notify_id {number}")
        return title, body, key, bool(value.get("validate_only"))

    def _v3(self, value: dict[str, Any], headers: dict[bytes, bytes]) -> tuple[str, str, str | None, bool]:
        kind = headers.get(b"push-type")
        if kind not in PUSH_TYPES or value.keys() - {"payload", "target", "pushOptions"}:
            raise Refusal(coded("80100001"))
        payload, options = _object(value.get("payload")), _object(value.get("pushOptions"))
        ttl = options.get("ttl", 86_400)
        if not is_number(ttl, 1, LONGEST):
            raise Refusal(coded("80100004"))
        if len(str(options.get("biTag", "")).encode()) > 64:
            raise Refusal(coded("80100001"))
        if options.get("testMessage") and len(value["target"]["token"]) > TEST_MOST:
            raise Refusal(coded("80300010"))
        if kind == b"6":
            if not isinstance(payload.get("extraData"), str) or "notification" in payload:
                raise Refusal(coded("80100003"))
            return "", "", None, False
        shown = _object(payload.get("notification"))
        title, body, action = shown.get("title"), shown.get("body"), shown.get("clickAction")
        if not (isinstance(title, str) and isinstance(body, str) and title and body):
            raise Refusal(coded("80100003"))
        if not isinstance(action, dict) or action.get("actionType") not in (0, 1):
            raise Refusal(coded("80100003"))
        if "category" in shown and shown["category"] not in CATEGORIES:
            raise Refusal(coded("80100001"))
        number = shown.get("notifyId")
        if number is not None and not is_number(number, 0, 2_147_483_647):
            raise Refusal(coded("80100003"))
        return title, body, None if number is None else f"notifyId {number}", False

    # ---- delivering

    def _deliver(
        self, version: int, tokens: list[str], title: str, body: str, key: str | None, only: bool
    ) -> Judged:
        content = self.content(title, body)
        lines, refused = [], {}
        for token in tokens:
            reason = self._fate(token)
            if reason is not None:
                refused[token] = reason
                lines.append(Line(token, REFUSED, reason))
            elif not only:
                lines.append(Line(token, SHOWN, None, key, content))
        if not refused:
            return Judged(coded("80000000"), lines)
        good = len(tokens) - len(refused)
        return Judged(_partly(version, good, refused), lines)

    def _fate(self, token: str) -> str | None:
        if "foreign" in token:
            return "noRight"
        dead = self.graves.find(token) if self.graves else None
        return None if dead is None else dead.reason or "tokenFormatError"


def coded(code: str, msg: str | None = None, status: int | None = None) -> Answer:
    """An answer with this code; all three members are strings."""
    value = {"code": code, "msg": msg or MESSAGES.get(code, "Error"), "requestId": secrets.token_hex(16)}
    reason = None if code == "80000000" else code
    return json_answer(value, status or STATUSES.get(code, 400), reason)


def _partly(version: int, good: int, refused: dict[str, str]) -> Answer:
    if version == 3:
        reasons: dict[str, list[str]] = {}
        for token, reason in refused.items():
            reasons.setdefault(reason, []).append(token)
        inner: dict[str, Any] = {"success": good, "failure": len(refused), "illegalTokens": reasons}
        if not good:
            inner.pop("success")
        return coded("80100000" if good else "80300007", orjson.dumps(inner).decode())
    if not good:
        return coded("80300007")
    inner = {"success": good, "failure": len(refused), "illegal_tokens": list(refused)}
    return coded("80100000", orjson.dumps(inner).decode())


def _oauth_error(error: int, sub: int, description: str) -> Answer:
    value = {"error": error, "sub_error": sub, "error_description": description}
    return json_answer(value, 400, str(error))


def _read(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise Refusal(coded("80100003")) from None
    if not isinstance(value, dict):
        raise Refusal(coded("80100003"))
    return value


def _tokens(place: Any) -> list[str]:
    """Exactly one target, which is 1 to 1000 registrations: topics are not sent to in here."""
    if not isinstance(place, dict) or place.keys() & {"topic", "condition"}:
        raise Refusal(coded("80300010"))
    tokens = place.get("token")
    if not isinstance(tokens, list) or not 1 <= len(tokens) <= MOST:
        raise Refusal(coded("80300010"))
    if not all(isinstance(token, str) and token for token in tokens):
        raise Refusal(coded("80300010"))
    return tokens


def _object(value: Any) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise Refusal(coded("80100003"))
    return value


def _check_android(android: dict[str, Any]) -> None:
    collapse = android.get("collapse_key", -1)
    if not is_number(collapse, -1, 100):
        raise Refusal(coded("80100013"))
    ttl = android.get("ttl")
    if ttl is not None:
        match = _TTL.fullmatch(ttl) if isinstance(ttl, str) else None
        if match is None:
            raise Refusal(coded("80100001"))
        if not 0 < float(match[1] + (match[2] or "")) <= LONGEST:
            raise Refusal(coded("80100004"))
    if android.get("urgency", "NORMAL") not in ("HIGH", "NORMAL"):
        raise Refusal(coded("80100001"))
    if "category" in android and android["category"] not in CATEGORIES:
        raise Refusal(coded("80100001"))
    if android.get("fast_app_target", 1) not in (1, 2) or android.get("target_user_type", 0) not in (0, 1):
        raise Refusal(coded("80100001"))


def _check_notification(own: dict[str, Any]) -> None:
    action = own.get("click_action")
    if not isinstance(action, dict) or action.get("type") not in (1, 2, 3):
        raise Refusal(coded("80100003"))
    if action["type"] == 1 and not (action.get("intent") or action.get("action")):
        raise Refusal(coded("80100003"))
    if action["type"] == 2 and not str(action.get("url", "")).startswith("https://"):
        raise Refusal(coded("80100003"))
    badge = own.get("badge")
    if badge is not None:
        if not isinstance(badge, dict) or not is_number(badge.get("add_num", 1), 1, 99):
            raise Refusal(coded("80100003"))
        if not is_number(badge.get("set_num", 0), 0, 99):
            raise Refusal(coded("80100003"))
    if own.get("importance", "NORMAL") not in ("LOW", "NORMAL", "HIGH"):
        raise Refusal(coded("80100001"))
    if not is_number(own.get("notify_id", -1), -1, 2_147_483_647):
        raise Refusal(coded("80100003"))
    if own.get("image") is not None and not str(own["image"]).startswith("https://"):
        raise Refusal(coded("80100003"))
    if len(own.get("buttons", ())) > 3:
        raise Refusal(coded("80100003"))
