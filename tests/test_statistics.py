"""Paired impact, its interval and what follows from it: against scipy, published numbers and simulation."""

from __future__ import annotations

import json
import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from bench.analysis.statistics import Impact, paired_impact, percentile_impact, rounded, wilson
from bench.load.slots import slot_order
from bench.measuring.latency import Merged, latencies_of

Figures = NDArray[np.float64]


def test_impact_of_an_example_worked_by_hand() -> None:
    # ratios 1.1, 1.2, 1.3; ln: 0.095310, 0.182322, 0.262364; mean 0.179999, sd 0.083551; t(2) 4.302653
    impact = paired_impact([100.0, 200.0, 50.0], [110.0, 240.0, 65.0])
    assert impact.effect == pytest.approx(math.exp(0.179999) - 1, abs=1e-5)
    half = 4.302653 * 0.083551 / math.sqrt(3)
    assert impact.low == pytest.approx(math.exp(0.179999 - half) - 1, abs=1e-5)
    assert impact.high == pytest.approx(math.exp(0.179999 + half) - 1, abs=1e-5)
    assert (impact.pairs, impact.sd) == (3, pytest.approx(0.083551, abs=1e-6))


@pytest.mark.parametrize("seed", range(5))
def test_interval_is_that_of_the_paired_t_test_on_logarithms(seed: int) -> None:
    random = np.random.default_rng(seed)
    a, b = random.lognormal(0, 0.5, 8), random.lognormal(0.1, 0.5, 8)
    impact = paired_impact(a.tolist(), b.tolist())
    interval = stats.ttest_rel(np.log(b), np.log(a)).confidence_interval(0.95)
    assert impact.low == pytest.approx(math.expm1(interval.low))
    assert impact.high == pytest.approx(math.expm1(interval.high))
    assert impact.effect == pytest.approx(stats.gmean(b / a) - 1)


@pytest.mark.parametrize(
    ("a", "b"), [([1.0], [2.0]), ([], []), ([1.0, 2.0], [1.0]), ([1.0, 2.0], [1.0, 2.0, 3.0])]
)
def test_fewer_than_two_pairs_are_refused(a: list[float], b: list[float]) -> None:
    with pytest.raises(ValueError, match="pairs"):
        paired_impact(a, b)


@pytest.mark.parametrize("nothing", [0.0, math.nan, -1.0])
def test_a_slot_without_a_figure_leaves_nothing_to_say(nothing: float) -> None:
    for a, b in (([1.0, nothing, 2.0], [1.0, 1.0, 1.0]), ([1.0, 1.0, 1.0], [1.0, 1.0, nothing])):
        impact = paired_impact(a, b)
        assert all(math.isnan(x) for x in (impact.effect, impact.low, impact.high, impact.detectable))
        assert impact.pairs_to_settle(0.2) is None


def test_a_loss_has_the_signs_of_what_is_missing() -> None:
    impact = paired_impact([100.0, 100.0, 100.0], [79.0, 80.0, 81.0])
    loss = impact.negated()
    assert loss.effect == -impact.effect == pytest.approx(0.2, abs=1e-4)
    assert (loss.low, loss.high) == (-impact.high, -impact.low)
    assert loss.low < loss.effect < loss.high
    assert loss.negated() == impact


def simulated(runs: int, pairs: int, ratio: float, seed: int, heavy: bool = False) -> list[Impact]:
    """Runs whose pairs have a true ratio, an sd of ln(B/A) of 0.05, and drift that both slots share."""
    random = np.random.default_rng(seed)
    shared = np.exp(random.normal(0, 0.3, (runs, pairs)))
    noise = (
        random.standard_t(4, (runs, pairs)) / math.sqrt(2) if heavy else random.normal(0, 1, (runs, pairs))
    )
    b = ratio * shared * np.exp(0.05 * noise)
    return [paired_impact(shared[i].tolist(), b[i].tolist()) for i in range(runs)]


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize("pairs", [4, 8, 12])
def test_the_interval_holds_the_true_impact_19_times_of_20(pairs: int, heavy: bool) -> None:
    impacts = simulated(2000, pairs, 1.15, seed=pairs, heavy=heavy)
    assert 0.93 <= np.mean([i.low <= 0.15 <= i.high for i in impacts]) <= 0.97


@pytest.mark.parametrize("pairs", [6, 8, 12])
def test_the_detectable_difference_is_found_in_four_runs_of_five(pairs: int) -> None:
    difference = Impact(0.0, 0.0, 0.0, pairs, 0.05).detectable
    found = [i.low > 0 for i in simulated(2000, pairs, 1 + difference, seed=pairs + 1)]
    assert 0.76 <= np.mean(found) <= 0.86


def test_a_detectable_loss_is_never_more_than_everything() -> None:
    impact = Impact(0.0, -0.5, 0.5, 4, 2.0)
    assert impact.detectable > 1
    loss = impact.negated().detectable
    assert 0 < loss < 1
    assert math.log1p(impact.detectable) == pytest.approx(-math.log1p(-loss))


@pytest.mark.parametrize(("effect", "target"), [(0.25, 0.30), (0.35, 0.30), (0.02, 0.2), (-0.1, 0.2)])
def test_so_many_pairs_settle_it_in_four_runs_of_five(effect: float, target: float) -> None:
    pairs = Impact(effect, -1.0, 1.0, 12, 0.05).pairs_to_settle(target)
    assert pairs is not None
    settled = [
        i.high < target if effect < target else i.low > target
        for i in simulated(1000, pairs, 1 + effect, seed=3)
    ]
    assert np.mean(settled) >= 0.76


