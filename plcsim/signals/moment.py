"""What a signal may depend on, `Moment`, and what every signal has in common, `BaseSignal`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from plcsim.process import ProcessState, Scans

Values = NDArray[np.float64]

Span = Annotated[float, Field(ge=1e-6, le=1e9)]
"""A time in seconds, up to 30 years: in PLC scans it fits in an int64 with room to spare."""

Turns = Annotated[float, Field(ge=-1000.0, le=1000.0)]
"""A phase: 1 is a whole period."""


class Leg(NamedTuple):
    """A part of the way of a lag: since one PLC scan it goes from where it was towards one set value."""

    first: int
    """The first PLC scan of which the leg tells the value."""
    origin: int
    """The PLC scan at which the lag was at `start`."""
    start: float
    target: float


class Moment(NamedTuple):
    """The PLC scans asked for, and what holds at each of them; arrays of one shape."""

    plc_scans: Scans
    plc_scan_ms: float
    process: ProcessState
    step_names: list[str]
    noise_key: int
    """Of the parameter whose value is asked for: `noise_key(…)`."""
    setpoint: Values
    """What the parameter's set value was; NaN where it has none."""
    legs: Sequence[Leg] = ()
    """Of a `lag`: its way, in order; at least from the leg that holds at the first PLC scan on."""
    dice: Values | None = None
    """u(scan) of the noise key, where it is known already: much is shared in computing many at once."""

    @property
    def seconds(self) -> Values:
        return np.asarray(self.plc_scans * self.plc_scan_ms / 1000.0, dtype=np.float64)

    def scans_of(self, seconds: float) -> int:
        """The whole PLC scans, one at least, that come closest to a time."""
        return max(1, round(seconds * 1000.0 / self.plc_scan_ms))


class BaseSignal(BaseModel):
    """How a value comes about; a kind of signal each."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    uses_process: ClassVar[bool] = False
    uses_setpoint: ClassVar[bool] = False

    update_every: int = Field(default=1, ge=1, le=10_000)
    """The value changes only at every so many PLC scans, as in a slow module of the PLC."""

    @property
    def is_noisy(self) -> bool:
        """Whether its values need u(scan)."""
        return bool(getattr(self, "noise", 0.0) > 0.0)

    def looked_at(self, plc_scans: Scans) -> Scans:
        """The PLC scans whose values show at the given ones: the last ones that updated the value."""
        return plc_scans if self.update_every == 1 else plc_scans - plc_scans % self.update_every

    def at(self, moment: Moment) -> Values:
        """The value at each PLC scan of the moment."""
        raise TypeError(f"{type(self).__name__} does not say its value")
