"""A release takes over what runs: today's workflow code decides as it did in every recorded history.

`make histories` records them, when a change of the workflows is meant (docs/changing-workflows.md).
"""

from __future__ import annotations

import getpass
import re
import socket
from pathlib import Path

import pytest
from temporalio.api.enums.v1 import EventType
from temporalio.worker import Replayer
from temporalio.workflow import NondeterminismError

from tests.support import histories
from tests.support.recording import SCENARIOS
from tests.support.reordered import Reordered

FILES = sorted(histories.PLACE.glob("*.json"))
ENDS = {
    f"EVENT_TYPE_WORKFLOW_EXECUTION_{end}"
    for end in ("COMPLETED", "FAILED", "CANCELED", "TERMINATED", "CONTINUED_AS_NEW")
}
# What tells a machine or a person: process@host, paths, the name of this one.
TELLING = re.compile(
    "|".join(
        [
            *(r"\d+@\w", "/(root|home|tmp|var|usr|opt|work)/", "site-packages", "-----BEGIN"),
            *(re.escape(word) for word in (socket.gethostname(), getpass.getuser()) if len(word) > 4),
        ]
    )
)


@pytest.fixture(scope="module")
def replayer() -> Replayer:
    """One for all: it is the sandbox that takes time."""
    return histories.replayer()


@pytest.mark.parametrize("file", FILES, ids=[file.stem for file in FILES])
async def test_recorded_histories_replay(file: Path, replayer: Replayer) -> None:
    """The same commands in the same order."""
    await replayer.replay_workflow(histories.read(file))


def test_every_way_to_go_is_recorded() -> None:
    """A history of each scenario, each end of a workflow, each activity."""
    texts = [file.read_text() for file in FILES]
    ends = {
        EventType.Name(event.event_type)
        for file in FILES
        for event in histories.read(file).events
        if EventType.Name(event.event_type) in ENDS
    }

    assert {name for name in SCENARIOS if not any(name in file.stem for file in FILES)} == set()
    assert ends == ENDS
    for activity in (
        *("open_push", "plan", "freeze", "next_work", "command", "close_push"),
        *("acquire_quota", "send_batch", "retire_registrations"),
        *("open_campaign", "advance_campaign", "command_campaign"),
        *("command_send_topic", "command_change_topic"),
    ):
        assert any(f'"name": "{activity}"' in text for text in texts), activity


def test_histories_tell_nothing_of_where_they_were_made() -> None:
    """No process number, host, person or path, and nothing that looks like a key."""
    for file in FILES:
        assert (file.name, TELLING.findall(file.read_text())) == (file.name, [])


async def test_a_reorder_of_two_activities_is_noticed() -> None:
    """What the tests above are worth: retire before send does not replay."""
    history = histories.read(histories.file_of("push/completed/b0"))

    with pytest.raises(NondeterminismError):
        await histories.replayer([Reordered]).replay_workflow(history)