def test_pairs_to_settle_agree_for_a_loss_and_its_ratio() -> None:
    ratio = Impact(-0.17, -0.3, -0.02, 8, 0.1)
    assert ratio.pairs_to_settle(-0.2) == ratio.negated().pairs_to_settle(0.2)


def test_no_number_of_pairs_settles_an_effect_on_its_target() -> None:
    assert Impact(0.2, 0.1, 0.3, 8, 0.05).pairs_to_settle(0.2) is None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("pairs", [4, 8, 12])
@pytest.mark.parametrize(
    "drift",
    [lambda t: 0.01 * t, lambda t: 0.002 * t * t, lambda t: 0.01 * t + 0.001 * t * t],
    ids=["linear", "quadratic", "both"],
)
def test_the_order_of_slots_cancels_drift(drift: Callable[[int], float], pairs: int, seed: int) -> None:
    figures: dict[str, list[float]] = {"A": [], "B": []}
    slots = [arm for pair in slot_order(pairs, seed) for arm in pair]
    for position, arm in enumerate(slots):
        figures[arm].append(math.exp(drift(position)))
    assert abs(paired_impact(figures["A"], figures["B"]).effect) < 1e-12
    in_turn = paired_impact(  # what A B A B … would have said
        [math.exp(drift(i)) for i in range(0, 2 * pairs, 2)],
        [math.exp(drift(i)) for i in range(1, 2 * pairs, 2)],
    )
    assert in_turn.effect > 0.005


@pytest.mark.parametrize(
    ("ok", "total", "low", "high"),
    # Newcombe 1998 (Statistics in Medicine 17:857), table I, method 3
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_interval_has_the_published_values(ok: int, total: int, low: float, high: float) -> None:
    assert wilson(ok, total) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_of_no_trial_is_everything() -> None:
    assert wilson(0, 0) == (0.0, 1.0)


def slots_of(scale: float, seed: int, count: int = 400, slots: int = 8) -> Merged:
    random = np.random.default_rng(seed)
    return Merged([latencies_of(scale * random.lognormal(13.8, 0.5, count)) for _ in range(slots)])


@pytest.mark.parametrize("percent", [50.0, 95.0, 99.0])
def test_percentile_impact_finds_a_known_factor(percent: float) -> None:
    impact = percentile_impact(slots_of(1.0, 1), slots_of(1.4, 2), percent, seed=0)
    assert impact is not None
    assert impact.low < impact.effect < impact.high
    assert impact.low < 0.4 < impact.high
    assert impact.effect == pytest.approx(0.4, abs=0.15)


def test_percentile_impact_of_the_same_slots_is_nothing() -> None:
    slots = slots_of(1.0, 1)
    assert percentile_impact(slots, slots, 95.0, seed=5) == percentile_impact(slots, slots, 95.0, seed=6)
    impact = percentile_impact(slots, slots, 95.0, seed=5)
    assert impact is not None
    assert (impact.effect, impact.low, impact.high) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize(("count", "given"), [(3000, True), (2999, False), (1000, False)])
def test_an_interval_of_a_percentile_needs_thirty_values_beyond_it(count: int, given: bool) -> None:
    values = np.arange(1, count + 1) * 1000
    slots = Merged([latencies_of(part) for part in np.array_split(values, 6)])
    assert (percentile_impact(slots, slots, 99.0, seed=1) is not None) is given
    assert not math.isnan(slots.percentile_us(99))  # it is printed all the same


@pytest.mark.parametrize(("pairs", "given"), [(5, False), (6, True)])
def test_an_interval_of_a_percentile_needs_six_pairs(pairs: int, given: bool) -> None:
    slots = Merged([latencies_of(np.arange(1, 2001) * 1000)] * pairs)
    assert (percentile_impact(slots, slots, 95.0, seed=1) is not None) is given


def test_two_pairs_that_are_worlds_apart_have_an_interval_without_an_end() -> None:
    impact = paired_impact([1e-6, 1e300], [1e300, 1e-6])
    assert (impact.low, impact.high, impact.detectable) == (-1.0, math.inf, math.inf)
    assert impact.negated().detectable == 1.0


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_json_has_no_word_for_is_null(value: float) -> None:
    assert rounded(value) is None
    assert json.dumps(Impact(value, value, value, 8, 0.1).to_json(), allow_nan=False)
    assert rounded(0.1234567) == 0.123457


def test_percentile_impact_resamples_whole_pairs() -> None:
    # one pair in eight is ten times as slow in both arms: the ratio does not see it
    scales = [1.0] * 7 + [10.0]
    a = [latencies_of(s * np.random.default_rng(i).lognormal(13.8, 0.1, 300)) for i, s in enumerate(scales)]
    b = [
        latencies_of(1.2 * s * np.random.default_rng(i).lognormal(13.8, 0.1, 300))
        for i, s in enumerate(scales)
    ]
    impact = percentile_impact(Merged(a), Merged(b), 50.0, seed=1)
    assert impact is not None
    assert (impact.low, impact.high) == (pytest.approx(0.2, abs=0.01), pytest.approx(0.2, abs=0.01))


def test_percentile_without_enough_values_has_no_impact() -> None:
    few, many = slots_of(1.0, 1, count=100), slots_of(1.0, 2, count=200)
    assert percentile_impact(few, many, 99.0, seed=0) is None
    assert percentile_impact(many, few, 99.0, seed=0) is None
