"""The message: provider-neutral content by locale, and what each provider may be told beside it."""

from __future__ import annotations

import re
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from clarion.model.base import Model

# Language, script and region of BCP 47: what chooses a text.
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([-_][A-Za-z]{4})?([-_]([A-Za-z]{2}|[0-9]{3}))?")


class Kind(IntEnum):
    """Which of a device's registrations a push addresses: a push addresses one kind."""

    ALERT = 1
    VOIP = 2
    LIVE_ACTIVITY_START = 3
    LIVE_ACTIVITY = 4
    PUSH_TO_TALK = 5
    WIDGETS = 6
    CONTROLS = 7
    LOCATION = 8
    COMPLICATION = 9
    FILE_PROVIDER = 10
    MDM = 11


class PushType(StrEnum):
    """Apple's push types; other providers know `alert` and `background` only."""

    ALERT = "alert"
    BACKGROUND = "background"
    VOIP = "voip"
    LIVE_ACTIVITY = "liveactivity"
    PUSH_TO_TALK = "pushtotalk"
    WIDGETS = "widgets"
    CONTROLS = "controls"
    LOCATION = "location"
    COMPLICATION = "complication"
    FILE_PROVIDER = "fileprovider"
    MDM = "mdm"


class Text(Model):
    """What a person reads, in one language. `{{ user.name }}` and `{{ user.name | default: "you" }}` are
    replaced by the user's attributes."""

    title: str | None = None
    subtitle: str | None = None
    body: str | None = None


_Number = Annotated[int, Field(ge=0, strict=True)]
_Step = Annotated[str, StringConstraints(pattern=r"^\+[1-9][0-9]{0,3}$")]


def badge_step(badge: int | str | None) -> int:
    """What an increment adds to the number of every phone; 0: the badge is none."""
    return int(badge) if isinstance(badge, str) else 0


class Action(Model):
    """A button of a Web Push notification."""

    action: str
    title: str
    url: str | None = None


class ApnsOptions(Model):
    """What only APNs understands."""

    push_type: PushType = PushType.ALERT
    event: str | None = None  # Live Activity: start | update | end
    content_state: dict[str, Any] | None = None
    attributes_type: str | None = None
    attributes: dict[str, Any] | None = None
    stale_date: int | None = None  # epoch seconds
    dismissal_date: int | None = None
    timestamp: int | None = None
    interruption_level: str | None = Field(default=None, pattern="^(passive|active|time-sensitive|critical)$")
    relevance_score: float | None = None
    mutable_content: bool | None = None
    content_available: bool | None = None
    target_content_id: str | None = None
    priority: int | None = None  # 10 | 5 | 1; else from the message's urgency
    aps: dict[str, Any] = {}  # more keys of the aps dictionary, as Apple spells them
    push_magic: str | None = None  # MDM


class FcmOptions(Model):
    """What only FCM understands; dictionaries are spelled as in Google's HTTP v1 reference."""

    android: dict[str, Any] = {}
    apns: dict[str, Any] = {}
    webpush: dict[str, Any] = {}
    channel_id: str | None = None
    analytics_label: str | None = Field(default=None, pattern=r"^[a-zA-Z0-9\-_.~%]{1,50}$")
    data_only: bool = False


class WebPushOptions(Model):
    """What only a browser understands."""

    icon: str | None = None
    badge: str | None = None
    actions: tuple[Action, ...] = ()
    require_interaction: bool | None = None
    silent: bool | None = None


class Classification(StrEnum):
    """What Chinese vendors want to know of a message: they count and show marketing apart."""

    SERVICE = "service"  # something the person waits for: a message, an order, an account
    MARKETING = "marketing"


class HmsOptions(Model):
    """What only Huawei understands; `android` and `notification` are spelled as in its own reference."""

    category: str | None = Field(
        default=None, pattern=r"^[A-Z_]{1,32}$"
    )  # of a service message: IM, TRAVEL …
    channel_id: str | None = None
    receipt_id: str | None = None  # which of the console's receipt configurations is used
    test: bool = False  # a test message: 500 a day and app
    android: dict[str, Any] = {}  # laid over message.android (v1, v2)
    notification: dict[str, Any] = {}  # laid over the notification (v3: payload.notification)


class XiaomiOptions(Model):
    """What only Xiaomi understands."""

    channel_id: str | None = None  # decides between private and public messages
    extra: dict[str, str] = {}  # further fields extra.…, without that prefix


class OppoOptions(Model):
    """What only OPPO understands; `notification` is spelled as in its own reference."""

    channel_id: str | None = None
    category: str | None = None
    notify_level: int | None = None  # 1 bar, 2 and lock screen, 16 and banner …; needs a category
    notification: dict[str, Any] = {}


