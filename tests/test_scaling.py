"""The Universal Scalability Law: planted coefficients come back, intervals hold them, limits are told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import optimize

from bench.analysis.scaling import UslFit, fit_usl, scaling_difference
from bench.analysis.usl import law, solved

LEVELS = (1, 2, 4, 8, 16, 32, 64, 128)
LAM, SIGMA, KAPPA = 1000.0, 0.05, 0.0004
PEAK = math.sqrt((1 - SIGMA) / KAPPA)
"""48.7"""


def throughput(levels: tuple[int, ...], sigma: float = SIGMA, kappa: float = KAPPA) -> NDArray[np.float64]:
    n = np.array(levels, dtype=float)
    return LAM * n / (1 + sigma * (n - 1) + kappa * n * (n - 1))


def fitted(
    levels: tuple[int, ...],
    seed: int,
    noise: float = 0.05,
    slots: int = 3,
    sigma: float = SIGMA,
    kappa: float = KAPPA,
) -> UslFit:
    random = np.random.default_rng(seed)
    true = throughput(levels, sigma, kappa)
    measured = true[:, None] * (1 + noise * random.normal(size=(len(levels), slots)))
    return fit_usl(levels, measured.tolist(), seed)


def test_the_law_by_hand() -> None:
    # N = 10: 1000 · 10 / (1 + 0.05 · 9 + 0.0004 · 10 · 9) = 10000 / 1.486
    assert law(np.array([10.0]), np.array([[LAM, SIGMA, KAPPA]]))[0, 0] == pytest.approx(10_000 / 1.486)


@pytest.mark.parametrize(
    ("sigma", "kappa"), [(0.05, 0.0004), (0.0, 0.001), (0.2, 0.0), (0.0, 0.0), (1.0, 0.01), (0.6, 0.05)]
)
def test_planted_coefficients_are_recovered(sigma: float, kappa: float) -> None:
    fit = fitted(LEVELS, 1, noise=0.0, sigma=sigma, kappa=kappa)
    assert fit.lam.value == pytest.approx(LAM)
    assert fit.sigma.value == pytest.approx(sigma, abs=1e-6)
    assert fit.kappa.value == pytest.approx(kappa, abs=1e-8)
    assert fit.at(20) == pytest.approx(throughput((20,), sigma, kappa)[0])
    assert fit.doubts == ()


@pytest.mark.parametrize("seed", range(8))
def test_the_fit_is_that_of_scipys_least_squares(seed: int) -> None:
    """Also where a bound holds: noise puts kappa or sigma on 0."""
    random = np.random.default_rng(seed)
    sigma, kappa = (0.3, 0.0) if seed % 2 else (0.0, 0.002)
    n = np.array(LEVELS, dtype=float)
    x = throughput(LEVELS, sigma, kappa) * (1 + 0.08 * random.normal(size=len(n)))
    ours = solved(n, x[None, :])

    def residuals(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(1 - law(n, coefficients[None, :])[0] / x)

    theirs = optimize.least_squares(
        residuals, [x[0], 0.1, 1e-3], bounds=([1e-9, 0, 0], [np.inf, 1, np.inf]), x_scale=[1000, 0.1, 1e-3],
        xtol=1e-14, ftol=1e-14, gtol=1e-14,
    )  # fmt: skip
    mine = float(np.sum(residuals(ours[0]) ** 2))
    assert mine <= 2 * theirs.cost * (1 + 1e-6)
    assert ours[0] == pytest.approx(theirs.x, rel=1e-3, abs=1e-5)


def test_the_intervals_hold_the_true_coefficients_19_times_of_20() -> None:
    held = []
    for seed in range(100):
        fit = fitted(LEVELS, seed)
        truth = ((fit.lam, LAM), (fit.sigma, SIGMA), (fit.kappa, KAPPA))
        held.append([estimate.low <= true <= estimate.high for estimate, true in truth])
    assert np.all(np.mean(held, axis=0) >= 0.90)
    assert np.all(np.mean(held, axis=0) <= 0.995)


@pytest.mark.parametrize(("top", "told"), [(128, 0.95), (64, 0.6)])
def test_past_the_knee_the_peak_is_told(top: int, told: float) -> None:
    levels = tuple(n for n in (*LEVELS, 24, 48) if n <= top)
    fits = [fitted(levels, seed) for seed in range(25)]
    peaks = [fit.peak_n for fit in fits if fit.peak_n is not None]
    assert len(peaks) >= told * len(fits)
    assert np.mean([peak.low <= PEAK <= peak.high for peak in peaks]) >= 0.85


@pytest.mark.parametrize("top", [8, 32])
def test_before_the_knee_no_peak_is_told(top: int) -> None:
    """Levels 1 to 8 would give a median of 18, which is wrong: notes on the law."""
    levels = tuple(n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24, 32) if n <= top)
    fits = [fitted(levels, seed) for seed in range(25)]
    refused = [fit for fit in fits if not fit.identifiable]
    assert len(refused) >= 24
    for fit in refused:
        assert fit.peak_n is None
        assert fit.peak_x is None
        assert fit.why_not
        assert any(fit.why_not in line for line in fit.limits)


def test_five_levels_are_too_few_for_a_peak() -> None:
    fit = fitted((1, 8, 32, 64, 128), 1, noise=0.01)
    assert not fit.identifiable
    assert "5 levels are too few" in fit.why_not


def test_without_coherency_cost_there_is_no_peak() -> None:
    fit = fitted(LEVELS, 3, noise=0.005, sigma=0.1, kappa=0.0)
    assert not fit.identifiable
    assert fit.to_json()["peak_n"] is None


def test_levels_that_no_such_law_makes_are_doubted() -> None:
    stairs = [[x * (1 + 0.001 * s) for s in (-1, 0, 1)] for x in (100, 300, 250, 900, 500, 1500, 1400, 3000)]
    fit = fit_usl(LEVELS, stairs, 1)
    assert any("misses these levels" in doubt for doubt in fit.doubts)


@pytest.mark.parametrize(
    ("levels", "slots"),
    [
        ((1, 2), [[1.0], [2.0]]),
        ((1, 2, 2), [[1.0], [2.0], [2.0]]),
        ((1, 2, 3), [[1.0], [2.0], []]),
        ((1, 2, 3), [[1.0], [2.0], [0.0]]),
        ((1, 2, 3), [[1.0], [2.0], [math.nan]]),
        ((1, 2, 3), [[1.0], [2.0]]),
        ((0, 1, 2), [[1.0], [2.0], [3.0]]),
    ],
)
def test_what_cannot_be_fitted_is_refused(levels: tuple[int, ...], slots: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="level"):
        fit_usl(levels, slots, 1)


def test_a_difference_says_what_scales_worse() -> None:
    a = fitted(LEVELS, 1, noise=0.02)
    serialising = scaling_difference(a, fitted(LEVELS, 2, noise=0.02, sigma=0.15))
    assert serialising.sigma.low > 0
    assert serialising.sigma.low <= 0.10 <= serialising.sigma.high
    assert "queue" in str(serialising)
    same = scaling_difference(a, fitted(LEVELS, 3, noise=0.02))
    assert same.sigma.low <= 0 <= same.sigma.high
    assert same.lam_ratio.low <= 1 <= same.lam_ratio.high
    assert "no difference" in str(same)
    dearer = fit_usl(LEVELS, (0.8 * throughput(LEVELS))[:, None].tolist(), 4)
    assert "costs more" in str(scaling_difference(a, dearer))


def test_a_difference_says_what_scales_better_too() -> None:
    a, better = fitted(LEVELS, 2, noise=0.02, sigma=0.15), fitted(LEVELS, 1, noise=0.02)
    difference = scaling_difference(a, better)
    assert difference.sigma.high < 0
    assert "less of it waits in a queue" in str(difference)
    dearer = fit_usl(LEVELS, (0.8 * throughput(LEVELS))[:, None].tolist(), 4)
    assert "costs less" in str(scaling_difference(dearer, better))


def test_a_difference_is_written_with_its_words() -> None:
    same = scaling_difference(fitted(LEVELS, 1, noise=0.02), fitted(LEVELS, 3, noise=0.02))
    assert set(same.to_json()) == {"lambda_ratio", "sigma_difference", "kappa_difference", "in_words"}


def test_a_law_that_holds_is_seldom_doubted() -> None:
    doubted = [any("misses" in doubt for doubt in fitted(LEVELS, seed).doubts) for seed in range(40)]
    assert np.mean(doubted) <= 0.15
