"""The machine's process: idle, then the steps of a recipe one after the other, then idle again.

Where the machine stands is a pure function of the PLC scan: one cycle is `idle_s` of idling and the
recipe's steps, and it repeats for ever. PLC scan 0 is the first idle scan of process number 1.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

Scans = NDArray[np.int64]

IDLE = "idle"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class Step(_Strict):
    """One step of a recipe: what the machine does and for how long."""

    name: str = Field(min_length=1)
    seconds: float = Field(gt=0)


class Phase(_Strict):
    """Steps that run in turn, the whole row `times` over."""

    times: int = Field(default=1, ge=1)
    steps: list[Step] = Field(min_length=1)


class ProcessSpec(_Strict):
    """The recipe and the parameters by which a logger sees it run."""

    recipe: str = Field(min_length=1)
    running: str
    """Full name of the parameter that is non-zero while the recipe runs."""
    number: str
    """Full name of the parameter that counts the executions."""
    idle_s: float = Field(default=10.0, gt=0)
    phases: list[Phase] = Field(default_factory=list)


class ProcessState(NamedTuple):
    """Where the process stands at given PLC scans; arrays of one shape."""

    running: NDArray[np.bool_]
    step: NDArray[np.int64]
    """0 while idle, otherwise the step's number in `Process.step_names`."""
    number: NDArray[np.int64]
    """Counts executions from 1; a new one begins with its idle part."""


class Process:
    """Tells the state of the process at any PLC scan."""

    def __init__(self, spec: ProcessSpec | None, plc_scan_s: float) -> None:
        rows = [] if spec is None else _rows(spec)
        self.step_names: list[str] = list(dict.fromkeys([IDLE, *(name for name, _ in rows)]))
        lengths = [max(1, round(seconds / plc_scan_s)) for _, seconds in rows] or [1]
        steps = [self.step_names.index(name) for name, _ in rows] or [0]
        self._step_at = np.repeat(np.array(steps, dtype=np.int64), lengths)
        self.cycle_scans = len(self._step_at)
        """PLC scans from the start of one execution's idle part to the next."""

    @staticmethod
    def scans_of(spec: ProcessSpec, plc_scan_s: float) -> float:
        """About how many PLC scans one execution takes, told without laying them out."""
        seconds = sum(p.times * sum(step.seconds for step in p.steps) for p in spec.phases)
        steps = sum(p.times * len(p.steps) for p in spec.phases)
        return steps + (spec.idle_s + seconds) / plc_scan_s

    def state_at(self, plc_scans: Scans) -> ProcessState:
        """State at each of the given PLC scans (any shape)."""
        step = self._step_at[plc_scans % self.cycle_scans]
        return ProcessState(step > 0, step, plc_scans // self.cycle_scans + 1)


def _rows(spec: ProcessSpec) -> list[tuple[str, float]]:
    rows = [(IDLE, spec.idle_s)]
    for phase in spec.phases:
        rows += [(step.name, step.seconds) for step in phase.steps] * phase.times
    return rows
