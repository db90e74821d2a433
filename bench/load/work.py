"""What a worker is asked and what it answers: plain values that travel between processes."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from bench.load.machine import machine
from bench.measuring.latency import Latencies, latencies_of
from plcsim.config import DeviceConfig

_NONE = latencies_of([])


def device_id_of(parameters: int) -> str:
    """The device that is the machine of so many parameters."""
    return f"bench-{parameters}"


@dataclass(frozen=True)
class WorkerSettings:
    """What a worker measures with."""

    conninfo: str
    schema: str
    repository: str
    """An arm's spec: see bench.arms.spec."""
    machines: tuple[int, ...]
    """Parameter counts; the machine of n parameters is device `device_id_of(n)`."""
    running: bool
    stream_id: int = 1
    plc: dict[int, tuple[str, int]] | None = None
    """Where the emulators of the machines listen; None: scans are made in the worker."""
    several_writers: bool = False
    """Whether several streams write the same parameters of a device."""

    def configs(self) -> list[DeviceConfig]:
        """The machines as devices."""
        return [machine(n, device_id_of(n), self.running) for n in self.machines]


@dataclass(frozen=True)
class WorkerInfo:
    """Who the worker is."""

    pid: int
    backend_pid: int
    server_is_local: bool
    backends: tuple[int, ...] = ()
    """Of all connections, where there is a pool."""


@dataclass(frozen=True)
class SlotRequest:
    """One slot: a part at saturation and a part at a fixed rate; 0 seconds leaves a part out."""

    parameters: int
    ramp_s: float = 0.1
    """Run first and thrown away."""
    saturated_s: float = 0.0
    paced_s: float = 0.0
    rate_per_s: float = 0.0
    """Transactions."""
    scans: int = 1
    """Of a transaction."""
    retries: int = 0
    """How often a transaction is tried again that may succeed later; the time counts as its own."""


@dataclass(frozen=True)
class Loop:
    """What one part of a slot did."""

    seconds: float
    transactions: int
    """Stored, at whatever try."""
    failures: dict[str, int]
    """Given up, by the value of `bench.load.failures.Failure`."""
    skipped: int
    service: Latencies
    """Of what was stored, begin to proven commit; a failure is never in here."""
    response: Latencies
    """Intended start to proven commit; empty in a closed loop, which has no intended starts."""
    wait: Latencies
    """Intended start to begin."""
    failed: Latencies = _NONE
    """Of what was given up: from its intended start in an open loop, from its begin in a closed one."""
    retried: int = 0
    """Of the stored ones, those that needed another try."""
    retries: int = 0
    """Tries that failed and were followed by another."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Failures by SQLSTATE, or by the error's name where it has none."""
    pool_wait: Latencies = _NONE
    """Wait for a connection of the pool; empty without one."""
    cpu_s: float = math.nan
    """Of the worker, pacing included."""
    backend_cpu_s: float | None = None
    """Of the PostgreSQL backends; None where they are on another machine or were replaced meanwhile."""
    by_second: tuple[tuple[float, Latencies], ...] = ()
    """(second since 1970, responses of what was due in it); of a closed loop, service times by begin."""

    @property
    def per_second(self) -> float:
        """Goodput: transactions that were stored."""
        return self.transactions / self.seconds if self.seconds else 0.0

    @property
    def tried(self) -> int:
        """All that were due: stored, given up or skipped."""
        return self.transactions + sum(self.failures.values()) + self.skipped


@dataclass(frozen=True)
class SlotResult:
    """What one slot did."""

    parameters: int
    saturated: Loop | None
    paced: Loop | None
    transactions: int
    """All that were stored, ramp included."""
    cpu_s: float
    worker_bytes: int
    """Private memory above what the worker had, scans at hand, before it opened its repositories."""
    backend_bytes: int | None
    """Private memory of the worker's PostgreSQL backends; None if they are on another machine."""
    scans: int = 0
    """Of the transactions."""
    in_doubt: int = 0
    """Transactions of which nobody knows whether they were stored: of an arm that is not ours."""
