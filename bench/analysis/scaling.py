"""The Universal Scalability Law fitted to throughput over concurrency, with intervals and its limits; pure.

    X(N) = lambda N / (1 + sigma (N - 1) + kappa N (N - 1))          (Gunther 1993, 2007)

lambda is the throughput of one, sigma contention (what waits in a queue), kappa coherency (what all must
agree upon): with kappa the throughput has a peak at N* = sqrt((1 - sigma) / kappa). The fit minimises the
relative residuals, sum (1 - f/X)^2, within 0 <= sigma <= 1 and 0 <= kappa.

Levels below the knee fit almost any kappa: the law tells how far it can be believed, and a peak is reported
only if the whole interval of N* lies within 1.5 times the most that was tried.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from bench.analysis.statistics import CONFIDENCE, rounded
from bench.analysis.usl import Floats, law, law_at, peak_n, solved

FEWEST_LEVELS = 6
FARTHEST = 1.5
"""A peak is looked for up to so many times the highest level that was tried."""
_RESAMPLES = 1000
_DOUBTED_FIT = 0.05


@dataclass(frozen=True)
class Estimate:
    """A coefficient with its 95 % interval; the upper end may be infinite."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        return {
            name: rounded(x) if math.isfinite(x) else None
            for name, x in (("value", self.value), ("low", self.low), ("high", self.high))
        }


@dataclass(frozen=True)
class UslFit:
    """The law as it fits one arm."""

    lam: Estimate
    """Throughput at N = 1, in the unit of the slots."""
    sigma: Estimate
    kappa: Estimate
    peak_n: Estimate | None
    """Where throughput is highest; None unless `identifiable`."""
    peak_x: Estimate | None
    identifiable: bool
    """Whether the levels tell where the peak is."""
    why_not: str
    levels: tuple[float, ...]
    means: tuple[float, ...]
    """Mean throughput of each level."""
    doubts: tuple[str, ...]
    """What else speaks against the law here."""
    draws: Floats = field(repr=False, compare=False)
    """Resampled (lambda, sigma, kappa), shape (resamples, 3): for the difference of two fits."""

    def at(self, n: float) -> float:
        """Throughput that the law gives at n; beyond 1.5 times the highest level it is a guess."""
        return float(
            law(np.array([n]), np.array([[self.lam.value, self.sigma.value, self.kappa.value]]))[0, 0]
        )

    @property
    def limits(self) -> list[str]:
        """What may be said with this fit and what not, a sentence each."""
        most = max(self.levels)
        best = self.levels[int(np.argmax(self.means))]
        said = [
            f"measured from {min(self.levels):g} to {most:g}, the best was {max(self.means):,.0f} at {best:g}"
        ]
        if self.peak_n is not None:
            n = self.peak_n
            said.append(f"the law's peak is at {n.value:.0f} [{n.low:.0f}, {n.high:.0f}]")
        else:
            said.append(f"no peak can be told: {self.why_not}")
        said.append(f"nothing is known beyond {FARTHEST * most:g}")
        return [*said, *self.doubts]

    def to_json(self) -> dict[str, Any]:
        return {
            "lambda": self.lam.to_json(),
            "sigma": self.sigma.to_json(),
            "kappa": self.kappa.to_json(),
            "peak_n": self.peak_n.to_json() if self.peak_n else None,
            "peak_x": self.peak_x.to_json() if self.peak_x else None,
            "identifiable": self.identifiable,
            "why_not": self.why_not,
            "levels": list(self.levels),
            "means": [round(mean, 3) for mean in self.means],
            "limits": self.limits,
        }


@dataclass(frozen=True)
class ScalingDifference:
    """What B costs over A in the law's terms: constant work lowers lambda, serialising raises the others."""

    lam_ratio: Estimate
    """B's lambda as a share of A's."""
    sigma: Estimate
    """B's minus A's."""
    kappa: Estimate

    def __str__(self) -> str:
        parts = []
        if self.lam_ratio.high < 1 or self.lam_ratio.low > 1:
            more = "more" if self.lam_ratio.high < 1 else "less"
            parts.append(f"each transaction costs {more} (lambda × {self.lam_ratio.value:.2f})")
        parts += [
            f"{'more' if estimate.low > 0 else 'less'} {what} ({name} {estimate.value:+.2g})"
            for name, estimate, what in (
                ("sigma", self.sigma, "of it waits in a queue"),
                ("kappa", self.kappa, "must be agreed upon"),
            )
            if estimate.low > 0 or estimate.high < 0
        ]
        return "; ".join(parts) or "no difference is shown in how the arms scale"

    def to_json(self) -> dict[str, Any]:
        return {
            "lambda_ratio": self.lam_ratio.to_json(),
            "sigma_difference": self.sigma.to_json(),
            "kappa_difference": self.kappa.to_json(),
            "in_words": str(self),
        }


