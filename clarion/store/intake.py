"""A device's registration as people and files give it, checked and brought to its normal form.

    {"user_id": "42", "platform": "ios", "token": "…"}                       the least there must be
    installation                what the app calls itself on this phone: a UUID, or a text that never changes
    provider | lane             apns, fcm, webpush, or the name of a credential; else the platform decides
    kind                        alert (default), voip, live_activity_start, …
    token | subscription        the address; of a browser what PushSubscription.toJSON() gives
    application_server_key      which Web Push key the subscription was made under
    app_version model os_version locale zone last_active
    manufacturer                Build.MANUFACTURER; with google_services (true or false) it chooses among
                                the phone's addresses
    tags attributes             of the user: a list that replaces, an object whose keys replace

Ids stay as typed. A locale or zone that is none is stored as none and counted: no phone is refused for it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, Final, NamedTuple
from uuid import NAMESPACE_URL, uuid5

import orjson

from clarion.errors import BadRegistration
from clarion.model.message import Kind
from clarion.store import address, apps, credentials
from clarion.store.base64url import decode_base64, encode_base64url
from clarion.store.credentials import CredentialRow
from clarion.store.database import Database
from clarion.store.locales import normalise_locale
from clarion.store.user_id import USER_ID
from clarion.store.zones import Zones

PLATFORMS: Final = {"ios": 1, "android": 2, "web": 3}
PROVIDER_OF: Final = {"ios": "apns", "android": "fcm", "web": "webpush"}
PLATFORM_OF: Final = {provider: platform for platform, provider in PROVIDER_OF.items()}
KINDS: Final = {name.lower(): int(kind) for name, kind in Kind.__members__.items()}
FIELDS: Final = frozenset(
    {
        "user_id",
        "installation",
        "platform",
        "provider",
        "lane",
        "environment",
        "kind",
        "token",
        "subscription",
        "endpoint",
        "p256dh",
        "auth",
        "application_server_key",
        "app_version",
        "model",
        "os_version",
        "manufacturer",
        "google_services",
        "locale",
        "zone",
        "last_active",
        "tags",
        "attributes",
    }
)
ATTRIBUTES_BYTES: Final = 8_192
MAX_TAGS: Final = 100
_TAG: Final = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
_UUID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_VERSION: Final = re.compile(r"\s*v?(\d+(?:\.\d+)*)")
_INSTALLATIONS: Final = uuid5(NAMESPACE_URL, "clarion:installation").bytes
_TRUTH: Final = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_SHORT: Final = 100  # characters kept of a model, an OS version, an app version
_VARIANT: Final = "89ab"


class Row(NamedTuple):
    """One address and its device, as the SQL function `register` takes them."""

    user_id: str
    profile: dict[str, Any] | None
    installation: str | None
    fallback: str
    platform: int
    lane: int
    kind: int
    token: str
    digest: bytes
    app_version: str | None
    version: str | None
    model: str | None
    os_version: str | None
    locale: str
    zone: str | None
    google_services: bool | None
    manufacturer: str | None
    seen: datetime | None


class Intake:
    """What an app takes in: its lanes, and the zones there are. Made for one import or kept for seconds."""

    def __init__(
        self,
        app_no: int,
        lanes: Sequence[CredentialRow],
        lane_order: Sequence[int],
        zones: Zones,
        *,
        now: datetime | None = None,
    ) -> None:
        self.app_no = app_no
        self.now = now or datetime.now(UTC)
        self.bad_zones = self.bad_locales = 0
        self._lanes = [lane for lane in lanes if not lane.withdrawn]
        self._order = {lane: place for place, lane in enumerate(lane_order)}
        self._found: dict[tuple[Any, ...], tuple[int, str, int]] = {}
        self._zone = lru_cache(4_096)(zones.resolve)

    @classmethod
    async def load(cls, db: Database, app: apps.App) -> Intake:
        """The app's lanes as they are now."""
        now = await db.fetchval("select clock_timestamp()")
        lanes = await credentials.list_credentials(db, app.app_no)
        return cls(app.app_no, lanes, app.lane_order, await Zones.shared(db), now=now)

    def check(self, fields: Mapping[str, Any]) -> Row:
        """The row of these fields. Raises BadRegistration, which names the field and holds no token."""
        get = fields.get
        lane, provider, platform = self._place(fields)
        word = get("kind") or "alert"
        kind = KINDS.get(word.replace("-", "_")) if isinstance(word, str) else None
        if kind is None:
            raise BadRegistration(f"kind must be one of {', '.join(KINDS)}")
        token = _token(provider, fields)
        installation = get("installation")
        app_version = _short(get("app_version"))
        return Row(
            _user_id(get("user_id")),
            _profile(get("tags"), get("attributes")),
            None if installation is None else _installation(installation),
            "" if installation is not None else name_uuid(token.split(" ", 1)[0]),
            platform,
            lane,
            kind,
            token,
            hashlib.sha256(token.encode()).digest(),
            app_version,
            version_numbers(app_version) if app_version else None,
            _short(get("model")),
            _short(get("os_version")),
            self._locale_of(get("locale")),
            self._zone_of(get("zone")),
            _yes_or_no(get("google_services")),
            (_short(get("manufacturer")) or "").strip().lower() or None,
            None if get("last_active") is None else min(_moment(fields["last_active"]), self.now),
        )

    def _place(self, fields: Mapping[str, Any]) -> tuple[int, str, int]:
        """Lane, provider and platform number; found once for each combination of words."""
        key = tuple(
            map(fields.get, ("lane", "provider", "platform", "environment", "application_server_key"))
        )
        try:
            return self._found[key]
        except KeyError:
            if len(self._found) < 1_000:
                return self._found.setdefault(key, self._find(*key))
            return self._find(*key)
        except TypeError:
            raise BadRegistration("lane, provider and platform must be words") from None

    def _find(
        self, name: Any, provider: Any, platform: Any, environment: Any, key: Any
    ) -> tuple[int, str, int]:
        platform = None if platform is None else str(platform).lower()
        if platform is not None and platform not in PLATFORMS:
            raise BadRegistration(f"platform must be one of {', '.join(PLATFORMS)}")
        lane = self._lane(name or provider or PROVIDER_OF.get(platform or ""), environment, key)
        platform = platform or PLATFORM_OF.get(lane.provider)
        if platform is None:
            raise BadRegistration(f"platform is missing: one of {', '.join(PLATFORMS)}")
        return lane.lane, lane.provider, PLATFORMS[platform]

    def _lane(self, word: Any, environment: Any, key: Any) -> CredentialRow:
        """The lane of that name, or the provider's only one; of Web Push lanes the first in order."""
        if word is None:
            raise BadRegistration("provider is missing: name a provider, a credential or a platform")
        for lane in self._lanes:
            if lane.name == word:
                return lane
        lanes = [lane for lane in self._lanes if lane.provider == word]
        if environment is not None:
            lanes = [lane for lane in lanes if lane.environment == environment]
        if key is not None:
            wanted = encode_base64url(decode_base64(str(key)) or b"")
            lanes = [lane for lane in lanes if lane.settings.get("public_key") == wanted]
        if not lanes:
            raise BadRegistration(f"the app has no credential for {_quoted(word)} that fits: add one first")
        if len(lanes) > 1 and word != "webpush":
            raise BadRegistration(
                f"the app has several credentials for {word}: name one as lane "
                f"({', '.join(lane.name for lane in lanes)})"
            )
        return min(lanes, key=lambda lane: self._order.get(lane.lane, lane.lane + len(self._order)))

    def _locale_of(self, text: Any) -> str:
        tag = _locale(text) if isinstance(text, str) else ""
        if text and not tag:
            self.bad_locales += 1
        return tag

    def _zone_of(self, text: Any) -> str | None:
        zone = self._zone(text) if isinstance(text, str) else None
        if text and zone is None:
            self.bad_zones += 1
        return zone


