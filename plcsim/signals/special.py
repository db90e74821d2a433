"""Signals that are no numbers, or stop being any: text, missing, and values that freeze."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from plcsim.process import Scans
from plcsim.signals.counts import Constant, Counter, PlcScan, StepUp, Trend
from plcsim.signals.events import Dip, Spike
from plcsim.signals.moment import BaseSignal, Moment, Values
from plcsim.signals.noise import Noise, RandomWalk
from plcsim.signals.replay import Replay
from plcsim.signals.waves import Ramp, Sine, Square, Triangle


class Text(BaseSignal):
    """Always the same text; only for a string. As a number it is NaN."""

    kind: Literal["text"]
    value: str

    def at(self, moment: Moment) -> Values:
        return np.full(moment.plc_scans.shape, np.nan)


class Missing(BaseSignal):
    """Always NaN, which the registers show as the parameter's null value: not implemented."""

    kind: Literal["missing"]

    def at(self, moment: Moment) -> Values:
        return np.full(moment.plc_scans.shape, np.nan)


Independent = (
    Constant
    | Sine
    | Triangle
    | Square
    | Ramp
    | Noise
    | RandomWalk
    | Counter
    | StepUp
    | PlcScan
    | Trend
    | Spike
    | Dip
    | Replay
)
"""Signals that depend on nothing but the PLC scan."""


class FreezeAfter(BaseSignal):
    """The signal `of` at PLC scan min(scan, updates): it moves that many times, then it stands still."""

    kind: Literal["freeze_after"]
    updates: int = Field(ge=0, le=2**53)
    of: Annotated[Independent, Field(discriminator="kind")]

    def looked_at(self, plc_scans: Scans) -> Scans:
        return self.of.looked_at(np.minimum(super().looked_at(plc_scans), self.updates))

    def at(self, moment: Moment) -> Values:
        return self.of.at(moment)