def fit_usl(levels: Sequence[float], slots: Sequence[Sequence[float]], seed: int) -> UslFit:
    """Fit the law to the throughput of each slot at each level (concurrency, 1 or more).

    The intervals are a bootstrap of the slots' residuals, all levels' together, widened by what Student's
    quantile is wider than the normal one; where the law misses the levels by more than their slots
    scatter, by that too. Raises ValueError for fewer than three levels or a throughput that is not above 0.
    """
    n = np.asarray(levels, dtype=float)
    if len(n) != len(slots) or len(np.unique(n)) < max(3, len(n)) or not np.all(n >= 1):
        raise ValueError("the law needs three levels or more, each of 1 or more, once, with its slots")
    figures = [np.asarray(each, dtype=float) for each in slots]
    if not all(len(each) and np.all(each > 0) and np.all(np.isfinite(each)) for each in figures):
        raise ValueError("each level needs slots, and each slot a throughput above 0")
    counts = np.array([len(each) for each in figures])
    means = np.array([each.mean() for each in figures])
    point = solved(n, means[None, :])
    fitted = law(n, point)[0]
    residuals, doubts = _residuals(figures, fitted, means, counts)
    resampled = fitted * (1 + _mean_errors(residuals, counts, np.random.default_rng(seed)))
    draws = solved(n, np.maximum(resampled, fitted * 1e-3))
    lam, sigma, kappa = (_estimate(point[0, i], draws[:, i]) for i in range(3))
    peak_n, peak_x, why_not = _peak(n, means, point, draws)
    return UslFit(
        lam, sigma, kappa, peak_n, peak_x, not why_not, why_not,
        tuple(n.tolist()), tuple(means.tolist()), tuple(doubts), draws,
    )  # fmt: skip


def scaling_difference(a: UslFit, b: UslFit) -> ScalingDifference:
    """How B scales against A; both resampled with seeds of their own, so the draws are independent."""

    def value(fit: UslFit) -> Floats:
        return np.array([fit.lam.value, fit.sigma.value, fit.kappa.value])

    ratio, difference = b.draws / a.draws.clip(1e-300), b.draws - a.draws
    return ScalingDifference(
        _estimate(b.lam.value / a.lam.value, ratio[:, 0]),
        *(_estimate(float((value(b) - value(a))[i]), difference[:, i]) for i in (1, 2)),
    )


def _residuals(
    figures: Sequence[Floats], fitted: Floats, means: Floats, counts: NDArray[np.int64]
) -> tuple[Floats, list[str]]:
    """Relative residuals to draw from, as wide as the intervals need them; and doubts about the law."""
    within = np.concatenate([each / mean - 1 for each, mean in zip(figures, means, strict=True)])
    whole = np.concatenate([each / fit - 1 for each, fit in zip(figures, fitted, strict=True)])
    slots, levels = len(whole), len(fitted)
    freedom = max(1, slots - 3)
    widening = math.sqrt(slots / freedom)
    doubts = []
    if slots > levels > 3:
        off = float(np.sum(counts * (means / fitted - 1) ** 2)) / (levels - 3)
        scatter = max(float(within @ within) / (slots - levels), 1e-18)
        if stats.f.sf(off / scatter, levels - 3, slots - levels) < _DOUBTED_FIT:
            freedom = levels - 3
            widening = math.sqrt(off / max(float(whole @ whole) / slots, 1e-18))
            worst = int(np.argmax(np.abs(means / fitted - 1)))
            doubts.append(
                f"the law misses these levels by more than their slots scatter, by "
                f"{means[worst] / fitted[worst] - 1:+.1%} at its worst"
            )
    if slots == levels:
        doubts.append("one slot a level cannot tell noise from a law that does not hold")
    tail = (1 + CONFIDENCE) / 2
    return whole * widening * float(stats.t.ppf(tail, freedom) / stats.norm.ppf(tail)), doubts


def _mean_errors(residuals: Floats, counts: NDArray[np.int64], random: np.random.Generator) -> Floats:
    """Errors of the levels' means, drawn anew: shape (resamples, levels)."""
    columns = [random.choice(residuals, (_RESAMPLES, int(count))).mean(axis=1) for count in counts]
    return np.stack(columns, axis=1)


def _estimate(value: float, draws: Floats) -> Estimate:
    tail = (1 - CONFIDENCE) / 2
    low, high = np.quantile(draws, [tail, 1 - tail], method="inverted_cdf")  # some may be infinite
    return Estimate(float(value), float(low), float(high))


def _peak(
    n: Floats, means: Floats, point: Floats, draws: Floats
) -> tuple[Estimate | None, Estimate | None, str]:
    """Where the peak is and how high, or why that cannot be told."""
    most = float(n.max())
    peaks = peak_n(np.concatenate([point, draws]))
    where = _estimate(float(peaks[0]), peaks[1:])
    if len(n) < FEWEST_LEVELS:
        return None, None, f"{len(n)} levels are too few, {FEWEST_LEVELS} are needed"
    if not where.high <= FARTHEST * most:
        if not where.value <= FARTHEST * most and means[int(np.argmax(n))] >= 0.95 * means.max():
            return None, None, f"no peak was seen up to {most:g}"
        reach = f"{where.high:.0f}" if math.isfinite(where.high) else "infinity"
        return None, None, (
            f"its interval [{where.low:.0f}, {reach}] goes beyond {FARTHEST * most:g}, "
            f"{FARTHEST:g} times the most that was tried: try more"
        )  # fmt: skip
    heights = law_at(peaks, np.concatenate([point, draws]))
    return where, _estimate(float(heights[0]), heights[1:]), ""
