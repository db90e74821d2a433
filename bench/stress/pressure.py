"""Which resource is at its limit while a window runs: processors, disk, locks, or the load generator."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection

from bench.load.failures import DATABASE_ERRORS
from bench.measuring.resources import machine_cpu
from bench.stress.crowd import CrowdRun

_EVERY_S = 0.05
_BUSY = 0.9
"""Share of all processors from which on they are the limit."""
_ONE_CORE = 0.85
"""Share of one processor from which on a process of Python, whose threads take turns, is the limit."""
_MOSTLY = 0.5
"""Share of the waiting transactions that a reason must have to be named."""

_WAITS = """
SELECT coalesce(wait_event_type || '/' || wait_event, 'CPU'), count(*) FROM pg_stat_activity
WHERE state = 'active' AND backend_type = 'client backend' AND datname = current_database()
    AND pid <> pg_backend_pid()
GROUP BY 1"""

_KINDS = {
    "CPU": "processor time of the backends",
    "Lock": "row locks",
    "IO": "the disk",
    "LWLock/WALWrite": "the disk",  # commits wait for one that flushes the log for all
    "LWLock/WALInsert": "the lock of the write-ahead log",
    "LWLock": "locks inside the server",
    "IPC": "other server processes",
    "Client": "the load generator",
}
"""By the start of the wait event, the longest that fits."""


@dataclass
class Pressure:
    """What was at its limit in a window."""

    waits: dict[str, int] = field(default_factory=dict)
    """Samples of active backends by wait event; CPU: it waits for nothing."""
    machine_busy: float = 0.0
    """Share of all processors of this machine."""
    cores: int = 1
    generator_cores: float = 0.0
    generator_busiest: float = 0.0
    """Of the load generator's processes, the busiest, as a share of a core."""

    @property
    def is_generators(self) -> bool:
        """Whether the load generator could not do more: one process of it is full, or it uses more than
        half of a machine that is full."""
        if self.generator_busiest > _ONE_CORE:
            return True
        return self.machine_busy > _BUSY and self.generator_cores > self.cores / 2

    @property
    def cause(self) -> str:
        """In words, the same for the same resource."""
        if self.is_generators:
            return "the load generator"
        if self.machine_busy > _BUSY:
            return "the processors"
        kinds: Counter[str] = Counter()
        for event, count in self.waits.items():
            kinds[_kind_of(event)] += count
        kind, most = max(kinds.items(), key=lambda item: item[1], default=("", 0))
        if most > _MOSTLY * sum(kinds.values()):
            return kind
        return "none at its limit by itself"

    @property
    def in_words(self) -> str:
        """How the processors were shared."""
        others = self.machine_busy * self.cores - self.generator_cores
        return (
            f"{self.machine_busy:.0%} of {self.cores} cores busy, the generator {self.generator_cores:.1f} of"
            f" them (its busiest process {self.generator_busiest:.0%} of one), others {max(0.0, others):.1f}"
        )

    def to_json(self) -> dict[str, Any]:
        return {
            "cause": self.cause,
            "in_words": self.in_words,
            "is_generators": self.is_generators,
            "machine_busy_share": round(self.machine_busy, 3),
            "cores": self.cores,
            "generator_cores": round(self.generator_cores, 3),
            "generator_busiest_share": round(self.generator_busiest, 3),
            "waits": self.waits,
        }


class Watch:
    """Samples while a window runs; asked for its `pressure` afterwards."""

    def __init__(self, monitor: Connection[Any]) -> None:
        self._monitor = monitor
        self._waits: Counter[str] = Counter()
        self._over = threading.Event()
        self._busy_s = self._total_s = 0.0

    def pressure(self, run: CrowdRun) -> Pressure:
        """What was at its limit, with what the crowd says of itself."""
        busy = self._busy_s / self._total_s if self._total_s else 0.0
        return Pressure(dict(self._waits), busy, os.cpu_count() or 1, run.cores, run.busiest)

    def sample(self) -> None:
        """Until it is told to stop, or cannot."""
        before = machine_cpu()
        while not self._over.wait(_EVERY_S):
            try:
                for event, count in self._monitor.execute(_WAITS):
                    self._waits[event] += count
            except DATABASE_ERRORS:
                break  # what broke the server is told by the attempts
        after = machine_cpu()
        self._busy_s, self._total_s = after.busy_s - before.busy_s, after.total_s - before.total_s

    def stop(self) -> None:
        self._over.set()


@contextmanager
def watched(monitor: Connection[Any]) -> Iterator[Watch]:
    """Sample what backends wait for, and the processors, meanwhile; the connection is used by nobody else."""
    watch = Watch(monitor)
    thread = threading.Thread(target=watch.sample, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.stop()
        thread.join()


def _kind_of(event: str) -> str:
    fitting = [start for start in _KINDS if event.startswith(start)]
    return _KINDS[max(fitting, key=len)] if fitting else "waits of the server"
