"""Signals that are out of the ordinary now and then: spikes and dips."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from plcsim.signals.moment import BaseSignal, Moment, Span, Values
from plcsim.signals.noise import noise, uniform

_EVENT_KEY = 0x8CB92BA72F3D8DD7
"""What separates an event's hash from the noise of the same parameter."""


class _Event(BaseSignal):
    period_s: Span | None = None
    """Happens at the start of each period, from the start on."""
    probability: float | None = Field(default=None, ge=0, le=1)
    """That it happens in a window of width_s."""
    width_s: Span | None = None
    """How long it takes; one PLC scan unless said."""
    noise: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _says_when(self) -> _Event:
        if (self.period_s is None) == (self.probability is None):
            raise PydanticCustomError("when", "Give either period_s or probability")
        return self

    def _happens(self, moment: Moment) -> Values:
        """1 where it happens, else 0."""
        width = 1 if self.width_s is None else moment.scans_of(self.width_s)
        if self.period_s is not None:
            happens = moment.plc_scans % moment.scans_of(self.period_s) < width
        else:
            key = moment.noise_key ^ _EVENT_KEY
            happens = uniform(key, moment.plc_scans // width) < (self.probability or 0.0)
        return np.asarray(happens, dtype=np.float64)


class Spike(_Event):
    """base + height · e + noise, where e is 1 while it happens and 0 otherwise.

    With W and P for width_s and period_s in PLC scans (rounded, 1 or more): with a period, e is 1 where
    scan mod P < W; with a probability, where u'(scan div W) < probability, and u' is the noise of the
    key XOR 0x8CB92BA72F3D8DD7.
    """

    kind: Literal["spike"]
    base: float
    height: float

    def at(self, moment: Moment) -> Values:
        return self.base + self.height * self._happens(moment) + noise(moment, self.noise)


class Dip(_Event):
    """base - depth · e + noise, where e is that of a spike"""

    kind: Literal["dip"]
    base: float
    depth: float

    def at(self, moment: Moment) -> Values:
        return self.base - self.depth * self._happens(moment) + noise(moment, self.noise)
