"""The parts of a stress plan for the scenarios that take something away: memory, disk, CPU, the line."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from bench.stress.plan_part import PlanPart, Seconds, WholeNumber

Interval = Annotated[float, Field(ge=0.01, le=10)]


class LoggingPlan(PlanPart):
    """A logger with its PLCs, on which faults are tried one after the other."""

    interval_s: Interval = 0.05
    """From scan to scan of each PLC."""
    plcs: Annotated[int, Field(ge=1, le=16)] = 2
    before_s: Seconds = 5.0
    """The level before each fault is that of so many seconds."""
    after_s: Seconds = 60.0
    """The longest wait for recovery, after the end of a fault."""


class MemoryPressurePlan(LoggingPlan):
    """Too little address space for the logger, then for its server process; too few descriptors."""

    interval_s: Interval = 0.02
    seconds: Seconds = 10.0
    """How long each pressure lasts."""
    address_space_mb: list[Annotated[int, Field(ge=0)]] = Field(default=[64, 4, 0], min_length=1)
    """Above what the process has mapped once it logs."""
    descriptors: Annotated[int, Field(ge=3)] = 4
    """A file or socket whose number is not below it cannot be opened."""


class FullDiskPlan(LoggingPlan):
    """Small file systems below the spool and below the tables."""

    interval_s: Interval = 0.02
    seconds: Seconds = 10.0
    """How long each disk stays full."""
    spool_mb: WholeNumber = 1
    tables_mb: WholeNumber = 24


class SlowDiskPlan(LoggingPlan):
    """A disk whose fsync takes longer: below the spool, and below the server's WAL."""

    seconds: Seconds = 10.0
    fsync_delays_ms: list[Annotated[float, Field(gt=0, le=10_000)]] = Field(
        default=[5.0, 50.0, 500.0], min_length=1
    )
    pairs: Annotated[int, Field(ge=2)] = 4
    """Of slots at saturation with each delay."""
    slot_s: Seconds = 1.0


class CpuHogsPlan(PlanPart):
    """Others that use the processors."""

    pairs: Annotated[int, Field(ge=2)] = 8
    """Of slots, with and without the hogs."""
    slot_s: Seconds = 1.5
    hogs_per_core: WholeNumber = 2


class LongReaderPlan(PlanPart):
    """Readers that keep an old snapshot while logging goes on."""

    snapshots_s: list[Seconds] = Field(default=[5.0, 20.0, 60.0], min_length=1)
    repeats: WholeNumber = 1
    """Of each kind of reader with each duration."""
    before_s: Seconds = 4.0
    after_s: Seconds = 4.0
    """Measured after the reader has gone, and once more after a VACUUM."""


class RecoveryPlan(LoggingPlan):
    """Faults while the schedule goes on."""

    fault_s: Seconds = 5.0
    """How long a fault lasts that does not end by itself."""
    repeats: WholeNumber = 2
    """Of each fault."""
    both_arms: bool = True
    """False: B alone."""
