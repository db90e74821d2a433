"""The trend of a series that may have outliers and memory: Theil-Sen slope, Mann-Kendall test; pure.

Both look at the differences of all pairs of points. Their variance is corrected for autocorrelation
(Hamed & Rao 1998, Journal of Hydrology 204:182), because points that follow each other closely say
less than as many independent ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Trend:
    """How a series grows, per unit of its x."""

    slope: float
    """Theil-Sen: the median of the slopes of all pairs."""
    low: float
    high: float
    """Sen's 95 % interval (Sen 1968)."""
    p: float
    """Of the two-sided Mann-Kendall test: 1 where nothing moves."""

    @property
    def is_rising(self) -> bool:
        """Whether both say so: the test, and the whole interval."""
        return self.p < 1 - CONFIDENCE and self.low > 0


def trend_of(x: Sequence[float], y: Sequence[float], autocorrelated: bool = True) -> Trend:
    """Trend of y over x, which must ascend; shapes (n,), n of 3 or more.

    `autocorrelated=False` leaves the correction out, for points that are known to be independent.
    Raises ValueError.
    """
    places, values = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if len(places) != len(values) or len(places) < 3:
        raise ValueError(f"{len(places)} and {len(values)} figures are not three points or more")
    if not np.all(np.diff(places) > 0):
        raise ValueError("the places of the points must ascend")
    if not np.all(np.isfinite(values)):
        raise ValueError("every point needs a figure")
    first, second = np.triu_indices(len(places), k=1)
    rises = values[second] - values[first]
    slopes = np.sort(rises / (places[second] - places[first]))
    slope = float(np.median(slopes))
    variance = _variance(values)
    if autocorrelated:
        variance *= _inflation(values - slope * places)
    spread = math.sqrt(variance)
    pairs = len(slopes)
    low = slopes[max(round((pairs - _Z * spread) / 2) - 1, 0)]
    high = slopes[min(round((pairs + _Z * spread) / 2), pairs - 1)]
    score = float(np.sign(rises).sum())
    z = 0.0 if not spread else math.copysign(max(abs(score) - 1, 0.0), score) / spread
    return Trend(slope, float(low), float(high), 2 * NormalDist().cdf(-abs(z)))


def _variance(values: Floats) -> float:
    """Variance of Kendall's score of independent points, ties taken into account."""

    def term(n: NDArray[np.int64] | int) -> float:
        return float(np.sum(np.asarray(n) * (np.asarray(n) - 1) * (2 * np.asarray(n) + 5)))

    _, ties = np.unique(values, return_counts=True)
    return (term(len(values)) - term(ties)) / 18


def _inflation(detrended: Floats) -> float:
    """How much autocorrelation widens that variance; 1 where no lag shows any."""
    n = len(detrended)
    _, ranks = np.unique(detrended, return_inverse=True)
    centred = ranks - ranks.mean()
    total = float(centred @ centred)
    if n < 8 or not total:
        return 1.0
    more = 0.0
    for lag in range(1, max(2, n // 4 + 1)):
        correlation = float(centred[lag:] @ centred[:-lag]) / total
        if abs(correlation) > _Z / math.sqrt(n):
            more += (n - lag) * (n - lag - 1) * (n - lag - 2) * correlation
    return max(1.0, 1 + 2 * more / (n * (n - 1) * (n - 2)))
