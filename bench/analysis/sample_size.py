"""How much must be measured before something can be said; pure."""

from __future__ import annotations

import math

from bench.analysis.statistics import Impact, wilson
from bench.measuring.latency import PRINTED_BEYOND

_MOST_PAIRS = 1_000_000


def pairs_needed(sd: float, difference: float) -> int:
    """Pairs that find a difference (0.05: 5 % more) in four runs of five, at 95 % confidence.

    `sd` is that of ln(B/A) over pairs: n = ((t.975 + t.8) sd / ln(1 + difference))^2, with the quantiles
    of n - 1. Raises ValueError for no difference.
    """
    if not difference > 0:
        raise ValueError(f"a difference of {difference:g} is none")

    def finds(pairs: int) -> bool:
        return Impact(0.0, 0.0, 0.0, pairs, sd).detectable <= difference

    low, high = 1, 2
    while not finds(high):
        low, high = high, 2 * high
        if high > _MOST_PAIRS:
            raise ValueError(f"{difference:.2g} cannot be told from a spread of {sd:.2g}")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if finds(middle) else (middle, high)
    return high


def values_needed(percent: float, beyond: int = PRINTED_BEYOND) -> int:
    """Values that a percentile needs so that so many lie beyond it: p99 needs 1,000."""
    if not 0 < percent < 100:
        raise ValueError(f"p{percent:g} is no percentile")
    return math.ceil(round(beyond / (1 - percent / 100), 6))


def trials_needed(target: float, failures: int = 0) -> int:
    """Trials, of which so many fail, whose Wilson interval lies above a target share of successes."""
    if not 0 < target < 1:
        raise ValueError(f"a share of {target:g} is not between 0 and 1")
    low, high = failures, failures + 1
    while wilson(high - failures, high)[0] <= target:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if wilson(middle - failures, middle)[0] <= target else (low, middle)
    return high
