"""What `make chaos` relies on: the proxy does to a line what it says, and a broken bound is written down."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from benchmarks.chaos.proxy import Proxy
from benchmarks.chaos.tally import Caught, Tally
from tests.support.judge import Account

REQUEST = bytes(200)  # long enough to be one


@asynccontextmanager
async def echo() -> AsyncIterator[Proxy]:
    """A proxy before a server that sends everything back."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1_000):
            writer.write(data)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy:
        yield proxy


async def connected(proxy: Proxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A client that has had one answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    writer.write(REQUEST)
    await reader.readexactly(len(REQUEST))
    return reader, writer


async def test_what_is_held_arrives_late_and_what_is_dropped_never() -> None:
    """Held bytes pass when the line is mended; a line that has lost bytes is reset then."""
    async with echo() as proxy:
        reader, writer = await connected(proxy)
        proxy.hold()
        writer.write(REQUEST)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.1)
        proxy.mend()
        await reader.readexactly(len(REQUEST))
        proxy.drop()
        writer.write(REQUEST)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.readexactly(1), 0.1)
        proxy.mend()

        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        assert proxy.lost_bytes == len(REQUEST)


async def test_a_slow_line_still_tells_when_a_request_entered_it() -> None:
    """The bytes arrive a delay later; `requested_at` is when they were handed over."""
    async with echo() as proxy:
        reader, writer = await connected(proxy)
        proxy.slow(delay=0.2)
        handed_over = time.time()
        writer.write(REQUEST)
        await reader.readexactly(len(REQUEST))

        assert time.time() - handed_over >= 0.4
        assert 0 <= proxy.requested_at - handed_over < 0.2


async def test_a_refusing_line_resets_the_old_and_the_new() -> None:
    """Whoever is connected is thrown out, and nobody comes in."""
    async with echo() as proxy:
        reader, _ = await connected(proxy)
        proxy.refuse()

        with pytest.raises(ConnectionResetError):
            await reader.readexactly(1)
        with pytest.raises((ConnectionResetError, asyncio.IncompleteReadError)):
            await connected(proxy)


def judged(**found: int) -> Account:
    """An account in which file, ledger and log agree, but for what was found."""
    account = Account()
    account.devices = account.audience = 100
    account.states = {"accepted": 100}
    for name, value in found.items():
        setattr(account, name, value)
    return account


@pytest.mark.parametrize(
    ("found", "broken"),
    [
        ({}, 0),
        ({"lost": 1}, 1),
        ({"phantom": 1}, 1),
        ({"audience": 99}, 2),
        ({"redo": 1_000, "duplicates": 1_000}, 0),
        ({"redo": 1_001}, 1),
        ({"redo": 10, "maybe": 5, "duplicates": 16}, 1),
        ({"states": {"accepted": 99, "in_doubt": 1}}, 1),
    ],
)
def test_a_bound_that_does_not_hold_is_written_down(found: dict[str, int], broken: int) -> None:
    """One sender was killed: what was seen against each bound, and the last line."""
    tally = Tally()

    tally.judged(judged(**found), [Caught(200, 9_000.0)], once=False, all_answered=True)

    assert len(tally.broken) == broken
    lost, duplicates = found.get("lost", 0), found.get("duplicates", 0)
    bound = found.get("redo", 0) + found.get("maybe", 0)
    assert f"lost={lost} duplicates={duplicates} bound={bound} " in tally.line()


def test_a_duplicate_under_at_most_once_has_its_own_count() -> None:
    """It is not allowed at all, whatever was counted as redo."""
    tally = Tally()

    tally.judged(judged(redo=5, duplicates=1), [Caught(200, 400.0)], once=True, all_answered=False)

    assert tally.line().endswith("amo_duplicates=1")
    assert tally.broken != []
