"""Signals that go on and on: counters, the PLC scan counter, a trend; and the constant that does not."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from plcsim.signals.moment import BaseSignal, Moment, Span, Values
from plcsim.signals.noise import noise


class Constant(BaseSignal):
    """Always `value`; where the parameter is writable: until somebody writes it."""

    kind: Literal["constant"]
    value: float

    def at(self, moment: Moment) -> Values:
        return np.full(moment.plc_scans.shape, self.value)


class Counter(BaseSignal):
    """(start + scan · step) modulo wrap"""

    kind: Literal["counter"]
    step: int = Field(default=1, ge=-(2**20), le=2**20)
    start: int = Field(default=0, ge=-(2**53), le=2**53)
    wrap: int = Field(default=2**32, ge=1, le=2**53)

    def at(self, moment: Moment) -> Values:
        return ((self.start + moment.plc_scans * self.step) % self.wrap).astype(np.float64)


class StepUp(BaseSignal):
    """(start + (scan div P) · step) modulo wrap, with P = period_s in PLC scans, rounded, 1 or more.

    Such as an energy meter's count or a heartbeat.
    """

    kind: Literal["step_up"]
    period_s: Span
    step: int = Field(default=1, ge=-(2**20), le=2**20)
    start: int = Field(default=0, ge=-(2**53), le=2**53)
    wrap: int = Field(default=2**16, ge=1, le=2**53)
    """65536 for a 16-bit counter, 4294967296 for one of 32 bits."""

    def at(self, moment: Moment) -> Values:
        steps = moment.plc_scans // moment.scans_of(self.period_s)
        return ((self.start + steps * self.step) % self.wrap).astype(np.float64)


class PlcScan(BaseSignal):
    """scan modulo 2^32: the PLC scan counter itself, which tells the scan that a read value is of."""

    kind: Literal["plc_scan"]

    def at(self, moment: Moment) -> Values:
        return (moment.plc_scans % 2**32).astype(np.float64)


class Trend(BaseSignal):
    """start + rate_per_s · t, held within low and high, plus noise"""

    kind: Literal["trend"]
    start: float
    rate_per_s: float
    """Below 0 it falls."""
    low: float | None = None
    high: float | None = None
    noise: float = Field(default=0.0, ge=0)

    def at(self, moment: Moment) -> Values:
        line = self.start + self.rate_per_s * moment.seconds
        line = line if self.low is None else np.maximum(line, self.low)
        line = line if self.high is None else np.minimum(line, self.high)
        return np.asarray(line + noise(moment, self.noise))
