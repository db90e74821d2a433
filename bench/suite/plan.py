"""Suite file: YAML -> how long and how far each part of the suite goes, in full and with --short."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from bench.load.machine import FEWEST_PARAMETERS
from bench.suite.plan_checks import (
    CompensationPlan,
    ConcurrentPlan,
    DeadlocksPlan,
    IsolationPlan,
    MemoryPlan,
    PoolUsePlan,
    RacesPlan,
)
from plcsim.yaml_file import Complaint, load_yaml

_STRICT = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

Parameters = Annotated[int, Field(ge=FEWEST_PARAMETERS, le=5000)]
Seconds = Annotated[float, Field(gt=0, le=86_400)]
Pairs = Annotated[int, Field(ge=2, le=1000)]
Connections = Annotated[int, Field(ge=1, le=1000)]
Interval = Annotated[float, Field(ge=0.01, le=3600)]


class Case(BaseModel):
    """One way to log a machine."""

    model_config = _STRICT

    name: str = Field(min_length=1)
    parameters: Parameters
    interval_s: Interval


class BaselinePlan(BaseModel):
    """Part baseline: machines logged over Modbus."""

    model_config = _STRICT

    cases: list[Case] = Field(min_length=1)
    machines: int = Field(ge=1, le=64)
    """Logged at once, each by a process of its own: more scans in the same time."""
    seconds: Seconds
    """Of the logging of each case by each arm."""


class ImpactPlan(BaseModel):
    """Part impact: pairs of slots at saturation and at a fixed rate, and A against itself."""

    model_config = _STRICT

    pairs: Pairs
    slot_s: Seconds
    """Of each of a slot's two parts."""
    noise_pairs: Pairs
    """Of A against A."""
    share_of_capacity: float = Field(default=0.65, gt=0, lt=1)
    """The fixed rate, as a share of what the slower arm reaches at saturation."""
    modbus_pairs: int = Field(ge=0, le=1000)
    """Of trials end to end, emulator to commit; 0: none. Two are needed for an interval."""
    modbus_s: Seconds
    modbus_interval_s: Interval


class WhyPlan(BaseModel):
    """Part why: what a transaction is made of."""

    model_config = _STRICT

    transactions: int = Field(ge=20, le=1_000_000)
    """Of each arm, for the counters and for the split."""


class StrategiesPlan(BaseModel):
    """Part strategies: ways to update the current values, by parameters of a scan."""

    model_config = _STRICT

    parameters: list[Parameters] = Field(min_length=1)
    slot_s: Seconds
    slots: int = Field(ge=2, le=100)
    """Of each strategy at each size, in an order drawn anew each time."""


class OverheadPlan(BaseModel):
    """Part overhead: two tables or three, one statement or several."""

    model_config = _STRICT

    pairs: Pairs
    slot_s: Seconds


class ScalabilityPlan(BaseModel):
    """Part scalability: connections and parameters, past the knee."""

    model_config = _STRICT

    connections: list[Connections] = Field(min_length=1)
    slot_s: Seconds
    slots: int = Field(ge=1, le=100)
    """Of each arm at each level."""
    parameters: list[Parameters] = Field(min_length=1)
    parameters_slot_s: Seconds


class SuitePlan(BaseModel):
    """One length of the suite."""

    model_config = _STRICT

    parameters: Parameters = 84
    """Of a scan, where a part does not vary them."""
    baseline: BaselinePlan
    impact: ImpactPlan
    why: WhyPlan
    strategies: StrategiesPlan
    overhead: OverheadPlan
    scalability: ScalabilityPlan
    concurrent: ConcurrentPlan
    isolation: IsolationPlan
    races: RacesPlan
    deadlocks: DeadlocksPlan
    memory: MemoryPlan
    compensation: CompensationPlan
    pool_use: PoolUsePlan


class SuiteFile(BaseModel):
    """Both lengths."""

    model_config = _STRICT

    full: SuitePlan
    short: SuitePlan


def load_suite(path: Path | str, short: bool = False) -> SuitePlan:
    """The plan of a suite file, in full or short; raises ConfigError with file, line, key and value."""
    file = load_yaml(path, SuiteFile, _check)
    return file.short if short else file.full


def _check(file: SuiteFile) -> None:
    for length in ("full", "short"):
        plan: SuitePlan = getattr(file, length)
        for part, key, values in (
            ("strategies", "parameters", plan.strategies.parameters),
            ("scalability", "connections", plan.scalability.connections),
            ("scalability", "parameters", plan.scalability.parameters),
        ):
            if values != sorted(set(values)):
                raise Complaint((length, part, key), f"{values}: must ascend, each value once")
        names = [case.name for case in plan.baseline.cases]
        if len(set(names)) < len(names):
            raise Complaint((length, "baseline", "cases"), f"{', '.join(names)}: a name stands twice")
        if plan.impact.modbus_pairs == 1:
            problem = "1: must be 0, or 2 or more: one pair has no interval"
            raise Complaint((length, "impact", "modbus_pairs"), problem)
