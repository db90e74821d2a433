"""Models of the suite file's sections for the parts that check: concurrency, memory, compensation, pools."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

Count = Annotated[int, Field(ge=1, le=1000)]
Parameters = Annotated[int, Field(ge=5, le=5000)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]


class ConcurrentPlan(BaseModel):
    """Part concurrent: transactions that begin at the same moment."""

    model_config = _STRICT

    simultaneous: Count
    """Of each round."""
    rounds: Count
    processes: Annotated[int, Field(ge=1, le=64)] = 4
    """Over which they are spread, where they are not threads of one process."""


class IsolationPlan(BaseModel):
    """Part isolation: readers beside writers."""

    model_config = _STRICT

    seconds: Seconds
    writers: Count
    readers: Count


class RacesPlan(BaseModel):
    """Part races: overlapping writers, then the oracle."""

    model_config = _STRICT

    seconds: Seconds
    writers: Annotated[int, Field(ge=2, le=1000)]


class DeadlocksPlan(BaseModel):
    """Part deadlocks: the same load without the device's lock and with it."""

    model_config = _STRICT

    seconds: Seconds
    """Of each case."""
    writers: Annotated[int, Field(ge=2, le=1000)]


class MemoryPlan(BaseModel):
    """Part memory: by parameters, by scans of a transaction, and over time."""

    model_config = _STRICT

    parameters: list[Parameters] = Field(min_length=2)
    """Of a scan."""
    scans: list[Count] = Field(min_length=2)
    """Of a transaction; with the suite's parameters."""
    slot_s: Seconds = 0.5
    """Of each size: memory is looked at after it."""
    repeats: Annotated[int, Field(ge=1, le=20)] = 3
    """Of each size; the suite's parameters with one scan twice at least, for an interval."""
    leak_s: Seconds
    leak_window_s: Seconds
    leak_rate_per_s: Annotated[float, Field(gt=0, le=10_000)] = 50.0
    """Transactions a second meanwhile."""
    leak_budget_mb_per_h: Annotated[float, Field(gt=0)] = 4.0
    """What a logger may grow: about 100 MB a day."""


class CompensationPlan(BaseModel):
    """Part compensation: a failure after each step of a unit of work."""

    model_config = _STRICT

    transactions: Annotated[int, Field(ge=2, le=100)]
    """Of one unit of work."""


class PoolUsePlan(BaseModel):
    """Part pool_use: sizes of a pool under one demand."""

    model_config = _STRICT

    sizes: list[Count] = Field(min_length=1)
    threads: Count
    """That share the pool and a repository."""
    seconds: Seconds
    """Of each size."""