class VivoOptions(Model):
    """What only vivo understands."""

    category: str | None = Field(default=None, pattern=r"^[A-Z_]{1,32}$")
    test: bool = False  # only to the console's test devices
    message: dict[str, Any] = {}  # laid over the message


class JPushOptions(Model):
    """What only JPush understands; dictionaries are spelled as in its own reference and laid over ours."""

    channel_id: str | None = None  # of Android's notifications
    android: dict[str, Any] = {}
    ios: dict[str, Any] = {}
    hmos: dict[str, Any] = {}
    options: dict[str, Any] = {}  # also third_party_channel, override_msg_id …


class GetuiOptions(Model):
    """What only Getui understands; dictionaries are spelled as in its own reference and laid over ours."""

    channel_id: str | None = None  # of Android's notifications
    settings: dict[str, Any] = {}
    notification: dict[str, Any] = {}
    ios: dict[str, Any] = {}
    options: dict[str, Any] = {}  # android.ups.options: what each phone's maker is told, by HW, XM, OP, VV …


class UmengOptions(Model):
    """What only Umeng understands; dictionaries are spelled as in its own reference."""

    mi_activity: str | None = None  # the activity that the makers' channels open; turns `mipush` on
    channel_properties: dict[str, Any] = {}  # what the makers' channels are told
    body: dict[str, Any] = {}  # laid over Android's payload.body
    aps: dict[str, Any] = {}  # laid over aps


class HonorOptions(Model):
    """What only Honor understands; `android` and `notification` are spelled as in its own reference."""

    test: bool = False  # a test message: 1000 a day
    android: dict[str, Any] = {}  # laid over android
    notification: dict[str, Any] = {}  # laid over android.notification


class MeizuOptions(Model):
    """What only Meizu understands; `message` is spelled as in its own reference."""

    message: dict[str, Any] = {}  # laid over messageJson


class Message(Model):
    """Content of a push. `texts` is keyed by a BCP 47 language tag, or `default`.

    A device's locale is looked up from the most special to the general (zh-Hant-TW → zh-Hant → zh), then
    `default`. A message without any text is silent: data only.
    """

    texts: dict[str, Text] = {}
    badge: _Number | _Step | None = None  # a number for all, 0 clears it; "+n": each phone's own goes up by n
    sound: str | dict[str, Any] | None = None
    category: str | None = None
    thread_id: str | None = None
    image: str | None = None
    data: dict[str, Any] = {}
    deep_link: str | None = None
    collapse: str | None = None  # what replaces what on the device; absent: the push's own key
    ttl: int | None = Field(default=None, ge=0, le=2_419_200)  # seconds; 0 = now or never; 28 days at most
    apns: ApnsOptions = ApnsOptions()
    fcm: FcmOptions = FcmOptions()
    webpush: WebPushOptions = WebPushOptions()
    classification: Classification | None = None  # absent: marketing, which nobody is punished for
    hms: HmsOptions = HmsOptions()
    xiaomi: XiaomiOptions = XiaomiOptions()
    oppo: OppoOptions = OppoOptions()
    vivo: VivoOptions = VivoOptions()
    jpush: JPushOptions = JPushOptions()
    getui: GetuiOptions = GetuiOptions()
    umeng: UmengOptions = UmengOptions()
    honor: HonorOptions = HonorOptions()
    meizu: MeizuOptions = MeizuOptions()

    @field_validator("collapse")
    @classmethod
    def _collapse_fits(cls, value: str | None) -> str | None:
        # Apple's limit is in bytes, and nothing is ever cut: a cut key would collapse strangers.
        if value is not None and not 0 < len(value.encode()) <= 64:
            raise ValueError("collapse is 1 to 64 bytes long (UTF-8), as apns-collapse-id allows")
        return value

    @model_validator(mode="after")
    def _texts_have_a_default(self) -> Self:
        for language in self.texts:
            if language != "default" and not _LANGUAGE.fullmatch(language):
                raise ValueError(
                    f"texts has {language[:40]!r}: give a language tag like en, zh-Hant or pt-BR"
                )
        if self.texts and "default" not in self.texts:
            raise ValueError("texts needs an entry 'default' for devices whose language has none")
        return self

    def size(self) -> int:
        """Bytes of its canonical JSON."""
        return len(self.model_dump_json(exclude_defaults=True).encode())

    def reference(self) -> str:
        """What the stored content is called: the same message has the same name."""
        return f"content:{self.digest().hex()}"

    @property
    def silent(self) -> bool:
        """No text: the app is woken, nothing is shown."""
        return not self.texts
