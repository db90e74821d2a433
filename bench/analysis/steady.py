"""When a run is steady: how much of its beginning is warm-up, or that it never settles; pure.

MSER-5 (White, Cobb & Spratt 2000): bins are averaged by fives, and cut where the standard error of what
remains is smallest, in the first half; of cuts that are nearly as good, the earliest. What remains must be
level: its halves within 5 %, and no trend that is both beyond chance and worth mentioning. A run that
is not has no steady state, which is a result, too.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from bench.analysis.trend import trend_of

_TOGETHER = 5
FEWEST_BINS = 6 * _TOGETHER
_NEARLY = 1.25
"""Cuts with so much of the smallest squared error are as good: chance alone moves it more."""
_HALVES_SHARE = 0.05
_DRIFT_SHARE = 0.02
"""Of the mean, over all that remains: less is no trend worth mentioning, however certain it is."""


def warm_up_length(bins: Sequence[float], together: int = _TOGETHER) -> int | None:
    """How many of the first bins are warm-up; None if the run never becomes steady, or is too short to say.

    Bins are of equal length, a second or 200 transactions, and hold throughput or a percentile.
    At least 30 of them (6 times `together`) are needed. Raises ValueError for what is no number.
    """
    figures = np.asarray(bins, dtype=float)
    if not np.all(np.isfinite(figures)):
        raise ValueError("a bin without a figure: a stand-still has throughput 0")
    batches = len(figures) // together
    if batches < FEWEST_BINS // _TOGETHER:
        return None
    means = figures[: batches * together].reshape(batches, together).mean(axis=1)
    cut = mser_cut(means)
    return cut * together if _is_level(means[cut:]) else None


def mser_cut(means: NDArray[np.float64]) -> int:
    """How many to cut so that the standard error of the rest is smallest, at most half of them."""
    n = len(means)
    costs = [
        float(np.sum((means[cut:] - means[cut:].mean()) ** 2)) / (n - cut) ** 2 for cut in range(n // 2 + 1)
    ]
    return int(np.argmax(np.asarray(costs) <= _NEARLY * min(costs)))


def _is_level(means: NDArray[np.float64]) -> bool:
    middle = len(means) // 2
    level = float(np.abs(means.mean()))
    if not level:
        return not np.any(means)
    if abs(float(means[:middle].mean() - means[middle:].mean())) >= _HALVES_SHARE * level:
        return False
    trend = trend_of(range(len(means)), means.tolist())
    is_certain = trend.low > 0 or trend.high < 0
    return not (is_certain and abs(trend.slope) * len(means) > _DRIFT_SHARE * level)
