"""A sender process for tests of attempts: a real store and window, a sender that answers as it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from clarion.model.audience import Audience
from clarion.model.message import Message, Text
from clarion.model.spec import PushSpec
from clarion.process import SenderProcess
from clarion.senders.outcome import ACCEPTED, Outcome
from clarion.senders.sender import Answered, PushFacts
from clarion.store import push as pushes
from clarion.store.database import Database
from clarion.store.locales import Locales
from clarion.store.reasons import Reasons

MESSAGE = Message(texts={"default": Text(title="Hello", body="there")})


@dataclass
class Prepared:
    """A message that needs no rendering; remembers which one it is, and for which push."""

    message: Message
    push: PushFacts
    needs_values: bool = False
    needs_badge: bool = False


@dataclass
class Sent:
    """One request that left."""

    at: float
    registration_no: int
    prepared: Prepared
    answered: bool = False


class ScriptedSender:
    """Answers each request after `delay` seconds with what `script` says of its registration."""

    provider = "scripted"

    def __init__(self) -> None:
        self.delay = 0.001
        self.script: Callable[[int, int], Outcome] = lambda registration_no, times: ACCEPTED
        self.sent: list[Sent] = []
        self.first = asyncio.Event()
        self.in_flight = 0
        self.most_in_flight = 0
        self._times: dict[int, int] = {}

    def prepare(self, push: PushFacts, message: Message) -> Prepared:
        """Nothing to compile."""
        return Prepared(message, push)

    def post(
        self,
        prepared: Any,
        key: int,
        registration_no: int,
        token: str,
        locale: str,
        variant: int,
        values: Mapping[str, Any] | None,
        answered: Answered,
    ) -> None:
        """Note the request and answer it later."""
        loop = asyncio.get_running_loop()
        sent = Sent(loop.time(), registration_no, prepared)
        self.sent.append(sent)
        self.first.set()
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        times = self._times[registration_no] = self._times.get(registration_no, 0) + 1
        loop.call_later(self.delay, self._answer, sent, key, registration_no, times, answered)

    def _answer(self, sent: Sent, key: int, registration_no: int, times: int, answered: Answered) -> None:
        self.in_flight -= 1
        sent.answered = True
        answered(key, self.script(registration_no, times))

    def room(self) -> int:
        """Always."""
        return 1_000

    def flush(self) -> None:
        """Everything has left."""

    def when_room(self, wake: Callable[[], None]) -> Callable[[], None]:
        """There is always room."""
        return lambda: None

    def waiting(self) -> str | None:
        """For nothing."""
        return None

    async def close(self) -> None:
        """Nothing is open."""


class OneSender:
    """Where the process gets its sender from: always the same."""

    def __init__(self, sender: ScriptedSender) -> None:
        self.sender = sender

    async def get(self, app_no: int, lane: int) -> ScriptedSender:
        """The sender."""
        return self.sender

    async def close(self) -> None:
        """Nothing is open."""


class FreeTap:
    """A share of an unlimited lane."""

    cooling = False

    def want(self, rate: float, rows_left: int) -> None:
        """Heard."""

    def allowed(self, n: int) -> int:
        """All."""
        return n

    def give_back(self, n: int) -> None:
        """Thanks."""

    @property
    def ready(self) -> bool:
        """Always."""
        return True

    def next_in(self) -> float:
        """At once."""
        return 0.0

    def pace(self) -> float:
        """No limit."""
        return float("inf")

    def close(self) -> None:
        """Done."""


class PacedTap(FreeTap):
    """A share of so many sends a second, a tenth of a second at once."""

    def __init__(self, rate: float) -> None:
        self._rate, self._clock = rate, asyncio.get_running_loop().time
        self._taken, self._began = 0, self._clock()

    def allowed(self, n: int) -> int:
        """What its time has brought and nobody has taken."""
        brought = self._rate * (self._clock() - self._began)
        self._taken = max(self._taken, int(brought - self._rate / 10))
        granted = min(n, int(brought) - self._taken)
        self._taken += granted
        return granted

    def give_back(self, n: int) -> None:
        """They were not needed."""
        self._taken -= n

    @property
    def ready(self) -> bool:
        """Whether a permit has come that nobody has taken."""
        return int(self._rate * (self._clock() - self._began)) > self._taken

    def next_in(self) -> float:
        """One permit."""
        return 1 / self._rate

    def pace(self) -> float:
        """The rate."""
        return self._rate


class FreePermits:
    """Permits without a limit, unless `rate` is set; remembers what was heard."""

    def __init__(self) -> None:
        self.good = self.bad = self.throttled = 0
        self.rate: float | None = None  # sends a second of each tap

    def open(self, lane_key: str, push_no: int, urgent: bool) -> FreeTap:
        """A tap that lets everything through, or so much a second."""
        return FreeTap() if self.rate is None else PacedTap(self.rate)

    def heard(self, lane_key: str, good: int, bad: int, throttled: int, retry_after: float) -> None:
        """Count answers."""
        self.good += good
        self.bad += bad
        self.throttled += throttled


def full_disk(table: str) -> str:
    """SQL for a table that has no room for one more row, until its trigger `full_disk` is dropped."""
    return f"""
    create function full_disk() returns trigger language plpgsql as
      $$ begin raise exception 'could not extend file' using errcode = '53100'; end $$;
    create trigger full_disk before insert on {table} for each row execute function full_disk();
    """


class Bench:
    """An app with one lane and some phones, a push frozen over them, and a process to send it with."""

    def __init__(self, db: Database, process: SenderProcess, sender: ScriptedSender, permits: FreePermits):
        self.db, self.process, self.sender, self.permits = db, process, sender, permits
        self._ids = count()

    @classmethod
    async def make(cls, db: Database, phones: int) -> Bench:
        """The app `bench` with `phones` users of one phone each."""
        await db.execute("insert into app (name) values ('bench')")
        await db.execute(
            "insert into credential (app_no, lane, name, provider)"
            " select app_no, 1, 'one', 'scripted' from app"
        )
        await db.execute(
            "insert into usr (app_no, user_id) select app_no, 'u' || n from app, generate_series(1, $1) n",
            phones,
        )
        await db.execute(
            "insert into device (app_no, installation, user_no, platform)"
            " select app_no, gen_random_uuid(), user_no, 1 from usr"
        )
        await db.execute(
            "insert into registration (device_no, user_no, app_no, lane, token)"
            " select device_no, user_no, app_no, 1, 't' || device_no from device"
        )
        sender, permits = ScriptedSender(), FreePermits()
        process = SenderProcess(
            db,
            OneSender(sender),
            permits,  # type: ignore[arg-type]  # as much of Permits as an attempt uses
            1,
            await Reasons.load(db),
            await Locales.load(db),
        )
        return cls(db, process, sender, permits)

    async def push(self, **more: Any) -> tuple[int, list[int]]:
        """A push to everybody, frozen: its number and its batches."""
        spec = PushSpec(app="bench", message=MESSAGE, audience=Audience(everybody=True), **more)
        opened = await pushes.open_push(self.db, spec, f"p{next(self._ids)}")
        plan = await pushes.plan(self.db, opened.push_no)
        for range_no in range(plan.ranges):
            await pushes.freeze(self.db, opened.push_no, range_no)
        rows = await self.db.fetch(
            "select batch from batch where push_no = $1 order by batch", opened.push_no
        )
        return opened.push_no, [row["batch"] for row in rows]

    async def counts(self, push_no: int) -> dict[str, int]:
        """The push's counters that are not 0, over all lanes."""
        rows = await self.db.fetch("select * from push_counts where push_no = $1", push_no)
        sums: dict[str, int] = {}
        for row in rows:
            for name, value in row.items():
                if name not in ("push_no", "lane") and value:
                    sums[name] = sums.get(name, 0) + int(value)
        return sums
