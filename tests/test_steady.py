"""Steady state, Little's law and sample sizes: simulated runs, worked examples, published rules."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.analysis.little import little
from bench.analysis.sample_size import pairs_needed, trials_needed, values_needed
from bench.analysis.statistics import Impact, mean_interval, paired_impact, wilson
from bench.analysis.steady import FEWEST_BINS, mser_cut, warm_up_length

SECONDS = np.arange(60.0)


def bins(seed: int, seconds: NDArray[np.float64] = SECONDS, noise: float = 0.03) -> NDArray[np.float64]:
    """Throughput a second of a steady run."""
    return np.asarray(1000 * (1 + noise * np.random.default_rng(seed).normal(size=len(seconds))))


def test_a_steady_run_is_used_from_its_start() -> None:
    found = [warm_up_length(bins(seed).tolist()) for seed in range(100)]
    assert sum(length == 0 for length in found) >= 65
    assert sum(length is None for length in found) <= 6


def test_the_warm_up_is_cut() -> None:
    found = [warm_up_length((bins(seed) * (1 - 0.6 * np.exp(-SECONDS / 5))).tolist()) for seed in range(100)]
    lengths = [length for length in found if length is not None]
    assert len(lengths) >= 90
    assert all(10 <= length <= 30 for length in lengths)  # e^-2 of the dip is left at 10 s
    assert float(np.median(lengths)) in (10, 15, 20)


@pytest.mark.parametrize(
    "shape",
    [1 + 0.005 * SECONDS, 1 - 0.005 * SECONDS, np.where(SECONDS < 45, 1.0, 0.7)],
    ids=["ever faster", "ever slower", "falls at the end"],
)
def test_a_run_that_never_settles_has_no_steady_state(shape: NDArray[np.float64]) -> None:
    found = [warm_up_length((bins(seed) * shape).tolist()) for seed in range(50)]
    assert sum(length is None for length in found) >= 40


def test_a_drift_that_is_certain_but_small_is_none_worth_mentioning() -> None:
    long = np.arange(600.0)
    drifting = bins(1, long, noise=0.001) * (1 + 0.01 * long / 600)
    assert warm_up_length(drifting.tolist()) is not None


@pytest.mark.parametrize("count", [0, 1, FEWEST_BINS - 1])
def test_too_short_a_run_cannot_say(count: int) -> None:
    assert warm_up_length([1000.0] * count) is None
    assert warm_up_length([1000.0] * FEWEST_BINS) == 0


def test_a_standstill_is_steady_and_a_missing_bin_is_an_error() -> None:
    assert warm_up_length([0.0] * 60) == 0
    with pytest.raises(ValueError, match="figure"):
        warm_up_length([1000.0] * 59 + [math.nan])


def test_mser_of_an_example_worked_by_hand() -> None:
    # squared errors over n²: uncut 5.33 · 10⁵/36; cut 1: 0.8/25 = 0.032; cut 2: 0.75/16 = 0.047; 3: 0.67/9
    assert mser_cut(np.array([1000.0, 1, 2, 1, 2, 1])) == 1


@pytest.mark.parametrize(
    ("throughput", "response", "holds", "said"),
    [(1000, 0.008, True, ""), (1000, 0.0077, True, ""), (1000, 0.006, False, "generator held 25%"),
     (1000, 0.009, False, "counted twice")],
)  # fmt: skip
def test_littles_law(throughput: float, response: float, holds: bool, said: str) -> None:
    check = little(8, throughput, response)
    assert check.holds is holds
    assert said in check.why
    assert bool(check.why) is not holds
    assert check.to_json()["in_system"] == pytest.approx(throughput * response)


def test_littles_law_of_a_system_that_stored_nothing_does_not_hold() -> None:
    check = little(8, 0.0, math.nan)
    assert not check.holds
    assert "nothing was stored" in check.why
    assert check.to_json()["in_system"] is None


def test_nobody_at_work_has_no_law() -> None:
    with pytest.raises(ValueError, match="workers"):
        little(0, 1, 1)


def test_so_many_pairs_are_needed() -> None:
    """Notes: at a spread of 5 %, 5 % need about 10 pairs, 3 % about 24."""
    assert 9 <= pairs_needed(0.05, 0.05) <= 12
    assert 22 <= pairs_needed(0.05, 0.03) <= 27
    pairs = pairs_needed(0.05, 0.05)
    assert Impact(0, 0, 0, pairs, 0.05).detectable <= 0.05 < Impact(0, 0, 0, pairs - 1, 0.05).detectable


def test_so_many_pairs_find_it_in_four_runs_of_five() -> None:
    random = np.random.default_rng(1)
    pairs = pairs_needed(0.08, 0.10)
    found = 0
    for _ in range(1000):
        noise = random.normal(0, 0.08, pairs)
        found += paired_impact([1.0] * pairs, (1.10 * np.exp(noise)).tolist()).low > 0
    assert 0.76 <= found / 1000 <= 0.87


@pytest.mark.parametrize("difference", [0.0, -0.1, 1e-9])
def test_no_number_of_pairs_finds_nothing(difference: float) -> None:
    with pytest.raises(ValueError, match=r"none|cannot be told"):
        pairs_needed(0.05, difference)


@pytest.mark.parametrize(
    ("percent", "beyond", "values"), [(50, 10, 20), (95, 10, 200), (99, 10, 1000), (99.9, 10, 10_000),
                                      (99, 30, 3000)]
)  # fmt: skip
def test_values_that_a_percentile_needs(percent: float, beyond: int, values: int) -> None:
    assert values_needed(percent, beyond) == values


@pytest.mark.parametrize("failures", [0, 1, 5])
def test_trials_that_show_a_success_above_95_percent(failures: int) -> None:
    trials = trials_needed(0.95, failures)
    assert wilson(trials - failures, trials)[0] > 0.95 >= wilson(trials - 1 - failures, trials - 1)[0]
    assert trials_needed(0.95) == 73


def test_a_mean_and_its_interval_by_hand() -> None:
    # 1, 2, 3: mean 2, sd 1, t(2) 4.302653, half width 4.302653 / sqrt(3)
    mean, low, high = mean_interval([1, 2, 3])
    assert (mean, low, high) == pytest.approx((2, 2 - 2.484138, 2 + 2.484138))
    assert mean_interval([7.0])[0] == 7
    assert all(math.isnan(x) for x in (*mean_interval([7.0])[1:], *mean_interval([])))
