"""Stress file: YAML -> what each scenario does, in full and in short; or these defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from bench.load.machine import FEWEST_PARAMETERS
from bench.stress.plan_faults import (
    CpuHogsPlan,
    FullDiskPlan,
    LongReaderPlan,
    MemoryPressurePlan,
    RecoveryPlan,
    SlowDiskPlan,
)
from bench.stress.plan_part import PlanPart, Seconds, Share, WholeNumber
from plcsim.yaml_file import Complaint, load_yaml

Crowd = Annotated[int, Field(ge=1, le=250)]
"""Connections at once: our own server takes 300, and somebody has to watch."""
Resource = Literal["rate", "parameters", "connections"]
Rows = Literal["disjoint", "same"]


class EscalationPlan(PlanPart):
    """Load grows by half until something breaks; then the limit is narrowed down and confirmed."""

    resources: list[Resource] = Field(default=["rate", "parameters", "connections"], min_length=1)
    window_s: Seconds = 10.0
    """Length of each probe that is judged."""
    settle_s: Seconds = 1.0
    """Run before each window at its load and thrown away."""
    tolerance: Share = 0.12
    """How far apart the last good and the first bad level may be, as a share."""
    confirm_good: WholeNumber = 3
    confirm_bad: WholeNumber = 2
    """How often each end must be seen to hold, and to break."""
    most_probes: WholeNumber = 40
    start_rate_per_s: Annotated[float, Field(gt=0, le=100_000)] = 200.0
    rate_connections: Crowd = 8
    start_parameters: Annotated[int, Field(ge=FEWEST_PARAMETERS)] = 84
    interval_s: Seconds = 0.1
    """Between the scans of the one machine whose parameters grow."""
    most_parameters: Annotated[int, Field(ge=FEWEST_PARAMETERS, le=36_000)] = 36_000
    """What the register addresses of one device hold."""
    start_connections: Crowd = 4
    most_connections: Annotated[int, Field(ge=1, le=1000)] = 400
    """Our own server takes 300."""
    p99_ms: Annotated[float, Field(gt=0)] = 250.0
    """The longest p99 of the response, from due to stored."""


class StormPlan(PlanPart):
    """Many transactions that begin at one instant."""

    transactions: list[Crowd] = Field(default=[10, 50, 100, 200], min_length=1)
    rows: list[Rows] = Field(default=["disjoint", "same"], min_length=1)
    waves: WholeNumber = 20
    """How often all begin together, once the wave before has ended."""


class PoolPlan(PlanPart):
    """A pool smaller than the demand, connections that never come back, a server without free ones."""

    demand: Crowd = 16
    """Threads that want a connection."""
    sizes: list[Crowd] = Field(default=[1, 2, 4, 8, 16], min_length=1)
    seconds: Seconds = 5.0
    """With each size."""
    timeout_s: Seconds = 0.5
    """How long a thread waits for a connection."""
    fault_s: Seconds = 5.0
    """How long connections stay leaked, and the server full."""
    rate_per_s: Annotated[float, Field(gt=0, le=10_000)] = 100.0
    """Meanwhile."""
    max_connections: Annotated[int, Field(ge=10, le=200)] = 20
    """Of the server that is filled up."""


class StressPlan(PlanPart):
    """All scenarios."""

    parameters: Annotated[int, Field(ge=FEWEST_PARAMETERS, le=5000)] = 84
    """Of a scan, where they do not vary."""
    seed: int = 1
    safety: Share = 0.7
    """The share of a confirmed limit that may be used in operation."""
    workers: Annotated[int, Field(ge=1, le=16)] = 2
    """Processes that make the load."""
    escalation: EscalationPlan = EscalationPlan()
    storm: StormPlan = StormPlan()
    pool_exhaustion: PoolPlan = PoolPlan()
    memory_pressure: MemoryPressurePlan = MemoryPressurePlan()
    full_disk: FullDiskPlan = FullDiskPlan()
    slow_disk: SlowDiskPlan = SlowDiskPlan()
    cpu_hogs: CpuHogsPlan = CpuHogsPlan()
    long_reader: LongReaderPlan = LongReaderPlan()
    recovery: RecoveryPlan = RecoveryPlan()


def short_plan() -> StressPlan:
    """The same scenarios, each as short as it still says something."""
    return StressPlan(
        escalation=EscalationPlan(
            window_s=1.2,
            settle_s=0.3,
            confirm_good=2,
            most_probes=14,
            start_rate_per_s=400.0,
            start_parameters=1000,
            start_connections=8,
        ),
        storm=StormPlan(waves=5),
        pool_exhaustion=PoolPlan(sizes=[1, 4, 16], seconds=1.5, fault_s=2.0),
        memory_pressure=MemoryPressurePlan(before_s=2.0, after_s=30.0, seconds=4.0, address_space_mb=[4, 0]),
        full_disk=FullDiskPlan(before_s=2.0, after_s=30.0, seconds=2.0),
        slow_disk=SlowDiskPlan(
            before_s=2.0, after_s=20.0, seconds=2.0, fsync_delays_ms=[5.0, 50.0], pairs=2, slot_s=0.5
        ),
        cpu_hogs=CpuHogsPlan(pairs=3, slot_s=0.8),
        long_reader=LongReaderPlan(snapshots_s=[5.0], before_s=1.5, after_s=1.5),
        recovery=RecoveryPlan(before_s=1.5, after_s=30.0, fault_s=1.5, repeats=1, both_arms=False),
    )


class StressFile(PlanPart):
    """Both lengths; what a file does not name keeps its default."""

    full: StressPlan = StressPlan()
    short: StressPlan = short_plan()


def load_plan(path: Path | str, short: bool = False) -> StressPlan:
    """The plan of a stress file, in full or short; raises ConfigError with file, line, key and value."""
    file = load_yaml(path, StressFile, _check)
    return file.short if short else file.full


def _check(file: StressFile) -> None:
    for length in ("full", "short"):
        for part, key in (
            ("escalation", "resources"),
            ("storm", "transactions"),
            ("storm", "rows"),
            ("pool_exhaustion", "sizes"),
            ("slow_disk", "fsync_delays_ms"),
            ("long_reader", "snapshots_s"),
        ):
            values = getattr(getattr(getattr(file, length), part), key)
            if len(set(values)) < len(values):
                raise Complaint((length, part, key), f"{values} names a value twice")
