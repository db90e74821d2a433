"""Writers at the same moment, spread over worker processes: what they are asked, and what they did.

Each writer is a thread with a stream of its own: on the device that all share ("same" rows) or on a
device of its own ("disjoint"). They have a connection each, or share one repository and its pool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.load.machine import machine
from bench.measuring.latency import Latencies, Merged
from plcsim.config import DeviceConfig

SAME, DISJOINT = "same", "disjoint"


@dataclass(frozen=True)
class CrowdSettings:
    """The writers of one process, or of several together."""

    conninfo: str
    schema: str
    arm: str
    parameters: int
    writers: int
    first: int = 1
    """Number of the first writer: its stream, and its device where rows are disjoint."""
    pool: int = 0
    """Connections that the writers share; 0: each has its own."""
    device_lock: bool = True
    """Whether who shares a device locks its row first, where the arm can."""
    unlike_plans: bool = False
    """Whether every other session's update locks the rows in another order, as a plan may on any day."""
    deadlock_timeout: str = ""
    """Of the sessions, where they may set it; empty: the server's."""
    running: bool = True
    """Whether a process runs: then rows go into three tables."""


@dataclass(frozen=True)
class CrowdRequest:
    """One go of all writers of a process."""

    rows: str
    at_ns: int
    """When all begin, on time.perf_counter_ns: on Linux the same clock in all processes."""
    seconds: float = 0.0
    """How long they go on; 0: one transaction each."""
    up_to: int = 0
    """Every transaction stores up to this scan at least: who is behind stores several scans at once."""


@dataclass(frozen=True)
class CrowdResult:
    """What the writers of one process did in one go."""

    seconds: float
    """From the common start to the last end."""
    tried: int
    stored: int
    rows: int
    """Of history, that were stored; those too whose answer was lost."""
    last_scan: int
    """Of the stream that is ahead of the others."""
    failures: dict[str, int]
    """By class."""
    service: Latencies
    """Begin to committed, without the wait for a connection: the transaction's duration."""
    response: Latencies
    """From the common start, or from when the writer was ready, to committed."""
    pool_wait: Latencies
    failed: Latencies
    """Response of what failed."""
    pool_held_s: float
    """Connections of the pool were held so long, all together."""
    contexts: dict[str, int]
    """Where each deadlock was, as the server told the client."""


@dataclass
class CrowdTotal:
    """What all writers did, over all processes and goes."""

    connections: int
    """Of a pool that they shared; 0: none."""
    results: list[CrowdResult] = field(default_factory=list)
    seconds: float = 0.0
    """Sum of the goes."""

    def add(self, more: CrowdTotal) -> None:
        """Count what came after with it."""
        self.results += more.results
        self.seconds += more.seconds

    @property
    def tried(self) -> int:
        return sum(result.tried for result in self.results)

    @property
    def stored(self) -> int:
        return sum(result.stored for result in self.results)

    @property
    def per_second(self) -> float:
        return self.stored / self.seconds if self.seconds else 0.0

    @property
    def failures(self) -> dict[str, int]:
        return _added([result.failures for result in self.results])

    @property
    def contexts(self) -> dict[str, int]:
        return _added([result.contexts for result in self.results])

    @property
    def pool_busy(self) -> float:
        """Share of the time in which a connection of the pool was held; NaN without a pool."""
        if not self.connections or not self.seconds:
            return float("nan")
        return sum(result.pool_held_s for result in self.results) / (self.connections * self.seconds)

    def merged(self, kind: str) -> Merged:
        """Of service, response, pool_wait or failed, all in one histogram."""
        return Merged([getattr(result, kind) for result in self.results])

    def to_json(self) -> dict[str, Any]:
        """Counts and percentiles; regular metrics of every part: pool use and transaction duration."""
        return {
            "tried": self.tried,
            "stored": self.stored,
            "failures": self.failures,
            "throughput_per_s": round(self.per_second, 1),
            **{f"{kind}_us": _percentiles(self.merged(kind)) for kind in _KINDS},
            "pool_connections": self.connections,
            "pool_busy_share": self.pool_busy,
        }


_KINDS = ("service", "response", "pool_wait", "failed")


def _percentiles(merged: Merged) -> dict[str, float | int]:
    """In µs; NaN where too few lie beyond a percentile to say."""
    found: dict[str, float | int] = {"count": merged.count, "mean": merged.mean_us, "max": merged.max_us}
    return found | {f"p{percent}": merged.percentile_us(percent) for percent in (50, 95, 99)}


def _added(counts: Sequence[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total)


def crowd_configs(parameters: int, devices: int, running: bool = True) -> list[DeviceConfig]:
    """The device that all share, and one more for each of so many writers."""
    return [crowd_device(parameters, number, running) for number in range(devices + 1)]


def crowd_device(parameters: int, number: int, running: bool = True) -> DeviceConfig:
    """A writer's own device; 0 is the one that all share."""
    return machine(parameters, f"crowd-{parameters}-{number}", running)