def name_uuid(name: str) -> str:
    """The UUID (version 5, RFC 9562) that stands for a name of ours: the same name, the same installation."""
    digest = hashlib.sha1(_INSTALLATIONS + name.encode(), usedforsecurity=False).hexdigest()
    variant = _VARIANT[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


@lru_cache(4_096)
def version_numbers(text: str) -> str | None:
    """The numbers of a version as an array's text, without trailing zeros: "v4.10.0-beta" is "{4,10}"."""
    match = _VERSION.match(text)
    if match is None:
        return None
    numbers = [min(int(part[:11]), 2**31 - 1) for part in match[1].split(".")]
    while numbers and not numbers[-1]:
        numbers.pop()
    return "{" + ",".join(map(str, numbers)) + "}"


_locale = lru_cache(4_096)(normalise_locale)


def _user_id(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if isinstance(value, float):
        raise BadRegistration("user_id is a number with digits we could not keep: write it in quotes")
    if not isinstance(value, str) or not USER_ID.fullmatch(value):
        raise BadRegistration("user_id must be a text of 1 to 256 characters without control characters")
    return value


def _token(provider: str, fields: Mapping[str, Any]) -> str:
    subscription = fields.get("subscription")
    if isinstance(subscription, Mapping):
        return address.from_subscription(subscription)
    if fields.get("endpoint") is not None:
        keys = {"p256dh": fields.get("p256dh"), "auth": fields.get("auth")}
        return address.from_subscription({"endpoint": fields["endpoint"], "keys": keys})
    token = fields.get("token")
    if not isinstance(token, str):
        raise BadRegistration("token is missing" if token is None else "token must be a text")
    return address.normalise(provider, token)


def _installation(value: Any) -> str:
    if isinstance(value, str) and _UUID.fullmatch(value.lower()):
        return value.lower()
    text = str(value) if isinstance(value, str | int) else ""
    if not USER_ID.fullmatch(text):
        raise BadRegistration("installation must be a UUID or a text of 1 to 256 characters")
    return name_uuid(text)


def _short(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str | int | float):
        raise BadRegistration("model, manufacturer, os_version and app_version must be texts")
    text = str(value)[:_SHORT]
    return text if text.isprintable() else "".join(filter(str.isprintable, text))


def _yes_or_no(value: Any) -> bool | None:
    """A truth value, or what stands for one in a file's cell."""
    known = _TRUTH.get(value.strip().lower()) if isinstance(value, str) else value
    if known is None and isinstance(value, str) and value.strip():
        raise BadRegistration("google_services must be true or false")
    if known is not None and not isinstance(known, bool):
        raise BadRegistration("google_services must be true or false")
    return known


def _moment(value: Any) -> datetime:
    """A moment in ISO 8601, or in epoch seconds or milliseconds."""
    try:
        if isinstance(value, str) and not value.replace(".", "", 1).isdigit():
            moment = datetime.fromisoformat(value)
            # Now, while a moment that is none in UTC (the first hours of the year 1) can be refused.
            return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
        seconds = float(value)
        return datetime.fromtimestamp(seconds / 1_000 if seconds > 1e11 else seconds, UTC)
    except (ValueError, TypeError, OverflowError, OSError):
        raise BadRegistration("last_active must be a moment like 2026-11-25T13:00:00Z") from None


def _profile(tags: Any, attributes: Any) -> dict[str, Any] | None:
    if tags is None and attributes is None:
        return None
    profile: dict[str, Any] = {}
    if tags is not None:
        profile["tags"] = _tags(tags)
    if attributes is not None:
        profile["attributes"] = _attributes(attributes)
    return profile


def _tags(value: Any) -> list[str]:
    """A list of texts; from a file's cell a JSON list, or words apart by | or commas."""
    if isinstance(value, str):
        value = _json(value, "tags") if value.startswith("[") else re.split(r"[|,]", value)
    if not isinstance(value, list) or not all(isinstance(tag, str) for tag in value):
        raise BadRegistration("tags must be a list of texts")
    tags = sorted({tag.strip() for tag in value} - {""})
    if len(tags) > MAX_TAGS or not all(_TAG.fullmatch(tag) for tag in tags):
        raise BadRegistration(f"tags must be {MAX_TAGS} texts at most, of 1 to 100 characters")
    return tags


def _attributes(value: Any) -> dict[str, Any]:
    if isinstance(value, str):
        value = _json(value, "attributes")
    if not isinstance(value, dict):
        raise BadRegistration("attributes must be an object")
    try:
        text = orjson.dumps(value)
    except (TypeError, ValueError):
        raise BadRegistration("attributes hold something that is no JSON") from None
    if len(text) > ATTRIBUTES_BYTES:
        raise BadRegistration(f"attributes are larger than {ATTRIBUTES_BYTES} bytes")
    if b"\\u0000" in text:  # PostgreSQL's text cannot hold it
        raise BadRegistration("attributes hold a NUL character")
    return value


def _json(text: str, field: str) -> Any:
    try:
        return orjson.loads(text)
    except ValueError:
        raise BadRegistration(f"{field} is not JSON") from None


def _quoted(word: Any) -> str:
    return repr(str(word)[:64])
