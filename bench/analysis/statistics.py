"""The paired impact of B over A with its interval; pure.

The unit is the pair of slots, not the transaction: those inside a slot are correlated. Of each pair
d = ln(B/A); the effect is exp(mean d) - 1 and its 95 % interval is Student's t interval on d, which
keeps its coverage with few pairs where a percentile bootstrap does not. Percentiles of merged slots
have no value per pair with enough transactions; their interval is a bootstrap over whole pairs, and
it is shown, not judged.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from bench.measuring.latency import INTERVAL_BEYOND, Merged

CONFIDENCE = 0.95
POWER = 0.8
FEWEST_SLOTS = 6
"""With fewer, the slowest slot is left out of too many draws: a bootstrap's interval would be too narrow."""
_RESAMPLES = 2000


@dataclass(frozen=True)
class Impact:
    """How much B differs from A: a share of A, 0.05 for 5 % more; negative for less."""

    effect: float
    low: float
    high: float
    pairs: int
    sd: float
    """Standard deviation of ln(B/A) over pairs; NaN where it is not a t interval."""
    is_loss: bool = False
    """Whether the signs are those of a loss: 0.05 for 5 % less."""

    @property
    def detectable(self) -> float:
        """The smallest difference that a run like this one finds in four runs of five."""
        on_log_scale = _quantiles(self.pairs) * self.sd / math.sqrt(self.pairs)
        return -_growth(-on_log_scale) if self.is_loss else _growth(on_log_scale)

    def negated(self) -> Impact:
        """The same as a loss, positive where B has less; of a loss, the same as an increase."""
        return Impact(-self.effect, -self.high, -self.low, self.pairs, self.sd, not self.is_loss)

    def pairs_to_settle(self, target: float) -> int | None:
        """Pairs after which the interval would lie on one side of a target (of a loss: a loss).

        None if the effect stands on the target: no number of pairs would.
        """
        sign = -1 if self.is_loss else 1
        distance = abs(math.log1p(sign * self.effect) - math.log1p(sign * target))
        if distance < 1e-6 or math.isnan(distance * self.sd):
            return None
        ratio = self.sd / distance
        pairs = max(2, math.ceil((_quantiles(math.inf) * ratio) ** 2))
        while pairs < (_quantiles(pairs) * ratio) ** 2:  # few pairs have wide quantiles: a few more
            pairs += 1
        return pairs

    def to_json(self) -> dict[str, Any]:
        """For a result file; what is no number is null."""
        return {
            "effect": rounded(self.effect),
            "low": rounded(self.low),
            "high": rounded(self.high),
            "pairs": self.pairs,
            "sd_of_log_ratio": rounded(self.sd),
        }


def rounded(value: float) -> float | None:
    """A figure for a result file: six decimals, null for what is not finite, for JSON has no word for it."""
    return round(value, 6) if math.isfinite(value) else None


def paired_impact(a: Sequence[float], b: Sequence[float]) -> Impact:
    """Impact from one positive figure a slot, paired in order; at least two pairs.

    All NaN if a slot has no figure (NaN) or none above 0: then nothing can be said.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ValueError(f"{len(a)} and {len(b)} figures are not two or more pairs")
    before, after = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if not (np.all(before > 0) and np.all(after > 0)):
        return Impact(math.nan, math.nan, math.nan, len(a), math.nan)
    difference = np.log(after) - np.log(before)
    n, mean, sd = len(difference), float(difference.mean()), float(difference.std(ddof=1))
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1)) * sd / math.sqrt(n)
    return Impact(_growth(mean), _growth(mean - half), _growth(mean + half), n, sd)


def percentile_impact(a: Merged, b: Merged, percent: float, seed: int) -> Impact | None:
    """Impact on a percentile of the merged slots, by a bootstrap of whole pairs.

    None where too few values lie beyond it, or too few pairs were run, for an interval.
    """
    pairs = len(a.counts)
    if pairs < FEWEST_SLOTS or min(a.beyond(percent), b.beyond(percent)) < INTERVAL_BEYOND:
        return None
    before, after = a.percentile_us(percent), b.percentile_us(percent)
    chosen = np.random.default_rng(seed).integers(0, pairs, size=(_RESAMPLES, pairs))
    weights = np.stack([np.bincount(row, minlength=pairs) for row in chosen]).astype(float)
    ratios = b.weighted_percentiles_us(percent, weights) / a.weighted_percentiles_us(percent, weights)
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(ratios, [tail, 1 - tail])
    return Impact(after / before - 1, float(low) - 1, float(high) - 1, pairs, math.nan)


def mean_interval(values: Sequence[float]) -> tuple[float, float, float]:
    """Mean over slots and the ends of its 95 % Student t interval.

    One value has no interval: NaN; of none, all is NaN.
    """
    figures = np.asarray(values, dtype=float)
    n = len(figures)
    if n == 0:
        return math.nan, math.nan, math.nan
    mean = float(figures.mean())
    if n == 1:
        return mean, math.nan, math.nan
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, n - 1) * figures.std(ddof=1)) / math.sqrt(n)
    return mean, mean - half, mean + half


def wilson(ok: int, total: int) -> tuple[float, float]:
    """The 95 % Wilson interval of a share (Wilson 1927); everything from 0 to 1 for no trial."""
    if total == 0:
        return 0.0, 1.0
    interval = stats.binomtest(ok, total).proportion_ci(CONFIDENCE, method="wilson")
    return float(interval.low), float(interval.high)


def _growth(logarithm: float) -> float:
    """exp - 1; infinite where no float is large enough."""
    try:
        return math.expm1(logarithm)
    except OverflowError:
        return math.inf


def _quantiles(pairs: float) -> float:
    freedom = pairs - 1
    return float(stats.t.ppf((1 + CONFIDENCE) / 2, freedom) + stats.t.ppf(POWER, freedom))
