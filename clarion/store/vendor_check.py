"""What a usable credential of a Chinese vendor is. Pure, like credential_check.py.

The topic of such a credential is what registrations belong to: an app's or project's id, or its package.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa

from clarion.errors import BadCredential
from clarion.store.credential_check import (
    Checked,
    check_url,
    json_object,
    pem_text,
    read_private_key,
)

_ID: Final = re.compile(r"[A-Za-z0-9]{1,64}")
_NUMBER: Final = re.compile(r"[1-9][0-9]{0,17}")
_WORD: Final = re.compile(r"[!-~]{1,512}")
_PACKAGE: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]*(\.[A-Za-z0-9_]+)+")
_FIELD: Final = re.compile(r"[a-z_]{1,24}")
_ACCOUNT_FIELDS: Final = ("project_id", "key_id", "private_key", "sub_account")


def hms(
    app_id: str,
    client_secret: str,
    *,
    client_id: str | None = None,
    project_id: str | None = None,
    token_url: str | None = None,
) -> Checked:
    """HMS v1 (or v2, with a project's id): the app's id is its client id unless another one is given."""
    client_id = client_id or app_id
    for value, what in ((app_id, "app id"), (client_id, "client id"), (project_id or "1", "project id")):
        _match(_ID, value, f"HMS: the {what}", "letters and digits, as AppGallery Connect shows it")
    secret = {
        "type": "oauth",
        "app_id": app_id,
        "client_id": client_id,
        "client_secret": _secret(client_secret, "HMS: the client secret"),
    }
    if project_id:
        secret["project_id"] = project_id
    if token_url:
        secret["token_url"] = check_url(token_url, "HMS: the token URL")
    return Checked(secret, topics=(project_id or app_id,))


def hms_account(account: str | bytes | Mapping[str, Any]) -> Checked:
    """HMS v3: a service account's key file, as Huawei's console gives it."""
    values = account if isinstance(account, Mapping) else json_object(account, "HMS: the service account")
    for name in _ACCOUNT_FIELDS:
        if not isinstance(values.get(name), str) or not values[name].strip():
            raise BadCredential(f"HMS: the service account lacks the field {name}: download the file again")
    key = read_private_key(values["private_key"], "HMS: the service account's private_key")
    if not isinstance(key, rsa.RSAPrivateKey):
        raise BadCredential("HMS: the service account's private_key is not an RSA key")
    _match(_ID, values["project_id"], "HMS: the service account's project_id", "letters and digits")
    secret = {name: values[name] for name in _ACCOUNT_FIELDS}
    return Checked(
        {"type": "service_account", **secret, "private_key": pem_text(key)}, topics=(values["project_id"],)
    )


def xiaomi(package: str, app_secret: str) -> Checked:
    """Xiaomi: the app's package and its AppSecret."""
    _match(_PACKAGE, package, "Xiaomi: the package", "a package's name like com.example.app")
    return Checked({"app_secret": _secret(app_secret, "Xiaomi: the AppSecret")}, topics=(package,))


def oppo(app_key: str, master_secret: str) -> Checked:
    """OPPO: the AppKey and the MasterSecret (not the AppSecret, which is for the app itself)."""
    _match(_ID, app_key, "OPPO: the AppKey", "letters and digits, as the console shows it")
    secret = _secret(master_secret, "OPPO: the MasterSecret")
    return Checked({"app_key": app_key, "master_secret": secret}, topics=(app_key,))


def vivo(app_id: str, app_key: str, app_secret: str) -> Checked:
    """vivo: the appId, a number, with appKey and appSecret."""
    _match(_NUMBER, app_id, "vivo: the appId", "a number, as the console shows it")
    _match(_ID, app_key, "vivo: the appKey", "letters and digits, as the console shows it")
    secret = _secret(app_secret, "vivo: the appSecret")
    return Checked({"app_id": app_id, "app_key": app_key, "app_secret": secret}, topics=(app_id,))


def jpush(app_key: str, master_secret: str, *, production: bool = True, cid: bool = True) -> Checked:
    """JPush: AppKey and Master Secret; `production` is about APNs, `cid` about keys of our own making."""
    _match(_ID, app_key, "JPush: the AppKey", "letters and digits, as the console shows it")
    secret = _secret(master_secret, "JPush: the Master Secret")
    for value, what in ((production, "production"), (cid, "cid")):
        _flag(value, f"JPush: {what}")
    return Checked(
        {"app_key": app_key, "master_secret": secret, "production": production, "cid": cid}, topics=(app_key,)
    )


def getui(app_id: str, app_key: str, master_secret: str) -> Checked:
    """Getui: AppID, AppKey and MasterSecret (not the AppSecret, which is for the app itself)."""
    for value, what in ((app_id, "AppID"), (app_key, "AppKey")):
        _match(_ID, value, f"Getui: the {what}", "letters and digits, as the console shows it")
    secret = _secret(master_secret, "Getui: the MasterSecret")
    return Checked({"app_id": app_id, "app_key": app_key, "master_secret": secret}, topics=(app_id,))


def umeng(
    app_key: str,
    app_master_secret: str,
    *,
    platform: str = "android",
    production: bool = True,
    filecast: bool = False,
) -> Checked:
    """Umeng: AppKey and App Master Secret of an app for one platform; `filecast`: lists go as files."""
    _match(_ID, app_key, "Umeng: the AppKey", "letters and digits, as the console shows it")
    secret = _secret(app_master_secret, "Umeng: the App Master Secret")
    if platform not in ("android", "ios"):
        raise BadCredential("Umeng: platform must be android or ios")
    for value, what in ((production, "production"), (filecast, "filecast")):
        _flag(value, f"Umeng: {what}")
    flags = {"platform": platform, "production": production, "filecast": filecast}
    return Checked({"app_key": app_key, "app_master_secret": secret, **flags}, topics=(app_key,))


def honor(app_id: str, client_id: str, client_secret: str, *, token_url: str | None = None) -> Checked:
    """Honor: the app's id, a number, with client id and client secret."""
    _match(_NUMBER, app_id, "Honor: the app id", "a number, as the console shows it")
    _match(_WORD, client_id, "Honor: the client id", "one word, as the console shows it")
    secret = {"client_id": client_id, "client_secret": _secret(client_secret, "Honor: the client secret")}
    if token_url:
        secret["token_url"] = check_url(token_url, "Honor: the token URL")
    return Checked({"app_id": app_id, **secret}, topics=(app_id,))


def meizu(app_id: str, app_secret: str) -> Checked:
    """Meizu: the app's id, a number, and its AppSecret."""
    _match(_NUMBER, app_id, "Meizu: the app id", "a number, as the console shows it")
    return Checked(
        {"app_id": app_id, "app_secret": _secret(app_secret, "Meizu: the AppSecret")}, topics=(app_id,)
    )


Check = Callable[..., Checked]
CHECKS: Final[dict[str, Check]] = {
    "hms": hms,
    "xiaomi": xiaomi,
    "oppo": oppo,
    "vivo": vivo,
    "jpush": jpush,
    "getui": getui,
    "umeng": umeng,
    "honor": honor,
    "meizu": meizu,
}
ABOUT: Final = {
    "hms": "Huawei: app_id and client_secret (with project_id: v2), or a service account's key file (v3).",
    "xiaomi": "Xiaomi: package and app_secret.",
    "oppo": "OPPO: app_key and master_secret.",
    "vivo": "vivo: app_id, app_key and app_secret.",
    "jpush": "JPush: app_key and master_secret (production: false for APNs' sandbox).",
    "getui": "Getui: app_id, app_key and master_secret.",
    "umeng": "Umeng: app_key and app_master_secret (platform: ios for an iOS app).",
    "honor": "Honor: app_id, client_id and client_secret.",
    "meizu": "Meizu: app_id and app_secret.",
}
"""What stands in the file of each one that we can send to."""
VENDORS: Final = tuple(ABOUT)


def from_file(provider: str, text: str | bytes) -> Checked:
    """A vendor's credential as a JSON file: the arguments of its function above, or HMS's service account.

    Raises BadCredential, which names what is missing or does not belong there.
    """
    values = json_object(text, f"{provider}: the file")
    if provider == "hms" and "sub_account" in values:
        return hms_account(values)
    check = CHECKS[provider]
    known = inspect.signature(check).parameters
    needed = [name for name, one in known.items() if one.default is one.empty]
    if missing := [name for name in needed if name not in values]:
        raise BadCredential(f"{provider}: the file lacks {', '.join(missing)}")
    if strange := sorted(values.keys() - known.keys()):
        raise BadCredential(f"{provider}: the file may hold {', '.join(known)}, not {_shown(strange)}")
    return check(**values)


def _shown(names: list[str]) -> str:
    """Names of fields as they may be said aloud: what looks like none may be a secret in the wrong place."""
    return ", ".join(name if _FIELD.fullmatch(name) else "what is no name of a field" for name in names)


def _match(pattern: re.Pattern[str], value: Any, what: str, should_be: str) -> None:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise BadCredential(f"{what} must be {should_be}")


def _flag(value: Any, what: str) -> None:
    if not isinstance(value, bool):
        raise BadCredential(f"{what} must be true or false")


def _secret(value: Any, what: str) -> str:
    text = value.strip() if isinstance(value, str) else ""
    if not _WORD.fullmatch(text):
        raise BadCredential(f"{what} must be one word of printable ASCII: copy it from the console again")
    return text
