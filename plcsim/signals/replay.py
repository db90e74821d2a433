"""A recorded signal, played again: its samples are part of the configuration, so its truth is too."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from plcsim.signals.moment import BaseSignal, Moment, Values

MAX_SAMPLES = 200_000
"""Of one recording: two days of a sample a second."""


class Replay(BaseSignal):
    """The recorded value at t (or at t modulo the recording's length, where it repeats).

    The recording starts at its first row. `previous` holds each value until the next one is due, `linear`
    draws straight lines. A recording that repeats is as long as its last time plus its last interval, in
    which `linear` goes back to the first value; one that does not stays at its last value.
    """

    kind: Literal["replay"]
    file: str = Field(min_length=1)
    """CSV with a row of column names; relative to the device file."""
    column: str = Field(min_length=1)
    """Name of the column with the values."""
    time_column: str = Field(min_length=1)
    """Name of the column with the times: seconds, or ISO 8601; they must rise."""
    interpolate: Literal["linear", "previous"] = "previous"
    repeat: bool = True
    times: list[float] = Field(default_factory=list, max_length=MAX_SAMPLES)
    """Seconds since the first row; read from the file as the device file is loaded, not said in it."""
    values: list[float] = Field(default_factory=list, max_length=MAX_SAMPLES)
    """Read from the file, one for each of `times`."""

    def at(self, moment: Moment) -> Values:
        times, values = self._samples
        t = moment.seconds % times[-1] if self.repeat and len(times) > 1 else moment.seconds
        if self.interpolate == "linear":
            return np.interp(t, times, values)
        return np.asarray(values[np.searchsorted(times, t, side="right") - 1])

    @model_validator(mode="after")
    def _samples_are_in_order(self) -> Replay:
        if len(self.times) != len(self.values):
            raise PydanticCustomError("samples", "It must have as many values as times")
        rises = self.times[:1] in ([], [0.0]) and all(a < b for a, b in pairwise(self.times))
        if not rises:
            raise PydanticCustomError("samples", "Its times must rise from 0")
        return self

    @cached_property
    def _samples(self) -> tuple[Values, Values]:
        times, values = np.array(self.times), np.array(self.values)
        if self.repeat and len(times) > 1:
            return np.append(times, 2 * times[-1] - times[-2]), np.append(values, values[0])
        return times, values
