"""Signals that show the machine's process: its state, its step, and levels that belong to steps."""

from __future__ import annotations

from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from plcsim.signals.moment import BaseSignal, Moment, Values
from plcsim.signals.noise import noise


class _OfProcess(BaseSignal):
    uses_process: ClassVar[bool] = True


class Steps(_OfProcess):
    """A level for each step of the recipe, `otherwise` in all the others and while idle; plus noise."""

    kind: Literal["steps"]
    levels: dict[str, float] = Field(min_length=1)
    otherwise: float = 0.0
    noise: float = Field(default=0.0, ge=0)

    def at(self, moment: Moment) -> Values:
        table = np.array([self.levels.get(name, self.otherwise) for name in moment.step_names])
        return np.asarray(table[moment.process.step] + noise(moment, self.noise))


class ProcessRunning(_OfProcess):
    """1 while the recipe runs or is held, 0 while idle or at fault."""

    kind: Literal["process_running"]

    def at(self, moment: Moment) -> Values:
        return moment.process.running.astype(np.float64)


class ProcessStep(_OfProcess):
    """Number of the recipe's step (from 1, in the order of first appearance), 0 while idle or at fault."""

    kind: Literal["process_step"]

    def at(self, moment: Moment) -> Values:
        return moment.process.step.astype(np.float64)


class ProcessNumber(_OfProcess):
    """Counts the executions of the recipe, from 1; the next one begins with its idle part."""

    kind: Literal["process_number"]

    def at(self, moment: Moment) -> Values:
        return moment.process.number.astype(np.float64)


class ProcessStateNumber(_OfProcess):
    """0 idle, 1 running, 2 hold, 3 fault"""

    kind: Literal["process_state"]

    def at(self, moment: Moment) -> Values:
        return moment.process.state.astype(np.float64)
