"""Is a figure of one run better, worse, no different, or can nobody tell? pure.

Two runs are independent, so the interval of their difference comes from both intervals by the square
root of the sums of squares of their half widths on each side (method of variance estimates recovery:
Zou and Donner 2008), on logarithms for what is positive. "No difference" is a finding too: the whole
interval lies within the margin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from bench.analysis.statistics import rounded

MARGIN = 0.05
"""Changes of less than that are none, as shares of the figure before, or as points of a share."""


class Change(StrEnum):
    BETTER = "better"
    WORSE = "worse"
    NONE = "no difference"
    UNKNOWN = "cannot tell"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True)
class Measure:
    """A figure of one run."""

    name: str
    unit: str
    value: float
    low: float
    high: float
    more_is_better: bool
    is_share: bool = False
    """Compared by the difference, not by the ratio: a loss of 0.1 % is not half of one of 0.2 %."""
    is_headline: bool = False
    """Whether it decides; all others are exploratory."""
    is_absolute: bool = True
    """Whether it depends on the machine; the impact of B over A does so much less."""


@dataclass(frozen=True)
class Line:
    """One measure of both runs."""

    before: Measure
    after: Measure
    effect: float
    low: float
    high: float
    """Of after over before: a share, or points where the measure is a share itself; NaN where unknown."""
    change: Change
    why: str = ""

    def to_json(self) -> dict[str, Any]:
        return {
            "measure": self.before.name,
            "unit": self.before.unit,
            "a": _measure_json(self.before),
            "b": _measure_json(self.after),
            "effect": rounded(self.effect),
            "low": rounded(self.low),
            "high": rounded(self.high),
            "change": self.change.value,
            "why": self.why,
            "headline": self.before.is_headline,
        }


def compare_measures(before: Measure, after: Measure, margin: float = MARGIN) -> Line:
    """Compare one figure of two runs."""
    why = _why_not(before, after)
    if why:
        return Line(before, after, math.nan, math.nan, math.nan, Change.UNKNOWN, why)
    if before.is_share:
        effect, low, high = _difference(_interval(after), _interval(before))
    else:
        logarithms = [tuple(map(math.log, _interval(each))) for each in (after, before)]
        effect, low, high = map(math.expm1, _difference(logarithms[0], logarithms[1]))
    return Line(before, after, effect, low, high, _change(low, high, margin, before.more_is_better))


def _why_not(before: Measure, after: Measure) -> str:
    for name, measure in (("A", before), ("B", after)):
        if not math.isfinite(measure.value):
            return f"{name} has no figure"
        if not (math.isfinite(measure.low) and math.isfinite(measure.high)):
            return f"{name} has no interval"
        if not measure.is_share and measure.low <= 0:
            return f"the interval of {name} reaches 0"
    return ""


def _interval(measure: Measure) -> tuple[float, float, float]:
    return measure.value, measure.low, measure.high


def _difference(after: tuple[float, ...], before: tuple[float, ...]) -> tuple[float, float, float]:
    difference = after[0] - before[0]
    down = math.hypot(after[0] - after[1], before[2] - before[0])
    up = math.hypot(after[2] - after[0], before[0] - before[1])
    return difference, difference - down, difference + up


def _change(low: float, high: float, margin: float, more_is_better: bool) -> Change:
    if -margin < low and high < margin:
        return Change.NONE
    if low > 0:
        return Change.BETTER if more_is_better else Change.WORSE
    if high < 0:
        return Change.WORSE if more_is_better else Change.BETTER
    return Change.UNKNOWN


def _measure_json(measure: Measure) -> dict[str, Any]:
    return {"value": rounded(measure.value), "low": rounded(measure.low), "high": rounded(measure.high)}
