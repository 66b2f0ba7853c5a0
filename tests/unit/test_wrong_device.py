"""The 30 % rule watches exactly the answers that the classify tables call suspect and that retire."""

from __future__ import annotations

from clarion.senders import (
    apns_answers,
    fcm_answers,
    getui_answers,
    hms_answers,
    honor_answers,
    jpush_answers,
    meizu_answers,
    oppo_answers,
    umeng_answers,
    vivo_answers,
    xiaomi_answers,
)
from clarion.senders.outcome import WRONG_DEVICE


def test_the_reasons_watched_are_those_of_the_tables() -> None:
    """A code that a table learns later is not forgotten here."""
    tables = (
        apns_answers.TABLE,
        fcm_answers.TABLE,
        hms_answers.TABLE,
        hms_answers.REASONS,
        xiaomi_answers.TABLE,
        oppo_answers.TABLE,
        vivo_answers.TABLE,
        jpush_answers.TABLE,
        getui_answers.TABLE,
        umeng_answers.TABLE,
        umeng_answers.ALONE,
        honor_answers.TABLE,
        meizu_answers.TABLE,
        meizu_answers.TARGETS,
        vivo_answers.USERS,
    )
    outcomes = [*(one for table in tables for one in table.values()), fcm_answers.INVALID_TOKEN]
    outcomes += [jpush_answers.UNKNOWN_ALONE, getui_answers.UNKNOWN_ALONE]

    assert {one.reason for one in outcomes if one.suspect and one.retire} == set(WRONG_DEVICE)
