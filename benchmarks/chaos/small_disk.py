"""A small disk for the ledger: a tablespace on a file system of its own that can be filled to the last page.

What is written there is refused cleanly when no room is left ("could not extend file"), as on any volume that
holds the tables and not the write-ahead log. Needs the right to mount (root); without it nothing is tried.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import asyncpg

from benchmarks.chaos.scene import Scene
from benchmarks.chaos.tally import MOVES_SECONDS, ROOM_SECONDS
from tests.support.stack import Stack

NAME: Final = "small_disk"
PIECE: Final = bytes(65_536)
ROOM_BYTES: Final = 64 << 20
DEVICE_BYTES: Final = 2_048  # of room for a device, over the pushes of an act
DEAD: Final = {"provider": "apns", "status": 410, "reason": "Unregistered", "share": 0.2}
# What grows while a push is frozen and sent: its rows, and the queue of dead registrations.
GROWING: Final = """
select inhrelid::regclass::text from pg_inherits where inhparent = 'delivery'::regclass
union all select 'retire'
"""


class SmallDisk:
    """The file system, and the ballast that fills it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._ballast = place / "ballast"

    def fill(self) -> int:
        """Leave no room for one more page; how many bytes that took."""
        taken = 0
        with self._ballast.open("wb", buffering=0) as file, suppress(OSError):
            while True:
                taken += file.write(PIECE)
        return taken

    def make_room(self) -> None:
        """Take the ballast away."""
        self._ballast.unlink(missing_ok=True)


@asynccontextmanager
async def running_small_disk(
    stack: Stack, phones: int, say: Callable[[str], None]
) -> AsyncIterator[SmallDisk | None]:
    """Put what grows on a small disk, and back at the end. None: this user may not mount a file system."""
    with tempfile.TemporaryDirectory(prefix="clarion-disk-") as name:
        place = Path(name)
        if not await asyncio.to_thread(_mount, place, ROOM_BYTES + phones * DEVICE_BYTES):
            say("full disk: left out, only root may mount a file system")
            yield None
            return
        disk = SmallDisk(place)
        try:
            await _move_in(stack, place)
            yield disk
        finally:
            disk.make_room()
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):  # it may be gone already
                await _move_out(stack)
            await asyncio.to_thread(_unmount, place)


def _mount(place: Path, size: int) -> bool:
    place.chmod(0o755)  # PostgreSQL's user must get through
    words = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", str(place)]
    return os.geteuid() == 0 and subprocess.run(words, check=False, capture_output=True).returncode == 0


def _unmount(place: Path) -> None:
    subprocess.run(["umount", "-l", str(place)], check=True)


def _directory(place: Path, like: int) -> Path:
    """A directory that belongs to the user of this process."""
    owner, made = Path(f"/proc/{like}").stat(), place / "tables"
    made.mkdir()
    os.chown(made, owner.st_uid, owner.st_gid)
    return made


async def _move_in(stack: Stack, place: Path) -> None:
    tables = await asyncio.to_thread(_directory, place, stack.pids("postgres")["postgres"])
    async with stack.database() as db:
        await db.execute(f"create tablespace {NAME} location '{tables}'")
        await _move(db, NAME)


async def _move_out(stack: Stack) -> None:
    async with stack.database() as db:
        await _move(db, "pg_default")
        await db.execute(f"drop tablespace {NAME}")


async def _move(db: asyncpg.Connection[asyncpg.Record], where: str) -> None:
    for row in await db.fetch(GROWING):
        await db.execute(f"alter table {row[0]} set tablespace {where}")


# ---- the troubles


async def no_room_to_freeze(scene: Scene) -> None:
    """The push was started on a full disk: paused with the reason; with room and `resume` it goes on."""
    await _store_full(scene, "no room to freeze the audience")


async def no_room_for_answers(scene: Scene) -> None:
    """Answers need rows that have no room: paused with the reason, nothing of them is lost."""
    disk = scene.disk
    assert disk is not None
    number = (await scene.stack.sandbox("POST", "/faults", DEAD))["numbers"][0]
    disk.fill()
    await _store_full(scene, "no room for what answers write", number)


async def _store_full(scene: Scene, what: str, fault: int | None = None) -> None:
    disk = scene.disk
    assert disk is not None
    waited = await _until_paused(scene)
    scene.say(f"{what}: paused, store full, after {waited:.1f} s")
    disk.make_room()
    if fault is not None:
        await scene.stack.sandbox("DELETE", f"/faults/{fault}")
    at = time.time()
    async with scene.push.handle() as push:
        await push.resume()
    seconds = await scene.moves(what, ROOM_SECONDS, since=at)
    scene.tally.full_disks += 1
    scene.tally.time("room", seconds, ROOM_SECONDS)
    scene.say(f"  room and resume: it goes on after {seconds:.1f} s")


async def _until_paused(scene: Scene) -> float:
    began = time.time()
    while (seconds := time.time() - began) <= MOVES_SECONDS:
        shown = await scene.push.shown()
        if str(shown.get("hold_reason")).startswith("store full"):
            break
        await asyncio.sleep(0.2)
    scene.tally.hold(seconds <= MOVES_SECONDS, "a full disk did not pause the push")
    return seconds
