"""Signals that go after the parameter's set value: at once (follow), or with a time constant (lag)."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from plcsim.signals.moment import BaseSignal, Leg, Moment, Span, Values
from plcsim.signals.noise import noise


class Follow(BaseSignal):
    """The parameter's set value plus noise; with `during`, only in these steps, else `otherwise`."""

    uses_process: ClassVar[bool] = True
    uses_setpoint: ClassVar[bool] = True

    kind: Literal["follow"]
    during: list[str] | None = None
    otherwise: float = 0.0
    noise: float = Field(default=0.0, ge=0)

    def at(self, moment: Moment) -> Values:
        value = moment.setpoint
        if self.during is not None:
            active = np.array([name in self.during for name in moment.step_names])
            value = np.where(active[moment.process.step], value, self.otherwise)
        return np.asarray(value + noise(moment, self.noise))


class Lag(BaseSignal):
    """w + (v - w) · exp(-(scan - o) · plc_scan_s / tau_s) + noise: a first-order lag.

    w is the set value that was written last, o the PLC scan of that write and v the lag's own value,
    without noise, at o; from the next scan on. Before any write w is the set value's constant, o is 0
    and v is `start`, or w: at rest. Of several writes in one PLC scan the last one counts. Where v or w
    is not finite, the lag is at w at once.
    """

    uses_setpoint: ClassVar[bool] = True

    kind: Literal["lag"]
    tau_s: Span
    start: float | None = None
    noise: float = Field(default=0.0, ge=0)

    def first_leg(self, set_value: float) -> Leg:
        """Where the lag starts, and towards which set value."""
        return Leg(0, 0, set_value if self.start is None else self.start, set_value)

    def next_leg(self, leg: Leg, plc_scan: int, set_value: float, plc_scan_ms: float) -> Leg:
        """The leg after a set value was written in a PLC scan."""
        return Leg(plc_scan + 1, plc_scan, self._value_on(leg, plc_scan, plc_scan_ms), set_value)

    def at(self, moment: Moment) -> Values:
        first, origin, start, target = (np.array(part) for part in zip(*moment.legs, strict=True))
        leg = np.maximum(np.searchsorted(first, moment.plc_scans, side="right") - 1, 0)
        seconds = (moment.plc_scans - origin[leg]) * (moment.plc_scan_ms / 1000.0)
        with np.errstate(invalid="ignore"):
            way = (start - target)[leg]
            value = target[leg] + np.where(np.isfinite(way), way * np.exp(-seconds / self.tau_s), 0.0)
        return np.asarray(value + noise(moment, self.noise))

    def _value_on(self, leg: Leg, plc_scan: int, plc_scan_ms: float) -> float:
        way = leg.start - leg.target
        if not math.isfinite(way):
            return leg.target
        seconds = (plc_scan - leg.origin) * (plc_scan_ms / 1000.0)
        return leg.target + way * math.exp(-seconds / self.tau_s)
