"""Which of a phone's addresses fits it, by what the phone says of itself.

The app's order of lanes decides; an address that does not fit comes after all that do. It is not left out:
what a phone says may be old, and an address that worked is better than none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Whose phones keep a vendor's push service running (android.os.Build.MANUFACTURER in lower case). Elsewhere
# its app is one like any other, and is stopped in the background. HMS was Honor's, too, until 2020.
PHONES_OF: Final = {
    "hms": ("huawei", "honor"),
    "honor": ("honor",),
    "xiaomi": ("xiaomi", "redmi", "poco", "blackshark"),
    "oppo": ("oppo", "oneplus", "realme"),
    "vivo": ("vivo", "iqoo"),
    "meizu": ("meizu",),
}


def unfit_last(providers: Mapping[int, str]) -> str:
    """The beginning of an `order by` over r (registration) and d (its device): what does not fit is last.

    `providers`: of each lane of the app. FCM needs Google services, a vendor's service a phone of its own;
    where the phone says nothing, everything fits. Aggregators fit any phone. Empty: there is no choice.
    """
    google = [lane for lane, provider in providers.items() if provider == "fcm"]
    vendors = [lane for lane, provider in providers.items() if provider in PHONES_OF]
    own = [f"{lane}:{maker}" for lane in vendors for maker in PHONES_OF[providers[lane]]]
    rules = []
    if google:
        rules.append(f"r.lane = any ({_array(google)}::smallint[]) and d.google_services is false")
    if vendors:
        rules.append(
            f"r.lane = any ({_array(vendors)}::smallint[]) and d.manufacturer is not null"
            f" and (r.lane || ':' || d.manufacturer) <> all ({_array(own)}::text[])"
        )
    if not rules or len(providers) < 2:
        return ""
    return "(" + " or ".join(f"({rule})" for rule in rules) + "), "


def _array(values: list[int] | list[str]) -> str:
    return "'{" + ",".join(map(str, values)) + "}'"
