"""Does memory grow without end? The trend of window minima after the warm-up; pure.

Memory rises before it is steady, and falls whenever something is collected, so neither the first
samples nor the tops of a sawtooth tell of a leak. What is judged is the lowest use in each window,
after the place from which on a straight line describes these minima best. A leak is called one only
if Mann-Kendall and Theil-Sen agree that they rise, if they rise in both halves (a single step is no
leak), if they do not rise ever slower (a warm-up that is not over), and if the whole interval of the
slope lies above the budget.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.analysis.statistics import CONFIDENCE, rounded
from bench.analysis.trend import Trend, trend_of

FEWEST_WINDOWS = 12
_MOST_WINDOWS = 400
"""More say nothing more, and the pairs of all of them grow with the square."""
_PAGE_BYTES = 4096
_SHARE_OF_HALF = 0.25
"""Each half must rise with this share of the whole slope at least."""
_DETECTED = 2.4
"""Half widths of the interval that a leak needs to be called one in four runs of five; it is more than
the 1.4 of a test alone, since both halves must show it. By simulation, see the tests."""

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class LeakVerdict:
    """How memory grows, MB an hour (1 MB = 10^6 bytes), and what that says."""

    slope_mb_per_h: float
    low: float
    high: float
    """Its 95 % interval; NaN where there are too few windows."""
    detectable_mb_per_h: float
    """The smallest leak that a run like this one calls a leak in four runs of five, were the budget 0."""
    is_leak: bool
    is_conclusive: bool
    """Whether the run can say: the interval lies on one side of the budget."""
    why: str
    plateau_s: float | None
    """When the warm-up was over, from the first sample; None where too little was measured."""
    windows: int
    """Whose minima were judged."""
    budget_mb_per_h: float

    def to_json(self) -> dict[str, Any]:
        return {
            "slope_mb_per_h": rounded(self.slope_mb_per_h),
            "low": rounded(self.low),
            "high": rounded(self.high),
            "detectable_mb_per_h": rounded(self.detectable_mb_per_h),
            "is_leak": self.is_leak,
            "is_conclusive": self.is_conclusive,
            "why": self.why,
            "plateau_s": self.plateau_s,
            "windows": self.windows,
            "budget_mb_per_h": self.budget_mb_per_h,
        }


def hours_until(room_mb: float, high_mb_per_h: float) -> float | None:
    """How long so much memory lasts at the upper end of a slope; None where it does not grow."""
    return room_mb / high_mb_per_h if high_mb_per_h > 0 else None


def judge_leak(
    times_s: Sequence[float], used_bytes: Sequence[float], budget_mb_per_h: float, window_s: float
) -> LeakVerdict:
    """Judge the memory of one process; times ascend, at least one sample a window should be there.

    `window_s` should be as long as one cycle of the work and of garbage collection, or longer: a
    minimum must find the bottom. Raises ValueError for a budget or a window that is not above 0.
    """
    if not (budget_mb_per_h > 0 and window_s > 0):
        raise ValueError(
            f"a budget of {budget_mb_per_h:g} MB/h over windows of {window_s:g} s judges nothing"
        )
    times, used = np.asarray(times_s, dtype=float), np.asarray(used_bytes, dtype=float)
    if len(times) != len(used) or (len(times) > 1 and not np.all(np.diff(times) > 0)):
        raise ValueError("each sample needs a time of its own, later than the one before")
    at, minima = window_minima(times, used, window_s)
    if len(minima) < FEWEST_WINDOWS:
        why = f"{len(minima)} windows of {window_s:g} s are too few to say, {FEWEST_WINDOWS} are needed"
        return LeakVerdict(
            math.nan, math.nan, math.nan, math.nan, False, False, why, None, len(minima), budget_mb_per_h
        )
    cut = plateau_start(at, minima)
    hours, megabytes = at[cut:] / 3600, minima[cut:] / 1e6
    trend = trend_of(hours.tolist(), megabytes.tolist())
    resolution = _PAGE_BYTES / 1e6 / (hours[-1] - hours[0])
    detectable = max(_DETECTED * (trend.high - trend.low) / 2, float(resolution))
    is_steady = _rises_twice(hours, megabytes, trend) and _end_slope(hours, megabytes) > budget_mb_per_h
    is_leak, is_conclusive, why = _judged(trend, is_steady, budget_mb_per_h)
    return LeakVerdict(
        trend.slope,
        trend.low,
        trend.high,
        detectable,
        is_leak,
        is_conclusive,
        why,
        round(float(at[cut] - times[0]), 3),
        len(hours),
        budget_mb_per_h,
    )


def window_minima(times: Floats, used: Floats, window_s: float) -> tuple[Floats, Floats]:
    """When and what the lowest use in each window was; windows without a sample are left out.

    A last window that is not whole may have missed its bottom: it does not count.
    """
    if not len(times):
        return times, used
    window_s = max(window_s, (times[-1] - times[0]) / _MOST_WINDOWS)
    window = np.floor((times - times[0]) / window_s).astype(np.int64)
    step = float(np.median(np.diff(times))) if len(times) > 1 else 0.0
    if times[-1] - times[0] + step < (window[-1] + 1) * window_s * (1 - 1e-9):
        whole = window < window[-1]
        times, used, window = times[whole], used[whole], window[whole]
    starts = np.flatnonzero(np.diff(window, prepend=-1))
    lowest = [
        start + int(np.argmin(part)) for start, part in zip(starts, np.split(used, starts[1:]), strict=False)
    ]
    return times[lowest], used[lowest]


def plateau_start(at: Floats, minima: Floats) -> int:
    """How many of the first windows are warm-up: those that a straight line over the rest does not want.

    MSER (White 1997) about a line instead of a mean: a leak has no level of its own to settle on. At
    most half of the windows are cut, and so many stay that they can be judged.
    """
    n = len(minima)
    quantum = _PAGE_BYTES**2 / 12  # below that, one line is as good as the other
    costs = []
    for cut in range(min(n // 2, n - FEWEST_WINDOWS) + 1):
        x, y = at[cut:] - at[cut:].mean(), minima[cut:] - minima[cut:].mean()
        residuals = y - x * float(x @ y) / float(x @ x)
        costs.append((float(residuals @ residuals) + quantum * len(y)) / len(y) ** 2)
    return int(np.argmin(costs))


def _rises_twice(hours: Floats, megabytes: Floats, trend: Trend) -> bool:
    """Whether each half rises by itself: what rose once, or rises ever slower, does not."""
    middle = len(hours) // 2
    halves = (slice(0, middle), slice(middle, None))
    slopes = [trend_of(hours[half].tolist(), megabytes[half].tolist()).slope for half in halves]
    return min(slopes) >= _SHARE_OF_HALF * trend.slope


def _end_slope(hours: Floats, megabytes: Floats) -> float:
    """The slope at the end, at its lower end, where the rise slows down beyond chance; else infinite.

    From a parabola through the minima: it is b + 2 c x with the 95 % interval of least squares.
    """
    x = hours - hours[-1]  # so that b is the slope at the end
    design = np.stack([np.ones_like(x), x, x * x], axis=1)
    inverse = np.linalg.pinv(design.T @ design)
    coefficients = inverse @ design.T @ megabytes
    residuals = megabytes - design @ coefficients
    freedom = len(x) - 3
    errors = np.sqrt(np.diag(inverse).clip(0) * float(residuals @ residuals) / freedom)
    quantile = float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom))
    slows_down = coefficients[2] < -quantile * errors[2]
    return float(coefficients[1] - quantile * errors[1]) if slows_down else math.inf


def _judged(trend: Trend, is_steady: bool, budget: float) -> tuple[bool, bool, str]:
    """Whether it is a leak, whether the run can say, and why."""
    interval = f"{trend.slope:+.3g} [{trend.low:+.3g}, {trend.high:+.3g}] MB/h"
    if trend.high < budget:
        growth = "it grows, but" if trend.is_rising else "no growth is shown, and"
        return False, True, f"{interval}: {growth} the whole interval is below the budget of {budget:g} MB/h"
    if not trend.is_rising:
        return False, False, f"{interval}: the interval holds 0 and reaches the budget of {budget:g} MB/h"
    if not is_steady:
        return False, False, f"{interval}: it rose once or ever slower, not in both halves; measure longer"
    if trend.low > budget:
        return True, True, f"{interval}: it grows, and the whole interval is above {budget:g} MB/h"
    return False, False, f"{interval}: it grows, and the interval straddles the budget of {budget:g} MB/h"
