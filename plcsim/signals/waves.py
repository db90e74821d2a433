"""Signals that repeat after a period: sine, triangle, square and ramp."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from plcsim.signals.moment import BaseSignal, Moment, Span, Turns, Values
from plcsim.signals.noise import noise


class Sine(BaseSignal):
    """mean + amplitude · sin(2π·(t / period_s + phase)) + noise"""

    kind: Literal["sine"]
    mean: float
    amplitude: float
    period_s: Span
    phase: Turns = 0.0
    """In turns: 0.25 starts at the maximum."""
    noise: float = Field(default=0.0, ge=0)

    def at(self, moment: Moment) -> Values:
        turns = moment.seconds / self.period_s + self.phase
        wave = self.mean + self.amplitude * np.sin(2 * np.pi * (turns % 1.0))
        return np.asarray(wave + noise(moment, self.noise))


class Triangle(BaseSignal):
    """mean + amplitude · (1 - 4·|(t / period_s + phase + 1/4) mod 1 - 1/2|) + noise

    Straight lines between the maxima and minima of the sine of the same keys.
    """

    kind: Literal["triangle"]
    mean: float
    amplitude: float
    period_s: Span
    phase: Turns = 0.0
    """In turns: 0.25 starts at the maximum."""
    noise: float = Field(default=0.0, ge=0)

    def at(self, moment: Moment) -> Values:
        turns = moment.seconds / self.period_s + self.phase + 0.25
        wave = self.mean + self.amplitude * (1 - 4 * np.abs(turns % 1.0 - 0.5))
        return np.asarray(wave + noise(moment, self.noise))


class Square(BaseSignal):
    """`high` in the first part of each period, `low` in the rest, plus noise; in whole PLC scans.

    A period is P = period_s in PLC scans, rounded, 1 or more; a scan is high where
    (scan + round(phase·P)) mod P < round(duty·P).
    """

    kind: Literal["square"]
    low: float
    high: float
    period_s: Span
    duty: float = Field(default=0.5, ge=0, le=1)
    """Which part of a period is high."""
    phase: Turns = 0.0
    """In turns: 0.5 starts half a period later."""
    noise: float = Field(default=0.0, ge=0)

    def at(self, moment: Moment) -> Values:
        period = moment.scans_of(self.period_s)
        place = (moment.plc_scans + round(self.phase * period)) % period
        wave = np.where(place < round(self.duty * period), self.high, self.low)
        return np.asarray(wave + noise(moment, self.noise))


class Ramp(BaseSignal):
    """start + (end - start) · (t / period_s mod 1): up to `end`, then from `start` again."""

    kind: Literal["ramp"]
    start: float
    end: float
    period_s: Span

    def at(self, moment: Moment) -> Values:
        share = (moment.seconds / self.period_s) % 1.0
        return np.asarray(self.start + (self.end - self.start) * share)
