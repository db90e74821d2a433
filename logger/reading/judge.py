"""Judges values that were read: what is no number, or outside its limits, has a quality that says so."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from logger.scan import Floats, Quality, ScanLayout


class Judge:
    """Knows the limits of a layout's parameters; limits themselves are within."""

    def __init__(self, layout: ScanLayout) -> None:
        limits = [p.limits or (-np.inf, np.inf) for p in layout.parameters]
        self._low, self._high = np.array(limits, dtype=np.float64).reshape(-1, 2).T
        self._has_limits = any(p.limits for p in layout.parameters)
        self._is_text = layout.is_text

    def judge(self, values: Floats, quality: NDArray[np.int16]) -> None:
        """Lower the quality of what is GOOD so far, in place; arrays of shape (..., parameters).

        No number is a sensor failure and becomes NaN, infinite ones too; outside the limits a value
        stays and is uncertain. A string is no number and good all the same.
        """
        number = np.isfinite(values)
        if not number.all():
            values[~number] = np.nan
            quality[~number & (quality == Quality.GOOD) & ~self._is_text] = Quality.BAD_SENSOR_FAILURE
        if self._has_limits:
            outside = (values < self._low) | (values > self._high)
            if outside.any():
                quality[outside & (quality == Quality.GOOD)] = Quality.UNCERTAIN_LIMITS_EXCEEDED
