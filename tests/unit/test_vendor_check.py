"""Vendors' credentials when they are added: what is wrong is said, and no byte of a secret is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clarion.errors import BadCredential
from clarion.store import vendor_check

SECRET = "s3cr3t0fMine"
GOOD: dict[str, dict[str, Any]] = {
    "hms": {"app_id": "100000001", "client_secret": SECRET},
    "xiaomi": {"package": "com.example.app", "app_secret": SECRET},
    "oppo": {"app_key": "a1b2c3", "master_secret": SECRET},
    "vivo": {"app_id": "10004", "app_key": "a1b2c3", "app_secret": SECRET},
    "jpush": {"app_key": "a1b2c3", "master_secret": SECRET},
    "getui": {"app_id": "a1", "app_key": "b2", "master_secret": SECRET},
    "umeng": {"app_key": "a1b2c3", "app_master_secret": SECRET},
    "honor": {"app_id": "104", "client_id": "c1", "client_secret": SECRET},
    "meizu": {"app_id": "110000", "app_secret": SECRET},
}
SECRETS = {
    "hms": "client_secret",
    "xiaomi": "app_secret",
    "oppo": "master_secret",
    "vivo": "app_secret",
    "jpush": "master_secret",
    "getui": "master_secret",
    "umeng": "app_master_secret",
    "honor": "client_secret",
    "meizu": "app_secret",
}


@pytest.mark.parametrize("provider", vendor_check.VENDORS)
def test_a_good_one_is_taken(provider: str) -> None:
    """Its secret stays as it is, spaces around it aside; its topic is the app's id there; repr shows none."""
    checked = vendor_check.from_file(provider, json.dumps(GOOD[provider]))
    spaced = vendor_check.from_file(
        provider, json.dumps(GOOD[provider] | {SECRETS[provider]: f" {SECRET}\n"})
    )

    assert checked.secret[SECRETS[provider]] == spaced.secret[SECRETS[provider]] == SECRET
    assert len(checked.topics) == 1
    assert SECRET not in repr(checked)


@pytest.mark.parametrize("provider", vendor_check.VENDORS)
@pytest.mark.parametrize("value", ["", "two words", "字", "line\nbreak", 7, None, ["x"]])
def test_a_secret_of_a_wrong_shape_is_refused(provider: str, value: Any) -> None:
    """The error names the field, not what stood in it."""
    values = GOOD[provider] | {SECRETS[provider]: value}
    with pytest.raises(BadCredential) as caught:
        vendor_check.from_file(provider, json.dumps(values))

    assert "one word" in str(caught.value)
    assert not value or str(value) not in str(caught.value)


@pytest.mark.parametrize("provider", vendor_check.VENDORS)
def test_other_fields_are_checked(provider: str) -> None:
    """Every one of them: of a wrong shape, missing, or one too many; the secret is not in the words."""
    good = GOOD[provider]
    for name in good.keys() - {SECRETS[provider]}:
        for values in (good | {name: "a b\n"}, good | {name: 7.5}, {**good, name: ""}):
            with pytest.raises(BadCredential) as caught:
                vendor_check.from_file(provider, json.dumps(values))
            assert SECRET not in str(caught.value)
    for name in good:
        with pytest.raises(BadCredential, match=f"lacks {name}"):
            vendor_check.from_file(provider, json.dumps({k: v for k, v in good.items() if k != name}))
    with pytest.raises(BadCredential, match="not strange"):
        vendor_check.from_file(provider, json.dumps(good | {"strange": "x"}))
    with pytest.raises(BadCredential):
        vendor_check.from_file(provider, f"{SECRET} is no JSON")


@pytest.mark.parametrize(
    ("provider", "name", "value"),
    [
        ("jpush", "production", "true"),
        ("jpush", "cid", 0),
        ("umeng", "platform", "web"),
        ("umeng", "filecast", 1),
    ],
)
def test_what_may_be_said_besides_is_checked(provider: str, name: str, value: Any) -> None:
    """A word in quotation marks is no yes or no."""
    with pytest.raises(BadCredential, match=name):
        vendor_check.from_file(provider, json.dumps(GOOD[provider] | {name: value}))
