"""What must not grow in a stack that is only used: memory, connections, handles, dead tuples, backlog."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client

from clarion import names
from tests.support.stack import Stack

GROWN: Final = 1.1  # times the early mean
EARLY: Final = (300.0, 600.0)  # seconds after the start
LATE: Final = 300.0  # seconds before the end
OURS: Final = ("control", "sender")  # the kinds of process whose memory and handles are looked at
DATABASE: Final = """
select
  (select count(*) from pg_stat_activity where datname = current_database())::float as connections,
  (select coalesce(sum(n_dead_tup), 0) from pg_stat_user_tables)::float as dead_tuples
"""
# Below these a tenth more is nothing: a sample catches one statement, or one task, more or less.
NOTHING: Final[Mapping[str, float]] = {
    "memory, MB": 10.0,
    "connections": 3.0,
    "file handles": 5.0,
    "dead tuples": 5_000.0,
    "backlog": 20.0,
}


@dataclass
class Gauges:
    """Samples of one run, by the second."""

    began: float = field(default_factory=time.monotonic)
    samples: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    async def sample(self, stack: Stack, client: Client) -> dict[str, float]:
        """Look at everything once."""
        pids = [pid for name, pid in stack.facts["pids"].items() if name.startswith(OURS)]
        async with stack.database() as db:
            row = await db.fetchrow(DATABASE)
        assert row is not None
        seen = {
            "memory, MB": max((_resident(pid) for pid in pids), default=0.0),
            "connections": float(row["connections"]),
            "file handles": float(max((_handles(pid) for pid in pids), default=0)),
            "dead tuples": float(row["dead_tuples"]),
            "backlog": float(await _backlog(client)),
        }
        at = time.monotonic() - self.began
        for name, value in seen.items():
            self.samples.setdefault(name, []).append((at, value))
        return seen

    def mean(self, name: str, first: float, last: float) -> float | None:
        """The mean of the samples between two seconds; None when there are none."""
        return _mean(self.samples.get(name, ()), lambda at: first <= at < last)

    def growth(self, length: float) -> dict[str, tuple[float, float]]:
        """Of each gauge the early and the late mean of a run of so many seconds.

        Early is minutes 5 to 10, late the last five; of a run under half an hour, the same shares of it.
        """
        share = min(1.0, length / 1_800.0)
        first, last = (second * share for second in EARLY)
        found: dict[str, tuple[float, float]] = {}
        for name in self.samples:
            early, late = self.mean(name, first, last), self.mean(name, length - LATE * share, float("inf"))
            if early is not None and late is not None:
                found[name] = early, late
        return found


def grown(growth: Mapping[str, tuple[float, float]]) -> list[str]:
    """The gauges that are more than a tenth higher at the end, a few words each."""
    return [
        f"{name} {early:,.0f}→{late:,.0f}"
        for name, (early, late) in growth.items()
        if late > GROWN * early and late - early > NOTHING[name]
    ]


def _mean(samples: Sequence[tuple[float, float]], chosen: Callable[[float], bool]) -> float | None:
    values = [value for at, value in samples if chosen(at)]
    return statistics.fmean(values) if values else None


def _resident(pid: int) -> float:
    """MB of memory that a process holds now; 0 of one that is gone."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except OSError:
        return 0.0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _handles(pid: int) -> int:
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


async def _backlog(client: Client) -> int:
    """Tasks of workflows that wait for a control process."""
    asked = DescribeTaskQueueRequest(
        namespace=client.namespace,
        task_queue=TaskQueue(name=names.CONTROL_QUEUE),
        task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
        report_stats=True,
    )
    answer = await client.workflow_service.describe_task_queue(asked)
    return int(answer.stats.approximate_backlog_count)
